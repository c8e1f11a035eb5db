/**
 * `node test/sim/run.ts [--seeds N] [--seed S]`: runs N random simulations from seed S on, or the one seed S, and prints
 * a summary that is the same each time. Exit code 1 when a property did not hold.
 */
import { parseArgs } from 'node:util';
import { randomRun, type RunResult } from './random-run.ts';

const { values } = parseArgs({ options: { seeds: { type: 'string' }, seed: { type: 'string' } } });
const first = Number(values.seed ?? 1);
const count = Number(values.seeds ?? (values.seed === undefined ? 200 : 1));
if (!Number.isSafeInteger(first) || !Number.isSafeInteger(count) || count < 1) {
  console.error('usage: node test/sim/run.ts [--seeds N] [--seed S]');
  process.exit(2);
}

const sum = { runs: 0, blocks: 0, crashes: 0, deliveries: 0, evidence: 0, byzantine: 0 };
let trace = 0;
let highestView = 0;
let slowestMs = 0;
const failed: RunResult[] = [];
for (let seed = first; seed < first + count; seed += 1) {
  const result = randomRun(seed);
  sum.runs += 1;
  sum.blocks += result.height;
  sum.crashes += result.crashes;
  sum.deliveries += result.deliveries;
  sum.evidence += result.evidence;
  sum.byzantine += result.byzantine.length;
  highestView = Math.max(highestView, result.highestView);
  slowestMs = Math.max(slowestMs, result.recoveryMs);
  trace = (Math.imul(trace, 31) + result.trace) >>> 0;
  if (result.violation !== null) failed.push(result);
  if (count === 1) console.log(JSON.stringify(result, null, 2));
}
console.log(
  `seeds ${first}..${first + count - 1}: ${sum.blocks} blocks, ${sum.deliveries} deliveries, ${sum.crashes} crashes, ` +
    `${sum.byzantine} Byzantine validators, ${sum.evidence} reports of evidence, highest deciding view ${highestView}, ` +
    `slowest recovery ${slowestMs} ms of virtual time, trace ${trace.toString(16).padStart(8, '0')}`,
);
for (const { seed, validators, byzantine, violation } of failed) {
  console.log(`seed ${seed} (${validators} validators, Byzantine: ${byzantine.join() || 'none'}): ${violation}`);
}
process.exitCode = failed.length === 0 ? 0 : 1;
