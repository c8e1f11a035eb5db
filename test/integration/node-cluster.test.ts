import t, { type Test } from 'tap';
import { bytesToHex } from '../../common/bytes.ts';
import { openLevelStore } from '../../node/storage/level-store.ts';
import { Cluster, until } from './node-cluster.ts';
import { consortium, enrolPatient, type TestTransaction } from './node-consortium.ts';

const quick = { viewTimeoutMs: 300, viewTimeoutCapMs: 2_000 };

async function cluster(t: Test, size = 4): Promise<{ cluster: Cluster; open: (index: number) => Promise<unknown> }> {
  const made = new Cluster(consortium({ size, params: quick }));
  const dir = t.testdir({});
  const open = async (index: number) => made.start(index, await openLevelStore(`${dir}/${index}`));
  for (let index = 0; index < size; index += 1) await open(index);
  t.teardown(() => made.stop());
  return { cluster: made, open };
}

const submit = async (of: Cluster, index: number, tx: TestTransaction): Promise<void> => {
  const verdict = await of.node(index).mempool.submit({ bytes: tx.bytes, sidecar: null });
  if (!verdict.ok) throw new Error(`${verdict.code}: ${verdict.message}`);
};

/** Nodes that have the same blocks have the same state. */
function agrees(t: Test, of: Cluster): void {
  const heads = of.nodes().map((node) => bytesToHex(node.executor.head.hash));
  t.equal(new Set(heads).size, 1, 'one head');
  t.same(of.fatal(), []);
}

t.test('transactions given to any node are committed by all', async (t) => {
  const { cluster: of } = await cluster(t);
  const txs = Array.from({ length: 40 }, (_, n) => enrolPatient(of.net, n % 4));
  await Promise.all(txs.map((tx, n) => submit(of, n % 4, tx)));
  await of.committed(txs);
  await of.level();
  agrees(t, of);
  const { head } = of.node(0).executor;
  for (const node of of.nodes()) {
    t.same(node.executor.head.header.stateRoot, head.header.stateRoot);
    t.equal(node.mempool.size, 0);
    t.same(node.mempool.status((txs[0] as TestTransaction).hash).kind, 'committed');
  }
  const metrics = await of.node(0).metrics.registry.metrics();
  t.match(metrics, new RegExp(`emrchain_consensus_height ${head.height}`));
});

t.test('an idle chain stays where it is', async (t) => {
  const { cluster: of } = await cluster(t);
  const tx = enrolPatient(of.net);
  await submit(of, 1, tx);
  await of.committed([tx]);
  await of.level();
  const { height } = of.node(0).executor.head;
  const ticks = of.nodes().map((node) => node.observations.validators()[0]?.lastSeenMs ?? 0);
  await until(
    () =>
      of
        .nodes()
        .every(
          (node, n) => (node.observations.validators()[0]?.lastSeenMs ?? 0) >= (ticks[n] as number) + 1_000 || n === 0,
        ),
    10_000,
    () => of.describe(),
  );
  t.same(
    of.nodes().map((node) => node.executor.head.height),
    [height, height, height, height],
  );
  t.same(
    of.nodes().map((node) => node.alarms.look().stall),
    [null, null, null, null],
  );
});

t.test('with one hospital down the others go on, and it catches up when it returns', async (t) => {
  const { cluster: of, open } = await cluster(t);
  const before = enrolPatient(of.net);
  await submit(of, 0, before);
  await of.committed([before]);
  // The leader of the next height is the one to stop.
  const victim = (of.node(0).executor.head.height + 1) % 4;
  const stopped = of.node(victim);
  of.running[victim] = undefined;
  await stopped.stop();
  const via = (victim + 1) % 4;
  const during = Array.from({ length: 6 }, (_, n) => enrolPatient(of.net, n % 4));
  for (const tx of during) {
    await submit(of, via, tx);
    await of.committed([tx]);
  }
  await open(victim);
  await of.committed(during);
  const after = enrolPatient(of.net);
  await submit(of, victim, after);
  await of.committed([after]);
  await of.level();
  agrees(t, of);
});

t.test('two hospitals away: no block, a reason that says so, and life when one returns', async (t) => {
  const { cluster: of, open } = await cluster(t);
  const first = enrolPatient(of.net);
  await submit(of, 0, first);
  await of.committed([first]);
  await of.level();
  for (const index of [2, 3]) {
    const stopped = of.node(index);
    of.running[index] = undefined;
    await stopped.stop();
  }
  const { height } = of.node(0).executor.head;
  const tx = enrolPatient(of.net);
  await submit(of, 0, tx);
  const stall = () => of.node(0).alarms.look().stall;
  await until(
    () => stall()?.code === 'NO_QUORUM',
    15_000,
    () => `${of.describe()} ${JSON.stringify(stall())}`,
  );
  const away = [2, 3].map((index) => ({ orgId: of.net.hospitals[index]?.orgId, connected: false }));
  t.match(stall()?.missing, away);
  t.equal(of.node(0).executor.head.height, height);
  await open(2);
  await of.committed([tx], 30_000);
  agrees(t, of);
});

t.test('a node behind a cut link follows once the link is there again', async (t) => {
  const { cluster: of } = await cluster(t);
  const lonely = of.net.hospitals[3]?.peerId;
  of.hub.passes = (from, to) => from !== lonely && to !== lonely;
  const txs = Array.from({ length: 5 }, () => enrolPatient(of.net));
  for (const tx of txs) {
    await submit(of, 0, tx);
    await until(
      () => of.node(0).store.locateTx(tx.hash) !== null,
      15_000,
      () => of.describe(),
    );
  }
  t.equal(of.node(3).executor.head.height, 0);
  of.hub.passes = () => true;
  await of.committed(txs);
  await of.level();
  agrees(t, of);
});

t.test('a transaction that gossip lost is brought to every validator all the same [F2]', async (t) => {
  const { cluster: of } = await cluster(t);
  of.hub.gossips = false;
  const tx = enrolPatient(of.net);
  await submit(of, 0, tx);
  await of.committed([tx]);
  await of.level();
  agrees(t, of);
});

t.test('a hospital that leaves out one sender, wherever it sits in the order: a few blocks at most', async (t) => {
  const { cluster: of } = await cluster(t);
  const height = (): number => Math.max(...of.nodes().map((node) => node.executor.head.height));
  for (let censor = 0; censor < 4; censor += 1) {
    const victim = enrolPatient(of.net);
    const { mempool } = of.node(censor);
    const candidates = mempool.candidates.bind(mempool);
    mempool.candidates = (...limits) =>
      candidates(...limits).filter(({ tx }) => bytesToHex(tx.hash) !== bytesToHex(victim.hash));
    const others: TestTransaction[] = [];
    const flow = async (): Promise<void> => {
      const tx = enrolPatient(of.net);
      others.push(tx);
      await submit(of, (censor + 1) % 4, tx);
    };
    await flow();
    const before = height();
    await submit(of, (censor + 2) % 4, victim);
    const has = (): boolean => of.node(0).store.locateTx(victim.hash) !== null;
    while (!has() && height() < before + 10) {
      await flow();
      await of.committed(others);
    }
    await of.committed([victim, ...others]);
    const found = of.node(0).store.locateTx(victim.hash);
    // 2f + 1 blocks, the one that was under way, and one for gossip to be slower than a block.
    t.ok(found !== null && found.height <= before + 5, `height ${found?.height} after ${before}`);
    mempool.candidates = candidates;
  }
  await of.level();
  agrees(t, of);
});
