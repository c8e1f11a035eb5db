/**
 * A thread that runs random simulations: of the core as it is, or of one with patches (weaknesses.ts) that are put in as the
 * files are loaded. It answers each seed with its result.
 */
import { registerHooks } from 'node:module';
import { pathToFileURL } from 'node:url';
import { join } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import type { RunOptions } from './random-run.ts';
import type { Patch } from './weaknesses.ts';

/** What a thread is started with. */
export interface SeedWork {
  readonly patches: readonly Patch[];
  readonly options: RunOptions;
}

const { patches, options } = workerData as SeedWork;
const root = join(import.meta.dirname, '../..');
const byUrl = Map.groupBy(patches, (patch) => pathToFileURL(join(root, patch.file)).href);

if (patches.length > 0) {
  registerHooks({
    load(url, context, nextLoad) {
      const loaded = nextLoad(url, context);
      const wanted = byUrl.get(url);
      if (wanted === undefined) return loaded;
      const source =
        typeof loaded.source === 'string' ? loaded.source : Buffer.from(loaded.source as Uint8Array).toString();
      return { ...loaded, source: wanted.reduce(patched, source) };
    },
  });
}

function patched(source: string, { file, find, replace }: Patch): string {
  const parts = source.split(find);
  if (parts.length !== 2) throw new Error(`a patch is stale: ${file} has its text ${parts.length - 1} times`);
  return parts.join(replace);
}

const { randomRun } = await import('./random-run.ts');
parentPort?.on('message', (seed: number) => parentPort?.postMessage(randomRun(seed, options)));
