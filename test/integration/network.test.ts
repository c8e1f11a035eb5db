/** The network over real sockets on loopback: who may connect, what arrives, and what hostile peers get. */
import { connect } from 'node:net';
import t from 'tap';
import { EmrError } from '../../common/errors.ts';
import { Libp2pNetwork } from '../../node/network/libp2p-network.ts';
import { generatePeerKey } from '../../node/network/peer-key.ts';
import type { Member } from '../../node/network/types.ts';

const CHAIN = new Uint8Array(32).fill(1);

async function until(condition: () => boolean, what: string, deadlineMs = 10_000): Promise<void> {
  const end = Date.now() + deadlineMs;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`not within ${deadlineMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

interface Peer {
  network: Libp2pNetwork;
  member: Member;
  faults: Error[];
}

async function makePeer(
  index: number,
  addresses: readonly string[],
  key?: { secret: Uint8Array; peerId: string },
): Promise<Peer> {
  const { secret, peerId } = key ?? (await generatePeerKey());
  const faults: Error[] = [];
  const network = new Libp2pNetwork({
    peerSecret: secret,
    chainId: CHAIN,
    listen: ['/ip4/127.0.0.1/tcp/0'],
    addresses,
    onFault: (error) => faults.push(error),
  });
  return {
    network,
    faults,
    member: { peerId, orgId: `org-${index}`, role: 'validator', address: new Uint8Array(20).fill(index) },
  };
}

/** Starts `count` peers that all know each other. */
async function mesh(count: number): Promise<Peer[]> {
  const peers: Peer[] = [];
  for (let i = 0; i < count; i += 1) {
    const peer = await makePeer(
      i,
      peers.flatMap((p) => p.network.listenAddresses()),
    );
    await peer.network.start();
    peers.push(peer);
  }
  for (const peer of peers) peer.network.setMembers(peers.map((p) => p.member));
  await until(
    () => peers.every((p) => p.network.peers().filter((q) => q.connected).length === count - 1),
    'a full mesh',
  );
  return peers;
}

async function stopAll(peers: readonly Peer[]): Promise<void> {
  await Promise.all(peers.map((p) => p.network.stop()));
}

t.test('direct messages arrive in order, large ones too, and nobody else may connect', async (t) => {
  const peers = await mesh(4);
  const [a, b] = peers as [Peer, Peer, Peer, Peer];
  t.teardown(() => stopAll(peers));

  const got: number[] = [];
  let large = 0;
  b.network.onDirect((from, payload) => {
    if (from.peerId !== a.member.peerId) return;
    if (payload.length > 4) large += payload.length;
    else got.push(new DataView(payload.buffer, payload.byteOffset).getUint32(0));
  });
  const COUNT = 3_000;
  for (let i = 0; i < COUNT; i += 1) {
    const payload = new Uint8Array(4);
    new DataView(payload.buffer).setUint32(0, i);
    a.network.sendDirect(b.member.peerId, payload);
  }
  await until(() => got.length === COUNT, 'all small messages');
  t.ok(
    got.every((value, i) => value === i),
    'in order',
  );
  a.network.sendDirect(b.member.peerId, new Uint8Array(5 * 1024 * 1024));
  await until(() => large === 5 * 1024 * 1024, 'the large message');

  const stranger = await makePeer(9, b.network.listenAddresses());
  await stranger.network.start();
  stranger.network.setMembers([b.member]);
  await until(() => (b.network.counters().get('refused_connections:inbound') ?? 0) > 0, 'the stranger is refused');
  t.equal(
    b.network.peers().find((p) => p.peerId === stranger.member.peerId),
    undefined,
  );
  stranger.network.sendDirect(b.member.peerId, Uint8Array.of(1, 2, 3, 4));
  await stranger.network.stop();

  b.network.setMembers([b, ...peers.slice(2)].map((p) => p.member));
  await until(
    () => a.network.peers().some((p) => p.peerId === b.member.peerId && !p.connected),
    'who is voted out is cut off',
  );
  t.same(
    peers.flatMap((p) => p.faults),
    [],
  );
});

t.test('gossip reaches everybody once, from members only', async (t) => {
  const peers = await mesh(4);
  t.teardown(() => stopAll(peers));
  const received = peers.map(() => new Map<number, number>());
  peers.forEach((peer, i) =>
    peer.network.onGossip('transactions', (_from, payload) => {
      const seen = received[i] as Map<number, number>;
      seen.set(payload[0] as number, (seen.get(payload[0] as number) ?? 0) + 1);
      return 'accept';
    }),
  );
  const [a] = peers as [Peer];
  // Subscriptions travel when a connection opens: a message that nobody subscribes to yet goes nowhere.
  let probe = 200;
  await until(() => {
    a.network.publish('transactions', Uint8Array.of((probe += 1) % 256, probe >> 8));
    return received.slice(1).every((r) => r.size > 0);
  }, 'subscriptions');
  for (let i = 0; i < 50; i += 1) a.network.publish('transactions', Uint8Array.of(i));
  await until(
    () => received.slice(1).every((r) => [...Array(50).keys()].every((i) => r.has(i))),
    'all messages everywhere',
  );
  t.ok(
    received.slice(1).every((r) => [...Array(50).keys()].every((i) => r.get(i) === 1)),
    'each once',
  );
  t.equal(received[0]?.size, 0, 'not to itself');
});

t.test('requests stream their answers, are bounded and can be given up', async (t) => {
  const peers = await mesh(2);
  const [a, b] = peers as [Peer, Peer];
  t.teardown(() => stopAll(peers));
  const FRAME = 256 * 1024;
  let produced = 0;
  b.network.onRequest('blob', async function* (_from, payload, signal) {
    if (payload[0] === 9) throw new EmrError('NOT_FOUND', 'no such blob');
    for (let i = 0; i < (payload[0] as number); i += 1) {
      signal.throwIfAborted();
      produced += 1;
      yield new Uint8Array(FRAME).fill(i);
    }
  });
  const options = { maxFrames: 300, maxFrameBytes: FRAME, idleTimeoutMs: 5_000 };
  await until(() => a.network.peers()[0]?.connected === true, 'connected');

  let total = 0;
  for await (const frame of a.network.request(b.member.peerId, 'blob', Uint8Array.of(200), options))
    total += frame.length;
  t.equal(total, 200 * FRAME, '50 MB in frames');

  const codeOf = async (payload: number, bounds: typeof options) => {
    try {
      for await (const frame of a.network.request(b.member.peerId, 'blob', Uint8Array.of(payload), bounds)) void frame;
      return 'none';
    } catch (error) {
      return (error as EmrError).code;
    }
  };
  t.equal(await codeOf(9, options), 'NOT_FOUND', "the server's own code");
  t.equal(await codeOf(5, { ...options, maxFrames: 4 }), 'PEER_PROTOCOL', 'more frames than asked for');
  t.equal(await codeOf(1, { ...options, maxFrameBytes: 100 }), 'PEER_PROTOCOL', 'a larger frame than accepted');

  produced = 0;
  for await (const frame of a.network.request(b.member.peerId, 'blob', Uint8Array.of(250), options)) {
    void frame;
    break;
  }
  t.ok(produced < 250, 'the server stops producing when the client goes away');

  const running: AsyncIterator<Uint8Array>[] = [];
  for (let i = 0; i < 16; i += 1) {
    const answer = a.network.request(b.member.peerId, 'blob', Uint8Array.of(250), options)[Symbol.asyncIterator]();
    await answer.next();
    running.push(answer);
  }
  t.equal(await codeOf(1, options), 'PEER_BUSY', 'a bounded number at a time');
  for (const answer of running) await answer.return?.();
  t.same(
    peers.flatMap((p) => p.faults),
    [],
  );
});

t.test('garbage on the port, and a peer that restarts', async (t) => {
  const key = await generatePeerKey();
  const a = await makePeer(0, []);
  await a.network.start();
  const port = Number(/tcp\/(\d+)/.exec(a.network.listenAddresses()[0] as string)?.[1]);
  const closed = await Promise.all(
    [
      'GET / HTTP/1.1\r\n\r\n',
      '\x16\x03\x01\x02\x00\x01',
      '\x00'.repeat(70_000),
      '\x13/multistream/1.0.0\n\xff\xff\xff\xff\xff',
    ].map(
      (garbage) =>
        new Promise<boolean>((resolve) => {
          const socket = connect(port, '127.0.0.1', () => socket.write(Buffer.from(garbage, 'latin1')));
          socket.on('error', () => resolve(true));
          socket.on('close', () => resolve(true));
          socket.resume();
          socket.setTimeout(15_000, () => resolve(false));
        }),
    ),
  );
  t.ok(closed.every(Boolean), 'every socket with garbage was closed');

  const start = async () => {
    const b = await makePeer(1, a.network.listenAddresses(), key);
    await b.network.start();
    b.network.setMembers([a.member]);
    return b;
  };
  a.network.setMembers([{ peerId: key.peerId, orgId: 'org-1', role: 'validator', address: new Uint8Array(20) }]);
  const connected = () => a.network.peers()[0]?.connected === true;
  for (let round = 0; round < 2; round += 1) {
    const b = await start();
    await until(connected, 'connected');
    await b.network.stop();
    await until(() => !connected(), 'disconnected');
  }
  const taken = new Libp2pNetwork({
    peerSecret: key.secret,
    chainId: CHAIN,
    listen: [`/ip4/127.0.0.1/tcp/${port}`],
    addresses: [],
    onFault: () => undefined,
  });
  await t.rejects(taken.start(), { code: 'LISTEN_FAILED' });
  await a.network.stop();
  t.same(a.faults, []);
});
