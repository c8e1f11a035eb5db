/**
 * Shows states to members that have none: which there are, the changes of the validator set that lead to them, their block,
 * and their entries with proofs. Proving costs the thread: a pause as long as the work follows each piece, so that
 * newcomers never take more than half of it, however many ask.
 */
import { EmrError } from '../../common/errors.ts';
import type { Height, TimeMs } from '../../common/protocol/primitives.ts';
import { MAX_HANDOVERS } from '../../common/protocol/light.ts';
import { isStateRange } from '../../common/protocol/state-tree.ts';
import { decodeRoot, type NodeReader, nodeKey, proveRange } from '../../vm/state-tree/index.ts';
import type { Clock } from '../clock.ts';
import { encodeCertifiedBlock } from '../host/wire.ts';
import type { Network } from '../network/types.ts';
import type { ChainStore } from '../storage/chain-store.ts';
import type { StateHistory } from '../storage/state-history.ts';
import {
  decodeSnapshotRequest,
  encodeEntries,
  encodeHandover,
  encodeOffers,
  type KeyRange,
  MAX_OFFERS,
  type SnapshotRequest,
} from './wire.ts';

/** Entries and bytes of one answer: some 20 ms of hashing. */
const MAX_SERVED_ENTRIES = 1_000;
const MAX_SERVED_ENTRY_BYTES = 256 * 1024;
/** A newcomer that fetches a state asks again within seconds. */
const IN_USE_MS = 60_000;

export interface SnapshotServerPorts {
  readonly network: Pick<Network, 'onRequest'>;
  readonly store: ChainStore;
  readonly history: StateHistory;
  readonly clock: Clock;
  /** A monotonic clock in milliseconds. */
  monotonicMs(): number;
}

export class SnapshotServer {
  readonly #ports: SnapshotServerPorts;
  readonly #nodes: NodeReader;
  /** When each height was asked for last. Bounded by the heights that are there. */
  readonly #askedMs = new Map<Height, TimeMs>();
  /** One proof at a time, each after the pause that the last one costs. */
  #turn: Promise<void> = Promise.resolve();

  constructor(ports: SnapshotServerPorts) {
    this.#ports = ports;
    const { store } = ports;
    // Not through the executor's cache: a newcomer reads everything once, and would drive out what blocks need.
    this.#nodes = { getNode: (ref) => store.stateNode(nodeKey(ref)) };
  }

  start(): void {
    this.#ports.network.onRequest('snapshot', (_from, payload, signal) => this.#serve(payload, signal));
  }

  async *#serve(payload: Uint8Array, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const decoded = decodeSnapshotRequest(payload);
    if (!decoded.ok) throw new EmrError(decoded.code, `not a request for a snapshot: ${decoded.message}`);
    const request: SnapshotRequest = decoded.value;
    switch (request.kind) {
      case 'offers':
        yield encodeOffers(this.#offers());
        return;
      case 'handovers':
        for (const handover of await this.#ports.store.handoversFrom(request.from, MAX_HANDOVERS)) {
          yield encodeHandover(handover);
        }
        return;
      case 'block':
        yield* this.#block(request.height);
        return;
      case 'entries':
        yield await this.#entries(request.height, request.range, signal);
        return;
    }
  }

  /** Whether somebody has asked for entries of this state lately. */
  isInUse(height: Height): boolean {
    const askedMs = this.#askedMs.get(height);
    return askedMs !== undefined && this.#ports.clock.nowMs() - askedMs < IN_USE_MS;
  }

  #offers(): { height: Height; blockHash: Uint8Array }[] {
    const { history, store } = this.#ports;
    const heights = [...history.pins].reverse().slice(0, MAX_OFFERS);
    return heights.flatMap((height) => {
      const at = store.headerAt(height);
      return at === null ? [] : [{ height, blockHash: at.hash }];
    });
  }

  async *#block(height: Height): AsyncGenerator<Uint8Array> {
    const { store } = this.#ports;
    const certificate = store.certificateAt(height);
    const block = await store.blockAt(height);
    const receipts = await store.encodedReceiptsAt(height);
    if (block === null || certificate === null || receipts === null) throw gone(height);
    yield encodeCertifiedBlock({ block, certificate });
    yield* receipts;
  }

  /** Any state that is still there is shown, whether it was offered or not. */
  async #entries(height: Height, range: KeyRange, signal: AbortSignal): Promise<Uint8Array> {
    const { store, history } = this.#ports;
    if (!isStateRange(range)) throw new EmrError('STATE_RANGE_INVALID', 'the range that was asked for is none');
    const end = history.reading(height);
    if (end === null) throw gone(height);
    try {
      const root = store.stateRootAt(height);
      if (root === null) throw gone(height);
      this.#noteAsked(height);
      return await this.#inTurn(signal, () => {
        const proven = proveRange(this.#nodes, decodeRoot(root), range, MAX_SERVED_ENTRIES, MAX_SERVED_ENTRY_BYTES);
        return encodeEntries({ lt: proven.lt, proof: proven.proof });
      });
    } finally {
      end();
    }
  }

  #noteAsked(height: Height): void {
    const nowMs = this.#ports.clock.nowMs();
    for (const [at, askedMs] of this.#askedMs) if (nowMs - askedMs >= IN_USE_MS) this.#askedMs.delete(at);
    this.#askedMs.set(height, nowMs);
  }

  async #inTurn<T>(signal: AbortSignal, work: () => T): Promise<T> {
    const before = this.#turn;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#turn = promise;
    await before;
    const { clock } = this.#ports;
    const startedMs = this.#ports.monotonicMs();
    try {
      signal.throwIfAborted();
      return work();
    } finally {
      clock.after(this.#ports.monotonicMs() - startedMs, resolve);
    }
  }
}

const gone = (height: Height): EmrError =>
  new EmrError('SNAPSHOT_GONE', `the state after block ${height} is not here, or not any more`);
