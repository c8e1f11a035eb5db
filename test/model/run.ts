/**
 * `node test/model/run.ts [--seed S] [--walks N]`: checks the models in model/ and replays what they do on the core.
 *
 * 1. All states of agreement.qnt within its bounds; the search must come to its end.
 * 2. The same with one protection less, for each of them: each must be found unsafe.
 * 3. The scenarios of scenarios.qnt; each is replayed on the core.
 * 4. N random walks through each instance of pbft.qnt from seed S on, with all invariants; each walk is replayed.
 *
 * Exit code 1 when something did not hold. `--keep` does the walks alone and writes those that show most to model/traces,
 * for npm test.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';
import { replay } from './replay.ts';
import { type ModelTrace, parseItf, printKept } from './trace.ts';

const MODEL = fileURLToPath(new URL('../../model', import.meta.url));
const QUINT = fileURLToPath(import.meta.resolve('@informalsystems/quint/dist/src/cli.js'));

/** More than any search takes: it ends by itself. */
const SEARCH_STEPS = 100;
const SEARCH_WITNESSES = ['complete', 'decidedInView0', 'preparedAgain', 'lockGivesWay'];
const WEAKENED = [
  'withoutFullQuorum',
  'withoutCertificates',
  'withoutHighestView',
  'withoutRecomputing',
  'withoutLeaving',
  'withoutRecord',
];
const WALKED = [
  { instance: 'noneFaulty', count: 4 },
  { instance: 'firstLeaderFaulty', count: 4 },
  { instance: 'secondLeaderFaulty', count: 4 },
  { instance: 'lastLeaderFaulty', count: 4 },
  { instance: 'twoOfSevenFaulty', count: 7 },
];
const WALK_STEPS = 90;
const INVARIANTS = [
  'agreement',
  'validity',
  'noDoubleVote',
  'certificatesAreReal',
  'oneCertificateEachView',
  'locksGrow',
  'votesAreJustified',
  'decisionIsMandate',
];
/** Each by one walk at least; which also reach view 3, and see a lock give way, the summary says. */
const WALK_WITNESSES = ['decidedInView0', 'decidedInView1', 'decidedInView2', 'decidedAgain'];
const RARE_WITNESSES = ['decidedInView3', 'decidedInTwoViews', 'lockGivesWay'];

const { values } = parseArgs({
  options: { seed: { type: 'string' }, walks: { type: 'string' }, keep: { type: 'boolean' } },
});
const seed = Number(values.seed ?? 1);
const walks = Number(values.walks ?? 40);
if (!Number.isSafeInteger(seed) || seed < 1 || !Number.isSafeInteger(walks) || walks < 1) {
  console.error('usage: node test/model/run.ts [--seed S] [--walks N] [--keep]');
  process.exit(2);
}

interface Outcome {
  readonly violated: boolean;
  readonly witnessed: ReadonlyMap<string, number>;
  readonly output: string;
}

async function quint(args: readonly string[]): Promise<Outcome> {
  const child = spawn(process.execPath, [QUINT, ...args], { cwd: MODEL, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  child.stdout.on('data', (bytes: Buffer) => (output += bytes.toString()));
  child.stderr.on('data', (bytes: Buffer) => (output += bytes.toString()));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  const violated = output.includes('[violation]');
  if (code !== 0 && !violated) throw new Error(`quint ${args.join(' ')}: code ${code}\n${output}`);
  const counts = [...output.matchAll(/^(\w+) was witnessed in (\d+) trace/gm)];
  return { violated, witnessed: new Map(counts.map(([, name = '', n]) => [name, Number(n)])), output };
}

const simulate = (instance: string, ...more: readonly string[]): Promise<Outcome> =>
  quint(['run', 'instances.qnt', '--backend=typescript', '--verbosity=1', `--main=${instance}`, ...more]);

const search = (instance: string): Promise<Outcome> =>
  simulate(
    instance,
    '--seed=1',
    '--max-samples=1',
    `--max-steps=${SEARCH_STEPS}`,
    '--invariant=agreement',
    '--witnesses',
    ...SEARCH_WITNESSES,
  );

/** After so many it is of no use to go on. */
const MAX_FAILURES = 20;
const failures: string[] = [];
const witnessed = new Map<string, number>();
const kept: { readonly name: string; readonly trace: ModelTrace }[] = [];
const scratch = mkdtempSync(join(tmpdir(), 'emrchain-model-'));

async function searchAll(): Promise<void> {
  const { violated, witnessed: seen, output } = await search('allStates');
  const missing = SEARCH_WITNESSES.filter((name) => (seen.get(name) ?? 0) === 0);
  if (violated) failures.push(`allStates: unsafe\n${output}`);
  else if (missing.length > 0) failures.push(`allStates: never ${missing.join()}`);
  else console.log('agreement.qnt: all states of three views are safe');
}

async function searchWeakened(instance: string): Promise<void> {
  const { violated } = await search(instance);
  if (violated) console.log(`agreement.qnt: ${instance} is found unsafe`);
  else failures.push(`${instance}: was not found unsafe`);
}

async function walk({ instance, count }: (typeof WALKED)[number]): Promise<void> {
  const outcome = await simulate(
    instance,
    `--seed=${seed}`,
    `--max-samples=${walks}`,
    `--n-traces=${walks}`,
    `--max-steps=${WALK_STEPS}`,
    `--out-itf=${join(scratch, `${instance}.{seq}.itf.json`)}`,
    '--invariants',
    ...INVARIANTS,
    '--witnesses',
    ...WALK_WITNESSES,
    ...RARE_WITNESSES,
  );
  if (outcome.violated) failures.push(`${instance}: an invariant does not hold\n${outcome.output}`);
  for (const [name, n] of outcome.witnessed) witnessed.set(name, (witnessed.get(name) ?? 0) + n);
  const files = readdirSync(scratch).filter((name) => name.startsWith(`${instance}.`));
  let steps = 0;
  for (const file of files.sort()) steps += replayOne(file, count, file.replace('.itf.json', '.jsonl'));
  if (!outcome.violated && files.length < walks) failures.push(`${instance}: ${files.length} walks were written`);
  console.log(`pbft.qnt: ${instance}: ${files.length} walks, ${steps} steps, replayed on the core`);
}

async function playScenarios(): Promise<void> {
  const out = join(scratch, 'scenario.{test}.itf.json');
  await quint(['test', 'scenarios.qnt', '--backend=typescript', '--verbosity=1', `--out-itf=${out}`, '--seed=1']);
  const files = readdirSync(scratch).filter((name) => name.startsWith('scenario.'));
  for (const file of files) replayOne(file, 4, file.replace(/^scenario\.(\w+)Test\.itf\.json$/, '$1.jsonl'));
  if (files.length === 0) failures.push('no scenario was written');
  console.log(`scenarios.qnt: ${files.length} scenarios, replayed on the core`);
}

/** @returns how many steps it has */
function replayOne(file: string, count: number, name: string): number {
  const trace = parseItf(readFileSync(join(scratch, file), 'utf8'), count);
  kept.push({ name, trace });
  try {
    replay(trace);
  } catch (error) {
    failures.push(`${file}: core and model part at ${error instanceof Error ? error.message : String(error)}`);
    if (failures.length > MAX_FAILURES) throw error;
  }
  return trace.steps.length;
}

/** Some at a time, in order: as many as there are processors. */
async function inTurn(jobs: readonly (() => Promise<void>)[]): Promise<void> {
  const waiting = [...jobs];
  const worker = async (): Promise<void> => {
    for (let job = waiting.shift(); job !== undefined; job = waiting.shift()) await job();
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
}

/** What a trace is worth keeping for. */
function features({ count, steps }: ModelTrace): ReadonlySet<string> {
  const found = new Set([`${count} validators`]);
  for (const { kind, message, after, signed } of steps) {
    found.add(kind);
    if (message !== null) found.add(`${kind} ${message.tag}`);
    if (message?.tag === 'NewView')
      found.add(message.value.viewChanges.some((a) => a.prepared.view >= 0) ? 'a mandate' : 'no mandate');
    if (after === null) continue;
    const { decided, record } = after;
    if (decided.view >= 0) {
      found.add(`decided in ${decided.view}`);
      if (Math.floor(decided.block / 3) < decided.view) found.add(`decided again in ${decided.view}`);
    }
    if (kind === 'restart') {
      found.add(`restarted in ${after.mode}, prepared ${record.prepared.view >= 0}`);
      if (record.prepare.view === record.view) found.add(`restarted after a vote in ${Math.min(record.view, 1)}`);
    }
    if (record.commit.view > 0) found.add(`committed in ${record.commit.view}`);
    for (const { tag } of signed) found.add(`${kind} leads to ${tag}`);
  }
  return found;
}

function keepTheBest(): void {
  const folder = join(MODEL, 'traces');
  for (const name of readdirSync(folder)) rmSync(join(folder, name));
  const seen = new Set<string>();
  const scenarios = kept.filter(({ name }) => !/\.\d+\.jsonl$/.test(name));
  for (const { name, trace } of scenarios) {
    for (const feature of features(trace)) seen.add(feature);
    writeFileSync(join(folder, name), printKept(trace));
  }
  const news = (trace: ModelTrace): number => [...features(trace)].filter((f) => !seen.has(f)).length;
  for (;;) {
    const best = kept.reduce((a, b) => (news(b.trace) > news(a.trace) ? b : a));
    if (news(best.trace) === 0) break;
    for (const feature of features(best.trace)) seen.add(feature);
    writeFileSync(join(folder, best.name), printKept(best.trace));
  }
  console.log(`kept for: ${[...seen].sort().join('; ')}`);
}

try {
  const started = Date.now();
  await quint(['typecheck', 'instances.qnt']);
  await playScenarios();
  const searches = [searchAll, ...WEAKENED.map((name) => () => searchWeakened(name))];
  const walking = WALKED.map((w) => () => walk(w));
  const jobs = values.keep === true ? walking : [...searches, ...walking];
  await inTurn(jobs);
  const never = WALK_WITNESSES.filter((name) => (witnessed.get(name) ?? 0) === 0);
  if (never.length > 0) failures.push(`no walk reached ${never.join(', ')}`);
  console.log(`reached: ${[...witnessed].map(([name, n]) => `${name} ${n}`).join(', ')}`);
  if (values.keep === true) keepTheBest();
  for (const failure of failures) console.log(`\n${failure}`);
  console.log(`${jobs.length + 1} checks, ${failures.length} failures, ${Math.round((Date.now() - started) / 1000)} s`);
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
process.exitCode = failures.length === 0 ? 0 : 1;
