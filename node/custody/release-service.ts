/**
 * Release of key material, seen from the node: asks every holder for a grant and passes on what they answer.
 *
 * In the first form of custody the holders are the custodian of the hospital that wrote the record and, through a
 * delivery on chain, the record's owner. The custodian is reached over a local socket here, over the network elsewhere.
 * While the writing hospital is down, ciphertext is still served by its replicas, and this key is not.
 */
import { type Codec, decode, decodeTrusted, encode } from '../../common/codec.ts';
import { EmrError, InvariantError } from '../../common/errors.ts';
import { blockHeader, encodeHeader } from '../../common/protocol/block.ts';
import { type CertifiedHeader, type Handover, type LightProof, MAX_HANDOVERS } from '../../common/protocol/light.ts';
import type { Hash, Height, OrgId } from '../../common/protocol/primitives.ts';
import {
  MAX_RELEASE_ANSWER_BYTES,
  MAX_RELEASE_CALL_BYTES,
  refusal,
  type ReleaseAnswer,
  releaseAnswer,
  releaseCall,
  type ReleaseDemand,
} from '../../common/protocol/release.ts';
import {
  type AccountEntry,
  accountEntry,
  type RecordVersionEntry,
  recordVersionEntry,
  type RequestEntry,
  requestEntry,
  stateKey,
} from '../../common/protocol/state-entries.ts';
import { decodeTransaction, sidecarHashOf } from '../../common/protocol/transaction.ts';
import { bytesToHex, equalBytes } from '../../common/bytes.ts';
import type { ChainPort, CustodyPort, ReleaseReply, StateAnswer, StatePort } from '../../rpc/ports.ts';
import { demandFromCustodian } from '../custodian/socket.ts';
import type { Member, Network } from '../network/types.ts';

const CUSTODIAN_TIMEOUT_MS = 5_000;
const PEER_TIMEOUT_MS = 8_000;
/** Grants that are asked for at a time here; whoever asks for the same one meanwhile shares the answer. */
const MAX_RUNNING = 256;
/** What one member may ask of our custodian in a second: 30 of them together stay below what it answers in one. */
const MAX_PEER_DEMANDS_PER_SECOND = 5;
/** Another demand may show the custodian a newer block first; then this one has to show that block too. */
const MAX_ATTEMPTS = 4;

export interface ReleaseServiceOptions {
  readonly orgId: OrgId;
  /** Socket of this hospital's custodian; null if it runs none. */
  readonly custodianSocket: string | null;
  readonly chain: ChainPort;
  readonly state: StatePort;
  readonly network: Network;
}

export class ReleaseService implements CustodyPort {
  readonly #options: ReleaseServiceOptions;
  readonly #running = new Map<string, Promise<ReleaseAnswer>>();
  /** Demands of each member in the current second. */
  readonly #peerDemands = new Map<string, number>();
  #peerWindowMs = 0;
  /** Our custodian follows the changes of the validator set from the genesis to here; it begins anew when it restarts. */
  #followedTo: Height = 1;

  constructor(options: ReleaseServiceOptions) {
    this.#options = options;
    options.network.onRequest('release', (from, payload) => this.#serve(from, payload));
  }

  /** A member asks for the grant alone; everything else comes from this node's own executed state. */
  async *#serve(from: Member, payload: Uint8Array): AsyncGenerator<Uint8Array> {
    const call = decode(releaseCall, payload, MAX_RELEASE_CALL_BYTES);
    if (!call.ok) throw new EmrError(call.code, call.message);
    const answer = this.#admits(from)
      ? await this.#askOwnCustodian(call.value.grantId)
      : refusal(this.#options.orgId, { code: 'RATE_LIMITED', message: 'too many demands; try again in a second' });
    yield encode(releaseAnswer, answer);
  }

  #admits({ peerId }: Member): boolean {
    const nowMs = performance.now();
    if (nowMs - this.#peerWindowMs >= 1000) {
      this.#peerWindowMs = nowMs;
      this.#peerDemands.clear();
    }
    const demands = (this.#peerDemands.get(peerId) ?? 0) + 1;
    this.#peerDemands.set(peerId, demands);
    return demands <= MAX_PEER_DEMANDS_PER_SECOND;
  }

  async *release(grantId: Hash, signal: AbortSignal): AsyncIterable<ReleaseReply> {
    const found = await this.#findGrant(grantId);
    if ('code' in found) {
      yield toReply(refusal(this.#options.orgId, found));
      return;
    }
    const { orgId } = found.record;
    const own = orgId === this.#options.orgId;
    yield toReply(own ? await this.#askOwnCustodian(grantId) : await this.#askPeer(orgId, grantId, signal));
  }

  /** The grant and the record version that it is for, by this node's own state, or why there is nothing to release. */
  async #findGrant(grantId: Hash): Promise<Grant | Refused> {
    const { state } = this.#options;
    const first = await state.read([{ kind: 'get', key: stateKey.request(grantId) }]);
    const request = valueOf(requestEntry, first.answers[0], 'request');
    if (request === null) return { code: 'GRANT_NOT_FOUND', message: 'there is no such request' };
    const refused = refusalOf(request.status);
    if (refused !== null) return refused;
    const { recordId, version, requester } = request.request;
    const second = await state.read([
      { kind: 'get', key: stateKey.recordVersion(recordId, version) },
      { kind: 'get', key: stateKey.account(requester) },
    ]);
    const record = valueOf(recordVersionEntry, second.answers[0], 'record version');
    const account = valueOf(accountEntry, second.answers[1], 'requester');
    if (record === null || account === null) throw new InvariantError('a request of nobody, or for no record version');
    return { record, requester: account };
  }

  /** One demand for a grant at a time: whoever asks meanwhile gets the same answer. */
  #askOwnCustodian(grantId: Hash): Promise<ReleaseAnswer> {
    const id = bytesToHex(grantId);
    const running = this.#running.get(id);
    if (running !== undefined) return running;
    const { orgId } = this.#options;
    if (this.#running.size >= MAX_RUNNING) {
      return Promise.resolve(
        refusal(orgId, { code: 'RATE_LIMITED', message: 'too many releases at a time; try again in a second' }),
      );
    }
    const asked = this.#demandUntilCurrent(grantId)
      .catch((error: unknown) => {
        if (error instanceof EmrError) return refusal(orgId, error);
        throw error;
      })
      .finally(() => this.#running.delete(id));
    this.#running.set(id, asked);
    return asked;
  }

  async #demandUntilCurrent(grantId: Hash): Promise<ReleaseAnswer> {
    for (let attempt = 1; ; attempt += 1) {
      const answer = await this.#demand(grantId);
      const code = answer.kind === 'refused' ? answer.code : null;
      // It was restarted, and has to be led from the genesis again.
      if (code === 'WRONG_VALIDATOR_SET') this.#followedTo = 1;
      const again = code === 'CUSTODIAN_ROLLBACK' || code === 'WRONG_VALIDATOR_SET';
      if (!again || attempt === MAX_ATTEMPTS) return answer;
    }
  }

  async #demand(grantId: Hash): Promise<ReleaseAnswer> {
    const { orgId, custodianSocket } = this.#options;
    if (custodianSocket === null) {
      return refusal(orgId, { code: 'NO_CUSTODIAN', message: `${orgId} runs no custodian` });
    }
    const grant = await this.#findGrant(grantId);
    if ('code' in grant) return refusal(orgId, grant);
    // Its own custodian would say so too; but nobody shall keep it busy with the records of others.
    if (grant.record.orgId !== orgId) {
      return refusal(orgId, { code: 'WRONG_CUSTODIAN', message: `the record was written at ${grant.record.orgId}` });
    }
    const demand = await this.#evidence(grantId, grant);
    if ('code' in demand) return refusal(orgId, demand);
    const { handovers, head } = await this.#lead(demand, custodianSocket);
    const answer = await demandFromCustodian(
      custodianSocket,
      { ...demand, head: { handovers, head } },
      CUSTODIAN_TIMEOUT_MS,
    );
    if (answer.kind === 'released') this.#followed(handovers);
    return answer;
  }

  /**
   * The changes of the validator set that lead to the head. Where one demand cannot hold them all, the custodian is first
   * shown a head further down: what it answers then says nothing, and it has learned the sets up to there.
   */
  async #lead(demand: ReleaseDemand, custodianSocket: string): Promise<LightProof> {
    const { chain } = this.#options;
    const { head } = demand.head;
    for (;;) {
      const found = await chain.handovers(this.#followedTo, MAX_HANDOVERS);
      const handovers = found.filter((one) => heightOf(one.at) < heightOf(head));
      const last = handovers.at(-1);
      if (last === undefined || handovers.length < MAX_HANDOVERS) return { handovers, head };
      const next = heightOf(last.at) + 1;
      const [header, certificate] = await Promise.all([chain.header(next), chain.certificate(next)]);
      if (header === null || certificate === null)
        throw new InvariantError('a handover below the head, and no block after it');
      const between = { header: encodeHeader(header.header), certificate };
      await demandFromCustodian(
        custodianSocket,
        { ...demand, head: { handovers, head: between } },
        CUSTODIAN_TIMEOUT_MS,
      );
      this.#followed(handovers);
    }
  }

  #followed(handovers: readonly Handover[]): void {
    const last = handovers.at(-1);
    if (last !== undefined) this.#followedTo = Math.max(this.#followedTo, heightOf(last.at) + 1);
  }

  /** Proofs of everything that the custodian judges, all under one header. */
  async #evidence(grantId: Hash, { record, requester }: Grant): Promise<ReleaseDemand | Refused> {
    const { state, chain } = this.#options;
    const { at, answers } = await state.read([
      { kind: 'get', key: stateKey.request(grantId), prove: true },
      { kind: 'get', key: stateKey.recordVersion(record.recordId, record.version), prove: true },
      { kind: 'get', key: stateKey.account(requester.id), prove: true },
      { kind: 'get', key: stateKey.organisation(requester.orgId), prove: true },
      { kind: 'get', key: stateKey.params(), prove: true },
    ]);
    const [header, certificate] = await Promise.all([chain.header(at.height), chain.certificate(at.height)]);
    if (header === null || certificate === null)
      return { code: 'CUSTODIAN_STALE_STATE', message: 'no certified block yet' };
    const sidecar = await this.#sidecarOf(record);
    if (sidecar === null) return { code: 'WRAP_ERASED', message: "the record's key wraps were erased" };
    return {
      grantId,
      head: { handovers: [], head: { header: encodeHeader(header.header), certificate } },
      request: proofOf(answers[0]),
      recordVersion: proofOf(answers[1]),
      requester: proofOf(answers[2]),
      requesterOrg: proofOf(answers[3]),
      params: proofOf(answers[4]),
      sidecar,
    };
  }

  /** The block that wrote the version holds the wraps beside it. */
  async #sidecarOf(record: RecordVersionEntry): Promise<Uint8Array | null> {
    const block = await this.#options.chain.block(record.height);
    if (block === null) return null;
    for (const [index, bytes] of block.txs.entries()) {
      const tx = decodeTransaction(bytes);
      if (!tx.ok) throw new InvariantError('a stored transaction does not decode');
      const hash = sidecarHashOf(tx.value.body.call);
      if (hash !== null && equalBytes(hash, record.content.sidecarHash)) return block.sidecars[index] ?? null;
    }
    throw new InvariantError('the block of a record version does not hold its transaction');
  }

  async #askPeer(orgId: OrgId, grantId: Hash, signal: AbortSignal): Promise<ReleaseAnswer> {
    const { network } = this.#options;
    const nodes = network.peers().filter((p) => p.member.orgId === orgId && p.connected);
    // An organisation's observer, if it has one, need not be the node that its custodian trusts with demands.
    const peer = nodes.find((p) => p.member.role === 'validator') ?? nodes[0];
    if (peer === undefined) return away(orgId);
    const options = { maxFrames: 1, maxFrameBytes: MAX_RELEASE_ANSWER_BYTES, idleTimeoutMs: PEER_TIMEOUT_MS, signal };
    let answered: Uint8Array | undefined;
    try {
      // To the end of the answer, so that the stream closes in order and is not reset.
      const frames = network.request(peer.peerId, 'release', encode(releaseCall, { grantId }), options);
      for await (const frame of frames) answered = frame;
    } catch (error) {
      if (!(error instanceof EmrError)) throw error;
      if (error.code === 'PEER_UNAVAILABLE' || error.code === 'PEER_TIMEOUT') return away(orgId);
      return refusal(orgId, error);
    }
    const answer = decode(releaseAnswer, answered ?? new Uint8Array(0), MAX_RELEASE_ANSWER_BYTES);
    // Whoever answers answers for itself: another's name would put the blame there for what is wrong with it.
    if (answer.ok && answer.value.orgId === orgId) return answer.value;
    return refusal(orgId, { code: 'PEER_PROTOCOL', message: `${orgId} answered with something unreadable` });
  }
}

const heightOf = ({ header }: CertifiedHeader): Height => decodeTrusted(blockHeader, header, 'block header').height;

interface Grant {
  readonly record: RecordVersionEntry;
  readonly requester: AccountEntry;
}

interface Refused {
  readonly code: string;
  readonly message: string;
}

const away = (orgId: OrgId): ReleaseAnswer =>
  refusal(orgId, {
    code: 'CUSTODIAN_UNAVAILABLE',
    message: `${orgId}, which keeps the key, cannot be reached; its ciphertext is served by replicas, its key is not`,
  });

function valueOf<T>(codec: Codec<T>, answer: StateAnswer | undefined, what: string): T | null {
  if (answer?.kind !== 'get') throw new InvariantError(`no answer about the ${what}`);
  return answer.value === null ? null : decodeTrusted(codec, answer.value, what);
}

function proofOf(answer: StateAnswer | undefined): Uint8Array {
  if (answer?.kind !== 'get' || answer.proof === null) throw new InvariantError('a state proof is missing');
  return answer.proof;
}

function refusalOf(status: RequestEntry['status']): Refused | null {
  switch (status) {
    case 'granted':
      return null;
    case 'revoked':
      return { code: 'GRANT_REVOKED', message: 'the grant was revoked' };
    case 'ended':
      return { code: 'GRANT_EXPIRED', message: 'the grant has ended' };
    default:
      return { code: 'REQUEST_NOT_GRANTED', message: `the request is ${status}` };
  }
}

function toReply(answer: ReleaseAnswer): ReleaseReply {
  if (answer.kind !== 'released') return answer;
  const { orgId, wrapped, signature, custodianKey } = answer;
  return { kind: 'wrap', orgId, wrapped, signature, custodianKey };
}
