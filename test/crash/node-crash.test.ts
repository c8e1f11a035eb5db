/**
 * Crash points: a node dies at each of its durable steps, before the write, with the write in the page cache only (lost
 * when the power goes), or just after it reached the disk. Whatever the moment, nothing that was committed is lost, no
 * second vote is ever signed, and the node comes back by itself.
 */
import t, { type Test } from 'tap';
import { bytesToHex } from '../../common/bytes.ts';
import { Cluster, until } from '../integration/node-cluster.ts';
import { consortium, enrolPatient, type TestTransaction } from '../integration/node-consortium.ts';
import { type Fault, SimulatedDisk } from './simulated-disk.ts';

const quick = { viewTimeoutMs: 150, viewTimeoutCapMs: 1_000 };

async function begin(t: Test): Promise<{ cluster: Cluster; disks: readonly SimulatedDisk[] }> {
  const cluster = new Cluster(consortium({ params: quick }));
  const disks = cluster.net.hospitals.map(() => new SimulatedDisk());
  for (const [index, disk] of disks.entries()) await cluster.start(index, disk.open());
  t.teardown(() => cluster.stop());
  return { cluster, disks };
}

async function submitTo(cluster: Cluster, index: number, tx: TestTransaction): Promise<void> {
  const verdict = await cluster.node(index).mempool.submit({ bytes: tx.bytes, sidecar: null });
  if (!verdict.ok) throw new Error(`${verdict.code}: ${verdict.message}`);
}

/** Conflicting votes that anybody has seen. */
async function evidence(cluster: Cluster): Promise<number> {
  let pairs = 0;
  for (const node of cluster.nodes()) {
    const metric = await node.metrics.registry.getSingleMetric('emrchain_consensus_evidence_total')?.get();
    for (const { value } of metric?.values ?? []) pairs += value;
  }
  return pairs;
}

const headsOf = (cluster: Cluster): Set<string> =>
  new Set(cluster.nodes().map((node) => bytesToHex(node.executor.head.hash)));

const VICTIM = 1;
/** A height costs each node three writes (Prepare, Commit, block), so that these are all steps of two heights and more. */
const STEPS = 7;

for (const fault of ['diesBefore', 'diesUnsynced', 'diesAfter'] satisfies Fault[]) {
  t.test(`one node ${fault} at each of its durable steps`, async (t) => {
    for (let step = 1; step <= STEPS; step += 1) {
      const { cluster, disks } = await begin(t);
      const disk = disks[VICTIM] as SimulatedDisk;
      const first = disk.writeCount;
      const died = new Set<SimulatedDisk>();
      disk.fault = ({ number }) => (number === first + step ? fault : 'none');
      disk.onDeath = () => {
        died.add(disk);
        cluster.running[VICTIM]?.kill();
        disk.crash();
        disk.fault = () => 'none';
      };
      const txs: TestTransaction[] = [];
      while (died.size === 0 && txs.length < 10) {
        const tx = enrolPatient(cluster.net, 2);
        txs.push(tx);
        await submitTo(cluster, 2, tx);
        await until(
          () => cluster.node(2).store.locateTx(tx.hash) !== null,
          10_000,
          () => cluster.describe(),
        );
      }
      t.ok(died.size === 1, `step ${step} was reached`);
      const before = await cluster.start(VICTIM, disk.open());
      await cluster.committed(txs);
      const last = enrolPatient(cluster.net, 3);
      await submitTo(cluster, VICTIM, last);
      await cluster.committed([last]);
      await cluster.level();
      t.equal(headsOf(cluster).size, 1);
      t.equal(before.host.isValidator, true);
      t.same(cluster.fatal(), []);
      t.equal(await evidence(cluster), 0);
      await cluster.stop();
    }
  });
}

t.test('all nodes lose power at once, again and again', async (t) => {
  const { cluster, disks } = await begin(t);
  const committed: TestTransaction[] = [];
  for (let round = 0; round < 8; round += 1) {
    const sure = enrolPatient(cluster.net, round % 4);
    await submitTo(cluster, round % 4, sure);
    await until(
      () => cluster.node(round % 4).store.locateTx(sure.hash) !== null,
      20_000,
      () => cluster.describe(),
    );
    committed.push(sure);
    // The blackout comes in the midst of the next block, at another step each time.
    const unsure = enrolPatient(cluster.net, round % 4);
    const disk = disks[(round + 1) % 4] as SimulatedDisk;
    const stop = disk.writeCount + 1 + (round % 3);
    const dark = new Promise<void>((resolve) => {
      disk.fault = ({ number }) => (number === stop ? 'diesUnsynced' : 'none');
      disk.onDeath = resolve;
    });
    await submitTo(cluster, round % 4, unsure);
    await dark;
    for (const running of cluster.running) running?.kill();
    for (const lost of disks) {
      lost.crash();
      lost.fault = () => 'none';
      lost.onDeath = () => {};
    }
    for (const [index, restarted] of disks.entries()) await cluster.start(index, restarted.open());
    await cluster.committed(committed);
  }
  await cluster.level();
  t.equal(headsOf(cluster).size, 1);
  t.same(cluster.fatal(), []);
  t.equal(await evidence(cluster), 0);
});

t.test('a full disk stops the node loudly, and the others go on', async (t) => {
  const { cluster, disks } = await begin(t);
  const disk = disks[VICTIM] as SimulatedDisk;
  disk.fault = () => 'fails';
  const full = cluster.running[VICTIM];
  const tx = enrolPatient(cluster.net, 2);
  await submitTo(cluster, 2, tx);
  await until(
    () => (full?.fatal.length ?? 0) > 0,
    10_000,
    () => cluster.describe(),
  );
  t.match(full?.fatal[0], { code: 'STORAGE_FAILED' });
  cluster.running[VICTIM] = undefined;
  await cluster.committed([tx]);
  disk.crash();
  disk.fault = () => 'none';
  await cluster.start(VICTIM, disk.open());
  await cluster.committed([tx]);
  t.same(cluster.fatal(), []);
});
