/**
 * npm run bench -- network: validators as processes of their own, under a load from another one. Throughput up to
 * saturation, latency at a tenth and at four fifths of it, and what a transaction costs a validator, by stage.
 *
 *   node test/bench/network.ts [--quick] [--validators N,…] [--rates N,…]      progress on stderr, the report on stdout
 */
import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { createWasmEngine } from '../../common/crypto/sm2-engine/engine.ts';
import { genesisHash } from '../../common/protocol/genesis.ts';
import type { Report } from '../../scripts/bench/measure.ts';
import type { Line, Table } from '../../scripts/bench/table.ts';
import { benchKey } from './load/bench-key.ts';
import { found } from './load/founding.ts';
import { type Loaded, LoadedNetwork } from './load/loaded-network.ts';
import { oneSignature, type Planned, type Prepared, prepareOneSignature } from './load/one-signature.ts';
import { latencyTable, type Swept, sweepTable } from './load/network-tables.ts';
import { say, sweep, told } from './load/sweep.ts';
import { type StageShare, stagesOf } from './load/stages.ts';
import { Town } from './load/town.ts';

const SEED = 1;
const PARAMS = { maxOpenRequests: 10_000, replicas: 0 };
const WARM_UP_RATE = 150;
/** A key costs most when it is seen for the second time: its tables are made then. */
const SIGHTS = 3;
/** Of one such run, or longer: the faster it is, the less of it is the cost of blocks. */
const SIGHT_SECONDS = 2;
const VERIFIED_KEYS = 500;

/** How long so many transactions last. */
const secondsOf = (count: number, ratePerSecond: number): number => (count - 60) / ratePerSecond / 1.15;

interface Sizes {
  readonly patients: number;
  /** Transactions that are prepared for. */
  readonly supply: number;
  /** V8 compiles what is hot: for half a minute a node that has just started costs twice as much. */
  readonly warmUpSeconds: number;
  readonly stepSeconds: number;
  readonly latencySeconds: number;
}

const FULL: Sizes = { patients: 10_000, supply: 150_000, warmUpSeconds: 30, stepSeconds: 5, latencySeconds: 10 };
const QUICK: Sizes = { patients: 2_000, supply: 24_000, warmUpSeconds: 3, stepSeconds: 3, latencySeconds: 4 };

interface Measured extends Swept {
  readonly peak: Loaded;
  /** The same people once, again, and again, each run with kinds of calls alike. */
  readonly sights: readonly (Loaded | null)[];
  readonly stages: readonly StageShare[];
}

/**
 * Revocations by people who have as many: the first of each, the second of each, and so on; and what is left of the load.
 */
function sightsOf(prepared: Prepared): { readonly sights: readonly Planned[][]; readonly rest: Prepared } {
  const byPerson = new Map<unknown, Planned[]>();
  for (const planned of prepared.granted) byPerson.set(planned.by, [...(byPerson.get(planned.by) ?? []), planned]);
  const people = [...byPerson.values()].filter((calls) => calls.length >= SIGHTS);
  const sights = Array.from({ length: SIGHTS }, (_, sight) => people.map((calls) => calls[sight] as Planned));
  const used = new Set(sights.flat());
  const granted = prepared.granted.filter((planned) => !used.has(planned));
  return { sights, rest: { pending: prepared.pending, granted } };
}

async function measure(validators: number, sizes: Sizes, rates: readonly number[] | null): Promise<Measured> {
  const dir = await mkdtemp(join(tmpdir(), 'emrchain-bench-'));
  const town = new Town(validators, sizes.patients);
  say(`${validators} validators: preparing what ${sizes.supply} transactions decide on`);
  const { devnet, genesis, prepared } = await found(join(dir, 'net'), town, PARAMS, (chain) =>
    prepareOneSignature(chain, town, sizes.supply, SEED),
  );
  const killed = (): void => devnet.killAll();
  process.once('exit', killed);
  const { sights, rest } = sightsOf(prepared);
  const calls = oneSignature(town, rest, SEED + 1);
  const network = new LoadedNetwork(devnet, genesisHash(genesis));
  try {
    await network.start();
    await network.run(calls, WARM_UP_RATE, sizes.warmUpSeconds);
    const steps = await sweep((rate) => network.run(calls, rate, sizes.stepSeconds), rates);
    const peak = steps.reduce((best, step) => (step.committedPerSecond > best.committedPerSecond ? step : best));
    const at = async (share: number): Promise<Loaded | null> =>
      told(await network.run(calls, peak.committedPerSecond * share, sizes.latencySeconds));
    const low = await at(0.1);
    const high = await at(0.8);
    await network.agree();
    await devnet.stop();

    // Anew, so that no key is known.
    await network.start(true);
    const rate = peak.committedPerSecond * 0.8;
    const seen: (Loaded | null)[] = [];
    for (const sight of sights) {
      const slow = Math.min(rate, sight.length / SIGHT_SECONDS);
      const seconds = secondsOf(sight.length, slow);
      seen.push(told(await network.run(sight[Symbol.iterator](), slow, Math.min(sizes.latencySeconds, seconds))));
    }
    await network.run(calls, WARM_UP_RATE, sizes.warmUpSeconds);
    const profile = await network.profiled(() => network.run(calls, rate, sizes.stepSeconds));
    const { height, stateRoot } = await network.agree();
    say(`all ${validators} nodes have block ${height} and the state ${stateRoot}`);
    return { validators, mix: 'one signature each', steps, peak, low, high, sights: seen, stages: stagesOf(profile) };
  } finally {
    await devnet.stop();
    process.off('exit', killed);
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Processor time of one verification with a key that is known, and with a new one, microseconds. */
function verificationUs(): { readonly known: number; readonly fresh: number } {
  const engine = createWasmEngine();
  const message = new Uint8Array(32).fill(7);
  const signed = Array.from({ length: VERIFIED_KEYS }, (_, index) => {
    const key = benchKey('verified', index);
    return { publicKey: key.publicKey, message, signature: key.sign(message) };
  });
  const timed = (): number => {
    const cpu = process.cpuUsage();
    if (!engine.verifyBatch(signed).every(Boolean)) throw new Error('a signature does not verify');
    const { user, system } = process.cpuUsage(cpu);
    return (user + system) / signed.length;
  };
  const warmUp = createWasmEngine();
  for (let round = 0; round < 3; round += 1) warmUp.verifyBatch(signed);
  const fresh = timed();
  timed();
  return { known: Math.min(timed(), timed(), timed()), fresh };
}

function costTable({ validators, sights, stages, high, peak }: Measured): readonly Table[] {
  const verification = verificationUs();
  const names = ['first sight of each key', 'second: tables are made', 'third: tables are there'];
  const { cpuUsPerTx: whole, threads } = high ?? peak;
  const eventLoop = whole * (threads.find(({ use }) => use === 'event loop')?.share ?? Number.NaN);
  return [
    {
      title: `${validators} validators, revocations by the same people, cold and warm`,
      head: ['keys', 'cpu µs per tx and validator', 'one verification, cpu µs'],
      rows: sights.map((seen, sight) => [
        names[sight] ?? '',
        seen?.cpuUsPerTx ?? null,
        [verification.fresh, null, verification.known][sight] ?? null,
      ]),
    },
    {
      title: `${validators} validators, which threads take a validator's processor time at 80 %`,
      head: ['threads', 'share', 'µs per tx'],
      rows: threads.map(({ use, share }) => [use, `${(share * 100).toFixed(1)} %`, share * whole]),
    },
    {
      title: `${validators} validators, where the time of the event loop's thread goes at 80 %`,
      head: ['stage', 'share', 'µs per tx'],
      rows: stages.map(({ stage, share }) => [stage, `${(share * 100).toFixed(1)} %`, share * eventLoop]),
    },
  ];
}

async function report(args: readonly string[]): Promise<Report> {
  const { values } = parseArgs({
    args: [...args],
    options: { quick: { type: 'boolean' }, validators: { type: 'string' }, rates: { type: 'string' } },
  });
  const numbers = (text: string): number[] => text.split(',').map(Number);
  const sizes = values.quick === true ? QUICK : FULL;
  const counts =
    values.validators === undefined ? (values.quick === true ? [4] : [4, 1, 7]) : numbers(values.validators);
  const all: Measured[] = [];
  for (const count of counts)
    all.push(await measure(count, sizes, values.rates === undefined ? null : numbers(values.rates)));
  const lines = (value: (step: Loaded) => number): Line[] =>
    all.map(({ validators, steps }) => ({
      name: validators === 1 ? '1 validator' : `${validators} validators`,
      points: steps.map((step) => [step.ratePerSecond, value(step)] as const),
    }));
  const offered = { title: 'offered, transactions per second', logarithmic: true };
  return {
    rows: [],
    ratios: [],
    tables: [...all.map(sweepTable), latencyTable(all), ...all.slice(0, 1).flatMap(costTable)],
    plots: [
      {
        name: 'network-throughput',
        title: 'Committed transactions per second',
        x: offered,
        y: { title: 'committed per second', logarithmic: true },
        lines: lines((step) => step.committedPerSecond),
      },
      {
        name: 'network-latency',
        title: 'Median latency until the block event',
        x: offered,
        y: { title: 'milliseconds', logarithmic: true },
        lines: lines((step) => step.latency.p50Ms),
      },
    ],
  };
}

process.stdout.write(JSON.stringify(await report(process.argv.slice(2))));
