/** What stalls nodes, brought about between real ones: status, metrics and log say the same, by the same codes. */
import t, { type Test } from 'tap';
import { decodeMessage, type UnsignedMessage } from '../../consensus/messages.ts';
import { unwrapDirect } from '../../node/host/wire.ts';
import type { Log } from '../../node/log.ts';
import type { EmrNode } from '../../node/node.ts';
import { hostViewOf } from '../../node/rpc-ports/index.ts';
import { ConsensusView } from '../../node/rpc-ports/consensus-view.ts';
import { openLevelStore } from '../../node/storage/level-store.ts';
import { Cluster, until } from './node-cluster.ts';
import { consortium, enrolPatient } from './node-consortium.ts';

t.setTimeout(180_000);

interface Line {
  readonly message: string;
  readonly code: unknown;
}

interface Watched {
  readonly cluster: Cluster;
  /** What node 0 has logged. */
  readonly lines: Line[];
  start(index: number): Promise<EmrNode>;
  submit(): Promise<ReturnType<typeof enrolPatient>>;
}

function watched(t: Test, params: { readonly maxClockDriftMs?: number } = {}): Watched {
  const cluster = new Cluster(consortium({ params: { viewTimeoutMs: 300, viewTimeoutCapMs: 1_000, ...params } }));
  const dir = t.testdir({});
  const lines: Line[] = [];
  const write = (fields: Readonly<Record<string, unknown>>, message: string): void =>
    void lines.push({ message, code: fields['code'] });
  const log: Log = { debug: () => {}, info: write, warn: write, error: write };
  t.teardown(() => cluster.stop());
  return {
    cluster,
    lines,
    async start(index) {
      cluster.options = index === 0 ? { ...cluster.options, log } : { ...cluster.options, log: QUIET };
      return cluster.start(index, await openLevelStore(`${dir}/${index}`));
    },
    async submit() {
      const tx = enrolPatient(cluster.net);
      const verdict = await cluster.node(0).mempool.submit({ bytes: tx.bytes, sidecar: null });
      if (!verdict.ok) throw new Error(verdict.code);
      return tx;
    },
  };
}
const nothing = (): void => {};
const QUIET: Log = { debug: nothing, info: nothing, warn: nothing, error: nothing };

const statusOf = (node: EmrNode) =>
  new ConsensusView({
    executor: node.executor,
    host: hostViewOf(node),
    network: node.network,
    self: node.signer.address,
  }).status();

/** The codes that the metrics of a node show as raised. */
async function raised(node: EmrNode, metric: string): Promise<string[]> {
  const text = await node.metrics.registry.metrics();
  return [...text.matchAll(new RegExp(`^${metric}\\{\\w+="([A-Z_]+)"\\} 1$`, 'gm'))].map(([, code]) => code as string);
}

/** Waits for a stall of node 0 and compares what its status, its metrics and its log say. */
async function agrees(t: Test, { cluster, lines }: Watched, code: string): Promise<void> {
  const node = cluster.node(0);
  const describe = (): string => `${cluster.describe()}\n${JSON.stringify(statusOf(node).stalledReason)}`;
  // Metrics are read while the stall lasts, which some do for a moment only: the next look may find another.
  for (let tries = 0; tries < 20; tries += 1) {
    await until(() => statusOf(node).stalledReason?.code === code, 30_000, describe);
    const metric = await raised(node, 'emrchain_stalled');
    if (statusOf(node).stalledReason?.code !== code) continue;
    t.same(metric, [code], 'the metric says the same');
    t.ok(
      lines.some((line) => line.message === 'stalled' && line.code === code),
      'the log says the same',
    );
    return;
  }
  t.fail(`${code} never lasted`);
}

/** Waits until node 0 is well again, and compares. */
async function isWell(t: Test, { cluster, lines }: Watched): Promise<void> {
  const node = cluster.node(0);
  await until(
    () => statusOf(node).stalledReason === null,
    30_000,
    () => cluster.describe(),
  );
  t.same(await raised(node, 'emrchain_stalled'), []);
  const told = lines.filter(({ message }) => message === 'stalled' || message === 'no longer stalled');
  t.equal(told.at(-1)?.message, 'no longer stalled');
}

const kindOf = (payload: Uint8Array): UnsignedMessage['kind'] | null => {
  const direct = unwrapDirect(payload);
  const message = direct.ok && direct.value.kind === 'message' ? decodeMessage(direct.value.bytes) : null;
  return message?.ok === true ? message.value.body.kind : null;
};

t.test('a node that is alone after its start, then one of too few, then well', async (t) => {
  const world = watched(t);
  await world.start(0);
  await agrees(t, world, 'STARTING');
  const { stalledReason } = statusOf(world.cluster.node(0));
  t.equal(stalledReason?.missing.length, 3);
  for (const index of [1, 2, 3]) await world.start(index);
  await isWell(t, world);
  for (const index of [2, 3]) {
    const { node } = world.cluster.running[index] as { node: EmrNode };
    world.cluster.running[index] = undefined;
    await node.stop();
  }
  const tx = await world.submit();
  await agrees(t, world, 'NO_QUORUM');
  const status = statusOf(world.cluster.node(0));
  const names = [2, 3].map((index) => world.cluster.net.hospitals[index]?.orgId);
  t.same(
    status.stalledReason?.missing.map(({ orgId, connected }) => [orgId, connected]),
    names.map((name) => [name, false]),
  );
  t.ok((status.stalledReason?.missing ?? []).every(({ lastSeenMs }) => lastSeenMs !== null));
  t.match(status.warnings, [{ code: 'VALIDATORS_AWAY' }]);
  t.same(await raised(world.cluster.node(0), 'emrchain_warning'), ['VALIDATORS_AWAY']);
  await world.start(2);
  await world.cluster.committed([tx], 30_000);
  await isWell(t, world);
});

t.test('one that nobody reaches', async (t) => {
  const world = watched(t);
  for (const index of [0, 1, 2, 3]) await world.start(index);
  await until(
    () => statusOf(world.cluster.node(0)).stalledReason === null,
    30_000,
    () => world.cluster.describe(),
  );
  const own = world.cluster.net.hospitals[0]?.peerId;
  world.cluster.hub.passes = (from, to) => from !== own && to !== own;
  await world.submit();
  await agrees(t, world, 'NO_PEERS');
  world.cluster.hub.passes = () => true;
  await isWell(t, world);
});

const PHASES: readonly [string, readonly UnsignedMessage['kind'][], string][] = [
  ['proposals do not arrive', ['prePrepare'], 'AWAIT_LEADER'],
  ['prepares do not arrive', ['prepare'], 'AWAIT_VOTES'],
  ['commits do not arrive', ['commit'], 'AWAIT_VOTES'],
  ['view changes do not arrive either', ['prePrepare', 'viewChange', 'newView'], 'VIEW_CHANGE'],
];
for (const [what, dropped, code] of PHASES) {
  t.test(`all are here, and ${what}`, async (t) => {
    const world = watched(t);
    for (const index of [0, 1, 2, 3]) await world.start(index);
    await until(
      () => world.cluster.nodes().every((node) => statusOf(node).stalledReason === null),
      30_000,
      () => world.cluster.describe(),
    );
    world.cluster.hub.passes = (_from, _to, payload) => {
      const kind = kindOf(payload);
      return kind === null || !dropped.includes(kind);
    };
    const tx = await world.submit();
    await agrees(t, world, code);
    t.ok((statusOf(world.cluster.node(0)).stalledReason?.missing.length ?? 0) > 0, 'somebody is named');
    world.cluster.hub.passes = () => true;
    await world.cluster.committed([tx], 60_000);
    await isWell(t, world);
  });
}

t.test('a clock that is wrong is known for the own', async (t) => {
  const world = watched(t, { maxClockDriftMs: 5_000 });
  world.cluster.skewMs = 60_000;
  await world.start(0);
  world.cluster.skewMs = 0;
  for (const index of [1, 2, 3]) await world.start(index);
  const has = (): boolean => statusOf(world.cluster.node(0)).warnings.some((warning) => warning.code === 'CLOCK_SKEW');
  for (let blocks = 0; blocks < 12 && !has(); blocks += 1) {
    const tx = enrolPatient(world.cluster.net);
    await world.cluster.node(1).mempool.submit({ bytes: tx.bytes, sidecar: null });
    await until(
      () => world.cluster.node(1).store.locateTx(tx.hash) !== null,
      30_000,
      () => world.cluster.describe(),
    );
  }
  await until(has, 30_000, () => JSON.stringify(statusOf(world.cluster.node(0)).warnings));
  t.match(
    statusOf(world.cluster.node(0)).warnings.find(({ code }) => code === 'CLOCK_SKEW')?.message,
    /(59|60|61) s ahead/,
  );
  t.ok((await raised(world.cluster.node(0), 'emrchain_warning')).includes('CLOCK_SKEW'));
  t.ok(world.lines.some(({ message, code }) => message === 'warning raised' && code === 'CLOCK_SKEW'));
  t.notOk(
    statusOf(world.cluster.node(1)).warnings.some(({ code }) => code === 'CLOCK_SKEW'),
    'the others know theirs for right',
  );
});

t.test('little room on the disk', async (t) => {
  const world = watched(t);
  world.cluster.options = { disk: { freeBytes: () => Promise.resolve(1_000), minFreeBytes: 900 } };
  await world.start(0);
  const warned = (): boolean => statusOf(world.cluster.node(0)).warnings.some(({ code }) => code === 'DISK_LOW');
  await until(warned, 30_000, () => JSON.stringify(statusOf(world.cluster.node(0)).warnings));
  t.ok((await raised(world.cluster.node(0), 'emrchain_warning')).includes('DISK_LOW'));
  t.match(await world.cluster.node(0).metrics.registry.metrics(), /^emrchain_disk_free_bytes 1000$/m);
  t.ok(world.lines.some(({ message, code }) => message === 'warning raised' && code === 'DISK_LOW'));
});
