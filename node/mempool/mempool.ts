/**
 * Takes in transactions from clients and peers, holds those that execute on the head until a block has them, and says
 * what became of each. Everything that comes in is checked before it is kept; what stays long is checked again.
 */
import { accept, reject, type Verdict } from '../../common/errors.ts';
import type { Hash, Height, TimeMs } from '../../common/protocol/primitives.ts';
import { txHash } from '../../common/protocol/transaction.ts';
import { priorityOf } from '../../vm/index.ts';
import type { CheckedTransaction, SimulationResult } from '../../vm/types.ts';
import type { Clock } from '../clock.ts';
import { hashKey } from '../verification/hash-key.ts';
import type { RawTransaction, TransactionChecker } from '../verification/transaction-checker.ts';
import { Pool, type PoolEntry, type PoolLimits } from './pool.ts';
import { sizeOf } from './transaction-frame.ts';

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
  #underCheck = 0;
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
  async submit(raw: RawTransaction): Promise<Verdict<{ readonly hash: Hash }>> {
    const [verdict] = await this.admit([raw], true);
    return verdict as Verdict<{ readonly hash: Hash }>;
  }

  /**
   * Transactions of clients (`isLocal`) or peers, the verdicts in their order. Pool codes: ALREADY_PENDING,
   * ALREADY_COMMITTED, POOL_FULL, ACCOUNT_QUOTA.
   */
  async admit(raws: readonly RawTransaction[], isLocal: boolean): Promise<Verdict<{ readonly hash: Hash }>[]> {
    const verdicts = raws.map((raw) => this.#known(txHash(raw.bytes)));
    const fresh = raws.flatMap((raw, at) => (verdicts[at] === undefined ? [{ raw, at }] : []));
    if (this.#underCheck + fresh.length > MAX_UNDER_CHECK) {
      for (const { at } of fresh) verdicts[at] = reject('POOL_FULL', 'too many transactions are being verified');
    } else if (fresh.length > 0) {
      this.#underCheck += fresh.length;
      try {
        const checked = await this.#ports.checker.checkMany(
          fresh.map(({ raw }) => raw),
          'pool',
        );
        checked.forEach((verdict, index) => {
          const { raw, at } = fresh[index] as { raw: RawTransaction; at: number };
          verdicts[at] = verdict.ok ? this.#take(verdict.value, raw, isLocal) : verdict;
        });
      } finally {
        this.#underCheck -= fresh.length;
      }
    }
    return verdicts.map((verdict) => {
      const final = verdict ?? reject('POOL_FULL', 'not looked at');
      if (!final.ok && final.code !== 'ALREADY_PENDING') this.#count(final.code);
      return final;
    });
  }

  /** As `submit`, but nothing is kept. */
  async simulate(raw: RawTransaction): Promise<SimulationResult> {
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
    for (const { tx, code, message } of rejected) this.#drop(hashKey(tx.tx.hash), code, message);
    if (rejected.length > 0) this.#changed();
  }

  /**
   * A block became durable and the head of the executor.
   * @returns how long those of its transactions that were here had waited, in milliseconds
   */
  committed(txHashes: readonly Hash[]): readonly number[] {
    const nowMs = this.#ports.clock.nowMs();
    const waitedMs: number[] = [];
    for (const hash of txHashes) {
      const key = hashKey(hash);
      const entry = this.#pool.remove(key);
      if (entry !== undefined) waitedMs.push(nowMs - entry.receivedMs);
      this.#parked.delete(key);
      this.#dropped.delete(key);
    }
    this.#retryParked();
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

  /** In the order in which blocks will take them. */
  entries(): Iterable<PoolEntry> {
    return this.#pool.entries();
  }

  #known(hash: Hash): Verdict<{ readonly hash: Hash }> | undefined {
    if (this.#pool.get(hashKey(hash)) !== undefined)
      return reject('ALREADY_PENDING', 'the transaction waits for a block');
    if (this.#ports.locate(hash) !== null) return reject('ALREADY_COMMITTED', 'a block has this transaction');
    return undefined;
  }

  #take(checked: CheckedTransaction, raw: RawTransaction, isLocal: boolean): Verdict<{ readonly hash: Hash }> {
    const { hash } = checked.tx;
    // It may have come twice while its signatures were verified.
    const known = this.#known(hash);
    if (known !== undefined) return known;
    const nowMs = this.#ports.clock.nowMs();
    const simulated = this.#ports.simulate(checked, nowMs);
    if (!simulated.ok) {
      if (!isLocal && !FINAL_CODES.has(simulated.code)) this.#park(checked, raw.sidecar);
      return simulated;
    }
    const entry = entryOf(checked, raw.sidecar, isLocal, nowMs);
    const room = this.#pool.room(entry);
    if (!room.ok) return room;
    this.#pool.add(entry);
    this.#dropped.delete(entry.key);
    if (isLocal) this.#ports.spread(raw);
    this.#changed();
    return accept({ hash });
  }

  #park(checked: CheckedTransaction, sidecar: Uint8Array | null): void {
    if (this.#parked.size < MAX_PARKED) this.#parked.set(hashKey(checked.tx.hash), { checked, sidecar, tries: 0 });
  }

  #retryParked(): void {
    const nowMs = this.#ports.clock.nowMs();
    for (const [key, parked] of this.#parked) {
      parked.tries += 1;
      const simulated = this.#ports.simulate(parked.checked, nowMs);
      if (!simulated.ok && parked.tries < PARKED_TRIES && !FINAL_CODES.has(simulated.code)) continue;
      this.#parked.delete(key);
      const entry = entryOf(parked.checked, parked.sidecar, false, nowMs);
      if (simulated.ok && this.#pool.get(key) === undefined && this.#pool.room(entry).ok) this.#pool.add(entry);
    }
  }

  /** Those not looked at for longest: an expired or overtaken transaction must not wait for a leader to find out. */
  #recheck(): void {
    const nowMs = this.#ports.clock.nowMs();
    let looked = 0;
    for (const entry of [...this.#pool.entries()]) {
      if (looked >= RECHECKED_AT_ONCE) break;
      if (nowMs - entry.checkedMs < RECHECK_AFTER_MS) continue;
      looked += 1;
      entry.checkedMs = nowMs;
      const simulated = this.#ports.simulate(entry.checked, nowMs);
      if (!simulated.ok) this.#drop(entry.key, simulated.code, simulated.message);
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

function entryOf(checked: CheckedTransaction, sidecar: Uint8Array | null, isLocal: boolean, nowMs: TimeMs): PoolEntry {
  const { tx } = checked;
  return {
    key: hashKey(tx.hash),
    checked,
    sidecar,
    sizeBytes: sizeOf({ bytes: tx.bytes, sidecar }),
    account: hashKey(tx.body.account),
    priority: priorityOf(tx.body.call),
    isLocal,
    receivedMs: nowMs,
    checkedMs: nowMs,
    escalatedMs: 0,
  };
}
