/** Opens the store of ciphertext that the configuration names: files in the data folder, or a Kubo daemon. */
import { join } from 'node:path';
import type { NodeConfig } from '../../config/node-config.ts';
import type { BlobIndex, BlobStore } from '../ipfs/blob-store.ts';
import { openEmbeddedStore, openKuboStore } from '../ipfs/open.ts';
import type { Log } from '../log.ts';

/** @throws EmrError IPFS_*, KUBO_OPEN_TO_WORLD */
export async function openCiphertext(
  config: Pick<NodeConfig, 'ipfs' | 'storage'>,
  index: BlobIndex,
  log: Log,
): Promise<BlobStore> {
  const { ipfs, storage } = config;
  if (ipfs.kind === 'embedded') {
    return openEmbeddedStore({ dir: join(storage.dir, 'blobs'), index: under('embedded/', index) });
  }
  const { host } = new URL(ipfs.api);
  const { store, report } = await openKuboStore({
    kubo: { url: ipfs.api },
    index: under(`kubo/${host}/`, index),
    acceptOpenDaemon: ipfs.allowOpenDaemon,
  });
  for (const warning of report.warnings) log.warn({ host, warning }, 'the Kubo daemon should be looked at');
  for (const { code, remedy } of report.findings) {
    log.warn({ host, code, remedy }, 'the Kubo daemon is open to the world, which the configuration accepts');
  }
  return store;
}

/** Part of an index for one store alone: what another holds, it must not take for its own. */
function under(prefix: string, index: BlobIndex): BlobIndex {
  return {
    get: (key) => index.get(prefix + key),
    write: (writes) => index.write(writes.map((write) => ({ ...write, key: prefix + write.key }))),
    list: async (names, limit, after) => {
      const found = await index.list(prefix + names, limit, after === undefined ? undefined : prefix + after);
      return found.map(({ key, value }) => ({ key: key.slice(prefix.length), value }));
    },
  };
}
