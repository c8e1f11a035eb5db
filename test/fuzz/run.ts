/**
 * `npm run fuzz -- --inputs 1000000 [--only TEXT] [--seed N]`: the decoders of every wire message and file with valid
 * and damaged inputs. Says for each what came of it; the exit code is 1 when anything was found.
 */
import { parseArgs } from 'node:util';
import { campaign } from './campaign.ts';
import type { TargetReport } from './engine.ts';
import { allTargets } from './targets.ts';

const { values } = parseArgs({
  options: {
    inputs: { type: 'string', default: '100000' },
    only: { type: 'string', default: '' },
    seed: { type: 'string', default: '1' },
  },
});
const { only } = values;
const [inputs, seed] = [Number(values.inputs), Number(values.seed)];
if (!Number.isSafeInteger(inputs) || inputs < 1 || !Number.isSafeInteger(seed)) {
  process.stderr.write('usage: npm run fuzz -- [--inputs N] [--only TEXT] [--seed N]\n');
  process.exit(2);
}

function line({ target, inputs: count, accepted, codes, slowestMs, mostBytes, seconds }: TargetReport): string {
  const refusals = [...codes].sort((a, b) => b[1] - a[1]).map(([code, times]) => `${code} ${times}`);
  const shown = refusals.length > 6 ? [...refusals.slice(0, 6), `and ${refusals.length - 6} other codes`] : refusals;
  const worst = `slowest ${slowestMs.toFixed(1)} ms, most ${(mostBytes / 1_048_576).toFixed(1)} MiB`;
  return `${target}: ${count} inputs in ${seconds.toFixed(1)} s, ${accepted} accepted; ${shown.join(', ')}; ${worst}`;
}

const chosen = (await allTargets()).filter(({ name }) => name.includes(only));
const startedMs = performance.now();
const reports = await campaign(chosen, {
  inputs,
  seed,
  done: (report) => void process.stdout.write(`${line(report)}\n`),
});
const findings = reports.flatMap((report) => report.findings);
for (const { target, seed: of, index, problem, input } of findings) {
  process.stdout.write(`\nFOUND in ${target} (seed ${of}, input ${index}): ${problem}\n${input}\n`);
}
const total = reports.reduce((sum, report) => sum + report.inputs, 0);
const seconds = ((performance.now() - startedMs) / 1_000).toFixed(0);
process.stdout.write(
  `\n${total} inputs for ${reports.length} decoders in ${seconds} s, seed ${seed}: ${findings.length} findings\n`,
);
process.exit(findings.length === 0 ? 0 : 1);
