/**
 * How a benchmark measures, and what it reports. Cases of one comparison run interleaved, round after round, so that whatever
 * else the machine does meets all of them; a ratio is the median of the ratios of single rounds. Times are those of the
 * processor: time that other programs took away is not in them. Wall time stands beside.
 */

import type { Plot, Table } from './table.ts';

export interface Case {
  readonly name: string;
  /** What one run does so many times; costs are given for one. */
  readonly operations: number;
  /** Untimed, before each run. */
  readonly prepare?: () => void | Promise<void>;
  readonly run: () => void | Promise<void>;
}

export interface Row {
  readonly name: string;
  /** Of one operation. */
  readonly cpuUs: Spread;
  readonly wallUs: Spread;
  readonly rounds: number;
  readonly operations: number;
}

interface Spread {
  readonly least: number;
  readonly median: number;
  readonly p90: number;
}

/** How many times more processor time `slow` takes than `fast`. */
export interface Ratio {
  readonly slow: string;
  readonly fast: string;
  readonly times: number;
  /** What it is meant to be, at least. */
  readonly wanted?: number;
}

export interface Report {
  readonly rows: readonly Row[];
  readonly ratios: readonly Ratio[];
  readonly tables?: readonly Table[];
  readonly plots?: readonly Plot[];
}

export interface BenchOptions {
  /** Smaller and shorter: whether it works, and a first look. */
  readonly quick: boolean;
}

/** One of `npm run bench -- NAME`. */
export interface Bench {
  readonly says: string;
  /** @param options those of the command line that a benchmark may heed */
  readonly run: (options: BenchOptions) => Report | Promise<Report>;
}

export interface Sample {
  readonly cpuUs: number;
  readonly wallUs: number;
}

async function timed({ operations, prepare, run }: Case): Promise<Sample> {
  await prepare?.();
  const cpu = process.cpuUsage();
  const wallMs = performance.now();
  await run();
  const took = performance.now() - wallMs;
  const { user, system } = process.cpuUsage(cpu);
  return { cpuUs: (user + system) / operations, wallUs: (took * 1000) / operations };
}

function at(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

export function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((left, right) => left - right);
  return { least: at(sorted, 0), median: at(sorted, 0.5), p90: at(sorted, 0.9) };
}

/** Runs all cases `rounds` times, in turn. The first round of each is for warming up, and not counted. */
export async function interleaved(cases: readonly Case[], rounds: number): Promise<{ rows: Row[]; ratio: RatioOf }> {
  const samples = new Map<string, Sample[]>(cases.map(({ name }) => [name, []]));
  for (let round = 0; round <= rounds; round++) {
    for (const each of cases) {
      const sample = await timed(each);
      if (round > 0) samples.get(each.name)?.push(sample);
    }
  }
  const rows = cases.map(({ name, operations }) => {
    const of = samples.get(name) ?? [];
    return {
      name,
      cpuUs: spread(of.map(({ cpuUs }) => cpuUs)),
      wallUs: spread(of.map(({ wallUs }) => wallUs)),
      rounds,
      operations,
    };
  });
  return {
    rows,
    ratio: (slow, fast, wanted) => {
      const numerators = samples.get(slow) ?? [];
      const denominators = samples.get(fast) ?? [];
      const times = spread(numerators.map(({ cpuUs }, round) => cpuUs / (denominators[round]?.cpuUs ?? Number.NaN)));
      return { slow, fast, times: times.median, ...(wanted === undefined ? {} : { wanted }) };
    },
  };
}

export type RatioOf = (slow: string, fast: string, wanted?: number) => Ratio;
