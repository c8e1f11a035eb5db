/**
 * Blocks as files: the embedded default, for a hospital that runs no Kubo.
 *
 *   <dir>/blocks/<first byte of the sha2-256>/<sha2-256>   one file per block
 *   <dir>/writing/                                          files that are not whole yet; emptied at start
 *   <dir>/damaged/                                          blocks whose bytes no longer match their name
 *
 * A block is written aside, synced, and renamed into place, so a name never stands for half a block, after a loss of
 * power neither; the names themselves are synced by `protect`. blockstore-fs was not taken because it does none of
 * that, writes every block of a name through one temporary file, and reports every read error as "not found".
 */

import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, rename, rm, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { CID } from 'multiformats/cid';
import { bytesToHex } from '../../common/bytes.ts';
import { EmrError } from '../../common/errors.ts';
import { syncDirectory } from '../../common/native/sync-directory.ts';
import { MAX_BLOCK_SIZE_BYTES } from '../../common/unixfs-layout.ts';
import type { Blockstore } from './blob-store.ts';
import { KeyedMutex } from './keyed-mutex.ts';

/** 256 folders: at a terabyte some 4,000 files in each, which every file system lists quickly. */
const SHARDS = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}

function failed(action: string, error: unknown): EmrError {
  const reason = error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
  if (reason === 'ENOSPC' || reason === 'EDQUOT') {
    return new EmrError(
      'IPFS_STORAGE_FULL',
      'The disk of the file store is full: free space or enlarge it.',
      {},
      { cause: error },
    );
  }
  return new EmrError(
    'IPFS_FAILED',
    `The file store could not ${action} (${reason}): check its disk.`,
    { reason },
    { cause: error },
  );
}

export class FileBlockstore implements Blockstore {
  readonly #dir: string;
  /** Folders with names that are not synced yet. */
  readonly #unsynced = new Set<string>();
  readonly #syncing = new KeyedMutex();

  private constructor(dir: string) {
    this.#dir = dir;
  }

  /** Opens the store in `dir`, which is made when missing. The caller sees to it that no other process has it. */
  static async open(dir: string): Promise<FileBlockstore> {
    const store = new FileBlockstore(dir);
    try {
      await rm(join(dir, 'writing'), { recursive: true, force: true });
      for (const folder of ['writing', 'damaged', 'blocks']) {
        await mkdir(join(dir, folder), { recursive: true, mode: 0o700 });
      }
      for (const shard of SHARDS) {
        await mkdir(join(dir, 'blocks', shard), { recursive: true, mode: 0o700 });
        // An earlier run may have ended between a rename and its sync.
        store.#unsynced.add(shard);
      }
      await syncDirectory(join(dir, 'blocks'));
      await syncDirectory(dir);
    } catch (error) {
      throw failed('open its folder', error);
    }
    return store;
  }

  #pathOf(cid: CID): { shard: string; path: string; name: string } {
    const name = bytesToHex(cid.multihash.digest);
    const shard = name.slice(0, 2);
    return { shard, name, path: join(this.#dir, 'blocks', shard, name) };
  }

  async put(cid: CID, bytes: Uint8Array): Promise<void> {
    const { shard, path } = this.#pathOf(cid);
    const aside = join(this.#dir, 'writing', randomBytes(12).toString('hex'));
    try {
      const file = await open(aside, 'wx', 0o600);
      try {
        await file.writeFile(bytes);
        await file.datasync();
      } finally {
        await file.close();
      }
      await rename(aside, path);
      this.#unsynced.add(shard);
    } catch (error) {
      await rm(aside, { force: true }).catch(() => {}); // the next start empties the folder anyway
      throw failed('write a block', error);
    }
  }

  async get(cid: CID): Promise<Uint8Array | undefined> {
    try {
      const file = await open(this.#pathOf(cid).path, 'r');
      try {
        const { size } = await file.stat();
        // A damaged file may have any length; nobody should read gigabytes to find out.
        return size > MAX_BLOCK_SIZE_BYTES ? new Uint8Array(0) : new Uint8Array(await file.readFile());
      } finally {
        await file.close();
      }
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return undefined;
      throw failed('read a block', error);
    }
  }

  async sizeOf(cid: CID): Promise<number | undefined> {
    try {
      return (await stat(this.#pathOf(cid).path)).size;
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return undefined;
      throw failed('look at a block', error);
    }
  }

  async delete(cids: readonly CID[]): Promise<void> {
    for (const cid of cids) {
      try {
        await unlink(this.#pathOf(cid).path);
      } catch (error) {
        if (!isErrno(error, 'ENOENT')) throw failed('delete a block', error);
      }
    }
  }

  async setAside(cid: CID): Promise<void> {
    const { path, name } = this.#pathOf(cid);
    try {
      await rename(path, join(this.#dir, 'damaged', name));
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw failed('set a damaged block aside', error);
    }
  }

  /** File contents are synced by `put`; what is left are the names. */
  async protect(): Promise<void> {
    // In turn: who comes second must not return before the first has synced the folders that both wrote to.
    await this.#syncing.run('folders', async () => {
      const shards = [...this.#unsynced];
      this.#unsynced.clear();
      try {
        for (const shard of shards) await syncDirectory(join(this.#dir, 'blocks', shard));
      } catch (error) {
        for (const shard of shards) this.#unsynced.add(shard);
        throw failed('sync its folders', error);
      }
    });
  }

  async unprotect(): Promise<void> {}

  async close(): Promise<void> {}

  /** Names of all blocks there are, for tests and for counting. */
  async names(): Promise<string[]> {
    const names: string[] = [];
    for (const shard of SHARDS) names.push(...(await readdir(join(this.#dir, 'blocks', shard))));
    return names;
  }
}
