/**
 * Verifies signatures in slices, so that the thread stays free for sockets and timers, and the urgent before the rest:
 * a vote that waits behind a thousand pool transactions costs a view change. Callers see an asynchronous batch; where
 * the work is done may change without them.
 */
import type { Sm2Engine, Sm2Verification } from '../../common/crypto/sm2.ts';

/** Highest first. */
export const PRIORITIES = ['consensus', 'block', 'pool'] as const;
export type Priority = (typeof PRIORITIES)[number];

/** The thread is given back after this long. A single verification takes some 0.4 ms. */
const SLICE_MS = 4;
/** Signatures verified between two looks at the clock. */
const STRIDE = 4;

interface Job {
  readonly items: readonly Sm2Verification[];
  readonly results: boolean[];
  priority: Priority;
  readonly resolve: (results: boolean[]) => void;
}

export interface Verification {
  /** In the order of the items. */
  readonly results: Promise<boolean[]>;
  /** Somebody more urgent waits for the same signatures. */
  promote(priority: Priority): void;
}

export interface VerifierCounts {
  readonly verified: number;
  readonly busyMs: number;
  readonly waiting: number;
}

export class Verifier {
  readonly #engine: Sm2Engine;
  readonly #nowMs: () => number;
  /** Bounded by the callers: each bounds what it has under way. */
  readonly #queues: Record<Priority, Job[]> = { consensus: [], block: [], pool: [] };
  #scheduled = false;
  #verified = 0;
  #busyMs = 0;
  #waiting = 0;

  /** @param nowMs a monotonic clock in milliseconds */
  constructor(engine: Sm2Engine, nowMs: () => number = () => performance.now()) {
    this.#engine = engine;
    this.#nowMs = nowMs;
  }

  get engine(): Sm2Engine {
    return this.#engine;
  }

  counts(): VerifierCounts {
    return { verified: this.#verified, busyMs: this.#busyMs, waiting: this.#waiting };
  }

  verify(items: readonly Sm2Verification[], priority: Priority): Verification {
    if (items.length === 0) return { results: Promise.resolve([]), promote: () => {} };
    const { promise, resolve } = Promise.withResolvers<boolean[]>();
    const job: Job = { items, results: [], priority, resolve };
    this.#queues[priority].push(job);
    this.#waiting += items.length;
    this.#schedule();
    return { results: promise, promote: (to) => this.#promote(job, to) };
  }

  #promote(job: Job, to: Priority): void {
    if (PRIORITIES.indexOf(to) >= PRIORITIES.indexOf(job.priority)) return;
    const from = this.#queues[job.priority];
    const at = from.indexOf(job);
    if (at === -1) return;
    from.splice(at, 1);
    job.priority = to;
    this.#queues[to].push(job);
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
    for (let job = this.#next(); job !== undefined; job = this.#next()) {
      const from = job.results.length;
      const slice = job.items.slice(from, from + STRIDE);
      job.results.push(...this.#engine.verifyBatch(slice));
      this.#verified += slice.length;
      this.#waiting -= slice.length;
      if (job.results.length === job.items.length) {
        this.#queues[job.priority].shift();
        job.resolve(job.results);
      }
      if (this.#nowMs() - started >= SLICE_MS) break;
    }
    this.#busyMs += this.#nowMs() - started;
    if (this.#next() !== undefined) this.#schedule();
  }

  #next(): Job | undefined {
    return this.#queues.consensus[0] ?? this.#queues.block[0] ?? this.#queues.pool[0];
  }
}
