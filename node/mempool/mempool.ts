/**
 * Takes in transactions from clients and peers, holds those that execute on the head until a block has them, and says
 * what became of each. Everything that comes in is checked before it is kept; what stays long is checked again.
 *
 * Signatures are checked by every node, always. Execution is checked by the node that a client gave the transaction to; a
 * member that passes it on vouches for that, and a node that is busy believes it: the block that takes the transaction
 * is executed anyway. While few transactions wait, this node has executed all of them: one that no block can
 * take must not make a block due for long.
 */
import { accept, reject, type Verdict } from '../../common/errors.ts';
import type { Hash, Height, TimeMs } from '../../common/protocol/primitives.ts';
import { priorityOf } from '../../vm/index.ts';
import type { CheckedTransaction, SimulationResult } from '../../vm/types.ts';
import type { Clock } from '../clock.ts';
import { hashKey } from '../verification/hash-key.ts';
import {
  named,
  type NamedTransaction,
  type RawTransaction,
  type TransactionChecker,
} from '../verification/transaction-checker.ts';
import { Pool, type PoolEntry, type PoolLimits } from './pool.ts';
import { sizeOf } from './transaction-frame.ts';
import { Vouchers } from './vouchers.ts';

/** Transactions whose signatures are being verified: more than a second's work means that the node is overloaded. */
const MAX_UNDER_CHECK = 2_000;
/** Fates of transactions that left without being committed, for their submitters to ask: some 200 bytes each. */
const MAX_DROPPED = 10_000;
/**
 * Transactions of peers that do not execute on this head, but may on the peer's, which can be a block further. They get
 * a second look after the next blocks: some 1 MB.
 */
const MAX_PARKED = 1_000;
const PARKED_TRIES = 3;
/** A pending transaction is executed again on the head after this long, so many of them at a time (some 0.1 ms each). */
const RECHECK_AFTER_MS = 2_000;
const RECHECKED_AT_ONCE = 100;
const TICK_MS = 1_000;
/** From so many waiting transactions on the node is busy: blocks follow each other, and members are believed. */
const BUSY_TRANSACTIONS = 64;

/** Codes that no later block can mend. */
const FINAL_CODES: ReadonlySet<string> = new Set([
  'TX_REPLAYED',
  'TX_EXPIRED',
  'CHAIN_ID_MISMATCH',
  'UNSUPPORTED_VERSION',
  'BAD_CAPSULE',
  'BAD_DEALING',
  'CUSTODY_SAID_ALREADY',
]);

export interface MempoolPorts {
  readonly clock: Clock;
  readonly limits: PoolLimits;
  readonly checker: TransactionChecker;
  /** One transaction on the head. */
  simulate(tx: CheckedTransaction, nowMs: TimeMs): SimulationResult;
  /** What can be said of it on the head without executing it. */
  checkEnvelope(tx: CheckedTransaction, nowMs: TimeMs): Verdict;
  /** Where the chain has a transaction, if it has. */
  locate(txHash: Hash): { readonly height: Height; readonly index: number } | null;
  /** A client's transaction was accepted: tell the others. */
  spread(tx: RawTransaction): void;
}

export type TxStatus =
  | { readonly kind: 'unknown' }
  | { readonly kind: 'pending' }
  | { readonly kind: 'committed'; readonly height: Height; readonly index: number }
  | { readonly kind: 'dropped'; readonly code: string; readonly message: string };

export interface Dropped {
  readonly hash: Hash;
  readonly code: string;
  readonly message: string;
}

interface Parked {
  readonly checked: CheckedTransaction;
  readonly sidecar: Uint8Array | null;
  readonly from: string;
  tries: number;
}

export class Mempool {
  readonly #ports: MempoolPorts;
  readonly #pool: Pool;
  readonly #parked = new Map<string, Parked>();
  readonly #dropped = new Map<string, { readonly code: string; readonly message: string }>();
  readonly #rejections = new Map<string, number>();
  readonly #changeListeners = new Set<() => void>();
  readonly #dropListeners = new Set<(dropped: Dropped) => void>();
  readonly #vouchers = new Vouchers();
  #underCheck = 0;
  /**
   * By key, those whose signatures are being verified: whether a block has taken one meanwhile. To ask the chain for each
   * again would cost as much as to ask when it came. At most MAX_UNDER_CHECK.
   */
  readonly #takenUnderCheck = new Map<string, boolean>();
  #cancelTick: () => void = () => {};

  constructor(ports: MempoolPorts) {
    this.#ports = ports;
    this.#pool = new Pool(ports.limits);
  }

  start(): void {
    this.#cancelTick = this.#ports.clock.after(TICK_MS, () => {
      this.#recheck();
      this.start();
    });
  }

  stop(): void {
    this.#cancelTick();
  }

  get size(): number {
    return this.#pool.size;
  }

  get bytes(): number {
    return this.#pool.bytes;
  }

  get limits(): PoolLimits {
    return this.#pool.limits;
  }

  /** Many wait: what is spared on each counts for more than that each is quick. */
  get isBusy(): boolean {
    return this.#pool.size >= BUSY_TRANSACTIONS;
  }

  /** Refusals since start, by code: at most the codes that codec, vm and pool have. */
  get rejections(): ReadonlyMap<string, number> {
    return this.#rejections;
  }

  /** Called after the pool went from empty to not empty, or back. */
  onChange(listener: () => void): () => void {
    this.#changeListeners.add(listener);
    return () => this.#changeListeners.delete(listener);
  }

  onDropped(listener: (dropped: Dropped) => void): () => void {
    this.#dropListeners.add(listener);
    return () => this.#dropListeners.delete(listener);
  }

  /** A client's transaction. */
  async submit(raw: RawTransaction | NamedTransaction): Promise<Verdict<{ readonly hash: Hash }>> {
    const [verdict] = await this.admit([raw], null);
    return verdict as Verdict<{ readonly hash: Hash }>;
  }

  /**
   * Transactions, the verdicts in their order. Pool codes: ALREADY_PENDING, ALREADY_COMMITTED, POOL_FULL, ACCOUNT_QUOTA.
   * @param from peer id of the member that they come from; null for those of this node's clients
   */
  async admit(
    raws: readonly (RawTransaction | NamedTransaction)[],
    from: string | null,
  ): Promise<Verdict<{ readonly hash: Hash }>[]> {
    const txs = raws.map(named);
    const verdicts = txs.map((tx) => this.#known(tx));
    const fresh = txs.flatMap((tx, at) => (verdicts[at] === undefined ? [{ tx, at }] : []));
    if (this.#underCheck + fresh.length > MAX_UNDER_CHECK) {
      for (const { at } of fresh) verdicts[at] = reject('POOL_FULL', 'too many transactions are being verified');
    } else if (fresh.length > 0) {
      this.#underCheck += fresh.length;
      for (const { tx } of fresh) this.#takenUnderCheck.set(tx.key, false);
      try {
        const checked = await this.#ports.checker.checkMany(
          fresh.map(({ tx }) => tx),
          'pool',
        );
        checked.forEach((verdict, index) => {
          const { tx, at } = fresh[index] as { tx: NamedTransaction; at: number };
          verdicts[at] = verdict.ok ? this.#take(verdict.value, tx, from) : verdict;
        });
      } finally {
        this.#underCheck -= fresh.length;
        for (const { tx } of fresh) this.#takenUnderCheck.delete(tx.key);
      }
    }
    return verdicts.map((verdict) => {
      const final = verdict ?? reject('POOL_FULL', 'not looked at');
      if (!final.ok && final.code !== 'ALREADY_PENDING') this.#count(final.code);
      return final;
    });
  }

  /** As `submit`, but nothing is kept. */
  async simulate(raw: RawTransaction | NamedTransaction): Promise<SimulationResult> {
    const checked = await this.#ports.checker.check(raw, 'pool');
    return checked.ok ? this.#ports.simulate(checked.value, this.#ports.clock.nowMs()) : checked;
  }

  candidates(maxTxs: number, maxBytes: number): CheckedTransaction[] {
    return this.#pool.candidates(maxTxs, maxBytes);
  }

  /** Building a block on the head found that these do not execute. */
  reject(
    rejected: readonly { readonly tx: CheckedTransaction; readonly code: string; readonly message: string }[],
  ): void {
    for (const { tx, code, message } of rejected) {
      const entry = this.#pool.get(hashKey(tx.tx.hash));
      if (entry !== undefined) this.#failed(entry, code, message);
    }
    if (rejected.length > 0) this.#changed();
  }

  /**
   * A block became durable and the head of the executor.
   * @returns how long those of its transactions that were here had waited, in milliseconds
   */
  committed(txHashes: readonly Hash[]): readonly number[] {
    const nowMs = this.#ports.clock.nowMs();
    const waitedMs: number[] = [];
    const keys = txHashes.map(hashKey);
    this.#ports.checker.forget(keys);
    for (const key of keys) {
      if (this.#takenUnderCheck.has(key)) this.#takenUnderCheck.set(key, true);
      const entry = this.#pool.remove(key);
      if (entry !== undefined) {
        waitedMs.push(nowMs - entry.receivedMs);
        if (entry.from !== null) this.#vouchers.committed(entry.from);
      }
      this.#parked.delete(key);
      this.#dropped.delete(key);
    }
    this.#retryParked();
    if (!this.isBusy) this.#executeVouched();
    this.#changed();
    return waitedMs;
  }

  status(hash: Hash): TxStatus {
    const key = hashKey(hash);
    if (this.#pool.get(key) !== undefined || this.#parked.has(key)) return { kind: 'pending' };
    const found = this.#ports.locate(hash);
    if (found !== null) return { kind: 'committed', ...found };
    const dropped = this.#dropped.get(key);
    return dropped === undefined ? { kind: 'unknown' } : { kind: 'dropped', ...dropped };
  }

  /** The oldest that came before this moment, at most so many. */
  overdue(beforeMs: TimeMs, max: number): readonly PoolEntry[] {
    return this.#pool.overdue(beforeMs, max);
  }

  /** Whether a transaction is pending and executes on the head as it is. */
  executes(key: string): boolean {
    const entry = this.#pool.get(key);
    return entry !== undefined && this.#ports.simulate(entry.checked, this.#ports.clock.nowMs()).ok;
  }

  /** As `Pool.waiting`. */
  waiting(leastMs: number): Iterable<PoolEntry> {
    return this.#pool.waiting(leastMs, this.#ports.clock.nowMs());
  }

  /** In the order in which blocks will take them. */
  entries(): Iterable<PoolEntry> {
    return this.#pool.entries();
  }

  #known({ hash, key }: NamedTransaction): Verdict<{ readonly hash: Hash }> | undefined {
    if (this.#pool.get(key) !== undefined) return PENDING;
    return this.#ports.locate(hash) === null ? undefined : COMMITTED;
  }

  /** `#known`, of one that was not when its check began. */
  #knownSince(tx: NamedTransaction): Verdict<{ readonly hash: Hash }> | undefined {
    const isTaken = this.#takenUnderCheck.get(tx.key);
    // Another copy of it was under check as well, and has ended first.
    if (isTaken === undefined) return this.#known(tx);
    if (this.#pool.get(tx.key) !== undefined) return PENDING;
    return isTaken ? COMMITTED : undefined;
  }

  #take(checked: CheckedTransaction, tx: NamedTransaction, from: string | null): Verdict<{ readonly hash: Hash }> {
    const { hash, key, bytes, sidecar } = tx;
    // It may have come twice while its signatures were verified, or in a block.
    const known = this.#knownSince(tx);
    if (known !== undefined) return known;
    const nowMs = this.#ports.clock.nowMs();
    const isVouched = from !== null && this.isBusy && this.#vouchers.believes(from);
    const verdict = isVouched ? this.#ports.checkEnvelope(checked, nowMs) : this.#ports.simulate(checked, nowMs);
    if (!verdict.ok) {
      // The head may be at a block that the pool has yet to hear of.
      if (verdict.code === 'TX_REPLAYED' && this.#ports.locate(hash) !== null) return COMMITTED;
      if (from !== null) this.#park(checked, sidecar, from, verdict.code);
      return verdict;
    }
    const entry = entryOf(checked, sidecar, { from, executed: !isVouched, nowMs });
    const room = this.#pool.room(entry);
    if (!room.ok) return room;
    this.#pool.add(entry);
    this.#dropped.delete(key);
    if (from === null) this.#ports.spread({ bytes, sidecar });
    this.#changed();
    return accept({ hash });
  }

  #park(checked: CheckedTransaction, sidecar: Uint8Array | null, from: string, code: string): void {
    if (FINAL_CODES.has(code) || this.#parked.size >= MAX_PARKED) return;
    this.#parked.set(hashKey(checked.tx.hash), { checked, sidecar, from, tries: 0 });
  }

  /** What waits on a member's word alone, once so few are left that blocks may stay away. */
  #executeVouched(): void {
    const nowMs = this.#ports.clock.nowMs();
    for (const entry of [...this.#pool.entries()]) {
      if (entry.executed) continue;
      const simulated = this.#ports.simulate(entry.checked, nowMs);
      if (simulated.ok) entry.executed = true;
      else this.#failed(entry, simulated.code, simulated.message);
    }
  }

  /** A pending transaction does not execute. One that never has here gets the second look that its member's word kept from it. */
  #failed({ key, executed, from, checked, sidecar }: PoolEntry, code: string, message: string): void {
    if (executed || from === null) return this.#drop(key, code, message);
    this.#vouchers.failed(from);
    this.#count(code);
    this.#pool.remove(key);
    this.#park(checked, sidecar, from, code);
  }

  #retryParked(): void {
    const nowMs = this.#ports.clock.nowMs();
    for (const [key, parked] of this.#parked) {
      parked.tries += 1;
      const simulated = this.#ports.simulate(parked.checked, nowMs);
      if (!simulated.ok && parked.tries < PARKED_TRIES && !FINAL_CODES.has(simulated.code)) continue;
      this.#parked.delete(key);
      const entry = entryOf(parked.checked, parked.sidecar, { from: parked.from, executed: true, nowMs });
      if (simulated.ok && this.#pool.get(key) === undefined && this.#pool.room(entry).ok) this.#pool.add(entry);
    }
  }

  /** Those not looked at for longest: an expired or overtaken transaction must not wait for a leader to find out. */
  #recheck(): void {
    const nowMs = this.#ports.clock.nowMs();
    let looked = 0;
    for (const entry of this.#pool.waiting(RECHECK_AFTER_MS, nowMs)) {
      if (looked >= RECHECKED_AT_ONCE) break;
      if (nowMs - entry.checkedMs < RECHECK_AFTER_MS) continue;
      looked += 1;
      entry.checkedMs = nowMs;
      const simulated = this.#ports.simulate(entry.checked, nowMs);
      if (simulated.ok) entry.executed = true;
      else this.#failed(entry, simulated.code, simulated.message);
    }
    this.#changed();
  }

  #drop(key: string, code: string, message: string): void {
    const entry = this.#pool.remove(key);
    if (entry === undefined) return;
    this.#count(code);
    if (this.#dropped.size >= MAX_DROPPED) {
      const oldest = this.#dropped.keys().next();
      if (!oldest.done) this.#dropped.delete(oldest.value);
    }
    this.#dropped.set(key, { code, message });
    for (const listener of this.#dropListeners) listener({ hash: entry.checked.tx.hash, code, message });
  }

  #count(code: string): void {
    this.#rejections.set(code, (this.#rejections.get(code) ?? 0) + 1);
  }

  #wasEmpty = true;

  #changed(): void {
    const isEmpty = this.#pool.size === 0;
    if (isEmpty === this.#wasEmpty) return;
    this.#wasEmpty = isEmpty;
    for (const listener of this.#changeListeners) listener();
  }
}

const PENDING = reject('ALREADY_PENDING', 'the transaction waits for a block');
const COMMITTED = reject('ALREADY_COMMITTED', 'a block has this transaction');

function entryOf(
  checked: CheckedTransaction,
  sidecar: Uint8Array | null,
  { from, executed, nowMs }: { readonly from: string | null; readonly executed: boolean; readonly nowMs: TimeMs },
): PoolEntry {
  const { tx } = checked;
  return {
    key: hashKey(tx.hash),
    checked,
    sidecar,
    sizeBytes: sizeOf({ bytes: tx.bytes, sidecar }),
    account: hashKey(tx.body.account),
    priority: priorityOf(tx.body.call),
    from,
    executed,
    receivedMs: nowMs,
    checkedMs: nowMs,
    escalatedMs: 0,
  };
}
