/**
 * Brings named ciphertext here from whoever has it. A holder that is slow or gives something else is left out for the
 * rest of that fetch: having signed a receipt makes nobody honest.
 */
import { CID } from 'multiformats/cid';
import { bytesToHex } from '../../common/bytes.ts';
import { raceAbort } from '../../common/native/race-abort.ts';
import { accept, EmrError, reject, type Verdict } from '../../common/errors.ts';
import type { OrgId } from '../../common/protocol/primitives.ts';
import { dagLimitsFor, isBlobSize } from '../../common/unixfs-layout.ts';
import { checkBlock } from '../ipfs/dag-node.ts';
import { KeyedMutex } from '../ipfs/keyed-mutex.ts';
import type { Network } from '../network/types.ts';
import { type BlobContext, isFault } from './blob-context.ts';
import { askForBlock } from './blob-protocol.ts';
import type { NamedBlob } from './blob-records.ts';

/** A fetch that does not get this far in time is given up; what came stays, and the next attempt goes on from there. */
const FETCH_MIN_MS = 60_000;
const FETCH_MIN_BYTES_PER_MS = 256;
/** Names of copies that were fetched for a reader; those that are forgotten are collected by their age. */
const MAX_READ_COPIES = 10_000;

export class BlobFetcher {
  readonly #context: BlobContext;
  /** Fetches under way: who asks for the same meanwhile waits for the same one. */
  readonly #running = new Map<string, Promise<Verdict>>();
  /** Records can declare different sizes for one CID: their fetches take turns. */
  readonly #turns = new KeyedMutex();
  readonly #readCopies = new Set<string>();

  constructor(context: BlobContext) {
    this.#context = context;
  }

  /**
   * @returns ok once all of it is here; DISK_FULL, BLOB_TOO_SLOW, BLOB_UNAVAILABLE, the record's fault (`FETCH_FAULTS` of
   *   the store), or the code of what failed
   * @throws what is a fault of ours
   */
  fetch(named: NamedBlob): Promise<Verdict> {
    const id = `${bytesToHex(named.cid)}/${named.sizeBytes}`;
    const running = this.#running.get(id);
    if (running !== undefined) return running;
    const started = this.#turns
      .run(bytesToHex(named.cid), () => this.#fetchOnce(named))
      .finally(() => this.#running.delete(id));
    this.#running.set(id, started);
    return started;
  }

  /**
   * For a reader: by whichever record names it truly.
   * @throws EmrError BLOB_UNAVAILABLE with the code in its detail; the signal's reason
   */
  async fetchForReader(cid: CID, names: readonly NamedBlob[], signal: AbortSignal): Promise<void> {
    let why: { readonly code: string; readonly message: string } = reject('BLOB_UNKNOWN', 'no record names it');
    const tried = new Set<number>();
    for (const named of names) {
      if (tried.has(named.sizeBytes)) continue;
      tried.add(named.sizeBytes);
      const fetched = await raceAbort(this.fetch(named), signal);
      if (fetched.ok) {
        if (this.#readCopies.size < MAX_READ_COPIES) this.#readCopies.add(cid.toString());
        return;
      }
      why = fetched;
    }
    throw new EmrError('BLOB_UNAVAILABLE', `this ciphertext cannot be had: ${why.message}`, { code: why.code });
  }

  /** Gives up copies that nobody promised to keep: whoever reads them again fetches them again. */
  async dropReadCopies(): Promise<void> {
    const { store, records } = this.#context;
    for (const text of this.#readCopies) {
      this.#readCopies.delete(text);
      const cid = CID.parse(text);
      const isUpload = (await records.upload(cid.bytes)) !== undefined;
      if (!isUpload && (await store.stat(cid))?.state === 'staged') await store.remove(cid);
    }
  }

  /** It is kept for good now. */
  keep(cid: CID): void {
    this.#readCopies.delete(cid.toString());
  }

  async settled(): Promise<void> {
    await Promise.allSettled(this.#running.values());
  }

  async #fetchOnce(named: NamedBlob): Promise<Verdict> {
    const { store, stopped, hasRoom } = this.#context;
    if (!isBlobSize(named.sizeBytes)) return reject('DAG_EXCEEDS_DECLARED', 'no file has the size that was declared');
    if (!(await hasRoom(named.sizeBytes))) return reject('DISK_FULL', "this node's disk is nearly full");
    const source = await this.#sourceOf(named);
    const slow = new AbortController();
    const deadlineMs = FETCH_MIN_MS + named.sizeBytes / FETCH_MIN_BYTES_PER_MS;
    // Cleared, unlike AbortSignal.timeout, which would keep what it refers to until it fires.
    const timer = setTimeout(
      () => slow.abort(new EmrError('BLOB_TOO_SLOW', 'those who hold it give it too slowly')),
      deadlineMs,
    );
    try {
      const fetched = await store.fetchDag(
        CID.decode(named.cid),
        dagLimitsFor(named.sizeBytes),
        (cid, signal) => this.#blockFrom(source, cid, signal),
        { signal: AbortSignal.any([stopped, slow.signal]) },
      );
      return fetched.ok ? accept(undefined) : fetched;
    } catch (error) {
      if (error instanceof EmrError && !isFault(error)) return reject(error.code, error.message);
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** One block from the best of those who may have it, checked: who gives another is not asked again. */
  async #blockFrom(source: Source, cid: CID, signal: AbortSignal): Promise<Uint8Array> {
    const { slots, network } = this.#context;
    let failure: unknown = new EmrError('BLOB_UNAVAILABLE', 'no member that holds it is connected');
    for (const peer of source.candidates()) {
      signal.throwIfAborted();
      try {
        const block = await slots.run(peer, () => askForBlock(network, peer, cid.bytes, signal));
        const checked = checkBlock(cid, block);
        if (checked.ok) return block;
        source.leaveOut(peer);
        failure = new EmrError(checked.code, checked.message);
      } catch (error) {
        if (signal.aborted || !(error instanceof EmrError)) throw error;
        if (error.code === 'PEER_TIMEOUT' || error.code === 'PEER_PROTOCOL') source.leaveOut(peer);
        failure = error;
      }
    }
    throw failure;
  }

  async #sourceOf(named: NamedBlob): Promise<Source> {
    const receipts = new Set((await this.#context.records.receipts(named)).map((r) => r.orgId));
    return new Source(this.#context.network, (org) => (receipts.has(org) ? 0 : org === named.orgId ? 1 : 2));
  }
}

/** Who may give the blocks of one blob: connected members, those first that hold it, then its writer, then the others. */
class Source {
  readonly #network: Network;
  readonly #rank: (org: OrgId) => number;
  readonly #leftOut = new Set<string>();

  constructor(network: Network, rank: (org: OrgId) => number) {
    this.#network = network;
    this.#rank = rank;
  }

  candidates(): string[] {
    return this.#network
      .peers()
      .filter((p) => p.connected && !this.#leftOut.has(p.peerId))
      .sort((a, b) => this.#rank(a.member.orgId) - this.#rank(b.member.orgId))
      .map((p) => p.peerId);
  }

  leaveOut(peer: string): void {
    this.#leftOut.add(peer);
  }
}
