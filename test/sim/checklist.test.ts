/**
 * What went wrong in comparable systems, as scripted scenarios: rows of docs/consensus-checklist.md. Those about one replica
 * are in test/unit/consensus-*.test.ts; those about whole nodes in test/integration and test/e2e.
 */
import t from 'tap';
import * as dagCbor from '@ipld/dag-cbor';
import { bytesToHex } from '../../common/bytes.ts';
import type { BlockHeader } from '../../common/protocol/block.ts';
import { DEFAULT_CHAIN_PARAMS } from '../../common/protocol/chain-params.ts';
import { decodeMessage, encodeMessage, type SignedMessage } from '../../consensus/messages.ts';
import { verifyMessage } from '../../consensus/verification.ts';
import { BEHAVIOURS, newPlot, obedient, wrongField } from './adversary.ts';
import { Cluster } from './cluster.ts';
import type { SimNode } from './node.ts';
import { Prng } from './prng.ts';
import { toyGenesis } from './toy-chain.ts';

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

t.test(
  'row 5: what was prepared commits under the same hash, 1 to 5 view changes and a long pause later',
  async (t) => {
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
  },
);

t.test(
  'row 10: one silent, one that committed and moved on, two that missed the commits: whole again within two seconds',
  async (t) => {
    const cluster = four();
    const { world } = cluster;
    for (const index of [0, 1, 2]) cluster.node(index).start();
    // The Commits reach 0 alone, and no Commit of this height ever reaches anybody else.
    world.filter = (_from, to, message) => !(isKind(message, 'commit') && to !== 0);
    cluster.submit(cluster.newTx());
    t.ok(world.run(world.nowMs + 2_000, () => cluster.node(0).disk.chain.length === 1));
    t.equal(cluster.node(1).disk.chain.length + cluster.node(2).disk.chain.length, 0);
    const wholeMs = until(cluster, 1, 4_000);
    t.ok(wholeMs >= 0 && wholeMs <= 2_000, `${wholeMs} ms`);
    world.filter = null;
    cluster.submit(cluster.newTx());
    t.ok(until(cluster, 2, 4_000) >= 0);
  },
);

t.test('row 9: all lose power after they prepared: the same block commits, without any client', async (t) => {
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

t.test('row 10: one that was off for 1,000 blocks rejoins by itself, and votes again', async (t) => {
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

t.test('row 6: f + 1 stopped for 30 minutes: nobody runs ahead, and recovery is bounded', async (t) => {
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

t.test('row 3: a leader with one wrong header field is passed over, and the next block commits', async (t) => {
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

t.test('row 13: two processes with one key: the others agree and go on', async (t) => {
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

t.test(
  'row 1: one validator names views from anywhere, in every message: nobody follows, the chain goes on',
  async (t) => {
    for (const view of [1, 2 ** 31, Number.MAX_SAFE_INTEGER]) {
      const cluster = four();
      const { world } = cluster;
      const digest = new Uint8Array(32);
      const liar = cluster.node(3);
      liar.behaviour = {
        name: 'far away',
        received: () => undefined,
        outgoing(node, message) {
          const { height } = message.body;
          return [
            message,
            node.sign({ kind: 'viewChange', height, view, prepared: null }),
            node.sign({ kind: 'prepare', height, view, digest }),
            node.sign({ kind: 'commit', height, view, digest }),
          ];
        },
      };
      cluster.startAll();
      for (let height = 1; height <= 12; height += 1) {
        cluster.submit(cluster.newTx());
        t.ok(until(cluster, height, 5_000) >= 0, `view ${view}, height ${height}`);
      }
      world.run(world.nowMs + 5_000);
      t.ok(cluster.honest.every((n) => n.replica!.position.view <= 1));
    }
  },
);

t.test('row 1: views that are no views do not get past the decoder', async (t) => {
  const cluster = four();
  const message = cluster.node(0);
  message.start();
  const bytes = encodeMessage(message.sign({ kind: 'viewChange', height: 1, view: 1, prepared: null }));
  const [validator, signature, [kind, fields]] = dagCbor.decode<[number, Uint8Array, [string, unknown[]]]>(bytes);
  for (const view of [-1, 1.5, 2 ** 53, 2n ** 63n]) {
    const forged = dagCbor.encode([validator, signature, [kind, fields.with(1, view)]]);
    t.match(decodeMessage(forged), { ok: false }, String(view));
  }
});

t.test('row 2: whatever field of whatever message is changed after signing, it is refused', async (t) => {
  const cluster = new Cluster(1, 4);
  const { world, consortium } = cluster;
  const heard = new Map<string, SignedMessage>();
  world.filter = (_from, _to, message) => {
    heard.set(`${message.body.kind}/${message.body.view > 0}`, message);
    return !(isKind(message, 'commit') && message.body.view < 2);
  };
  cluster.startAll();
  cluster.submit(cluster.newTx());
  t.ok(until(cluster, 1, 20_000) >= 0);
  t.strictSame(new Set([...heard.values()].map((m) => m.body.kind)), new Set(KINDS), 'all kinds were on the wire');
  let changed = 0;
  for (const [what, message] of heard) {
    t.ok(verifyMessage(message, consortium, consortium.engine).ok, what);
    for (const { at, bytes } of changedFields(encodeMessage(message))) {
      changed += 1;
      const decoded = decodeMessage(bytes);
      const verdict = decoded.ok ? verifyMessage(decoded.value, consortium, consortium.engine) : decoded;
      if (verdict.ok) t.fail(`${what}: ${at}`);
    }
  }
  t.ok(changed > 200, `${changed} changes`);
});

const KINDS = ['prePrepare', 'prepare', 'commit', 'viewChange', 'newView', 'status', 'echo'];

/** The encoding with each number moved by one, each text and each byte string changed, each list shortened. */
function changedFields(bytes: Uint8Array): readonly { readonly at: string; readonly bytes: Uint8Array }[] {
  const changes: { at: string; bytes: Uint8Array }[] = [];
  const whole = dagCbor.decode<unknown>(bytes);
  const visit = (value: unknown, at: string, put: (changed: unknown) => unknown): void => {
    const change = (changed: unknown): void => {
      changes.push({ at: `${at} = ${String(changed).slice(0, 20)}`, bytes: dagCbor.encode(put(changed)) });
    };
    if (typeof value === 'number') [value + 1, value - 1].forEach(change);
    else if (typeof value === 'boolean') change(!value);
    else if (value instanceof Uint8Array) {
      for (const byte of new Set([0, value.length >> 1, value.length - 1]))
        change(value.map((b, i) => (i === byte ? b ^ 1 : b)));
    } else if (Array.isArray(value)) {
      if (value.length > 0) change(value.slice(1));
      value.forEach((item, i) => visit(item, `${at}/${i}`, (changed) => put(value.with(i, changed))));
    }
  };
  visit(whole, '', (changed) => changed);
  return changes;
}

t.test(
  'row 4: everything is lost for a while, at any moment: healed within two timeouts, without any client',
  async (t) => {
    for (let seed = 1; seed <= 30; seed += 1) {
      const cluster = four(seed);
      const { world, params } = cluster;
      cluster.startAll();
      world.run(world.nowMs + 50);
      for (let window = 0; window < 3; window += 1) {
        cluster.submit(cluster.newTx());
        world.run(world.nowMs + world.prng.between(1, 40));
        world.filter = () => false;
        world.run(world.nowMs + world.prng.between(1, 5_000));
        world.filter = null;
        const height = cluster.heights().high;
        const view = Math.max(...cluster.nodes.map((n) => n.replica!.position.view));
        const timeoutMs = Math.min(params.viewTimeoutCapMs, params.viewTimeoutMs * 2 ** (view + 1));
        // A tick may be a second away, and what it sends needs an answer.
        const tookMs = until(cluster, Math.max(height, window + 1), 60_000);
        t.ok(tookMs >= 0 && tookMs <= 2 * timeoutMs + 2_000, `seed ${seed}: ${tookMs} ms, view ${view}`);
      }
    }
  },
);

t.test('a partition of 2 + 2 commits nothing and heals within two timeouts', async (t) => {
  for (let seed = 1; seed <= 10; seed += 1) {
    const cluster = four(seed);
    const { world, params } = cluster;
    cluster.startAll();
    cluster.submit(cluster.newTx());
    t.ok(until(cluster, 1, 2_000) >= 0);
    world.cells = [0, 0, 1, 1];
    cluster.submit(cluster.newTx());
    world.run(world.nowMs + 60_000);
    t.equal(cluster.checkers.chain.length, 1);
    world.cells = null;
    const tookMs = until(cluster, 2, 20_000);
    const timeoutMs = params.viewTimeoutMs * 2;
    t.ok(tookMs >= 0 && tookMs <= 2 * timeoutMs + 1_000, `seed ${seed}: ${tookMs} ms`);
  }
});

t.test('a partition of 3 + 1 goes on, and the one rejoins', async (t) => {
  const cluster = four();
  const { world } = cluster;
  cluster.startAll();
  world.cells = [0, 0, 0, 1];
  const three = [0, 1, 2].map((i) => cluster.node(i));
  for (let height = 1; height <= 40; height += 1) {
    cluster.submit(cluster.newTx());
    const done = (): boolean => three.every((n) => n.disk.chain.length >= height);
    t.ok(world.run(world.nowMs + 5_000, done), `height ${height}`);
  }
  world.cells = null;
  t.ok(until(cluster, 40, 10_000) >= 0);
});

t.test('one of four is dead for good: 70 % of the block rate of four, at default parameters', async (t) => {
  const blocksIn = (dead: number | null, delayMs: number, durationMs: number): number => {
    const cluster = new Cluster(1, 4, {
      params: DEFAULT_CHAIN_PARAMS,
      demotionBlocks: DEFAULT_CHAIN_PARAMS.leaderDemotionBlocks,
    });
    const { world } = cluster;
    for (const node of cluster.nodes) if (node.member !== dead) node.start();
    const up = cluster.nodes.filter((n) => n.isUp);
    const endMs = world.nowMs + durationMs;
    world.weather = { ...world.weather, minDelayMs: delayMs, maxDelayMs: 1.5 * delayMs };
    while (world.nowMs < endMs) {
      const height = cluster.checkers.chain.length + 1;
      cluster.submit(cluster.newTx());
      if (!world.run(world.nowMs + 60_000, () => up.every((n) => n.disk.chain.length >= height))) return 0;
    }
    return cluster.checkers.chain.length;
  };
  // Between distant sites, a block in some 100 ms; and in one building: one in some 10 ms, where a lost second weighs more.
  for (const delayMs of [20, 2]) {
    const four = blocksIn(null, delayMs, 60_000);
    const three = blocksIn(1, delayMs, 60_000);
    t.ok(three >= 0.7 * four, `${three} of ${four} blocks`);
  }
});

t.test('row 16: blocks of f liars change nothing, whatever they hand out', async (t) => {
  const cluster = four();
  const liar = BEHAVIOURS.find((make) => make(new Prng(1), newPlot()).name === 'liar')!;
  cluster.node(0).behaviour = liar(new Prng(1), newPlot());
  for (const index of [0, 1, 2]) cluster.node(index).start();
  for (let height = 1; height <= 50; height += 1) {
    cluster.submit(cluster.newTx());
    t.ok(until(cluster, height, 20_000) >= 0);
  }
  cluster.node(3).start();
  t.ok(until(cluster, 50, 60_000) >= 0);
});
