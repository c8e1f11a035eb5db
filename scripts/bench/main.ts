/**
 * npm run bench [-- NAME ...] [--json FILE]: measures, and prints tables. A new benchmark is a module with a `Bench` and a line
 * in BENCHES. Figures that were seen, with what bounds them: docs/benchmarks.md.
 */

import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { crypto } from './crypto.ts';
import { custody } from './custody.ts';
import type { Bench, Report, Row } from './measure.ts';

/** A network that hangs ends with that. */
const NETWORK_MS = 600_000;

const BENCHES: Readonly<Record<string, Bench>> = {
  crypto,
  custody,
  reading: {
    says: 'four nodes, four custodians, a record of 1 MB, loopback',
    run: () => reportOf(join(import.meta.dirname, '..', '..', 'test', 'bench', 'reading.ts')),
  },
};

/** Of a benchmark that needs a network of processes: those are made by what tests are made with. */
async function reportOf(script: string): Promise<Report> {
  const { stdout } = await promisify(execFile)(process.execPath, [script], { timeout: NETWORK_MS });
  return JSON.parse(stdout) as Report;
}

const machine = {
  processor: cpus()[0]?.model ?? 'unknown',
  cores: cpus().length,
  memoryGiB: Math.round(totalmem() / 2 ** 30),
  platform: `${process.platform} ${process.arch}`,
  node: process.versions.node,
  openssl: process.versions.openssl,
};

function digits(value: number): string {
  return value.toLocaleString('en', { maximumSignificantDigits: 3 });
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  ');
  return [line(head), ...rows.map(line)].join('\n');
}

function show({ rows, ratios }: Report): string {
  const cells = ({ name, cpuUs, wallUs }: Row): string[] => [
    name,
    digits(cpuUs.least),
    digits(cpuUs.median),
    digits(cpuUs.p90),
    digits(wallUs.median),
  ];
  const costs = table(['microseconds', 'cpu least', 'median', 'p90', 'wall median'], rows.map(cells));
  if (ratios.length === 0) return costs;
  const compared = ratios.map(({ slow, fast, times, wanted }) => [
    `${slow} / ${fast}`,
    digits(times),
    wanted === undefined ? '' : `${wanted}`,
  ]);
  return `${costs}\n\n${table(['ratio of processor times, median of rounds', 'times', 'wanted'], compared)}`;
}

async function main(args: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    options: { json: { type: 'string' } },
    allowPositionals: true,
  });
  const names = positionals.length > 0 ? positionals : Object.keys(BENCHES);
  const reports: Record<string, Report> = {};
  process.stdout.write(`${Object.values(machine).join(', ')}\n`);
  for (const name of names) {
    const bench = Object.hasOwn(BENCHES, name) ? BENCHES[name] : undefined;
    if (bench === undefined) {
      process.stderr.write(`no benchmark ${name}; there are: ${Object.keys(BENCHES).join(', ')}\n`);
      return 2;
    }
    process.stdout.write(`\n== ${name}: ${bench.says}\n\n`);
    const report = await bench.run();
    reports[name] = report;
    process.stdout.write(`${show(report)}\n`);
  }
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ machine, reports }, undefined, 2)}\n`);
  return 0;
}

process.exitCode = await main(process.argv.slice(2));
