/** The network over real sockets on loopback: who may connect, what arrives, and what hostile peers get. */
import { connect } from 'node:net';
import { multiaddr } from '@multiformats/multiaddr';
import t from 'tap';
import { u32be } from '../../common/bytes.ts';
import { EmrError } from '../../common/errors.ts';
import { DIRECT_PROTOCOL } from '../../node/network/direct-channel.ts';
import { FrameDecoder } from '../../node/frame-decoder.ts';
import { frame } from '../../node/network/frames.ts';
import { Libp2pNetwork } from '../../node/network/libp2p-network.ts';
import { createMembersOnlyNode } from '../../node/network/libp2p-node.ts';
import { generatePeerKey } from '../../node/network/peer-key.ts';
import { requestProtocolId } from '../../node/network/requests.ts';
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

t.test(
  'who is not connected to all is passed on by the others, unless they are told that nobody needs it',
  async (t) => {
    const peers = await mesh(3);
    t.teardown(() => stopAll(peers));
    const [a, b, c] = peers as [Peer, Peer, Peer];
    const KEPT = 100;
    const heard: number[] = [];
    b.network.onGossip('transactions', (_from, payload) => ((payload[0] as number) >= KEPT ? 'keep' : 'accept'));
    c.network.onGossip('transactions', (_from, payload) => {
      heard.push(payload[0] as number);
      return 'accept';
    });
    const isWhole = ({ network }: Peer): boolean => network.audience('transactions').unreached.length === 0;
    await until(() => isWhole(a), 'all listen');
    const stranger = await makePeer(9, []);
    a.network.setMembers([...peers, stranger].map((p) => p.member));
    t.same(
      a.network.audience('transactions').unreached.map(({ peerId }) => peerId),
      [stranger.member.peerId],
      'a member is away',
    );
    // Each other only through b.
    a.network.setMembers([b.member]);
    c.network.setMembers([b.member]);
    await until(() => isWhole(a) && isWhole(b), 'a line');
    await until(() => {
      a.network.publish(
        'transactions',
        Uint8Array.of(KEPT + (heard.length % 2), Math.random() * 256, Math.random() * 256),
      );
      a.network.publish('transactions', Uint8Array.of(1, Math.random() * 256, Math.random() * 256));
      return heard.length > 3;
    }, 'passed on');
    t.ok(
      heard.every((kind) => kind === 1),
      'and what is kept is not',
    );
  },
);

t.test('requests stream their answers, are bounded and can be given up', async (t) => {
  const peers = await mesh(2);
  const [a, b] = peers as [Peer, Peer];
  t.teardown(() => stopAll(peers));
  const FRAME = 256 * 1024;
  /** Asks for an answer that begins and does not end. */
  const HELD = 255;
  let produced = 0;
  b.network.onRequest('blob', async function* (_from, payload, signal) {
    if (payload[0] === 9) throw new EmrError('NOT_FOUND', 'no such blob');
    if (payload[0] === HELD) {
      yield Uint8Array.of(HELD);
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
      return;
    }
    for (let i = 0; i < (payload[0] as number); i += 1) {
      signal.throwIfAborted();
      produced += 1;
      yield new Uint8Array(FRAME).fill(i);
    }
  });
  const options = { maxFrames: 300, maxFrameBytes: FRAME, idleTimeoutMs: 5_000 };
  await until(() => a.network.peers()[0]?.connected === true, 'connected');

  let [total, taken, ahead] = [0, 0, 0];
  for await (const frame of a.network.request(b.member.peerId, 'blob', Uint8Array.of(200), options)) {
    total += frame.length;
    taken += 1;
    ahead = Math.max(ahead, produced - taken);
  }
  t.equal(total, 200 * FRAME, '50 MB in frames');
  t.ok(ahead <= 16, `the server waits for the client: ${ahead} frames ahead`);

  const codeOf = async (payload: number, bounds: typeof options) => {
    try {
      for await (const frame of a.network.request(b.member.peerId, 'blob', Uint8Array.of(payload), bounds)) void frame;
      return 'none';
    } catch (error) {
      const { code, detail } = error as EmrError;
      return code === 'PEER_REFUSED' ? `${code} ${detail['code']}` : code;
    }
  };
  t.equal(await codeOf(9, options), 'PEER_REFUSED NOT_FOUND', "the server's own code, as what it is");
  t.equal(await codeOf(5, { ...options, maxFrames: 4 }), 'PEER_PROTOCOL', 'more frames than asked for');
  t.equal(await codeOf(1, { ...options, maxFrameBytes: 100 }), 'PEER_PROTOCOL', 'a larger frame than accepted');

  produced = 0;
  for await (const frame of a.network.request(b.member.peerId, 'blob', Uint8Array.of(250), options)) {
    void frame;
    break;
  }
  t.ok(produced < 250, 'the server stops producing when the client goes away');

  const running = Array.from({ length: 16 }, (): AsyncIterator<Uint8Array> =>
    a.network.request(b.member.peerId, 'blob', Uint8Array.of(HELD), options)[Symbol.asyncIterator](),
  );
  await Promise.all(running.map((answer) => answer.next()));
  t.equal(await codeOf(1, options), 'PEER_REFUSED PEER_BUSY', 'a bounded number at a time');
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

t.test('a member who does what it wants costs little, shuts nobody out and stops nothing', async (t) => {
  const hostileKey = await generatePeerKey();
  const victim = await makePeer(0, []);
  await victim.network.start();
  const [address] = victim.network.listenAddresses() as [string];
  const honest = await makePeer(1, [address]);
  await honest.network.start();
  const hostile: Member = { peerId: hostileKey.peerId, orgId: 'org-9', role: 'validator', address: new Uint8Array(20) };
  victim.network.setMembers([honest.member, hostile]);
  honest.network.setMembers([victim.member]);
  let served = 0;
  victim.network.onRequest('blob', async function* (_from, payload) {
    for (let i = 0; i < (payload[0] ?? 0); i += 1) {
      served += 1;
      yield new Uint8Array(64 * 1024);
    }
  });
  let direct = 0;
  victim.network.onDirect(() => {
    direct += 1;
  });
  const node = await createMembersOnlyNode({
    peerSecret: hostileKey.secret,
    listen: ['/ip4/127.0.0.1/tcp/0'],
    topics: [],
    refuses: () => false,
  });
  await node.start();
  t.teardown(async () => {
    await node.stop();
    await stopAll([victim, honest]);
  });

  // Streams that end at every moment there is, some in good order and some not.
  const connection = await node.dial(multiaddr(address));
  const openRequest = () => connection.newStream(requestProtocolId('blob'));
  for (let round = 0; round < 60; round += 1) {
    const stream = await openRequest();
    const ended = new Promise<void>((resolve) => stream.addEventListener('close', () => resolve()));
    let chunks = 0;
    stream.addEventListener('message', () => {
      chunks += 1;
      if (chunks > round % 7) stream.abort(new Error('enough'));
    });
    if (round % 3 !== 2) stream.send(frame(Uint8Array.of(20)));
    if (round % 5 === 0) stream.abort(new Error('at once'));
    else if (round % 3 === 2) await stream.close();
    await ended;
  }
  for (const garbage of [u32be(2 ** 32 - 1), u32be(512 * 1024 + 1), new Uint8Array(100).fill(255)]) {
    const stream = await openRequest();
    const ended = new Promise<void>((resolve) => stream.addEventListener('close', () => resolve()));
    stream.send(garbage);
    await ended;
  }
  t.ok(served > 0, 'some were answered');

  // As many connections and direct streams as it likes, each with a frame that never ends.
  const open = () => node.getConnections().filter(({ status }) => status === 'open');
  for (let i = 0; i < 12; i += 1) {
    const more = await node.dial(multiaddr(address), { force: true });
    for (let j = 0; j < 4; j += 1) {
      await more.newStream(DIRECT_PROTOCOL).then(
        (stream) => stream.send(u32be(6 * 1024 * 1024)),
        () => false,
      );
    }
  }
  await until(() => open().length <= 4, 'all but four connections are closed');
  const streams = () => open().flatMap((c) => c.streams.filter(({ protocol }) => protocol === DIRECT_PROTOCOL));
  await until(() => streams().length <= 2, 'all but two direct streams are closed');

  // Slots of the server, all taken and none used.
  const [last] = open().slice(-1);
  for (let i = 0; i < 40; i += 1) await last?.newStream(requestProtocolId('blob')).catch(() => undefined);
  let bytes = 0;
  const options = { maxFrames: 30, maxFrameBytes: 64 * 1024, idleTimeoutMs: 5_000 };
  await until(() => honest.network.peers()[0]?.connected === true, 'the honest one is connected');
  for await (const answer of honest.network.request(victim.member.peerId, 'blob', Uint8Array.of(30), options)) {
    bytes += answer.length;
  }
  t.equal(bytes, 30 * 64 * 1024, 'the honest one is served');

  // Voted out: nothing it sends counts any more, and what it has open is closed, whether it likes it or not.
  const stream = await last?.newStream(DIRECT_PROTOCOL);
  stream?.send(frame(Uint8Array.of(1)));
  await until(() => direct === 1, 'a message of a member');
  victim.network.setMembers([honest.member]);
  try {
    for (let i = 0; i < 100; i += 1) stream?.send(frame(Uint8Array.of(2)));
  } catch {
    // Closed already.
  }
  await until(() => open().length === 0, 'all connections are cut');
  t.equal(direct, 1, 'nothing after the vote');
  t.same([...victim.faults, ...honest.faults], [], 'and nothing of it was a fault of ours');
});

t.test('a fault of ours is told, and stays inside', async (t) => {
  const peers = await mesh(2);
  const [a, b] = peers as [Peer, Peer];
  t.teardown(() => stopAll(peers));
  b.network.onRequest('txs', async function* () {
    yield Uint8Array.of(1);
    throw new TypeError('a bug in a handler');
  });
  const options = { maxFrames: 9, maxFrameBytes: 9, idleTimeoutMs: 5_000 };
  const ask = async (): Promise<void> => {
    for await (const answer of a.network.request(b.member.peerId, 'txs', Uint8Array.of(1), options)) void answer;
  };
  await t.rejects(ask(), { code: 'PEER_UNAVAILABLE' }, 'the peer learns nothing of it');
  b.network.onGossip('heads', () => {
    throw new RangeError('a bug in another');
  });
  b.network.onDirect(() => {
    throw new SyntaxError('and one more');
  });
  a.network.sendDirect(b.member.peerId, Uint8Array.of(1));
  await until(() => {
    a.network.publish('heads', Uint8Array.of(performance.now() % 256, performance.now() % 255));
    return b.faults.length >= 3;
  }, 'all three are told');
  t.same([...new Set(b.faults.map(({ name }) => name))].sort(), ['RangeError', 'SyntaxError', 'TypeError']);
  t.same(a.faults, []);
});

t.test('a member that is removed and comes back is connected again', async (t) => {
  const peers = await mesh(2);
  const [a, b] = peers as [Peer, Peer];
  t.teardown(() => stopAll(peers));
  const seen: boolean[] = [];
  a.network.onPeerChange((_peerId, connected) => seen.push(connected));
  const nobody: Member = { ...b.member, peerId: 'abc' };
  for (let round = 1; round <= 3; round += 1) {
    for (const peer of peers) peer.network.setMembers([]);
    t.same(a.network.peers(), [], 'nobody');
    for (const peer of peers) peer.network.setMembers([a.member, b.member, nobody]);
    const connected = (p: Peer) => p.network.peers().some((q) => q.connected);
    await until(() => peers.every(connected) && seen.filter(Boolean).length >= round, 'connected again');
  }
  t.same(
    seen.filter((connected, i) => connected === (i % 2 === 0)),
    [],
    'away and back in turn, each told once',
  );
  t.equal(a.network.peers().find(({ peerId }) => peerId === 'abc')?.connected, false, 'a peer id that is none');
  const bad = { peerSecret: (await generatePeerKey()).secret, chainId: CHAIN, listen: [], onFault: () => undefined };
  for (const address of ['/ip4/1.2.3.4/tcp/1', '/ip4/1.2.3.4/tcp/1/p2p/abc', '/ip4/300.2.3.4/tcp/1/p2p/x', '']) {
    t.throws(() => new Libp2pNetwork({ ...bad, addresses: [address] }), { code: 'ADDRESS_INVALID' }, address);
  }
});

t.test('frames: whole whatever the pieces, and memory for what came, not for what was announced', async (t) => {
  const payloads = [0, 1, 3, 20_000, 70_000, 0].map((length) => new Uint8Array(length).fill(length % 251));
  const stream = Buffer.concat(payloads.flatMap((payload) => [u32be(payload.length), payload]));
  for (const step of [1, 3, 4, 5, 1000, 65_536, stream.length]) {
    const decoder = new FrameDecoder(70_000);
    const out: Uint8Array[] = [];
    for (let at = 0; at < stream.length; at += step) {
      out.push(...decoder.push(new Uint8Array(stream.subarray(at, at + step))));
    }
    t.same(out, payloads, `in pieces of ${step}`);
    t.equal(decoder.heldBytes, 0);
  }
  const all = new FrameDecoder(70_000);
  t.same([...all.push(frame(Uint8Array.of(7)))], [Uint8Array.of(7)], 'a list of pieces');
  const tooLong = new FrameDecoder(70_000);
  t.throws(() => [...tooLong.push(u32be(70_001))], { code: 'PEER_PROTOCOL' });
  t.equal(tooLong.heldBytes, 0);

  const announced = new FrameDecoder(6 * 1024 * 1024);
  t.same([...announced.push(u32be(6 * 1024 * 1024))], []);
  t.equal(announced.heldBytes, 0, 'nothing for an announcement');
  t.same([...announced.push(Uint8Array.of(1))], []);
  t.ok(announced.heldBytes <= 16 * 1024, 'little for one byte');
  const piece = new Uint8Array(64 * 1024);
  for (let i = 0; i < 20_000; i += 1) for (const whole of announced.push(piece.subarray(i, i + 1))) t.fail(`${whole}`);
  t.ok(announced.heldBytes <= 64 * 1024, 'and none of the pieces that the bytes were cut from');
});
