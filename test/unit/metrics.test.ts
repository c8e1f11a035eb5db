/** docs/metrics.md, docs/alerts.yaml and docs/dashboard.json speak of what `/metrics` shows, and of all of it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import { STALLS, WARNINGS } from '../../node/alarms/codes.ts';
import { NodeMetrics } from '../../node/metrics/metrics.ts';

const DOCS = join(import.meta.dirname, '../../docs');
const read = (name: string): string => readFileSync(join(DOCS, name), 'utf8');

const metrics = new NodeMetrics();
metrics.pull(
  {
    height: () => 1,
    view: () => 0,
    blockIntervalMs: () => null,
    alarms: () => ({ stall: null, warnings: [] }),
    diskFreeBytes: () => null,
    isValidator: () => true,
    validators: () => [],
    syncLag: () => 0,
    mempool: () => ({ size: 0, bytes: 0, rejections: new Map() }),
    verifier: () => ({ verified: 0, byWorkers: 0, busyMs: 0, waiting: 0 }),
    peers: () => ({ connected: 0, members: 3 }),
    network: () => new Map(),
  },
  { processMetrics: true },
);
interface Shown {
  readonly name: string;
  readonly type: string;
  readonly help: string;
}
const shown = (await metrics.registry.getMetricsAsJSON()) as unknown as readonly Shown[];
const own = shown.filter(({ name }) => name.startsWith('emrchain_'));
const names = new Set(shown.flatMap(({ name }) => [name, `${name}_bucket`, `${name}_sum`, `${name}_count`]));
const named = (text: string): string[] => [...new Set(text.match(/\b(?:emrchain|nodejs|process)_[a-z0-9_]+\b/g))];

t.test('docs/metrics.md lists each with its type and meaning', async (t) => {
  const rows = [...read('metrics.md').matchAll(/^\| `(emrchain_\w+)` +\| (\w+) +\| ([^|]*?) +\| ([^|]*?) +\|$/gm)];
  t.same(
    rows.map(([, name, type, , help]) => ({ name, type, help })).toSorted((a, b) => (a.name! < b.name! ? -1 : 1)),
    own.map(({ name, type, help }) => ({ name, type, help })).toSorted((a, b) => (a.name < b.name ? -1 : 1)),
  );
});

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly for: string;
  readonly labels: { readonly severity: string; readonly code?: string };
  readonly annotations: { readonly summary: string };
}
const rules = (parse(read('alerts.yaml')) as { groups: { rules: Rule[] }[] }).groups.flatMap((group) => group.rules);

t.test('docs/alerts.yaml asks for what is there, and leaves no alarm out', async (t) => {
  t.same(
    rules.flatMap(({ expr }) => named(expr)).filter((name) => !names.has(name)),
    [],
  );
  const codes = new Set([...Object.keys(STALLS), ...Object.keys(WARNINGS)]);
  for (const { alert, labels, annotations } of rules) {
    t.ok(['page', 'ticket'].includes(labels.severity), `${alert} says how urgent it is`);
    t.ok(annotations.summary.length > 0, `${alert} says what it is`);
    if (labels.code !== undefined) t.ok(codes.has(labels.code), `${alert} has a section in the runbook`);
  }
  const asked = (metric: string, label: string): string[] =>
    rules.flatMap(({ expr }) => {
      const [, not = '', pattern = ''] = new RegExp(`${metric}\\{${label}(!?)[=~]+"([A-Z_|]+)"`).exec(expr) ?? [];
      const listed = pattern === '' ? [] : pattern.split('|');
      return not === '' ? listed : Object.keys(STALLS).filter((code) => !listed.includes(code));
    });
  const stalls = [...asked('emrchain_stalled', 'reason'), 'SYNCING'].toSorted();
  t.same(stalls, Object.keys(STALLS).toSorted(), 'each stall once; of SYNCING only what does not move');
  t.same(asked('emrchain_warning', 'code').toSorted(), Object.keys(WARNINGS).toSorted(), 'each warning once');
});

t.test('docs/dashboard.json asks for what is there', async (t) => {
  const dashboard = JSON.parse(read('dashboard.json')) as {
    panels: { title: string; targets?: { expr: string }[] }[];
  };
  const asked = dashboard.panels.flatMap(({ targets }) => (targets ?? []).flatMap(({ expr }) => named(expr)));
  t.ok(asked.length > 15);
  t.same(
    asked.filter((name) => !names.has(name)),
    [],
  );
});
