/** Runs seeds on several threads; what a seed gives does not depend on which thread has it, nor on what ran before. */
import { Worker } from 'node:worker_threads';
import type { RunResult } from './random-run.ts';
import type { SeedWork } from './seed-worker.ts';

/** Seeds that a thread has at a time: one runs while the next waits. */
const SEEDS_PER_THREAD = 2;

/**
 * @param each gets the results as they come, in no order; true ends the run early
 */
export async function runSeeds(
  seeds: Iterable<number>,
  threads: number,
  work: SeedWork,
  each: (result: RunResult) => boolean | void,
): Promise<void> {
  const waiting = seeds[Symbol.iterator]();
  let ended = false;
  const runThread = async (): Promise<void> => {
    // Nothing of the parent's command line (test runners load themselves by it) is the thread's business.
    const worker = new Worker(new URL('./seed-worker.ts', import.meta.url), { workerData: work, execArgv: [] });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    let running = 0;
    const give = (): void => {
      const next = ended ? undefined : waiting.next();
      if (next === undefined || next.done === true) {
        if (running === 0) resolve();
        return;
      }
      running += 1;
      worker.postMessage(next.value);
    };
    worker.on('message', (result: RunResult) => {
      running -= 1;
      if (each(result) === true) ended = true;
      give();
    });
    worker.on('error', reject);
    for (let i = 0; i < SEEDS_PER_THREAD; i += 1) give();
    try {
      await promise;
    } finally {
      await worker.terminate();
    }
  };
  await Promise.all(Array.from({ length: threads }, runThread));
}
