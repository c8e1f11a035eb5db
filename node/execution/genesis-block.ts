/** Block 0 with its state, as every node makes it from the genesis document. */
import { EmrError } from '../../common/errors.ts';
import { encodeHeader } from '../../common/protocol/block.ts';
import { type Genesis, genesisHeader } from '../../common/protocol/genesis.ts';
import { sortedValidatorSet } from '../../common/protocol/validator-set.ts';
import { NO_LEADER_HISTORY } from '../../consensus/leader-order.ts';
import { checkGenesis, genesisWrites } from '../../vm/index.ts';
import { applyWrites, EMPTY, encodeRoot } from '../../vm/state-tree/index.ts';
import type { CommittedBlock } from '../storage/chain-store.ts';

/** @throws EmrError BAD_GENESIS when the document cannot be a chain's beginning */
export function genesisBlock(genesis: Genesis): CommittedBlock {
  const checked = checkGenesis(genesis);
  if (!checked.ok) {
    throw new EmrError(
      checked.code,
      `The genesis document cannot begin a chain: ${checked.message}. Mend it with the other founders.`,
    );
  }
  const applied = applyWrites({ getNode: () => undefined }, EMPTY, genesisWrites(genesis), 0);
  const { header, hash } = genesisHeader(genesis, applied.rootHash);
  return {
    hash,
    header,
    block: { header: encodeHeader(header), txs: [], sidecars: [] },
    certificate: null,
    receipts: [],
    txHashes: [],
    nextValidators: sortedValidatorSet(genesis.validators),
    leaders: NO_LEADER_HISTORY,
    state: { root: encodeRoot(applied.root), newNodes: applied.newNodes, staleNodes: [] },
  };
}
