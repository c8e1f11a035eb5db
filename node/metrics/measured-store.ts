/** A key-value store that tells how long its writes take and how much they write; otherwise the one that it wraps. */
import type { KeyValueStore, Write } from '../storage/key-value-store.ts';

export interface WriteMeasure {
  readonly sync: boolean;
  readonly durationMs: number;
  readonly sizeBytes: number;
}

export function measuredStore(kv: KeyValueStore, observe: (write: WriteMeasure) => void): KeyValueStore {
  return {
    getSync: (key) => kv.getSync(key),
    get: (key) => kv.get(key),
    scan: (range) => kv.scan(range),
    async write(writes, options) {
      const startedMs = performance.now();
      await kv.write(writes, options);
      observe({ sync: options.sync, durationMs: performance.now() - startedMs, sizeBytes: sizeOf(writes) });
    },
    close: () => kv.close(),
  };
}

function sizeOf(writes: readonly Write[]): number {
  let bytes = 0;
  for (const write of writes) bytes += write.key.length + (write.type === 'put' ? write.value.length : 0);
  return bytes;
}
