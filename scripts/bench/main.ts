/**
 * npm run bench [-- NAME ...] [--quick] [--json FILE] [--plots]: measures, and prints tables. A new benchmark is a module with a
 * `Bench` and a line in BENCHES. Figures that were seen, with what bounds them: docs/benchmarks.md.
 */

import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { crypto } from './crypto.ts';
import { custody } from './custody.ts';
import type { Bench, BenchOptions, Report, Row } from './measure.ts';
import { suites } from './suites.ts';
import { svgOf } from './svg.ts';
import { markdownOf } from './table.ts';

const ROOT = join(import.meta.dirname, '..', '..');
/** Of the document: written when they are asked for, since what a busy machine shows is no use there. */
const PLOTS = join(ROOT, 'docs', 'plots');
/** A network that hangs ends with that. */
const NETWORK_MS = 1_500_000;

/** Of a benchmark that stands on what tests stand on: in a process of its own. */
function script(name: string, says: string): Bench {
  return { says, run: (options) => reportOf(join(ROOT, 'test', 'bench', `${name}.ts`), options) };
}

const BENCHES: Readonly<Record<string, Bench>> = {
  crypto,
  custody,
  suites,
  codec: script('codec', 'transactions, blocks, receipts and entries, one thread'),
  'state-tree': script('state-tree', 'the tree over 100,000 entries in memory, one thread'),
  storage: script('storage', 'LevelDB with 300,000 entries'),
  mempool: script('mempool', 'transactions of one signature, one node'),
  consensus: script('consensus', 'four nodes in one process, network in memory'),
  access: script(
    'access',
    'rules and proofs for 10 to 100,000 readers and 1 to 20 approvals, one process; two minutes',
  ),
  growth: script('growth', 'with 0, 100,000 and 1,000,000 records in the state; some 10 minutes, with --quick 2'),
  network: script('network', 'validators as processes, transactions of one signature; some 15 minutes, with --quick 2'),
  sustained: script('sustained', 'four validators as processes, one load for five minutes; some 8 minutes'),
  'custody-load': script(
    'custody-load',
    'four validators as processes, requests, approvals and records with capsules; some 6 minutes, with --quick 2',
  ),
  records: script('records', "a record's bytes: encrypted, stored, read, decrypted; a minute"),
  sync: script('sync', 'a node that has nothing catches up with three, one process; two minutes'),
  reading: script('reading', 'four nodes, four custodians, a record of 1 MB, loopback'),
};

async function reportOf(path: string, { quick }: BenchOptions): Promise<Report> {
  const child = spawn(process.execPath, [path, ...(quick ? ['--quick'] : [])], {
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: NETWORK_MS,
  });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    text += part;
  });
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  if (code !== 0) throw new Error(`${path} ended with ${code}`);
  return JSON.parse(text) as Report;
}

const machine = {
  processor: cpus()[0]?.model ?? 'unknown',
  cores: cpus().length,
  memoryGiB: Math.round(totalmem() / 2 ** 30),
  platform: `${process.platform} ${process.arch}`,
  node: process.versions.node,
  openssl: process.versions.openssl,
};

function show({ rows, ratios, tables = [] }: Report): string {
  const costs = {
    title: 'Microseconds',
    head: ['operation', 'cpu least', 'cpu median', 'cpu p90', 'wall median'],
    rows: rows.map(({ name, cpuUs, wallUs }: Row) => [name, cpuUs.least, cpuUs.median, cpuUs.p90, wallUs.median]),
  };
  const compared = {
    title: 'Ratio of processor times, median of rounds',
    head: ['ratio', 'times', 'wanted'],
    rows: ratios.map(({ slow, fast, times, wanted }) => [`${slow} / ${fast}`, times, wanted ?? null]),
  };
  const all = [...(rows.length > 0 ? [costs] : []), ...(ratios.length > 0 ? [compared] : []), ...tables];
  return all.map(markdownOf).join('\n\n');
}

function draw({ plots = [] }: Report): void {
  mkdirSync(PLOTS, { recursive: true });
  for (const plot of plots) writeFileSync(join(PLOTS, `${plot.name}.svg`), svgOf(plot));
}

async function main(args: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    options: { json: { type: 'string' }, quick: { type: 'boolean' }, plots: { type: 'boolean' } },
    allowPositionals: true,
  });
  const names = positionals.length > 0 ? positionals : Object.keys(BENCHES);
  const unknown = names.find((name) => !Object.hasOwn(BENCHES, name));
  if (unknown !== undefined) {
    process.stderr.write(`no benchmark ${unknown}; there are: ${Object.keys(BENCHES).join(', ')}\n`);
    return 2;
  }
  const reports: Record<string, Report> = {};
  process.stdout.write(`${Object.values(machine).join(', ')}\n`);
  for (const name of names) {
    const bench = BENCHES[name] as Bench;
    process.stdout.write(`\n== ${name}: ${bench.says}\n\n`);
    const report = await bench.run({ quick: values.quick === true });
    reports[name] = report;
    process.stdout.write(`${show(report)}\n`);
    if (values.plots === true) draw(report);
  }
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ machine, reports }, undefined, 2)}\n`);
  return 0;
}

process.exitCode = await main(process.argv.slice(2));
