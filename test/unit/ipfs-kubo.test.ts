// How a Kubo daemon's exposure is read from what it says and does, and how its failures are told. The daemon here is
// an HTTP server with set answers; the contract runs on a real one.

import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import type { RequestListener, Server } from 'node:http';
import { createServer } from 'node:net';
import type { AddressInfo, Server as NetServer, Socket } from 'node:net';
import t from 'tap';
import type { Test } from 'tap';
import { KuboBlockstore } from '../../node/ipfs/kubo-blockstore.ts';
import { inspectKubo, probeSwarm } from '../../node/ipfs/kubo-exposure.ts';
import { KuboRpc } from '../../node/ipfs/kubo-rpc.ts';
import { leaf } from '../contract/ipfs-files.ts';

async function listen(t: Test, server: Server | NetServer): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => sockets.add(socket));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

async function rpcTo(t: Test, answer: RequestListener, timeoutMs = 10_000): Promise<KuboRpc> {
  const port = await listen(t, createHttpServer(answer));
  return KuboRpc.to({ url: `http://127.0.0.1:${port}`, timeoutMs });
}

/** A swarm listener that answers the first bytes of a stranger with `reply`. */
function swarm(t: Test, reply: Uint8Array): Promise<number> {
  return listen(
    t,
    createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => socket.end(reply));
    }),
  );
}

interface Daemon {
  readonly config?: object;
  readonly addresses?: readonly string[];
  readonly version?: string;
}

const CLOSED = {
  Bootstrap: null,
  Routing: { Type: 'none' },
  Addresses: { API: '/ip4/127.0.0.1/tcp/5001', Gateway: [] },
  Plugins: { Plugins: { telemetry: { Config: { Mode: 'off' } } } },
};

async function codesOf(t: Test, { config = CLOSED, addresses = [], version = '0.40.1' }: Daemon): Promise<string[]> {
  const answers: Record<string, unknown> = {
    '/api/v0/version': { Version: version },
    '/api/v0/config/show': config,
    '/api/v0/swarm/addrs/local': { Strings: addresses },
  };
  const rpc = await rpcTo(t, (request, response) => {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(answers[new URL(request.url ?? '', 'http://x').pathname]));
  });
  return (await inspectKubo(rpc)).findings.map(({ code }) => code);
}

t.test('what a configuration gives away', async (t) => {
  const cases: [string, object, string[]][] = [
    ['closed in every way', CLOSED, []],
    ['an empty list is no bootstrap', { ...CLOSED, Bootstrap: [] }, []],
    ['the word for the public list', { ...CLOSED, Bootstrap: ['auto'] }, ['BOOTSTRAP_NOT_EMPTY']],
    ['routing by default', { ...CLOSED, Routing: {} }, ['ROUTING_ON']],
    ['routing by DHT', { ...CLOSED, Routing: { Type: 'dhtclient' } }, ['ROUTING_ON']],
    ['an API on all interfaces', { ...CLOSED, Addresses: { API: '/ip4/0.0.0.0/tcp/5001' } }, ['API_EXPOSED']],
    ['one of two APIs', { ...CLOSED, Addresses: { API: ['/ip4/127.0.0.1/tcp/1', '/ip6/::/tcp/1'] } }, ['API_EXPOSED']],
    [
      'an API on all interfaces that asks for a token',
      { ...CLOSED, Addresses: { API: '/ip4/0.0.0.0/tcp/5001' }, API: { Authorizations: { node: {} } } },
      [],
    ],
    ['a gateway', { ...CLOSED, Addresses: { Gateway: '/ip4/10.0.0.7/tcp/8080' } }, ['GATEWAY_EXPOSED']],
    ['telemetry by default', { ...CLOSED, Plugins: {} }, ['TELEMETRY_ON']],
    ['nothing at all', {}, ['ROUTING_ON', 'TELEMETRY_ON']],
  ];
  for (const [name, config, codes] of cases) t.same(await codesOf(t, { config }), codes, name);
  t.same(await codesOf(t, { config: { ...CLOSED, Plugins: {} }, version: '0.36.0' }), [], 'before there was telemetry');
});

t.test('whether a swarm key is in force is tried out', async (t) => {
  const clear = await swarm(t, Buffer.from('\x13/multistream/1.0.0\n', 'latin1'));
  const keyed = await swarm(t, randomBytes(44));
  const silent = await swarm(t, Buffer.alloc(0));
  t.equal(await probeSwarm('127.0.0.1', clear), 'clear');
  t.equal(await probeSwarm('127.0.0.1', keyed), 'private');
  t.equal(await probeSwarm('127.0.0.1', silent), 'unknown');
  const at = (port: number): string => `/ip4/127.0.0.1/tcp/${port}`;
  t.same(await codesOf(t, { addresses: [at(clear)] }), ['NO_PRIVATE_NETWORK']);
  t.same(await codesOf(t, { addresses: [at(keyed), '/p2p-circuit'] }), []);
  t.same(await codesOf(t, { addresses: [at(keyed), at(clear)] }), ['NO_PRIVATE_NETWORK'], 'one way in is enough');
  t.same(await codesOf(t, { addresses: [at(silent)] }), ['PRIVATE_NETWORK_UNPROVEN']);
  t.same(await codesOf(t, { addresses: ['/ip4/127.0.0.1/udp/4001/quic-v1'] }), ['NO_PRIVATE_NETWORK']);
  t.same(await codesOf(t, { addresses: [] }), [], 'no listener at all');
});

t.test('failures of the daemon', async (t) => {
  const { cid, bytes } = leaf(Buffer.from('a block'));
  const mute = new KuboBlockstore(await rpcTo(t, () => {}, 50));
  await t.rejects(mute.get(cid), { code: 'IPFS_UNAVAILABLE', detail: { reason: 'no answer within 50 ms' } });
  await t.rejects(mute.put(cid, bytes), { code: 'IPFS_UNAVAILABLE' });

  const locked = new KuboBlockstore(
    await rpcTo(t, (_, response) => {
      response.writeHead(403).end('Kubo RPC Access Denied');
    }),
  );
  await t.rejects(locked.get(cid), { code: 'IPFS_UNAVAILABLE', detail: { reason: /HTTP 403/ } });

  const sick = new KuboBlockstore(
    await rpcTo(t, (_, response) => {
      response.writeHead(500, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ Message: 'leveldb: closed', Code: 0, Type: 'error' }));
    }),
  );
  await t.rejects(sick.sizeOf(cid), { code: 'IPFS_FAILED', detail: { reason: 'leveldb: closed', status: 500 } });

  const wrong = new KuboBlockstore(
    await rpcTo(t, (_, response) => {
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify({ Key: leaf(Buffer.from('another')).cid.toString(), Size: 7 }));
    }),
  );
  await t.rejects(wrong.put(cid, bytes), { code: 'IPFS_FAILED' }, 'stored under another CID');

  const ended = createHttpServer();
  const port = await listen(t, ended);
  ended.close();
  await once(ended, 'close');
  const nobody = new KuboBlockstore(await KuboRpc.to({ url: `http://127.0.0.1:${port}` }));
  await t.rejects(nobody.get(cid), { code: 'IPFS_UNAVAILABLE', detail: { reason: 'ECONNREFUSED' } });
  const badPort = new KuboBlockstore(await KuboRpc.to({ url: 'http://127.0.0.1:1' }));
  await t.rejects(badPort.get(cid), { code: 'IPFS_UNAVAILABLE', detail: { reason: 'bad port' } });
});
