/**
 * One key, one process, one history. What a replica asks the others before it promises anything, what they answer from
 * what they have heard, and what it concludes when its key has said more than its own record knows: an old data folder
 * was put back, or a second process uses the key. Steps in brackets: docs/protocol.md.
 */
import { bytesToHex, equalBytes } from '../common/bytes.ts';
import type { Height } from '../common/protocol/primitives.ts';
import type { VoteKind } from '../common/protocol/signing.ts';
import {
  type Echo,
  type HeardPromise,
  type HeardStatus,
  messageDigest,
  type Signed,
  type SignedMessage,
  type Status,
} from './messages.ts';
import { covers } from './safety-record.ts';
import { emit, firstSinceTick, type HeightState, type PeerClaim, persist, type ReplicaState } from './state.ts';
import { RETRANSMIT_MS, startTimer } from './timers.ts';
import type { Verified } from './types.ts';

/** To one validator, whatever statuses come under its key. */
const MAX_ECHOES_PER_TICK = 4;

/** [R5] Keeps the vote of the highest view of each validator and kind, to be able to echo it. */
export function noteVote(height: HeightState, { validator, signature, body }: SignedMessage): void {
  if (body.kind !== 'prePrepare' && body.kind !== 'prepare' && body.kind !== 'commit') return;
  noteHeard(height, validator, body.kind === 'prePrepare' ? 'preprepare' : body.kind, {
    view: body.view,
    digest: messageDigest(body),
    signature,
  });
}

export function noteHeard(
  height: HeightState,
  validator: number,
  vote: VoteKind,
  heard: { readonly view: number; readonly digest: Uint8Array; readonly signature: Uint8Array },
): void {
  const votes = height.heard.get(validator) ?? new Map<VoteKind, typeof heard>();
  if ((votes.get(vote)?.view ?? -1) < heard.view) votes.set(vote, heard);
  height.heard.set(validator, votes);
}

/** [R5, R7] A status of another validator: whoever asks is answered, and two processes with one key hear of each other. */
export function noteProcess(state: ReplicaState, message: Signed<Status>, claim: PeerClaim): void {
  const { validator, body } = message;
  const { latest } = claim;
  const isSame = latest === null || equalBytes(latest.body.incarnation, body.incarnation);
  state.peers.set(validator, { ...claim, latest: message, other: statusOfAnother(claim, body.incarnation) });
  if (body.asking || !isSame) answer(state, validator, body.incarnation);
  if (!isSame) answer(state, validator, latest.body.incarnation);
}

/** Of the other processes' statuses that were kept the one that says most about what its process may have promised. */
function statusOfAnother(claim: PeerClaim, incarnation: Uint8Array): Signed<Status> | null {
  const [a = null, b = null] = [claim.latest, claim.other].filter(
    (status) => status !== null && !equalBytes(status.body.incarnation, incarnation),
  );
  if (a === null || b === null) return a ?? b;
  if (a.body.asking !== b.body.asking) return a.body.asking ? b : a;
  return a.body.height >= b.body.height ? a : b;
}

/** [R5] Once in a tick for each process, and once more for each other process that it can be shown. */
function answer(state: ReplicaState, to: number, incarnation: Uint8Array): void {
  const { head, current } = state;
  const claim = state.peers.get(to);
  const another = claim === undefined ? null : statusOfAnother(claim, incarnation);
  const about = [incarnation, another?.body.incarnation ?? incarnation];
  if (current.members.self === null || !isNews(state, `echo/${to}`, about)) return;
  const promises = promisesOf(state, to);
  const status = another === null ? null : { ...another.body, signature: another.signature };
  const message: Echo = {
    kind: 'echo',
    height: head.height,
    view: current.view,
    to,
    incarnation,
    promises,
    status,
  };
  emit(state, { kind: 'answer', to, message });
}

/** Bounded for each validator in a tick: two processes, first known alone and then of each other, need no more. */
function isNews(state: ReplicaState, what: string, processes: readonly Uint8Array[]): boolean {
  const key = [what, ...processes.map(bytesToHex)].join('/');
  if (state.doneSinceTick.has(key)) return false;
  for (let nth = 0; nth < MAX_ECHOES_PER_TICK; nth += 1) {
    if (!firstSinceTick(state, `${what}/${nth}`)) continue;
    state.doneSinceTick.add(key);
    return true;
  }
  return false;
}

/** [R5] Before the head moves: who promised at a height that is decided had all before it, whatever its disk says now. */
export function keepPromises(state: ReplicaState): void {
  for (const validator of state.current.members.leaders) state.promised.set(validator, promisesOf(state, validator));
}

/** What was heard under a validator's key at the height that is decided here and at the next; if nothing was, before. */
function promisesOf(state: ReplicaState, validator: number): readonly HeardPromise[] {
  const { current, ahead } = state;
  const promises: HeardPromise[] = [];
  for (const [vote, { view, digest, signature }] of current.heard.get(validator) ?? [])
    promises.push({ kind: 'vote', vote, height: current.height, view, digest, signature });
  const waiting = [...(ahead.get(validator)?.values() ?? [])];
  for (const message of [current.viewChanges.get(validator), ...waiting]) {
    const promise = message === undefined ? null : promiseIn(message);
    if (promise !== null && (promise.kind === 'viewChange' || promise.height > current.height)) promises.push(promise);
  }
  return promises.length > 0 ? promises : (state.promised.get(validator) ?? []);
}

function promiseIn({ signature, body }: SignedMessage): HeardPromise | null {
  switch (body.kind) {
    case 'prePrepare':
    case 'prepare':
    case 'commit': {
      const { height, view } = body;
      const vote = body.kind === 'prePrepare' ? 'preprepare' : body.kind;
      return { kind: 'vote', vote, height, view, digest: messageDigest(body), signature };
    }
    case 'viewChange':
      return { kind: 'viewChange', height: body.height, view: body.view, prepared: body.prepared, signature };
    default:
      return null;
  }
}

/** An answer, to this process or to another with this key, or to somebody else's other process. */
export function onEcho(state: ReplicaState, message: Verified<Signed<Echo>>): void {
  const { validator, body } = message;
  const { self } = state.current.members;
  const { key } = state;
  if (body.to !== self) {
    // [R7] Its sender speaks to another process with its key, and reaches it through others only.
    const isToItself = body.to === validator && isNews(state, `twin/${validator}`, [body.incarnation]);
    if (isToItself) emit(state, { kind: 'send', to: validator, message });
    return;
  }
  const isForUs = equalBytes(body.incarnation, key.incarnation);
  if (validator === self) {
    if (isForUs) share(state);
    return;
  }
  // Whatever is shown carries a signature of this key, whomever it was meant for.
  for (const promise of body.promises) noteOwnPromise(state, promise);
  if (body.status !== null) noteOwnStatus(state, body.status);
  if (isForUs && key.use === 'asking') key.echoed.add(validator);
}

/** [R5, R7] Whether this process may take up the key now: a quorum, itself included, knows of nothing that forbids it. */
export function takesUpKey(state: ReplicaState): boolean {
  const { key } = state;
  const { self, quorum } = state.current.members;
  if (key.use !== 'asking' || self === null || key.echoed.size < quorum - 1) return false;
  if (key.predecessor === 'awaited') return false;
  if (key.predecessor === 'known') {
    // Exactly one tick from now on for the answer of a process that is alive.
    key.predecessor = 'awaited';
    startTimer(state, 'retransmit', RETRANSMIT_MS, 'tick');
    return false;
  }
  key.use = 'ours';
  // [R6] From now on this disk says that the key was taken up.
  if (!key.wasTakenUp) persist(state, state.current.record, null);
  return true;
}

/** [R4] A promise under this key. At a height that is decided it binds nobody any more. */
export function noteOwnPromise(state: ReplicaState, promise: HeardPromise): void {
  const { head, current } = state;
  if (promise.height <= head.height) return;
  if (promise.height === current.height && covers(current.record, promise)) return;
  abstain(state, promise.height);
}

/** The same for a whole message that came back under this key. */
export function noteOwnMessage(state: ReplicaState, message: SignedMessage): void {
  const { body } = message;
  const promise = promiseIn(message);
  if (promise !== null) return noteOwnPromise(state, promise);
  // The view change that must have gone before a new-view is what counts.
  if (body.kind !== 'newView' || body.height <= state.head.height) return;
  if (body.height !== state.current.height || body.view > state.current.record.view) abstain(state, body.height);
}

/** [R6] A status under this key of another process, earlier or living. */
export function noteOwnStatus(state: ReplicaState, status: HeardStatus): void {
  const { key } = state;
  if (equalBytes(status.incarnation, key.incarnation)) return;
  if (key.predecessor === 'none') key.predecessor = 'known';
  if (!status.asking && status.height > key.startHeight) abstain(state, status.height + 1);
  if (status.asking) answerTwin(state, status.incarnation);
}

/** [R7] If that process is alive it learns that it is not alone: nobody else can answer it under its own key. */
function answerTwin(state: ReplicaState, incarnation: Uint8Array): void {
  const { view, members } = state.current;
  if (members.self === null || !isNews(state, 'twin', [incarnation])) return;
  const { height } = state.head;
  const message: Echo = { kind: 'echo', height, view, to: members.self, incarnation, promises: [], status: null };
  emit(state, { kind: 'answer', to: null, message });
}

/** Durable: the next process starts from a head that says nothing of what was found out now. */
function abstain(state: ReplicaState, through: Height): void {
  const { record } = state.current;
  if (through <= record.abstainThrough || state.key.use === 'shared') return;
  persist(state, { ...record, abstainThrough: through }, null);
  emit(state, { kind: 'report', report: { kind: 'keyInUse', abstainThrough: through } });
}

/** [R7] Only a living process with this key can have answered this one: one of the two must end. */
function share(state: ReplicaState): void {
  const { key } = state;
  if (key.use === 'shared') return;
  key.use = 'shared';
  emit(state, { kind: 'report', report: { kind: 'keyInUse', abstainThrough: null } });
}
