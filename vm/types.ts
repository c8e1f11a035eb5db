/**
 * What the state machine takes and gives. Everything here is synchronous and pure: the caller owns database, clock,
 * signatures and threads. The vm reads a state, and answers with writes that the caller may keep or throw away.
 */
import type { Verdict } from '../common/errors.ts';
import type { Hash, Height, PublicKey, Signature, TimeMs } from '../common/protocol/primitives.ts';
import type { Event, Receipt } from '../common/protocol/receipt.ts';
import type { DecodedTransaction, Sidecar } from '../common/protocol/transaction.ts';

/** Ordered, synchronous view of a state. Keys and values that it gives must not be changed by the reader. */
export interface StateReader {
  get(key: Uint8Array): Uint8Array | undefined;
  /** Entries with gte <= key < lt in ascending order (descending when `reverse`), at most `limit`. */
  range(query: {
    readonly gte: Uint8Array;
    readonly lt: Uint8Array;
    readonly limit: number;
    readonly reverse?: boolean;
  }): Iterable<{ readonly key: Uint8Array; readonly value: Uint8Array }>;
}

/** One key's new value; null deletes. A block's writes are sorted by key, each key at most once. */
export interface StateWrite {
  readonly key: Uint8Array;
  readonly value: Uint8Array | null;
}

/** A stateless check that a transaction owes: the host discharges it, once, off the main thread. */
export interface Obligation {
  readonly publicKey: PublicKey;
  readonly message: Uint8Array;
  readonly signature: Signature;
  /** The code that the transaction is refused with when this does not verify, such as BAD_SIGNATURE. */
  readonly code: string;
}

/** A transaction whose bytes were decoded strictly, whose sidecar matches its hash and whose obligations hold. */
export interface CheckedTransaction {
  readonly tx: DecodedTransaction;
  /** Null where the call has none, or (in blocks from sync only) where it was erased. */
  readonly sidecar: Sidecar | null;
}

export interface BlockContext {
  readonly chainId: Hash;
  readonly height: Height;
  readonly timestampMs: TimeMs;
  /** State root of the block before this one. */
  readonly parentStateRoot: Hash;
  /**
   * The block comes with its certificate, from sync: a quorum has seen its sidecars, which may have been erased since.
   * Without this, a call that commits to a sidecar is refused where the sidecar is missing.
   */
  readonly certified?: boolean;
}

export interface BlockExecution {
  /** Sorted by key, without duplicates. */
  readonly writes: readonly StateWrite[];
  /** One for each included transaction, and a last one for what block time itself caused. */
  readonly receipts: readonly Receipt[];
}

/** Result of building: the transactions that executed, in order, and the ones left out, with the reason. */
export interface BuiltBlock extends BlockExecution {
  readonly included: readonly CheckedTransaction[];
  readonly rejected: readonly { readonly tx: CheckedTransaction; readonly code: string; readonly message: string }[];
}

/**
 * The functions that vm/index.ts exports:
 *
 *   obligations(chainId, tx): readonly Obligation[]          stateless; bounded number per call
 *   genesisWrites(genesis): readonly StateWrite[]             sorted; the state of block 0
 *   buildBlock(reader, context, candidates): BuiltBlock       leader: leaves out what fails
 *   executeBlock(reader, context, txs): Verdict<BlockExecution>   replica: one failing transaction refuses the block
 *   simulate(reader, context, tx): Verdict<readonly Event[]>  one transaction against a state, nothing kept
 *   new Trial(reader, context)                                the same for many, one after the other
 *   new EntryCache(reader, from)                              a reader that keeps what the three above have decoded
 *   blockDue(reader): BlockDue                                when the state itself asks for a block
 *   priorityOf(call): 'urgent' | 'normal'                     revocations, denials, suspensions, vetoes first
 *   checkGenesis(genesis): Verdict                            what genesisWrites demands, as a sentence
 *   checkGrant(reader, requestHash, atMs): Verdict<RequestEntry>     whether a key may be released for it at that time
 *   checkAccess(reader, { subject, recordId, purpose, atMs }): AccessDecision
 *   explainRequest(reader, requestHash, atMs): RequestExplanation | null     the policy tree with who fills which slot
 *   REJECTIONS: Record<code, sentence>                        every code that execution refuses with
 */
export interface BlockDue {
  /** Earliest deadline in the state, as block time; null if there is none. A block is due once the clock is past it. */
  readonly nextDeadlineMs: TimeMs | null;
  /** While grants are active, a block is due this long after the last one; null if none is. */
  readonly heartbeatMs: number | null;
}

export type SimulationResult = Verdict<readonly Event[]>;
