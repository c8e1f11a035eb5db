import { Executor } from '../../node/execution/executor.ts';
import { genesisBlock } from '../../node/execution/genesis-block.ts';
import { openChainStore } from '../../node/storage/chain-store.ts';
import { openSafetyStore } from '../../node/storage/safety-store.ts';
import { SimulatedDisk } from '../crash/simulated-disk.ts';
import { commitOne } from '../integration/node-chain.ts';
import { enrolPatient } from '../integration/node-consortium.ts';
import { net } from './parts.ts';

/** A chain of three blocks, as it lies on disk. */
export const chain = await (async () => {
  const disk = new SimulatedDisk();
  const kv = disk.open();
  const store = await openChainStore(kv, net.genesis, () => genesisBlock(net.genesis));
  const executor = Executor.open(store);
  const committed = [];
  for (let height = 1; height <= 3; height += 1)
    committed.push(
      await commitOne(net, store, executor, [enrolPatient(net, 0, { validUntilMs: net.genesis.timeMs + 60_000 })]),
    );
  const last = committed[2] as (typeof committed)[number];
  const safety = await openSafetyStore(kv);
  const block = { hash: last.hash, header: last.header, block: { ...(await store.blockAt(3)) } as never };
  const votes = [{ vote: 'prepare' as const, view: 0, digest: last.hash }];
  await safety.persist({ height: 4, view: 0, votes, prepared: null, abstainThrough: 0 }, block);
  return { disk, committed, txHash: last.txHashes[0] as Uint8Array };
})();
