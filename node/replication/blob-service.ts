/**
 * Ciphertext of the consortium at this node: uploads, replication after commit, reading wherever it is.
 *
 * Only what a committed record names is kept, served or fetched, within the size that the record declares. A node signs
 * a receipt once it holds every block durably and the whole has the digest that the record names.
 */
import { CID } from 'multiformats/cid';
import { equalBytes } from '../../common/bytes.ts';
import { decode, encode } from '../../common/codec.ts';
import { accept, EmrError, reject, type Verdict } from '../../common/errors.ts';
import type { OrgId } from '../../common/protocol/primitives.ts';
import type { Call } from '../../common/protocol/transaction.ts';
import { parseBlobCid } from '../../common/unixfs-layout.ts';
import type { BlobPort, BlobStat, BlobUpload, ReplicaReceipt, StoredBlob } from '../../rpc/ports.ts';
import type { Member } from '../network/types.ts';
import { type BlobContext, type BlobServiceOptions, isDamage } from './blob-context.ts';
import { BlobFetcher } from './blob-fetcher.ts';
import { blobCall, MAX_BLOB_CALL_BYTES, receiptFrame } from './blob-protocol.ts';
import { BlobRecords, type NamedBlob } from './blob-records.ts';
import { BlobUploads } from './blob-uploads.ts';
import { PeerSlots } from './peer-slots.ts';
import { ReplicaReceipts } from './replica-receipts.ts';
import { Replicator } from './replicator.ts';

export class BlobService implements BlobPort {
  readonly #context: BlobContext;
  readonly #stop = new AbortController();
  readonly #fetcher: BlobFetcher;
  readonly #uploads: BlobUploads;
  readonly #receipts: ReplicaReceipts;
  readonly #replicator: Replicator;
  readonly #unsubscribe: () => void;

  constructor(options: BlobServiceOptions) {
    const stopped = this.#stop.signal;
    const context = { ...options, records: new BlobRecords(options.index), slots: new PeerSlots(), stopped };
    this.#context = context;
    this.#fetcher = new BlobFetcher(context);
    this.#uploads = new BlobUploads(context, () => this.#fetcher.dropReadCopies());
    this.#receipts = new ReplicaReceipts(context, async () => void (await this.#replicator.noteBlocks()));
    this.#replicator = new Replicator(context, {
      fetcher: this.#fetcher,
      uploads: this.#uploads,
      receipts: this.#receipts,
    });
    options.network.onRequest('blob', (from, payload, signal) => this.#serve(from, payload, signal));
    this.#unsubscribe = options.chain.onCommitted(() => this.#replicator.wake());
  }

  start(): void {
    this.#replicator.start();
  }

  async stop(): Promise<void> {
    this.#unsubscribe();
    this.#stop.abort(new EmrError('STOPPING', 'the node is stopping'));
    await Promise.all([this.#replicator.stop(), this.#fetcher.settled()]);
  }

  put(source: AsyncIterable<Uint8Array>, upload: BlobUpload, signal: AbortSignal): Promise<Verdict<StoredBlob>> {
    return this.#uploads.put(source, upload, signal);
  }

  /**
   * Whether a record that is submitted here names ciphertext that is here, as it says. The chain cannot know; the
   * writing hospital's node can, and refuses before the transaction costs anybody anything.
   */
  async admits(call: Call, hospital: OrgId | null): Promise<Verdict> {
    if (call.kind !== 'record.create' && call.kind !== 'record.addVersion') return accept(undefined);
    if (hospital !== null && hospital !== this.#context.orgId) {
      return reject(
        'WRONG_HOSPITAL',
        `a record of ${hospital} is submitted to the node of ${hospital}, which stores its ciphertext`,
      );
    }
    return this.#uploads.check(call.content);
  }

  async stat(cidText: string): Promise<BlobStat | null> {
    const parsed = parseBlobCid(cidText);
    if (!parsed.ok) return null;
    const cid = parsed.value;
    const { records, store } = this.#context;
    const [names, here, upload, digest] = await Promise.all([
      this.#named(cid.bytes),
      store.stat(cid),
      records.upload(cid.bytes),
      records.digest(cid.bytes),
    ]);
    // Where the bytes are known, only records count that tell the truth about them.
    const named = digest === undefined ? names : names.filter((n) => equalBytes(n.dataDigest, digest));
    const [oldest] = named;
    if (oldest === undefined && here === undefined) return null;
    return {
      sizeBytes: here?.sizeBytes ?? oldest?.sizeBytes ?? 0,
      local: here !== undefined,
      records: named.map(({ recordId, version }) => ({ recordId, version })),
      uploadedBy: upload?.account ?? null,
    };
  }

  async *read(
    cidText: string,
    range: { readonly start: number; readonly end: number },
    signal: AbortSignal,
  ): AsyncIterable<Uint8Array> {
    const cid = parseBlobCid(cidText);
    if (!cid.ok) throw new EmrError('BLOB_UNAVAILABLE', cid.message);
    const { store } = this.#context;
    const fetch = async (): Promise<void> =>
      this.#fetcher.fetchForReader(cid.value, await this.#named(cid.value.bytes), signal);
    if ((await store.stat(cid.value)) === undefined) await fetch();
    let at = range.start;
    try {
      for await (const chunk of store.cat(cid.value, { offsetBytes: at, lengthBytes: range.end - at, signal })) {
        at += chunk.length;
        yield chunk;
      }
    } catch (error) {
      if (!isDamage(error)) throw error;
      // Damaged, or given up, in the middle of it: fetched again, and gone on with.
      await fetch();
      yield* store.cat(cid.value, { offsetBytes: at, lengthBytes: range.end - at, signal });
    }
  }

  /** Records that name a CID with different digests have receipts of their own; each is signed over its digest. */
  async receipts(cidText: string): Promise<readonly ReplicaReceipt[]> {
    const cid = parseBlobCid(cidText);
    if (!cid.ok) return [];
    const { records } = this.#context;
    const digests = new Map((await records.named(cid.value.bytes)).map((n) => [n.dataDigest.join(), n]));
    return (await Promise.all([...digests.values()].map((name) => records.receipts(name)))).flat();
  }

  async *#serve(from: Member, payload: Uint8Array, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const call = decode(blobCall, payload, MAX_BLOB_CALL_BYTES);
    if (!call.ok) throw new EmrError(call.code, call.message);
    switch (call.value.kind) {
      case 'block':
        yield await this.#blockFor(call.value.cid, signal);
        return;
      case 'held': {
        const { receipt } = call.value;
        if (receipt.orgId !== from.orgId) throw new EmrError('RECEIPT_INVALID', 'a receipt of somebody else');
        const taken = await this.#receipts.take(call.value, receipt);
        if (!taken.ok) throw new EmrError(taken.code, taken.message);
        yield new Uint8Array(0);
        return;
      }
      case 'receipts':
        yield encode(receiptFrame, await this.#context.records.receipts(call.value));
        return;
    }
  }

  /** A block is given out only as part of a blob that a committed record names. */
  async #blockFor(cidOf: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    const notFound = new EmrError('BLOCK_NOT_FOUND', 'no block of a committed record has this CID here');
    let cid: CID;
    try {
      cid = CID.decode(cidOf);
    } catch {
      throw notFound;
    }
    const { store } = this.#context;
    for (const root of await store.rootsOf(cid)) {
      if ((await this.#named(root.bytes)).length === 0) continue;
      const block = await store.getBlock(cid, signal);
      if (block !== undefined) return block;
    }
    throw notFound;
  }

  /** The records that name a CID. Where none seems to, the newest blocks are looked at first. */
  async #named(cid: Uint8Array): Promise<readonly NamedBlob[]> {
    const { records } = this.#context;
    const known = await records.named(cid);
    if (known.length > 0) return known;
    await this.#replicator.noteBlocks();
    return records.named(cid);
  }
}
