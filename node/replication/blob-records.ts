/**
 * What this node remembers about ciphertext beside the bytes: which committed record names it, who uploaded it here,
 * who holds it, and up to which height the chain has been looked at. Kept in the node's one database.
 */
import { bytesToHex } from '../../common/bytes.ts';
import { bytes, decodeTrusted, encode, list, struct, type TypeOf, uint } from '../../common/codec.ts';
import { cidBytes, hash32, height, orgId, signature, timeMs, address } from '../../common/protocol/primitives.ts';
import type { BlobIndex } from '../ipfs/blob-store.ts';

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

export const storedReceipt = struct({ orgId, holder: address, signature, atMs: timeMs });
export type StoredReceipt = TypeOf<typeof storedReceipt>;

/** One for each member at the most: 31 validators. */
const receiptList = list(storedReceipt, 31);
/** Who sent it here, and its SM3 digest: a CID stands for the same bytes for ever, so it is computed once. */
const upload = struct({ account: bytes(20), orgId, dataDigest: hash32 });
export type Upload = TypeOf<typeof upload>;
const cursor = struct({ height });

/**
 * A CID can be named by anybody, with any digest: the digest is part of the name here, so that a record that lies about
 * somebody's ciphertext has replicas, receipts and a fate of its own.
 */
export type BlobName = Pick<NamedBlob, 'cid' | 'dataDigest'>;

/** Records with different digests for one CID: all but one of them lie. */
const MAX_NAMES = 16;

const nameOf = ({ cid, dataDigest }: BlobName): string => `${bytesToHex(cid)}/${bytesToHex(dataDigest)}`;

const keyOf = {
  namesOf: (cid: Uint8Array): string => `replication/named/${bytesToHex(cid)}/`,
  named: (name: BlobName): string => `replication/named/${nameOf(name)}`,
  receipts: (name: BlobName): string => `replication/receipts/${nameOf(name)}`,
  upload: (cid: Uint8Array): string => `replication/upload/${bytesToHex(cid)}`,
  open: (name: BlobName): string => `replication/open/${nameOf(name)}`,
  cursor: 'replication/cursor',
} as const;

export class BlobRecords {
  readonly #index: BlobIndex;

  constructor(index: BlobIndex) {
    this.#index = index;
  }

  /** What committed records say about a CID, oldest first: at most 16, of which one can be true. */
  async named(cid: Uint8Array): Promise<readonly NamedBlob[]> {
    const found = await this.#index.list(keyOf.namesOf(cid), MAX_NAMES);
    return found.map(({ value }) => decodeTrusted(namedBlob, value, 'named blob')).sort((a, b) => a.height - b.height);
  }

  /** Notes the records of one block and moves the cursor, all or nothing. Their replication is open from then on. */
  async commit(blockHeight: number, blobs: readonly NamedBlob[]): Promise<void> {
    await this.#index.write([
      ...blobs.flatMap((blob) => [
        { kind: 'put' as const, key: keyOf.named(blob), value: encode(namedBlob, blob) },
        { kind: 'put' as const, key: keyOf.open(blob), value: encode(namedBlob, blob) },
      ]),
      { kind: 'put', key: keyOf.cursor, value: encode(cursor, { height: blockHeight }) },
    ]);
  }

  /** The last height whose records are noted; 0 at first. */
  async cursor(): Promise<number> {
    const found = await this.#index.get(keyOf.cursor);
    return found === undefined ? 0 : decodeTrusted(cursor, found, 'replication cursor').height;
  }

  /** Blobs whose replication is not settled yet, at most `limit`, after `after`. */
  async open(limit: number, after?: NamedBlob): Promise<readonly NamedBlob[]> {
    const found = await this.#index.list('replication/open/', limit, after && keyOf.open(after));
    return found.map(({ value }) => decodeTrusted(namedBlob, value, 'open blob'));
  }

  async settle(name: BlobName): Promise<void> {
    await this.#index.write([{ kind: 'del', key: keyOf.open(name) }]);
  }

  async receipts(name: BlobName): Promise<readonly StoredReceipt[]> {
    const found = await this.#index.get(keyOf.receipts(name));
    return found === undefined ? [] : decodeTrusted(receiptList, found, 'replica receipts');
  }

  /** One receipt for each organisation: the newest counts. */
  async addReceipt(name: BlobName, receipt: StoredReceipt): Promise<void> {
    const others = (await this.receipts(name)).filter((r) => r.orgId !== receipt.orgId);
    await this.#index.write([
      { kind: 'put', key: keyOf.receipts(name), value: encode(receiptList, [...others, receipt].slice(-31)) },
    ]);
  }

  async noteUpload(cid: Uint8Array, noted: Upload): Promise<void> {
    await this.#index.write([{ kind: 'put', key: keyOf.upload(cid), value: encode(upload, noted) }]);
  }

  async upload(cid: Uint8Array): Promise<Upload | undefined> {
    const found = await this.#index.get(keyOf.upload(cid));
    return found && decodeTrusted(upload, found, 'upload');
  }
}
