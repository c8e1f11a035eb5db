/**
 * Threads that verify signatures while the main one does everything else. Each has a piece of shared memory for one batch:
 * what it works on is in there, and nothing else is under way. They are started when there is work for them for the
 * first time: a node of a quiet chain never has them.
 *
 * A thread that fails, or would verify by another engine than this one, is left alone from then on: the main thread can do
 * all of it. What must not go in: which signatures come first.
 */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { Sm2Verification } from '../../common/crypto/sm2.ts';
import { BATCH_BYTES, readVerdicts, writeItems } from './shared-batch.ts';

/** One verifies some ten thousand a second, which is more than all the rest of a node keeps up with. */
const MAX_WORKERS = 2;

export type FromWorker =
  { readonly kind: 'ready'; readonly engine: string } | { readonly kind: 'verified'; readonly count: number };

/** @param results as many as were taken; null when they have to be verified elsewhere */
export type Done = (results: readonly boolean[] | null) => void;

export interface WorkersOptions {
  /** Name of the main thread's engine. */
  readonly engine: string;
  /** Something can be taken, or nothing ever will. */
  readonly changed: () => void;
  /** A thread is not used any more. */
  readonly failed: (reason: string) => void;
  /** Default: one for each processor beside the first, two at most. */
  readonly count?: number;
}

interface Thread {
  readonly worker: Worker;
  readonly memory: Uint8Array;
  state: 'starting' | 'free' | 'busy';
  done: Done | null;
}

/** As the system shows it. */
export const THREAD_NAME = 'verify';

const SOURCE = new URL('./worker.ts', import.meta.url);

export class VerificationWorkers {
  readonly #options: WorkersOptions;
  readonly #threads = new Set<Thread>();
  #started = false;
  #stopped = false;

  constructor(options: WorkersOptions) {
    this.#options = options;
  }

  /** Whether there are threads, or soon will be. */
  get isThere(): boolean {
    return this.#threads.size > 0;
  }

  /** Whether one of them works: when it is done it can be given more. */
  get isBusy(): boolean {
    return [...this.#threads].some(({ state }) => state === 'busy');
  }

  /** Idempotent. On a machine with one processor there are none. */
  start(): void {
    if (this.#started || this.#stopped) return;
    this.#started = true;
    const count = this.#options.count ?? Math.min(MAX_WORKERS, availableParallelism() - 1);
    for (let index = 0; index < count; index += 1) this.#threads.add(this.#open());
  }

  /**
   * Gives a free thread as many of the items as fit, from the first on.
   * @param done called later, once, if any was taken
   * @returns how many were taken: none where no thread is free, or the first does not fit
   */
  take(items: readonly Sm2Verification[], done: Done): number {
    const free = [...this.#threads].find(({ state }) => state === 'free');
    if (free === undefined) return 0;
    const count = writeItems(free.memory, items);
    if (count === 0) return 0;
    free.state = 'busy';
    free.done = done;
    free.worker.postMessage(count);
    return count;
  }

  /** What is under way is given back. */
  async stop(): Promise<void> {
    this.#stopped = true;
    const threads = [...this.#threads];
    for (const thread of threads) this.#leave(thread);
    if (threads.length > 0) this.#options.changed();
    await Promise.all(threads.map(({ worker }) => worker.terminate()));
  }

  #open(): Thread {
    const shared = new SharedArrayBuffer(BATCH_BYTES);
    const worker = new Worker(SOURCE, { name: THREAD_NAME, workerData: shared });
    const thread: Thread = { worker, memory: new Uint8Array(shared), state: 'starting', done: null };
    // It must not keep a process alive that has nothing else to do.
    worker.unref();
    worker.on('message', (message: FromWorker) => this.#onMessage(thread, message));
    worker.on('error', (error) => this.#fail(thread, error instanceof Error ? error.message : String(error)));
    worker.on('exit', (code) => this.#fail(thread, `it ended with ${code}`));
    return thread;
  }

  #onMessage(thread: Thread, message: FromWorker): void {
    if (!this.#threads.has(thread)) return;
    if (message.kind === 'ready' && message.engine !== this.#options.engine) {
      this.#fail(thread, `it verifies by ${message.engine}, and the node by ${this.#options.engine}`);
      void thread.worker.terminate();
      return;
    }
    thread.state = 'free';
    const { done } = thread;
    thread.done = null;
    if (message.kind === 'verified') done?.(readVerdicts(thread.memory, message.count));
    this.#options.changed();
  }

  #fail(thread: Thread, reason: string): void {
    if (!this.#threads.has(thread)) return;
    this.#leave(thread);
    this.#options.failed(reason);
    this.#options.changed();
  }

  #leave(thread: Thread): void {
    this.#threads.delete(thread);
    const { done } = thread;
    thread.done = null;
    done?.(null);
  }
}
