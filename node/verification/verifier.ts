/**
 * Verifies signatures in slices, so that the thread stays free for sockets and timers, and the urgent before the rest:
 * a vote that waits behind a thousand pool transactions costs a view change. Where many wait, other threads verify them; a
 * few are verified here faster than they could be handed over. Callers see an asynchronous batch either way.
 */
import type { Sm2Engine, Sm2Verification } from '../../common/crypto/sm2.ts';
import { MAX_BATCH_ITEMS } from './shared-batch.ts';
import { VerificationWorkers } from './workers.ts';

/** Highest first. */
export const PRIORITIES = ['consensus', 'block', 'pool'] as const;
export type Priority = (typeof PRIORITIES)[number];

/** The thread is given back after this long. A single verification takes some 0.4 ms. */
const SLICE_MS = 4;
/** Signatures verified between two looks at the clock. */
const STRIDE = 4;
/** From so many on, other threads are asked: to hand a batch over costs this one as much as some two verifications. */
const HANDED_FROM = 16;
/** So many waiting at once are more than the bursts of a quiet chain. */
const START_WORKERS_FROM = 128;

interface Job {
  readonly items: readonly Sm2Verification[];
  readonly results: boolean[];
  /** The first that nobody works on. */
  next: number;
  /** Without a result. */
  open: number;
  priority: Priority;
  readonly resolve: (results: boolean[]) => void;
}

/** Items of a job from one on. */
interface Part {
  readonly job: Job;
  readonly from: number;
  readonly count: number;
}

export interface Verification {
  /** In the order of the items. */
  readonly results: Promise<boolean[]>;
  /** Somebody more urgent waits for the same signatures. */
  promote(priority: Priority): void;
}

export interface VerifierCounts {
  readonly verified: number;
  /** Of them, by other threads. */
  readonly byWorkers: number;
  /** Of this thread. */
  readonly busyMs: number;
  readonly waiting: number;
}

export interface VerifierOptions {
  /** A monotonic clock in milliseconds. */
  readonly nowMs?: () => number;
  /** Threads beside this one; none unless told. */
  readonly workers?: 'auto' | number;
  /** A thread failed: this one does its work. */
  readonly onWorkerFailed?: (reason: string) => void;
}

export class Verifier {
  readonly #engine: Sm2Engine;
  readonly #nowMs: () => number;
  readonly #workers: VerificationWorkers;
  /** Jobs that have items which nobody works on. Bounded by the callers: each bounds what it has under way. */
  readonly #queues: Record<Priority, Job[]> = { consensus: [], block: [], pool: [] };
  #scheduled = false;
  #verified = 0;
  #byWorkers = 0;
  #busyMs = 0;
  #waiting = 0;

  constructor(engine: Sm2Engine, { nowMs, workers = 0, onWorkerFailed }: VerifierOptions = {}) {
    this.#engine = engine;
    this.#nowMs = nowMs ?? (() => performance.now());
    this.#workers = new VerificationWorkers({
      engine: engine.name,
      changed: () => this.#schedule(),
      failed: onWorkerFailed ?? (() => undefined),
      ...(workers === 'auto' ? {} : { count: workers }),
    });
  }

  get engine(): Sm2Engine {
    return this.#engine;
  }

  counts(): VerifierCounts {
    return { verified: this.#verified, byWorkers: this.#byWorkers, busyMs: this.#busyMs, waiting: this.#waiting };
  }

  verify(items: readonly Sm2Verification[], priority: Priority): Verification {
    if (items.length === 0) return { results: Promise.resolve([]), promote: () => {} };
    const { promise, resolve } = Promise.withResolvers<boolean[]>();
    const results = new Array<boolean>(items.length).fill(false);
    const job: Job = { items, results, next: 0, open: items.length, priority, resolve };
    this.#queues[priority].push(job);
    this.#waiting += items.length;
    this.#schedule();
    return { results: promise, promote: (to) => this.#promote(job, to) };
  }

  /** Ends the other threads; what they had is verified here. */
  async stop(): Promise<void> {
    await this.#workers.stop();
  }

  #promote(job: Job, to: Priority): void {
    if (PRIORITIES.indexOf(to) >= PRIORITIES.indexOf(job.priority)) return;
    const from = this.#queues[job.priority];
    const at = from.indexOf(job);
    if (at === -1) return;
    from.splice(at, 1);
    job.priority = to;
    this.#queues[to].push(job);
    // What was left to other threads may be this thread's business now.
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#work();
    });
  }

  #work(): void {
    const started = this.#nowMs();
    const areLeft = this.#handOut();
    const next = (): Job | undefined =>
      this.#queues.consensus[0] ?? this.#queues.block[0] ?? (areLeft ? undefined : this.#queues.pool[0]);
    let job = next();
    for (; job !== undefined; job = next()) {
      const part = this.#claim(job, STRIDE);
      this.#settle(part, this.#engine.verifyBatch(itemsOf(part)));
      if (this.#nowMs() - started >= SLICE_MS) break;
    }
    this.#busyMs += this.#nowMs() - started;
    if (next() !== undefined) this.#schedule();
  }

  /**
   * Gives other threads what they can take, the urgent first; votes stay here, being few.
   * @returns whether the rest of the pool's is left to them: they come back for it
   */
  #handOut(): boolean {
    // At most so many are unclaimed: most of the time it ends here.
    if (this.#waiting < HANDED_FROM) return false;
    for (;;) {
      const parts = this.#unclaimed();
      const items = parts.flatMap(itemsOf);
      if (items.length < HANDED_FROM) return false;
      if (items.length >= MAX_BATCH_ITEMS && this.#waiting >= START_WORKERS_FROM) this.#workers.start();
      if (!this.#workers.isThere) return false;
      let handed: Part[] = [];
      const taken = this.#workers.take(items, (results) => this.#returned(handed, results));
      if (taken === 0) return this.#workers.isBusy;
      handed = this.#claimFirst(parts, taken);
    }
  }

  /** The first of what nobody works on, as much as one batch may have; not yet claimed. */
  #unclaimed(): Part[] {
    const parts: Part[] = [];
    let room = MAX_BATCH_ITEMS;
    for (const job of [...this.#queues.block, ...this.#queues.pool]) {
      if (room === 0) break;
      const count = Math.min(room, job.items.length - job.next);
      parts.push({ job, from: job.next, count });
      room -= count;
    }
    return parts;
  }

  #claimFirst(parts: readonly Part[], count: number): Part[] {
    const claimed: Part[] = [];
    let left = count;
    for (const part of parts) {
      if (left === 0) break;
      const own = this.#claim(part.job, Math.min(left, part.count));
      claimed.push(own);
      left -= own.count;
    }
    return claimed;
  }

  /** The next items of a job; it leaves its queue when these are the last. */
  #claim(job: Job, most: number): Part {
    const count = Math.min(most, job.items.length - job.next);
    const part = { job, from: job.next, count };
    job.next += count;
    if (job.next === job.items.length) {
      const queue = this.#queues[job.priority];
      queue.splice(queue.indexOf(job), 1);
    }
    return part;
  }

  #returned(parts: readonly Part[], results: readonly boolean[] | null): void {
    let from = 0;
    for (const part of parts) {
      const own = results === null ? this.#engine.verifyBatch(itemsOf(part)) : results.slice(from, from + part.count);
      this.#settle(part, own);
      from += part.count;
    }
    this.#byWorkers += results?.length ?? 0;
  }

  #settle({ job, from, count }: Part, results: readonly boolean[]): void {
    results.forEach((valid, index) => {
      job.results[from + index] = valid;
    });
    job.open -= count;
    this.#verified += count;
    this.#waiting -= count;
    if (job.open === 0) job.resolve(job.results);
  }
}

const itemsOf = ({ job, from, count }: Part): readonly Sm2Verification[] => job.items.slice(from, from + count);
