/**
 * Gives committed blocks with their certificates to members that lack them, and bodies that this node voted for to
 * validators that need one to go on. Answers are bounded; whoever wants more asks again.
 */
import { EmrError } from '../../common/errors.ts';
import type { Hash, Height } from '../../common/protocol/primitives.ts';
import type { Member, Network } from '../network/types.ts';
import type { ChainStore } from '../storage/chain-store.ts';
import type { SafetyStore } from '../storage/safety-store.ts';
import { decodeBlocksRequest, encodeBody, encodeCertifiedBlock, wrapDirect } from './wire.ts';

/** Blocks and bytes of one answer: a round trip for each 64 small blocks, and memory for a few large ones. */
export const MAX_SERVED_BLOCKS = 64;
/** Blocks of an answer that are in memory at a time: one is sent while the others are read from disk. */
const READ_AHEAD = 4;
const MAX_SERVED_BYTES = 16 * 1024 * 1024;
/** Blocks pushed to a validator that is stuck; the rest it fetches itself. The direct queue holds some 24 MiB. */
const MAX_PUSHED_BLOCKS = 4;
const MAX_PUSHED_BYTES = 8 * 1024 * 1024;

export interface BlockServerPorts {
  readonly network: Pick<Network, 'onRequest' | 'sendDirect'>;
  readonly store: ChainStore;
  readonly safety: SafetyStore;
}

export class BlockServer {
  readonly #ports: BlockServerPorts;
  /** Peers that a push is under way to. */
  readonly #pushing = new Set<string>();

  constructor(ports: BlockServerPorts) {
    this.#ports = ports;
  }

  start(): void {
    this.#ports.network.onRequest('blocks', (from, payload, signal) => this.#serve(from, payload, signal));
  }

  /** Sends a validator the blocks that it seems to miss. Lost when it is away: it will ask, or be seen to be stuck again. */
  async push(peerId: string, fromHeight: Height): Promise<void> {
    if (this.#pushing.has(peerId)) return;
    this.#pushing.add(peerId);
    try {
      let bytes = 0;
      for (let height = Math.max(1, fromHeight); height < fromHeight + MAX_PUSHED_BLOCKS; height += 1) {
        const encoded = await this.#encoded(height);
        if (encoded === null || bytes + encoded.length > MAX_PUSHED_BYTES) return;
        bytes += encoded.length;
        this.#ports.network.sendDirect(peerId, wrapDirect('block', encoded));
      }
    } finally {
      this.#pushing.delete(peerId);
    }
  }

  async *#serve(_from: Member, payload: Uint8Array, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const request = decodeBlocksRequest(payload);
    if (!request.ok) throw new EmrError(request.code, `not a request for blocks: ${request.message}`);
    if (request.value.kind === 'body') {
      const body = await this.#body(request.value.hash);
      if (body !== null) yield body;
      return;
    }
    let bytes = 0;
    const first = Math.max(1, request.value.height);
    if (first < this.#ports.store.lowestBlock) {
      throw new EmrError('PRUNED', 'this node began with a snapshot and has no blocks from before it');
    }
    const reading: Promise<Uint8Array | null>[] = [];
    for (let height = first; height < first + MAX_SERVED_BLOCKS && !signal.aborted; height += 1) {
      while (reading.length < READ_AHEAD && height + reading.length < first + MAX_SERVED_BLOCKS) {
        const next = this.#encoded(height + reading.length);
        // Of the one that is waited for, the failure is thrown; nobody waits for those after it then.
        next.catch(() => undefined);
        reading.push(next);
      }
      const encoded = (await reading.shift()) ?? null;
      if (encoded === null) return;
      bytes += encoded.length;
      yield encoded;
      if (bytes >= MAX_SERVED_BYTES) return;
    }
  }

  async #encoded(height: Height): Promise<Uint8Array | null> {
    const { store } = this.#ports;
    const certificate = store.certificateAt(height);
    const block = certificate === null ? null : await store.blockAt(height);
    return block === null || certificate === null ? null : encodeCertifiedBlock({ block, certificate });
  }

  async #body(hash: Hash): Promise<Uint8Array | null> {
    const { safety, store } = this.#ports;
    const voted = safety.body(hash);
    if (voted !== undefined) return encodeBody(voted.block);
    const height = store.heightOf(hash);
    const block = height === null ? null : await store.blockAt(height);
    return block === null ? null : encodeBody(block);
  }
}
