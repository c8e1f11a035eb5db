/**
 * npm run bench -- sync: how fast a node that is far behind catches up, beside how fast blocks are made: three validators that
 * have a chain, and one that has nothing, on real databases in one process, over a network in memory.
 *
 *   node test/bench/sync.ts [--quick] [--blocks N]
 */
import { parseArgs } from 'node:util';
import { openLevelStore } from '../../node/storage/level-store.ts';
import { LongChain } from '../integration/long-chain.ts';
import { Cluster, until } from '../integration/node-cluster.ts';
import { consortium, enrolPatient } from '../integration/node-consortium.ts';
import { inWorkFolder } from './load/work-folder.ts';

const CATCH_UP_MS = 600_000;
const LIVE_MS = 3_000;

const { values } = parseArgs({ options: { quick: { type: 'boolean' }, blocks: { type: 'string' } } });
const blocks = Number(values.blocks ?? (values.quick === true ? 300 : 2_000));
/** Small blocks, as a quiet network has them, and fuller ones. */
const FULL_TXS = 60;

interface Caught {
  readonly blocksPerSecond: number;
  readonly txsPerSecond: number;
  readonly cpuMsPerBlock: number;
  readonly liveBlocksPerSecond: number;
}

const net = consortium();

async function caughtUp(dir: string, count: number, maxTxs: number): Promise<Caught> {
  const chain = await LongChain.make(net, dir, count, maxTxs);
  const cluster = new Cluster(net);
  try {
    for (const index of [0, 1, 2]) await cluster.start(index, await chain.open(`node-${index}`));
    const liveBlocksPerSecond = await liveRate(cluster);
    const late = await cluster.start(3, await openLevelStore(`${dir}/late`));
    const fromMs = performance.now();
    const cpu = process.cpuUsage();
    await until(
      () => late.host.head.height >= count,
      CATCH_UP_MS,
      () => cluster.describe(),
    );
    const seconds = (performance.now() - fromMs) / 1_000;
    const { user, system } = process.cpuUsage(cpu);
    // Of 1 to `maxTxs` transactions, in turn.
    const txs = (count * (maxTxs + 1)) / 2;
    return {
      blocksPerSecond: count / seconds,
      txsPerSecond: txs / seconds,
      cpuMsPerBlock: (user + system) / 1_000 / count,
      liveBlocksPerSecond,
    };
  } finally {
    await cluster.stop();
  }
}

/** One transaction after the other, each in a block of its own. */
async function liveRate(cluster: Cluster): Promise<number> {
  const fromMs = performance.now();
  const before = cluster.node(0).host.head.height;
  while (performance.now() - fromMs < LIVE_MS) {
    const tx = enrolPatient(net, 0);
    const verdict = await cluster.node(0).mempool.submit({ bytes: tx.bytes, sidecar: null });
    if (!verdict.ok) throw new Error(verdict.code);
    await new Promise<void>((resolve) => {
      const end = cluster.node(0).onCommitted(() => {
        end();
        resolve();
      });
    });
  }
  return ((cluster.node(0).host.head.height - before) * 1_000) / (performance.now() - fromMs);
}

const rows: (string | number)[][] = [];
for (const [count, maxTxs] of [
  [blocks, 3],
  [Math.ceil(blocks / 5), FULL_TXS],
] as const) {
  const caught = await inWorkFolder((dir) => caughtUp(dir, count, maxTxs));
  rows.push([
    `${count} of 1 to ${maxTxs}`,
    caught.blocksPerSecond,
    caught.txsPerSecond,
    caught.cpuMsPerBlock,
    caught.liveBlocksPerSecond,
    caught.blocksPerSecond / caught.liveBlocksPerSecond,
  ]);
}
const head = [
  'blocks of transactions',
  'caught up: blocks /s',
  'transactions /s',
  'cpu ms per block',
  'made: blocks /s',
  'times',
];
process.stdout.write(
  JSON.stringify({
    rows: [],
    ratios: [],
    tables: [{ title: 'A node without anything beside three with a chain', head, rows }],
  }),
);
