import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import t from 'tap';
import { WebSocket } from 'ws';
import { toHex } from '../../rpc/json.ts';
import type { TestConfig, TestNode } from './rpc-fixture.ts';
import { testNode, testServer, tokenOf } from './rpc-fixture.ts';
import { tellStory } from './rpc-story.ts';

async function setUp(config: TestConfig = {}) {
  const story = tellStory();
  const node = testNode(story.world);
  const server = testServer(node, config);
  await server.start();
  t.teardown(() => server.stop());
  const token = (name: string, more = {}) => tokenOf(node, story.world.who(name), { origin: server.address, ...more });
  return { story, node, server, token };
}

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: {
    readonly subscription: string;
    readonly topic: string;
    readonly event: Record<string, unknown>;
    readonly code: number;
    readonly reason: string;
  };
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly code: number; readonly data: { readonly reason: string } };
}

/** A client: answers by id, notifications in order. Whoever waits is told, there is no polling. */
class Client {
  readonly socket: WebSocket;
  readonly #seen: Message[] = [];
  #waiting: { test: (message: Message) => boolean; resolve: (message: Message) => void }[] = [];
  #nextId = 1;

  constructor(address: string, headers: Record<string, string> = {}) {
    this.socket = new WebSocket(`${address.replace('http', 'ws')}/ws`, { headers });
    this.socket.on('message', (data: Buffer) => {
      const message = JSON.parse(data.toString()) as Message;
      const at = this.#waiting.findIndex(({ test }) => test(message));
      if (at < 0) this.#seen.push(message);
      else this.#waiting.splice(at, 1)[0]!.resolve(message);
    });
  }

  async open(): Promise<this> {
    await once(this.socket, 'open');
    return this;
  }

  next(test: (message: Message) => boolean): Promise<Message> {
    const at = this.#seen.findIndex(test);
    if (at >= 0) return Promise.resolve(this.#seen.splice(at, 1)[0]!);
    return new Promise((resolve) => this.#waiting.push({ test, resolve }));
  }

  call(method: string, params: unknown = {}): Promise<Message> {
    const id = this.#nextId++;
    this.socket.send(JSON.stringify({ jsonrpc: '2.0', id, method, params }));
    return this.next((message) => message.id === id);
  }

  async subscribe(params: object): Promise<string> {
    const { result, error } = await this.call('sub_subscribe', params);
    if (error !== undefined) throw new Error(error.data.reason);
    return String(result!['subscription']);
  }

  /** The next notification of a subscription. */
  async event(subscription: string): Promise<Record<string, unknown>> {
    const message = await this.next(({ params }) => params?.subscription === subscription);
    return message.method === 'sub_end' ? { ended: message.params!.reason } : message.params!.event;
  }
}

/** Heights of the next `count` events. */
async function heights(client: Client, subscription: string, count: number): Promise<unknown[]> {
  const found = [];
  for (let index = 0; index < count; index += 1) found.push((await client.event(subscription))['height']);
  return found;
}

const head = (node: TestNode) => node.world.head.header.height;

t.test('blocks and headers as they come, from a height on, until unsubscribed', async (t) => {
  const { node, server } = await setUp();
  const client = await new Client(server.address).open();
  const live = await client.subscribe({ topic: 'newHeaders' });
  const from = head(node);
  node.mine();
  node.mine();
  t.same(await heights(client, live, 2), [from + 1, from + 2]);
  const past = await client.subscribe({ topic: 'newBlocks', fromHeight: 0 });
  t.same(
    await heights(client, past, from + 3),
    Array.from({ length: from + 3 }, (_, height) => height),
    'all of them, once, in order',
  );
  node.mine();
  t.same(await heights(client, past, 1), [from + 3], 'and on from there');
  t.same(await heights(client, live, 1), [from + 3]);
  t.same((await client.call('sub_unsubscribe', { subscription: live })).result, { ended: true });
  t.same((await client.call('sub_unsubscribe', { subscription: live })).result, { ended: false });
  node.mine();
  t.same(await heights(client, past, 1), [from + 4]);
  t.equal(
    (await client.call('sub_subscribe', { topic: 'newHeaders', fromHeight: from + 6 })).error!.data.reason,
    'HEIGHT_AHEAD',
  );
  node.knobs.lowestHeight = 3;
  t.equal((await client.call('sub_subscribe', { topic: 'newHeaders', fromHeight: 2 })).error!.code, -32002);
  t.equal((await client.call('sub_subscribe', { topic: 'everything' })).error!.code, -32602);
  client.socket.close();
});

t.test('a socket takes the same calls, in batches too', async (t) => {
  const { node, server } = await setUp();
  const client = await new Client(server.address).open();
  t.equal((await client.call('chain_getHeight')).result!['height'], head(node));
  t.equal((await client.call('chain_getParams')).error!.data.reason, 'TOKEN_REQUIRED');
  client.socket.send('[{"jsonrpc":"2.0","id":70,"method":"node_version"},{"jsonrpc":"2.0","method":"node_version"}]');
  t.match(await client.next((message) => Array.isArray(message)), [{ id: 70 }]);
  client.socket.send('{');
  t.equal((await client.next(({ error }) => error !== undefined)).error!.code, -32700);
  client.socket.send(Buffer.from([1, 2, 3]), { binary: true });
  const [code, reason] = (await once(client.socket, 'close')) as [number, Buffer];
  t.same([code, reason.toString()], [1003, 'TEXT_ONLY']);
});

t.test('events in the scope of the token, and no longer than it lasts', async (t) => {
  const { story, node, server, token } = await setUp();
  const { world, requests } = story;
  const [paula, petra] = await Promise.all([new Client(server.address).open(), new Client(server.address).open()]);
  t.equal((await paula.call('sub_subscribe', { topic: 'aclEvents' })).error!.data.reason, 'TOKEN_REQUIRED');
  t.equal(
    (await paula.call('sub_authenticate', { token: token('paula', { origin: 'http://elsewhere' }) })).error!.data
      .reason,
    'TOKEN_WRONG_ORIGIN',
  );
  const shown = await paula.call('sub_authenticate', { token: token('paula') });
  t.equal(shown.result!['account'], toHex(world.who('paula').id));
  await petra.call('sub_authenticate', { token: token('petra') });
  const [mine, hers] = [await paula.subscribe({ topic: 'aclEvents' }), await petra.subscribe({ topic: 'aclEvents' })];
  const filtered = await paula.subscribe({ topic: 'aclEvents', filter: { requestHash: toHex(requests.granted) } });
  const records = await paula.subscribe({ topic: 'emrEvents', fromHeight: 0 });

  world.do('hans', { kind: 'access.approve', requestHash: requests.pending });
  world.do('paula', { kind: 'access.revoke', requestHash: requests.granted, reason: 'ENOUGH' });
  world.do('petra', { kind: 'access.deny', requestHash: requests.board, reason: 'NO' });
  const typeOf = async (client: Client, id: string) => ((await client.event(id))['event'] as { type: string }).type;
  t.same([await typeOf(paula, mine), await typeOf(paula, mine)], ['access.approve', 'access.revoke']);
  t.same(
    [await typeOf(petra, hers), await typeOf(petra, hers)],
    ['access.deny', 'access.denied'],
    'the first that she gets',
  );
  t.equal(await typeOf(paula, filtered), 'access.revoke');
  t.same([await typeOf(paula, records), await typeOf(paula, records)], ['policy.create', 'policy.create']);
  t.equal(await typeOf(paula, records), 'record.create');

  world.do('admin@a', { kind: 'account.suspend', account: world.who('petra').id, reason: 'MOVED' });
  t.same(await petra.event(hers), { ended: 'ACCOUNT_SUSPENDED' });
  node.knobs.clockMs = node.ports.node.nowMs() + 11 * 60_000;
  node.mine();
  t.same(await paula.event(mine), { ended: 'TOKEN_EXPIRED' }, 'and nothing of the suspension, which is not hers');
  paula.socket.close();
  petra.socket.close();
});

t.test('a token in the header of the upgrade; one that does not hold opens nothing', async (t) => {
  const { server, token } = await setUp();
  const client = await new Client(server.address, { authorization: `EMR ${token('bob')}` }).open();
  t.ok((await client.call('chain_getParams')).result);
  client.socket.close();
  const refusal = async (headers: Record<string, string>) => {
    const socket = new WebSocket(`${server.address.replace('http', 'ws')}/ws`, { headers });
    const [, response] = (await once(socket, 'unexpected-response')) as [unknown, IncomingMessage];
    response.resume();
    return response.statusCode;
  };
  t.equal(await refusal({ authorization: 'EMR nonsense' }), 403);
  t.equal(await refusal({ origin: 'https://evil.example' }), 403);
  t.equal(await refusal({ host: 'evil.example' }), 403);
});

t.test('the status of a transaction, to its end', async (t) => {
  const { story, node, server } = await setUp();
  const client = await new Client(server.address).open();
  const tx = story.world.tx('paula', { kind: 'access.deny', requestHash: story.requests.pending, reason: 'BUSY' });
  const hash = toHex(tx.tx.hash);
  t.equal((await client.call('sub_subscribe', { topic: 'txStatus' })).error!.data.reason, 'FILTER_REQUIRED');
  const early = await client.subscribe({ topic: 'txStatus', filter: { hash } });
  t.same(await client.event(early), { hash, status: 'unknown' });
  await client.call('tx_submit', { raw: toHex(tx.tx.bytes) });
  const later = await client.subscribe({ topic: 'txStatus', filter: { hash } });
  t.same(await client.event(later), { hash, status: 'pending' });
  node.mine();
  for (const id of [early, later]) {
    t.match(await client.event(id), { hash, status: 'committed', height: head(node), index: 0 });
    t.same(await client.event(id), { ended: 'DONE' });
  }
  client.socket.close();
});

t.test('a consumer that does not keep up is dropped; the others are not', async (t) => {
  const { story, node, server } = await setUp({ limits: { maxSocketBufferBytes: 65_536 } });
  const { world } = story;
  const good = await new Client(server.address).open();
  const alive = await good.subscribe({ topic: 'newHeaders' });
  const slow = await new Client(server.address).open();
  const late = await slow.subscribe({ topic: 'newBlocks', fromHeight: 0 });
  await heights(slow, late, head(node) + 1);
  slow.socket.pause();
  const closed = once(slow.socket, 'close');
  const dropped = new Promise<void>((resolve) => {
    node.knobs.onCall = ({ method, code }) => {
      if (method === 'sub_event' && code === -32020) resolve();
    };
  });
  // Fill the buffers of the kernel with answers that nobody reads.
  const batch = JSON.stringify(
    Array.from({ length: 50 }, (_, id) => ({ jsonrpc: '2.0', id, method: 'chain_getGenesis' })),
  );
  for (let index = 0; index < 100; index += 1) slow.socket.send(batch);
  world.pass(1);
  t.equal((await good.event(alive))['height'], head(node));
  await dropped;
  slow.socket.resume();
  t.match((await slow.next(({ method }) => method === 'sub_end')).params, {
    subscription: late,
    reason: 'SLOW_CONSUMER',
  });
  t.equal(((await closed) as [number])[0], 1013);
  world.pass(1);
  t.equal((await good.event(alive))['height'], head(node));
  good.socket.close();
});

t.test('bounds of sockets and subscriptions', async (t) => {
  const { server } = await setUp({ limits: { maxSockets: 2, maxSubscriptionsPerSocket: 3, maxBodyBytes: 2_000 } });
  const client = await new Client(server.address).open();
  for (let index = 0; index < 3; index += 1) await client.subscribe({ topic: 'newHeaders' });
  t.equal((await client.call('sub_subscribe', { topic: 'newHeaders' })).error!.data.reason, 'TOO_MANY_SUBSCRIPTIONS');
  const second = await new Client(server.address).open();
  const third = new WebSocket(`${server.address.replace('http', 'ws')}/ws`);
  const [, response] = (await once(third, 'unexpected-response')) as [unknown, IncomingMessage];
  t.equal(response.statusCode, 429);
  response.resume();
  second.socket.send('x'.repeat(3_000));
  const [code] = (await once(second.socket, 'close')) as [number];
  t.equal(code, 1009, 'a message larger than any call');
  client.socket.close();
});

t.test('what is no HTTP, a body that does not come, and stopping with sockets and calls open', async (t) => {
  const { story, server } = await setUp({ limits: { bodyTimeoutMs: 200 } });
  const { hostname, port } = new URL(server.address);
  t.equal(hostname, '127.0.0.1', 'loopback unless told otherwise');
  const raw = connect(Number(port), hostname);
  raw.write('\x16\x03\x01 not http\r\n\r\n');
  const [answer] = (await once(raw, 'data')) as [Buffer];
  t.match(answer.toString(), /^HTTP\/1\.1 400 .*"reason":"NOT_HTTP"/s);

  const trickle = connect(Number(port), hostname);
  trickle.write(
    'POST /rpc HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{',
  );
  trickle.on('error', () => {});
  await once(trickle, 'close');

  const client = await new Client(server.address).open();
  const tx = story.world.tx('paula', { kind: 'access.deny', requestHash: story.requests.pending, reason: 'BUSY' });
  const waiting = fetch(`${server.address}/rpc`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      jsonrpc: '2.0',
      id: 1,
      method: 'tx_submit',
      params: { raw: toHex(tx.tx.bytes), mode: 'committed' },
    }),
  }).then(
    async (response) => ((await response.json()) as Message).error!.code,
    () => 'cut',
  );
  while ((await client.call('node_status')).result!['pendingTransactions'] === 0);
  const closed = once(client.socket, 'close') as Promise<[number]>;
  await server.stop();
  t.equal((await closed)[0], 1001);
  t.ok([-32005, 'cut'].includes(await waiting));
  await t.rejects(fetch(`${server.address}/healthz`));
});
