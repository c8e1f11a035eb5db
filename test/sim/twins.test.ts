/** Twins: two processes with one key, all partitions of the first views, every seat. */
import t from 'tap';
import { Worker } from 'node:worker_threads';
import type { Patch } from '../../scripts/patching.ts';
import { scenarioCount, type TwinsPlan, type TwinsResult } from './twins.ts';
import { WEAKNESSES } from './weaknesses.ts';

t.setTimeout(120_000);
const file = 'consensus/own-key.ts';
/** Safety must not rest on processes that notice each other: so these do not. */
const NOTICE_NOTHING: readonly Patch[] = [
  {
    file,
    find: "if (key.use !== 'asking' || self === null || key.echoed.size < quorum - 1) return false;",
    replace: "if (key.use !== 'asking' || self === null || quorum === 0) return false; key.use = 'ours'; return true;",
  },
  {
    file,
    find: "if (through <= record.abstainThrough || state.key.use === 'shared') return;",
    replace: 'if (through >= 0) return;',
  },
  { file, find: "if (key.use === 'shared') return;", replace: "if (key.use !== 'shared') return;" },
];

async function twins(plan: TwinsPlan, patches: readonly Patch[]): Promise<TwinsResult> {
  const { promise, resolve, reject } = Promise.withResolvers<TwinsResult>();
  const worker = new Worker(new URL('./twins-worker.ts', import.meta.url), {
    workerData: { plan, patches },
    execArgv: [],
  });
  worker.once('message', resolve).once('error', reject);
  const result = await promise;
  await worker.terminate();
  return result;
}

const TWO_VIEWS: TwinsPlan = { views: 2, parts: 2, stride: 1 };
/** All of 16,384 take minutes: a number that has nothing in common with those of seats and partitions takes some of each. */
const THREE_VIEWS: TwinsPlan = { views: 3, parts: 2, stride: 97 };

t.test('twins that notice nothing: the others agree and go on', async (t) => {
  for (const plan of [TWO_VIEWS, THREE_VIEWS]) {
    const { scenarios, violations } = await twins(plan, NOTICE_NOTHING);
    t.equal(scenarios, scenarioCount(plan));
    t.strictSame(violations.slice(0, 5), [], `${scenarios} scenarios of ${plan.views} views`);
  }
});

t.test('twins that find each other: the same', async (t) => {
  const { violations } = await twins({ ...TWO_VIEWS, stride: 7 }, []);
  t.strictSame(violations.slice(0, 5), []);
});

t.test('a core that ignores locks, and one with a quorum too small, are caught', async (t) => {
  for (const name of ['lock not honoured: a new view is free, whatever was prepared', 'quorum one less, everywhere']) {
    const weakness = WEAKNESSES.find((w) => w.name === name)!;
    const { violations } = await twins({ ...TWO_VIEWS, firstOnly: true }, [...NOTICE_NOTHING, ...weakness.patches]);
    t.match(violations.join('\n'), /settled|disagreement|two blocks prepared/, name);
  }
});
