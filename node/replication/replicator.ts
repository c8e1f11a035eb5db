/**
 * Sees to it that committed ciphertext is held where it belongs: by its writer, by the first in rendezvous order, and by
 * the next ones while copies are missing. A blob is *open* until enough holders are known; open ones are looked at again
 * until they are settled, across restarts.
 */
import { CID } from 'multiformats/cid';
import { bytesToHex, equalBytes } from '../../common/bytes.ts';
import { decodeTrusted } from '../../common/codec.ts';
import { InvariantError, type Verdict } from '../../common/errors.ts';
import type { OrgId } from '../../common/protocol/primitives.ts';
import { recordIdOf } from '../../common/protocol/record.ts';
import { paramsEntry, stateKey } from '../../common/protocol/state-entries.ts';
import { decodeTransaction } from '../../common/protocol/transaction.ts';
import { FETCH_FAULTS } from '../ipfs/blob-store.ts';
import { type BlobContext, isDamage, runAside } from './blob-context.ts';
import { digestOf } from './blob-digest.ts';
import type { BlobFetcher } from './blob-fetcher.ts';
import { agree, type NamedBlob } from './blob-records.ts';
import type { BlobUploads } from './blob-uploads.ts';
import { FairQueue } from './fair-queue.ts';
import { replicaOrder, standbyMs } from './placement.ts';
import type { ReplicaReceipts } from './replica-receipts.ts';

/** Blobs that are copied at a time: each has a few blocks of a MiB in flight. */
const MAX_COPIES = 4;
/** And of one writer: who gives what it wrote at a trickle holds up nobody else's. */
const MAX_COPIES_PER_WRITER = 2;
/** Uploads of this node's own that are kept at a time: the bytes are here, so this is a few syncs each. */
const MAX_KEEPING = 4;
/** Blobs that others are told or asked about at a time; whoever is not told learns it by asking. */
const MAX_TALKS = 32;
/** Of one writer, in each of these queues; more are found by the next look. */
const MAX_WAITING = 1_000;

/** How often open replication is looked at again; less often when a look takes long, so that it takes 5 % of a core. */
const TICK_MS = 1_000;
const LOOK_PAUSE_FACTOR = 20;
/** How long a standby waits for those before it, and how fast a copy is expected to come at the slowest. */
const STANDBY_STEP_MS = 4_000;
const SLOW_COPY_BYTES_PER_MS = 5_000;
/** Open blobs that are read at a time. */
const OPEN_PAGE = 200;
/** Newly named blobs that are attended to at once; more are found by the next look. */
const MAX_NEW = 1_000;
/** Blocks without records between two notes on disk of how far this node has looked. */
const CURSOR_EVERY = 256;
/** Blobs with a pause before the next look at them, some 200 bytes each; forgotten together when they are too many. */
const MAX_PAUSES = 100_000;
const MIN_PAUSE_MS = 1_000;
const MAX_PAUSE_MS = 60_000;
/** After a copy was made, the receipts of others come by themselves. */
const RECEIPTS_MS = 5_000;

const RECORD_CALL = new TextEncoder().encode('record.');

interface Pause {
  readonly untilMs: number;
  readonly lengthMs: number;
}

/** What decides about all open blobs alike, read once for each look. */
interface Circumstances {
  readonly organisations: readonly OrgId[];
  readonly replicas: number;
}

export class Replicator {
  readonly #context: BlobContext;
  readonly #fetcher: BlobFetcher;
  readonly #uploads: BlobUploads;
  readonly #receipts: ReplicaReceipts;
  /** Blobs that are in one of the first two queues, or being worked on. */
  readonly #busy = new Set<string>();
  readonly #copies = new FairQueue({
    running: MAX_COPIES,
    runningPerGroup: MAX_COPIES_PER_WRITER,
    waitingPerGroup: MAX_WAITING,
  });
  readonly #keeping = new FairQueue({
    running: MAX_KEEPING,
    runningPerGroup: MAX_KEEPING,
    waitingPerGroup: MAX_WAITING,
  });
  readonly #talks = new FairQueue({
    running: MAX_TALKS,
    runningPerGroup: MAX_TALKS,
    waitingPerGroup: MAX_WAITING,
  });
  readonly #pauses = new Map<string, Pause>();
  #noting: Promise<readonly NamedBlob[]> | null = null;
  /** Height up to which blocks were looked at; null before the first look. */
  #lookedAt: number | null = null;
  #looking: Promise<void> | null = null;
  #nextLookMs = 0;
  #timer: NodeJS.Timeout | null = null;

  constructor(
    context: BlobContext,
    parts: { readonly fetcher: BlobFetcher; readonly uploads: BlobUploads; readonly receipts: ReplicaReceipts },
  ) {
    this.#context = context;
    this.#fetcher = parts.fetcher;
    this.#uploads = parts.uploads;
    this.#receipts = parts.receipts;
  }

  start(): void {
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    this.#tick();
  }

  /** New blocks are there: what they name is attended to at once. */
  wake(): void {
    if (this.#timer === null) return;
    void runAside(this.#context, this.#attendNew());
  }

  /** After the context's signal has aborted. */
  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    await Promise.allSettled([this.#looking, this.#noting]);
    await Promise.all([this.#copies.close(), this.#keeping.close(), this.#talks.close()]);
  }

  #tick(): void {
    if (this.#looking !== null || performance.now() < this.#nextLookMs) return;
    const startMs = performance.now();
    this.#looking = runAside(this.#context, this.#lookAtAll()).finally(() => {
      this.#looking = null;
      this.#nextLookMs = performance.now() + LOOK_PAUSE_FACTOR * (performance.now() - startMs);
    });
  }

  async #lookAtAll(): Promise<void> {
    await this.noteBlocks();
    const circumstances = await this.#circumstances();
    let after: NamedBlob | undefined;
    do {
      const page = await this.#context.records.open(OPEN_PAGE, after);
      for (const blob of page) {
        if (this.#context.stopped.aborted) return;
        await this.#attend(blob, circumstances);
      }
      after = page.length < OPEN_PAGE ? undefined : page.at(-1);
    } while (after !== undefined);
    await this.#uploads.collect();
  }

  async #attendNew(): Promise<void> {
    const named = await this.noteBlocks();
    if (named.length === 0) return;
    const circumstances = await this.#circumstances();
    for (const blob of named) await this.#attend(blob, circumstances);
  }

  /** Notes the records of blocks that are new, one caller at a time. @returns some of what it noted */
  noteBlocks(): Promise<readonly NamedBlob[]> {
    const before = this.#noting ?? Promise.resolve([]);
    const noting = before
      // Whoever asked before was told of that failure.
      .then(
        () => undefined,
        () => undefined,
      )
      .then(() => this.#noteNewBlocks())
      .finally(() => {
        if (this.#noting === noting) this.#noting = null;
      });
    this.#noting = noting;
    return noting;
  }

  async #noteNewBlocks(): Promise<readonly NamedBlob[]> {
    const { chain, records, stopped } = this.#context;
    const noted: NamedBlob[] = [];
    // A node that began with a snapshot has no blocks from before it.
    this.#lookedAt ??= await records.cursor();
    const from = Math.max(this.#lookedAt + 1, chain.lowestHeight(), 1);
    const head = chain.head().height;
    for (let at = from; at <= head && !stopped.aborted; at += 1) {
      const block = await chain.block(at);
      // Pruned since this began: what it named is history to this node, as for one that began with a snapshot.
      if (block === null && at < chain.lowestHeight()) continue;
      if (block === null) throw new InvariantError(`block ${at} is below the head and not there`);
      const named = namedIn(block.txs, at);
      // Blocks that name nothing are looked at again after a crash, which finds nothing again.
      if (named.length > 0 || at % CURSOR_EVERY === 0) await records.commit(at, named);
      this.#lookedAt = at;
      noted.push(...named.slice(0, MAX_NEW - noted.length));
    }
    return noted;
  }

  async #circumstances(): Promise<Circumstances> {
    const { state, chain } = this.#context;
    const [set, params] = await Promise.all([
      chain.validatorsAt(chain.head().height + 1),
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

  /** Decides what this node does about one open blob now. */
  async #attend(blob: NamedBlob, { organisations, replicas }: Circumstances): Promise<void> {
    const { orgId, nowMs, records } = this.#context;
    const id = idOf(blob);
    if (this.#busy.has(id) || (this.#pauses.get(id)?.untilMs ?? 0) > nowMs()) return;
    const order = replicaOrder(blob.cid, blob.orgId, organisations);
    // Receipts of organisations that have left are history.
    const held = new Set(
      (await records.receipts(blob)).map((r) => r.orgId).filter((org) => organisations.includes(org)),
    );
    const copies = [...held].filter((org) => org !== blob.orgId).length;
    const enough = copies >= Math.min(replicas, order.length);
    const writerIsGone = !organisations.includes(blob.orgId);
    const rank = order.indexOf(orgId);
    const isWriter = orgId === blob.orgId;
    // An observer holds nothing: no receipt of it would count.
    if ((enough && (held.has(blob.orgId) || writerIsGone)) || (rank === -1 && !isWriter)) {
      await records.settle(blob);
      this.#pauses.delete(id);
    } else if (held.has(orgId) || (enough && !isWriter)) {
      // Somebody may have told the others while this node was away.
      this.#pauseLonger(id);
      this.#talk(() => this.#receipts.collect(blob));
    } else if ((await records.upload(blob.cid)) !== undefined) {
      this.#work(this.#keeping, blob, () => this.#copy(blob));
    } else if (isWriter || rank < replicas) {
      this.#work(this.#copies, blob, () => this.#copy(blob));
    } else if (await this.#standbyIsDue(blob, rank - replicas + 1)) {
      this.#work(this.#copies, blob, () => this.#stepIn(blob));
    }
  }

  #work(queue: FairQueue, blob: NamedBlob, work: () => Promise<void>): void {
    const id = idOf(blob);
    const task = (): Promise<void> => runAside(this.#context, work()).finally(() => this.#busy.delete(id));
    if (queue.offer(blob.orgId, task)) this.#busy.add(id);
  }

  #talk(work: () => Promise<void>): void {
    this.#talks.offer('', () => runAside(this.#context, work()));
  }

  /** Whether those before this one in order had their time. */
  async #standbyIsDue(blob: NamedBlob, place: number): Promise<boolean> {
    const { chain, nowMs } = this.#context;
    const committedMs = (await chain.header(blob.height))?.header.timestampMs ?? 0;
    const stepMs = STANDBY_STEP_MS + Math.ceil(blob.sizeBytes / SLOW_COPY_BYTES_PER_MS);
    const untilMs = committedMs + standbyMs(place, stepMs);
    if (nowMs() >= untilMs) return true;
    this.#setPause(idOf(blob), { untilMs, lengthMs: 0 });
    return false;
  }

  /** Whoever comes back after a day must not copy what has long been copied: the others may know more. */
  async #stepIn(blob: NamedBlob): Promise<void> {
    const { records } = this.#context;
    const before = (await records.receipts(blob)).length;
    await this.#receipts.collect(blob);
    if ((await records.receipts(blob)).length === before) await this.#copy(blob);
  }

  /** Brings the blob here if need be, checks the whole of it, keeps it, and tells everybody with a signed receipt. */
  async #copy(blob: NamedBlob): Promise<void> {
    const { store, records, nowMs } = this.#context;
    const cid = CID.decode(blob.cid);
    const id = idOf(blob);
    // Whatever goes wrong from here on is not tried again at once.
    this.#pauseLonger(id);
    if ((await store.stat(cid)) === undefined) {
      const fetched = await this.#fetcher.fetch(blob);
      if (!fetched.ok) return this.#couldNotFetch(blob, fetched);
    }
    let kept: boolean;
    try {
      kept = await this.#keepIfTrue(blob, cid);
    } catch (error) {
      if (!isDamage(error)) throw error;
      // Blocks are missing or damaged: fetching brings them back.
      const healed = await this.#fetcher.fetch(blob);
      if (!healed.ok) return this.#couldNotFetch(blob, healed);
      kept = await this.#keepIfTrue(blob, cid);
    }
    if (!kept) return this.#giveUp(blob, cid);
    await records.forgetUpload(blob.cid);
    this.#fetcher.keep(cid);
    const receipt = await this.#receipts.sign(blob);
    this.#setPause(id, { untilMs: nowMs() + RECEIPTS_MS, lengthMs: 0 });
    this.#talk(() => this.#receipts.spread(blob, receipt));
  }

  /**
   * Keeps the bytes that are here if they are those that the record speaks of.
   * @throws EmrError BLOB_NOT_FOUND, BLOB_INCOMPLETE, BLOCK_CORRUPT when they are not all here
   */
  async #keepIfTrue(blob: NamedBlob, cid: CID): Promise<boolean> {
    const { store, stopped } = this.#context;
    const stat = await store.stat(cid);
    if (stat !== undefined && stat.sizeBytes !== blob.sizeBytes) return false;
    // Hashing takes its time: what is here must not be collected meanwhile.
    if (stat?.state === 'staged') this.#uploads.promise(cid, stat.createdMs);
    if (!equalBytes(await digestOf(this.#context, cid), blob.dataDigest)) return false;
    await store.pin(cid, stopped);
    return true;
  }

  async #couldNotFetch(blob: NamedBlob, why: Extract<Verdict, { ok: false }>): Promise<void> {
    const cid = CID.decode(blob.cid);
    if (FETCH_FAULTS[why.code] === 'record') return this.#giveUp(blob, cid, why.code);
    this.#context.log('warn', { cid: cid.toString(), code: why.code }, 'ciphertext could not be copied yet');
  }

  /**
   * The record lies about its ciphertext: nobody signs for it. What was fetched for it alone is not kept; what somebody
   * uploaded here, or is kept already, or another record names, is none of its business.
   */
  async #giveUp(blob: NamedBlob, cid: CID, code = 'BLOB_DIGEST_MISMATCH'): Promise<void> {
    const { store, records, log } = this.#context;
    const [stat, upload, names] = await Promise.all([
      store.stat(cid),
      records.upload(blob.cid),
      records.named(blob.cid),
    ]);
    const isNobodysElse = upload === undefined && names.every((other) => agree(other, blob));
    if (stat?.state === 'staged' && isNobodysElse) {
      await store.remove(cid);
      await records.forgetBytes(blob.cid);
    }
    await records.settle(blob);
    this.#pauses.delete(idOf(blob));
    const recordId = bytesToHex(blob.recordId);
    log('error', { cid: cid.toString(), recordId, code }, 'a record does not tell the truth about its ciphertext');
  }

  #pauseLonger(id: string): void {
    const lengthMs = Math.min(MAX_PAUSE_MS, 2 * (this.#pauses.get(id)?.lengthMs ?? 0) || MIN_PAUSE_MS);
    this.#setPause(id, { untilMs: this.#context.nowMs() + lengthMs, lengthMs });
  }

  #setPause(id: string, pause: Pause): void {
    if (this.#pauses.size >= MAX_PAUSES) this.#pauses.clear();
    this.#pauses.set(id, pause);
  }
}

const idOf = (blob: NamedBlob): string => `${bytesToHex(blob.cid)}/${bytesToHex(blob.dataDigest)}`;

/** The ciphertext that the transactions of a block name. */
function namedIn(txs: readonly Uint8Array[], at: number): readonly NamedBlob[] {
  const named: NamedBlob[] = [];
  for (const bytes of txs) {
    // Decoding thousands of approvals to find that they name nothing would keep consensus waiting.
    if (Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).indexOf(RECORD_CALL) === -1) continue;
    const tx = decodeTransaction(bytes);
    if (!tx.ok) throw new InvariantError('a stored transaction does not decode');
    const { call, account } = tx.value.body;
    if (call.kind !== 'record.create' && call.kind !== 'record.addVersion') continue;
    const isNew = call.kind === 'record.create';
    const { cid, sizeBytes, dataDigest } = call.content;
    const recordId = isNew ? recordIdOf(account, call.owner, call.nonce, call.sectionClass) : call.recordId;
    const version = isNew ? 1 : call.version;
    named.push({ cid, recordId, version, orgId: call.hospital, sizeBytes, dataDigest, height: at });
  }
  return named;
}
