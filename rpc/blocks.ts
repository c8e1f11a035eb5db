/**
 * Committed blocks as the RPC reads them: transactions decoded and hashed once, together with their receipts, for all
 * callers and subscribers. A short cache of the newest ones; everything else comes from the node's storage.
 */
import { assert } from '../common/errors.ts';
import { equalBytes } from '../common/bytes.ts';
import type { Hash, Height } from '../common/protocol/primitives.ts';
import type { Receipt } from '../common/protocol/receipt.ts';
import { type DecodedTransaction, decodeTransaction } from '../common/protocol/transaction.ts';
import { notFound, RpcError } from './errors.ts';
import type { ChainPort, StoredBlock } from './ports.ts';

export interface BlockView extends StoredBlock {
  /** Made when somebody asks first: whoever waits for a receipt alone does not. */
  readonly decoded: readonly DecodedTransaction[];
  /** Index of a transaction -> its receipt; the last one is what block time itself caused. */
  readonly receipts: readonly Receipt[];
  readonly sizeBytes: number;
}

/** Raw bytes of cached blocks: some dozens of full ones, decoded they take about four times that. */
const CACHE_BYTES = 16 * 1024 * 1024;
/** Beside the bytes: empty blocks cost their frames. */
const CACHE_BLOCKS = 256;

export class Blocks {
  readonly #chain: ChainPort;
  /** In the order of use. */
  readonly #cache = new Map<Height, BlockView>();
  #cachedBytes = 0;
  /** What is being read: all who wait for a block ask for it in the moment in which it is committed. */
  readonly #loading = new Map<Height, Promise<BlockView>>();

  constructor(chain: ChainPort) {
    this.#chain = chain;
  }

  /**
   * The height that a call names. A hash decides over a height.
   * @throws RpcError NOT_FOUND, PRUNED
   */
  async resolve(which: {
    readonly height?: number | 'latest' | undefined;
    readonly hash?: Uint8Array | undefined;
  }): Promise<Height> {
    const head = this.#chain.head().height;
    if (which.hash !== undefined) {
      const height = await this.#chain.heightOfBlock(which.hash);
      if (height === null) throw notFound('There is no committed block with this hash.');
      return this.#kept(height);
    }
    const height = which.height === undefined || which.height === 'latest' ? head : which.height;
    if (height > head) throw notFound(`There is no block ${height} yet; the last one is ${head}.`, 'HEIGHT_AHEAD');
    return this.#kept(height);
  }

  #kept(height: Height): Height {
    const lowest = this.#chain.lowestHeight();
    if (height < lowest) {
      throw new RpcError('PRUNED', `Block ${height} is not kept any more; the lowest one is ${lowest}.`);
    }
    return height;
  }

  /** A block at a height that `resolve` gave. @throws RpcError PRUNED where it went meanwhile */
  async load(height: Height): Promise<BlockView> {
    const cached = this.#cache.get(height);
    if (cached !== undefined) {
      this.#cache.delete(height);
      this.#cache.set(height, cached);
      return cached;
    }
    const loading = this.#loading.get(height) ?? this.#read(height);
    this.#loading.set(height, loading);
    try {
      return await loading;
    } finally {
      this.#loading.delete(height);
    }
  }

  async #read(height: Height): Promise<BlockView> {
    const [stored, receipts] = await Promise.all([this.#chain.block(height), this.#chain.receipts(height)]);
    if (stored === null || receipts === null) throw new RpcError('PRUNED', `Block ${height} is not kept any more.`);
    const view = viewOf(stored, receipts);
    this.#remember(height, view);
    return view;
  }

  #remember(height: Height, view: BlockView): void {
    if (this.#cache.has(height)) return;
    this.#cache.set(height, view);
    this.#cachedBytes += view.sizeBytes;
    for (const [oldest, { sizeBytes }] of this.#cache) {
      if (this.#cachedBytes <= CACHE_BYTES && this.#cache.size <= CACHE_BLOCKS) break;
      this.#cache.delete(oldest);
      this.#cachedBytes -= sizeBytes;
    }
  }

  /** The committed transaction with this hash, or null. */
  async find(hash: Hash): Promise<{ readonly block: BlockView; readonly index: number } | null> {
    const place = await this.#chain.locateTransaction(hash);
    if (place === null) return null;
    const block = await this.load(this.#kept(place.height));
    const found = block.decoded[place.index];
    assert(found !== undefined && equalBytes(found.hash, hash), 'the index of transactions fits the blocks');
    return { block, index: place.index };
  }
}

function viewOf(stored: StoredBlock, receipts: readonly Receipt[]): BlockView {
  const sizeBytes = [...stored.txs, ...stored.sidecars].reduce((sum, bytes) => sum + (bytes?.length ?? 0), 0);
  let decoded: readonly DecodedTransaction[] | null = null;
  return {
    ...stored,
    get decoded() {
      decoded ??= stored.txs.map(decodedOf);
      return decoded;
    },
    receipts,
    sizeBytes,
  };
}

function decodedOf(bytes: Uint8Array): DecodedTransaction {
  const verdict = decodeTransaction(bytes);
  assert(verdict.ok, 'a committed transaction decodes');
  return verdict.value;
}
