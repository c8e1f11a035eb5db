/** Headers, blocks, certificates and receipts as the store has them, up to the block that the executor stands at. */
import { assert } from '../../common/errors.ts';
import type { Height } from '../../common/protocol/primitives.ts';
import type { ValidatorSet } from '../../common/protocol/validator-set.ts';
import type { ChainPort, StoredBlock } from '../../rpc/ports.ts';
import type { Executor } from '../execution/executor.ts';
import type { ChainStore } from '../storage/chain-store.ts';
import type { HostView } from './host-view.ts';

export interface ChainPortParts {
  readonly store: ChainStore;
  readonly executor: Pick<Executor, 'head'>;
  readonly host: Pick<HostView, 'onCommitted'>;
}

export function createChainPort({ store, executor, host }: ChainPortParts): ChainPort {
  async function block(height: Height): Promise<StoredBlock | null> {
    const stored = store.headerAt(height);
    if (stored === null) return null;
    const body = await store.blockAt(height);
    return body && { ...stored, txs: body.txs, sidecars: body.sidecars };
  }

  function validatorsAt(height: Height): ValidatorSet | null {
    const { head } = executor;
    if (height === head.height + 1) return head.validators;
    const stored = store.headerAt(height);
    if (stored === null) return null;
    const set = store.validatorSet(stored.header.validatorsHash);
    assert(set !== null, 'the store has the validator set of every block');
    return set;
  }

  return {
    genesis: () => store.genesis,
    chainId: () => store.chainId,
    // Not the store's head: the state answers for this one, and a moment lies between the two.
    head: () => {
      const { height, hash, header } = executor.head;
      return { height, hash, timestampMs: header.timestampMs };
    },
    // State is pruned, blocks are not.
    lowestHeight: () => 0,
    header: (height) => Promise.resolve(store.headerAt(height)),
    block,
    certificate: (height) => Promise.resolve(store.certificateAt(height)),
    receipts: (height) => store.receiptsAt(height),
    heightOfBlock: (hash) => Promise.resolve(store.heightOf(hash)),
    locateTransaction: (hash) => Promise.resolve(store.locateTx(hash)),
    // In an async function a failure of the disk is a rejection, as for all the others.
    validatorsAt: async (height) => Promise.resolve(validatorsAt(height)),
    onCommitted: (listener) =>
      host.onCommitted(({ header, hash, txHashes }) =>
        listener({ height: header.height, hash, timestampMs: header.timestampMs, txHashes }),
      ),
  };
}
