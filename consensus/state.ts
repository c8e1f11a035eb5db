/**
 * What a replica knows and has promised, and the few operations on it that all rules share. One mutable object that
 * only `Replica.step` and the rules it calls touch; effects are collected in the order in which they must happen.
 *
 * What must not go in here: rules. They are in ordering.ts, view-change.ts and catch-up.ts.
 */
import { bytesToHex, equalBytes } from '../common/bytes.ts';
import { assert } from '../common/errors.ts';
import type { Hash, Height, View } from '../common/protocol/primitives.ts';
import { faultTolerance, quorumSize } from '../common/protocol/validator-set.ts';
import { leaderOf, leaderOrder } from './leader-order.ts';
import type { VoteKind } from '../common/protocol/signing.ts';
import type {
  HeardPromise,
  NewView,
  PreparedCertificate,
  PrePrepare,
  ProposedBlock,
  Signed,
  SignedMessage,
  Status,
  UnsignedMessage,
  ViewChange,
} from './messages.ts';
import { bodiesOf, type CastVote, type SafetyRecord } from './safety-record.ts';
import type {
  ChainHead,
  ConsensusParams,
  Effect,
  LeaderHistory,
  RefusalCode,
  ReplicaIdentity,
  TimerName,
  Verified,
} from './types.ts';
import { type QuorumOfVotes, type StoredVote, VoteBook } from './votes.ts';

/** The validator set of a height, and this replica's place in it. */
export interface Membership {
  readonly count: number;
  readonly quorum: number;
  /** How many other validators at higher views make this one join them: max(2, f + 1), never one [V6]. */
  readonly joinCount: number;
  /** This replica's index; null when it is not in the set: it follows and never votes. */
  readonly self: number | null;
  /** Leaders of the views 0, 1, ... of this height. */
  readonly leaders: readonly number[];
}

/** A body that this replica holds at the current height. */
export interface HeldBlock {
  readonly block: ProposedBlock;
  /** Whether this very body was executed on the head and found valid. */
  readonly valid: boolean;
}

/** Everything about the height that is being decided. Replaced as a whole when the head moves. */
export interface HeightState {
  readonly height: Height;
  readonly members: Membership;
  readonly prepares: VoteBook;
  readonly commits: VoteBook;
  /** Last durable record, or the empty one of this height when nothing was promised yet. */
  record: SafetyRecord;
  mode: 'normal' | 'viewChange' | 'committing';
  view: View;
  /** By hash in hex. At most one for each of: the current proposal, the prepared block, the mandated or certified one. */
  readonly blocks: Map<string, HeldBlock>;
  /** By hash in hex: bodies that `execute` was asked for and has not answered. At most one for each view entered. */
  readonly executing: Map<string, ProposedBlock>;
  /** Hashes (hex) of the bodies that lie beside the record on disk. */
  durable: ReadonlySet<string>;
  /** A commit certificate whose block is not committed yet, for want of the body or its execution. */
  certified: QuorumOfVotes | null;
  /** The latest view change of each validator, this one's own included. */
  readonly viewChanges: Map<number, Verified<Signed<ViewChange>>>;
  /** Pre-prepares for views that were not entered yet, by view; only from that view's leader, within VIEW_WINDOW. */
  readonly earlyPrePrepares: Map<View, Verified<Signed<PrePrepare>>>;
  /** Of each other validator the vote of the highest view of each kind, to echo it to that validator [R5]. */
  readonly heard: Map<number, Map<VoteKind, StoredVote & { readonly view: View }>>;
  /** One report of equivocation for each validator and kind of vote is enough. */
  readonly reportedEquivocations: Set<string>;
  current: ViewState;
}

/** What belongs to one view. Replaced as a whole when the view changes. */
export interface ViewState {
  /** What the new-view obliges the leader to propose again; null when it is free [V5]. */
  mandate: PreparedCertificate | null;
  /** The message that this view began with, for those who missed it; null in view 0 or after a restart. */
  newView: Signed<NewView> | null;
  /** Hash of the proposal that was accepted in this view; no other is. */
  proposal: Hash | null;
  /** The leader's signed proposal: to send again, and to hold against a second one. */
  prePrepare: Signed<PrePrepare> | null;
  /** A block was asked of the host, which has not answered. */
  proposing: boolean;
  /** This replica's own signed messages of this view, for retransmission. */
  readonly own: Map<UnsignedMessage['kind'], SignedMessage>;
}

/** What a validator was last heard to have. A claim: it only decides what is offered or asked for. */
export interface PeerClaim {
  readonly height: Height;
  /** The height that it showed at the previous tick; what stays low between two ticks is stuck. */
  readonly heightAtTick: Height | null;
  /** The last status that came, and of those of other processes with its key the one that says most [R5-R7]. */
  readonly latest: Signed<Status> | null;
  readonly other: Signed<Status> | null;
}

/** The validator key, which others may have used, or may be using. */
export interface KeyState {
  /** This process's own. */
  readonly incarnation: Uint8Array;
  /**
   * The head that it started from: no process before it can have shown a higher one, unless the disk was replaced. 0
   * where nothing on disk says that the key was ever taken up: then whoever did had another disk.
   */
  readonly startHeight: Height;
  /** Whether there is a record of earlier processes. */
  readonly wasTakenUp: boolean;
  /** `shared`: until the end of this process it promises nothing [R7]. */
  use: 'asking' | 'ours' | 'shared';
  /** Who has answered while it was asking. */
  readonly echoed: Set<number>;
  /** Another process with this key: one that is alive has a tick to say so [R7]. */
  predecessor: 'none' | 'known' | 'awaited' | 'silent';
}

export interface ReplicaState {
  readonly identity: ReplicaIdentity;
  head: ChainHead;
  params: ConsensusParams;
  due: boolean;
  readonly key: KeyState;
  current: HeightState;
  /** Messages for the next height, by sender and kind: at most one of each. Replayed when the head moves [S7]. */
  ahead: Map<number, Map<UnsignedMessage['kind'], Verified<SignedMessage>>>;
  /** What each other validator was last heard to promise at a height that is decided by now, to echo it to that validator [R5]. */
  readonly promised: Map<number, readonly HeardPromise[]>;
  peers: Map<number, PeerClaim>;
  /** Validators that were answered, served or asked since the last tick, by what was done: once for each is enough. */
  readonly doneSinceTick: Set<string>;
  /** This replica's signed status, if it is still true. */
  ownStatus: Signed<Status> | null;
  lastToken: number;
  readonly timers: Map<TimerName, { readonly token: number; readonly purpose: string }>;
  lastPhase: string;
  effects: Effect[];
}

export function membershipOf(identity: ReplicaIdentity, head: ChainHead, leaders: LeaderHistory): Membership {
  const count = head.validators.length;
  const self = head.validators.findIndex((v) => equalBytes(v.address, identity.address));
  return {
    count,
    quorum: quorumSize(count),
    joinCount: Math.max(2, faultTolerance(count) + 1),
    self: self === -1 ? null : self,
    leaders: leaderOrder(head.height + 1, count, leaders),
  };
}

export function emptyView(): ViewState {
  return { mandate: null, newView: null, proposal: null, prePrepare: null, proposing: false, own: new Map() };
}

export function emptyHeight(height: Height, members: Membership, abstainThrough: Height): HeightState {
  return {
    height,
    members,
    prepares: new VoteBook(members.count, members.quorum),
    commits: new VoteBook(members.count, members.quorum),
    record: { height, view: 0, votes: [], prepared: null, abstainThrough },
    mode: 'normal',
    view: 0,
    blocks: new Map(),
    executing: new Map(),
    durable: new Set(),
    certified: null,
    viewChanges: new Map(),
    earlyPrePrepares: new Map(),
    heard: new Map(),
    reportedEquivocations: new Set(),
    current: emptyView(),
  };
}

export function emit(state: ReplicaState, effect: Effect): void {
  state.effects.push(effect);
}

export function refuse(state: ReplicaState, message: SignedMessage, code: RefusalCode): void {
  const { body } = message;
  emit(state, {
    kind: 'report',
    report: { kind: 'refused', code, from: message.validator, height: body.height, view: body.view },
  });
}

export const leaderOfView = (height: HeightState, view: View): number => leaderOf(height.members.leaders, view);

/** Whether this replica may promise anything at this height at all [R4-R7]. */
export function mayVote(state: ReplicaState): boolean {
  const { current, key } = state;
  return current.members.self !== null && key.use === 'ours' && current.height > current.record.abstainThrough;
}

/** Whether this is the first time since the last tick. */
export function firstSinceTick(state: ReplicaState, what: string): boolean {
  if (state.doneSinceTick.has(what)) return false;
  state.doneSinceTick.add(what);
  return true;
}

export function isLeader(state: ReplicaState): boolean {
  const height = state.current;
  return mayVote(state) && leaderOfView(height, height.view) === height.members.self;
}

export function heldBlock(height: HeightState, hash: Hash): HeldBlock | undefined {
  return height.blocks.get(bytesToHex(hash));
}

export function castIn(height: HeightState, vote: CastVote['vote'], view: View): CastVote | undefined {
  return height.record.votes.find((v) => v.vote === vote && v.view === view);
}

/** The last vote of each kind, with `cast` in place of what it supersedes. */
export function withVotes(votes: readonly CastVote[], cast: readonly CastVote[]): readonly CastVote[] {
  return [...votes.filter((v) => !cast.some((c) => c.vote === v.vote)), ...cast];
}

/**
 * [R1] Makes `record` durable, and with it `block` unless its body lies there already. Everything that is emitted
 * afterwards may rely on it.
 */
export function persist(state: ReplicaState, record: SafetyRecord, block: ProposedBlock | null): void {
  const height = state.current;
  const before = height.record;
  assert(record.height === height.height && record.view >= before.view, 'promises are not taken back');
  assert(record.abstainThrough >= before.abstainThrough, 'nor are abstentions');
  for (const { view, digest, vote } of record.votes) {
    assert(view <= record.view, 'no vote is cast in a view that was not entered');
    const cast = castIn(height, vote, view);
    assert(cast === undefined || equalBytes(cast.digest, digest), 'one digest for each height, view and kind');
    assert(cast !== undefined || view >= before.view, 'no vote is cast in a view that was left');
  }
  const needed = new Set(bodiesOf(record).map(bytesToHex));
  const key = block === null ? null : bytesToHex(block.hash);
  const isNew = key !== null && !height.durable.has(key);
  const durable = new Set([...height.durable].filter((hash) => needed.has(hash)));
  if (key !== null && needed.has(key)) durable.add(key);
  assert(durable.size === needed.size, 'the body of every promise is durable with it');
  height.record = record;
  height.durable = durable;
  emit(state, { kind: 'persist', record, block: isNew ? block : null });
}
