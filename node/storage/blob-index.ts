/** The blob store's index, kept under a prefix of its own in the node's database. */
import type { BlobIndex, IndexWrite } from '../ipfs/blob-store.ts';
import type { KeyValueStore } from './key-value-store.ts';
import { blobNameOf, storageKey, storageRange } from './keyspace.ts';

export function createBlobIndex(kv: KeyValueStore): BlobIndex {
  return {
    get: (key) => kv.get(storageKey.blobIndex(key)),
    write: (writes: readonly IndexWrite[]) =>
      kv.write(
        writes.map((write) =>
          write.kind === 'put'
            ? { type: 'put', key: storageKey.blobIndex(write.key), value: write.value }
            : { type: 'del', key: storageKey.blobIndex(write.key) },
        ),
        { sync: true },
      ),
    async list(prefix, limit, after) {
      const entries = await kv.scan({ ...storageRange.blobIndex(prefix, after), limit });
      return entries.map(({ key, value }) => ({ key: blobNameOf(key), value }));
    },
  };
}
