// `npm run check`: everything that can be said about the tree without starting a node, each check also by its own name
// (`npm run check:lint`). All of them run, whatever fails; the table at the end says which. A new check is a line here,
// and a script in package.json.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import process from 'node:process';

const FOLDERS = ['common', 'config', 'consensus', 'vm', 'rpc', 'client', 'node', 'scripts', 'test'];

/** name -> what it says, and the program with its arguments, relative to the project's folder. */
const CHECKS = {
  types: {
    says: 'types are sound',
    run: ['node_modules/typescript/bin/tsc', '--noEmit', '--project', 'tsconfig.json'],
  },
  lint: { says: 'lint and purity rules', run: ['node_modules/eslint/bin/eslint.js', '--max-warnings', '0', '.'] },
  format: {
    says: 'formatted by prettier (npm run format)',
    run: ['node_modules/prettier/bin/prettier.cjs', '--check', '--log-level', 'warn', '.'],
  },
  imports: {
    says: 'import walls',
    run: [
      'node_modules/dependency-cruiser/bin/dependency-cruise.mjs',
      '--config',
      '.dependency-cruiser.mjs',
      ...FOLDERS.filter((folder) => existsSync(folder)),
    ],
  },
  unused: { says: 'no unused files, exports, dependencies', run: ['node_modules/knip/bin/knip.js', '--no-progress'] },
  docs: { says: 'what the documents name exists', run: ['scripts/check-docs.mjs'] },
  sm2: {
    says: 'the WebAssembly of the SM2 engine is what its sources give, byte for byte',
    run: ['scripts/sm2-engine/build.mjs', '--check'],
  },
  fast: { says: 'unit tests', run: ['node_modules/tap/dist/esm/run.mjs', 'test/unit'] },
};

const asked = process.argv.slice(2);
const unknown = asked.filter((name) => !Object.hasOwn(CHECKS, name));
if (unknown.length > 0) {
  process.stderr.write(`no check named ${unknown.join(', ')}; there are: ${Object.keys(CHECKS).join(', ')}\n`);
  process.exit(2);
}

const results = (asked.length > 0 ? asked : Object.keys(CHECKS)).map((name) => {
  const { says, run } = CHECKS[name];
  process.stdout.write(`\n== ${name}: ${says}\n`);
  const startMs = performance.now();
  const { status, error } = spawnSync(process.execPath, run, { stdio: 'inherit' });
  if (error !== undefined) process.stderr.write(`${error.message}\n`);
  return { name, passed: status === 0, seconds: (performance.now() - startMs) / 1000 };
});

process.stdout.write('\n');
for (const { name, passed, seconds } of results) {
  process.stdout.write(`${passed ? 'ok    ' : 'FAILED'} ${name} (${seconds.toFixed(1)} s)\n`);
}
process.exitCode = results.every(({ passed }) => passed) ? 0 : 1;
