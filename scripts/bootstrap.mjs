// What every npm script calls first: installs what is missing, picks the Node, starts the program. Plain JavaScript for
// Node 18. A new npm script is a line in PROGRAMS and a line in package.json.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { become, chooseNode, COMMAND_LINE, ensureInstalled, ROOT } from './toolchain.mjs';

/** name -> script and first arguments; `dev`: needs the packages that only development needs. */
const PROGRAMS = {
  start: { run: [COMMAND_LINE, 'devnet', '--demo'], dev: false },
  emrchain: { run: [COMMAND_LINE], dev: false },
  test: { run: ['node_modules/tap/dist/esm/run.mjs'], dev: true },
  check: { run: ['scripts/check.mjs'], dev: true },
  format: { run: ['node_modules/prettier/bin/prettier.cjs', '--write', '.'], dev: true },
  bench: { run: ['scripts/bench/main.ts'], dev: true },
  'build:sm2': { run: ['scripts/sm2-engine/build.mjs'], dev: true },
  model: { run: ['test/model/run.ts'], dev: true },
  sim: { run: ['test/sim/run.ts'], dev: true },
  mutate: { run: ['scripts/mutate.ts'], dev: true },
  scenarios: { run: ['test/e2e/scenarios/main.ts'], dev: true },
  fuzz: { run: ['test/fuzz/run.ts'], dev: true },
};

const [name = '', ...args] = process.argv.slice(2);
const program = Object.prototype.hasOwnProperty.call(PROGRAMS, name) ? PROGRAMS[name] : undefined;
if (program === undefined) {
  process.stderr.write(`usage: node scripts/bootstrap.mjs ${Object.keys(PROGRAMS).join('|')} [arguments]\n`);
  process.exit(2);
}

ensureInstalled(program.dev);
const node = chooseNode();
const [script, ...first] = program.run;
if (!existsSync(join(ROOT, script))) {
  process.stderr.write(`emrchain: ${script} is not in this version.\n`);
  process.exit(1);
}
// The command line takes paths as the user means them, wherever in the tree `npm run emrchain` was typed.
const cwd = name === 'emrchain' && process.env.INIT_CWD ? process.env.INIT_CWD : ROOT;
become(node, [join(ROOT, script), ...first, ...args], cwd);
