/** Institutions that come and go by vote: the administrators' part, signed here and submitted to a member's node. */
import { randomBytes } from 'node:crypto';
import { ChainView, execute } from '../../../client/index.ts';
import { hexOf } from '../../../client/hex.ts';
import { sm2Address } from '../../../common/crypto/sm2.ts';
import type { Call, Proposal } from '../../../common/protocol/transaction.ts';
import { proposalIdOf } from '../../../common/protocol/transaction.ts';
import { enrolmentPossessionHash, firstAdminEnrolment } from '../../../common/protocol/statements.ts';
import { quorumSize } from '../../../common/protocol/validator-set.ts';
import { until } from '../until.ts';
import type { Writer } from './load.ts';

const DEADLINE_MS = 120_000;

export class Votes {
  readonly #view: ChainView;
  /** Administrators of the organisations that have a validator. */
  readonly #voters: Writer[];

  constructor(view: ChainView, voters: readonly Writer[]) {
    this.#view = view;
    this.#voters = [...voters];
  }

  async #do({ signer }: Writer, call: Call): Promise<void> {
    // Its own view for each: one that trusts a later set already proves nothing about blocks before that.
    const view = new ChainView(this.#view.rpc, this.#view.node);
    await execute(view, { account: sm2Address(signer.publicKey), signer }, call, { deadlineMs: DEADLINE_MS });
  }

  /** Puts these to the vote at the same time, has a quorum vote for them, and waits until they are in effect. */
  async enact(proposals: readonly Proposal[]): Promise<void> {
    const proposer = this.#voters[0] as Writer;
    const voters = this.#voters.slice(0, quorumSize(this.#voters.length));
    await Promise.all(
      proposals.map(async (proposal) => {
        const nonce = new Uint8Array(randomBytes(16));
        await this.#do(proposer, { kind: 'gov.propose', proposal, nonce });
        const { chainId } = this.#view.node;
        const proposalId = proposalIdOf(chainId, sm2Address(proposer.signer.publicKey), nonce, proposal);
        await Promise.all(voters.map((voter) => this.#do(voter, { kind: 'gov.vote', proposalId, approve: true })));
        await this.#inEffect(proposal.kind, hexOf(proposalId));
      }),
    );
  }

  async #inEffect(kind: string, proposalId: ReturnType<typeof hexOf>): Promise<void> {
    const found = await until(
      `${kind} is decided`,
      async () => {
        const { proposal } = await this.#view.rpc.call('gov_getProposal', { proposalId });
        return ['effective', 'failed', 'rejected', 'expired'].includes(proposal.status) ? proposal : null;
      },
      DEADLINE_MS,
    );
    if (found.status !== 'effective') throw new Error(`${kind} is ${found.status}: ${found.reason}`);
  }

  /** An organisation with its first administrator. @param custodianKey null where it runs no custodian */
  founding({ orgId, signer }: Writer, custodianKey: Uint8Array | null): Proposal {
    const { publicKey } = signer;
    const admin = { publicKey, personTag: new Uint8Array(randomBytes(32)), possession: new Uint8Array(64) };
    const draft = { kind: 'addOrganisation' as const, orgId, name: orgId, custodianKey, admin };
    const statement = enrolmentPossessionHash(this.#view.node.chainId, firstAdminEnrolment(draft));
    return { ...draft, admin: { ...admin, possession: signer.sign(statement) } };
  }

  /** The organisation has a validator from now on, and votes. */
  joined(writer: Writer): void {
    this.#voters.push(writer);
  }

  left(orgId: string): void {
    const at = this.#voters.findIndex((voter) => voter.orgId === orgId);
    if (at >= 0) this.#voters.splice(at, 1);
  }
}
