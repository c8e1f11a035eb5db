/**
 * A thread that runs random simulations: of the core as it is, or of one with patches (weaknesses.ts) that are put in as the
 * files are loaded. It answers each seed with its result.
 */
import { parentPort, workerData } from 'node:worker_threads';
import type { RunOptions } from './random-run.ts';
import { type Patch, registerPatches } from '../../scripts/patching.ts';

/** What a thread is started with. */
export interface SeedWork {
  readonly patches: readonly Patch[];
  readonly options: RunOptions;
}

const { patches, options } = workerData as SeedWork;
if (patches.length > 0) registerPatches(patches);

const { randomRun } = await import('./random-run.ts');
parentPort?.on('message', (seed: number) => parentPort?.postMessage(randomRun(seed, options)));
