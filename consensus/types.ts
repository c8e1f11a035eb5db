/**
 * The boundary of the PBFT core: `Replica.step(input) -> effects`. The core is a pure state machine; the host is the
 * only caller, runs one step at a time, and carries out the effects in their order. Numbers in brackets such as [R3]
 * are steps of docs/protocol.md.
 *
 * `persist` is a barrier: the host makes the record durable (fsync) before it carries out any effect behind it, so
 * nothing signed leaves before the record of it is on disk [R1]. Who adds a message kind that promises something adds
 * it to the safety record too.
 */
import type { Verdict } from '../common/errors.ts';
import type { Certificate } from '../common/protocol/block.ts';
import type { Address, Hash, Height, TimeMs, View } from '../common/protocol/primitives.ts';
import type { ValidatorSet } from '../common/protocol/validator-set.ts';
import type { Echo, Equivocation, ProposedBlock, SignedMessage, UnsignedMessage } from './messages.ts';
import type { SafetyRecord } from './safety-record.ts';

declare const verified: unique symbol;
/**
 * Proof in the type that everything in `M` that can be checked without state was checked: the structure, and every
 * signature, nested ones included, against one validator set, whose hash goes beside it. Made by verification.ts alone.
 */
export type Verified<M> = M & { readonly [verified]: true };

/** Who this replica is. */
export interface ReplicaIdentity {
  /** Genesis hash. */
  readonly chainId: Hash;
  /** Address of this node's validator key. A node whose address is not in the set follows and never votes. */
  readonly address: Address;
}

/** The committed block that the next height builds on. */
export interface ChainHead {
  readonly height: Height;
  readonly hash: Hash;
  readonly timestampMs: TimeMs;
  /** The set that certifies height + 1, sorted by address. */
  readonly validators: ValidatorSet;
  /** Its hash, as the head's `nextValidatorsHash` has it. */
  readonly validatorsHash: Hash;
}

/** The parameters of ChainParams that the core itself uses, as the state after the head has them. */
export interface ConsensusParams {
  readonly viewTimeoutMs: number;
  readonly viewTimeoutCapMs: number;
}

/**
 * What `Replica.open(options)` starts from, first start and restart alike; it answers the replica and its first
 * effects. Due is taken for false until the host says otherwise.
 */
export interface ReplicaOptions {
  readonly identity: ReplicaIdentity;
  /** INCARNATION_BYTES random bytes, new for each call: they tell this process from others with its key [R5]. */
  readonly incarnation: Uint8Array;
  readonly head: ChainHead;
  readonly params: ConsensusParams;
  readonly leaders: LeaderHistory;
  /** The last durable record, of whatever height; null if there never was one. */
  readonly record: SafetyRecord | null;
  /** The stored bodies that `bodiesOf(record)` names. */
  readonly bodies: readonly ProposedBlock[];
}

/** `view`: the view change. `retransmit` ticks every second while the node runs. `announce`: no block has followed the head. */
export type TimerName = 'view' | 'retransmit' | 'announce';

export type Input =
  /**
   * From another validator; or this replica's own, fed back once the host has signed it. The host drops a message
   * whose connection does not belong to a member of the set; it need not belong to the signer (messages are forwarded).
   * `validatorsHash` names the set that it was verified against. The core drops what was verified against another set
   * than its head's: verification runs beside the core, and an index means somebody else after the set has changed.
   */
  | { readonly kind: 'message'; readonly message: Verified<SignedMessage>; readonly validatorsHash: Hash }
  /** `token` is the one of the `setTimer` that it answers: a firing that crossed a later set or cancel is ignored. */
  | { readonly kind: 'timer'; readonly timer: TimerName; readonly token: number }
  /**
   * Whether a block is due: the pool is not empty, or the state says so. Sent on change, and it holds across heights;
   * after a commit that empties the pool, send `due: false` before `committed`.
   */
  | { readonly kind: 'due'; readonly due: boolean }
  /**
   * Answer to `propose`: a block built on the head and executed; null when nothing was due after all, which the core
   * takes for `due: false`.
   */
  | { readonly kind: 'proposal'; readonly height: Height; readonly view: View; readonly block: ProposedBlock | null }
  /** Answer to `execute`. Invalid blocks are never voted for. */
  | { readonly kind: 'executed'; readonly height: Height; readonly blockHash: Hash; readonly verdict: Verdict }
  /** Answer to `fetch`, if there is one: the body of a block that is not committed yet. */
  | { readonly kind: 'fetched'; readonly block: Verified<ProposedBlock> }
  /**
   * The host stored a block, by `commit` or by sync, at any moment: the core moves to the next height. Heights at or
   * below the core's are ignored, so that a sync and a commit of the same block may both report it.
   */
  | {
      readonly kind: 'committed';
      readonly head: ChainHead;
      readonly params: ConsensusParams;
      readonly leaders: LeaderHistory;
    }
  /** The host holds the leader of this view for a censor (a valid transaction left out too long): change the view. */
  | { readonly kind: 'suspect'; readonly height: Height; readonly view: View };

/**
 * Who was passed over as leader lately. Made by leader-order.ts from committed headers alone, so that every node has
 * the same; certificates differ between nodes and take no part in it.
 */
export interface LeaderHistory {
  /** Index of validator -> last height at which it was passed over. At most f entries. */
  readonly skippedAt: ReadonlyMap<number, Height>;
}

export type Effect =
  /**
   * Make durable, in one synced write: `record` replaces the one before; `block`, if there is one, goes beside it under
   * its hash. Bodies that `bodiesOf(record)` does not name may be deleted with the same write.
   */
  | { readonly kind: 'persist'; readonly record: SafetyRecord; readonly block: ProposedBlock | null }
  /** Sign (if `permits` says so, or stop), send to all other validators over direct streams, and feed back as `message`. */
  | { readonly kind: 'broadcast'; readonly message: UnsignedMessage }
  /** Sign and send, to all other validators when `to` is null; not fed back. It promises nothing. */
  | { readonly kind: 'answer'; readonly to: number | null; readonly message: Echo }
  /** Send what is signed already, by this replica or another. To all other validators when `to` is null. */
  | { readonly kind: 'send'; readonly to: number | null; readonly message: SignedMessage }
  /** Replaces a running timer of the same name. */
  | { readonly kind: 'setTimer'; readonly timer: TimerName; readonly token: number; readonly afterMs: number }
  | { readonly kind: 'cancelTimer'; readonly timer: TimerName }
  /** Build a block on the head, with this view and this node as proposer, and execute it. */
  | {
      readonly kind: 'propose';
      readonly height: Height;
      readonly view: View;
      readonly parentHash: Hash;
      readonly minTimestampMs: TimeMs;
    }
  /**
   * Execute on the head and check transactions, sidecars, receipts root, state root and next validator set against the
   * header. `fresh` asks for the clock check too, which re-proposals and certified blocks are exempt from.
   */
  | { readonly kind: 'execute'; readonly block: ProposedBlock; readonly fresh: boolean }
  /** Ask these validators for the body of an uncommitted block (they hold it durably); answer with `fetched`. Repeated by the core. */
  | { readonly kind: 'fetch'; readonly height: Height; readonly blockHash: Hash; readonly from: readonly number[] }
  /** Store block, certificate and state, then answer with `committed`. A block that sync stored already is a no-op. */
  | { readonly kind: 'commit'; readonly block: ProposedBlock; readonly certificate: Certificate }
  /** A validator says that it has heights we lack: get blocks with certificates from it or others. Never more than a hint. */
  | { readonly kind: 'sync'; readonly height: Height; readonly from: number }
  /** Somebody lacks what we have: send it committed blocks from this height on. */
  | { readonly kind: 'serve'; readonly to: number; readonly fromHeight: Height }
  /** For logs, metrics, `stalledReason`, and evidence of misbehaviour. Never needed for safety or progress. */
  | { readonly kind: 'report'; readonly report: Report };

export type Report =
  | {
      readonly kind: 'enteredView';
      readonly height: Height;
      readonly view: View;
      readonly reason: 'timeout' | 'join' | 'invalidProposal' | 'suspect' | 'newView' | 'restored';
    }
  /** What the replica is waiting for, and whose messages are missing. On change and with every retransmission. */
  | {
      readonly kind: 'phase';
      readonly height: Height;
      readonly view: View;
      readonly phase: Phase;
      readonly missing: readonly number[];
    }
  /** A verified message that breaks a rule of the protocol; `code` is stable. */
  | {
      readonly kind: 'refused';
      readonly code: RefusalCode;
      readonly from: number;
      readonly height: Height;
      readonly view: View;
    }
  | { readonly kind: 'evidence'; readonly equivocation: Equivocation }
  /**
   * This node's key has promised what its record does not know: it promises nothing up to this height. Null: another
   * process with the key is running, and this one promises nothing as long as it runs.
   */
  | { readonly kind: 'keyInUse'; readonly abstainThrough: Height | null };

export type RefusalCode =
  | 'NOT_THE_LEADER'
  | 'WRONG_PROPOSAL'
  | 'WRONG_PARENT'
  | 'WRONG_TIME'
  | 'WRONG_PROPOSER'
  | 'WRONG_VALIDATOR_SET'
  /** A status that names another block at the height of our head: a fork, or a lie. */
  | 'OTHER_HEAD'
  | 'EXECUTION_FAILED';

export type Phase =
  | 'idle'
  /** Asks the others what it promised before it started [R5]. */
  | 'awaitEchoes'
  /** Its key was used elsewhere: it follows without voting [R4, R6, R7]. */
  | 'abstaining'
  | 'awaitProposal'
  | 'awaitExecution'
  | 'awaitPrepares'
  | 'awaitCommits'
  | 'awaitBody'
  | 'viewChange'
  | 'committing';
