/**
 * Where ciphertext lies: the interface that the node uses, and the two ports that an implementation stands on.
 *
 * A *blob* is one encrypted file as a UnixFS DAG in the layout of `common/unixfs-layout.ts`, named by its root CID.
 * Every stored block belongs to a blob: there is no way to put a lone block, since nobody would account for it or
 * remove it. A blob is *staged* until the chain has committed its record, then *pinned*; staged ones are collected.
 * What is stored is ciphertext; this folder never sees a key, and knows nothing of records, grants or peers.
 *
 * Error codes thrown (EmrError): BLOB_NOT_FOUND, BLOB_INCOMPLETE, BLOB_TOO_LARGE, BLOB_BUSY, RANGE_INVALID,
 * BLOCK_CORRUPT, IPFS_BUSY, IPFS_CLOSED, IPFS_UNAVAILABLE, IPFS_FAILED, IPFS_STORAGE_FULL, KUBO_OPEN_TO_WORLD.
 * Verdict codes of a fetch: see `FETCH_FAULTS`.
 */

import type { CID } from 'multiformats/cid';
import type { Verdict } from '../../common/errors.ts';
import type { BlobSummary, ImportOptions } from '../../common/native/unixfs-cid.ts';
import type { DagLimits, DagShape } from '../../common/unixfs-layout.ts';

export type BlobState = 'staged' | 'pinned';

export interface BlobStat extends DagShape {
  readonly cid: CID;
  readonly state: BlobState;
  /** When it was stored here, by this node's clock, in ms since 1970. */
  readonly createdMs: number;
}

/** Bytes on disk by state, as if no two blobs shared a block (each file has its own key, so they do not). */
export interface BlobUsage {
  readonly blobCount: number;
  readonly stagedBytes: number;
  readonly pinnedBytes: number;
  /** Blocks of uploads and fetches that are under way or were interrupted. */
  readonly openBytes: number;
}

/**
 * Why a fetch refused what it got, and who is to blame: a peer that sent something else than the block it was asked
 * for (ask another; what was fetched stays, for the next try), or the record, whose CID names what it must not (no
 * peer can help; nothing is kept).
 */
export const FETCH_FAULTS: Readonly<Record<string, 'peer' | 'record'>> = {
  BLOCK_HASH_MISMATCH: 'peer',
  BLOCK_TOO_LARGE: 'peer',
  CID_UNSUPPORTED: 'record',
  DAG_EXCEEDS_DECLARED: 'record',
  DAG_MALFORMED: 'record',
};

/**
 * Asks peers for one block. Rejects with its own error when nobody has it; that error ends the fetch and comes out of
 * it. May stop reading after `MAX_BLOCK_SIZE_BYTES`. What it returns is not trusted.
 */
export type GetBlockFromPeer = (cid: CID, signal: AbortSignal) => Promise<Uint8Array>;

export interface FetchOptions {
  readonly signal?: AbortSignal;
  /** Blocks asked for at the same time, 1 to 16. Default 4. */
  readonly parallelism?: number;
}

export interface CatOptions {
  /** First byte wanted. Default 0. */
  readonly offsetBytes?: number;
  /** Bytes wanted; the stream ends earlier where the blob does. Default: to the end. */
  readonly lengthBytes?: number;
  readonly signal?: AbortSignal;
}

export interface BlobStore {
  /**
   * Stores a file, durably, as staged (as it was, if it is here already). Parameters and errors as `importBlob`.
   * After a failure nothing of it is left, or it is staged and will be collected.
   */
  add(source: AsyncIterable<Uint8Array>, options?: ImportOptions): Promise<BlobSummary>;

  /**
   * Pulls a blob block by block. Every block is checked against its CID, every node against the layout; more than
   * `limits` or than its parent claimed is refused before it is stored. Blocks that are here already are not asked
   * for, after a restart neither. Ends durable and staged, or unchanged if the blob is here already.
   * @throws EmrError BLOB_BUSY when this blob is being fetched already; IPFS_BUSY; what `getBlockFromPeer` throws
   */
  fetchDag(
    root: CID,
    limits: DagLimits,
    getBlockFromPeer: GetBlockFromPeer,
    options?: FetchOptions,
  ): Promise<Verdict<BlobStat>>;

  /**
   * The bytes of a blob, in order, each block checked against its hash; at most a few blocks in memory.
   * @throws EmrError BLOB_NOT_FOUND, RANGE_INVALID, BLOB_INCOMPLETE, BLOCK_CORRUPT (then fetch it anew)
   */
  cat(root: CID, options?: CatOptions): AsyncIterable<Uint8Array>;

  /**
   * One block of a blob that is here, checked against its hash; undefined when there is none. Blocks that belong to
   * no blob are never given out, even if the daemon below has them: it may hold other things of the hospital.
   */
  getBlock(cid: CID, signal?: AbortSignal): Promise<Uint8Array | undefined>;

  /** At most 16 blobs that a block belongs to: whoever serves it decides by their records. */
  rootsOf(block: CID): Promise<CID[]>;

  /** True when the blob is here with every block. Costs a look at each block. */
  has(root: CID, signal?: AbortSignal): Promise<boolean>;

  stat(root: CID): Promise<BlobStat | undefined>;

  /** Blobs in the order of their CID's text. `after` is the last CID of the previous page. */
  list(page: { readonly after?: CID; readonly limit: number }): Promise<BlobStat[]>;

  /**
   * Keeps a staged blob for good. Looks at every block first: what a receipt promises must be on disk.
   * @throws EmrError BLOB_NOT_FOUND, BLOB_INCOMPLETE
   */
  pin(root: CID, signal?: AbortSignal): Promise<void>;

  /** Deletes a blob, and an interrupted fetch of it; blocks that another blob shares stay. True if there was any. */
  remove(root: CID): Promise<boolean>;

  /** Removes what has been staged, or lies half fetched, since before `nowMs - olderThanMs`. */
  gcStaged(age: { readonly olderThanMs: number; readonly nowMs: number }): Promise<{ removedCount: number }>;

  usage(): BlobUsage;

  /** Waits for what is being written. Nothing may be called afterwards. */
  close(): Promise<void>;
}

/** One change of the index. Keys are printable ASCII, at most 200 bytes. */
export type IndexWrite =
  | { readonly kind: 'put'; readonly key: string; readonly value: Uint8Array }
  | { readonly kind: 'del'; readonly key: string };

/**
 * Port: a small ordered map, kept by the node's one database under a prefix of its own. Who holds which block is
 * written here before the block is, so that a crash can leave no block that nobody knows of.
 */
export interface BlobIndex {
  get(key: string): Promise<Uint8Array | undefined>;
  /** All or nothing, and on disk (synced) when it returns. At most 1,100 writes at once. */
  write(writes: readonly IndexWrite[]): Promise<void>;
  /** At most `limit` entries whose key starts with `prefix` and sorts after `after`, in ascending byte order. */
  list(prefix: string, limit: number, after?: string): Promise<{ readonly key: string; readonly value: Uint8Array }[]>;
}

/**
 * Port: where blocks lie. Knows blocks by their sha2-256, nothing of blobs. Given checked blocks only; what it gives
 * back is checked by the caller.
 */
export interface Blockstore {
  /** Visible only when whole. Writing what is there already is no error. */
  put(cid: CID, bytes: Uint8Array, signal?: AbortSignal): Promise<void>;
  get(cid: CID, signal?: AbortSignal): Promise<Uint8Array | undefined>;
  /** Bytes of the block, or undefined when it is absent. */
  sizeOf(cid: CID, signal?: AbortSignal): Promise<number | undefined>;
  /** Absent ones are no error. */
  delete(cids: readonly CID[]): Promise<void>;
  /** Takes a damaged block out of sight, so that it counts as absent and can be written again. */
  setAside(cid: CID): Promise<void>;
  /** Everything put so far survives a loss of power when this returns, and nobody else's cleaning removes the DAG. */
  protect(root: CID, signal?: AbortSignal): Promise<void>;
  /** Ends what `protect` began; a root that was not protected is no error. */
  unprotect(root: CID): Promise<void>;
  close(): Promise<void>;
}
