/**
 * `npm run scenarios -- NAME… [--count N] [--seed S] [--slack F]`: plays scenarios by name, or all, and prints their
 * figures. Exit code 1 when something was not as it must be.
 */
import { parseArgs } from 'node:util';
import { scenarios } from './catalogue.ts';
import { play } from './play.ts';
import { canMount } from './small-disk.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    /** How many times, where a scenario does something so many times. */
    count: { type: 'string' },
    seed: { type: 'string', default: '1' },
    /** Factor for the limits of figures: above 1 where other work shares the machine. */
    slack: { type: 'string', default: '1' },
  },
});
const known = scenarios(Number(values.seed), values.count === undefined ? null : Number(values.count));
const names = positionals.includes('all') ? Object.keys(known) : positionals;
if (names.length === 0 || names.some((name) => !Object.hasOwn(known, name))) {
  console.error(`usage: npm run scenarios -- all|${Object.keys(known).join('|')} [--count N] [--seed S] [--slack F]`);
  process.exit(2);
}

let failed = 0;
for (const scenario of names.flatMap((name) => known[name] ?? [])) {
  console.log(`\n${scenario.name}`);
  if (scenario.smallDisks !== undefined && !canMount) {
    console.log('  skipped: only root may mount a small disk');
    continue;
  }
  const startMs = performance.now();
  const say = (text: string): void => console.log(`  ${text}`);
  const failures = await play(scenario, { slack: Number(values.slack), say }).then(
    (outcome) => outcome.failures,
    (error: unknown) => [(error as Error).message],
  );
  for (const failure of failures) console.log(`  FAILED: ${failure}`);
  console.log(
    `  ${failures.length === 0 ? 'as it must be' : 'NOT AS IT MUST BE'}, in ${((performance.now() - startMs) / 1_000).toFixed(0)} s`,
  );
  if (failures.length > 0) failed += 1;
}
process.exit(failed === 0 ? 0 : 1);
