/**
 * What this node remembers about ciphertext beside the bytes: which committed records name it, who uploaded it here,
 * who holds it, and up to which height the chain has been looked at. Kept in the node's one database.
 */
import { bytesToHex, equalBytes } from '../../common/bytes.ts';
import { type Codec, decodeTrusted, encode, list, struct, type TypeOf, uint } from '../../common/codec.ts';
import { address, cidBytes, hash32, height, orgId, signature, timeMs } from '../../common/protocol/primitives.ts';
import { MAX_VALIDATORS } from '../../common/protocol/primitives.ts';
import type { BlobIndex, IndexWrite } from '../ipfs/blob-store.ts';
import { KeyedMutex } from '../ipfs/keyed-mutex.ts';

/** A committed record version that names a CID. */
export const namedBlob = struct({
  cid: cidBytes,
  recordId: hash32,
  version: uint(),
  orgId,
  sizeBytes: uint(),
  dataDigest: hash32,
  height,
});
export type NamedBlob = TypeOf<typeof namedBlob>;

/**
 * A CID can be named by anybody, with any digest: the digest is part of the name here, so that a record that lies about
 * somebody's ciphertext has replicas, receipts and a fate of its own.
 */
export type BlobName = Pick<NamedBlob, 'cid' | 'dataDigest'>;

export const storedReceipt = struct({ orgId, holder: address, signature, atMs: timeMs });
export type StoredReceipt = TypeOf<typeof storedReceipt>;

const receiptList = list(storedReceipt, MAX_VALIDATORS);
/** Who sent it here. Kept while it is staged; a record's reader needs no uploader. */
const upload = struct({ account: address, orgId });
export type Upload = TypeOf<typeof upload>;
/** SM3 of bytes that are here: a CID stands for the same bytes for ever, so it is computed once. */
const digestEntry = struct({ dataDigest: hash32 });
const cursor = struct({ height });

/** Records that name one CID and are looked at, the oldest first: who comes later, perhaps to harm them, comes after. */
const MAX_NAMES = 64;
/** What the index takes at once. */
const MAX_WRITES = 1_000;

const cidOf = (cid: Uint8Array): string => bytesToHex(cid);
const nameOf = ({ cid, dataDigest }: BlobName): string => `${bytesToHex(cid)}/${bytesToHex(dataDigest)}`;
/** In order of the text as of the number: a block holds at most 5,000 transactions, heights stay below 10^15. */
const place = (at: number, index: number): string =>
  `${String(at).padStart(15, '0')}-${String(index).padStart(4, '0')}`;

const keyOf = {
  namesOf: (cid: Uint8Array): string => `replication/named/${cidOf(cid)}/`,
  named: ({ cid, height: at }: NamedBlob, index: number): string =>
    `replication/named/${cidOf(cid)}/${place(at, index)}`,
  pair: (name: BlobName): string => `replication/pair/${nameOf(name)}`,
  open: (name: BlobName): string => `replication/open/${nameOf(name)}`,
  receipts: (name: BlobName): string => `replication/receipts/${nameOf(name)}`,
  upload: (cid: Uint8Array): string => `replication/upload/${cidOf(cid)}`,
  digest: (cid: Uint8Array): string => `replication/digest/${cidOf(cid)}`,
  cursor: 'replication/cursor',
} as const;

export class BlobRecords {
  readonly #index: BlobIndex;
  readonly #receiptLists = new KeyedMutex();

  constructor(index: BlobIndex) {
    this.#index = index;
  }

  async #get<T>(key: string, codec: Codec<T>, what: string): Promise<T | undefined> {
    const found = await this.#index.get(key);
    return found && decodeTrusted(codec, found, what);
  }

  /** The records that name a CID, oldest first, at most 64; those with one digest tell the truth, if any do. */
  async named(cid: Uint8Array): Promise<readonly NamedBlob[]> {
    const found = await this.#index.list(keyOf.namesOf(cid), MAX_NAMES);
    return found.map(({ value }) => decodeTrusted(namedBlob, value, 'named blob'));
  }

  /** Whether some record names the CID with this digest, however many others name it otherwise. */
  async isNamed(name: BlobName): Promise<boolean> {
    return (await this.#index.get(keyOf.pair(name))) !== undefined;
  }

  /**
   * Notes the records of one block, in the order of their transactions, and moves the cursor last: a crash in between
   * repeats the block, which changes nothing. Their replication is open from then on.
   */
  async commit(blockHeight: number, blobs: readonly NamedBlob[]): Promise<void> {
    const writes = blobs.flatMap((blob, index): IndexWrite[] => {
      const value = encode(namedBlob, blob);
      return [
        { kind: 'put', key: keyOf.named(blob, index), value },
        { kind: 'put', key: keyOf.pair(blob), value: new Uint8Array(0) },
        { kind: 'put', key: keyOf.open(blob), value },
      ];
    });
    for (let at = 0; at < writes.length; at += MAX_WRITES) await this.#index.write(writes.slice(at, at + MAX_WRITES));
    await this.#index.write([{ kind: 'put', key: keyOf.cursor, value: encode(cursor, { height: blockHeight }) }]);
  }

  /** The last height whose records are noted; 0 at first. */
  async cursor(): Promise<number> {
    return (await this.#get(keyOf.cursor, cursor, 'replication cursor'))?.height ?? 0;
  }

  /** Blobs whose replication is not settled yet, at most `limit`, after `after`. */
  async open(limit: number, after?: BlobName): Promise<readonly NamedBlob[]> {
    const found = await this.#index.list('replication/open/', limit, after && keyOf.open(after));
    return found.map(({ value }) => decodeTrusted(namedBlob, value, 'open blob'));
  }

  async settle(name: BlobName): Promise<void> {
    await this.#index.write([{ kind: 'del', key: keyOf.open(name) }]);
  }

  async receipts(name: BlobName): Promise<readonly StoredReceipt[]> {
    return (await this.#get(keyOf.receipts(name), receiptList, 'replica receipts')) ?? [];
  }

  /** One receipt for each organisation: the newest counts. Two that come at a time must not lose one another. */
  async addReceipt(name: BlobName, receipt: StoredReceipt): Promise<void> {
    const key = keyOf.receipts(name);
    await this.#receiptLists.run(key, async () => {
      const others = (await this.receipts(name)).filter((r) => r.orgId !== receipt.orgId);
      const value = encode(receiptList, [...others, receipt].slice(-MAX_VALIDATORS));
      await this.#index.write([{ kind: 'put', key, value }]);
    });
  }

  /** Who uploads the same bytes again does not become their uploader. */
  async noteUpload(cid: Uint8Array, noted: Upload, dataDigest: Uint8Array): Promise<void> {
    const key = keyOf.upload(cid);
    const isFirst = (await this.#index.get(key)) === undefined;
    await this.#index.write([
      ...(isFirst ? [{ kind: 'put' as const, key, value: encode(upload, noted) }] : []),
      { kind: 'put', key: keyOf.digest(cid), value: encode(digestEntry, { dataDigest }) },
    ]);
  }

  upload(cid: Uint8Array): Promise<Upload | undefined> {
    return this.#get(keyOf.upload(cid), upload, 'upload');
  }

  /** CIDs that were uploaded here and are not known to be kept for good, at most `limit`, after `after`. */
  async uploads(limit: number, after?: Uint8Array): Promise<readonly Uint8Array[]> {
    const prefix = 'replication/upload/';
    const found = await this.#index.list(prefix, limit, after && keyOf.upload(after));
    return found.map(({ key }) => Uint8Array.from(Buffer.from(key.slice(prefix.length), 'hex')));
  }

  /** It is kept for a record now: whose upload it was, and that it would be collected, is over. */
  async forgetUpload(cid: Uint8Array): Promise<void> {
    await this.#index.write([{ kind: 'del', key: keyOf.upload(cid) }]);
  }

  /** The bytes are gone from here. */
  async forgetBytes(cid: Uint8Array): Promise<void> {
    await this.#index.write([
      { kind: 'del', key: keyOf.upload(cid) },
      { kind: 'del', key: keyOf.digest(cid) },
    ]);
  }

  async noteDigest(cid: Uint8Array, dataDigest: Uint8Array): Promise<void> {
    await this.#index.write([{ kind: 'put', key: keyOf.digest(cid), value: encode(digestEntry, { dataDigest }) }]);
  }

  async digest(cid: Uint8Array): Promise<Uint8Array | undefined> {
    return (await this.#get(keyOf.digest(cid), digestEntry, 'digest'))?.dataDigest;
  }
}

/** Whether what two records say about a CID can both be true. */
export const agree = (a: NamedBlob, b: NamedBlob): boolean =>
  a.sizeBytes === b.sizeBytes && equalBytes(a.dataDigest, b.dataDigest);
