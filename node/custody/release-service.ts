/**
 * Release of key material, seen from the node: asks every holder for a grant and passes on what they answer.
 *
 * In the first form of custody the holders are the custodian of the hospital that wrote the record and, through a
 * delivery on chain, the record's owner. The custodian is reached over a local socket here, over the network elsewhere.
 * While the writing hospital is down, ciphertext is still served by its replicas, and this key is not.
 */
import { type Codec, decode, decodeTrusted, encode } from '../../common/codec.ts';
import { EmrError, InvariantError } from '../../common/errors.ts';
import { encodeHeader } from '../../common/protocol/block.ts';
import type { Hash, OrgId } from '../../common/protocol/primitives.ts';
import {
  MAX_RELEASE_ANSWER_BYTES,
  type ReleaseAnswer,
  releaseAnswer,
  releaseCall,
  type ReleaseDemand,
} from '../../common/protocol/release.ts';
import {
  type RecordVersionEntry,
  recordVersionEntry,
  requestEntry,
  stateKey,
} from '../../common/protocol/state-entries.ts';
import { decodeTransaction, sidecarHashOf } from '../../common/protocol/transaction.ts';
import { bytesToHex, equalBytes } from '../../common/bytes.ts';
import type { ChainPort, CustodyPort, ReleaseReply, StateAnswer, StatePort } from '../../rpc/ports.ts';
import { demandFromCustodian } from '../custodian/socket.ts';
import type { Network } from '../network/types.ts';

const CUSTODIAN_TIMEOUT_MS = 5_000;
const PEER_TIMEOUT_MS = 8_000;
/** Demands for one grant that run at a time here: a requester that asks in a loop shares one answer. */
const MAX_RUNNING = 256;

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

  constructor(options: ReleaseServiceOptions) {
    this.#options = options;
    // A member asks for the grant alone; everything else comes from this node's own executed state.
    options.network.onRequest(
      'release',
      async function* (this: ReleaseService, _from: unknown, payload: Uint8Array) {
        const call = decode(releaseCall, payload, 64);
        if (!call.ok) throw new EmrError(call.code, call.message);
        yield encode(releaseAnswer, await this.#askOwnCustodian(call.value.grantId));
      }.bind(this),
    );
  }

  async *release(grantId: Hash, signal: AbortSignal): AsyncIterable<ReleaseReply> {
    const found = await this.#findGrant(grantId);
    if ('code' in found) {
      yield { kind: 'refused', orgId: this.#options.orgId, code: found.code, message: found.message };
      return;
    }
    const { orgId } = found.record;
    const answer =
      orgId === this.#options.orgId
        ? await this.#askOwnCustodian(grantId)
        : await this.#askPeer(orgId, grantId, signal);
    yield toReply(answer);
  }

  async #findGrant(
    grantId: Hash,
  ): Promise<{ readonly record: RecordVersionEntry } | { readonly code: string; readonly message: string }> {
    const { state } = this.#options;
    const first = await state.read([{ kind: 'get', key: stateKey.request(grantId) }]);
    const request = valueOf(requestEntry, first.answers[0], 'request');
    if (request === null) return { code: 'GRANT_NOT_FOUND', message: 'there is no such request' };
    const second = await state.read([
      { kind: 'get', key: stateKey.recordVersion(request.request.recordId, request.request.version) },
    ]);
    const record = valueOf(recordVersionEntry, second.answers[0], 'record version');
    if (record === null) throw new InvariantError('a request for a record version that does not exist');
    return { record };
  }

  /** One demand for a grant at a time: whoever asks meanwhile gets the same answer. */
  #askOwnCustodian(grantId: Hash): Promise<ReleaseAnswer> {
    const id = bytesToHex(grantId);
    const running = this.#running.get(id);
    if (running !== undefined) return running;
    const { orgId } = this.#options;
    if (this.#running.size >= MAX_RUNNING) {
      return Promise.resolve(refused(orgId, 'RATE_LIMITED', 'too many releases at a time; try again in a second'));
    }
    const asked = this.#demand(grantId)
      .catch((error: unknown) => {
        if (error instanceof EmrError) return refused(orgId, error.code, error.message);
        throw error;
      })
      .finally(() => this.#running.delete(id));
    this.#running.set(id, asked);
    return asked;
  }

  async #demand(grantId: Hash): Promise<ReleaseAnswer> {
    const { orgId, custodianSocket } = this.#options;
    if (custodianSocket === null) return refused(orgId, 'NO_CUSTODIAN', `${orgId} runs no custodian`);
    const demand = await this.#evidence(grantId);
    if ('code' in demand) return refused(orgId, demand.code, demand.message);
    return demandFromCustodian(custodianSocket, demand, CUSTODIAN_TIMEOUT_MS);
  }

  /** Proofs of everything that the custodian judges, all under one header. */
  async #evidence(grantId: Hash): Promise<ReleaseDemand | { readonly code: string; readonly message: string }> {
    const { state, chain } = this.#options;
    const found = await this.#findGrant(grantId);
    if ('code' in found) return found;
    const { record } = found;
    const requestKey = stateKey.request(grantId);
    const before = await state.read([{ kind: 'get', key: requestKey }]);
    const request = valueOf(requestEntry, before.answers[0], 'request');
    if (request === null) return { code: 'GRANT_NOT_FOUND', message: 'there is no such request' };
    if (request.status !== 'granted') return refusalOf(request.status);
    const { at, answers } = await state.read([
      { kind: 'get', key: requestKey, prove: true },
      { kind: 'get', key: stateKey.recordVersion(record.recordId, record.version), prove: true },
      { kind: 'get', key: stateKey.account(request.request.requester), prove: true },
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
      params: proofOf(answers[3]),
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
    const peer = network.peers().find((p) => p.member.orgId === orgId && p.connected);
    if (peer === undefined) {
      return refused(
        orgId,
        'CUSTODIAN_UNAVAILABLE',
        `${orgId}, which keeps the key, is not connected; its ciphertext is served by replicas, its key is not`,
      );
    }
    try {
      const options = { maxFrames: 1, maxFrameBytes: MAX_RELEASE_ANSWER_BYTES, idleTimeoutMs: PEER_TIMEOUT_MS, signal };
      for await (const frame of network.request(peer.peerId, 'release', encode(releaseCall, { grantId }), options)) {
        const answer = decode(releaseAnswer, frame, MAX_RELEASE_ANSWER_BYTES);
        return answer.ok
          ? answer.value
          : refused(orgId, 'PEER_PROTOCOL', `${orgId} answered with something unreadable`);
      }
      return refused(orgId, 'PEER_PROTOCOL', `${orgId} answered nothing`);
    } catch (error) {
      if (error instanceof EmrError) return refused(orgId, error.code, error.message);
      throw error;
    }
  }
}

function valueOf<T>(codec: Codec<T>, answer: StateAnswer | undefined, what: string): T | null {
  if (answer?.kind !== 'get') throw new InvariantError(`no answer about the ${what}`);
  return answer.value === null ? null : decodeTrusted(codec, answer.value, what);
}

function proofOf(answer: StateAnswer | undefined): Uint8Array {
  if (answer?.kind !== 'get' || answer.proof === null) throw new InvariantError('a state proof is missing');
  return answer.proof;
}

function refusalOf(status: string): { readonly code: string; readonly message: string } {
  if (status === 'revoked') return { code: 'GRANT_REVOKED', message: 'the grant was revoked' };
  if (status === 'ended') return { code: 'GRANT_EXPIRED', message: 'the grant has ended' };
  return { code: 'REQUEST_NOT_GRANTED', message: `the request is ${status}` };
}

function refused(orgId: OrgId, code: string, message: string): ReleaseAnswer {
  return { kind: 'refused', orgId, code, message: message.slice(0, 300) };
}

function toReply(answer: ReleaseAnswer): ReleaseReply {
  if (answer.kind === 'refused') return answer;
  const { orgId, wrapped, signature, custodianKey } = answer;
  return { kind: 'wrap', orgId, wrapped, signature, custodianKey };
}
