/**
 * Port: an ordered map of bytes on a disk. Implemented on `level` for the node, and by a simulated disk that forgets at
 * a crash what was not synced; one contract suite runs on both. Nothing about blocks or state goes in here.
 */

export type Write =
  | { readonly type: 'put'; readonly key: Uint8Array; readonly value: Uint8Array }
  | { readonly type: 'del'; readonly key: Uint8Array };

export interface Entry {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

export interface ScanRange {
  readonly gte: Uint8Array;
  readonly lt: Uint8Array;
  readonly limit: number;
  readonly reverse?: boolean;
}

/**
 * Every method throws EmrError: STORAGE_FAILED when the disk or the database under it failed (then every later call
 * fails too: half a state is worse than none), DATA_CORRUPT when what was read is damaged, STORAGE_CLOSED.
 */
export interface KeyValueStore {
  /** Bytes as they were stored; the caller does not change them. Blocks the thread: for small, warm values. */
  getSync(key: Uint8Array): Uint8Array | undefined;
  get(key: Uint8Array): Promise<Uint8Array | undefined>;
  /** At most `limit` entries in ascending order of keys, or descending when `reverse`. */
  scan(range: ScanRange): Promise<Entry[]>;
  /**
   * All or nothing. With `sync` it survives a loss of power when this returns, and so does every earlier write; without,
   * a crash may lose it, but then every later unsynced write as well.
   */
  write(writes: readonly Write[], options: { readonly sync: boolean }): Promise<void>;
  /** Waits for what is being written. */
  close(): Promise<void>;
}
