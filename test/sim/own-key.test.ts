/**
 * One validator key after its data folder was put back from a backup, and in two processes at a time. The checkers hold
 * whatever is signed with it to the same as everybody: never two contents for one (height, view, kind).
 */
import t from 'tap';
import type { SignedMessage } from '../../consensus/messages.ts';
import type { ConsensusParams } from '../../consensus/types.ts';
import { Cluster } from './cluster.ts';
import type { DiskImage } from './disk.ts';
import type { SimNode } from './node.ts';

const isKind = (message: SignedMessage, kind: SignedMessage['body']['kind']): boolean => message.body.kind === kind;

const backupOf = ({ disk }: SimNode): DiskImage => disk.image();

function putBack(node: SimNode, backup: DiskImage): void {
  node.disk.putBack(backup);
  node.cluster.checkers.putBack(node.place, backup.chain.length);
}

/** So long that a process is back, and would vote again, in the view that it left. */
class PatientCluster extends Cluster {
  override readonly params: ConsensusParams = { viewTimeoutMs: 3_000, viewTimeoutCapMs: 6_000 };
}

/** Four, of whom 1 leads height 1: it takes two views, and 1 comes to lead and to follow. */
function scene(): Cluster {
  const cluster = new PatientCluster(5, 4);
  cluster.startAll();
  cluster.world.filter = (_from, _to, message) => !(isKind(message, 'commit') && message.body.view === 0);
  cluster.submit(cluster.newTx());
  return cluster;
}

/** Runs on until the disk of a node has changed `steps` times, or until height 1 is decided. */
function runTo(cluster: Cluster, node: SimNode, steps: number): readonly DiskImage[] {
  const backups = [backupOf(node)];
  cluster.world.run(cluster.world.nowMs + 60_000, () => {
    const last = backups.at(-1)!;
    if (node.disk.record !== last.record || node.disk.chain.length !== last.chain.length) backups.push(backupOf(node));
    return backups.length > steps || cluster.heights().low === 1;
  });
  return backups;
}

t.test(
  'a backup is put back at every durable step of a height: no promise is given twice, and the chain goes on',
  async (t) => {
    for (const index of [1, 2, 3]) {
      const reference = scene();
      const durableSteps = runTo(reference, reference.node(index), 1_000).length - 1;
      t.ok(durableSteps >= 5, `validator ${index}: ${durableSteps} durable steps`);
      for (let at = 1; at <= durableSteps; at += 1) {
        for (let from = 0; from < at; from += 1) {
          const cluster = scene();
          const { world } = cluster;
          const node = cluster.node(index);
          const backups = runTo(cluster, node, at);
          node.crash();
          // Whoever fetches a tape takes longer than what is on its way.
          world.run(world.nowMs + 20);
          putBack(node, backups[from]!);
          node.start();
          for (let height = 1; height <= 3; height += 1) {
            cluster.submit(cluster.newTx());
            const others = cluster.nodes.filter((n) => n !== node);
            const done = (): boolean => others.every((n) => n.disk.chain.length >= height);
            if (!world.run(world.nowMs + 30_000, done))
              t.fail(`${index}, back from ${at} to ${from}: height ${height}`);
          }
          world.filter = null;
          t.ok(
            world.run(world.nowMs + 5_000, () => cluster.heights().low >= 3),
            `${index}, back from ${at} to ${from}: it follows`,
          );
          // It takes part again: with another one gone its vote is needed.
          cluster.node((index + 1) % 4).crash();
          cluster.submit(cluster.newTx());
          const up = cluster.nodes.filter((n) => n.isUp);
          const height = cluster.heights().high + 1;
          if (!world.run(world.nowMs + 30_000, () => up.every((n) => n.disk.chain.length >= height)))
            t.fail(`${index}, back from ${at} to ${from}: it never votes again`);
        }
      }
    }
  },
);

t.test('a restart goes on by itself', async (t) => {
  t.test('of all: within a round trip', async (t) => {
    const cluster = new Cluster(1, 4);
    const { world } = cluster;
    cluster.startAll();
    const tx = cluster.newTx();
    for (const node of cluster.nodes) node.submit(tx);
    const done = (height: number) => () => cluster.heights().low >= height;
    t.ok(world.run(world.nowMs + 60, done(1)), 'the first start of a chain, too');
    for (const node of cluster.nodes) node.crash();
    // What is still on its way would show a process that may be alive.
    world.run(world.nowMs + 20);
    cluster.startAll();
    const next = cluster.newTx();
    for (const node of cluster.nodes) node.submit(next);
    t.ok(world.run(world.nowMs + 60, done(2)));
  });

  t.test('of one whose vote is needed, and of all but f that are gone for good: within that and a tick', async (t) => {
    for (const validators of [4, 7]) {
      const cluster = new Cluster(1, validators);
      const { world } = cluster;
      cluster.startAll();
      cluster.submit(cluster.newTx());
      t.ok(world.run(world.nowMs + 2_000, () => cluster.heights().low >= 1));
      for (const node of cluster.nodes.slice(-Math.floor((validators - 1) / 3))) node.crash();
      const left = cluster.nodes.filter((node) => node.isUp);
      for (const restarted of [left.slice(0, 1), left]) {
        for (const node of restarted) node.crash();
        world.run(world.nowMs + 50);
        for (const node of restarted) node.start();
        const height = Math.max(...left.map((n) => n.disk.chain.length)) + 1;
        cluster.submit(cluster.newTx());
        const bound = 1_000 + 60 + 2 * cluster.params.viewTimeoutMs * 2;
        t.ok(
          world.run(world.nowMs + bound, () => left.every((n) => n.disk.chain.length >= height)),
          `${restarted.length} of ${validators}`,
        );
      }
    }
  });

  t.test('when connections come late: whoever appears is asked at once', async (t) => {
    const cluster = new Cluster(1, 4);
    const { world } = cluster;
    world.cells = [0, 1, 2, 3];
    cluster.startAll();
    world.run(world.nowMs + 1_500);
    world.cells = null;
    const tx = cluster.newTx();
    for (const node of cluster.nodes) node.submit(tx);
    t.ok(world.run(world.nowMs + 1_060, () => cluster.heights().low >= 1));
  });
});

/** Whether a process gave up, and the heights up to which it abstained. */
const keyReports = (node: SimNode): readonly (number | null)[] =>
  node.reports.flatMap((report) => (report.kind === 'keyInUse' ? [report.abstainThrough] : []));

/** Decides which of two processes with one key a message reaches. */
function route(first: SimNode, second: SimNode, reaches: () => SimNode | null): void {
  for (const node of [first, second]) {
    const receive = node.receive.bind(node);
    let last: { parcel: unknown; to: SimNode | null } = { parcel: null, to: null };
    node.receive = (parcel) => {
      if (last.parcel !== parcel) last = { parcel, to: reaches() };
      if (last.to === null || last.to === node) receive(parcel);
    };
  }
}

function goesOn(cluster: Cluster, twin: SimNode, blocks: number): boolean {
  const others = cluster.nodes.filter((node) => node.member !== twin.member);
  for (let i = 0; i < blocks; i += 1) {
    const height = Math.max(...others.map((n) => n.disk.chain.length)) + 1;
    const tx = cluster.newTx();
    cluster.submit(tx);
    twin.submit(tx);
    const done = (): boolean => others.every((n) => n.disk.chain.length >= height);
    if (!cluster.world.run(cluster.world.nowMs + 10_000, done)) return false;
  }
  return true;
}

t.test('two processes with one key', async (t) => {
  t.test('the second one finds the first, and never votes', async (t) => {
    for (let seed = 1; seed <= 5; seed += 1) {
      const cluster = new Cluster(seed, 4);
      const twin = cluster.addTwin(1);
      cluster.startAll();
      t.ok(goesOn(cluster, twin, 3));
      // On a copy of the folder, or on an empty one.
      if (seed % 2 === 0) putBack(twin, backupOf(cluster.node(1)));
      twin.start();
      t.ok(goesOn(cluster, twin, 8));
      t.same(keyReports(twin).at(-1), null, 'it gave up');
      t.same(keyReports(cluster.node(1)), [], 'the first one was not disturbed');
      cluster.node(0).crash();
      t.ok(
        cluster.world.run(cluster.world.nowMs + 5_000, () => true) && goesOnWithout(cluster, 0, twin),
        'whose vote counts',
      );
    }
  });

  t.test('both at once: neither votes, the others go on, and one alone is welcome again', async (t) => {
    for (let seed = 1; seed <= 5; seed += 1) {
      const cluster = new Cluster(seed, 4);
      const twin = cluster.addTwin(1);
      cluster.startAll();
      twin.start();
      t.ok(goesOn(cluster, twin, 4));
      t.same([keyReports(twin).at(-1), keyReports(cluster.node(1)).at(-1)], [null, null]);
      twin.crash();
      cluster.twins.length = 0;
      cluster.node(1).crash();
      cluster.node(1).start();
      cluster.world.run(cluster.world.nowMs + 3_000);
      cluster.node(0).crash();
      t.ok(goesOnWithout(cluster, 0, twin));
    }
  });

  t.test('whichever of the two messages reach: no fork, and the chain goes on', async (t) => {
    for (let seed = 1; seed <= 10; seed += 1) {
      const cluster = new Cluster(seed, 4);
      const { world } = cluster;
      const first = cluster.node(1);
      const twin = cluster.addTwin(1);
      cluster.startAll();
      t.ok(goesOn(cluster, twin, 2));
      // The newest connection, as a rule; sometimes this one and sometimes that one.
      route(first, twin, () => (seed % 2 === 0 ? twin : world.prng.chance(500) ? first : twin));
      twin.start();
      t.ok(goesOn(cluster, twin, 8), `seed ${seed}`);
    }
  });
});

function goesOnWithout(cluster: Cluster, gone: number, twin: SimNode): boolean {
  const up = cluster.nodes.filter((node) => node.member !== gone && node.isUp);
  const height = Math.max(...up.map((n) => n.disk.chain.length)) + 1;
  const tx = cluster.newTx();
  cluster.submit(tx);
  twin.submit(tx);
  return cluster.world.run(cluster.world.nowMs + 10_000, () => up.every((n) => n.disk.chain.length >= height));
}
