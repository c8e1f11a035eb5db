/** Nodes that are behind: by many blocks under load, at every step of consensus, and among peers that lie. */
import t, { type Test } from 'tap';
import { encodeMessage, INCARNATION_BYTES, signingHash } from '../../consensus/messages.ts';
import { type CertifiedBlock, decodeBlocksRequest, unwrapDirect, wrapDirect } from '../../node/host/wire.ts';
import type { EmrNode } from '../../node/node.ts';
import { openLevelStore } from '../../node/storage/level-store.ts';
import { SimulatedDisk } from '../crash/simulated-disk.ts';
import { LongChain } from './long-chain.ts';
import { Cluster, until } from './node-cluster.ts';
import { consortium, enrolPatient, type Hospital } from './node-consortium.ts';
import { flipBit } from './node-expect.ts';

t.setTimeout(240_000);

const BLOCKS = 1_000;
const quick = { viewTimeoutMs: 500, viewTimeoutCapMs: 4_000 };

async function commit(cluster: Cluster, via: number): Promise<void> {
  const tx = enrolPatient(cluster.net, via);
  const verdict = await cluster.node(via).mempool.submit({ bytes: tx.bytes, sidecar: null });
  if (!verdict.ok) throw new Error(verdict.code);
  await until(
    () => cluster.node(via).store.locateTx(tx.hash) !== null,
    30_000,
    () => cluster.describe(),
  );
}

const reaches = (cluster: Cluster, node: EmrNode, height: number): Promise<void> =>
  until(
    () => node.host.head.height >= height,
    120_000,
    () => cluster.describe(),
  );

t.test('a validator that was off for 1,000 blocks is back under load, quicker than the others go on', async (t) => {
  const net = consortium({ params: quick });
  const dir = t.testdir({});
  const chain = await LongChain.make(net, dir, BLOCKS, 2);
  const cluster = new Cluster(net);
  t.teardown(() => cluster.stop());
  for (const index of [0, 1, 2]) await cluster.start(index, await chain.open(`node-${index}`));
  await commit(cluster, 0);
  const height = (): number => cluster.node(0).host.head.height;
  const enough = new AbortController();
  const load = (async () => {
    for (let n = 0; !enough.signal.aborted; n += 1) await commit(cluster, n % 3);
  })();
  const [fromMs, from] = [performance.now(), height()];
  const late = await cluster.start(3, await openLevelStore(`${dir}/late`));
  await reaches(cluster, late, from);
  const tookMs = performance.now() - fromMs;
  const live = height() - from;
  // How much quicker depends on who else wants the processor: `npm run scenarios -- catch-up` measures it.
  t.ok(from >= 2 * live, `${from} blocks while the others made ${live}, in ${Math.round(tookMs)} ms`);
  enough.abort();
  await load;
  await cluster.level();
  // Without it there is no quorum any more: it must really take part.
  const left = cluster.node(0);
  cluster.running[0] = undefined;
  await left.stop();
  await commit(cluster, 3);
  t.same(cluster.fatal(), []);
});

t.test('power lost in the middle of catching up: no hole, and it goes on', async (t) => {
  const net = consortium({ params: quick });
  const chain = await LongChain.make(net, t.testdir({}), 150, 1);
  const cluster = new Cluster(net);
  t.teardown(() => cluster.stop());
  for (const index of [0, 1, 2]) await cluster.start(index, await chain.open(`node-${index}`));
  for (const step of [2, 3, 4]) {
    const disk = new SimulatedDisk();
    let isDead = false;
    disk.onDeath = () => {
      isDead = true;
    };
    disk.fault = ({ number, sync }) => {
      t.equal(sync, true, 'a batch of blocks is never left to chance');
      return number === step ? 'diesUnsynced' : 'none';
    };
    const victim = await cluster.start(3, disk.open());
    await until(
      () => isDead || victim.host.head.height >= 150,
      120_000,
      () => cluster.describe(),
    );
    cluster.running[3]?.kill();
    disk.crash();
    disk.fault = () => 'none';
    const again = await cluster.start(3, disk.open());
    await reaches(cluster, again, 150);
    cluster.running[3] = undefined;
    await again.stop();
  }
  t.same(cluster.fatal(), []);
});

/** Block 1 as the others decide it, while node 3 hears of the first `steps` messages about it only. */
async function decidedWithout(cluster: Cluster, steps: number): Promise<CertifiedBlock> {
  const { peerId } = cluster.net.hospitals[3] as Hospital;
  let heard = 0;
  cluster.hub.passes = (_from, to, payload) => {
    if (to !== peerId || payload.length === 0) return true;
    const direct = unwrapDirect(payload);
    // Statuses and pushed blocks would let it catch up by itself.
    if (!direct.ok || direct.value.kind === 'block') return false;
    heard += 1;
    return heard <= steps;
  };
  await commit(cluster, 0);
  const { store } = cluster.node(0);
  const block = await store.blockAt(1);
  const certificate = store.certificateAt(1);
  if (block === null || certificate === null) throw new Error('block 1 is missing');
  return { block, certificate };
}

t.test('a sync that is complete at any step of consensus commits a block once, and consensus goes on', async (t) => {
  // Pre-prepare, three prepares, three commits, and statuses between them.
  for (let steps = 0; steps <= 10; steps += 1) {
    const cluster = new Cluster(consortium({ params: quick }));
    for (const index of [0, 1, 2, 3]) await cluster.start(index, new SimulatedDisk().open());
    const committed: number[] = [];
    const late = cluster.node(3);
    late.onCommitted(({ header }) => committed.push(header.height));
    const certified = await decidedWithout(cluster, steps);
    // Twice at once, and once more: as two peers would bring it.
    const verdicts = await Promise.all([late.host.apply([certified]), late.host.apply([certified, certified])]);
    t.match(verdicts, [{ ok: true }, { ok: true }]);
    cluster.hub.passes = () => true;
    await commit(cluster, 3);
    await cluster.level();
    t.same(committed.slice(0, 2), [1, 2], `after ${steps} messages`);
    t.same(cluster.fatal(), []);
    await cluster.stop();
  }
});

async function withLiar(
  t: Test,
  answer: (honest: AsyncIterable<Uint8Array>, kind: string) => AsyncIterable<Uint8Array>,
): Promise<void> {
  const cluster = new Cluster(consortium({ params: quick }));
  t.teardown(() => cluster.stop());
  for (const index of [0, 1, 2]) await cluster.start(index, new SimulatedDisk().open());
  for (let n = 0; n < 5; n += 1) await commit(cluster, n % 3);
  await cluster.level();
  const liar = cluster.hub.nodes.get((cluster.net.hospitals[0] as Hospital).peerId);
  const honest = liar?.handlerOf('blocks');
  if (liar === undefined || honest === undefined) throw new Error('nobody to lie');
  liar.onRequest('blocks', (from, payload, signal) => {
    const request = decodeBlocksRequest(payload);
    return answer(honest(from, payload, signal), request.ok ? request.value.kind : '');
  });
  const late = await cluster.start(3, new SimulatedDisk().open());
  await reaches(cluster, late, 5);
  const same = late.store.headerAt(5)?.hash;
  t.same(same, cluster.node(1).store.headerAt(5)?.hash);
  t.same(cluster.fatal(), []);
}

t.test('a peer that lies about blocks makes nobody accept them, and keeps nobody from the others', async (t) => {
  const every = async function* (frames: AsyncIterable<Uint8Array>, change: (frame: Uint8Array) => Uint8Array) {
    for await (const frame of frames) yield change(frame);
  };
  await t.test('a bit in the header', (t) => withLiar(t, (frames) => every(frames, (f) => flipBit(f, 400))));
  await t.test('a bit in the certificate', (t) =>
    withLiar(t, (frames) => every(frames, (f) => flipBit(f, f.length * 8 - 3))),
  );
  await t.test('a bit in a transaction', (t) =>
    withLiar(t, (frames) => every(frames, (f) => flipBit(f, f.length * 4))),
  );
  await t.test('the same block for ever', (t) =>
    withLiar(t, async function* (frames) {
      for await (const frame of frames) for (let n = 0; n < 64; n += 1) yield frame;
    }),
  );
  await t.test('nothing', (t) => withLiar(t, async function* () {}));
});

t.test('a peer that claims the greatest height, and then lowers it, moves nobody', async (t) => {
  const cluster = new Cluster(consortium({ params: quick }));
  t.teardown(() => cluster.stop());
  for (const index of [0, 1, 2]) await cluster.start(index, new SimulatedDisk().open());
  await commit(cluster, 0);
  await cluster.level();
  const { validator, peerId } = cluster.net.hospitals[3] as Hospital;
  const liar = cluster.hub.join(peerId);
  liar.setMembers(cluster.net.genesis.validators.map((v) => ({ ...v, role: 'validator' as const })));
  await liar.start();
  liar.onRequest('blocks', async function* () {});
  const claim = (height: number): void => {
    const incarnation = new Uint8Array(INCARNATION_BYTES);
    const body = { kind: 'status', height, hash: new Uint8Array(32), view: 0, incarnation, asking: false } as const;
    const signature = validator.sign(signingHash(cluster.net.chainId, body));
    const payload = wrapDirect('message', encodeMessage({ validator: 3, signature, body }));
    for (const { peerId: to } of cluster.net.hospitals.slice(0, 3)) liar.sendDirect(to, payload);
  };
  for (const height of [2 ** 53 - 1, 2 ** 53 - 2, 2 ** 31, 1, 0]) {
    claim(height);
    await commit(cluster, height % 3);
  }
  await until(
    () => cluster.nodes().every(({ syncer }) => !syncer.syncing),
    10_000,
    () => cluster.describe(),
  );
  for (const node of cluster.nodes()) t.equal(node.syncer.highestClaimed, node.executor.head.height);
  t.same(cluster.fatal(), []);
});
