/**
 * Nobody is left behind silently: the regular status, sending again what may have been lost, and what is offered to or
 * asked of validators that are elsewhere. What a validator says of itself decides only what is offered and asked for;
 * blocks and views prove themselves. Steps in brackets: docs/protocol.md.
 */
import { equalBytes } from '../common/bytes.ts';
import type { Height, View } from '../common/protocol/primitives.ts';
import type { PrePrepare, Signed, SignedMessage, Status } from './messages.ts';
import { noteOwnStatus, noteProcess, takesUpKey } from './own-key.ts';
import {
  castIn,
  emit,
  firstSinceTick,
  heldBlock,
  isLeader,
  leaderOfView,
  mayVote,
  type PeerClaim,
  refuse,
  type ReplicaState,
} from './state.ts';
import { ANNOUNCE_MS, RETRANSMIT_MS, startTimer } from './timers.ts';
import type { Phase, Verified } from './types.ts';
import type { VoteBook } from './votes.ts';
import { announceViewChange } from './view-change.ts';

/** [S1] The head moved: while blocks follow each other, the votes on the next one show it, and no status is signed for it. */
export function announceHead(state: ReplicaState): void {
  if (state.key.use === 'asking') announceStatus(state);
  else startTimer(state, 'announce', ANNOUNCE_MS, 'head');
}

/** [S1] Some time after the head moved. */
export function announceLastingHead(state: ReplicaState): void {
  if (state.current.record.votes.length === 0) announceStatus(state);
}

/** [S1] The signed status goes out when the view changed, a while after the head did, and with each tick. */
export function announceStatus(state: ReplicaState): void {
  const { members, view } = state.current;
  const { incarnation, use } = state.key;
  // [R7] The other process speaks for this key.
  if (members.self === null || use === 'shared') return;
  const { height, hash } = state.head;
  const asking = use === 'asking';
  const last = state.ownStatus;
  const isTrue = last?.body.height === height && last.body.view === view && last.body.asking === asking;
  if (last !== null && isTrue) {
    emit(state, { kind: 'send', to: null, message: last });
  } else {
    emit(state, { kind: 'broadcast', message: { kind: 'status', height, hash, view, incarnation, asking } });
  }
}

/** [R5] From here on this process speaks for its key: its promises of before it started go out again. */
export function takeUpKey(state: ReplicaState): boolean {
  if (!takesUpKey(state)) return false;
  announceStatus(state);
  if (mayVote(state)) resendOwn(state);
  return true;
}

/** [S2] Once a second: status, retransmission, and what became of those who were ahead or behind a second ago. */
export function tick(state: ReplicaState): void {
  state.doneSinceTick.clear();
  if (state.key.predecessor === 'awaited') state.key.predecessor = 'silent';
  startTimer(state, 'retransmit', RETRANSMIT_MS, 'tick');
  announceStatus(state);
  for (const [validator, claim] of state.peers) {
    if (claim.height > state.head.height) askForBlocks(state, validator, claim.height);
    // One that is a block late for a moment is not stuck: only who has not moved since the last tick.
    if (claim.height < state.head.height && claim.heightAtTick === claim.height)
      offerBlocks(state, validator, claim.height + 1);
    state.peers.set(validator, { ...claim, heightAtTick: claim.height });
  }
  if (mayVote(state)) resendOwn(state);
  reportPhase(state, true);
}

/** [S3] This replica's votes of the current view go out again; the proposal only to those who have not voted on it. */
export function resendOwn(state: ReplicaState): void {
  const height = state.current;
  if (height.mode === 'committing') return;
  if (height.mode === 'viewChange') {
    const own = height.current.own.get('viewChange');
    if (own === undefined) announceViewChange(state);
    else emit(state, { kind: 'send', to: null, message: own });
    return;
  }
  if (isLeader(state)) resendProposal(state);
  for (const kind of ['prepare', 'commit'] as const) {
    const cast = castIn(height, kind, height.view);
    if (cast === undefined) continue;
    const own = height.current.own.get(kind);
    // Not fed back yet, or signed before a restart: the promise is on disk, and is signed again.
    if (own !== undefined) emit(state, { kind: 'send', to: null, message: own });
    else
      emit(state, {
        kind: 'broadcast',
        message: { kind, height: height.height, view: height.view, digest: cast.digest },
      });
  }
}

function resendProposal(state: ReplicaState): void {
  const height = state.current;
  const { own, newView } = height.current;
  const cast = castIn(height, 'preprepare', height.view);
  const prePrepare = own.get('prePrepare');
  if (cast !== undefined && prePrepare === undefined) {
    const held = heldBlock(height, cast.digest);
    if (held === undefined) return;
    const message: PrePrepare = { kind: 'prePrepare', height: height.height, view: height.view, block: held.block };
    emit(state, { kind: 'broadcast', message });
    return;
  }
  // A new-view alone is not sent again: who missed it asks by its view change, and is answered [S4].
  if (prePrepare === undefined) return;
  for (let to = 0; to < height.members.count; to += 1) {
    if (to === height.members.self || height.prepares.has(to, height.view)) continue;
    if (newView !== null) emit(state, { kind: 'send', to, message: newView });
    emit(state, { kind: 'send', to, message: prePrepare });
  }
}

/** [S4] A validator at this height but in an earlier view is given what this one moved on with. */
function bringToView(state: ReplicaState, to: number): void {
  if (!firstSinceTick(state, `view/${to}`)) return;
  const { current: view } = state.current;
  const messages = [
    view.newView,
    view.own.get('prePrepare'),
    view.own.get('prepare'),
    view.own.get('commit'),
    view.own.get('viewChange'),
  ];
  for (const message of messages)
    if (message !== undefined && message !== null) emit(state, { kind: 'send', to, message });
}

/** [S5] A status: the validator's head, and its view above it. */
export function onStatus(state: ReplicaState, message: Verified<Signed<Status>>): void {
  const { validator, body } = message;
  const { key } = state;
  if (validator === state.current.members.self) {
    if (equalBytes(body.incarnation, key.incarnation)) state.ownStatus = message;
    else noteOwnStatus(state, { ...body, signature: message.signature });
    return;
  }
  noteProcess(state, message, noteHead(state, validator, body.height));
  // [R5] It may not have been there when this process asked.
  const hasNotAnswered = key.use === 'asking' && !key.echoed.has(validator);
  if (hasNotAnswered && state.ownStatus !== null && firstSinceTick(state, `ask/${validator}`))
    emit(state, { kind: 'send', to: validator, message: state.ownStatus });
  if (body.height !== state.head.height) return;
  if (!equalBytes(body.hash, state.head.hash)) refuse(state, message, 'OTHER_HEAD');
  noteView(state, validator, body.view);
}

/** [S4] As a view change for the current height shows it, too: whoever asks for a view that has begun is shown it. */
export function noteView(state: ReplicaState, validator: number, view: View, isChanging = false): void {
  const height = state.current;
  if (height.mode === 'committing' || validator === height.members.self) return;
  const isBehind = view < height.view || (view === height.view && isChanging && height.mode === 'normal');
  if (isBehind) bringToView(state, validator);
}

/** [S6] A validator's head as it says itself; it may lower it again. Two ahead is no matter of milliseconds. */
export function noteHead(state: ReplicaState, validator: number, head: Height): PeerClaim {
  const known = state.peers.get(validator) ?? UNHEARD;
  const claim = { ...known, height: head };
  state.peers.set(validator, claim);
  if (head >= state.head.height + 2) askForBlocks(state, validator, head);
  return claim;
}

const UNHEARD: PeerClaim = { height: 0, heightAtTick: null, latest: null, other: null };

/** [S6] Messages for heights that are not being decided here say only where their sender is. */
export function noteOtherHeight(state: ReplicaState, message: SignedMessage): void {
  const { validator, body } = message;
  const head = body.height - 1;
  if (validator === state.current.members.self) return;
  if (head > state.head.height) {
    noteHead(state, validator, head);
    return;
  }
  // A Commit that comes late for the block just decided is the rule; a view change there, or an older vote, is not.
  const isStuck = body.kind === 'viewChange' || body.kind === 'newView' || body.height < state.head.height;
  if (isStuck) offerBlocks(state, validator, body.height);
}

function askForBlocks(state: ReplicaState, from: number, height: Height): void {
  if (firstSinceTick(state, `sync/${from}`)) emit(state, { kind: 'sync', height, from });
}

function offerBlocks(state: ReplicaState, to: number, fromHeight: Height): void {
  if (firstSinceTick(state, `serve/${to}`)) emit(state, { kind: 'serve', to, fromHeight });
}

/** What this replica waits for and whose messages it lacks: for operators, on change and (`always`) with each tick. */
export function reportPhase(state: ReplicaState, always: boolean): void {
  const { height, view } = state.current;
  const { phase, has } = phaseOf(state);
  const label = `${height}/${view}/${phase}`;
  if (label === state.lastPhase && !always) return;
  state.lastPhase = label;
  const { leaders } = state.current.members;
  const missing = has === null ? [] : leaders.filter((validator) => !has(validator)).sort((a, b) => a - b);
  emit(state, { kind: 'report', report: { kind: 'phase', height, view, phase, missing } });
}

/** `has`: whether what is waited for came from a validator; null where it is nobody's to give. */
function phaseOf(state: ReplicaState): {
  readonly phase: Phase;
  readonly has: ((validator: number) => boolean) | null;
} {
  const height = state.current;
  const { self } = height.members;
  const { proposal } = height.current;
  if (height.mode === 'committing') return { phase: 'committing', has: null };
  if (self !== null && !mayVote(state)) {
    const { use, echoed } = state.key;
    return use === 'asking'
      ? { phase: 'awaitEchoes', has: (v) => v === self || echoed.has(v) }
      : { phase: 'abstaining', has: null };
  }
  if (height.certified !== null) return { phase: 'awaitBody', has: null };
  if (height.mode === 'viewChange')
    return { phase: 'viewChange', has: (v) => (height.viewChanges.get(v)?.body.view ?? 0) >= height.view };
  if (proposal === null) {
    const isAwaited = state.due || height.current.mandate !== null;
    return isAwaited
      ? { phase: 'awaitProposal', has: (v) => v !== leaderOfView(height, height.view) }
      : { phase: 'idle', has: null };
  }
  if (castIn(height, 'prepare', height.view) === undefined) return { phase: 'awaitExecution', has: null };
  const voted = (book: VoteBook) => (v: number) =>
    book.signersOf(height.view, proposal).some(({ validator }) => validator === v);
  return castIn(height, 'commit', height.view) === undefined
    ? { phase: 'awaitPrepares', has: voted(height.prepares) }
    : { phase: 'awaitCommits', has: voted(height.commits) };
}
