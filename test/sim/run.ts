/**
 * `npm run sim -- [--seeds N] [--seed S] [--validators 4|7|10] [--verbose] [--weakness NAME] [--threads N]`: runs N random
 * simulations from seed S on, or the one seed S, and prints a summary that is the same each time but for the speed. Seeds
 * that once found something run first. Exit code 1 when a property did not hold; the seed is kept in regressions.txt.
 */
import { appendFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { randomRun, type RunResult } from './random-run.ts';
import { readRegressions, REGRESSIONS } from './regressions.ts';
import { runSeeds } from './seed-runner.ts';
import { Summary } from './summary.ts';
import { WEAKNESSES } from './weaknesses.ts';

const USAGE =
  'usage: npm run sim -- [--seeds N] [--seed S] [--validators 4|7|10] [--threads N] [--weakness NAME] [--verbose]';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string' },
    seed: { type: 'string' },
    validators: { type: 'string' },
    threads: { type: 'string' },
    weakness: { type: 'string' },
    verbose: { type: 'boolean', default: false },
  },
});
const first = Number(values.seed ?? 1);
const count = Number(values.seeds ?? (values.seed === undefined ? 200 : 1));
const validators = values.validators === undefined ? undefined : Number(values.validators);
const threads = Number(values.threads ?? availableParallelism());
const weakness = WEAKNESSES.find((w) => w.name === values.weakness);
const isUsable =
  [first, count, threads].every((n) => Number.isSafeInteger(n) && n >= 1) &&
  (validators === undefined || (Number.isSafeInteger(validators) && validators >= 4 && validators <= 10)) &&
  (values.weakness === undefined || weakness !== undefined);
if (!isUsable) {
  console.error(USAGE);
  console.error(`weaknesses: ${WEAKNESSES.map((w) => `"${w.name}"`).join(', ')}`);
  process.exit(2);
}

const isOne = count === 1 && values.seed !== undefined && weakness === undefined;
const known = isOne || weakness !== undefined ? [] : readRegressions().filter((s) => s < first || s >= first + count);
const seeds = [...known, ...Array.from({ length: count }, (_, i) => first + i)];

const summary = new Summary(seeds);
const note = (result: RunResult): void => {
  summary.add(result);
  if (values.verbose || isOne) console.log(JSON.stringify(result, null, isOne ? 2 : undefined));
};
const beganMs = performance.now();
if (isOne) note(randomRun(first, { validators }));
else
  await runSeeds(
    seeds,
    Math.min(threads, seeds.length),
    { patches: weakness?.patches ?? [], options: { validators } },
    note,
  );
const tookS = (performance.now() - beganMs) / 1_000;

console.log(`seeds ${first} to ${first + count - 1}${known.length === 0 ? '' : `, and ${known.length} kept ones`}`);
for (const line of summary.lines(tookS)) console.log(line);
for (const failure of summary.failures()) console.log(failure.line);
const fresh = weakness === undefined ? summary.failures().filter((f) => !readRegressions().includes(f.seed)) : [];
if (fresh.length > 0) {
  appendFileSync(join(REGRESSIONS), fresh.map((f) => `${f.line}\n`).join(''));
  console.log(`kept in ${REGRESSIONS}`);
}
process.exitCode = summary.failures().length === 0 ? 0 : 1;
