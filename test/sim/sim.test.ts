import t from 'tap';
import { bytesToHex } from '../../common/bytes.ts';
import type { BlockHeader } from '../../common/protocol/block.ts';
import type { SignedMessage } from '../../consensus/messages.ts';
import { BEHAVIOURS, newPlot, obedient, wrongField } from './adversary.ts';
import { Checkers } from './checkers.ts';
import { Cluster } from './cluster.ts';
import type { SimNode } from './node.ts';
import { Prng } from './prng.ts';
import { FAULT_KINDS } from './faults.ts';
import { randomRun, type RunResult } from './random-run.ts';
import { readRegressions } from './regressions.ts';
import { runSeeds } from './seed-runner.ts';
import { buildBlock, toyGenesis } from './toy-chain.ts';
import { signAs } from './lone-replica.ts';

/** Of four validators, 1 leads view 0 of height 1, 2 leads view 1, 3 view 2, 0 view 3. */
function four(seed = 1): Cluster {
  return new Cluster(seed, 4);
}

const isKind = (message: SignedMessage, kind: SignedMessage['body']['kind']): boolean => message.body.kind === kind;
const isPrepared = (node: SimNode): boolean => (node.disk.record?.prepared ?? null) !== null;
const hashAt = (cluster: Cluster, height: number): string => bytesToHex(cluster.checkers.chain[height - 1]!.block.hash);

/** Runs until every honest node that is up has `height` blocks; the virtual time that it took, or -1. */
function until(cluster: Cluster, height: number, boundMs: number): number {
  const beganMs = cluster.world.nowMs;
  const up = cluster.honest.filter((n) => n.isUp);
  const done = cluster.world.run(beganMs + boundMs, () => up.every((n) => n.disk.chain.length >= height));
  return done ? cluster.world.nowMs - beganMs : -1;
}

const SEEDS = 150;

t.test('random runs: every property holds', async (t) => {
  const kept = readRegressions();
  const results: RunResult[] = [];
  const seeds = new Set([...kept, ...Array.from({ length: SEEDS }, (_, i) => i + 1)]);
  await runSeeds(seeds, 2, { patches: [], options: {} }, (result) => void results.push(result));
  t.equal(results.length, seeds.size);
  for (const { seed, violation } of results) if (violation !== null) t.fail(`seed ${seed}: ${violation}`);
  const drawn = new Set(results.flatMap((r) => r.faults));
  t.equal(drawn.size, FAULT_KINDS.length, 'every kind of fault was there');
  t.ok(
    results.some((r) => r.setChanges > 0) &&
      results.some((r) => r.lostWrites > 0) &&
      results.some((r) => r.highestView > 2),
  );
});

t.test('a seed repeats a run exactly, on whatever thread', async (t) => {
  for (const seed of [7, 36, 75]) {
    const here = randomRun(seed);
    t.strictSame(randomRun(seed), here);
    await runSeeds([seed], 1, { patches: [], options: {} }, (there) => void t.strictSame(there, here));
  }
  t.not(randomRun(7).trace, randomRun(8).trace);
});

t.test('a dead leader costs one view change, and then none for the rest of the span', async (t) => {
  const cluster = four();
  cluster.startAll();
  cluster.node(1).crash();
  cluster.submit(cluster.newTx());
  const tookMs = until(cluster, 1, 5_000);
  t.ok(tookMs > 0 && tookMs < 2 * cluster.params.viewTimeoutMs, `${tookMs} ms`);
  t.equal(cluster.checkers.chain[0]?.block.header.view, 1);
  for (let height = 2; height <= 15; height += 1) {
    cluster.submit(cluster.newTx());
    t.ok(until(cluster, height, 1_000) >= 0);
  }
  const changed = cluster.checkers.chain.filter((b) => b.certificate.view > 0);
  t.equal(changed.length, 1);
});

t.test('what was prepared commits under the same hash, 1 to 5 view changes and a long pause later', async (t) => {
  for (let changes = 1; changes <= 5; changes += 1) {
    const cluster = four(changes);
    const { world } = cluster;
    cluster.startAll();
    world.filter = (_from, _to, message) => !isKind(message, 'commit');
    cluster.submit(cluster.newTx());
    t.ok(world.run(world.nowMs + 5_000, () => cluster.nodes.some(isPrepared)));
    const prepared = bytesToHex(cluster.nodes.find(isPrepared)!.disk.record!.prepared!.digest);
    world.run(world.nowMs + 60_000, () => cluster.nodes.every((n) => (n.replica?.position.view ?? 0) >= changes));
    // Everything is lost for a minute: the block's time is long past what a fresh proposal may have.
    world.filter = () => false;
    world.run(world.nowMs + 60_000);
    world.filter = null;
    t.ok(until(cluster, 1, 10_000) >= 0, `${changes} changes`);
    t.equal(hashAt(cluster, 1), prepared);
    t.ok(cluster.checkers.chain[0]!.certificate.view >= changes);
  }
});

t.test('one silent, one that committed and moved on, two that missed the commits: whole again', async (t) => {
  const cluster = four();
  const { world } = cluster;
  for (const index of [0, 1, 2]) cluster.node(index).start();
  // The Commits reach 0 alone, and no Commit of this height ever reaches anybody else.
  world.filter = (_from, to, message) => !(isKind(message, 'commit') && to !== 0);
  cluster.submit(cluster.newTx());
  t.ok(world.run(world.nowMs + 2_000, () => cluster.node(0).disk.chain.length === 1));
  t.equal(cluster.node(1).disk.chain.length + cluster.node(2).disk.chain.length, 0);
  t.ok(until(cluster, 1, 4_000) >= 0);
  world.filter = null;
  cluster.submit(cluster.newTx());
  t.ok(until(cluster, 2, 4_000) >= 0);
});

t.test('all lose power after they prepared: the same block commits, without any client', async (t) => {
  for (let seed = 1; seed <= 10; seed += 1) {
    const cluster = four(seed);
    const { world } = cluster;
    cluster.startAll();
    world.filter = (_from, _to, message) => !isKind(message, 'commit');
    cluster.submit(cluster.newTx());
    const howMany = 1 + (seed % 4);
    const prepared = (): readonly SimNode[] => cluster.nodes.filter(isPrepared);
    t.ok(world.run(world.nowMs + 2_000, () => prepared().length >= howMany));
    const digest = bytesToHex(prepared()[0]!.disk.record!.prepared!.digest);
    for (const node of cluster.nodes) node.crash();
    world.filter = null;
    cluster.startAll();
    t.ok(until(cluster, 1, 5_000) >= 0, `${howMany} had prepared`);
    t.equal(hashAt(cluster, 1), digest);
  }
});

t.test('one that was off for 1,000 blocks rejoins by itself, and votes again', async (t) => {
  const cluster = four();
  const { world } = cluster;
  for (const index of [0, 1, 2]) cluster.node(index).start();
  for (let height = 1; height <= 1_000; height += 1) {
    cluster.submit(cluster.newTx());
    if (until(cluster, height, 3_000) < 0) t.fail(`height ${height}`);
  }
  cluster.node(3).start();
  t.ok(
    world.run(world.nowMs + 120_000, () => cluster.node(3).disk.chain.length === 1_000),
    `${world.nowMs}`,
  );
  cluster.node(0).crash();
  cluster.submit(cluster.newTx());
  t.ok(until(cluster, 1_001, 5_000) >= 0, 'with one of the others gone, its vote is needed');
});

t.test('f + 1 stopped for 30 minutes: nobody runs ahead, and recovery is bounded', async (t) => {
  for (const validators of [4, 7]) {
    const cluster = new Cluster(1, validators);
    const { world, params } = cluster;
    cluster.startAll();
    const stopped = cluster.nodes.slice(0, Math.floor((validators - 1) / 3) + 1);
    for (const node of stopped) node.crash();
    const tx = cluster.newTx();
    cluster.submit(tx);
    world.run(world.nowMs + 30 * 60_000);
    t.ok(cluster.nodes.every((n) => (n.replica?.position.view ?? 0) <= 1));
    for (const node of stopped) node.start();
    for (const node of stopped) node.submit(tx);
    const tookMs = until(cluster, 1, 60_000);
    t.ok(tookMs >= 0 && tookMs <= 2 * params.viewTimeoutMs + 2_000, `${validators} validators: ${tookMs} ms`);
  }
});

t.test('a leader with one wrong header field is passed over, and the next block commits', async (t) => {
  const genesis = toyGenesis(four().consortium).header;
  for (const field of Object.keys(genesis) as (keyof BlockHeader)[]) {
    const cluster = four();
    cluster.node(1).behaviour = wrongField(field, new Prng(2));
    cluster.startAll();
    cluster.submit(cluster.newTx());
    t.ok(until(cluster, 1, 5_000) >= 0, field);
    if (field !== 'timestampMs')
      t.equal(cluster.checkers.chain[0]?.block.header.view, 1, `${field}: by the next leader`);
  }
});

t.test('each way of misbehaving, by f of 4 and f of 7, with blocks flowing', async (t) => {
  for (const validators of [4, 7]) {
    for (const make of BEHAVIOURS) {
      const cluster = new Cluster(3, validators);
      const faulty = [1, 3].slice(0, Math.floor((validators - 1) / 3));
      const plot = newPlot();
      for (const index of faulty) cluster.node(index).behaviour = make(new Prng(index), plot);
      cluster.startAll();
      for (let height = 1; height <= 8; height += 1) {
        cluster.submit(cluster.newTx());
        if (until(cluster, height, 20_000) < 0) t.fail(`${cluster.node(1).behaviour?.name}: height ${height}`);
      }
      const views = cluster.honest.map((n) => n.replica!.position.view);
      t.ok(Math.max(...views) < 10, `${cluster.node(1).behaviour?.name}: views ${views.join()}`);
    }
  }
});

t.test('two processes with one key: the others agree and go on', async (t) => {
  for (let seed = 1; seed <= 5; seed += 1) {
    const cluster = four(seed);
    const twin = cluster.addTwin(1);
    for (const node of [cluster.node(1), twin]) node.behaviour = obedient;
    cluster.startAll();
    twin.start();
    for (let height = 1; height <= 8; height += 1) {
      const tx = cluster.newTx();
      cluster.submit(tx);
      twin.submit(tx);
      t.ok(until(cluster, height, 10_000) >= 0);
    }
  }
});

t.test('the checkers notice', async (t) => {
  t.test('two blocks at one height, and a second body under one hash', async (t) => {
    const { consortium } = four();
    const checkers = new Checkers(consortium);
    const commit = (timestampMs: number, txs: readonly Uint8Array[]) => {
      const block = buildBlock(consortium, toyGenesis(consortium), { view: 0, proposer: 1, timestampMs }, txs);
      const signatures = [0, 1, 2].map((validator) => ({
        validator,
        signature: signAs(consortium, validator, { kind: 'commit', height: 1, view: 0, digest: block.hash }).signature,
      }));
      return { block, certificate: { height: 1, view: 0, blockHash: block.hash, signatures } };
    };
    const first = commit(1_000, [Uint8Array.of(1)]);
    checkers.committed(0, first);
    checkers.committed(1, first);
    t.throws(() => checkers.committed(2, commit(1_001, [])), /disagreement/);
    const body = { ...first.block, block: { ...first.block.block, txs: [Uint8Array.of(2)] } };
    t.throws(() => checkers.committed(2, { ...first, block: body }), /different bodies/);
    const short = { ...first.certificate, signatures: first.certificate.signatures.slice(1) };
    t.throws(() => checkers.committed(3, { ...first, certificate: short }), /CERTIFICATE_QUORUM/);
    t.throws(() => checkers.started(1, 0), /lost committed blocks/);
  });
});
