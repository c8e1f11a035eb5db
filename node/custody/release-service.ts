/**
 * Release of key material, seen from the node: asks every holder for a grant and passes on what they answer.
 *
 * Where a record's key is shared, the holders are the custodians of the epoch's organisations. A threshold of them is asked
 * first, and the others as soon as one of these is slow, down or lies; a threshold of good shares ends it. Where it is
 * not, the holder is the custodian of the hospital that wrote the record: while that is down, ciphertext is still served by its replicas, and
 * this key is not. The own custodian is reached over a local socket, the others over the network by their nodes.
 */
import { decode, encode } from '../../common/codec.ts';
import type { Sm2Engine } from '../../common/crypto/sm2.ts';
import { EmrError, unreachable } from '../../common/errors.ts';
import type { Hash, OrgId } from '../../common/protocol/primitives.ts';
import {
  MAX_RELEASE_ANSWER_BYTES,
  MAX_RELEASE_CALL_BYTES,
  refusal,
  type ReleaseAnswer,
  releaseAnswer,
  releaseCall,
} from '../../common/protocol/release.ts';
import type { ChainPort, CustodianStatus, CustodyPort, ReleaseReply, StatePort } from '../../rpc/ports.ts';
import type { Member, Network } from '../network/types.ts';
import { askInTurn } from './ask-in-turn.ts';
import { findGrant, type Grant, mayBeGranted } from './grants.ts';
import type { OwnCustodian } from './own-custodian.ts';
import { checkedAnswer, type FalseShare, sharedGrant } from './share-check.ts';

const PEER_TIMEOUT_MS = 8_000;
/**
 * Holders beyond the threshold are asked after this long, or once an answer is no good share. A share is some 15 ms of a
 * custodian's processor, which those that nobody waits for keep for others.
 */
const SPARE_AFTER_MS = 100;
/** What all members together may ask of our custodian in a second: as many as it makes new answers. */
const MAX_MEMBER_DEMANDS_PER_SECOND = 50;
/** What each of them may ask at least, however many they are. */
const MIN_PEER_DEMANDS_PER_SECOND = 5;
/** The asker may have executed the block of the grant a moment before this node: so long its block is waited for. */
const GRANT_WAIT_MS = 2_000;
/** Demands that wait so at a time; more than these are answered by the state as it is. */
const MAX_WAITING = 256;

export interface ReleaseServiceOptions {
  readonly orgId: OrgId;
  readonly own: OwnCustodian;
  readonly chain: ChainPort;
  readonly state: StatePort;
  readonly network: Network;
  readonly engine: Sm2Engine;
  /** How the own custodian is, and what it waits for. */
  status(): CustodianStatus;
}

export class ReleaseService implements CustodyPort {
  readonly #options: ReleaseServiceOptions;
  /** Demands of each member in the current second. */
  readonly #peerDemands = new Map<string, number>();
  #peerWindowMs = 0;
  #waiting = 0;

  constructor(options: ReleaseServiceOptions) {
    this.#options = options;
    options.network.onRequest('release', (from, payload) => this.#serve(from, payload));
  }

  status(): CustodianStatus {
    return this.#options.status();
  }

  /** A member asks for the grant alone; everything else comes from this node's own executed state. */
  async *#serve(from: Member, payload: Uint8Array): AsyncGenerator<Uint8Array> {
    const call = decode(releaseCall, payload, MAX_RELEASE_CALL_BYTES);
    if (!call.ok) throw new EmrError(call.code, call.message);
    const { orgId, own } = this.#options;
    const { grantId } = call.value;
    if (!this.#admits(from)) {
      const refused = refusal(orgId, { code: 'RATE_LIMITED', message: 'too many demands; try again in a second' });
      yield encode(releaseAnswer, refused);
      return;
    }
    await this.#awaitGrant(grantId);
    yield encode(releaseAnswer, await own.release(grantId));
  }

  #admits({ peerId }: Member): boolean {
    const nowMs = performance.now();
    if (nowMs - this.#peerWindowMs >= 1000) {
      this.#peerWindowMs = nowMs;
      this.#peerDemands.clear();
    }
    const demands = (this.#peerDemands.get(peerId) ?? 0) + 1;
    this.#peerDemands.set(peerId, demands);
    const members = Math.max(1, this.#options.network.peers().length);
    return demands <= Math.max(MIN_PEER_DEMANDS_PER_SECOND, Math.floor(MAX_MEMBER_DEMANDS_PER_SECOND / members));
  }

  async #awaitGrant(grantId: Hash): Promise<void> {
    const { state, chain } = this.#options;
    if (this.#waiting >= MAX_WAITING) return;
    this.#waiting += 1;
    let wake: () => void = () => {};
    const end = chain.onCommitted(() => wake());
    const deadline = performance.now() + GRANT_WAIT_MS;
    try {
      for (let leftMs = GRANT_WAIT_MS; leftMs > 0; leftMs = deadline - performance.now()) {
        const block = new Promise<void>((resolve) => (wake = resolve));
        if (!(await mayBeGranted(state, grantId))) return;
        let timer: NodeJS.Timeout | undefined;
        const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, leftMs)));
        await Promise.race([block, late]);
        clearTimeout(timer);
      }
    } finally {
      end();
      this.#waiting -= 1;
    }
  }

  async *release(grantId: Hash, signal: AbortSignal): AsyncIterable<ReleaseReply> {
    const { orgId, state, own } = this.#options;
    const found = await findGrant(state, grantId);
    if ('code' in found) {
      yield toReply(refusal(orgId, found));
      return;
    }
    if (found.record.content.capsule.kind === 'threshold') {
      yield* this.#shares(grantId, found, signal);
      return;
    }
    const writer = found.record.orgId;
    const isOwn = writer === orgId;
    const answer = isOwn ? await own.release(grantId) : await this.#askPeer(writer, grantId, signal);
    yield toReply(answer ?? awayWriter(writer));
  }

  /** The threshold of holders at once, then the others; ends with the threshold of good shares, or when all have answered. */
  async *#shares(grantId: Hash, grant: Grant, signal: AbortSignal): AsyncGenerator<ReleaseReply> {
    const { orgId, own, state, chain, engine } = this.#options;
    const shared = await sharedGrant(state, chain.chainId(), grantId, grant);
    if (shared === null) {
      yield toReply(refusal(orgId, { code: 'CUSTODY_NO_EPOCH', message: 'the members share no custody key' }));
      return;
    }
    const ask = async (holder: (typeof shared.holders)[number], until: AbortSignal) => {
      const isOwn = holder.orgId === orgId;
      const answer = isOwn ? await own.release(grantId) : await this.#askPeer(holder.orgId, grantId, until);
      if (until.aborted) return null;
      const checked = checkedAnswer(answer ?? awayHolder(holder.orgId), shared, holder, engine);
      return { answer: checked, good: checked.kind === 'share' };
    };
    const order = { wanted: shared.threshold, spareAfterMs: SPARE_AFTER_MS, signal };
    let good = 0;
    for await (const answer of askInTurn(inTurn(shared.holders, orgId, grantId), order, ask)) {
      yield toReply(answer);
      if (answer.kind === 'share') good += 1;
      if (good >= shared.threshold) return;
    }
  }

  /** @returns null where the organisation's node cannot be reached */
  async #askPeer(orgId: OrgId, grantId: Hash, signal: AbortSignal): Promise<ReleaseAnswer | null> {
    const { network } = this.#options;
    const nodes = network.peers().filter((p) => p.member.orgId === orgId && p.connected);
    // An organisation's observer, if it has one, need not be the node that its custodian trusts with demands.
    const peer = nodes.find((p) => p.member.role === 'validator') ?? nodes[0];
    if (peer === undefined) return null;
    const options = { maxFrames: 1, maxFrameBytes: MAX_RELEASE_ANSWER_BYTES, idleTimeoutMs: PEER_TIMEOUT_MS, signal };
    let answered: Uint8Array | undefined;
    try {
      // To the end of the answer, so that the stream closes in order and is not reset.
      const frames = network.request(peer.peerId, 'release', encode(releaseCall, { grantId }), options);
      for await (const frame of frames) answered = frame;
    } catch (error) {
      if (!(error instanceof EmrError)) throw error;
      if (error.code === 'PEER_UNAVAILABLE' || error.code === 'PEER_TIMEOUT') return null;
      return refusal(orgId, error);
    }
    const answer = decode(releaseAnswer, answered ?? new Uint8Array(0), MAX_RELEASE_ANSWER_BYTES);
    // Whoever answers answers for itself: another's name would put the blame there for what is wrong with it.
    if (answer.ok && answer.value.orgId === orgId) return answer.value;
    return refusal(orgId, { code: 'PEER_PROTOCOL', message: `${orgId} answered with something unreadable` });
  }
}

/** The own one first, since it costs no message; the others by the grant, so that all are asked equally often. */
function inTurn<T extends { readonly orgId: OrgId }>(holders: readonly T[], own: OrgId, grantId: Hash): readonly T[] {
  const others = holders.filter(({ orgId }) => orgId !== own);
  const first = (grantId[0] ?? 0) % Math.max(1, others.length);
  return [...holders.filter(({ orgId }) => orgId === own), ...others.slice(first), ...others.slice(0, first)];
}

const awayWriter = (orgId: OrgId): ReleaseAnswer =>
  refusal(orgId, {
    code: 'CUSTODIAN_UNAVAILABLE',
    message: `${orgId}, which keeps the key, cannot be reached; its ciphertext is served by replicas, its key is not`,
  });

const awayHolder = (orgId: OrgId): ReleaseAnswer =>
  refusal(orgId, {
    code: 'CUSTODIAN_UNAVAILABLE',
    message: `${orgId}, which holds a share, cannot be reached; other holders can release the key`,
  });

function toReply(answer: ReleaseAnswer | FalseShare): ReleaseReply {
  switch (answer.kind) {
    case 'refused':
    case 'share':
    case 'falseShare':
      return answer;
    case 'released': {
      const { orgId, wrapped, signature, custodianKey } = answer;
      return { kind: 'wrap', orgId, wrapped, signature, custodianKey };
    }
    default:
      return unreachable(answer);
  }
}
