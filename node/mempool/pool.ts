/**
 * The transactions that wait for a block, in order of arrival, bounded by number, bytes and account. A plain data
 * structure: what a transaction must fulfil to get in is the mempool's business.
 */
import { reject, type Verdict, accept } from '../../common/errors.ts';
import type { TimeMs } from '../../common/protocol/primitives.ts';
import type { CheckedTransaction } from '../../vm/types.ts';

export interface PoolLimits {
  readonly maxTransactions: number;
  readonly maxBytes: number;
}

export interface PoolEntry {
  /** `hashKey` of the transaction. */
  readonly key: string;
  readonly checked: CheckedTransaction;
  /** Its erasable bytes as they came. */
  readonly sidecar: Uint8Array | null;
  readonly sizeBytes: number;
  /** `hashKey` of the account that signed it. */
  readonly account: string;
  readonly priority: 'urgent' | 'normal';
  /** The member that it came from; null where a client of this node gave it. */
  readonly from: string | null;
  /** Whether this node has executed it on a head; else the member's word stands for that. */
  executed: boolean;
  readonly receivedMs: TimeMs;
  /** When it was last found to execute on the head. */
  checkedMs: TimeMs;
  /** When it was last sent to every validator directly; 0 if never. */
  escalatedMs: TimeMs;
}

/** One account holds at most this share of the pool, so that no single key can fill it. */
const ACCOUNT_SHARE = 8;
/** The last tenth is for urgent transactions: a flood must not keep a revocation out. */
const URGENT_RESERVE = 10;
/** Urgent transactions of one account that go first in one block; more wait, so that urgency cannot be abused. */
export const URGENT_PER_BLOCK = 32;

export class Pool {
  readonly limits: PoolLimits;
  readonly #urgent = new Map<string, PoolEntry>();
  readonly #normal = new Map<string, PoolEntry>();
  readonly #perAccount = new Map<string, number>();
  #bytes = 0;

  constructor(limits: PoolLimits) {
    this.limits = limits;
  }

  get size(): number {
    return this.#urgent.size + this.#normal.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get(key: string): PoolEntry | undefined {
    return this.#normal.get(key) ?? this.#urgent.get(key);
  }

  /** Urgent ones first, else in order of arrival. */
  *entries(): Generator<PoolEntry> {
    yield* this.#urgent.values();
    yield* this.#normal.values();
  }

  /**
   * Of `entries`, those that have waited so long. They came in order: the first of its kind that has not waited ends the walk,
   * unless it came before the clock went back. Entries may be removed on the way.
   */
  *waiting(leastMs: number, nowMs: TimeMs): Generator<PoolEntry> {
    for (const entries of [this.#urgent, this.#normal]) {
      for (const entry of entries.values()) {
        const waitedMs = nowMs - entry.receivedMs;
        if (waitedMs >= leastMs) yield entry;
        else if (waitedMs >= 0) break;
      }
    }
  }

  /** POOL_FULL, or ACCOUNT_QUOTA when this account holds its share. */
  room(of: { readonly account: string; readonly priority: 'urgent' | 'normal'; readonly sizeBytes: number }): Verdict {
    const { maxTransactions, maxBytes } = this.limits;
    const share = of.priority === 'urgent' ? 1 : 1 - 1 / URGENT_RESERVE;
    if (this.size + 1 > maxTransactions * share || this.#bytes + of.sizeBytes > maxBytes * share) {
      return reject('POOL_FULL', 'too many transactions wait for a block; try again in a few seconds');
    }
    const quota = Math.max(1, Math.floor(maxTransactions / ACCOUNT_SHARE));
    return (this.#perAccount.get(of.account) ?? 0) < quota
      ? accept(undefined)
      : reject('ACCOUNT_QUOTA', `this account has ${quota} transactions waiting, the most that one may have`);
  }

  add(entry: PoolEntry): void {
    (entry.priority === 'urgent' ? this.#urgent : this.#normal).set(entry.key, entry);
    this.#bytes += entry.sizeBytes;
    this.#perAccount.set(entry.account, (this.#perAccount.get(entry.account) ?? 0) + 1);
  }

  remove(key: string): PoolEntry | undefined {
    const entry = this.get(key);
    if (entry === undefined) return undefined;
    (entry.priority === 'urgent' ? this.#urgent : this.#normal).delete(key);
    this.#bytes -= entry.sizeBytes;
    const left = (this.#perAccount.get(entry.account) ?? 1) - 1;
    if (left === 0) this.#perAccount.delete(entry.account);
    else this.#perAccount.set(entry.account, left);
    return entry;
  }

  /** The oldest that came before this moment, urgent ones first, at most so many. */
  overdue(beforeMs: TimeMs, max: number): readonly PoolEntry[] {
    const found: PoolEntry[] = [];
    for (const entries of [this.#urgent, this.#normal]) {
      for (const entry of entries.values()) {
        if (entry.receivedMs >= beforeMs || found.length >= max) break;
        found.push(entry);
      }
    }
    return found;
  }

  /** [F1] What a block may be built from, in the order in which it should be tried. */
  candidates(maxTxs: number, maxBytes: number): CheckedTransaction[] {
    const chosen: CheckedTransaction[] = [];
    const urgentOf = new Map<string, number>();
    let bytes = 0;
    for (const entry of this.entries()) {
      if (chosen.length >= maxTxs || bytes + entry.sizeBytes > maxBytes) break;
      if (entry.priority === 'urgent') {
        const taken = urgentOf.get(entry.account) ?? 0;
        if (taken >= URGENT_PER_BLOCK) continue;
        urgentOf.set(entry.account, taken + 1);
      }
      bytes += entry.sizeBytes;
      chosen.push(entry.checked);
    }
    return chosen;
  }
}
