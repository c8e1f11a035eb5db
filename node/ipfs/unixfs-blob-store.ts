/**
 * The blob store over any blockstore: uploads and fetches as sessions that end whole or leave nothing, ranged reads,
 * pins, cleaning. One implementation of the rules for the embedded store and for Kubo; only where blocks lie differs.
 */

import type { CID } from 'multiformats/cid';
import { CID as Cid } from 'multiformats/cid';
import { EmrError, accept, reject } from '../../common/errors.ts';
import type { Verdict } from '../../common/errors.ts';
import { importBlob } from '../../common/native/unixfs-cid.ts';
import type { BlobSummary, ImportOptions } from '../../common/native/unixfs-cid.ts';
import { checkBlobCid } from '../../common/unixfs-layout.ts';
import type { DagLimits, DagShape } from '../../common/unixfs-layout.ts';
import { BlobLedger } from './blob-ledger.ts';
import type { Holder } from './blob-ledger.ts';
import { FETCH_FAULTS } from './blob-store.ts';
import type {
  BlobIndex,
  BlobStat,
  BlobStore,
  BlobUsage,
  Blockstore,
  CatOptions,
  FetchOptions,
  GetBlockFromPeer,
} from './blob-store.ts';
import { fetchTree } from './dag-fetch.ts';
import { checkBlock } from './dag-node.ts';
import { isWhole, readRange } from './dag-walk.ts';
import type { ReadBlock } from './dag-walk.ts';
import { KeyedMutex } from './keyed-mutex.ts';

/** Uploads and fetches at a time: each holds some 8 MiB in flight, so together 128 MiB. */
const MAX_SESSIONS = 16;

const DEFAULT_PARALLELISM = 4;
const MAX_PARALLELISM = 16;

/** A block shared by more blobs than this is no ciphertext; the first ones decide. */
const MAX_ROOTS_OF = 16;

const MAX_PAGE = 1_000;

export interface UnixfsBlobStoreOptions {
  readonly blocks: Blockstore;
  readonly index: BlobIndex;
  /** This node's clock, in ms since 1970: the age of staged blobs. Default: the machine's. */
  readonly nowMs?: () => number;
}

function notFound(root: CID): EmrError {
  return new EmrError('BLOB_NOT_FOUND', 'This file is not stored here.', { cid: root.toString() });
}

function statOf(holder: Holder): BlobStat {
  return {
    ...holder.shape,
    cid: Cid.parse(holder.root),
    state: holder.state === 'pinned' ? 'pinned' : 'staged',
    createdMs: holder.createdMs,
  };
}

function withinLimits(shape: DagShape, limits: DagLimits): boolean {
  return (
    shape.sizeBytes <= limits.maxSizeBytes && shape.blockCount <= limits.maxBlocks && shape.depth <= limits.maxDepth
  );
}

export class UnixfsBlobStore implements BlobStore {
  readonly #blocks: Blockstore;
  readonly #ledger: BlobLedger;
  readonly #nowMs: () => number;
  /** What becomes of one root (finish, pin, remove) happens in turn. */
  readonly #roots = new KeyedMutex();
  readonly #sessions = new Set<Promise<unknown>>();
  /** Holders that a running fetch fills: not to be collected. */
  readonly #live = new Set<string>();
  readonly #fetching = new Set<string>();
  readonly #closing = new AbortController();

  private constructor(options: UnixfsBlobStoreOptions) {
    this.#blocks = options.blocks;
    this.#ledger = new BlobLedger(options.index, options.blocks);
    this.#nowMs = options.nowMs ?? Date.now;
  }

  /** Takes over a blockstore and its index, and undoes what an earlier run left unfinished. */
  static async open(options: UnixfsBlobStoreOptions): Promise<UnixfsBlobStore> {
    const store = new UnixfsBlobStore(options);
    await store.#ledger.recover();
    return store;
  }

  async add(source: AsyncIterable<Uint8Array>, options: ImportOptions = {}): Promise<BlobSummary> {
    return this.#session(options.signal, async (signal) => {
      const summary = await this.#upload(source, options, signal);
      await this.#protect(summary.cid, signal);
      return summary;
    });
  }

  async #upload(source: AsyncIterable<Uint8Array>, options: ImportOptions, signal: AbortSignal): Promise<BlobSummary> {
    const holder = await this.#ledger.begin(this.#nowMs());
    const writing = new Set<Promise<void>>();
    try {
      const summary = await importBlob(
        source,
        (cid, bytes) => {
          const write = this.#keep(holder, cid, bytes, signal).finally(() => writing.delete(write));
          writing.add(write);
          return write;
        },
        { ...options, signal },
      );
      await this.#finish(holder, summary.cid, summary);
      return summary;
    } catch (error) {
      // The importer gives up at the first error; the other writes of its batch are still under way.
      await Promise.allSettled(writing);
      await this.#ledger.letGo(holder);
      throw error;
    }
  }

  async fetchDag(
    root: CID,
    limits: DagLimits,
    getBlockFromPeer: GetBlockFromPeer,
    options: FetchOptions = {},
  ): Promise<Verdict<BlobStat>> {
    const named = checkBlobCid(root);
    if (!named.ok) return named;
    const key = root.toString();
    if (this.#fetching.has(key)) {
      throw new EmrError('BLOB_BUSY', 'This file is being fetched already: wait for that.', { cid: key });
    }
    this.#fetching.add(key);
    try {
      return await this.#session(options.signal, async (signal) => {
        const present = await this.#ledger.blob(root);
        if (present !== undefined && (await this.#whole(root, present.shape, signal))) {
          return withinLimits(present.shape, limits)
            ? accept(statOf(present))
            : reject('DAG_EXCEEDS_DECLARED', 'the file is here, and is larger than was declared');
        }
        const parallelism = Math.min(Math.max(options.parallelism ?? DEFAULT_PARALLELISM, 1), MAX_PARALLELISM);
        return this.#fetchInto(root, limits, getBlockFromPeer, parallelism, signal);
      });
    } finally {
      this.#fetching.delete(key);
    }
  }

  async #fetchInto(
    root: CID,
    limits: DagLimits,
    getBlockFromPeer: GetBlockFromPeer,
    parallelism: number,
    signal: AbortSignal,
  ): Promise<Verdict<BlobStat>> {
    const holder = await this.#roots.run(root.toString(), async () => {
      const known = (await this.#ledger.openFetch(root)) ?? (await this.#ledger.begin(this.#nowMs(), root));
      this.#live.add(known.id);
      return known;
    });
    try {
      const fetched = await fetchTree(root, {
        limits,
        getBlockFromPeer,
        parallelism,
        signal,
        target: {
          read: (cid) => this.#readOrSetAside(cid, signal),
          sizeOf: (cid) => this.#blocks.sizeOf(cid, signal),
          hold: (cid, sizeBytes) => this.#ledger.hold(holder, cid, sizeBytes),
          write: (cid, bytes) => this.#blocks.put(cid, bytes, signal),
        },
      });
      if (fetched.ok) {
        const blob = await this.#finish(holder, root, fetched.value);
        await this.#protect(root, signal);
        return accept(statOf(blob));
      }
      if (FETCH_FAULTS[fetched.code] === 'record') await this.#ledger.letGo(holder);
      return fetched;
    } finally {
      this.#live.delete(holder.id);
    }
  }

  async *cat(root: CID, options: CatOptions = {}): AsyncGenerator<Uint8Array> {
    const holder = await this.#blob(root);
    const { sizeBytes } = holder.shape;
    const start = options.offsetBytes ?? 0;
    const length = options.lengthBytes ?? sizeBytes;
    if (!Number.isSafeInteger(start) || start < 0 || start > sizeBytes || !Number.isSafeInteger(length) || length < 0) {
      throw new EmrError('RANGE_INVALID', `The file has ${sizeBytes} bytes: ask for a range within it.`, { sizeBytes });
    }
    const signal =
      options.signal === undefined ? this.#closing.signal : AbortSignal.any([options.signal, this.#closing.signal]);
    const range = { start, end: Math.min(start + length, sizeBytes) };
    for await (const bytes of readRange(root, holder.shape, this.#reader(signal), range)) {
      signal.throwIfAborted();
      yield bytes;
    }
  }

  async getBlock(cid: CID, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    this.#assertOpen();
    if (!checkBlobCid(cid).ok || !(await this.#ledger.isHeld(cid))) return undefined;
    return this.#reader(signal)(cid);
  }

  async rootsOf(block: CID): Promise<CID[]> {
    this.#assertOpen();
    return (await this.#ledger.blobsWith(block, MAX_ROOTS_OF)).map((holder) => Cid.parse(holder.root));
  }

  async has(root: CID, signal?: AbortSignal): Promise<boolean> {
    this.#assertOpen();
    const holder = await this.#ledger.blob(root);
    return holder !== undefined && this.#whole(root, holder.shape, signal);
  }

  async stat(root: CID): Promise<BlobStat | undefined> {
    this.#assertOpen();
    const holder = await this.#ledger.blob(root);
    return holder === undefined ? undefined : statOf(holder);
  }

  async list(page: { readonly after?: CID; readonly limit: number }): Promise<BlobStat[]> {
    this.#assertOpen();
    return (await this.#ledger.page(page.after, Math.min(page.limit, MAX_PAGE))).map(statOf);
  }

  async pin(root: CID, signal?: AbortSignal): Promise<void> {
    this.#assertOpen();
    await this.#roots.run(root.toString(), async () => {
      const holder = await this.#blob(root);
      if (!(await this.#whole(root, holder.shape, signal))) {
        throw new EmrError('BLOB_INCOMPLETE', 'Blocks of this file are missing here: fetch it again.', {
          cid: root.toString(),
        });
      }
      await this.#blocks.protect(root, signal);
      if (holder.state === 'staged') await this.#ledger.turn(holder, 'pinned');
    });
  }

  async remove(root: CID): Promise<boolean> {
    this.#assertOpen();
    const holder = await this.#roots.run(root.toString(), async () => {
      const blob = await this.#ledger.blob(root);
      return blob === undefined ? undefined : this.#leave(blob);
    });
    if (holder !== undefined) await this.#ledger.letGo(holder);
    return (await this.#dropHalfFetched(root)) || holder !== undefined;
  }

  async gcStaged(age: { readonly olderThanMs: number; readonly nowMs: number }): Promise<{ removedCount: number }> {
    this.#assertOpen();
    let removedCount = 0;
    for await (const seen of this.#ledger.holders()) {
      if (seen.createdMs >= age.nowMs - age.olderThanMs || seen.root === '') continue;
      const root = Cid.parse(seen.root);
      if (seen.state === 'staged' && (await this.#collect(root, seen.id))) removedCount++;
      if (seen.state === 'open' && (await this.#dropHalfFetched(root))) removedCount++;
    }
    return { removedCount };
  }

  /** Undoes an interrupted fetch; one that is running stays. */
  async #dropHalfFetched(root: CID): Promise<boolean> {
    return this.#roots.run(root.toString(), async () => {
      const half = await this.#ledger.openFetch(root);
      if (half === undefined || this.#live.has(half.id)) return false;
      await this.#ledger.letGo(half);
      return true;
    });
  }

  /** Removes a staged blob, unless it has been pinned, or removed and stored anew, since it was seen. */
  async #collect(root: CID, id: string): Promise<boolean> {
    const holder = await this.#roots.run(root.toString(), async () => {
      const blob = await this.#ledger.blob(root);
      return blob?.state === 'staged' && blob.id === id ? this.#leave(blob) : undefined;
    });
    if (holder === undefined) return false;
    await this.#ledger.letGo(holder);
    return true;
  }

  /** Marks a blob as leaving; from here on it is not found, and a restart goes on with the removal. */
  async #leave(blob: Holder): Promise<Holder> {
    const leaving = await this.#ledger.turn(blob, 'leaving');
    // Within the root's turn: what protects a copy that is added next must not end with this one.
    await this.#blocks.unprotect(Cid.parse(blob.root));
    return leaving;
  }

  usage(): BlobUsage {
    return this.#ledger.usage();
  }

  async close(): Promise<void> {
    this.#closing.abort(new EmrError('IPFS_CLOSED', 'The file store is closed.'));
    await Promise.allSettled(this.#sessions);
    await this.#blocks.close();
  }

  #assertOpen(): void {
    this.#closing.signal.throwIfAborted();
  }

  /** Runs an upload or a fetch under the bound on their number, ended by the caller's signal or by `close`. */
  async #session<T>(outer: AbortSignal | undefined, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    this.#assertOpen();
    outer?.throwIfAborted();
    if (this.#sessions.size >= MAX_SESSIONS) {
      throw new EmrError('IPFS_BUSY', 'Too many files are being stored at the same time: try again later.', {
        maxSessions: MAX_SESSIONS,
      });
    }
    const signal = outer === undefined ? this.#closing.signal : AbortSignal.any([outer, this.#closing.signal]);
    const running = work(signal);
    this.#sessions.add(running);
    try {
      return await running;
    } finally {
      this.#sessions.delete(running);
    }
  }

  async #blob(root: CID): Promise<Holder> {
    this.#assertOpen();
    const holder = await this.#ledger.blob(root);
    if (holder === undefined) throw notFound(root);
    return holder;
  }

  async #keep(holder: Holder, cid: CID, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    await this.#ledger.hold(holder, cid, bytes.length);
    if ((await this.#blocks.sizeOf(cid, signal)) !== bytes.length) await this.#blocks.put(cid, bytes, signal);
  }

  /** Makes a filled holder a blob; when the blob is there already, the holder goes and the blob stays as it was. */
  async #finish(holder: Holder, root: CID, shape: DagShape): Promise<Holder> {
    const { sizeBytes, dagSizeBytes, blockCount, depth } = shape;
    const blob = await this.#roots.run(
      root.toString(),
      async () =>
        (await this.#ledger.blob(root)) ??
        (await this.#ledger.finish(holder, root, { sizeBytes, dagSizeBytes, blockCount, depth })),
    );
    if (blob.id !== holder.id) await this.#ledger.letGo(holder);
    return blob;
  }

  async #protect(root: CID, signal: AbortSignal): Promise<void> {
    await this.#roots.run(root.toString(), async () => {
      // Removed since it was finished: protecting it now would protect it for ever.
      if ((await this.#ledger.blob(root)) === undefined) throw notFound(root);
      await this.#blocks.protect(root, signal);
    });
  }

  async #whole(root: CID, shape: DagShape, signal?: AbortSignal): Promise<boolean> {
    return isWhole(root, shape, this.#reader(signal), (cid) => this.#blocks.sizeOf(cid, signal));
  }

  /** Reads a block and checks its hash. One that is damaged is set aside, so that a fetch writes it anew. */
  #reader(signal: AbortSignal | undefined): ReadBlock {
    return async (cid) => {
      const bytes = await this.#blocks.get(cid, signal);
      if (bytes === undefined || checkBlock(cid, bytes).ok) return bytes;
      // A daemon deletes nothing that is pinned; who fetches the blob anew, or pins it, protects it again.
      for (const blob of await this.#ledger.blobsWith(cid, MAX_ROOTS_OF)) {
        await this.#blocks.unprotect(Cid.parse(blob.root));
      }
      await this.#blocks.setAside(cid);
      throw new EmrError('BLOCK_CORRUPT', 'A stored block is damaged; fetch the file again, and check the disk.', {
        block: cid.toString(),
      });
    };
  }

  async #readOrSetAside(cid: CID, signal: AbortSignal): Promise<Uint8Array | undefined> {
    try {
      return await this.#reader(signal)(cid);
    } catch (error) {
      if (error instanceof EmrError && error.code === 'BLOCK_CORRUPT') return undefined;
      throw error;
    }
  }
}
