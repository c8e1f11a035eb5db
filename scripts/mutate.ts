/**
 * `npm run mutate [-- --only TEXT] [--write]`: takes each protection of mutations.ts away, one at a time and in memory only, runs
 * the tests that must notice, and counts those that do. Exit code 1 when a removal goes unnoticed or a patch is stale.
 * `--write` puts the table into docs/consensus-checklist.md.
 */
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { parseArgs } from 'node:util';
import { type Patch, patched, PROJECT_ROOT } from './patching.ts';
import { type Mutation, MUTATIONS } from './mutations.ts';

/** A test that takes longer hangs, which is noticing, too. */
const MAX_FILE_S = 240;
const DOCUMENT = join(PROJECT_ROOT, 'docs/consensus-checklist.md');
const [TABLE_BEGINS, TABLE_ENDS] = ['<!-- mutations -->', '<!-- /mutations -->'];

interface Outcome {
  readonly mutation: Mutation;
  /** Names of the tests that failed. */
  readonly noticed: readonly string[];
}

const { values } = parseArgs({ options: { only: { type: 'string' }, write: { type: 'boolean', default: false } } });
const chosen = MUTATIONS.filter((m) => values.only === undefined || m.protection.includes(values.only));

for (const { patches } of MUTATIONS)
  for (const patch of patches) patched(readFileSync(join(PROJECT_ROOT, patch.file), 'utf8'), patch);

/** A test that fails without any mutation would notice everything: each file is run as it is, once. */
const asItIs = new Map<string, Promise<void>>();
async function passes(file: string): Promise<void> {
  const failing = await failingTests(file, []);
  if (failing.length > 0) throw new Error(`${file} fails as it is: ${failing.join(', ')}`);
}

const outcomes: Outcome[] = [];
const waiting = [...chosen];
await Promise.all(
  Array.from({ length: availableParallelism() }, async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const mutation = next;
      const noticed: string[] = [];
      for (const file of mutation.tests) {
        const pass = asItIs.get(file) ?? passes(file);
        asItIs.set(file, pass);
        await pass;
        noticed.push(...(await failingTests(file, mutation.patches)).map((name) => `${file}: ${name}`));
      }
      outcomes.push({ mutation, noticed });
      console.log(`${String(noticed.length).padStart(3)}  row ${mutation.row}: ${mutation.protection}`);
      if (noticed.length === 0) console.log('     NOT NOTICED');
    }
  }),
);

const unnoticed = outcomes.filter((o) => o.noticed.length === 0);
console.log(`${outcomes.length} protections taken away, ${outcomes.length - unnoticed.length} noticed`);
if (values.write) writeTable();
process.exitCode = unnoticed.length === 0 ? 0 : 1;

/** The names of the innermost tests that fail; the file itself where it ends without saying which. */
async function failingTests(file: string, patches: readonly Patch[]): Promise<readonly string[]> {
  const { promise, resolve, reject } = Promise.withResolvers<readonly string[]>();
  const child = spawn(process.execPath, ['--import', './scripts/mutation-hook.ts', file], {
    cwd: PROJECT_ROOT,
    env: { ...process.env, EMRCHAIN_MUTATION: JSON.stringify(patches), TAP_TIMEOUT: `${MAX_FILE_S}` },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), MAX_FILE_S * 1_000);
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
  child.once('error', reject);
  child.once('close', (code) => {
    clearTimeout(timer);
    const names = innermostFailures(output);
    resolve(names.length === 0 && code !== 0 ? [`ends with ${code === null ? 'a signal' : `code ${code}`}`] : names);
  });
  return promise;
}

/** TAP indents subtests, and closes each with its own line: what fails and has no failing subtest in it counts. */
function innermostFailures(tap: string): readonly string[] {
  const names: string[] = [];
  let failedDepth = -1;
  for (const line of tap.split('\n')) {
    const found = /^( *)not ok \d+ - (.*?) # time=/.exec(line);
    if (found === null) continue;
    const [, indent = '', name = ''] = found;
    if (indent.length >= failedDepth) names.push(name);
    failedDepth = indent.length;
  }
  return names;
}

function writeTable(): void {
  const rows = [...outcomes].sort((a, b) => MUTATIONS.indexOf(a.mutation) - MUTATIONS.indexOf(b.mutation));
  const table = [
    '| row | protection that is taken away | in | tests that notice |',
    '| --- | --- | --- | --- |',
    ...rows.map(({ mutation: { row, protection, patches }, noticed }) => {
      const files = [...new Set(patches.map((p) => `\`${p.file}\``))].join(', ');
      return `| ${row} | ${protection} | ${files} | ${noticed.length} |`;
    }),
  ];
  const before = readFileSync(DOCUMENT, 'utf8');
  const [head, tail] = [before.split(TABLE_BEGINS)[0], before.split(TABLE_ENDS)[1]];
  if (head === undefined || tail === undefined) throw new Error(`${DOCUMENT} has no place for the table`);
  writeFileSync(DOCUMENT, `${head}${TABLE_BEGINS}\n\n${table.join('\n')}\n\n${TABLE_ENDS}${tail}`);
}
