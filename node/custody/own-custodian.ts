/**
 * This hospital's custodian as its node talks to it: demands with their evidence out of the node's own state, led to the
 * head over every change of the validator set that the custodian has not followed yet.
 */
import { bytesToHex } from '../../common/bytes.ts';
import { decodeTrusted } from '../../common/codec.ts';
import { EmrError, InvariantError } from '../../common/errors.ts';
import { blockHeader } from '../../common/protocol/block.ts';
import { type CertifiedHeader, type Handover, type LightProof, MAX_HANDOVERS } from '../../common/protocol/light.ts';
import type { Hash, Height, OrgId } from '../../common/protocol/primitives.ts';
import {
  type CustodianAnswer,
  type CustodianDemand,
  refusal,
  type ReleaseAnswer,
} from '../../common/protocol/release.ts';
import { demandFromCustodian } from '../custodian/socket.ts';
import { certifiedAt, type EvidencePorts, grantDemand, sessionDemand } from './evidence.ts';
import { findGrant, type Refused } from './grants.ts';

const CUSTODIAN_TIMEOUT_MS = 5_000;
/** Grants that are asked for at a time here; whoever asks for the same one meanwhile shares the answer. */
const MAX_RUNNING = 256;
/** Another demand may show the custodian a newer block first; then this one has to show that block too. */
const MAX_ATTEMPTS = 4;

export interface OwnCustodianOptions extends EvidencePorts {
  readonly orgId: OrgId;
  /** Socket of the custodian; null if this hospital runs none. */
  readonly socket: string | null;
}

export class OwnCustodian {
  readonly #options: OwnCustodianOptions;
  readonly #running = new Map<string, Promise<ReleaseAnswer>>();
  /** The custodian follows the changes of the validator set from the genesis to here; it begins anew when it restarts. */
  #followedTo: Height = 1;

  constructor(options: OwnCustodianOptions) {
    this.#options = options;
  }

  get exists(): boolean {
    return this.#options.socket !== null;
  }

  /** One demand for a grant at a time: whoever asks meanwhile gets the same answer. */
  release(grantId: Hash): Promise<ReleaseAnswer> {
    const id = bytesToHex(grantId);
    const running = this.#running.get(id);
    if (running !== undefined) return running;
    const { orgId } = this.#options;
    if (this.#running.size >= MAX_RUNNING) {
      return Promise.resolve(
        refusal(orgId, { code: 'RATE_LIMITED', message: 'too many releases at a time; try again in a second' }),
      );
    }
    const asked = this.#ask(() => this.#grantDemand(grantId))
      .then((answer) => {
        if (answer.kind !== 'steps') return answer;
        return refusal(orgId, { code: 'CUSTODIAN_PROTOCOL', message: 'the custodian answered something else' });
      })
      .finally(() => this.#running.delete(id));
    this.#running.set(id, asked);
    return asked;
  }

  /** What the custodian wants to be said in the custody session that this node's state shows. */
  step(): Promise<CustodianAnswer> {
    return this.#ask(() => sessionDemand(this.#options));
  }

  async #grantDemand(grantId: Hash): Promise<CustodianDemand | Refused> {
    const { orgId, state } = this.#options;
    const grant = await findGrant(state, grantId);
    if ('code' in grant) return grant;
    const { capsule } = grant.record.content;
    // The custodian would say so too; but nobody shall keep it busy with the records of others.
    if (capsule.kind === 'direct' && grant.record.orgId !== orgId) {
      return { code: 'WRONG_CUSTODIAN', message: `the record was written at ${grant.record.orgId}` };
    }
    return grantDemand(this.#options, grantId, grant);
  }

  /** @param build makes the demand anew for each attempt, of the state of that time */
  async #ask(build: () => Promise<CustodianDemand | Refused>): Promise<CustodianAnswer> {
    const { orgId } = this.#options;
    try {
      for (let attempt = 1; ; attempt += 1) {
        const answer = await this.#askOnce(build);
        const code = answer.kind === 'refused' ? answer.code : null;
        // It was restarted, and has to be led from the genesis again.
        if (code === 'WRONG_VALIDATOR_SET') this.#followedTo = 1;
        const again = code === 'CUSTODIAN_ROLLBACK' || code === 'WRONG_VALIDATOR_SET';
        if (!again || attempt === MAX_ATTEMPTS) return answer;
      }
    } catch (error) {
      if (error instanceof EmrError) return refusal(orgId, error);
      throw error;
    }
  }

  async #askOnce(build: () => Promise<CustodianDemand | Refused>): Promise<CustodianAnswer> {
    const { orgId, socket } = this.#options;
    if (socket === null) return refusal(orgId, { code: 'NO_CUSTODIAN', message: `${orgId} runs no custodian` });
    const demand = await build();
    if ('code' in demand) return refusal(orgId, demand);
    const head = await this.#lead(demand, socket);
    const answer = await demandFromCustodian(socket, { ...demand, head }, CUSTODIAN_TIMEOUT_MS);
    if (answer.kind !== 'refused') this.#followed(head.handovers);
    return answer;
  }

  /**
   * The changes of the validator set that lead to the head. Where one demand cannot hold them all, the custodian is first
   * shown a head further down: what it answers then says nothing, and it has learned the sets up to there.
   */
  async #lead(demand: CustodianDemand, socket: string): Promise<LightProof> {
    const { chain } = this.#options;
    const { head } = demand.head;
    for (;;) {
      const found = await chain.handovers(this.#followedTo, MAX_HANDOVERS);
      const handovers = found.filter((one) => heightOf(one.at) < heightOf(head));
      const last = handovers.at(-1);
      if (last === undefined || handovers.length < MAX_HANDOVERS) return { handovers, head };
      const between = await certifiedAt(chain, heightOf(last.at) + 1);
      if (between === null) throw new InvariantError('a handover below the head, and no block after it');
      await demandFromCustodian(socket, { ...demand, head: { handovers, head: between } }, CUSTODIAN_TIMEOUT_MS);
      this.#followed(handovers);
    }
  }

  #followed(handovers: readonly Handover[]): void {
    const last = handovers.at(-1);
    if (last !== undefined) this.#followedTo = Math.max(this.#followedTo, heightOf(last.at) + 1);
  }
}

const heightOf = ({ header }: CertifiedHeader): Height => decodeTrusted(blockHeader, header, 'block header').height;
