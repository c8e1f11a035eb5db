/** The two ways to a blob store: files of our own, the default, or a Kubo daemon of the hospital. */

import { EmrError } from '../../common/errors.ts';
import type { BlobIndex, BlobStore } from './blob-store.ts';
import { FileBlockstore } from './file-blockstore.ts';
import { KuboBlockstore } from './kubo-blockstore.ts';
import { inspectKubo } from './kubo-exposure.ts';
import type { KuboReport } from './kubo-exposure.ts';
import { KuboRpc } from './kubo-rpc.ts';
import type { KuboAddress } from './kubo-rpc.ts';
import { UnixfsBlobStore } from './unixfs-blob-store.ts';

interface StoreOptions {
  /** Bookkeeping of this store alone: another blockstore needs another index. */
  readonly index: BlobIndex;
  /** This node's clock, in ms since 1970. Default: the machine's. */
  readonly nowMs?: () => number;
}

export interface EmbeddedOptions extends StoreOptions {
  /** Folder of the store, for this process alone. Made when missing. */
  readonly dir: string;
}

export interface KuboOptions extends StoreOptions {
  readonly kubo: KuboAddress;
  /** Use a daemon that is open to the world all the same. The operator answers for that; default false. */
  readonly acceptOpenDaemon?: boolean;
}

/** @throws EmrError IPFS_FAILED, IPFS_STORAGE_FULL */
export async function openEmbeddedStore(options: EmbeddedOptions): Promise<BlobStore> {
  return UnixfsBlobStore.open({ ...options, blocks: await FileBlockstore.open(options.dir) });
}

/**
 * @returns the store, and what the daemon looks like: its version, warnings for the log, and with `acceptOpenDaemon`
 *   the findings that were accepted
 * @throws EmrError KUBO_OPEN_TO_WORLD, naming each finding and its remedy; IPFS_UNAVAILABLE, IPFS_FAILED
 */
export async function openKuboStore(options: KuboOptions): Promise<{ store: BlobStore; report: KuboReport }> {
  const rpc = await KuboRpc.to(options.kubo);
  const report = await inspectKubo(rpc);
  if (report.findings.length > 0 && options.acceptOpenDaemon !== true) {
    const list = report.findings.map(({ code, remedy }) => `\n  ${code}: ${remedy}`).join('');
    throw new EmrError(
      'KUBO_OPEN_TO_WORLD',
      `The Kubo daemon at ${rpc.host} is open to the world. Put this right and restart it:${list}`,
      { host: rpc.host, findings: report.findings.map(({ code }) => code).join(',') },
    );
  }
  return { store: await UnixfsBlobStore.open({ ...options, blocks: new KuboBlockstore(rpc) }), report };
}
