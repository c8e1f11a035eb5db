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

const keyOf = {
  named: (cid: Uint8Array): string => `replication/named/${bytesToHex(cid)}`,
  receipts: (cid: Uint8Array): string => `replication/receipts/${bytesToHex(cid)}`,
  upload: (cid: Uint8Array): string => `replication/upload/${bytesToHex(cid)}`,
  open: (cid: Uint8Array): string => `replication/open/${bytesToHex(cid)}`,
  cursor: 'replication/cursor',
} as const;

export class BlobRecords {
  readonly #index: BlobIndex;

  constructor(index: BlobIndex) {
    this.#index = index;
  }

  async named(cid: Uint8Array): Promise<NamedBlob | undefined> {
    const found = await this.#index.get(keyOf.named(cid));
    return found && decodeTrusted(namedBlob, found, 'named blob');
  }

  /** Notes the records of one block and moves the cursor, all or nothing. Their replication is open from then on. */
  async commit(blockHeight: number, blobs: readonly NamedBlob[]): Promise<void> {
    await this.#index.write([
      ...blobs.flatMap((blob) => [
        { kind: 'put' as const, key: keyOf.named(blob.cid), value: encode(namedBlob, blob) },
        { kind: 'put' as const, key: keyOf.open(blob.cid), value: encode(namedBlob, blob) },
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
    const found = await this.#index.list('replication/open/', limit, after && keyOf.open(after.cid));
    return found.map(({ value }) => decodeTrusted(namedBlob, value, 'open blob'));
  }

  async settle(cid: Uint8Array): Promise<void> {
    await this.#index.write([{ kind: 'del', key: keyOf.open(cid) }]);
  }

  async receipts(cid: Uint8Array): Promise<readonly StoredReceipt[]> {
    const found = await this.#index.get(keyOf.receipts(cid));
    return found === undefined ? [] : decodeTrusted(receiptList, found, 'replica receipts');
  }

  /** One receipt for each organisation: the newest counts. */
  async addReceipt(cid: Uint8Array, receipt: StoredReceipt): Promise<void> {
    const others = (await this.receipts(cid)).filter((r) => r.orgId !== receipt.orgId);
    await this.#index.write([
      { kind: 'put', key: keyOf.receipts(cid), value: encode(receiptList, [...others, receipt].slice(-31)) },
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
