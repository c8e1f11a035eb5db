import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { Divergence, replay } from './replay.ts';
import { type ModelStep, type ModelTrace, parseKept } from './trace.ts';

const TRACES = fileURLToPath(new URL('../../model/traces', import.meta.url));
const traces = readdirSync(TRACES).map((name) => ({
  name,
  trace: parseKept(readFileSync(join(TRACES, name), 'utf8')),
}));

t.test('the core does what the model does, step by step', async (t) => {
  for (const { name, trace } of traces) {
    t.doesNotThrow(() => replay(trace), name);
  }
});

t.test('between them the kept traces go through what matters', async (t) => {
  const steps = traces.flatMap(({ trace }) => trace.steps);
  const decided = steps.flatMap(({ after }) => (after !== null && after.decided.view >= 0 ? [after.decided] : []));
  for (const view of [0, 1, 2])
    t.ok(
      decided.some((d) => d.view === view),
      `decided in view ${view}`,
    );
  t.ok(
    decided.some((d) => Math.floor(d.block / 3) < d.view),
    'a block decided in a later view than its own',
  );
  for (const kind of ['deliver', 'propose', 'timeout', 'restart', 'sign'])
    t.ok(
      steps.some((step) => step.kind === kind),
      kind,
    );
  t.ok(
    traces.some(({ trace }) => trace.count === 7),
    'seven validators',
  );
});

t.test('a model that says otherwise is told the step and both states', async (t) => {
  const { trace } = traces[0]!;
  const at = trace.steps.findIndex(({ after, signed }) => after !== null && signed.length > 0);
  const step = trace.steps[at]!;
  const variants: readonly (readonly [string, Partial<ModelStep>])[] = [
    ['another view', { after: { ...step.after!, view: step.after!.view + 1 } }],
    [
      'another vote on disk',
      { after: { ...step.after!, record: { ...step.after!.record, commit: { view: 0, block: 7 } } } },
    ],
    ['a decision', { after: { ...step.after!, decided: { view: 0, block: 0 } } }],
    ['a message that was not signed', { signed: [] }],
    [
      'a message too many',
      { signed: [...step.signed, { tag: 'Commit', value: { from: step.at, view: 0, block: 0 } }] },
    ],
  ];
  for (const [what, change] of variants) {
    const other: ModelTrace = { ...trace, steps: trace.steps.map((s, i) => (i === at ? { ...s, ...change } : s)) };
    t.throws(() => replay(other), Divergence, what);
    t.throws(() => replay(other), { message: new RegExp(`^step ${at + 1}:`) }, `${what}: the step is named`);
  }
});
