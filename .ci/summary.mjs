// Reads what `npm test` printed (scripts/tap-reporter.mjs) and closes with the plain line "N passed, N failed". Arguments: the
// file with that output, then the names of other steps that failed. Exit code 0 only if something passed, nothing
// failed, and nothing was skipped that this machine was prepared for.

import { existsSync, readFileSync } from 'node:fs';
import process from 'node:process';

/** A skip that names one of these says that a test did not get what CI has installed for it. */
const PREPARED = ['EMRCHAIN_TEST_KUBO', 'EMRCHAIN_TEST_CHROMIUM'];

const [file = '', ...failedSteps] = process.argv.slice(2);
const output = existsSync(file) ? readFileSync(file, 'utf8') : '';
const [, passed, failed] = [...output.matchAll(/^(\d+) passed, (\d+) failed, \d+ skipped$/gm)].at(-1) ?? [];
const skipped = [...output.matchAll(/^ +skipped: (.*)$/gm)].map(([, test]) => test);

const problems = failedSteps.map((step) => `step failed: ${step}`);
if (passed === undefined) problems.push('the tests did not run to their end');
else if (Number(passed) === 0) problems.push('no test ran');
problems.push(
  ...skipped
    .filter((test) => PREPARED.some((name) => test.includes(name)))
    .map((test) => `must not be skipped here: ${test}`),
);
for (const problem of problems) process.stdout.write(`${problem}\n`);

const failures = Number(failed ?? 0) + problems.length;
process.stdout.write(`${passed ?? 0} passed, ${failures} failed\n`);
process.exitCode = failures === 0 ? 0 : 1;
