/** What no honest client sends: to the RPC's port, to the network's, to the custodian's socket, and within JSON-RPC. */
import { randomBytes } from 'node:crypto';
import type { Test } from 'tap';
import { WebSocket } from 'ws';

type Bytes = readonly (string | Uint8Array)[];

export interface HttpCase {
  readonly what: string;
  readonly bytes: Bytes;
  /** What the first answer must be, '' where there is none; null: whatever. */
  readonly status: RegExp | null;
}

const REFUSED = /HTTP\/1\.1 4\d\d/;
const SMUGGLED = 'GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n';

/** @param port that the requests name as their host */
export function httpGarbage(port: number): readonly HttpCase[] {
  const host = `host: 127.0.0.1:${port}\r\n`;
  const post = `POST /rpc HTTP/1.1\r\n${host}content-type: application/json\r\n`;
  const get = (target: string, more = ''): string =>
    `GET ${target} HTTP/1.1\r\n${host}connection: close\r\n${more}\r\n`;
  const refusedCase = (what: string, ...bytes: Bytes): HttpCase => ({ what, bytes, status: REFUSED });
  return [
    { what: 'noise', bytes: [randomBytes(65_536)], status: null },
    refusedCase('HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
    refusedCase('a TLS hello', Buffer.from('16030100c8010000c40303', 'hex'), randomBytes(200)),
    refusedCase('no method', ' / HTTP/1.1\r\n\r\n'),
    refusedCase('NUL in a header', `GET / HTTP/1.1\r\n${host}x: a\0b\r\n\r\n`),
    refusedCase('a request line of a MiB', `GET /${'a'.repeat(1_048_576)} HTTP/1.1\r\n\r\n`),
    refusedCase('a header of a MiB', `GET / HTTP/1.1\r\n${host}x: ${'a'.repeat(1_048_576)}\r\n\r\n`),
    refusedCase('twenty thousand headers', `GET / HTTP/1.1\r\n${host}${'a: b\r\n'.repeat(20_000)}\r\n`),
    refusedCase(
      'length and chunks',
      `${post}content-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n${SMUGGLED}`,
    ),
    refusedCase('two lengths', `${post}content-length: 0\r\ncontent-length: 44\r\n\r\n${SMUGGLED}`),
    refusedCase('a negative length', `${post}content-length: -1\r\n\r\n${SMUGGLED}`),
    refusedCase('a length with a sign', `${post}content-length: +0\r\n\r\n${SMUGGLED}`),
    refusedCase('chunked twice', `${post}transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n${SMUGGLED}`),
    refusedCase('chunked, not quite', `${post}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n${SMUGGLED}`),
    refusedCase('a chunk of no size', `${post}transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n${SMUGGLED}`),
    refusedCase('a folded header', `GET / HTTP/1.1\r\n${host}x: a\r\n b\r\ntransfer-encoding : chunked\r\n\r\n`),
    refusedCase('another host', `GET /healthz HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n`),
    refusedCase('no host', 'GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n'),
    refusedCase('another origin', get('/healthz', 'origin: https://evil.example\r\n')),
    refusedCase('out of the explorer', get('/explorer/../../../keys/validator.json')),
    refusedCase('out of it, encoded', get('/explorer/..%2f..%2f..%2fkeys%2fvalidator.json')),
    refusedCase('out of the blobs', get('/blob/..%2f..%2fconfig.yaml')),
    refusedCase('an address that is no text', get('/%ff%fe%00')),
    // Read as the path of this node, which leads to its explorer: nothing is fetched from there.
    { what: 'a proxy’s request', bytes: [get('http://169.254.169.254/')], status: /HTTP\/1\.1 302/ },
    { what: 'a tunnel', bytes: [`CONNECT 127.0.0.1:22 HTTP/1.1\r\n${host}\r\n`], status: /^$/ },
    refusedCase(
      'an upload by nobody',
      `PUT /blob HTTP/1.1\r\n${host}content-length: 99999999999\r\n\r\n`,
      randomBytes(300_000),
    ),
    ...webSocketGarbage(host),
  ];
}

const HANDSHAKE_KEY = 'dGhlIHNhbXBsZSBub25jZQ==';

/** A masked client frame. */
function frame(firstByte: number, payload: Uint8Array, announced = payload.length): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64BE(BigInt(announced));
  return Buffer.concat([Buffer.of(firstByte, 0x80 | 127), length, Buffer.alloc(4), payload]);
}

function webSocketGarbage(host: string): readonly HttpCase[] {
  const upgrade = `GET /ws HTTP/1.1\r\n${host}upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\n`;
  const opened = `${upgrade}sec-websocket-key: ${HANDSHAKE_KEY}\r\n\r\n`;
  const socketCase = (what: string, ...bytes: Bytes): HttpCase => ({
    what: `web socket, ${what}`,
    bytes: [opened, ...bytes],
    status: /HTTP\/1\.1 101/,
  });
  const fragments = [
    frame(0x01, Buffer.alloc(1_000)),
    ...Array.from({ length: 2_000 }, () => frame(0x00, Buffer.alloc(1_000))),
  ];
  return [
    { what: 'web socket without a key', bytes: [`${upgrade}\r\n`], status: REFUSED },
    { what: 'web socket of another version', bytes: [opened.replace('version: 13', 'version: 99')], status: REFUSED },
    socketCase('noise', Buffer.concat([Buffer.of(0xff), randomBytes(50_000)])),
    socketCase('not masked', Buffer.from([0x81, 0x02, 0x7b, 0x7d])),
    socketCase('a frame of exabytes', frame(0x82, Buffer.alloc(100), 2 ** 52)),
    socketCase('a reserved kind', frame(0x83, Buffer.of(1))),
    socketCase('a long ping', frame(0x89, Buffer.alloc(500))),
    socketCase('text that is none', frame(0x81, Buffer.of(0xff, 0xfe, 0xfd))),
    socketCase('fragments without end', ...fragments),
  ];
}

export function p2pGarbage(): readonly (readonly [what: string, bytes: Bytes])[] {
  return [
    ['noise', [randomBytes(1_048_576)]],
    ['HTTP', [SMUGGLED]],
    ['a line without end', [Buffer.from([0xff, 0xff, 0xff, 0x7f]), 'a'.repeat(200_000)]],
    ['another protocol', ['\x13/multistream/1.0.0\n', '\x0a/tls/1.0.0\n', randomBytes(1_000)]],
    ['noise after noise', ['\x13/multistream/1.0.0\n', '\x07/noise\n', randomBytes(200_000)]],
    ['an empty handshake', ['\x13/multistream/1.0.0\n', '\x07/noise\n', Buffer.alloc(2), Buffer.alloc(100)]],
  ];
}

export function socketGarbage(): readonly (readonly [what: string, bytes: Bytes])[] {
  const length = (bytes: number): Buffer => Buffer.from(Uint32Array.of(bytes).buffer).reverse();
  return [
    ['noise', [randomBytes(100_000)]],
    ['a message of 4 GiB', [length(0xffff_ffff), randomBytes(1_000)]],
    ['an empty message', [length(0)]],
    ['a message that is no demand', [length(500), randomBytes(500)]],
    ['a demand of nested arrays', [length(40_000), Buffer.alloc(40_000, 0x81)]],
    ['HTTP', [SMUGGLED]],
  ];
}

/** Well-formed HTTP with what is no call, or too much of it. */
export async function rpcGarbage(t: Test, url: string): Promise<void> {
  const call = { jsonrpc: '2.0', id: 1, method: 'chain_getHeight', params: {} };
  const cases: readonly (readonly [what: string, reason: string, body: string])[] = [
    ['nested a hundred thousand deep', 'JSON_TOO_DEEP', '['.repeat(100_000)],
    ['nested objects', 'JSON_TOO_DEEP', '{"a":'.repeat(50_000)],
    ['a batch of 51', 'BATCH_TOO_LARGE', JSON.stringify(Array.from({ length: 51 }, () => call))],
    ['a batch of three hundred thousand', 'BATCH_TOO_LARGE', `[${'1,'.repeat(300_000)}1]`],
    ['an empty batch', 'EMPTY_BATCH', '[]'],
    ['no object', 'INVALID_REQUEST', '"chain_getHeight"'],
    ['a method of the prototype', 'METHOD_NOT_FOUND', JSON.stringify({ ...call, method: 'constructor' })],
    [
      'parameters of the prototype',
      'INVALID_PARAMS',
      '{"jsonrpc":"2.0","id":1,"method":"chain_getHeader","params":{"__proto__":{"height":1}}}',
    ],
    [
      'a height that is none',
      'INVALID_PARAMS',
      JSON.stringify({ ...call, method: 'chain_getHeader', params: { height: 1e300 } }),
    ],
    ['not UTF-8 and no JSON', 'NOT_JSON', '\ufffd\ufffd'],
  ];
  for (const [what, reason, body] of cases) {
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(`${url}/rpc`, { method: 'POST', headers, body, signal: AbortSignal.timeout(30_000) });
    const answer = (await response.json()) as { error?: { data: { reason: string } } };
    t.equal(answer.error?.data.reason, reason, what);
  }
  const socket = new WebSocket(`${url.replace('http', 'ws')}/ws`);
  const answers: string[] = [];
  await new Promise<void>((resolve, reject) => {
    socket.on('error', reject);
    socket.on('message', (data: Buffer) => {
      const message = JSON.parse(data.toString()) as { error?: { data: { reason: string } } };
      answers.push(message.error?.data.reason ?? 'fine');
      if (answers.length === 3) resolve();
    });
    socket.on('open', () => {
      socket.send('{');
      socket.send('['.repeat(10_000));
      socket.send(JSON.stringify(call));
    });
  });
  socket.terminate();
  t.same(answers, ['NOT_JSON', 'JSON_TOO_DEEP', 'fine'], 'on a web socket: each answered, and it stays open');
}
