/**
 * Transactions between nodes: batches by gossip, and by request to every validator what has waited too long. Gossip
 * drops what it has seen before, so that it never repeats anything: whoever missed a batch depends on the second way.
 *
 * A node gives its batch to each member that it is connected to, and says whom it does not reach: passed on by everybody,
 * it would come to each member as often as there are members. Who is not reached depends on those who reach it.
 */
import { EmrError } from '../../common/errors.ts';
import type { Address, TimeMs } from '../../common/protocol/primitives.ts';
import type { Clock } from '../clock.ts';
import type { Member, Network, Opinion } from '../network/types.ts';
import { hashKey } from '../verification/hash-key.ts';
import type { RawTransaction } from '../verification/transaction-checker.ts';
import type { Mempool } from './mempool.ts';
import type { PoolEntry } from './pool.ts';
import {
  decodeFrame,
  encodeAnswer,
  encodeFrame,
  FRAME_TARGET_BYTES,
  MAX_ANSWER_BYTES,
  MAX_FRAME_TRANSACTIONS,
  MAX_UNREACHED,
  sizeOf,
} from './transaction-frame.ts';

/**
 * Frames leave at least so far apart; the first after a pause leaves at once. Where many wait for a block, a message of
 * its own for a few of them costs everybody more than the wait costs their senders.
 */
const COLLECT_MS = 5;
const COLLECT_BUSY_MS = 25;
/** Frames of peers that wait for their signatures; beyond that gossip is ignored: some 4 MiB. */
const MAX_FRAMES_UNDER_CHECK = 64;
/** [F2] After this long a client's transaction is sent to every validator; a peer's only when its own node seems not to. */
const ESCALATE_LOCAL_MS = 3_000;
const ESCALATE_OTHER_MS = 10_000;
/** And once more after this long. */
const ESCALATE_AGAIN_MS = 10_000;
const ESCALATION_TICK_MS = 1_000;
const REQUEST_IDLE_MS = 5_000;

export interface GossipPorts {
  readonly clock: Clock;
  readonly network: Pick<Network, 'publish' | 'audience' | 'onGossip' | 'request' | 'onRequest'>;
  /** Peer ids of the validators of the next height, without this node. */
  validatorPeers(): readonly string[];
}

export class TransactionGossip {
  readonly #ports: GossipPorts;
  readonly #mempool: Mempool;
  #outbox: RawTransaction[] = [];
  #outboxBytes = 0;
  #framesUnderCheck = 0;
  #cancelFlush: (() => void) | null = null;
  #flushedMs: TimeMs = 0;
  #cancelTick: () => void = () => {};
  #escalating = false;
  #stopped = false;

  constructor(mempool: Mempool, ports: GossipPorts) {
    this.#ports = ports;
    this.#mempool = mempool;
  }

  start(): void {
    const { network } = this.#ports;
    network.onGossip('transactions', (from, payload) => this.#onGossip(from, payload));
    network.onRequest('txs', (from, payload) => this.#onRequest(from, payload));
    this.#tick();
  }

  stop(): void {
    this.#stopped = true;
    this.#cancelFlush?.();
    this.#cancelTick();
  }

  /** Puts a client's transaction into the next batch. */
  spread(tx: RawTransaction): void {
    if (this.#outboxBytes + sizeOf(tx) > FRAME_TARGET_BYTES || this.#outbox.length >= MAX_FRAME_TRANSACTIONS)
      this.#flush();
    this.#outbox.push(tx);
    this.#outboxBytes += sizeOf(tx);
    this.#cancelFlush ??= this.#ports.clock.after(this.#pauseMs(), () => this.#flush());
  }

  #pauseMs(): number {
    const apartMs = this.#mempool.isBusy ? COLLECT_BUSY_MS : COLLECT_MS;
    // A clock that went back makes no wait longer.
    return Math.max(0, Math.min(apartMs, this.#flushedMs + apartMs - this.#ports.clock.nowMs()));
  }

  #flush(): void {
    this.#cancelFlush?.();
    this.#cancelFlush = null;
    if (this.#outbox.length === 0) return;
    const { network } = this.#ports;
    const transactions = this.#outbox;
    this.#outbox = [];
    this.#outboxBytes = 0;
    this.#flushedMs = this.#ports.clock.nowMs();
    const { unreached } = network.audience('transactions');
    network.publish('transactions', encodeFrame({ unreached: addressesOf(unreached), transactions }));
  }

  async #onGossip(from: Member, payload: Uint8Array): Promise<Opinion> {
    if (this.#framesUnderCheck >= MAX_FRAMES_UNDER_CHECK) return 'ignore';
    const frame = decodeFrame(payload);
    if (!frame.ok) return 'reject';
    const { transactions, unreached } = frame.value;
    const codes = await this.#admit(transactions, from);
    // An honest node passes on only what it has verified; state may differ between nodes, signatures cannot.
    if (codes.some((code) => UNFORGIVABLE.has(code))) return 'reject';
    // Not all of it was looked at: then it is not for us to pass on either.
    if (codes.includes('POOL_FULL')) return 'ignore';
    return this.#reachesOneOf(unreached) ? 'accept' : 'keep';
  }

  #reachesOneOf(addresses: readonly Address[]): boolean {
    if (addresses.length === 0) return false;
    const wanted = new Set(addresses.map(hashKey));
    return this.#ports.network.audience('transactions').reached.some(({ address }) => wanted.has(hashKey(address)));
  }

  async *#onRequest(from: Member, payload: Uint8Array): AsyncGenerator<Uint8Array> {
    const frame = decodeFrame(payload);
    if (!frame.ok) throw new EmrError(frame.code, `not a batch of transactions: ${frame.message}`);
    if (this.#framesUnderCheck >= MAX_FRAMES_UNDER_CHECK)
      throw new EmrError('BUSY', 'too many transactions are being verified');
    yield encodeAnswer(await this.#admit(frame.value.transactions, from));
  }

  async #admit(frame: readonly RawTransaction[], from: Member): Promise<string[]> {
    this.#framesUnderCheck += 1;
    try {
      const verdicts = await this.#mempool.admit(frame, from.peerId);
      return verdicts.map((verdict) => (verdict.ok ? 'ACCEPTED' : verdict.code));
    } catch (error) {
      // The database was closed while signatures were being verified.
      if (this.#stopped) return frame.map(() => 'POOL_FULL');
      throw error;
    } finally {
      this.#framesUnderCheck -= 1;
    }
  }

  #tick(): void {
    this.#cancelTick = this.#ports.clock.after(ESCALATION_TICK_MS, () => {
      if (!this.#escalating) void this.#escalate();
      this.#tick();
    });
  }

  /** One frame of what has waited too long goes to every validator. */
  async #escalate(): Promise<void> {
    const nowMs = this.#ports.clock.nowMs();
    const overdue: PoolEntry[] = [];
    let bytes = 0;
    // A client's are the first to be overdue.
    for (const entry of this.#mempool.waiting(ESCALATE_LOCAL_MS)) {
      const patience = entry.from === null ? ESCALATE_LOCAL_MS : ESCALATE_OTHER_MS;
      if (nowMs - entry.receivedMs < patience || nowMs - entry.escalatedMs < ESCALATE_AGAIN_MS) continue;
      bytes += entry.sizeBytes;
      if (bytes > FRAME_TARGET_BYTES || overdue.length >= MAX_FRAME_TRANSACTIONS) break;
      overdue.push(entry);
    }
    if (overdue.length === 0) return;
    for (const entry of overdue) entry.escalatedMs = nowMs;
    this.#escalating = true;
    const transactions = overdue.map(({ checked, sidecar }) => ({ bytes: checked.tx.bytes, sidecar }));
    const payload = encodeFrame({ unreached: [], transactions });
    try {
      await Promise.all(this.#ports.validatorPeers().map((peerId) => this.#send(peerId, payload)));
    } finally {
      this.#escalating = false;
    }
  }

  /** What a validator answers changes nothing here: the transaction stays until a block has it or it expires. */
  async #send(peerId: string, payload: Uint8Array): Promise<void> {
    const options = { maxFrames: 1, maxFrameBytes: MAX_ANSWER_BYTES, idleTimeoutMs: REQUEST_IDLE_MS };
    try {
      for await (const answer of this.#ports.network.request(peerId, 'txs', payload, options)) void answer;
    } catch (error) {
      if (!(error instanceof EmrError)) throw error;
    }
  }
}

const addressesOf = (members: readonly Member[]): Address[] =>
  members.slice(0, MAX_UNREACHED).map(({ address }) => address);

const UNFORGIVABLE: ReadonlySet<string> = new Set([
  'MALFORMED',
  'NOT_CANONICAL',
  'BAD_SIGNATURE',
  'SIDECAR_MISSING',
  'SIDECAR_MISMATCH',
  'SIDECAR_UNEXPECTED',
]);
