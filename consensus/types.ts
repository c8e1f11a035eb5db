/**
 * The boundary of the PBFT core: `Replica.step(input) -> effects`. The core is a pure state machine; the host is the
 * only caller, runs one step at a time, and carries out the effects in their order.
 *
 * `persist` is a barrier: the host makes the record durable (fsync) before it carries out any effect behind it, so
 * nothing signed leaves before the record of it is on disk. The host signs; before it does, it refuses a second digest
 * for the same (height, view, kind). What the host signs and sends it also feeds back as a message of this replica.
 */
import type { Verdict } from '../common/errors.ts';
import type { Block, BlockHeader, Certificate } from '../common/protocol/block.ts';
import type { Hash, Height, TimeMs, View } from '../common/protocol/primitives.ts';
import type { ValidatorSet } from '../common/protocol/validator-set.ts';
import type { SafetyRecord, SignedMessage, UnsignedMessage } from './messages.ts';

declare const verified: unique symbol;
/** Proof in the type that every signature in `M`, nested ones included, was verified against the right set. */
export type Verified<M> = M & { readonly [verified]: true };

/** The committed block that the next height builds on. */
export interface ChainHead {
  readonly height: Height;
  readonly hash: Hash;
  readonly timestampMs: TimeMs;
  /** The set that certifies height + 1. */
  readonly validators: ValidatorSet;
}

/** The parameters of ChainParams that the core itself uses. */
export interface ConsensusParams {
  readonly viewTimeoutMs: number;
  readonly viewTimeoutCapMs: number;
  readonly leaderDemotionBlocks: number;
}

export type TimerName = 'view' | 'retransmit' | 'status';

export type Input =
  | { readonly kind: 'message'; readonly message: Verified<SignedMessage> }
  | { readonly kind: 'timer'; readonly timer: TimerName }
  /** Whether a block is due: the pool is not empty, or the state says so. Sent on change. */
  | { readonly kind: 'due'; readonly due: boolean }
  /** Answer to `propose`: a block built on the head and executed; null when nothing was due after all. */
  | { readonly kind: 'proposal'; readonly height: Height; readonly view: View; readonly block: ProposedBlock | null }
  /** Answer to `execute`. Invalid blocks are never voted for. */
  | { readonly kind: 'executed'; readonly height: Height; readonly blockHash: Hash; readonly verdict: Verdict }
  /** The host stored a block, by `commit` or by sync: the core moves to the next height. */
  | { readonly kind: 'committed'; readonly head: ChainHead; readonly params: ConsensusParams; readonly leaders: LeaderHistory };

export interface ProposedBlock {
  readonly hash: Hash;
  readonly header: BlockHeader;
  readonly block: Block;
}

/** From committed headers and certificates: for the last `leaderDemotionBlocks` heights, who proposed, in which view. */
export interface LeaderHistory {
  /** Index of validator -> last height at which it was passed over as leader; absent if not within the window. */
  readonly skippedAt: ReadonlyMap<number, Height>;
}

export type Effect =
  | { readonly kind: 'persist'; readonly record: SafetyRecord }
  /** To all other validators over direct streams. */
  | { readonly kind: 'broadcast'; readonly message: UnsignedMessage | SignedMessage }
  | { readonly kind: 'send'; readonly to: number; readonly message: UnsignedMessage | SignedMessage }
  | { readonly kind: 'setTimer'; readonly timer: TimerName; readonly afterMs: number }
  | { readonly kind: 'cancelTimer'; readonly timer: TimerName }
  | { readonly kind: 'propose'; readonly height: Height; readonly view: View; readonly parentHash: Hash; readonly minTimestampMs: TimeMs }
  /** Check and execute; `fresh` asks for the clock check too, which re-proposals are exempt from. */
  | { readonly kind: 'execute'; readonly proposal: ProposedBlock; readonly fresh: boolean }
  | { readonly kind: 'commit'; readonly proposal: ProposedBlock; readonly certificate: Certificate }
  /** A validator proved that it has heights we lack: get blocks with certificates from it or others. */
  | { readonly kind: 'sync'; readonly height: Height; readonly from: number }
  /** Somebody lacks what we have: send it committed blocks from this height on. */
  | { readonly kind: 'serve'; readonly to: number; readonly fromHeight: Height }
  /** For logs, metrics, `stalledReason`, and evidence of misbehaviour. Never needed for safety or progress. */
  | { readonly kind: 'report'; readonly report: Report };

export type Report =
  | { readonly kind: 'enteredView'; readonly height: Height; readonly view: View; readonly reason: 'start' | 'timeout' | 'join' | 'newView' }
  | { readonly kind: 'phase'; readonly height: Height; readonly view: View; readonly phase: Phase; readonly missing: readonly number[] }
  | { readonly kind: 'refused'; readonly code: string; readonly from: number; readonly height: Height; readonly view: View }
  | { readonly kind: 'evidence'; readonly first: SignedMessage; readonly second: SignedMessage };

export type Phase = 'idle' | 'awaitPrePrepare' | 'awaitPrepares' | 'awaitCommits' | 'viewChange' | 'committing';
