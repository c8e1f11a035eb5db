import t, { type Test } from 'tap';
import { createWasmEngine } from '../../common/crypto/sm2-engine/engine.ts';
import { type Genesis, genesisHash } from '../../common/protocol/genesis.ts';
import { encodeMessage, INCARNATION_BYTES, signingHash } from '../../consensus/messages.ts';
import type { encodeCertifiedBlock } from '../../node/host/wire.ts';
import { wrapDirect } from '../../node/host/wire.ts';
import { createNode } from '../../node/node.ts';
import { hostViewOf } from '../../node/rpc-ports/index.ts';
import type { ChainStore } from '../../node/storage/chain-store.ts';
import { SimulatedDisk } from '../crash/simulated-disk.ts';
import { Cluster, until } from './node-cluster.ts';
import {
  consortium,
  enrolPatient,
  type Hospital,
  peerIdFor,
  signerFor,
  type TestTransaction,
} from './node-consortium.ts';
import { flipBit } from './node-expect.ts';

const quick = { viewTimeoutMs: 300, viewTimeoutCapMs: 2_000 };

async function run(t: Test, net = consortium({ params: quick }), indexes = [0, 1, 2, 3]): Promise<Cluster> {
  const cluster = new Cluster(net);
  for (const index of indexes) await cluster.start(index, new SimulatedDisk().open());
  t.teardown(() => cluster.stop());
  return cluster;
}

/** Commits one block for each transaction. */
async function grow(cluster: Cluster, blocks: number, via = 0): Promise<TestTransaction[]> {
  const txs: TestTransaction[] = [];
  for (let block = 0; block < blocks; block += 1) {
    const tx = enrolPatient(cluster.net, block % 4);
    const verdict = await cluster.node(via).mempool.submit({ bytes: tx.bytes, sidecar: null });
    if (!verdict.ok) throw new Error(verdict.code);
    await until(
      () => cluster.node(via).store.locateTx(tx.hash) !== null,
      20_000,
      () => cluster.describe(),
    );
    txs.push(tx);
  }
  return txs;
}

const chainOf = (store: ChainStore): (Uint8Array | undefined)[] =>
  Array.from({ length: store.head.header.height + 1 }, (_, height) => store.headerAt(height)?.hash);

t.test('a validator that was off for many blocks rejoins by itself, and votes', async (t) => {
  const cluster = await run(t, undefined, [0, 1, 2]);
  const txs = await grow(cluster, 150);
  const late = await cluster.start(3, new SimulatedDisk().open());
  await cluster.committed(txs);
  await cluster.level();
  t.same(chainOf(late.store), chainOf(cluster.node(0).store));
  // Without it there is no quorum any more: it must really take part.
  const left = cluster.node(0);
  cluster.running[0] = undefined;
  await left.stop();
  await grow(cluster, 2, 3);
  t.same(cluster.fatal(), []);
});

t.test('claims of great heights move nobody', async (t) => {
  const cluster = await run(t, undefined, [0, 1, 2]);
  await grow(cluster, 1);
  await cluster.level();
  const { validator, peerId } = cluster.net.hospitals[3] as Hospital;
  const liar = cluster.hub.join(peerId);
  liar.setMembers(cluster.net.genesis.validators.map((v) => ({ ...v, role: 'validator' as const })));
  await liar.start();
  liar.onRequest('blocks', async function* () {});
  const incarnation = new Uint8Array(INCARNATION_BYTES);
  const [height, view] = [2 ** 53 - 1, 2 ** 53 - 1];
  const status = { kind: 'status', height, hash: new Uint8Array(32), view, incarnation, asking: false } as const;
  const signature = validator.sign(signingHash(cluster.net.chainId, status));
  const payload = wrapDirect('message', encodeMessage({ validator: 3, signature, body: status }));
  for (let n = 0; n < 3; n += 1) {
    for (const { peerId: to } of cluster.net.hospitals.slice(0, 3)) liar.sendDirect(to, payload);
    await grow(cluster, 1, n);
  }
  await until(
    () => cluster.nodes().every((node) => !node.syncer.syncing),
    10_000,
    () => cluster.describe(),
  );
  t.equal(hostViewOf(cluster.node(0)).alarms().stall, null);
  t.same(cluster.fatal(), []);
});

t.test('blocks that prove nothing are not taken, whoever sends them', async (t) => {
  const cluster = await run(t);
  await grow(cluster, 1);
  await cluster.level();
  const { store } = cluster.node(0);
  const block = await store.blockAt(1);
  const certificate = store.certificateAt(1);
  if (block === null || certificate === null) throw new Error('block 1 is missing');
  await cluster.node(0).stop();
  // Cut off, so that it hears of the chain from these alone.
  cluster.hub.passes = () => false;
  const fresh = await cluster.start(0, new SimulatedDisk().open());
  const [first, ...others] = certificate.signatures;
  if (first === undefined) throw new Error('no signatures');
  const refused = async (
    what: string,
    code: string,
    forged: Parameters<typeof encodeCertifiedBlock>[0],
  ): Promise<void> => {
    t.match(await fresh.host.apply([forged]), { ok: false, code }, what);
  };
  await refused('no quorum', 'CERTIFICATE_QUORUM', { block, certificate: { ...certificate, signatures: [first] } });
  await refused('one signer many times', 'CERTIFICATE_SIGNERS', {
    block,
    certificate: { ...certificate, signatures: [first, first, first] },
  });
  const forged = { ...first, signature: flipBit(first.signature, 500) };
  await refused('a forged signature', 'CERTIFICATE_SIGNATURE', {
    block,
    certificate: { ...certificate, signatures: [forged, ...others] },
  });
  await refused('votes of another view', 'CERTIFICATE_SIGNATURE', {
    block,
    certificate: { ...certificate, view: 9 },
  });
  await refused('another body', 'WRONG_BODY', { block: { ...block, txs: [], sidecars: [] }, certificate });
  await refused('a sidecar of its own', 'SIDECAR_UNEXPECTED', {
    block: { ...block, sidecars: block.txs.map(() => Uint8Array.of(1)) },
    certificate,
  });
  await refused('a header changed under the certificate', 'CERTIFICATE_MISMATCH', {
    block: { ...block, header: flipBit(block.header, block.header.length * 8 - 1) },
    certificate: { ...certificate },
  });
  t.equal(fresh.executor.head.height, 0);
  t.match(await fresh.host.apply([{ block, certificate }]), { ok: true });
  t.equal(fresh.executor.head.height, 1);
  t.match(await fresh.host.apply([{ block, certificate }]), { ok: true }, 'twice is once');
  t.equal(fresh.executor.head.height, 1);
  t.same(cluster.fatal(), []);
});

t.test('an observer follows, and casts no vote', async (t) => {
  const base = consortium({ params: quick });
  const signer = signerFor('observer');
  const observer = {
    orgId: 'hospital-a',
    publicKey: signer.publicKey,
    address: signer.address,
    peerId: peerIdFor('observer'),
  };
  const genesis: Genesis = { ...base.genesis, observers: [observer] };
  const net = { ...base, genesis, chainId: genesisHash(genesis) };
  const cluster = await run(t, net);
  const follower = await createNode({
    genesis,
    kv: new SimulatedDisk().open(),
    signer,
    engine: createWasmEngine(),
    network: cluster.hub.join(observer.peerId),
    mempool: { maxTransactions: 100, maxBytes: 1_000_000 },
    processMetrics: false,
    onFatal: (error) => t.fail(String(error)),
  });
  await follower.start();
  t.teardown(() => follower.stop());
  t.equal(follower.host.isValidator, false);
  const own = enrolPatient(net, 2);
  t.match(await follower.mempool.submit({ bytes: own.bytes, sidecar: null }), { ok: true }, 'its clients are served');
  await cluster.committed([own]);
  const txs = await grow(cluster, 5);
  await until(
    () => txs.every((tx) => (follower.store.locateTx(tx.hash)?.height ?? Infinity) <= follower.host.head.height),
    10_000,
    () => cluster.describe(),
  );
  t.same(chainOf(follower.store), chainOf(cluster.node(1).store).slice(0, follower.executor.head.height + 1));
  t.equal(follower.mempool.size, 0);
});

t.test('two processes with one key: the chain stays safe and goes on', async (t) => {
  const cluster = await run(t);
  await grow(cluster, 1);
  const twin = cluster.node(3);
  // The second process takes the first one's place on the network; the first still hears and speaks.
  const second = await cluster.start(3, new SimulatedDisk().open());
  await grow(cluster, 3);
  await cluster.level();
  t.same(chainOf(second.store), chainOf(cluster.node(0).store));
  t.same(cluster.fatal(), []);
  await twin.stop();
});
