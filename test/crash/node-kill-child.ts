/** A process that commits blocks to a real database as fast as it can and says so, until somebody kills it. */
import { writeSync } from 'node:fs';
import { Executor } from '../../node/execution/executor.ts';
import { genesisBlock } from '../../node/execution/genesis-block.ts';
import { openChainStore } from '../../node/storage/chain-store.ts';
import { openLevelStore } from '../../node/storage/level-store.ts';
import { commitOne } from '../integration/node-chain.ts';
import { consortium, enrolPatient } from '../integration/node-consortium.ts';

const [dir, timeMs] = process.argv.slice(2) as [string, string];
const net = consortium({ timeMs: Number(timeMs) });
const store = await openChainStore(await openLevelStore(dir), net.genesis, () => genesisBlock(net.genesis));
const executor = Executor.open(store);
// Keys are numbered from the start of each process: a transaction of its own for each block, whatever ran before.
for (let skipped = 0; skipped < store.head.header.height * 2; skipped += 1) enrolPatient(net);
for (;;) {
  const { header } = await commitOne(net, store, executor, [enrolPatient(net), enrolPatient(net)]);
  // Synchronously: what was said has left this process when it is killed.
  writeSync(1, `${header.height}\n`);
}
