/**
 * npm run bench -- consensus: four nodes in one process, on databases of their own, over a network in memory: what ordering,
 * executing and storing takes, without libp2p and RPC.
 */
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { openLevelStore } from '../../node/storage/level-store.ts';
import type { Table } from '../../scripts/bench/table.ts';
import { Cluster, until } from '../integration/node-cluster.ts';
import { oneSignature, type Planned, prepareOneSignature } from './load/one-signature.ts';
import { PreparedChain } from './load/prepared-chain.ts';
import { seated } from './load/seated.ts';
import { Town } from './load/town.ts';
import { signed, type SignedBytes } from './load/transactions.ts';
import { inWorkFolder } from './load/work-folder.ts';

const VALIDATORS = 4;
const PATIENTS = 1_000;
/** Given to the nodes at once; each wave must be committed everywhere before the next. */
const WAVES = [1, 1, 1, 100, 100, 1_000, 1_000, 1_000];
const WARM_UP = 1_000;
const WAVE_MS = 120_000;

interface Wave {
  readonly txs: number;
  readonly blocks: number;
  readonly wallMs: number;
  readonly cpuUsPerTx: number;
}

async function wave(cluster: Cluster, txs: readonly SignedBytes[]): Promise<Wave> {
  const nodes = cluster.nodes();
  const blocksBefore = cluster.node(0).host.head.height;
  const cpu = process.cpuUsage();
  const fromMs = performance.now();
  const verdicts = await Promise.all(
    nodes.map((node, index) =>
      node.mempool.admit(
        txs.filter((_, n) => n % nodes.length === index),
        null,
      ),
    ),
  );
  const refused = verdicts.flat().find((verdict) => !verdict.ok);
  if (refused !== undefined && !refused.ok) throw new Error(`${refused.code}: ${refused.message}`);
  const everywhere = (): boolean =>
    nodes.every((node) =>
      txs.every(({ hash }) => {
        const found = node.store.locateTx(hash);
        return found !== null && node.host.head.height >= found.height;
      }),
    );
  await until(everywhere, WAVE_MS, () => cluster.describe());
  const { user, system } = process.cpuUsage(cpu);
  return {
    txs: txs.length,
    blocks: cluster.node(0).host.head.height - blocksBefore,
    wallMs: performance.now() - fromMs,
    cpuUsPerTx: (user + system) / txs.length / nodes.length,
  };
}

function tableOf(waves: readonly Wave[]): Table {
  const sizes = [...new Set(waves.map(({ txs }) => txs))];
  const median = (values: readonly number[]): number =>
    values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
  return {
    title: `${VALIDATORS} validators in one process, waves of transactions until all nodes have them, medians`,
    head: ['transactions at once', 'blocks', 'wall ms', 'cpu µs per tx and validator'],
    rows: sizes.map((size) => {
      const alike = waves.filter(({ txs }) => txs === size);
      return [
        size.toLocaleString('en'),
        median(alike.map(({ blocks }) => blocks)),
        median(alike.map(({ wallMs }) => wallMs)),
        median(alike.map(({ cpuUsPerTx }) => cpuUsPerTx)),
      ];
    }),
  };
}

await inWorkFolder(async (dir) => {
  const town = new Town(VALIDATORS, PATIENTS);
  const net = seated(town);
  const made = join(dir, 'made');
  const kv = await openLevelStore(made);
  const chain = await PreparedChain.open(
    kv,
    net.genesis,
    net.hospitals.map(({ validator }) => validator),
  );
  const supply = WAVES.reduce((sum, txs) => sum + txs, WARM_UP);
  const calls = oneSignature(town, await prepareOneSignature(chain, town, supply, 1), 1);
  await kv.close();
  const origin = { chainId: net.chainId, validUntilMs: Date.now() + 500_000 };
  const take = (count: number): SignedBytes[] =>
    Array.from({ length: count }, () => {
      const { by, call } = calls.next().value as Planned;
      return signed(origin, by, call);
    });
  const cluster = new Cluster(net);
  try {
    for (const [index] of net.hospitals.entries()) {
      const own = join(dir, `node-${index}`);
      await cp(made, own, { recursive: true });
      await cluster.start(index, await openLevelStore(own));
    }
    await wave(cluster, take(WARM_UP));
    const waves: Wave[] = [];
    for (const txs of WAVES) waves.push(await wave(cluster, take(txs)));
    await cluster.level();
    process.stdout.write(JSON.stringify({ rows: [], ratios: [], tables: [tableOf(waves)] }));
  } finally {
    await cluster.stop();
  }
});
