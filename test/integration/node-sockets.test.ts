/** Four nodes over real sockets and real databases: what the in-memory network might be too kind to show. */
import t from 'tap';
import { bytesToHex } from '../../common/bytes.ts';
import { Libp2pNetwork } from '../../node/network/libp2p-network.ts';
import { generatePeerKey } from '../../node/network/peer-key.ts';
import { openLevelStore } from '../../node/storage/level-store.ts';
import { Cluster, until } from './node-cluster.ts';
import { consortium, enrolPatient, type Hospital } from './node-consortium.ts';

t.test('blocks over libp2p: all commit, one leaves and returns', async (t) => {
  const keys = await Promise.all(Array.from({ length: 4 }, () => generatePeerKey()));
  const net = consortium({ params: { viewTimeoutMs: 500 }, peerIds: keys.map((key) => key.peerId) });
  const cluster = new Cluster(net);
  const dir = t.testdir({});
  const faults: Error[] = [];
  const addresses = new Map<number, readonly string[]>();
  const start = async (index: number): Promise<void> => {
    const { peerId } = net.hospitals[index] as Hospital;
    const secret = keys.find((key) => key.peerId === peerId)?.secret as Uint8Array;
    const network = new Libp2pNetwork({
      peerSecret: secret,
      chainId: net.chainId,
      listen: ['/ip4/127.0.0.1/tcp/0'],
      addresses: [...addresses].filter(([other]) => other !== index).flatMap(([, known]) => known),
      onFault: (error) => faults.push(error),
    });
    await cluster.start(index, await openLevelStore(`${dir}/${index}`), network);
    addresses.set(index, network.listenAddresses());
  };
  t.teardown(() => cluster.stop());
  for (let index = 0; index < 4; index += 1) await start(index);
  await until(
    () => cluster.nodes().every((node) => node.network.peers().every((peer) => peer.connected)),
    15_000,
    () => 'a full mesh',
  );
  const commit = async (count: number, via: readonly number[]): Promise<void> => {
    const txs = Array.from({ length: count }, (_, n) => enrolPatient(net, n % 4));
    for (const [n, tx] of txs.entries()) {
      const node = cluster.node(via[n % via.length] as number);
      t.match(await node.mempool.submit({ bytes: tx.bytes, sidecar: null }), { ok: true });
    }
    await cluster.committed(txs);
  };
  await commit(20, [0, 1, 2, 3]);
  const left = cluster.node(2);
  cluster.running[2] = undefined;
  await left.stop();
  await commit(5, [0, 1, 3]);
  await start(2);
  await commit(5, [2]);
  await cluster.level();
  t.equal(new Set(cluster.nodes().map((node) => bytesToHex(node.executor.head.hash))).size, 1);
  t.same(cluster.fatal(), []);
  t.same(faults, []);
});
