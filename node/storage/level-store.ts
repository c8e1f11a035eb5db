/**
 * The key-value port on LevelDB, through `level`. Turns its errors into ours, with what to do about them, and stays
 * failed once a write has failed. Nothing about blocks or state goes in here.
 */
import { Level } from 'level';
import { EmrError } from '../../common/errors.ts';
import type { Entry, KeyValueStore, ScanRange, Write } from './key-value-store.ts';

/** LevelDB's block cache. State nodes have a cache of their own above; this one serves bodies and indexes. */
const CACHE_BYTES = 32 * 1024 * 1024;
/** A block's batch is a few MiB at most: with the default of 4 MiB nearly each would start a compaction. */
const WRITE_BUFFER_BYTES = 16 * 1024 * 1024;

/** The database hands out Buffers, whose `slice` and JSON form differ from those of a Uint8Array. */
function plain(value: Uint8Array): Uint8Array {
  return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
}

function codesOf(error: unknown): string[] {
  const codes: string[] = [];
  // A cause can be nested a few levels deep; the bound only stops a cycle.
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth += 1) {
    if ('code' in at && typeof at.code === 'string') codes.push(at.code);
  }
  return codes;
}

function textOf(error: unknown): string {
  let text = '';
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth += 1) {
    text = text === '' ? at.message : `${text}: ${at.message}`;
  }
  return text === '' ? String(error) : text;
}

function openError(dir: string, cause: unknown): EmrError {
  const codes = codesOf(cause);
  if (codes.includes('LEVEL_LOCKED')) {
    return new EmrError(
      'DATA_LOCKED',
      `Another process uses the data in ${dir}; stop it first. One directory serves one node.`,
      { dir },
      { cause },
    );
  }
  const text = textOf(cause);
  if (
    codes.includes('LEVEL_CORRUPTION') ||
    /corruption|checksum|missing files|MANIFEST-\d+: No such file/i.test(text)
  ) {
    return new EmrError(
      'DATA_CORRUPT',
      `The database in ${dir} is damaged (${text}). Check the disk, move the directory away, and start again: the node fetches the chain anew from its peers.`,
      { dir },
      { cause },
    );
  }
  return new EmrError(
    'STORAGE_FAILED',
    `The database in ${dir} cannot be opened (${text}). Check that the directory exists, belongs to this user, and that the disk has space.`,
    { dir },
    { cause },
  );
}

class LevelStore implements KeyValueStore {
  readonly #dir: string;
  readonly #db: Level<Uint8Array, Uint8Array>;
  #failure: EmrError | undefined;
  #closed = false;

  constructor(dir: string, db: Level<Uint8Array, Uint8Array>) {
    this.#dir = dir;
    this.#db = db;
  }

  getSync(key: Uint8Array): Uint8Array | undefined {
    this.#assertUsable();
    try {
      const value = this.#db.getSync(key);
      return value === undefined ? undefined : plain(value);
    } catch (cause) {
      throw this.#fail('read', cause);
    }
  }

  async get(key: Uint8Array): Promise<Uint8Array | undefined> {
    this.#assertUsable();
    try {
      // The types of `level` leave out what its documentation says: undefined when there is none.
      const value: Uint8Array | undefined = await this.#db.get(key);
      return value === undefined ? undefined : plain(value);
    } catch (cause) {
      throw this.#fail('read', cause);
    }
  }

  async scan(range: ScanRange): Promise<Entry[]> {
    this.#assertUsable();
    try {
      const found = await this.#db
        .iterator({ gte: range.gte, lt: range.lt, limit: range.limit, reverse: range.reverse ?? false })
        .all();
      return found.map(([key, value]) => ({ key: plain(key), value: plain(value) }));
    } catch (cause) {
      throw this.#fail('read', cause);
    }
  }

  async write(writes: readonly Write[], options: { readonly sync: boolean }): Promise<void> {
    this.#assertUsable();
    try {
      await this.#db.batch([...writes], options);
    } catch (cause) {
      throw this.#fail('write', cause);
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#db.close();
  }

  #assertUsable(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#closed) throw new EmrError('STORAGE_CLOSED', 'The database was closed.', { dir: this.#dir });
  }

  #fail(operation: 'read' | 'write', cause: unknown): EmrError {
    if (this.#closed) return new EmrError('STORAGE_CLOSED', 'The database was closed.', { dir: this.#dir }, { cause });
    const text = textOf(cause);
    const corrupt = codesOf(cause).includes('LEVEL_CORRUPTION') || /corruption|checksum/i.test(text);
    this.#failure = corrupt
      ? new EmrError(
          'DATA_CORRUPT',
          `The database in ${this.#dir} is damaged (${text}). Check the disk, move the directory away, and start again: the node fetches the chain anew from its peers.`,
          { dir: this.#dir, operation },
          { cause },
        )
      : new EmrError(
          'STORAGE_FAILED',
          `The database in ${this.#dir} failed to ${operation} (${text}). Free or mend the disk, then start the node again: nothing that was committed is lost.`,
          { dir: this.#dir, operation },
          { cause },
        );
    return this.#failure;
  }
}

/**
 * Opens or creates the database in `dir`, exclusively.
 * @throws EmrError DATA_LOCKED, DATA_CORRUPT, STORAGE_FAILED
 */
export async function openLevelStore(dir: string): Promise<KeyValueStore> {
  const db = new Level<Uint8Array, Uint8Array>(dir, {
    keyEncoding: 'view',
    valueEncoding: 'view',
    cacheSize: CACHE_BYTES,
    writeBufferSize: WRITE_BUFFER_BYTES,
    // What a node stores is hashes, keys and signatures: to unpack a block of them again for each small read is half of what the
    // read costs.
    compression: false,
  });
  try {
    await db.open();
  } catch (cause) {
    // The constructor opens by itself too: leave nothing half open behind.
    await db.close().catch(() => undefined);
    throw openError(dir, cause);
  }
  return new LevelStore(dir, db);
}
