import t, { type Test } from 'tap';
import { decode } from '../../common/codec.ts';
import type { Verdict } from '../../common/errors.ts';
import { blockHash, blockHeader, encodeHeader } from '../../common/protocol/block.ts';
import { type CertifiedBlock, decodeCertifiedBlock, encodeCertifiedBlock } from '../../node/host/wire.ts';
import {
  decodeSnapshotRequest,
  encodeOffers,
  encodeSnapshotRequest,
  type SnapshotRequest,
} from '../../node/snapshot/wire.ts';
import { openLevelStore } from '../../node/storage/level-store.ts';
import type { EmrNode } from '../../node/node.ts';
import { auditTree } from '../../vm/state-tree/index.ts';
import { type Fault, SimulatedDisk } from '../crash/simulated-disk.ts';
import { LongChain } from './long-chain.ts';
import { Cluster, until } from './node-cluster.ts';
import { type Consortium, consortium, enrolPatient, type Hospital } from './node-consortium.ts';
import { flipBit } from './node-expect.ts';
import type { MemoryNetwork } from './node-memory-network.ts';

t.setTimeout(240_000);

const BLOCKS = 130;
const SPAN = 8;
const net = consortium({ params: { viewTimeoutMs: 500, viewTimeoutCapMs: 4_000, leaderDemotionBlocks: SPAN } });
/** Made once: every test begins with a copy of it. */
const made = LongChain.make(net, t.testdir({}), BLOCKS);
/** The last height before the head that a newcomer can begin at. */
const AT = Math.floor((BLOCKS + 1) / SPAN) * SPAN - 1;
let copies = 0;

const joining = { everyBlocks: 0, keep: 2, joinFromBlocks: 50 };

/** Validators 0 to 2 with the whole chain. Each keeps the snapshot, and no other old state. */
async function running(t: Test, of: Consortium = net): Promise<Cluster> {
  const cluster = new Cluster(of);
  cluster.options = { keepStates: 16, snapshots: joining };
  t.teardown(() => cluster.stop());
  for (const index of [0, 1, 2]) {
    copies += 1;
    const node = await cluster.start(index, await (await made).open(`copy-${copies}`));
    t.equal(await node.snapshots.create(AT), true);
  }
  return cluster;
}

async function commit(cluster: Cluster, via: number): Promise<void> {
  const tx = enrolPatient(cluster.net, via);
  const verdict = await cluster.node(via).mempool.submit({ bytes: tx.bytes, sidecar: null });
  if (!verdict.ok) throw new Error(verdict.code);
  await until(
    () => cluster.node(via).store.locateTx(tx.hash) !== null,
    20_000,
    () => cluster.describe(),
  );
}

const isLevel = (cluster: Cluster, late: EmrNode): Promise<void> =>
  until(
    () => late.host.head.height >= cluster.node(0).host.head.height,
    30_000,
    () => cluster.describe(),
  );

/** It began with the snapshot, has the whole state, and what came after it. */
function checkJoined(t: Test, cluster: Cluster, late: EmrNode): void {
  const { store, executor } = late;
  t.equal(store.lowestBlock, AT);
  t.equal(store.headerAt(AT - 1), null);
  t.same(store.headerAt(AT + 1), cluster.node(0).store.headerAt(AT + 1));
  t.same(store.certificateAt(AT), cluster.node(0).store.certificateAt(AT));
  auditTree(executor.state.nodes, executor.state.root);
  const { height } = executor.head;
  t.same(store.headerAt(height)?.hash, cluster.node(0).store.headerAt(height)?.hash);
}

t.test('a newcomer begins with a snapshot while the others commit, and votes', async (t) => {
  const cluster = await running(t);
  await commit(cluster, 1);
  const dir = t.testdir({});
  const late = await cluster.start(3, await openLevelStore(`${dir}/late`));
  for (let n = 0; n < 5; n += 1) await commit(cluster, n % 3);
  await isLevel(cluster, late);
  checkJoined(t, cluster, late);
  t.same(await late.store.receiptsAt(AT), await cluster.node(0).store.receiptsAt(AT));
  // Without it there is no quorum any more: it must really take part.
  const left = cluster.node(0);
  cluster.running[0] = undefined;
  await left.stop();
  await commit(cluster, 3);
  t.same(cluster.fatal(), []);
  // What it has is enough to start again, and to serve the next one.
  await late.stop();
  const again = await cluster.start(3, await openLevelStore(`${dir}/late`));
  await isLevel({ node: () => cluster.node(1), describe: () => cluster.describe() } as unknown as Cluster, again);
  checkJoined(t, { node: () => cluster.node(1) } as unknown as Cluster, again);
});

/** What a liar makes of the frames of an answer; `ask` gives it an honest answer to another question. */
type Lie = (
  frames: readonly Uint8Array[],
  kind: string,
  ask: (request: SnapshotRequest) => Promise<readonly Uint8Array[]>,
) => readonly Uint8Array[] | Promise<readonly Uint8Array[]>;

/** Puts somebody between a node and the network, who changes what it answers to newcomers. */
function liesAs(network: MemoryNetwork, lie: Lie): void {
  const honest = network.handlerOf('snapshot');
  network.onRequest('snapshot', async function* (from, payload, signal) {
    const ask = async (bytes: Uint8Array): Promise<readonly Uint8Array[]> => {
      const frames: Uint8Array[] = [];
      if (honest !== undefined) for await (const frame of honest(from, bytes, signal)) frames.push(frame);
      return frames;
    };
    const request = decodeSnapshotRequest(payload);
    const kind = request.ok ? request.value.kind : '';
    yield* await lie(await ask(payload), kind, (other) => ask(encodeSnapshotRequest(other)));
  });
}

const flipped = (frames: readonly Uint8Array[], at: number): readonly Uint8Array[] =>
  frames.map((frame) => flipBit(frame, Math.min(frame.length * 8 - 1, Math.floor(frame.length * 8 * at))));

/** The block under a header that nobody has certified, and its hash. */
function forged(frame: Uint8Array): { readonly frame: Uint8Array; readonly hash: Uint8Array } {
  const { block, certificate } = mustDecode(decodeCertifiedBlock(frame));
  const header = mustDecode(decode(blockHeader, block.header, 512));
  const bytes = encodeHeader({ ...header, timestampMs: header.timestampMs + 1 });
  const hash = blockHash(bytes);
  const of = { block: { ...block, header: bytes }, certificate: { ...certificate, blockHash: hash } };
  return { frame: encodeCertifiedBlock(of), hash };
}

/** The block with something else in it than its header says. */
function changed(frame: Uint8Array, change: (block: CertifiedBlock) => CertifiedBlock): Uint8Array {
  return encodeCertifiedBlock(change(mustDecode(decodeCertifiedBlock(frame))));
}

function mustDecode<T>(verdict: Verdict<T>): T {
  if (!verdict.ok) throw new Error(verdict.code);
  return verdict.value;
}

const LIES: Readonly<Record<string, Lie>> = {
  'offers of another block': (frames, kind) => (kind === 'offers' ? flipped(frames, 0.9) : frames),
  'offers of great heights': (frames, kind) =>
    kind === 'offers' ? [encodeOffers([{ height: 2 ** 53 - 1, blockHash: new Uint8Array(32) }])] : frames,
  'a block that nobody has certified': async (frames, kind, ask) => {
    const [block, ...receipts] = await ask({ kind: 'block', height: AT });
    const lie = forged(block as Uint8Array);
    if (kind === 'offers') return [encodeOffers([{ height: AT, blockHash: lie.hash }])];
    return kind === 'block' ? [lie.frame, ...receipts] : frames;
  },
  'a signature that does not verify': ([first, ...rest], kind) => {
    if (kind !== 'block' || first === undefined) return first === undefined ? [] : [first, ...rest];
    const lie = changed(first, ({ block, certificate: { signatures, ...certificate } }) => ({
      block,
      certificate: {
        ...certificate,
        signatures: signatures.map((s, index) => (index === 1 ? { ...s, signature: flipBit(s.signature, 300) } : s)),
      },
    }));
    return [lie, ...rest];
  },
  'another body': ([first, ...rest], kind) => {
    if (kind !== 'block' || first === undefined) return first === undefined ? [] : [first, ...rest];
    const lie = changed(first, ({ block, certificate }) => ({
      block: { ...block, txs: block.txs.slice(1), sidecars: block.sidecars.slice(1) },
      certificate,
    }));
    return [lie, ...rest];
  },
  'no receipts': (frames, kind) => (kind === 'block' ? frames.slice(0, 1) : frames),
  'other receipts': ([first, ...rest], kind) =>
    first === undefined ? [] : [first, ...(kind === 'block' ? flipped(rest, 0.5) : rest)],
  'one entry changed': (frames, kind) => (kind === 'entries' ? flipped(frames, 0.5) : frames),
  'more than was asked for': async (frames, kind, ask) =>
    kind === 'entries' ? ask({ kind: 'entries', height: AT, range: { gte: new Uint8Array(0), lt: null } }) : frames,
  'a proof that is cut off': (frames, kind) => (kind === 'entries' ? frames.map((f) => f.subarray(0, -1)) : frames),
  'nothing at all': () => [],
  garbage: (frames) => frames.map((frame) => frame.map((byte) => byte ^ 0x5a)),
};

for (const [what, lie] of Object.entries(LIES)) {
  t.test(`a lying peer is left out and the others go on: ${what}`, async (t) => {
    const cluster = await running(t);
    for (const index of [0, 1]) {
      // More than f of the peers, even: proofs need no majority.
      liesAs(cluster.hub.nodes.get((net.hospitals[index] as Hospital).peerId) as MemoryNetwork, lie);
    }
    const late = await cluster.start(3, new SimulatedDisk().open());
    await isLevel(cluster, late);
    checkJoined(t, cluster, late);
    t.same(await late.store.blockAt(AT), await cluster.node(2).store.blockAt(AT));
    t.same(await late.store.receiptsAt(AT), await cluster.node(2).store.receiptsAt(AT));
    t.same(cluster.fatal(), []);
  });
}

t.test('a node that is killed while it restores goes on where it was', async (t) => {
  const cluster = await running(t);
  const { peerId } = net.hospitals[3] as Hospital;
  for (const fault of ['diesBefore', 'diesUnsynced', 'diesAfter'] satisfies Fault[]) {
    for (const step of [2, 3, 4, 5]) {
      const disk = new SimulatedDisk();
      const died = new Promise<void>((resolve) => (disk.onDeath = resolve));
      disk.fault = ({ number, sync }) => {
        if (number <= 5) t.equal(sync, true, 'a piece and the note of it are never left to chance');
        return number === step ? fault : 'none';
      };
      await cluster.start(3, disk.open());
      const all = until(
        () => cluster.node(3).host.head.height >= BLOCKS,
        20_000,
        () => cluster.describe(),
      ).catch(() => undefined);
      await Promise.race([died, all]);
      cluster.running[3]?.kill();
      disk.crash();
      disk.fault = () => 'none';
      const again = await cluster.start(3, disk.open());
      await isLevel(cluster, again);
      checkJoined(t, cluster, again);
      await again.stop();
      cluster.hub.nodes.delete(peerId);
      cluster.running[3] = undefined;
    }
  }
  t.same(cluster.fatal(), []);
});

t.test('a newcomer takes blocks where there is no snapshot, or none that is high enough', async (t) => {
  const cluster = await running(t);
  cluster.options = { snapshots: { ...joining, joinFromBlocks: BLOCKS } };
  const late = await cluster.start(3, new SimulatedDisk().open());
  await isLevel(cluster, late);
  t.equal(late.store.lowestBlock, 0);
  t.not(late.store.headerAt(1), null);
  t.same(cluster.fatal(), []);
});

t.test('a height where earlier headers have a say in the order of leaders is no place to begin', async (t) => {
  const cluster = await running(t);
  // Whoever keeps such a state can prove every bit of it, and nobody could say who leads after it.
  for (const node of cluster.nodes()) {
    t.equal(await node.snapshots.create(AT + 1), true);
    await node.history.release(AT);
  }
  const late = await cluster.start(3, new SimulatedDisk().open());
  await isLevel(cluster, late);
  t.equal(late.store.lowestBlock, 0, 'it took the blocks');
  t.same(cluster.fatal(), []);
});
