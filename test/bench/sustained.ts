/**
 * npm run bench -- sustained: four validators as processes under one load for five minutes: throughput, memory and the lag of
 * the event loop over time; nothing lost, and one state at the end.
 *
 *   node test/bench/sustained.ts [--quick] [--rate N] [--seconds N]      default rate: a share of what saturates them
 */
import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { genesisHash } from '../../common/protocol/genesis.ts';
import { found } from './load/founding.ts';
import { type Loaded, LoadedNetwork } from './load/loaded-network.ts';
import { latencyRow, LATENCY_HEAD } from './load/network-tables.ts';
import { oneSignature, prepareOneSignature } from './load/one-signature.ts';
import { say, sweep, told } from './load/sweep.ts';
import { Town } from './load/town.ts';
import { type Sample, watch } from './load/watch.ts';

const VALIDATORS = 4;
const SEED = 31;
const PARAMS = { maxOpenRequests: 10_000, replicas: 0 };
/** V8 compiles what is hot: a node that has just started does so for half a minute. */
const WARM_UP = { rate: 150, seconds: 30 };
/** The most that is committed of these is taken for saturation. */
const RATES = [700, 1_400];
const SHARE = 0.8;
const SAMPLES = 10;

const { values } = parseArgs({
  options: { quick: { type: 'boolean' }, rate: { type: 'string' }, seconds: { type: 'string' } },
});
const quick = values.quick === true;
const seconds = Number(values.seconds ?? (quick ? 40 : 300));
const patients = quick ? 2_000 : 10_000;
const STEP_SECONDS = quick ? 3 : 5;
/** Enough for a rate that such a machine has not been seen to reach. */
const MOST_PER_SECOND = 700;

const dir = await mkdtemp(join(tmpdir(), 'emrchain-bench-'));
const town = new Town(VALIDATORS, patients);
const supply = MOST_PER_SECOND * seconds + 2 * RATES.reduce((sum, rate) => sum + rate * STEP_SECONDS, 0) + 8_000;
say(`preparing what ${supply} transactions decide on`);
const { devnet, genesis, prepared } = await found(join(dir, 'net'), town, PARAMS, (chain) =>
  prepareOneSignature(chain, town, supply, SEED),
);
process.once('exit', () => {
  devnet.killAll();
  rmSync(dir, { recursive: true, force: true });
});
try {
  const network = new LoadedNetwork(devnet, genesisHash(genesis));
  await network.start();
  const calls = oneSignature(town, prepared, SEED + 1);
  told(await network.run(calls, WARM_UP.rate, quick ? STEP_SECONDS : WARM_UP.seconds));
  let rate = Number(values.rate);
  if (values.rate === undefined) {
    const steps = await sweep((offered) => network.run(calls, offered, STEP_SECONDS), RATES);
    rate = SHARE * Math.max(...steps.map(({ committedPerSecond }) => committedPerSecond));
  }
  let ended: (() => Promise<readonly Sample[]>) | undefined;
  const run = await network.run(calls, rate, seconds, () => {
    ended = watch(devnet, (seconds * 1_000) / SAMPLES);
  });
  const loaded = told(run);
  const samples = await ended?.();
  if (loaded === null || samples === undefined) throw new Error('too little was prepared');
  const { height, stateRoot } = await network.agree();
  say(`all ${VALIDATORS} nodes have block ${height} and the state ${stateRoot}`);
  process.stdout.write(JSON.stringify(report(loaded, samples)));
} finally {
  await devnet.stop();
}

function report(loaded: Loaded, samples: readonly Sample[]): unknown {
  const { offered, accepted, lost, committedPerSecond, cpuUsPerTx } = loaded;
  const over = samples.slice(1).map((sample, index) => {
    const before = samples[index] as Sample;
    return { ...sample, perSecond: ((sample.committed - before.committed) * 1_000) / (sample.atMs - before.atMs) };
  });
  return {
    rows: [],
    ratios: [],
    tables: [
      {
        title: `${VALIDATORS} validators, one signature each, ${seconds} seconds`,
        head: [
          'offered /s',
          'sent',
          'accepted',
          'lost',
          'committed /s',
          ...LATENCY_HEAD,
          'cpu µs per tx and validator',
        ],
        rows: [
          [
            loaded.ratePerSecond.toFixed(0),
            offered,
            accepted,
            lost,
            committedPerSecond,
            ...latencyRow(loaded),
            cpuUsPerTx,
          ],
        ],
      },
      {
        title: 'Over time: of the four validators the one with the most',
        head: [
          'second',
          'committed /s',
          'waiting',
          'own memory MiB',
          'with files MiB',
          'heap MiB',
          'buffers MiB',
          'event loop lag p99 ms',
          'longest ms',
        ],
        rows: over.map((sample) => [
          (sample.atMs / 1_000).toFixed(0),
          sample.perSecond,
          sample.pool,
          sample.anonymousMiB,
          sample.residentMiB,
          sample.heapMiB,
          sample.buffersMiB,
          sample.lagP99Ms,
          sample.lagMaxMs,
        ]),
      },
    ],
    plots: [
      {
        name: 'sustained-memory',
        title: 'Memory of a validator under load',
        x: { title: 'seconds' },
        y: { title: 'MiB, without pages of files' },
        lines: [
          { name: 'the largest of four', points: over.map(({ atMs, anonymousMiB }) => [atMs / 1_000, anonymousMiB]) },
        ],
      },
    ],
  };
}
