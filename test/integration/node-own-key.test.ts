/** Real nodes: a data folder that was put back from a backup, and one key in two processes. */
import { cpSync, rmSync } from 'node:fs';
import t, { type Test } from 'tap';
import { openLevelStore } from '../../node/storage/level-store.ts';
import { Cluster, until } from './node-cluster.ts';
import { consortium, enrolPatient } from './node-consortium.ts';

const SIZE = 4;
const RESTORED = 1;

async function running(t: Test): Promise<{ cluster: Cluster; dir: string }> {
  const cluster = new Cluster(consortium({ size: SIZE, params: { viewTimeoutMs: 400, viewTimeoutCapMs: 2_000 } }));
  const dir = t.testdir({});
  t.teardown(() => cluster.stop());
  for (let index = 0; index < SIZE; index += 1) await cluster.start(index, await openLevelStore(`${dir}/${index}`));
  return { cluster, dir };
}

/** So many blocks with a transaction each, by way of a node that is not the one in question. */
async function grow(cluster: Cluster, blocks: number): Promise<void> {
  for (let i = 0; i < blocks; i += 1) {
    const tx = enrolPatient(cluster.net);
    const verdict = await cluster.node(2).mempool.submit({ bytes: tx.bytes, sidecar: null });
    if (!verdict.ok) throw new Error(verdict.code);
    await cluster.committed([tx]);
  }
}

const accusations = (cluster: Cluster): number =>
  cluster.nodes().reduce((sum, node) => sum + node.evidence.pending().length, 0);

/** The last height whose certificate has a signature of this validator, as another one saw it. */
const lastSigned = (cluster: Cluster): number =>
  cluster.node(2).observations.validators()[RESTORED]?.lastSignedHeight ?? 0;

t.test('an old data folder: it abstains where it may have voted, and votes again above', async (t) => {
  const { cluster, dir } = await running(t);
  await grow(cluster, 3);
  await cluster.node(RESTORED).stop();
  cluster.running[RESTORED] = undefined;
  cpSync(`${dir}/${RESTORED}`, `${dir}/backup`, { recursive: true });
  await cluster.start(RESTORED, await openLevelStore(`${dir}/${RESTORED}`));
  await cluster.level();
  // A process that has promised nothing since its start has nothing to be found in.
  const before = cluster.node(RESTORED).executor.head.height;
  while (lastSigned(cluster) <= before + 1) await grow(cluster, 1);
  await grow(cluster, 2);
  const { height: last } = cluster.node(RESTORED).executor.head;
  const know = [0, 2, 3].map((index) => cluster.node(index).observations);
  await until(
    () => know.every((of) => of.validators()[RESTORED]?.executedHeight === last),
    20_000,
    () => cluster.describe(),
  );
  await cluster.node(RESTORED).stop();
  cluster.running[RESTORED] = undefined;
  rmSync(`${dir}/${RESTORED}`, { recursive: true });
  cpSync(`${dir}/backup`, `${dir}/${RESTORED}`, { recursive: true });
  const shown = cluster.node(2).executor.head.height;
  const back = await cluster.start(RESTORED, await openLevelStore(`${dir}/${RESTORED}`));
  t.ok(back.executor.head.height < shown, 'the folder is old');
  await until(
    () => back.observations.keyInUseSinceMs !== null,
    20_000,
    () => cluster.describe(),
  );
  await cluster.level();
  await grow(cluster, 1);
  t.equal(back.executor.head.height, shown + 1);
  t.ok(lastSigned(cluster) <= shown, 'it did not vote on the block that it may have voted on before');
  // With another one gone its vote is needed.
  await cluster.node(3).stop();
  cluster.running[3] = undefined;
  await grow(cluster, 2);
  t.ok(lastSigned(cluster) > shown + 1);
  t.equal(back.observations.keyInUseSinceMs, null, 'and the alarm is over');
  t.equal(accusations(cluster), 0);
  t.same(cluster.fatal(), []);
});

t.test('a second process with the key: nobody signs twice, and the chain goes on', async (t) => {
  const { cluster, dir } = await running(t);
  await grow(cluster, 3);
  const first = cluster.node(RESTORED);
  // What is sent to this member reaches the second one from now on, as with the newest of two connections.
  const second = await cluster.start(RESTORED, await openLevelStore(`${dir}/second`));
  t.teardown(() => first.stop());
  await grow(cluster, 6);
  await until(
    () => second.observations.keyInUseSinceMs !== null,
    20_000,
    () => cluster.describe(),
  );
  t.equal(accusations(cluster), 0);
  t.same(cluster.fatal(), []);
});
