/**
 * Headers, blocks, certificates and receipts as the store has them, up to the block that the executor stands at. The
 * next one can be on disk a few milliseconds before the state answers for it and its notice goes out: until then nobody
 * sees it, so that chain, state and notices never contradict each other.
 */
import { decodeTrusted } from '../../common/codec.ts';
import { assert } from '../../common/errors.ts';
import { blockHeader } from '../../common/protocol/block.ts';
import type { Handover } from '../../common/protocol/light.ts';
import type { Hash, Height } from '../../common/protocol/primitives.ts';
import { type Receipt, receipt } from '../../common/protocol/receipt.ts';
import type { ValidatorSet } from '../../common/protocol/validator-set.ts';
import type { ChainPort, StoredBlock, StoredHeader } from '../../rpc/ports.ts';
import type { Executor } from '../execution/executor.ts';
import type { ChainStore } from '../storage/chain-store.ts';
import type { HostView } from './host-view.ts';
import { RecentBlocks } from './recent-blocks.ts';

export interface ChainPortParts {
  readonly store: ChainStore;
  readonly executor: Pick<Executor, 'head'>;
  readonly host: Pick<HostView, 'onCommitted'>;
}

export function createChainPort({ store, executor, host }: ChainPortParts): ChainPort {
  const isVisible = (height: Height): boolean => height <= executor.head.height;
  const headerAt = (height: Height): StoredHeader | null => (isVisible(height) ? store.headerAt(height) : null);

  const recent = new RecentBlocks();
  host.onCommitted((committed) => recent.note(committed));

  async function block(height: Height): Promise<StoredBlock | null> {
    const stored = headerAt(height);
    if (stored === null) return null;
    const body = recent.at(height)?.block ?? (await store.blockAt(height));
    return body && { ...stored, txs: body.txs, sidecars: body.sidecars };
  }

  async function receipts(height: Height): Promise<readonly Receipt[] | null> {
    if (!isVisible(height)) return null;
    const known = recent.at(height);
    if (known === null) return store.receiptsAt(height);
    return known.receipts.map((bytes) => decodeTrusted(receipt, bytes, 'receipt'));
  }

  function validatorsAt(height: Height): ValidatorSet | null {
    const { head } = executor;
    if (height === head.height + 1) return head.validators;
    const stored = headerAt(height);
    if (stored === null) return null;
    const set = store.validatorSet(stored.header.validatorsHash);
    assert(set !== null, 'the store has the validator set of every block');
    return set;
  }

  return {
    genesis: () => store.genesis,
    chainId: () => store.chainId,
    head: () => {
      const { height, hash, header } = executor.head;
      return { height, hash, timestampMs: header.timestampMs };
    },
    // State is pruned, blocks are not; a node that began with a snapshot has none from before it.
    lowestHeight: () => store.lowestBlock,
    // In an async function a failure of the disk is a rejection.
    header: async (height) => Promise.resolve(headerAt(height)),
    block,
    certificate: async (height) => Promise.resolve(isVisible(height) ? store.certificateAt(height) : null),
    receipts,
    async heightOfBlock(hash) {
      const height = store.heightOf(hash);
      return Promise.resolve(height !== null && isVisible(height) ? height : null);
    },
    locateTransaction: async (hash) => Promise.resolve(locateVisible(store, executor, hash)),
    validatorsAt: async (height) => Promise.resolve(validatorsAt(height)),
    async handovers(fromHeight, limit) {
      const { height } = executor.head;
      const found = await store.handoversFrom(fromHeight, limit);
      const heightOf = ({ at }: Handover): Height => decodeTrusted(blockHeader, at.header, 'block header').height;
      return found.filter((handover) => heightOf(handover) < height);
    },
    onCommitted: (listener) =>
      host.onCommitted(({ header, hash, txHashes }) =>
        listener({ height: header.height, hash, timestampMs: header.timestampMs, txHashes }),
      ),
  };
}

/** Where the chain has a transaction, once everybody may see it. */
export function locateVisible(
  store: Pick<ChainStore, 'locateTx'>,
  executor: Pick<Executor, 'head'>,
  hash: Hash,
): { readonly height: Height; readonly index: number } | null {
  const place = store.locateTx(hash);
  return place !== null && place.height <= executor.head.height ? place : null;
}
