import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { Readable } from 'node:stream';
import t from 'tap';
import { assert } from '../../common/errors.ts';
import { sm3 } from '../../common/crypto/sm3.ts';
import { toHex } from '../../rpc/json.ts';
import { readRange } from '../../rpc/blobs.ts';
import { call, ok, testNode, testServer, tokenOf, type TestConfig } from './rpc-fixture.ts';
import { tellStory } from './rpc-story.ts';

t.setTimeout(120_000);

async function setUp(config: TestConfig = {}) {
  const story = tellStory();
  const node = testNode(story.world);
  const server = testServer(node, config);
  await server.start();
  t.teardown(() => server.stop());
  const auth = (name: string) => ({
    authorization: `EMR ${tokenOf(node, story.world.who(name), { origin: server.address })}`,
  });
  const put = (body: Uint8Array | Readable, headers: Record<string, string>) =>
    fetch(`${server.address}/blob`, { method: 'PUT', headers, body: body as never, duplex: 'half' });
  const reason = async (response: Response) => {
    const body = (await response.json()) as { error: { data: { reason: string } } };
    return [response.status, body.error.data.reason];
  };
  return { story, node, server, auth, put, reason };
}

const bytes = new Uint8Array(3 * 1024 * 1024 + 17).map((_, index) => index * 31);

t.test('up, and down again: whole, in parts, resumed', async (t) => {
  const { server, auth, put } = await setUp();
  const response = await put(bytes, auth('alice'));
  t.equal(response.status, 201);
  const stored = (await response.json()) as { cid: string; sizeBytes: number; dataDigest: string };
  t.match(stored, { sizeBytes: bytes.length, dataDigest: toHex(sm3(bytes)) });
  t.equal(response.headers.get('location'), `/blob/${stored.cid}`);

  const url = `${server.address}/blob/${stored.cid}`;
  const whole = await fetch(url, { headers: auth('alice') });
  t.same(new Uint8Array(await whole.arrayBuffer()), bytes);
  t.equal(whole.headers.get('content-length'), String(bytes.length));
  t.equal(whole.headers.get('accept-ranges'), 'bytes');
  t.equal(whole.headers.get('etag'), `"${stored.cid}"`);

  const part = async (range: string, more: Record<string, string> = {}) => {
    const answer = await fetch(url, { headers: { ...auth('alice'), range, ...more } });
    return [answer.status, answer.headers.get('content-range'), new Uint8Array(await answer.arrayBuffer())] as const;
  };
  const size = bytes.length;
  t.same(await part('bytes=0-0'), [206, `bytes 0-0/${size}`, bytes.slice(0, 1)]);
  t.same(await part(`bytes=${size - 10}-`), [206, `bytes ${size - 10}-${size - 1}/${size}`, bytes.slice(-10)]);
  t.same(await part('bytes=-10'), [206, `bytes ${size - 10}-${size - 1}/${size}`, bytes.slice(-10)]);
  t.same(await part('bytes=1000-2000000'), [206, `bytes 1000-2000000/${size}`, bytes.slice(1000, 2_000_001)]);
  t.equal((await part(`bytes=${size - 5}-${size + 5}`))[2].length, 5, 'up to the end');
  t.equal((await part('bytes=0-9', { 'if-range': `"${stored.cid}"` }))[0], 206);
  t.equal((await part('bytes=0-9', { 'if-range': '"other"' }))[0], 200, 'another file: all of it');
  t.equal((await part('bytes=0-1,5-6'))[0], 200, 'several ranges are not served in parts');
  const beyond = await fetch(url, { headers: { ...auth('alice'), range: `bytes=${size}-` } });
  t.same([beyond.status, beyond.headers.get('content-range')], [416, `bytes */${size}`]);
  await beyond.body?.cancel();
  const head = await fetch(url, { method: 'HEAD', headers: auth('alice') });
  t.same([head.status, head.headers.get('content-length'), await head.text()], [200, String(size), '']);
});

t.test('an upload of unknown length, and one that ends early', async (t) => {
  const { node, server, auth, put } = await setUp();
  const chunked = await put(Readable.from([bytes.slice(0, 1_000), bytes.slice(1_000, 5_000)]), auth('alice'));
  t.equal(((await chunked.json()) as { sizeBytes: number }).sizeBytes, 5_000);

  const before = node.blobs.size;
  const cut = request(`${server.address}/blob`, {
    method: 'PUT',
    headers: { ...auth('alice'), 'content-length': '100000' },
  });
  cut.on('error', () => {});
  cut.write(bytes.slice(0, 1_000));
  await once(cut, 'socket');
  cut.destroy();
  const again = await put(bytes.slice(0, 7), auth('alice'));
  t.equal(again.status, 201);
  t.equal(node.blobs.size, before + 1, 'nothing of the one that was cut');
});

t.test('who may', async (t) => {
  const { story, node, server, auth, put, reason } = await setUp();
  t.same(await reason(await put(bytes, {})), [403, 'TOKEN_REQUIRED']);
  t.same(await reason(await put(bytes, auth('paula'))), [403, 'NOT_STAFF']);
  t.same(await reason(await put(bytes, { authorization: 'EMR x' })), [403, 'TOKEN_MALFORMED']);
  const { cid } = (await (await put(bytes.slice(0, 100), auth('alice'))).json()) as { cid: string };
  const get = async (of: string, headers: Record<string, string>) => {
    const response = await fetch(`${server.address}/blob/${of}`, { headers });
    if (response.ok) return [response.status, (await response.arrayBuffer()).byteLength];
    return reason(response);
  };
  t.same(await get(cid, {}), [403, 'TOKEN_REQUIRED']);
  t.same(await get(cid, auth('nora')), [200, 100], 'staged, and her hospital uploaded it');
  t.same(await get(cid, auth('bob')), [403, 'OUT_OF_SCOPE']);
  t.same(await get(cid, auth('paula')), [403, 'OUT_OF_SCOPE']);
  t.same(await get(cid.replace(/.$/, 'q'), auth('alice')), [404, 'NOT_FOUND']);
  t.same(await get('..%2f..%2fetc', auth('alice')), [404, 'NOT_FOUND']);
  t.same(await get('QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG', auth('alice')), [404, 'NOT_FOUND']);

  const named = await recordCid(story, node);
  node.blobs.set(named, { bytes: bytes.slice(0, 4_096), uploadedBy: null });
  t.same(await get(named, auth('paula')), [200, 4_096], 'her own record');
  t.same(await get(named, auth('bob')), [200, 4_096], 'he holds a grant');
  t.same(await get(named, auth('carol')), [403, 'OUT_OF_SCOPE']);
  story.world.do('paula', { kind: 'access.revoke', requestHash: story.requests.granted, reason: 'ENOUGH' });
  t.same(await get(named, auth('bob')), [403, 'OUT_OF_SCOPE'], 'no longer');
  node.blobs.delete(named);
  const away = await fetch(`${server.address}/blob/${named}`, { headers: auth('paula') }).then(
    async (response) =>
      response.ok
        ? response.arrayBuffer().then(
            () => 'whole',
            () => 'cut',
          )
        : 'refused',
    () => 'cut',
  );
  t.not(away, 'whole', 'what cannot be fetched is never shown as if it were all');
});

async function recordCid(story: ReturnType<typeof tellStory>, node: ReturnType<typeof testNode>): Promise<string> {
  const open = testServer(node, { openReads: true });
  t.teardown(() => open.stop());
  return (await ok(open, 'emr_getRecord', { recordId: toHex(story.record) })).record.latest!.cid;
}

t.test('quota, declared size, and transfers at a time', async (t) => {
  const { node, server, auth, put, reason } = await setUp({ limits: { maxTransfersPerAccount: 1 } });
  node.knobs.blobQuotaBytes = 10_000;
  t.same(await reason(await put(bytes.slice(0, 20_000), auth('alice'))), [403, 'BLOB_QUOTA']);
  t.equal(node.blobs.size, 0);
  t.equal((await call(server, 'node_version', {})).error, null);

  const first = request(`${server.address}/blob`, { method: 'PUT', headers: auth('alice') });
  first.write(bytes.slice(0, 10));
  const blocked = await put(bytes.slice(0, 10), auth('alice'));
  t.same(await reason(blocked), [429, 'TOO_MANY_TRANSFERS']);
  t.equal((await put(bytes.slice(0, 10), auth('bob'))).status, 201, 'another account');
  first.end();
  const [answer] = (await once(first, 'response')) as [IncomingMessage];
  t.equal(answer.statusCode, 201);
  answer.resume();
  await once(answer, 'end');
  t.equal((await put(bytes.slice(0, 10), auth('alice'))).status, 201, 'its turn again');
});

t.test('an upload that stands still ends', async (t) => {
  const { server, auth } = await setUp({ limits: { idleTimeoutMs: 200 } });
  const stuck = request(`${server.address}/blob`, {
    method: 'PUT',
    headers: { ...auth('alice'), 'content-length': '1000' },
  });
  const ended = new Promise<string>((resolve) => {
    stuck.on('error', () => resolve('cut'));
    stuck.on('response', (response) => resolve(String(response.statusCode)));
  });
  stuck.write('x');
  t.not(await ended, '201');
});

/** An upload in several requests, as a client makes them. */
async function setUpUploads(config: TestConfig = {}) {
  const parts = await setUp(config);
  const { server, auth } = parts;
  const ask = (method: string, path: string, headers: Record<string, string> = {}, who = 'alice', body?: Uint8Array) =>
    fetch(`${server.address}${path}`, { method, headers: { ...auth(who), ...headers }, body: (body ?? null) as never });
  const open = (length: number | string, who?: string) =>
    ask('POST', '/blob', { 'upload-length': String(length) }, who);
  const opened = async (length: number, who?: string) => {
    const response = await open(length, who);
    assert(response.status === 201, `an upload is opened: ${response.status}`);
    return String(response.headers.get('location'));
  };
  const patch = (path: string, offset: number | string, body: Uint8Array, who?: string) =>
    ask('PATCH', path, { 'upload-offset': String(offset) }, who, body);
  /** A request that sends `first` of what it promises, and stands still. */
  const stuck = async (path: string, offset: number, promised: number, first: Uint8Array) => {
    const headers = { ...auth('alice'), 'upload-offset': String(offset), 'content-length': String(promised) };
    const cut = request(`${server.address}${path}`, { method: 'PATCH', headers });
    const closed = new Promise<void>((resolve) => cut.once('close', resolve));
    cut.on('error', () => undefined);
    await new Promise<void>((resolve) => void cut.write(first, () => resolve()));
    return { cut, closed };
  };
  const offset = async (path: string, method = 'HEAD') => {
    const response = await ask(method, path);
    return [response.status, response.headers.get('upload-offset')];
  };
  return { ...parts, ask, open, opened, patch, stuck, offset };
}

t.test('an upload in several requests', async (t) => {
  const { node, ask, opened, patch, stuck, offset, reason } = await setUpUploads();
  const path = await opened(bytes.length);
  t.match(path, /^\/blob\/uploads\/[0-9a-f]{32}$/);
  const first = await patch(path, 0, bytes.subarray(0, 1_000_000));
  t.same([first.status, first.headers.get('upload-offset')], [204, '1000000']);
  const head = await ask('HEAD', path);
  t.equal(head.headers.get('upload-length'), String(bytes.length));
  t.same(await offset(path), [204, '1000000']);

  const elsewhere = await patch(path, 999_999, bytes.subarray(999_999));
  t.equal(elsewhere.headers.get('upload-offset'), '1000000', 'the true offset');
  t.same(await reason(elsewhere), [409, 'UPLOAD_OFFSET_WRONG']);
  const longer = await patch(path, 1_000_000, bytes.subarray(999_999));
  t.same(await reason(longer), [400, 'BLOB_SIZE_MISMATCH'], 'more than was declared');
  t.same(await offset(path, 'GET'), [204, '1000000'], 'and nothing of it was taken');

  const { cut, closed } = await stuck(path, 1_000_000, 1_000_000, bytes.subarray(1_000_000, 1_600_000));
  cut.destroy();
  await closed;
  const [, at] = await offset(path);
  t.ok(Number(at) >= 1_000_000 && Number(at) <= 1_600_000, `what came of a broken connection counts: ${at}`);
  const last = await patch(path, Number(at), bytes.subarray(Number(at)));
  const stored = (await last.json()) as { cid: string };
  t.equal(last.status, 201);
  t.match(stored, { sizeBytes: bytes.length, dataDigest: toHex(sm3(bytes)) }, 'as PUT answers');
  t.equal(last.headers.get('location'), `/blob/${stored.cid}`);
  t.same(node.blobs.get(stored.cid)?.bytes, bytes);

  const again = await patch(path, bytes.length, new Uint8Array(0));
  t.same([again.status, await again.json()], [201, stored], 'whoever lost the answer asks again');
  t.equal((await ask('DELETE', path)).status, 204);
  t.equal((await ask('GET', path)).status, 404);
  t.ok(node.blobs.has(stored.cid), 'what is stored stays');

  const empty = await patch(await opened(0), 0, new Uint8Array(0));
  t.equal(empty.status, 201, 'nothing at all');
  await empty.body?.cancel();
});

t.test('a newer request takes over from one that hangs', async (t) => {
  const { opened, patch, stuck, offset } = await setUpUploads();
  const path = await opened(10_000);
  const hanging = await stuck(path, 0, 10_000, bytes.subarray(0, 1_000));
  let at = '0';
  while (at !== '1000') at = String((await offset(path))[1]);
  await hanging.closed;

  const second = await stuck(path, 1_000, 9_000, new Uint8Array(0));
  const third = await patch(path, 1_000, bytes.subarray(1_000, 2_000));
  t.equal(third.status, 204);
  await second.closed;
  const two = await Promise.all([
    patch(path, 2_000, bytes.subarray(2_000, 10_000)).then((r) => r.status),
    patch(path, 2_000, bytes.subarray(2_000, 10_000)).then(
      (r) => r.status,
      () => 0,
    ),
  ]);
  const done = await patch(path, 10_000, new Uint8Array(0));
  t.match(
    await done.json(),
    { dataDigest: toHex(sm3(bytes.subarray(0, 10_000))) },
    `each byte once, whoever won: ${two}`,
  );
});

t.test('uploads of others, and such that there are none of', async (t) => {
  const { node, ask, open, opened, patch, offset, reason } = await setUpUploads();
  const path = await opened(1_000);
  for (const who of ['bob', 'nora']) {
    t.same(await reason(await patch(path, 0, bytes.subarray(0, 10), who)), [404, 'UPLOAD_UNKNOWN'], who);
    t.same(await reason(await ask('GET', path, {}, who)), [404, 'UPLOAD_UNKNOWN']);
    t.same(await reason(await ask('DELETE', path, {}, who)), [404, 'UPLOAD_UNKNOWN']);
  }
  const unknown = `/blob/uploads/${'00'.repeat(16)}`;
  t.same(await reason(await patch(unknown, 0, bytes.subarray(0, 10))), [404, 'UPLOAD_UNKNOWN']);
  t.same(await reason(await open(1_000, 'paula')), [403, 'NOT_STAFF']);
  t.same(await reason(await patch(path, 0, bytes.subarray(0, 10), 'paula')), [403, 'NOT_STAFF']);
  t.same(await reason(await ask('GET', path, { authorization: 'EMR x' })), [403, 'TOKEN_MALFORMED']);
  for (const wrong of ['', '-1', '1e3', '0x10', '1.5', '9'.repeat(16), 'x']) {
    t.same(await reason(await open(wrong)), [400, 'UPLOAD_HEADER_INVALID'], `a length of "${wrong}"`);
    t.same(await reason(await patch(path, wrong, bytes.subarray(0, 10))), [400, 'UPLOAD_HEADER_INVALID']);
  }
  t.same(await offset(path), [204, '0'], 'none of this moved it');
  const before = node.blobs.size;
  t.equal((await ask('DELETE', path)).status, 204);
  t.same(await reason(await patch(path, 0, bytes.subarray(0, 10))), [404, 'UPLOAD_UNKNOWN'], 'given up');
  t.equal(node.blobs.size, before, 'and nothing is left of it');
});

t.test('uploads are bounded', async (t) => {
  const { node, open, opened, ask, patch, reason } = await setUpUploads({ limits: { maxTransfersPerAccount: 2 } });
  const [one, two] = [await opened(1_000), await opened(1_000)];
  t.same(await reason(await open(1_000)), [429, 'TOO_MANY_TRANSFERS'], 'opened ones count, without a request');
  await opened(1_000, 'bob');
  t.equal((await patch(one, 0, bytes.subarray(0, 1_000))).status, 201);
  const three = await opened(1_000);
  t.same(await reason(await open(1_000)), [429, 'TOO_MANY_TRANSFERS']);
  t.equal((await ask('DELETE', two)).status, 204);
  node.knobs.blobQuotaBytes = 100;
  t.same(await reason(await open(1_000)), [403, 'BLOB_QUOTA'], 'before a byte');
  t.same(await reason(await open(1_000)), [403, 'BLOB_QUOTA'], 'which leaves nothing open');
  await patch(three, 0, bytes.subarray(0, 500)).catch(() => undefined);
  t.same(await reason(await ask('GET', three)), [403, 'BLOB_QUOTA'], 'the store gave up in the middle');
  t.same(await reason(await patch(three, 500, bytes.subarray(500, 600))), [403, 'BLOB_QUOTA']);
});

t.test('an upload to which nothing comes ends, and so do all when the node stops', async (t) => {
  const { node, server, opened, patch, ask, reason } = await setUpUploads({ limits: { uploadIdleTimeoutMs: 300 } });
  const path = await opened(1_000);
  t.equal((await patch(path, 0, bytes.subarray(0, 10))).status, 204);
  let answer = await ask('GET', path);
  while (answer.status === 204) answer = await ask('GET', path);
  t.same(await reason(answer), [404, 'UPLOAD_UNKNOWN'], 'to ask for it keeps it from nothing');

  const other = await setUpUploads();
  const running = await other.opened(1_000);
  const { closed } = await other.stuck(running, 0, 1_000, bytes.subarray(0, 10));
  await other.server.stop();
  await closed;
  t.equal(node.blobs.size + other.node.blobs.size, 0);
  t.equal((await call(server, 'node_version', {})).error, null, 'the first node goes on');
});

t.test('ranges', (t) => {
  t.same(readRange('bytes=0-', 10), { start: 0, end: 10 });
  t.same(readRange('bytes=3-3', 10), { start: 3, end: 4 });
  t.same(readRange('bytes=-20', 10), { start: 0, end: 10 });
  for (const ignored of [
    undefined,
    '',
    'bytes=',
    'bytes=-',
    'bytes=a-b',
    'items=0-1',
    'bytes=5-3',
    'bytes=0-1,2-3',
    'bytes=0.5-1',
  ]) {
    t.equal(readRange(ignored, 10), undefined, String(ignored));
  }
  for (const beyond of ['bytes=10-', 'bytes=10-20', 'bytes=-0'])
    t.throws(() => readRange(beyond, 10), { code: 'RANGE_NOT_SATISFIABLE' }, beyond);
  t.throws(() => readRange('bytes=0-', 0), { code: 'RANGE_NOT_SATISFIABLE' });
  t.end();
});
