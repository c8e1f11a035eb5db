/** Votes, votes' effects and work on a cluster of real nodes in one process. */
import type { Test } from 'tap';
import { bytesToHex, equalBytes, utf8 } from '../../common/bytes.ts';
import { decodeTrusted } from '../../common/codec.ts';
import { H } from '../../common/crypto/hash.ts';
import type { Sm2Signer } from '../../common/crypto/sm2.ts';
import type { ChainParams } from '../../common/protocol/chain-params.ts';
import type { NodeCard } from '../../common/protocol/member.ts';
import { proposalEntry, stateKey } from '../../common/protocol/state-entries.ts';
import {
  admissionHash,
  enrolmentPossessionHash,
  firstAdminEnrolment,
  memberRotationHash,
} from '../../common/protocol/statements.ts';
import { type Proposal, proposalIdOf } from '../../common/protocol/transaction.ts';
import type { EmrNode } from '../../node/node.ts';
import { openLevelStore } from '../../node/storage/level-store.ts';
import { Cluster, until } from './node-cluster.ts';
import { consortium, enrolPatient, peerIdFor, signCall, signerFor } from './node-consortium.ts';

const DEADLINE_MS = 60_000;
const quick: Partial<ChainParams> = { viewTimeoutMs: 400, viewTimeoutCapMs: 3_000, governanceDelayMs: 50 };

export interface Seat {
  readonly orgId: string;
  readonly validator: Sm2Signer;
  readonly admin: Sm2Signer;
  readonly peerId: string;
}

export const seatOf = (name: string, key = name): Seat => ({
  orgId: `hospital-${name}`,
  validator: signerFor(`validator/hospital-${key}`),
  admin: signerFor(`admin/hospital-${name}`),
  peerId: peerIdFor(`${name}${key}`),
});

/** Votes and work on a cluster that keeps committing. */
export class Assembly {
  readonly of: Cluster;
  readonly open: (name: string) => ReturnType<typeof openLevelStore>;
  /** Administrators who vote, by organisation. */
  readonly admins: Map<string, Sm2Signer>;
  #nonce = 0;

  constructor(t: Test, params: Partial<ChainParams> = {}, custodians?: ReadonlyMap<string, Uint8Array>) {
    this.of = new Cluster(consortium({ params: { ...quick, ...params }, ...(custodians && { custodians }) }));
    const dir = t.testdir({});
    this.open = (name) => openLevelStore(`${dir}/${name}`);
    this.admins = new Map(this.of.net.hospitals.map(({ orgId, admin }) => [orgId, admin]));
    t.teardown(() => this.of.stop());
  }

  async start(): Promise<void> {
    for (const [index] of this.of.net.hospitals.entries()) await this.of.start(index, await this.open(`${index}`));
  }

  /** A node that surely is a member, and that transactions go through. */
  get via(): EmrNode {
    return this.of.node(0);
  }

  async submit(bytes: Uint8Array): Promise<void> {
    const verdict = await this.via.mempool.submit({ bytes, sidecar: null });
    if (!verdict.ok) throw new Error(`${verdict.code}: ${verdict.message}`);
  }

  read<T>(codec: Parameters<typeof decodeTrusted<T>>[0], key: Uint8Array): T | undefined {
    const bytes = this.via.executor.state.reader.get(key);
    return bytes === undefined ? undefined : decodeTrusted(codec, bytes, 'entry');
  }

  status(id: Uint8Array): string {
    const found = this.read(proposalEntry, stateKey.proposal(id));
    return found === undefined ? 'unknown' : found.reason === null ? found.status : `${found.status} ${found.reason}`;
  }

  wait(condition: () => boolean, what: string): Promise<void> {
    return until(condition, DEADLINE_MS, () => `${what}\n${this.of.describe()}`);
  }

  /** Proposes, and lets the organisations of `voters` vote for it. */
  async vote(proposal: Proposal, voters: readonly string[], proposer = voters[0] as string): Promise<Uint8Array> {
    const { chainId } = this.of.net;
    const by = this.admins.get(proposer) as Sm2Signer;
    this.#nonce += 1;
    const nonce = H('test-proposal', utf8(`${this.#nonce}`)).slice(0, 16);
    const id = proposalIdOf(chainId, by.address, nonce, proposal);
    await this.submit(signCall(chainId, by, { kind: 'gov.propose', proposal, nonce }).bytes);
    await this.wait(() => this.status(id) === 'open', 'proposed');
    for (const orgId of voters) {
      const voter = this.admins.get(orgId) as Sm2Signer;
      await this.submit(signCall(chainId, voter, { kind: 'gov.vote', proposalId: id, approve: true }).bytes);
    }
    return id;
  }

  async enact(proposal: Proposal, voters: readonly string[], proposer?: string): Promise<void> {
    const id = await this.vote(proposal, voters, proposer);
    await this.wait(() => this.status(id) === 'effective', `${proposal.kind} takes effect`);
  }

  async found(seat: Seat, voters: readonly string[], custodianKey: Uint8Array | null = null): Promise<void> {
    const personTag = H('test-person', utf8(seat.orgId));
    const draft = {
      kind: 'addOrganisation' as const,
      orgId: seat.orgId,
      name: seat.orgId,
      custodianKey,
      admin: { publicKey: seat.admin.publicKey, personTag, possession: new Uint8Array(64) },
    };
    const possession = seat.admin.sign(enrolmentPossessionHash(this.of.net.chainId, firstAdminEnrolment(draft)));
    await this.enact({ ...draft, admin: { ...draft.admin, possession } }, voters);
    this.admins.set(seat.orgId, seat.admin);
  }

  admission({ orgId, validator, peerId }: Seat): Proposal {
    const card: NodeCard = { orgId, publicKey: validator.publicKey, peerId, addresses: [] };
    return { kind: 'admitObserver', card, possession: validator.sign(admissionHash(this.of.net.chainId, card)) };
  }

  rotation(before: Seat, after: Seat): Proposal {
    const { orgId, validator, peerId } = after;
    const card: NodeCard = { orgId, publicKey: validator.publicKey, peerId, addresses: [] };
    const { address } = before.validator;
    const possession = validator.sign(memberRotationHash(this.of.net.chainId, address, card));
    return { kind: 'rotateMember', address, card, possession };
  }

  /** Somebody's work: committed by all who run and are members. */
  async work(): Promise<void> {
    const tx = enrolPatient(this.of.net);
    await this.submit(tx.bytes);
    const members = this.of.nodes().filter((node) => node.membership.isMember);
    await this.wait(
      () =>
        members.every((node) => {
          const found = node.store.locateTx(tx.hash);
          return found !== null && node.host.head.height >= found.height;
        }),
      'work is committed',
    );
  }

  orgs(): string[] {
    return this.via.executor.head.validators.map(({ orgId }) => orgId).sort();
  }

  /** Whether a validator's signature stands in the certificate of a recent block. */
  async signs({ validator }: Seat): Promise<void> {
    for (;;) {
      await this.work();
      const { height, header } = this.via.executor.head;
      const set = this.via.store.validatorSet(header.validatorsHash);
      const index = set?.findIndex(({ address }) => equalBytes(address, validator.address));
      if (this.via.store.certificateAt(height)?.signatures.some((s) => s.validator === index) === true) return;
    }
  }

  /** Nodes that have the same blocks have the same state. */
  async agree(t: Test): Promise<void> {
    const members = this.of.nodes().filter((node) => node.membership.isMember);
    await this.wait(() => new Set(members.map((node) => node.host.head.height)).size === 1, 'level');
    t.equal(new Set(members.map(({ executor }) => bytesToHex(executor.head.header.stateRoot))).size, 1, 'one state');
    t.same(this.of.fatal(), []);
  }
}
