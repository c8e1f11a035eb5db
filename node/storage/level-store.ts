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

/**
 * V8 keeps the bytes of arrays up to this length beside the object, and moves them out when native code asks for them: that
 * takes longer than the read or write itself. A copy that lies outside from the beginning is cheaper.
 */
const HEAP_BYTES = 64;

/** One array for each length, over the same memory: for what is used before anything else is copied. */
const COPIES: readonly Uint8Array[] = ((memory) =>
  Array.from({ length: HEAP_BYTES + 1 }, (_, length) => new Uint8Array(memory, 0, length)))(
  new ArrayBuffer(HEAP_BYTES),
);

function outsideForNow(bytes: Uint8Array): Uint8Array {
  const copy = COPIES[bytes.length];
  copy?.set(bytes);
  return copy ?? bytes;
}

/** Copies of what is short, one behind the other; each stays as it is. */
class OutsideCopies {
  readonly #memory: ArrayBuffer;
  #at = 0;

  constructor(writes: readonly Write[]) {
    let lengthBytes = 0;
    for (const write of writes)
      lengthBytes += shortBytes(write.key) + (write.type === 'put' ? shortBytes(write.value) : 0);
    this.#memory = new ArrayBuffer(lengthBytes);
  }

  of(bytes: Uint8Array): Uint8Array {
    const length = shortBytes(bytes);
    if (length === 0) return bytes;
    const copy = new Uint8Array(this.#memory, this.#at, length);
    this.#at += length;
    copy.set(bytes);
    return copy;
  }
}

const shortBytes = ({ length }: Uint8Array): number => (length > HEAP_BYTES ? 0 : length);

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

type Batch = ReturnType<Level<Uint8Array, Uint8Array>['batch']>;

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
      const value = this.#db.getSync(outsideForNow(key));
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
      await this.#batchOf(writes).write(options);
    } catch (cause) {
      throw this.#fail('write', cause);
    }
  }

  /** Operations go to the database one by one: of an array, it would clone each and look at its options. */
  #batchOf(writes: readonly Write[]): Batch {
    const outside = new OutsideCopies(writes);
    const batch = this.#db.batch();
    for (const write of writes) {
      if (write.type === 'put') batch.put(outside.of(write.key), outside.of(write.value));
      else batch.del(outside.of(write.key));
    }
    return batch;
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
