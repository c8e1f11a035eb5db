/**
 * Begins a node's chain with a state of the others. From the genesis it follows the changes of the validator set to the
 * block of a snapshot, fetches the state after it in pieces from whoever has it, each proven to be complete under the
 * header's root, and hands the whole to be adopted. Nothing that a peer says is believed beyond its proof: one that
 * proves nothing is left out, and the rest go on.
 */
import { bytesToHex, equalBytes } from '../../common/bytes.ts';
import { assert, EmrError } from '../../common/errors.ts';
import type { Height } from '../../common/protocol/primitives.ts';
import type { ValidatorSet } from '../../common/protocol/validator-set.ts';
import { NO_LEADER_HISTORY } from '../../consensus/leader-order.ts';
import { proposedBlock } from '../../consensus/messages.ts';
import type { Clock } from '../clock.ts';
import type { Log } from '../log.ts';
import type { Network } from '../network/types.ts';
import type { ChainStore, RestoredBlock } from '../storage/chain-store.ts';
import type { TransactionChecker } from '../verification/transaction-checker.ts';
import { middleOf } from './key-range.ts';
import { headerOf, MAX_OPEN_RANGES, type RestoreStore, type RestoreTarget } from './restore-store.ts';
import { SnapshotPeers } from './snapshot-peers.ts';
import type { TrustChain } from './trust-chain.ts';
import type { KeyRange, Offer } from './wire.ts';

/** Peers that are asked at a time, one piece each: some 256 KiB. */
const MAX_PARALLEL = 4;
/** A peer that did not answer is asked again after this long. */
const PAUSE_MS = 2_000;
/** A state of which nobody has shown a piece for this long is given up for another. */
const GIVE_UP_MS = 30_000;
/** How long a new node waits for members to connect before it takes the blocks instead. */
const PATIENCE_MS = 5_000;
const LOOK_AGAIN_MS = 250;
/** States that are tried before the blocks are fetched instead. */
const MAX_ATTEMPTS = 8;

export interface SnapshotRestorerPorts {
  readonly clock: Clock;
  readonly log: Log;
  readonly network: Pick<Network, 'request' | 'peers'>;
  readonly checker: Pick<TransactionChecker, 'decodeCertified'>;
  readonly trust: TrustChain;
  readonly founders: ValidatorSet;
  readonly store: ChainStore;
  readonly restoring: RestoreStore;
  /** Snapshots below this height are not worth it; 0 takes none. */
  readonly fromBlocks: number;
  /** Makes the block the head, in the one place where heads change. */
  adopt(restored: RestoredBlock): Promise<void>;
}

/** A piece that somebody is asked for, or will be. */
interface Piece {
  readonly range: KeyRange;
  /** An answer was cut short here: there is more than one answer's worth. */
  readonly isLarge: boolean;
}

export class SnapshotRestorer {
  readonly #ports: SnapshotRestorerPorts;
  readonly #abort = new AbortController();
  readonly #peers: SnapshotPeers;
  readonly #startedMs: number;
  /** What a peer showed proved nothing: it is not asked again by this process. */
  readonly #liars = new Set<string>();
  readonly #pausedUntil = new Map<string, number>();
  /** Snapshots that nobody could show, by hash. */
  readonly #givenUp = new Set<string>();
  #isOver: boolean;

  constructor(ports: SnapshotRestorerPorts) {
    this.#ports = ports;
    this.#peers = new SnapshotPeers({ ...ports, signal: this.#abort.signal });
    this.#startedMs = ports.clock.nowMs();
    this.#isOver = ports.restoring.target === null && (ports.fromBlocks === 0 || ports.store.head.header.height > 0);
  }

  /** Whether this node may still begin with a snapshot: until that is decided it takes no block. */
  get isPending(): boolean {
    return !this.#isOver && (this.height !== null || this.#ports.store.head.header.height === 0);
  }

  /** Height of the state that is being restored. */
  get height(): Height | null {
    const { target } = this.#ports.restoring;
    return target === null ? null : headerOf(target).height;
  }

  stop(): void {
    this.#abort.abort(new EmrError('STOPPED', 'the node is stopping'));
  }

  /**
   * Begins with a snapshot if there is one, and takes up what an earlier process began.
   * @returns when that is done, or when there is none and the blocks have to be fetched
   */
  async restore(): Promise<void> {
    if (this.#isOver) return;
    const { restoring, store, log } = this.#ports;
    const attempts = store.head.header.height > 0 ? 0 : MAX_ATTEMPTS;
    if (restoring.isAbandoned || attempts === 0) await restoring.abandon();
    for (let attempt = 0; attempt < attempts && !this.#stopped; attempt += 1) {
      const target = restoring.target ?? (await this.#choose());
      if (target === null || this.#stopped) break;
      if (restoring.target === null) await restoring.begin(target);
      const { height } = headerOf(target);
      log.info({ height, missing: restoring.open.length }, 'fetching the state of a snapshot');
      if (await this.#fetchAll(target)) {
        await this.#adopt(target);
        log.info({ height }, 'began with a snapshot');
        break;
      }
      if (this.#stopped) return;
      log.warn({ height }, 'nobody shows this snapshot any more; looking for another');
      this.#givenUp.add(hashOf(target));
      await restoring.abandon();
    }
    if (!this.#stopped) this.#isOver = true;
  }

  get #stopped(): boolean {
    return this.#abort.signal.aborted;
  }

  /** The highest snapshot that a peer proves; null when there is none. */
  async #choose(): Promise<RestoreTarget | null> {
    for (;;) {
      const target = await this.#proveOne(await this.#offers());
      if (target !== null || this.#stopped) return target;
      const { clock, network } = this.#ports;
      const all = network.peers().every(({ connected }) => connected);
      if (all || clock.nowMs() - this.#startedMs >= PATIENCE_MS) return null;
      await this.#sleep(LOOK_AGAIN_MS);
    }
  }

  async #offers(): Promise<{ readonly peerId: string; readonly offer: Offer }[]> {
    const { fromBlocks } = this.#ports;
    const asked = this.#willing().map(async (peerId) => {
      const answer = await this.#ask(peerId, () => this.#peers.offers(peerId));
      return (answer ?? [])
        .filter(({ height, blockHash }) => height >= fromBlocks && !this.#givenUp.has(bytesToHex(blockHash)))
        .map((offer) => ({ peerId, offer }));
    });
    return (await Promise.all(asked)).flat();
  }

  async #proveOne(
    offers: readonly { readonly peerId: string; readonly offer: Offer }[],
  ): Promise<RestoreTarget | null> {
    const highestFirst = [...offers].sort((a, b) => b.offer.height - a.offer.height);
    const failed = new Set<string>();
    for (const { peerId, offer } of highestFirst) {
      if (failed.has(peerId) || this.#stopped) continue;
      const target = await this.#ask(peerId, () => this.#peers.target(peerId, offer));
      if (target !== null) return target;
      // Others may offer the same. Whoever has failed once gets no more of the newcomer's time in this round.
      failed.add(peerId);
    }
    return null;
  }

  /** @returns false when nobody has shown anything for too long */
  async #fetchAll(target: RestoreTarget): Promise<boolean> {
    const { restoring, clock } = this.#ports;
    const waiting: Piece[] = restoring.open.map((range) => ({ range, isLarge: true }));
    const running = new Map<string, { readonly piece: Piece; found: boolean; done: Promise<void> }>();
    let lastMs = clock.nowMs();
    /** One piece after the other goes into the tree, whoever brings it. */
    let adding: Promise<void> = Promise.resolve();

    const fetch = async (peerId: string, { range, isLarge }: Piece): Promise<void> => {
      const found = await this.#ask(peerId, () => this.#peers.entries(peerId, target, range));
      const own = running.get(peerId);
      if (found === null || own === undefined) return void waiting.push({ range, isLarge });
      own.found = true;
      const isWhole = found.lt === null || (range.lt !== null && equalBytes(found.lt, range.lt));
      if (!isWhole) waiting.push({ range: { gte: found.lt, lt: range.lt }, isLarge: true });
      // What is being asked for is still missing: another process asks for it again.
      const asked = [...running.values()].filter((other) => !other.found).map(({ piece }) => piece);
      const open = [...waiting, ...asked].map((piece) => piece.range);
      adding = adding.then(() => restoring.add(found.entries, open));
      lastMs = clock.nowMs();
      await adding;
    };
    const begin = (peerId: string, piece: Piece): void => {
      const own = { piece, found: false, done: Promise.resolve() };
      running.set(peerId, own);
      own.done = fetch(peerId, piece).finally(() => running.delete(peerId));
      // Whoever waits for all of them meets it; one alone must not stop the process.
      own.done.catch(() => undefined);
    };

    const isStuck = (): boolean => clock.nowMs() - lastMs >= GIVE_UP_MS;
    while ((waiting.length > 0 || running.size > 0) && !this.#stopped && !isStuck()) {
      const idle = this.#willing().filter((peerId) => !running.has(peerId));
      for (const peerId of idle.slice(0, MAX_PARALLEL - running.size)) {
        if (waiting.length < idle.length && waiting.length + running.size < MAX_OPEN_RANGES - 1) divide(waiting);
        const piece = waiting.shift();
        if (piece === undefined) break;
        begin(peerId, piece);
      }
      if (running.size > 0) await Promise.race([...running.values()].map(({ done }) => done));
      else await this.#sleep(LOOK_AGAIN_MS);
    }
    await Promise.all([...running.values()].map(({ done }) => done));
    return !this.#stopped && waiting.length === 0 && this.#isWhole(target);
  }

  #isWhole(target: RestoreTarget): boolean {
    const { restoring, log } = this.#ports;
    const { height, stateRoot } = headerOf(target);
    if (restoring.open.length === 0 && equalBytes(restoring.rootHash, stateRoot)) return true;
    // Every piece was proven: only this machine can have got it wrong.
    log.error({ height }, 'the state that was fetched is not that of its block: check the disk');
    return false;
  }

  async #adopt(target: RestoreTarget): Promise<void> {
    const { restoring, store, checker, founders } = this.#ports;
    const { certified, receipts, handovers } = target;
    const opened = proposedBlock(certified.block);
    const txs = checker.decodeCertified(certified.block);
    assert(opened.ok && txs.ok, 'the block of a snapshot was checked before it was stored');
    const { header, hash } = opened.value;
    const next = restoring.validators();
    await this.#ports.adopt({
      committed: {
        hash,
        header,
        block: certified.block,
        certificate: certified.certificate,
        receipts,
        txHashes: txs.value.map(({ tx }) => tx.hash),
        nextValidators: next,
        leaders: NO_LEADER_HISTORY,
        state: { root: restoring.encodedRoot, newNodes: [], staleNodes: await store.stateNodesBefore(header.height) },
      },
      validators: handovers.at(-1)?.nextValidators ?? founders,
      handovers,
    });
    restoring.adopted();
  }

  /** @returns null when there is no answer to be used: the peer is away, busy, has nothing, or lies */
  async #ask<T>(
    peerId: string,
    question: () => Promise<{ ok: true; value: T } | { ok: false; code: string }>,
  ): Promise<T | null> {
    const { log, clock } = this.#ports;
    try {
      const answer = await question();
      if (answer.ok) return answer.value;
      this.#liars.add(peerId);
      log.warn({ peerId, code: answer.code }, 'a peer showed a snapshot that proves nothing');
    } catch (error) {
      if (this.#stopped) return null;
      if (!(error instanceof EmrError) || !error.code.startsWith('PEER_')) throw error;
      this.#pausedUntil.set(peerId, clock.nowMs() + PAUSE_MS);
      log.debug({ peerId, code: error.code }, 'a request for a snapshot failed');
    }
    return null;
  }

  /** Connected peers that have not lied, and have not failed to answer a moment ago. */
  #willing(): string[] {
    const { network, clock } = this.#ports;
    const nowMs = clock.nowMs();
    return network
      .peers()
      .filter(({ peerId, connected }) => connected && !this.#liars.has(peerId))
      .filter(({ peerId }) => (this.#pausedUntil.get(peerId) ?? 0) <= nowMs)
      .map(({ peerId }) => peerId);
  }

  #sleep(ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const cancel = this.#ports.clock.after(ms, resolve);
    this.#abort.signal.addEventListener(
      'abort',
      () => {
        cancel();
        resolve();
      },
      { once: true },
    );
    return promise;
  }
}

const hashOf = (target: RestoreTarget): string => bytesToHex(target.certified.certificate.blockHash);

/** Makes two pieces of a large one, if there is one that can be divided. */
function divide(waiting: Piece[]): void {
  const at = waiting.findIndex(({ isLarge }) => isLarge);
  const piece = waiting[at];
  const middle = piece === undefined ? null : middleOf(piece.range);
  if (piece === undefined || middle === null) return;
  const { gte, lt } = piece.range;
  waiting.splice(at, 1, { range: { gte, lt: middle }, isLarge: false }, { range: { gte: middle, lt }, isLarge: false });
}
