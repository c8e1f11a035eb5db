/** Patches of the sources, put in as the files are loaded: nothing on disk changes. */
import { registerHooks } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

export interface Patch {
  /** From the root of the project. */
  readonly file: string;
  /** A text that stands in the file exactly once. */
  readonly find: string;
  readonly replace: string;
}

export const PROJECT_ROOT = join(import.meta.dirname, '..');

/** @throws when the patch is stale: its text is gone from the file, or is there more than once */
export function patched(source: string, { file, find, replace }: Patch): string {
  const parts = source.split(find);
  if (parts.length !== 2) throw new Error(`a patch is stale: ${file} has its text ${parts.length - 1} times: ${find}`);
  return parts.join(replace);
}

/** For all files that this thread loads from now on. */
export function registerPatches(patches: readonly Patch[]): void {
  const byUrl = Map.groupBy(patches, (patch) => pathToFileURL(join(PROJECT_ROOT, patch.file)).href);
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
