/**
 * The PBFT replica: one input in, the effects that follow out, in the order in which they must happen. It dispatches
 * inputs to the rules and then applies the rules until none has anything left to do.
 *
 * Pure: no clock, no randomness, no signatures, nothing asynchronous. Equal inputs give equal effects.
 */
import { bytesToHex, equalBytes } from '../common/bytes.ts';
import { assert, unreachable } from '../common/errors.ts';
import {
  announceHead,
  announceLastingHead,
  announceStatus,
  noteHead,
  noteOtherHeight,
  noteView,
  onStatus,
  reportPhase,
  takeUpKey,
  tick,
} from './catch-up.ts';
import { INCARNATION_BYTES, type SignedMessage } from './messages.ts';
import {
  decide,
  executeProposal,
  fetchMissing,
  onCommit,
  onExecuted,
  onFetched,
  onPrepare,
  onPrePrepare,
  onProposal,
  propose,
  voteCommit,
  votePrepare,
} from './ordering.ts';
import { keepPromises, noteHeard, noteOwnMessage, noteVote, onEcho } from './own-key.ts';
import { bodiesOf } from './safety-record.ts';
import { castIn, emit, emptyHeight, type HeightState, mayVote, membershipOf, type ReplicaState } from './state.ts';
import { refreshViewTimer, RETRANSMIT_MS, startTimer, takeTimer } from './timers.ts';
import type { Effect, Input, ReplicaOptions, TimerName, Verified } from './types.ts';
import { beginNewView, join, onNewView, onViewChange, startViewChange } from './view-change.ts';

/** Each does at most one thing and says whether it did; earlier ones first, since they may spare later ones. */
const RULES: readonly ((state: ReplicaState) => boolean)[] = [
  takeUpKey,
  decide,
  join,
  beginNewView,
  propose,
  executeProposal,
  votePrepare,
  voteCommit,
  fetchMissing,
];

/** Each rule fires a few times in one step at most (a view entered, proposed, voted for); more is a bug, not work. */
const MAX_RULES_PER_STEP = 64;

export class Replica {
  readonly #state: ReplicaState;

  private constructor(state: ReplicaState) {
    this.#state = state;
  }

  /** [R2, R5] First start and restart: what the record promised is taken up again; its votes go out again with the key's. */
  static open(options: ReplicaOptions): { readonly replica: Replica; readonly effects: readonly Effect[] } {
    const { identity, incarnation, head, params, leaders, record } = options;
    assert(incarnation.length === INCARNATION_BYTES, 'the incarnation has its length');
    const state: ReplicaState = {
      identity,
      head,
      params,
      due: false,
      key: {
        incarnation,
        startHeight: record === null ? 0 : head.height,
        wasTakenUp: record !== null,
        use: 'asking',
        echoed: new Set(),
        predecessor: 'none',
      },
      current: emptyHeight(head.height + 1, membershipOf(identity, head, leaders), record?.abstainThrough ?? 0),
      ahead: new Map(),
      promised: new Map(),
      peers: new Map(),
      doneSinceTick: new Set(),
      ownStatus: null,
      lastToken: 0,
      timers: new Map(),
      lastPhase: '',
      effects: [],
    };
    restore(state, options);
    startTimer(state, 'retransmit', RETRANSMIT_MS, 'tick');
    announceStatus(state);
    applyRules(state);
    return { replica: new Replica(state), effects: finish(state) };
  }

  /** Takes one input; the host carries out the effects in order before or while it gives the next. */
  step(input: Input): readonly Effect[] {
    const state = this.#state;
    assert(state.effects.length === 0, 'a step is not entered twice');
    const { head } = state;
    const { view } = state.current;
    dispatch(state, input);
    applyRules(state);
    if (state.head.height !== head.height) announceHead(state);
    else if (state.current.view !== view) announceStatus(state);
    return finish(state);
  }

  /** For operators and tests: where this replica is. */
  get position(): { readonly height: number; readonly view: number; readonly mode: HeightState['mode'] } {
    const { height, view, mode } = this.#state.current;
    return { height, view, mode };
  }
}

/** After the rules have come to rest. */
function finish(state: ReplicaState): readonly Effect[] {
  refreshViewTimer(state);
  reportPhase(state, false);
  const { effects } = state;
  state.effects = [];
  return effects;
}

function applyRules(state: ReplicaState): void {
  let fired = 0;
  while (RULES.some((rule) => rule(state))) {
    fired += 1;
    assert(fired <= MAX_RULES_PER_STEP, 'the rules come to rest');
  }
}

function dispatch(state: ReplicaState, input: Input): void {
  switch (input.kind) {
    case 'message':
      // [M3] An index means somebody else in another set.
      if (equalBytes(input.validatorsHash, state.head.validatorsHash)) onMessage(state, input.message);
      return;
    case 'timer':
      if (!takeTimer(state, input.timer, input.token)) return;
      onTimer(state, input.timer);
      return;
    case 'due':
      state.due = input.due;
      return;
    case 'proposal':
      onProposal(state, input.height, input.view, input.block);
      return;
    case 'executed':
      // [P3] A leader whose proposal fails has nothing better to offer in this view.
      if (onExecuted(state, input.height, input.blockHash, input.verdict)) {
        startViewChange(state, state.current.view + 1, 'invalidProposal');
      }
      return;
    case 'fetched':
      onFetched(state, input.block);
      return;
    case 'committed':
      onCommitted(state, input);
      return;
    case 'suspect': {
      const { height, view, mode } = state.current;
      if (input.height === height && input.view === view && mode === 'normal')
        startViewChange(state, view + 1, 'suspect');
      return;
    }
    default:
      unreachable(input);
  }
}

function onTimer(state: ReplicaState, timer: TimerName): void {
  switch (timer) {
    case 'retransmit':
      return tick(state);
    case 'announce':
      return announceLastingHead(state);
    case 'view':
      return startViewChange(state, state.current.view + 1, 'timeout');
    default:
      unreachable(timer);
  }
}

function onMessage(state: ReplicaState, message: Verified<SignedMessage>): void {
  const { body } = message;
  if (body.kind === 'status')
    return onStatus(state, message as Verified<typeof message & { readonly body: typeof body }>);
  if (body.kind === 'echo') {
    if (message.validator !== state.current.members.self) noteHead(state, message.validator, body.height);
    return onEcho(state, message as Verified<typeof message & { readonly body: typeof body }>);
  }
  const height = state.current;
  if (message.validator === height.members.self) noteOwnMessage(state, message);
  if (body.height !== height.height) {
    if (body.height === height.height + 1) keepForNextHeight(state, message);
    noteOtherHeight(state, message);
    return;
  }
  if (message.validator !== height.members.self) noteVote(height, message);
  if (height.mode === 'committing') return;
  // What another process promised under this key counts for nothing here.
  if (message.validator === height.members.self) {
    if (!mayVote(state)) return;
    if (body.view === height.view) height.current.own.set(body.kind, message);
  }
  onCurrentHeight(state, message);
}

function onCurrentHeight(state: ReplicaState, message: Verified<SignedMessage>): void {
  const { validator, signature, body } = message;
  const narrowed = <B>(of: B): Verified<{ validator: number; signature: Uint8Array; body: B }> =>
    ({ validator, signature, body: of }) as Verified<{ validator: number; signature: Uint8Array; body: B }>;
  switch (body.kind) {
    case 'prePrepare':
      return onPrePrepare(state, narrowed(body));
    case 'prepare':
      return onPrepare(state, narrowed(body));
    case 'commit':
      return onCommit(state, narrowed(body));
    case 'viewChange':
      onViewChange(state, narrowed(body));
      return noteView(state, validator, body.view, true);
    case 'newView':
      return onNewView(state, narrowed(body));
    case 'status':
    case 'echo':
      return;
    default:
      unreachable(body);
  }
}

/** [S7] One message of each sender and kind; of pre-prepares, which are large, max(2, f + 1): the faulty cannot fill it. */
function keepForNextHeight(state: ReplicaState, message: Verified<SignedMessage>): void {
  const { validator, body } = message;
  if (body.view > 0 && body.kind === 'prePrepare') return;
  if (body.kind === 'prePrepare') {
    const senders = [...state.ahead].filter(([from, kinds]) => from !== validator && kinds.has('prePrepare'));
    if (senders.length >= state.current.members.joinCount) return;
  }
  const kinds = state.ahead.get(validator) ?? new Map<SignedMessage['body']['kind'], Verified<SignedMessage>>();
  kinds.set(body.kind, message);
  state.ahead.set(validator, kinds);
}

/** [P9] The head moved, by this replica's own decision or past it: whatever was under way below it is over. */
function onCommitted(state: ReplicaState, input: Extract<Input, { readonly kind: 'committed' }>): void {
  if (input.head.height <= state.head.height) return;
  const { ahead } = state;
  keepPromises(state);
  const isSameSet = equalBytes(input.head.validatorsHash, state.head.validatorsHash);
  state.head = input.head;
  state.params = input.params;
  const members = membershipOf(state.identity, input.head, input.leaders);
  state.current = emptyHeight(input.head.height + 1, members, state.current.record.abstainThrough);
  state.ahead = new Map();
  if (!isSameSet) {
    state.peers.clear();
    state.promised.clear();
    state.key.echoed.clear();
    return;
  }
  for (const validator of [...ahead.keys()].sort((a, b) => a - b)) {
    for (const message of ahead.get(validator)?.values() ?? []) {
      if (message.body.height === state.current.height) onMessage(state, message);
    }
  }
}

/** [R2] Takes up the record of the height that is being decided; a record of an earlier one is history. */
function restore(state: ReplicaState, { record, bodies }: ReplicaOptions): void {
  const height = state.current;
  if (record === null || record.height < height.height) return;
  assert(record.height === height.height, 'promises were made on a block that the store does not have');
  height.record = record;
  height.view = record.view;
  for (const hash of bodiesOf(record)) {
    const block = bodies.find((b) => equalBytes(b.hash, hash));
    assert(block !== undefined, 'the body of a promise is missing from the store');
    height.blocks.set(bytesToHex(hash), { block, valid: false });
  }
  height.durable = new Set(height.blocks.keys());
  // [R5] What of the others' votes is left on this disk: they may have lost theirs.
  if (record.prepared !== null) {
    const { view, digest, signatures } = record.prepared;
    for (const { validator, signature } of signatures)
      noteHeard(height, validator, 'prepare', { view, digest, signature });
  }
  const prepare = castIn(height, 'prepare', record.view);
  if (prepare !== undefined) height.current.proposal = prepare.digest;
  // [R3] A view change was sent and nothing voted for since: still waiting for its new-view.
  else if (record.view > 0) height.mode = 'viewChange';
  const view = record.view;
  emit(state, { kind: 'report', report: { kind: 'enteredView', height: height.height, view, reason: 'restored' } });
}
