/**
 * npm run bench -- growth: what a node costs when the state holds no records, 100,000 and 1,000,000: blocks in one process,
 * a network under load, a restart, memory and disk.
 *
 *   node test/bench/growth.ts [--quick] [--records N,…]
 */
import { existsSync, readdirSync, rmSync, statSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { genesisHash } from '../../common/protocol/genesis.ts';
import type { Report } from '../../scripts/bench/measure.ts';
import type { Devnet } from '../../scripts/devnet/devnet.ts';
import { implantRecords } from './load/archive.ts';
import { type BlockCosts, blockCosts } from './load/block-costs.ts';
import { found } from './load/founding.ts';
import { type Loaded, LoadedNetwork } from './load/loaded-network.ts';
import { oneSignature, type Planned, prepareOneSignature } from './load/one-signature.ts';
import { cpuMsOf } from './load/process-usage.ts';
import { say, sweep } from './load/sweep.ts';
import { Town } from './load/town.ts';
import { blank } from './load/transactions.ts';

const VALIDATORS = 4;
const SEED = 11;
const PARAMS = { maxOpenRequests: 10_000, replicas: 0 };
const BLOCK_TXS = 500;
const BLOCKS = 9;
const WARM_UP_BLOCKS = 3;
const PATIENTS = 2_000;
const WARM_UP_RATE = 150;
/** The most of these that is committed counts. */
const RATES = [600, 1_200, 2_400];
const MIB = 1024 ** 2;

interface Grown {
  readonly records: number;
  readonly blocks: BlockCosts;
  readonly peak: Loaded;
  /** From the start of the process until it is ready and not behind, on the database as the load left it. */
  readonly restartMs: number;
  readonly restartCpuMs: number;
  readonly diskMiB: number;
}

function bytesUnder(dir: string): number {
  if (!existsSync(dir)) return 0;
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0);
}

async function grown(records: number, supply: number, stepSeconds: number): Promise<Grown> {
  say(`${records} records: writing them`);
  const dir = await mkdtemp(join(tmpdir(), 'emrchain-bench-'));
  const town = new Town(VALIDATORS, PATIENTS);
  const measured = BLOCK_TXS * BLOCKS;
  const { devnet, genesis, prepared } = await found(join(dir, 'net'), town, PARAMS, async (chain) => {
    await implantRecords(chain, town, records, (done) => void (done % 200_000 === 0 && say(`  ${done}`)));
    const load = oneSignature(town, await prepareOneSignature(chain, town, supply + measured, SEED), SEED);
    const origin = { chainId: chain.store.chainId, validUntilMs: chain.timestampMs + 300_000 };
    const txs = Array.from({ length: measured }, () => {
      const { by, call } = load.next().value as Planned;
      return blank(origin, by, call);
    });
    return { load, blocks: await blockCosts(chain, txs, BLOCK_TXS, WARM_UP_BLOCKS) };
  });
  const killed = (): void => devnet.killAll();
  process.once('exit', killed);
  try {
    const network = new LoadedNetwork(devnet, genesisHash(genesis));
    await network.start();
    const { load, blocks } = prepared;
    await network.run(load, WARM_UP_RATE, stepSeconds);
    const steps = await sweep((rate) => network.run(load, rate, stepSeconds), RATES);
    const peak = steps.reduce((best, step) => (step.committedPerSecond > best.committedPerSecond ? step : best));
    await network.agree();
    const [first] = devnet.hospitals;
    const diskMiB = bytesUnder(join(first?.dir ?? '', 'data')) / MIB;
    return { records, blocks, peak, ...(await restarted(devnet)), diskMiB };
  } finally {
    await devnet.stop();
    process.off('exit', killed);
    rmSync(dir, { recursive: true, force: true });
  }
}

/** One node, while the others run. */
async function restarted(devnet: Devnet): Promise<Pick<Grown, 'restartMs' | 'restartCpuMs'>> {
  const orgId = devnet.hospitals.at(-1)?.orgId ?? '';
  await devnet.killNode(orgId);
  const fromMs = performance.now();
  devnet.startNode(orgId);
  await devnet.waitReady([orgId]);
  return { restartMs: performance.now() - fromMs, restartCpuMs: cpuMsOf(devnet.pids().get(orgId) ?? 0) };
}

function report(all: readonly Grown[]): Report {
  const [none] = all;
  const times = (of: Grown, value: (grown: Grown) => number): number => value(of) / (none ? value(none) : Number.NaN);
  const treeUs = (of: Grown): number => of.blocks.treeUs;
  return {
    rows: [],
    ratios: [],
    tables: [
      {
        title: `A block of ${BLOCK_TXS} transactions in one process, processor time for each transaction`,
        head: [
          'records in the state',
          'entries written',
          'rules µs',
          'state tree µs',
          'times that at none',
          'all, stored µs',
        ],
        rows: all.map((of) => [
          of.records.toLocaleString('en'),
          of.blocks.writes,
          of.blocks.rulesUs,
          of.blocks.treeUs,
          times(of, treeUs),
          of.blocks.wholeUs,
        ]),
      },
      {
        title: `${VALIDATORS} validators as processes`,
        head: [
          'records in the state',
          'committed /s',
          'cpu µs per tx and validator',
          'restart ms',
          'restart, cpu ms',
          'memory MiB',
          'peak MiB',
          'disk MiB',
        ],
        rows: all.map((of) => [
          of.records.toLocaleString('en'),
          of.peak.committedPerSecond,
          of.peak.cpuUsPerTx,
          of.restartMs,
          of.restartCpuMs,
          of.peak.memoryMiB,
          of.peak.peakMiB,
          of.diskMiB,
        ]),
      },
    ],
    plots: [
      {
        name: 'growth-state',
        title: 'State tree, processor time for each transaction of a block',
        x: { title: 'records in the state' },
        y: { title: 'microseconds' },
        lines: [{ name: 'state tree', points: all.map((of) => [of.records, of.blocks.treeUs] as const) }],
      },
    ],
  };
}

const { values } = parseArgs({ options: { quick: { type: 'boolean' }, records: { type: 'string' } } });
const quick = values.quick === true;
const counts = values.records?.split(',').map(Number) ?? (quick ? [0, 20_000] : [0, 100_000, 1_000_000]);
const all: Grown[] = [];
for (const count of counts) all.push(await grown(count, quick ? 6_000 : 28_000, quick ? 3 : 5));
process.stdout.write(JSON.stringify(report(all)));
