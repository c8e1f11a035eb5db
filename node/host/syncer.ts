/**
 * Fetches what this node lacks: committed blocks when it is behind, bodies when it has a certificate without one. A
 * peer's claim to be ahead is a hint and no more: blocks prove themselves, and a peer that proves nothing is left for a
 * while. It starts and ends by itself, as often as need be.
 */
import { EmrError, type Verdict } from '../../common/errors.ts';
import { MAX_ENCODED_BLOCK_BYTES } from '../../common/protocol/block.ts';
import type { Hash, Height } from '../../common/protocol/primitives.ts';
import { proposedBlock, type ProposedBlock } from '../../consensus/messages.ts';
import type { Verified } from '../../consensus/types.ts';
import { verifyFetched } from '../../consensus/verification.ts';
import type { Clock } from '../clock.ts';
import type { Log } from '../log.ts';
import type { Network } from '../network/types.ts';
import { MAX_SERVED_BLOCKS } from './block-server.ts';
import type { SnapshotRestorer } from '../snapshot/snapshot-restorer.ts';
import { ReadAhead } from './read-ahead.ts';
import {
  type CertifiedBlock,
  decodeBody,
  decodeCertifiedBlock,
  decodeHeadNotice,
  encodeBlocksRequest,
  MAX_CERTIFIED_BLOCK_BYTES,
} from './wire.ts';

const REQUEST_IDLE_MS = 5_000;
/** A peer that sent nothing useful is not asked again for this long, unless nobody else is there. */
const SHUN_MS = 5_000;
/**
 * Whoever takes no part in consensus looks for new blocks this often. A validator, which hears of them, does so only when
 * it has seen no block for a while: its set may be stale, and then it understands nobody.
 */
const POLL_OBSERVER_MS = 500;
const POLL_VALIDATOR_MS = 5_000;

/** Blocks that wait while others are applied. They are committed together, so this bounds a batch of the database, too. */
const MAX_AHEAD_BLOCKS = 64;
const MAX_AHEAD_BYTES = 4 * 1024 * 1024;

export interface SyncerPorts {
  readonly chainId: Hash;
  readonly clock: Clock;
  readonly log: Log;
  readonly network: Pick<Network, 'request' | 'peers' | 'onGossip'>;
  headHeight(): Height;
  /** Whether this node is in the set of the next height. */
  isValidator(): boolean;
  /** The serial apply path, for blocks in order. */
  apply(blocks: readonly CertifiedBlock[]): Promise<Verdict>;
  /** Begins with a state of the others where that is the way. */
  readonly restorer: Pick<SnapshotRestorer, 'restore' | 'isPending' | 'height' | 'stop'>;
  /** A bug of ours, or a failed disk: the node stops. */
  failed(error: unknown): void;
}

export class Syncer {
  readonly #ports: SyncerPorts;
  /** Highest height that somebody claimed. */
  #claimed: Height = 0;
  /** Who claimed it, to be asked first. */
  #claimant: string | null = null;
  #source: string | null = null;
  readonly #shunnedUntil = new Map<string, number>();
  #running = false;
  #stopped = false;
  #lastProgressMs: number;
  #nextPeer = 0;
  readonly #abort = new AbortController();
  #cancelPoll: () => void = () => {};
  #work: Promise<void> = Promise.resolve();

  constructor(ports: SyncerPorts) {
    this.#ports = ports;
    this.#lastProgressMs = ports.clock.nowMs();
  }

  start(): void {
    this.#ports.network.onGossip('heads', (from, payload) => {
      const notice = decodeHeadNotice(payload);
      if (!notice.ok) return 'reject';
      // Validators hear of heads in votes and signed statuses, and mostly decide the block themselves a moment later.
      if (!this.#ports.isValidator()) this.hint(notice.value.height, from.peerId);
      return 'accept';
    });
    this.#poll();
    // An earlier process has begun, and need not hear of anything to go on.
    if (this.#ports.restorer.height !== null) this.#start();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelPoll();
    this.#abort.abort();
    this.#ports.restorer.stop();
    await this.#work;
  }

  /** Whether blocks are being fetched that somebody has and this node has not. */
  get syncing(): boolean {
    return this.#running && this.highestClaimed > this.#ports.headHeight() + 1;
  }

  /** Who is being asked for blocks; null while nobody is. */
  get sourcePeerId(): string | null {
    return this.#source;
  }

  /** Whether this node may yet begin with a snapshot, or is about to. */
  get mayRestore(): boolean {
    return this.#ports.restorer.isPending;
  }

  get highestClaimed(): Height {
    return Math.max(this.#claimed, this.#ports.restorer.height ?? 0, this.#ports.headHeight());
  }

  /** Somebody seems to have this height. */
  hint(height: Height, peerId: string): void {
    if (height <= this.#ports.headHeight() || this.#stopped || this.#isShunned(peerId)) return;
    this.#claimant = peerId;
    this.#claimed = Math.max(this.#claimed, height);
    this.#start();
  }

  /** To be called when a block was committed, by whatever way. */
  progressed(): void {
    this.#lastProgressMs = this.#ports.clock.nowMs();
  }

  /** Asks those peers in turn for the body of an uncommitted block. */
  async fetchBody(hash: Hash, peerIds: readonly string[]): Promise<Verified<ProposedBlock> | null> {
    const request = encodeBlocksRequest({ kind: 'body', hash });
    for (const peerId of peerIds) {
      try {
        const options = { maxFrames: 1, maxFrameBytes: MAX_ENCODED_BLOCK_BYTES, ...this.#options() };
        for await (const frame of this.#ports.network.request(peerId, 'blocks', request, options)) {
          const block = decodeBody(frame);
          const opened = block.ok ? proposedBlock(block.value) : block;
          const fetched = opened.ok ? verifyFetched(opened.value, hash, this.#ports.chainId) : opened;
          if (fetched.ok) return fetched.value;
        }
      } catch (error) {
        this.#requestFailed(peerId, error);
      }
      if (this.#stopped) return null;
    }
    return null;
  }

  #options(): { readonly idleTimeoutMs: number; readonly signal: AbortSignal } {
    return { idleTimeoutMs: REQUEST_IDLE_MS, signal: this.#abort.signal };
  }

  #poll(): void {
    const { clock } = this.#ports;
    if (this.#stopped) return;
    const everyMs = this.#ports.isValidator() ? POLL_VALIDATOR_MS : POLL_OBSERVER_MS;
    this.#cancelPoll = clock.after(everyMs, () => {
      if (clock.nowMs() - this.#lastProgressMs >= everyMs) this.#start();
      this.#poll();
    });
  }

  #start(): void {
    if (this.#running || this.#stopped) return;
    this.#running = true;
    this.#work = this.#run()
      .catch((error: unknown) => this.#ports.failed(error))
      .finally(() => {
        this.#running = false;
        this.#source = null;
      });
  }

  /** Asks peer after peer, and stays with one as long as it brings blocks. Ends when nobody has any. */
  async #run(): Promise<void> {
    await this.#ports.restorer.restore();
    const asked = new Set<string>();
    for (let peerId = this.#choose(asked); peerId !== null; peerId = this.#choose(asked)) {
      asked.add(peerId);
      this.#source = peerId;
      while (!this.#stopped && (await this.#fetchFrom(peerId))) asked.clear();
      if (this.#stopped) return;
    }
    // Nobody proved more than this: whoever claimed it lied, or is gone.
    this.#claimed = this.#ports.headHeight();
    this.#claimant = null;
  }

  #choose(asked: ReadonlySet<string>): string | null {
    const connected = this.#ports.network.peers().filter((peer) => peer.connected && !asked.has(peer.peerId));
    const willing = connected.filter((peer) => !this.#isShunned(peer.peerId));
    const claimant = willing.find((peer) => peer.peerId === this.#claimant);
    if (claimant !== undefined) return claimant.peerId;
    // Without a hint one peer is enough: this is only a look around.
    if (this.#claimed <= this.#ports.headHeight() && asked.size > 0) return null;
    const from = willing.length > 0 ? willing : connected;
    this.#nextPeer += 1;
    return from[this.#nextPeer % Math.max(1, from.length)]?.peerId ?? null;
  }

  /**
   * Blocks of one peer for as long as it has some: the next answers are asked for and read while the last are applied.
   * @returns whether that brought a block that this node lacked, so that asking again makes sense
   */
  async #fetchFrom(peerId: string): Promise<boolean> {
    const before = this.#ports.headHeight();
    const ahead = new ReadAhead<CertifiedBlock>({ items: MAX_AHEAD_BLOCKS, bytes: MAX_AHEAD_BYTES });
    const enough = new AbortController();
    const reading = this.#read(peerId, before + 1, ahead, AbortSignal.any([this.#abort.signal, enough.signal]));
    const bad = await this.#applyAll(ahead);
    enough.abort();
    const refused = (await reading) ?? bad;
    if (this.#stopped) return false;
    if (refused !== null) {
      this.#shun(peerId);
      this.#ports.log.warn({ peerId, code: refused }, 'a peer sent a block that proves nothing');
      return false;
    }
    const progressed = this.#ports.headHeight() > before;
    // It claimed more than it has: its next claims are not believed for a while.
    if (!progressed && peerId === this.#claimant) this.#shun(peerId);
    return progressed;
  }

  /** @returns the code of what is wrong with an answer, if anything is */
  async #read(
    peerId: string,
    from: Height,
    ahead: ReadAhead<CertifiedBlock>,
    signal: AbortSignal,
  ): Promise<string | null> {
    const options = {
      maxFrames: MAX_SERVED_BLOCKS,
      maxFrameBytes: MAX_CERTIFIED_BLOCK_BYTES,
      idleTimeoutMs: REQUEST_IDLE_MS,
      signal,
    };
    let height = from;
    try {
      for (let asked = -1; asked !== height;) {
        asked = height;
        const request = encodeBlocksRequest({ kind: 'from', height });
        for await (const frame of this.#ports.network.request(peerId, 'blocks', request, options)) {
          const block = decodeCertifiedBlock(frame);
          if (!block.ok) return block.code;
          if (!(await ahead.put(block.value, frame.length))) return null;
          height += 1;
        }
      }
    } catch (error) {
      if (!signal.aborted) this.#requestFailed(peerId, error);
    } finally {
      ahead.end();
    }
    return null;
  }

  /** @returns the code of what is wrong with the first bad block, if there is one */
  async #applyAll(ahead: ReadAhead<CertifiedBlock>): Promise<string | null> {
    try {
      for (;;) {
        const before = this.#ports.headHeight();
        const blocks = await ahead.take();
        if (blocks.length === 0) return null;
        const applied = await this.#ports.apply(blocks);
        if (!applied.ok) return applied.code;
        // Blocks that this node has, over and over: it is kept busy.
        if (this.#stopped || this.#ports.headHeight() === before) return null;
      }
    } finally {
      ahead.end();
    }
  }

  #isShunned(peerId: string): boolean {
    return (this.#shunnedUntil.get(peerId) ?? 0) > this.#ports.clock.nowMs();
  }

  #requestFailed(peerId: string, error: unknown): void {
    if (this.#stopped) return;
    if (!(error instanceof EmrError) || STORAGE_CODES.has(error.code)) throw error;
    this.#shun(peerId);
    this.#ports.log.debug({ peerId, code: error.code }, 'a request for blocks failed');
  }

  #shun(peerId: string): void {
    const nowMs = this.#ports.clock.nowMs();
    for (const [known, untilMs] of this.#shunnedUntil) if (untilMs <= nowMs) this.#shunnedUntil.delete(known);
    this.#shunnedUntil.set(peerId, nowMs + SHUN_MS);
  }
}

/** Of our own disk; everything else that is thrown here is about the peer. */
const STORAGE_CODES: ReadonlySet<string> = new Set(['STORAGE_FAILED', 'DATA_CORRUPT', 'STORAGE_CLOSED']);
