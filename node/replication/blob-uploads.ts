/**
 * Ciphertext that clients send before its record is on chain: taken within a quota, kept for a while, collected when no
 * record came. What becomes of it once a record names it is not decided here.
 */
import { CID } from 'multiformats/cid';
import { equalBytes } from '../../common/bytes.ts';
import { accept, EmrError, reject, type Verdict } from '../../common/errors.ts';
import type { RecordContent } from '../../common/protocol/transaction.ts';
import type { BlobUpload, StoredBlob } from '../../rpc/ports.ts';
import { type BlobContext, isFault } from './blob-context.ts';
import { digestOf } from './blob-digest.ts';

const MINUTE_MS = 60_000;
/** How often what nobody needs any more is looked for. */
const COLLECT_MS = MINUTE_MS;
/** An upload whose record was submitted is kept at least this long: the record may take some time to be committed. */
const PROMISE_MS = 60 * MINUTE_MS;
/** Some 100 bytes each. When there are more, the oldest are as safe as any upload, and no safer. */
const MAX_PROMISES = 10_000;
/** Uploads at a time. Clients may let them wait; what is left of the store's 16 sessions is for copies of others. */
const MAX_UPLOADS = 12;
/** Of an upload that did not say how long it is, room is looked for anew after so many bytes. */
const ROOM_STEP_BYTES = 64 * 1024 * 1024;
const PAGE = 1_000;

/** An upload that is under way. */
interface Running {
  /** What it said; 0 where it did not. */
  readonly declaredBytes: number;
  receivedBytes: number;
}

export class BlobUploads {
  readonly #context: BlobContext;
  readonly #running = new Set<Running>();
  /** Uploads that a submitted record names: since when they are here, and until when that is to count. */
  readonly #promises = new Map<string, { readonly createdMs: number; readonly untilMs: number }>();
  /** Makes room by giving up copies that were fetched for a reader only. */
  readonly #dropCopies: () => Promise<void>;
  #collectedMs = 0;

  constructor(context: BlobContext, dropCopies: () => Promise<void>) {
    this.#context = context;
    this.#dropCopies = dropCopies;
  }

  async put(source: AsyncIterable<Uint8Array>, upload: BlobUpload, signal: AbortSignal): Promise<Verdict<StoredBlob>> {
    const { limits, orgId: own } = this.#context;
    if (upload.orgId !== own) {
      return reject('WRONG_HOSPITAL', `this node stores what is written at ${own}; upload to that of ${upload.orgId}`);
    }
    const declaredBytes = upload.declaredBytes ?? 0;
    if (declaredBytes > limits.maxFileBytes) return tooLarge(limits.maxFileBytes);
    if (!this.#fits(declaredBytes)) await this.#dropCopies();
    if (!this.#fits(declaredBytes) || this.#running.size >= MAX_UPLOADS) return quotaExceeded();
    // Counted from here on, before anything is waited for: two that come at a time must not both find the same room.
    const running: Running = { declaredBytes, receivedBytes: 0 };
    this.#running.add(running);
    try {
      return (await this.#context.hasRoom(declaredBytes))
        ? await this.#store(source, upload, running, signal)
        : diskFull();
    } finally {
      this.#running.delete(running);
    }
  }

  async #store(
    source: AsyncIterable<Uint8Array>,
    upload: BlobUpload,
    running: Running,
    signal: AbortSignal,
  ): Promise<Verdict<StoredBlob>> {
    const { limits, stopped, store, records, onFault } = this.#context;
    try {
      const added = await store.add(this.#metered(source, upload.declaredBytes, running), {
        maxSizeBytes: limits.maxFileBytes,
        signal: AbortSignal.any([signal, stopped]),
      });
      const { account, orgId } = upload;
      await records.noteUpload(added.cid.bytes, { account, orgId }, added.dataDigest);
      return accept({ cid: added.cid.toString(), sizeBytes: added.sizeBytes, dataDigest: added.dataDigest });
    } catch (error) {
      if (signal.aborted) return reject('BLOB_ABORTED', 'the upload ended before it was complete');
      if (isFault(error) && !stopped.aborted) onFault(error as Error);
      return uploadVerdict(error);
    }
  }

  /**
   * Whether so many bytes more stay within the quota. What has come of an upload may not be in the store's figures yet,
   * and what it declared is promised to it; of what the store has open, the rest is being fetched.
   */
  #fits(moreBytes: number): boolean {
    const { stagedBytes, openBytes } = this.#context.store.usage();
    let uploads = 0;
    let received = 0;
    for (const { declaredBytes, receivedBytes } of this.#running) {
      uploads += Math.max(declaredBytes, receivedBytes);
      received += receivedBytes;
    }
    const fetched = Math.max(0, openBytes - received);
    return stagedBytes + uploads + fetched + moreBytes <= this.#context.limits.maxStagedBytes;
  }

  /**
   * Counts what comes. Whatever is wrong ends the stream with an error before the store has made a blob of it: to remove
   * one afterwards could hit the same bytes of somebody else.
   */
  async *#metered(
    source: AsyncIterable<Uint8Array>,
    declaredBytes: number | null,
    running: Running,
  ): AsyncGenerator<Uint8Array> {
    let lookAgainAt = ROOM_STEP_BYTES;
    const mismatch = (): EmrError =>
      verdictError(reject('BLOB_SIZE_MISMATCH', `${declaredBytes} bytes were declared, and others came`));
    for await (const chunk of fromClient(source)) {
      running.receivedBytes += chunk.length;
      const received = running.receivedBytes;
      if (declaredBytes !== null && received > declaredBytes) throw mismatch();
      if (declaredBytes === null && !this.#fits(0)) throw verdictError(quotaExceeded());
      if (declaredBytes === null && received > lookAgainAt) {
        lookAgainAt += ROOM_STEP_BYTES;
        if (!(await this.#context.hasRoom(ROOM_STEP_BYTES))) throw verdictError(diskFull());
      }
      yield chunk;
    }
    if (declaredBytes !== null && running.receivedBytes !== declaredBytes) throw mismatch();
  }

  /** Whether ciphertext is here as a record says; from then on it stays for a while. */
  async check(content: RecordContent): Promise<Verdict> {
    const { store } = this.#context;
    let cid: CID;
    try {
      cid = CID.decode(content.cid);
    } catch {
      return reject('BLOB_UNKNOWN', 'the record names no file');
    }
    const stat = await store.stat(cid);
    if (stat === undefined) return reject('BLOB_UNKNOWN', 'the ciphertext is not at this node; upload it first');
    if (stat.sizeBytes !== content.sizeBytes) {
      return reject(
        'BLOB_SIZE_MISMATCH',
        `the ciphertext has ${stat.sizeBytes} bytes, the record says ${content.sizeBytes}`,
      );
    }
    if (!equalBytes(await digestOf(this.#context, cid), content.dataDigest)) {
      return reject('BLOB_DIGEST_MISMATCH', 'the ciphertext has another SM3 digest than the record says');
    }
    if (stat.state === 'staged') this.promise(cid, stat.createdMs);
    return accept(undefined);
  }

  /** Keeps what is staged from being collected for an hour. */
  promise(cid: CID, createdMs: number): void {
    const [oldest] = this.#promises.keys();
    if (this.#promises.size >= MAX_PROMISES && oldest !== undefined) this.#promises.delete(oldest);
    this.#promises.set(cid.toString(), { createdMs, untilMs: this.#context.nowMs() + PROMISE_MS });
  }

  /** Removes uploads that no record came for, with what was noted about them. */
  async collect(): Promise<void> {
    const { store, limits, nowMs } = this.#context;
    const now = nowMs();
    if (now - this.#collectedMs < Math.min(COLLECT_MS, limits.stagedMs)) return;
    this.#collectedMs = now;
    let olderThanMs = limits.stagedMs;
    for (const [cid, { createdMs, untilMs }] of this.#promises) {
      if (untilMs < now) this.#promises.delete(cid);
      else olderThanMs = Math.max(olderThanMs, now - createdMs);
    }
    const { removedCount } = await store.gcStaged({ olderThanMs, nowMs: now });
    if (removedCount > 0) await this.#forgetRemoved();
  }

  async #forgetRemoved(): Promise<void> {
    const { store, records } = this.#context;
    let after: Uint8Array | undefined;
    do {
      const page = await records.uploads(PAGE, after);
      for (const cid of page) {
        if ((await store.stat(CID.decode(cid))) === undefined) await records.forgetBytes(cid);
      }
      after = page.length < PAGE ? undefined : page.at(-1);
    } while (after !== undefined);
  }
}

/** A connection that breaks is its client's affair: it must not look like a fault of ours. */
async function* fromClient(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* source;
  } catch (cause) {
    throw new EmrError('BLOB_ABORTED', 'the upload ended before it was complete', {}, { cause });
  }
}

const tooLarge = (maxBytes: number) => reject('BLOB_TOO_LARGE', `at most ${maxBytes} bytes are accepted`);
const quotaExceeded = () => reject('BLOB_QUOTA', 'too much ciphertext waits for its record here; try again later');
const diskFull = () => reject('DISK_FULL', "this node's disk is nearly full; the operator must make room");
const verdictError = ({ code, message }: ReturnType<typeof reject>): EmrError => new EmrError(code, message);

/** Failures that are the upload's own fate; others are thrown. */
function uploadVerdict(error: unknown): Verdict<StoredBlob> {
  if (!(error instanceof EmrError)) throw error;
  switch (error.code) {
    case 'BLOB_ABORTED':
    case 'BLOB_TOO_LARGE':
    case 'BLOB_SIZE_MISMATCH':
    case 'BLOB_QUOTA':
    case 'DISK_FULL':
      return reject(error.code, error.message);
    case 'IPFS_STORAGE_FULL':
      return diskFull();
    case 'IPFS_BUSY':
      return quotaExceeded();
    default:
      throw error;
  }
}
