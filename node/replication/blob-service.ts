/**
 * Ciphertext of the consortium at this node: uploads, replication after commit, reading wherever it is.
 *
 * Only what a committed record names is kept, served or fetched, within the size that the record declares. A node signs
 * a receipt once it holds every block durably and the whole has the digest that the record names.
 */
import { createHash } from 'node:crypto';
import { CID } from 'multiformats/cid';
import { bytesToHex, equalBytes } from '../../common/bytes.ts';
import { decode, decodeTrusted, encode } from '../../common/codec.ts';
import type { Sm2Engine, Sm2Signer } from '../../common/crypto/sm2.ts';
import { accept, EmrError, InvariantError, reject, type Verdict } from '../../common/errors.ts';
import type { Hash, OrgId } from '../../common/protocol/primitives.ts';
import { recordIdOf } from '../../common/protocol/record.ts';
import { replicaReceiptSigningHash } from '../../common/protocol/signing.ts';
import { paramsEntry, stateKey } from '../../common/protocol/state-entries.ts';
import { type Call, decodeTransaction, type RecordContent } from '../../common/protocol/transaction.ts';
import { dagLimitsFor, parseBlobCid } from '../../common/unixfs-layout.ts';
import type {
  BlobPort,
  BlobStat,
  BlobUpload,
  ChainPort,
  ReplicaReceipt,
  StatePort,
  StoredBlob,
} from '../../rpc/ports.ts';
import type { BlobIndex, BlobStore } from '../ipfs/blob-store.ts';
import type { Member, Network } from '../network/types.ts';
import { askForBlock, askForReceipts, blobCall, MAX_BLOB_CALL_BYTES, receiptFrame, tellHeld } from './blob-protocol.ts';
import { type BlobName, BlobRecords, type NamedBlob, type StoredReceipt } from './blob-records.ts';
import { replicaOrder, standbyMs } from './placement.ts';

/** Blobs that are copied at a time: each has a few blocks of a MiB in flight. */
const MAX_COPIES = 2;
/** How often open replication is looked at again. */
const TICK_MS = 1_000;
/** How long a standby waits for those before it, and how fast a copy is expected to come at the slowest. */
const STANDBY_STEP_MS = 4_000;
const SLOW_COPY_BYTES_PER_MS = 5_000;
/** Open blobs that one look takes up. */
const OPEN_PAGE = 200;
const MAX_RETRIES = 10_000;
const SECOND_MS = 1_000;
const MAX_PAUSE_MS = 60 * SECOND_MS;

export interface BlobServiceOptions {
  readonly chainId: Hash;
  readonly orgId: OrgId;
  readonly signer: Sm2Signer;
  readonly engine: Sm2Engine;
  readonly store: BlobStore;
  readonly index: BlobIndex;
  readonly network: Network;
  readonly chain: ChainPort;
  readonly state: StatePort;
  readonly limits: { readonly maxFileBytes: number; readonly maxStagedBytes: number; readonly stagedMs: number };
  /** Whether the disk has room for so many bytes more. */
  readonly hasRoom: (bytes: number) => Promise<boolean>;
  readonly nowMs: () => number;
  readonly log: (level: 'info' | 'warn' | 'error', fields: Readonly<Record<string, unknown>>, message: string) => void;
  /** A fault of ours: the node stops. */
  readonly onFault: (error: Error) => void;
}

export class BlobService implements BlobPort {
  readonly #options: BlobServiceOptions;
  readonly #records: BlobRecords;
  readonly #stop = new AbortController();
  /** Fetches under way by CID: who asks meanwhile waits for the same one. */
  readonly #fetching = new Map<string, Promise<Verdict>>();
  readonly #copying = new Map<string, Promise<void>>();
  /** When a blob that nobody could give was tried last, so that it is not tried every second. */
  readonly #retries = new Map<string, { readonly atMs: number; readonly pauseMs: number }>();
  #noting: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | null = null;
  #looking: Promise<void> | null = null;
  #lookAgain = false;
  #stagedCheckedMs = 0;
  #uploadingBytes = 0;

  constructor(options: BlobServiceOptions) {
    this.#options = options;
    this.#records = new BlobRecords(options.index);
    options.network.onRequest('blob', (from, payload, signal) => this.#serve(from, payload, signal));
    options.chain.onCommitted(() => this.#look());
  }

  start(): void {
    this.#timer = setInterval(() => this.#look(), TICK_MS);
    this.#look();
  }

  async stop(): Promise<void> {
    this.#stop.abort(new EmrError('STOPPING', 'the node is stopping'));
    if (this.#timer !== null) clearInterval(this.#timer);
    await Promise.allSettled([...this.#copying.values(), ...this.#fetching.values(), this.#looking]);
  }

  // ------------------------------------------------------------------------------------------------------ uploads

  async put(source: AsyncIterable<Uint8Array>, upload: BlobUpload, signal: AbortSignal): Promise<Verdict<StoredBlob>> {
    const { store, limits, hasRoom } = this.#options;
    const size = upload.declaredBytes ?? limits.maxFileBytes;
    if (size > limits.maxFileBytes)
      return reject('BLOB_TOO_LARGE', `at most ${limits.maxFileBytes} bytes are accepted`);
    const usage = store.usage();
    // Who does not say how much comes may send the most that is accepted.
    if (usage.stagedBytes + usage.openBytes + this.#uploadingBytes + size > limits.maxStagedBytes) {
      return reject('BLOB_QUOTA', 'too much ciphertext waits for its record here; try again later');
    }
    if (!(await hasRoom(size)))
      return reject('DISK_FULL', "this node's disk is nearly full; the operator must make room");
    this.#uploadingBytes += size;
    try {
      const added = await store.add(source, {
        maxSizeBytes: size,
        signal: AbortSignal.any([signal, this.#stop.signal]),
      });
      if (upload.declaredBytes !== null && added.sizeBytes !== upload.declaredBytes) {
        return reject('BLOB_SIZE_MISMATCH', `${added.sizeBytes} bytes came, ${upload.declaredBytes} were declared`);
      }
      const { account, orgId } = upload;
      await this.#records.noteUpload(added.cid.bytes, { account, orgId, dataDigest: added.dataDigest });
      return accept({ cid: added.cid.toString(), sizeBytes: added.sizeBytes, dataDigest: added.dataDigest });
    } catch (error) {
      return uploadVerdict(error, signal);
    } finally {
      this.#uploadingBytes -= size;
    }
  }

  /**
   * Whether a record that is submitted here names ciphertext that is here, as it says. The chain cannot know; the
   * writing hospital's node can, and refuses before the transaction costs anybody anything.
   */
  async admits(call: Call, hospital: OrgId | null): Promise<Verdict> {
    if (call.kind !== 'record.create' && call.kind !== 'record.addVersion') return accept(undefined);
    if (hospital !== null && hospital !== this.#options.orgId) {
      return reject(
        'WRONG_HOSPITAL',
        `a record of ${hospital} is submitted to the node of ${hospital}, which stores its ciphertext`,
      );
    }
    return this.#check(call.content);
  }

  async #check(content: RecordContent): Promise<Verdict> {
    const cid = CID.decode(content.cid);
    const stat = await this.#options.store.stat(cid);
    if (stat === undefined) return reject('BLOB_UNKNOWN', 'the ciphertext is not at this node; upload it first');
    if (stat.sizeBytes !== content.sizeBytes) {
      return reject(
        'BLOB_SIZE_MISMATCH',
        `the ciphertext has ${stat.sizeBytes} bytes, the record says ${content.sizeBytes}`,
      );
    }
    const digest = await this.#digestOf(cid);
    return equalBytes(digest, content.dataDigest)
      ? accept(undefined)
      : reject('BLOB_DIGEST_MISMATCH', 'the ciphertext has another SM3 digest than the record says');
  }

  async #digestOf(cid: CID): Promise<Uint8Array> {
    const noted = await this.#records.upload(cid.bytes);
    if (noted !== undefined) return noted.dataDigest;
    const hash = createHash('sm3');
    for await (const chunk of this.#options.store.cat(cid, { signal: this.#stop.signal })) hash.update(chunk);
    return new Uint8Array(hash.digest());
  }

  // ------------------------------------------------------------------------------------------------------ reading

  async stat(cidText: string): Promise<BlobStat | null> {
    const cid = parseBlobCid(cidText);
    if (!cid.ok) return null;
    const [names, here, upload] = await Promise.all([
      this.#records.named(cid.value.bytes),
      this.#options.store.stat(cid.value),
      this.#records.upload(cid.value.bytes),
    ]);
    const [oldest] = names;
    if (oldest === undefined && here === undefined) return null;
    // Where the bytes are known, the record that tells the truth about them counts; else the first that named them.
    const named = names.find((n) => upload !== undefined && equalBytes(n.dataDigest, upload.dataDigest)) ?? oldest;
    return {
      sizeBytes: here?.sizeBytes ?? named?.sizeBytes ?? 0,
      local: here !== undefined,
      record: named === undefined ? null : { recordId: named.recordId, version: named.version },
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
    const { store } = this.#options;
    if ((await store.stat(cid.value)) === undefined) {
      await this.#fetchAny(cid.value.bytes);
    }
    yield* store.cat(cid.value, { offsetBytes: range.start, lengthBytes: range.end - range.start, signal });
  }

  /** Records that name a CID with different digests have receipts of their own; each is signed over its digest. */
  async receipts(cidText: string): Promise<readonly ReplicaReceipt[]> {
    const cid = parseBlobCid(cidText);
    if (!cid.ok) return [];
    const names = await this.#records.named(cid.value.bytes);
    return (await Promise.all(names.map((name) => this.#records.receipts(name)))).flat();
  }

  /** @throws EmrError BLOB_UNAVAILABLE */
  async #fetchAny(cid: Uint8Array): Promise<void> {
    let why: { readonly code: string; readonly message: string } = {
      code: 'BLOB_UNKNOWN',
      message: 'no committed record names it',
    };
    for (const named of await this.#records.named(cid)) {
      const fetched = await this.#fetch(named);
      if (fetched.ok) return;
      why = fetched;
    }
    throw new EmrError('BLOB_UNAVAILABLE', `this ciphertext cannot be had: ${why.message}`, { code: why.code });
  }

  /** Brings a named blob here from whoever has it; one fetch of a blob at a time. */
  #fetch(named: NamedBlob): Promise<Verdict> {
    const id = bytesToHex(named.cid);
    const running = this.#fetching.get(id);
    if (running !== undefined) return running;
    const started = this.#fetchOnce(named).finally(() => this.#fetching.delete(id));
    this.#fetching.set(id, started);
    return started;
  }

  async #fetchOnce(named: NamedBlob): Promise<Verdict> {
    const { store, network, hasRoom } = this.#options;
    if (!(await hasRoom(named.sizeBytes))) return reject('DISK_FULL', "this node's disk is nearly full");
    const holders = await this.#holders(named);
    const fetched = await store
      .fetchDag(
        CID.decode(named.cid),
        dagLimitsFor(named.sizeBytes),
        async (cid, signal) => {
          let failure: unknown = new EmrError('BLOB_UNAVAILABLE', 'no member that holds it is connected');
          for (const peer of holders()) {
            try {
              return await askForBlock(network, peer, cid.bytes, signal);
            } catch (error) {
              if (signal.aborted) throw error;
              failure = error;
            }
          }
          throw failure;
        },
        { signal: this.#stop.signal },
      )
      .catch((error: unknown) => {
        if (error instanceof EmrError) return reject(error.code, error.message);
        throw error;
      });
    return fetched.ok ? accept(undefined) : fetched;
  }

  /** Connected members, those first that are known to hold the blob, then its writer, then the others. */
  async #holders(named: NamedBlob): Promise<() => string[]> {
    const receipts = new Set((await this.#records.receipts(named)).map((r) => r.orgId));
    const rank = (org: OrgId): number => (receipts.has(org) ? 0 : org === named.orgId ? 1 : 2);
    return () =>
      this.#options.network
        .peers()
        .filter((p) => p.connected)
        .sort((a, b) => rank(a.member.orgId) - rank(b.member.orgId))
        .map((p) => p.peerId);
  }

  // -------------------------------------------------------------------------------------------------- replication

  /** Looks at new blocks and at open blobs; calls that come meanwhile make one more look. */
  #look(): void {
    if (this.#looking !== null) {
      this.#lookAgain = true;
      return;
    }
    this.#looking = this.#lookOnce()
      .catch((error: unknown) => {
        if (!this.#stop.signal.aborted) this.#options.onFault(error as Error);
      })
      .finally(() => {
        this.#looking = null;
        if (this.#lookAgain && !this.#stop.signal.aborted) {
          this.#lookAgain = false;
          this.#look();
        }
      });
  }

  async #lookOnce(): Promise<void> {
    await this.#noteBlocks();
    let after: NamedBlob | undefined;
    for (;;) {
      const open = await this.#records.open(OPEN_PAGE, after);
      for (const blob of open) {
        if (this.#stop.signal.aborted) return;
        await this.#attend(blob);
      }
      after = open.at(-1);
      if (after === undefined || open.length < OPEN_PAGE) break;
    }
    await this.#collectStaged();
  }

  /** One at a time: two that note the same block could open again what was settled in between. */
  #noteBlocks(): Promise<void> {
    this.#noting = this.#noting.then(() => this.#noteNewBlocks());
    return this.#noting;
  }

  async #noteNewBlocks(): Promise<void> {
    const { chain } = this.#options;
    const head = chain.head().height;
    for (let at = (await this.#records.cursor()) + 1; at <= head; at += 1) {
      const block = await chain.block(at);
      if (block === null) throw new InvariantError(`block ${at} is below the head and not there`);
      await this.#records.commit(at, await this.#namedIn(block.txs, at));
    }
  }

  async #namedIn(txs: readonly Uint8Array[], at: number): Promise<readonly NamedBlob[]> {
    const named: NamedBlob[] = [];
    for (const bytes of txs) {
      const tx = decodeTransaction(bytes);
      if (!tx.ok) throw new InvariantError('a stored transaction does not decode');
      const { call, account } = tx.value.body;
      if (call.kind !== 'record.create' && call.kind !== 'record.addVersion') continue;
      const isNew = call.kind === 'record.create';
      const { cid, sizeBytes, dataDigest } = call.content;
      const recordId = isNew ? recordIdOf(account, call.owner, call.nonce, call.sectionClass) : call.recordId;
      named.push({
        cid,
        recordId,
        version: isNew ? 1 : call.version,
        orgId: call.hospital,
        sizeBytes,
        dataDigest,
        height: at,
      });
    }
    return named;
  }

  /** Decides what this node does about one open blob now. */
  async #attend(blob: NamedBlob): Promise<void> {
    const { orgId, nowMs, chain } = this.#options;
    const id = bytesToHex(blob.cid);
    if (this.#copying.has(id) || this.#copying.size >= MAX_COPIES || (this.#retries.get(id)?.atMs ?? 0) > nowMs())
      return;
    const { organisations, replicas } = await this.#placement(blob);
    const order = replicaOrder(blob.cid, blob.orgId, organisations);
    const held = new Set((await this.#records.receipts(blob)).map((r) => r.orgId));
    const copies = [...held].filter((org) => org !== blob.orgId).length;
    if (copies >= Math.min(replicas, order.length) && held.has(blob.orgId)) {
      await this.#records.settle(blob);
      return;
    }
    if (held.has(orgId)) return;
    const committedMs = (await chain.header(blob.height))?.header.timestampMs ?? 0;
    const stepMs = STANDBY_STEP_MS + Math.ceil(blob.sizeBytes / SLOW_COPY_BYTES_PER_MS);
    const waitMs = standbyMs(order.indexOf(orgId), replicas, stepMs);
    const isWriter = orgId === blob.orgId;
    if (!isWriter && (copies >= replicas || nowMs() < committedMs + waitMs)) return;
    const copying = this.#copy(blob)
      .catch((error: unknown) => {
        if (!this.#stop.signal.aborted) this.#options.onFault(error as Error);
      })
      .finally(() => {
        this.#copying.delete(id);
        this.#look();
      });
    this.#copying.set(id, copying);
  }

  async #placement(blob: NamedBlob): Promise<{ readonly organisations: readonly OrgId[]; readonly replicas: number }> {
    const { state, chain } = this.#options;
    const [set, params] = await Promise.all([
      chain.validatorsAt(blob.height),
      state.read([{ kind: 'get', key: stateKey.params() }]),
    ]);
    const [answer] = params.answers;
    if (set === null || answer?.kind !== 'get' || answer.value === null)
      throw new InvariantError('no validators or parameters');
    return {
      organisations: set.map((v) => v.orgId),
      replicas: decodeTrusted(paramsEntry, answer.value, 'parameters').replicas,
    };
  }

  /** Brings the blob here if need be, checks the whole of it, keeps it, and tells everybody with a signed receipt. */
  async #copy(blob: NamedBlob): Promise<void> {
    const { store, log, nowMs, orgId, signer, chainId, network } = this.#options;
    const cid = CID.decode(blob.cid);
    const id = bytesToHex(blob.cid);
    if ((await store.stat(cid)) === undefined) {
      const fetched = await this.#fetch(blob);
      if (!fetched.ok) {
        this.#postpone(id);
        log('warn', { cid: cid.toString(), code: fetched.code }, 'ciphertext could not be copied yet');
        return;
      }
    }
    if (!equalBytes(await this.#digestOf(cid), blob.dataDigest)) {
      // The record lies about its ciphertext: nobody signs for it. What was fetched for it alone is not kept; what
      // somebody uploaded here, or another record names, is none of its business.
      const isOthers =
        (await this.#records.upload(blob.cid)) !== undefined || (await this.#records.named(blob.cid)).length > 1;
      if (!isOthers) await store.remove(cid);
      await this.#records.settle(blob);
      log(
        'error',
        { cid: cid.toString(), recordId: bytesToHex(blob.recordId) },
        'ciphertext has another digest than its record says',
      );
      return;
    }
    await store.pin(cid, this.#stop.signal);
    const signature = signer.sign(replicaReceiptSigningHash(chainId, blob.cid, blob.dataDigest, signer.address));
    const receipt: StoredReceipt = { orgId, holder: signer.address, signature, atMs: nowMs() };
    await this.#records.addReceipt(blob, receipt);
    this.#retries.delete(id);
    await Promise.all(
      network
        .peers()
        .filter((p) => p.connected)
        .map((p) => this.#tell(p.peerId, blob, receipt)),
    );
  }

  #postpone(id: string): void {
    // As many as there are blobs that nobody can give; forgotten together when they are too many.
    if (this.#retries.size > MAX_RETRIES) this.#retries.clear();
    const pauseMs = Math.min(MAX_PAUSE_MS, 2 * (this.#retries.get(id)?.pauseMs ?? SECOND_MS));
    this.#retries.set(id, { atMs: this.#options.nowMs() + pauseMs, pauseMs });
  }

  /** Tells one member, and takes the receipts that it knows: whoever was away meanwhile learns them so. */
  async #tell(peerId: string, blob: BlobName, receipt: StoredReceipt): Promise<void> {
    const { network } = this.#options;
    try {
      await tellHeld(network, peerId, blob, receipt, this.#stop.signal);
      const known = await askForReceipts(network, peerId, blob, this.#stop.signal);
      for (const other of known) await this.#takeReceipt(blob, other);
    } catch (error) {
      if (!(error instanceof EmrError)) throw error;
    }
  }

  /** Keeps a receipt if a validator of the current set signed it for this ciphertext. */
  async #takeReceipt(name: BlobName, receipt: StoredReceipt): Promise<Verdict> {
    const { chain, engine, chainId } = this.#options;
    const isNamed = async (): Promise<boolean> =>
      (await this.#records.named(name.cid)).some((n) => equalBytes(n.dataDigest, name.dataDigest));
    if (!(await isNamed())) {
      await this.#noteBlocks();
      if (!(await isNamed())) return reject('RECEIPT_UNKNOWN', 'no committed record names this ciphertext');
    }
    const set = await chain.validatorsAt(chain.head().height + 1);
    const member = set?.find((v) => equalBytes(v.address, receipt.holder));
    if (member === undefined || member.orgId !== receipt.orgId)
      return reject('RECEIPT_UNKNOWN', 'the holder is no validator');
    const known = (await this.#records.receipts(name)).some((r) => equalBytes(r.signature, receipt.signature));
    if (known) return accept(undefined);
    const message = replicaReceiptSigningHash(chainId, name.cid, name.dataDigest, receipt.holder);
    if (!engine.verify(member.publicKey, message, receipt.signature))
      return reject('RECEIPT_INVALID', 'the signature does not verify');
    await this.#records.addReceipt(name, receipt);
    return accept(undefined);
  }

  async #collectStaged(): Promise<void> {
    const { store, limits, nowMs } = this.#options;
    if (nowMs() - this.#stagedCheckedMs < 60 * SECOND_MS) return;
    this.#stagedCheckedMs = nowMs();
    await store.gcStaged({ olderThanMs: limits.stagedMs, nowMs: nowMs() });
  }

  // ------------------------------------------------------------------------------------------------------ serving

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
        const taken = await this.#takeReceipt(call.value, receipt);
        if (!taken.ok) throw new EmrError(taken.code, taken.message);
        yield new Uint8Array(0);
        return;
      }
      case 'receipts':
        yield encode(receiptFrame, await this.#records.receipts(call.value));
        return;
    }
  }

  /** Whether a committed record names a CID; looks at the newest blocks first if it does not seem so. */
  async #isNamed(cid: Uint8Array): Promise<boolean> {
    if ((await this.#records.named(cid)).length > 0) return true;
    await this.#noteBlocks();
    return (await this.#records.named(cid)).length > 0;
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
    for (const root of await this.#options.store.rootsOf(cid)) {
      if (!(await this.#isNamed(root.bytes))) continue;
      const block = await this.#options.store.getBlock(cid, signal);
      if (block !== undefined) return block;
    }
    throw notFound;
  }
}

function uploadVerdict(error: unknown, signal: AbortSignal): Verdict<StoredBlob> {
  if (signal.aborted) return reject('BLOB_ABORTED', 'the upload ended before it was complete');
  if (!(error instanceof EmrError)) throw error;
  if (error.code === 'IPFS_STORAGE_FULL') return reject('DISK_FULL', error.message);
  return reject(error.code, error.message);
}
