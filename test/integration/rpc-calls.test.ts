import t from 'tap';
import { Ajv } from 'ajv';
import { hexToBytes } from '../../common/bytes.ts';
import { decode } from '../../common/codec.ts';
import { merkleVerify } from '../../common/crypto/merkle.ts';
import { createWasmEngine } from '../../common/crypto/sm2-engine/engine.ts';
import { blockHash, blockHeader, certificate, verifyCertificate } from '../../common/protocol/block.ts';
import { genesis, genesisHash, MAX_GENESIS_BYTES } from '../../common/protocol/genesis.ts';
import { requestEntry, stateKey, statePrefix, prefixRange } from '../../common/protocol/state-entries.ts';
import { verifyProof, verifyRange } from '../../common/protocol/state-proof.ts';
import { encodeSidecar, txHash } from '../../common/protocol/transaction.ts';
import { Blocks } from '../../rpc/blocks.ts';
import { toHex } from '../../rpc/json.ts';
import { METHOD_NAMES, METHODS, type MethodName, type ParamsOf } from '../../rpc/methods.ts';
import { call, ok, refused, testNode, testServer, tokenOf } from './rpc-fixture.ts';
import { tellStory } from './rpc-story.ts';

const story = tellStory();
const node = testNode(story.world);
const server = testServer(node, { openReads: true });
t.teardown(() => server.stop());
const { world } = story;

const JSON_TYPE = { 'content-type': 'application/json', host: 'localhost' };

/** A raw body, as bytes on the wire. */
async function post(payload: string, headers: Record<string, string> = JSON_TYPE, on = server) {
  const response = await on.app.inject({ method: 'POST', url: '/rpc', headers, payload });
  return { status: response.statusCode, text: response.body, body: response.body === '' ? null : response.json() };
}

t.test('every method answers what the table says', async (t) => {
  const ajv = new Ajv({ strict: true });
  const id = (name: string) => toHex(world.who(name).id);
  const tx = toHex(
    world.blocks.at(-3)!.txs.length > 0 ? txHash(world.blocks.at(-3)!.txs[0]!) : txHash(world.blocks.at(-2)!.txs[0]!),
  );
  const raw = toHex(
    world.tx('paula', { kind: 'access.deny', requestHash: story.requests.pending, reason: 'NO' }).tx.bytes,
  );
  const request = toHex(story.requests.granted);
  const record = toHex(story.record);
  const { latest } = (await ok(server, 'emr_getRecord', { recordId: record })).record;
  const upload = await server.app.inject({
    method: 'PUT',
    url: '/blob',
    headers: { host: 'localhost', authorization: `EMR ${tokenOf(node, world.who('alice'))}` },
    payload: Buffer.from('ciphertext'),
  });
  const params: { [M in MethodName]?: ParamsOf<M>[] } = {
    chain_getBlock: [{ height: 3 }, { height: 'latest' }, { hash: toHex(world.blocks[5]!.hash) }, { height: 0 }],
    chain_getCommit: [{ height: 7 }, { height: 0 }],
    chain_getHeaders: [{ fromHeight: 0 }, { fromHeight: 5, limit: 3 }],
    light_getBundle: [{ fromHeight: 1 }],
    chain_getParams: [{ prove: true }],
    tx_submit: [],
    tx_simulate: [{ raw }],
    tx_get: [{ hash: tx }],
    tx_getReceipt: [{ hash: tx }],
    tx_getProof: [{ hash: tx }],
    tx_list: [{}, { account: id('paula') }, { callKind: 'access.approve', limit: 2 }],
    consensus_getValidators: [{}, { height: 4 }],
    state_get: [{ key: toHex(stateKey.params()), prove: true }],
    state_getRange: [{ gte: '0x30', lt: '0x31', prove: true }],
    emr_getRecord: [{ recordId: record, prove: true }],
    emr_listRecords: [{}, { owner: id('paula') }, { orgId: 'hospital-c' }],
    emr_listVersions: [{ recordId: record }],
    emr_getWraps: [{ recordId: record, version: 1 }],
    emr_getPolicy: [{ policyRef: toHex(story.policy), prove: true }],
    emr_listPolicyVersions: [{ policyRef: toHex(story.policy) }],
    emr_listAmendments: [{ policyRef: toHex(story.policy) }],
    acl_getRevocationStatus: [{ requestHash: toHex(story.requests.revoked) }, { requestHash: request }],
    acl_getAccount: [{ account: id('alice'), prove: true }],
    acl_listAccounts: [{}, { orgId: 'hospital-b', limit: 1 }],
    acl_getRoles: [{ account: id('alice') }],
    acl_getRequest: Object.values(story.requests).map((hash) => ({ requestHash: toHex(hash), prove: true })),
    acl_listRequests: [{}, { recordId: record }, { status: 'granted' }, { requester: id('rita') }],
    acl_getApprovals: [{ requestHash: request }],
    acl_getGrants: [{}, { recordId: record }, { requester: id('bob') }, { recordId: record, requester: id('bob') }],
    acl_checkAccess: [
      { subject: id('bob'), recordId: record, purpose: 'TREAT', prove: true },
      { subject: id('rita'), recordId: record, purpose: 'HRESCH' },
    ],
    acl_getAuditTrail: [
      { recordId: record, prove: true },
      { recordId: record, limit: 2 },
    ],
    blob_getReceipts: [{ cid: upload.json().cid }, { cid: latest!.cid }],
    custody_getShare: [],
    gov_getProposal: [],
    emr_getAmendment: [],
    sub_subscribe: [],
    sub_unsubscribe: [],
    sub_authenticate: [],
  };
  for (const name of METHOD_NAMES) {
    const validate = ajv.compile(METHODS[name].result.json);
    for (const given of params[name] ?? [{}]) {
      const result = await ok(server, name, given as never);
      t.ok(validate(result), `${name} ${JSON.stringify(given)} ${JSON.stringify(validate.errors?.[0] ?? '')}`);
    }
  }
});

t.test('requests as the specification of JSON-RPC 2.0 has them', async (t) => {
  const single = await post('{"jsonrpc":"2.0","id":"a","method":"chain_getHeight"}');
  t.equal(single.body.id, 'a');
  t.equal(single.body.result.height, world.head.header.height);
  t.equal((await post('{"jsonrpc":"2.0","id":9007199254740991,"method":"chain_getHeight"}')).body.id, 9007199254740991);

  const notification = await post('{"jsonrpc":"2.0","method":"chain_getHeight"}');
  t.same([notification.status, notification.text], [204, '']);

  const batch = await post(
    '[{"jsonrpc":"2.0","id":1,"method":"node_version"},{"jsonrpc":"2.0","method":"node_version"},{"x":1},{"jsonrpc":"2.0","id":2,"method":"nope"}]',
  );
  t.same(
    batch.body.map((one: { id: unknown; error?: { code: number } }) => [one.id, one.error?.code ?? 0]),
    [
      [1, 0],
      [null, -32600],
      [2, -32601],
    ],
  );
  t.same((await post('[{"jsonrpc":"2.0","method":"node_version"}]')).status, 204, 'a batch of notifications');
  t.equal((await post('[]')).body.error.data.reason, 'EMPTY_BATCH');
  const many = Array.from({ length: 51 }, (_, id) => ({ jsonrpc: '2.0', id, method: 'node_version' }));
  t.equal((await post(JSON.stringify(many))).body.error.data.reason, 'BATCH_TOO_LARGE');
  t.equal((await post(JSON.stringify(many.slice(1)))).body.length, 50);

  for (const bad of [
    '{"id":1,"method":"node_version"}',
    '{"jsonrpc":"1.0","id":1,"method":"node_version"}',
    '{"jsonrpc":"2.0","id":1.5,"method":"node_version"}',
    '{"jsonrpc":"2.0","id":null,"method":"node_version"}',
    '{"jsonrpc":"2.0","id":{},"method":"node_version"}',
    '{"jsonrpc":"2.0","id":1,"method":7}',
    '{"jsonrpc":"2.0","id":1,"method":"node_version","params":"x"}',
    `{"jsonrpc":"2.0","id":"${'x'.repeat(129)}","method":"node_version"}`,
    '"text"',
    'null',
    '7',
  ]) {
    t.equal((await post(bad)).body.error.code, -32600, bad.slice(0, 60));
  }
});

t.test('parameters by name and by position, checked against the schema', async (t) => {
  const at = async (params: unknown, method = 'chain_getHeader') =>
    (await post(JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }))).body;
  t.equal((await at([2])).result.header.height, 2);
  t.equal((await at({ height: 2 })).result.header.height, 2);
  t.equal((await at([null, toHex(world.blocks[4]!.hash)])).result.header.height, 4, 'null leaves an optional one out');
  t.equal((await at(['latest'])).result.header.height, world.head.header.height);
  for (const height of [-1, 1.5, 2 ** 53, '2', '0x2', 'newest', true, [2], {}]) {
    const { error } = await at({ height });
    t.equal(error?.code, -32602, `height ${JSON.stringify(height)}`);
    t.match(error.message, /^params\.height /);
  }
  t.equal((await at([1, toHex(world.head.hash), 3])).error.code, -32602, 'too many');
  t.match((await at({ heigth: 1 })).error.message, /additional properties \(heigth\)/);
  t.equal((await at({ height: 10_000 })).error.data.reason, 'HEIGHT_AHEAD');
  for (const account of ['0x', `0x${'ab'.repeat(21)}`, `0x${'AB'.repeat(20)}`, 'ab'.repeat(20), 7]) {
    t.equal((await at({ account }, 'acl_getAccount')).error.code, -32602, `account ${String(account)}`);
  }
  t.equal((await at({ limit: 101 }, 'emr_listRecords')).error.code, -32602);
  t.equal((await at({ limit: 0 }, 'emr_listRecords')).error.code, -32602);
  t.equal((await at({ __proto__: null, constructor: 1 }, 'node_info')).error.code, -32602);
  t.equal((await at(undefined, 'constructor')).error.code, -32601);
  t.equal((await at(undefined, '__proto__')).error.code, -32601);
});

t.test('what goes wrong below JSON-RPC still comes out as a JSON-RPC error', async (t) => {
  const shape = (answer: {
    body: { jsonrpc: string; id: unknown; error: { code: number; data: { reason: string; requestId: string } } };
  }) => {
    t.equal(answer.body.jsonrpc, '2.0');
    t.equal(answer.body.id, null);
    t.match(answer.body.error.data.requestId, /^[0-9a-f]{12}$/);
    return [answer.body.error.code, answer.body.error.data.reason];
  };
  const large = await post(`"${'x'.repeat(1024 * 1024)}"`);
  t.same([large.status, ...shape(large)], [413, -32600, 'BODY_TOO_LARGE']);
  const type = await post('{}', { 'content-type': 'text/plain', host: 'localhost' });
  t.same([type.status, ...shape(type)], [415, -32600, 'WRONG_CONTENT_TYPE'], 'what browsers send without asking');
  for (const text of ['', '{', 'nonsense', '{"a":1}}', '\u0000']) {
    const answer = await post(text);
    t.same([answer.status, ...shape(answer)], [400, -32700, 'NOT_JSON'], JSON.stringify(text));
  }
  const deep = await post('['.repeat(17) + ']'.repeat(17));
  t.same([deep.status, ...shape(deep)], [400, -32700, 'JSON_TOO_DEEP']);
  t.same((await post('['.repeat(500_000))).body.error.data.reason, 'JSON_TOO_DEEP', 'and no stack overflow');
  const brackets = '{"jsonrpc":"2.0","id":1,"method":"' + '['.repeat(40) + '\\"[[' + '"}';
  t.equal((await post(brackets)).body.error.code, -32601, 'brackets inside of text do not nest');

  for (const url of [
    '/nothing',
    '/explorer/../server.ts',
    '/explorer/%2e%2e%2fserver.ts',
    '/rpc/',
    `/blob/${'a'.repeat(200)}`,
    '/%zz',
  ]) {
    const response = await server.app.inject({ url, headers: { host: 'localhost' } });
    t.equal(response.statusCode, 404, url);
    t.equal(response.json().error.code, -32001, url);
  }
  t.equal(
    (await server.app.inject({ url: '/rpc', headers: { host: 'localhost' } })).json().error.code,
    -32001,
    'GET /rpc',
  );
  t.equal(
    (await server.app.inject({ url: '/ws', headers: { host: 'localhost' } })).json().error.data.reason,
    'WEBSOCKET_ONLY',
  );
});

t.test('a failure of the node tells the caller nothing but the request id', async (t) => {
  const broken = testNode(story.world);
  const at = testServer(broken, { openReads: true });
  t.teardown(() => at.stop());
  broken.knobs.beforeRead = () => Promise.reject(new Error('secret path /var/lib/emrchain'));
  const { error } = await call(at, 'chain_getParams', {});
  t.same([error?.code, error?.data.reason, error?.data.retryable], [-32603, 'INTERNAL', true]);
  t.notMatch(error?.message, /secret/);
  t.equal(broken.failures.length, 1, 'the log has it');
  t.same(broken.calls.at(-1), { method: 'chain_getParams', status: 'error', code: -32603 });
});

t.test('who may speak through a browser', async (t) => {
  const guarded = testServer(testNode(story.world), {
    allowedOrigins: ['https://ehr.example'],
    publicOrigins: ['https://node.hospital-a.example'],
  });
  t.teardown(() => guarded.stop());
  const get = (headers: Record<string, string>, method: 'GET' | 'OPTIONS' = 'GET') =>
    guarded.app.inject({ method, url: '/healthz', headers });
  for (const host of [
    'localhost',
    'localhost:8545',
    '127.0.0.1:8545',
    '[::1]:8545',
    '10.1.2.3',
    'node.hospital-a.example',
    'LOCALHOST',
  ]) {
    t.equal((await get({ host })).statusCode, 200, host);
  }
  for (const host of [
    'evil.example',
    'localhost.evil.example',
    'localhost@evil.example',
    'node.hospital-a.example:99',
    '127.0.0.1.evil.example',
    'x y',
    'localhost/',
  ]) {
    const response = await get({ host });
    t.equal(response.statusCode, 403, host);
    t.equal(response.json().error.data.reason, 'HOST_NOT_ALLOWED', host);
  }
  for (const origin of [
    'https://evil.example',
    'null',
    'http://localhost:1',
    'https://localhost',
    'http://ehr.example',
  ]) {
    const response = await get({ host: 'localhost', origin });
    t.equal(response.json().error?.data.reason, 'ORIGIN_NOT_ALLOWED', origin);
    t.equal(response.headers['access-control-allow-origin'], undefined, origin);
  }
  t.equal((await get({ host: 'localhost', origin: 'http://localhost' })).statusCode, 200, 'its own page');
  const allowed = await get({ host: 'localhost', origin: 'https://ehr.example' });
  t.equal(allowed.headers['access-control-allow-origin'], 'https://ehr.example');
  t.equal((await get({ host: 'localhost', origin: 'https://ehr.example' }, 'OPTIONS')).statusCode, 204);
  t.equal(allowed.headers['x-content-type-options'], 'nosniff');
  t.equal(allowed.headers['x-frame-options'], 'DENY');
});

t.test('more than a caller may do at a time', async (t) => {
  const slow = testServer(testNode(story.world), { limits: { requestsPerMinute: 10 } });
  t.teardown(() => slow.stop());
  const batch = JSON.stringify(Array.from({ length: 50 }, (_, id) => ({ jsonrpc: '2.0', id, method: 'node_version' })));
  const answers = [...(await post(batch, JSON_TYPE, slow)).body, ...(await post(batch, JSON_TYPE, slow)).body];
  t.ok(answers.every((one: { result?: unknown }) => one.result !== undefined));
  const over = (await post(batch, JSON_TYPE, slow)).body;
  t.equal(over.error?.code ?? over[1].error.code, -32006);
  t.equal(
    (await slow.app.inject({ url: '/healthz', headers: { host: 'localhost' } })).statusCode,
    200,
    'health always answers',
  );
  t.equal((await slow.app.inject({ url: '/explorer/', headers: { host: 'localhost' } })).statusCode, 429);
});

t.test('methods that the operator turned off', async (t) => {
  const small = testServer(testNode(story.world), { openReads: true, disabledMethods: ['tx_simulate'] });
  t.teardown(() => small.stop());
  const { error } = await call(small, 'tx_simulate', { raw: '0x00' });
  t.same([error?.code, error?.data.reason], [-32604, 'DISABLED_BY_OPERATOR']);
  t.notOk(
    (await ok(small, 'rpc.discover', {}))['methods'] instanceof Array &&
      JSON.stringify(await ok(small, 'rpc.discover', {})).includes('"tx_simulate"'),
  );
  t.equal(await refused(small, 'sub_subscribe', { topic: 'newBlocks' }), 'WEBSOCKET_ONLY');
});

t.test('the OpenRPC document is the table', async (t) => {
  const document = (await server.app.inject({ url: '/openrpc.json', headers: { host: 'localhost' } })).json();
  t.same(document, JSON.parse(JSON.stringify(await ok(server, 'rpc.discover', {}))));
  t.same(
    document.methods.map(({ name }: { name: string }) => name),
    METHOD_NAMES,
  );
  const submit = document.methods.find(({ name }: { name: string }) => name === 'tx_submit');
  t.same(
    submit.params.map(({ name, required }: { name: string; required: boolean }) => [name, required]),
    [
      ['raw', true],
      ['sidecar', false],
      ['mode', false],
      ['timeoutMs', false],
    ],
  );
});

t.test('health, readiness and metrics', async (t) => {
  const get = async (url: string) => {
    const response = await server.app.inject({ url, headers: { host: 'localhost' } });
    return { status: response.statusCode, body: response.body };
  };
  t.equal((await get('/healthz')).status, 200);
  t.equal((await get('/readyz')).status, 200);
  t.equal((await get('/readyz?minPeers=3&maxBlocksBehind=0&maxBlockAgeMs=60000')).status, 200);
  t.equal((await get('/readyz?minPeers=4')).status, 503);
  for (const bad of ['minPeers=x', 'minPeers=-1', 'maxBlockAgeMs=1.5', 'minPeers=1&minPeers=2'])
    t.equal((await get(`/readyz?${bad}`)).status, 400, bad);
  node.knobs.syncing = true;
  t.equal((await get('/readyz')).status, 503);
  t.equal((await get('/readyz?maxBlocksBehind=5')).status, 200);
  node.knobs.syncing = false;
  node.knobs.clockMs = world.now + 120_000;
  t.equal((await get('/readyz?maxBlockAgeMs=60000')).status, 503);
  node.knobs.clockMs = null;
  t.match((await get('/metrics')).body, /emrchain_height 1/);
  const open = testServer(testNode(story.world), { host: '0.0.0.0' });
  t.teardown(() => open.stop());
  t.equal(
    (await open.app.inject({ url: '/metrics', headers: { host: '10.0.0.1' } })).json().error.data.reason,
    'METRICS_CLOSED',
  );
});

t.test('pages: whole, in order, and their cursors say nothing and fit nothing else', async (t) => {
  const all = await ok(server, 'acl_listAccounts', { limit: 100 });
  const paged = [];
  let cursor: string | undefined;
  do {
    const page = await ok(server, 'acl_listAccounts', { limit: 4, cursor });
    t.ok(page.items.length <= 4);
    paged.push(...page.items);
    cursor = page.nextCursor ?? undefined;
  } while (cursor !== undefined);
  t.same(paged, all.items);
  const { nextCursor } = await ok(server, 'acl_listAccounts', { limit: 1 });
  t.notMatch(Buffer.from(nextCursor!, 'base64url').toString('hex'), all.items[0]!.id.slice(2));
  t.equal(
    await refused(server, 'acl_listAccounts', { limit: 1, cursor: nextCursor!, orgId: 'hospital-b' }),
    'BAD_CURSOR',
  );
  t.equal(await refused(server, 'emr_listPolicies', { cursor: nextCursor! }), 'BAD_CURSOR');
  t.equal(await refused(server, 'acl_listAccounts', { cursor: `${nextCursor!.slice(0, -2)}AA` }), 'BAD_CURSOR');
  t.equal(await refused(server, 'acl_listAccounts', { cursor: 'AA' }), 'BAD_CURSOR');

  const hashes = [];
  let before: string | undefined;
  do {
    const page = await ok(server, 'tx_list', { limit: 3, cursor: before });
    hashes.push(...page.items.map(({ hash }) => hash));
    before = page.nextCursor ?? undefined;
  } while (before !== undefined);
  t.same(hashes, world.blocks.flatMap(({ txs }) => txs.map((bytes) => toHex(txHash(bytes)))).reverse());
});

t.test('what is proven verifies with nothing but the certificate', async (t) => {
  const engine = createWasmEngine();
  const document = await ok(server, 'chain_getGenesis', {});
  const decoded = decode(genesis, hexToBytes(document.bytes), MAX_GENESIS_BYTES);
  t.ok(decoded.ok && toHex(genesisHash(decoded.value)) === document.chainId);
  const key = stateKey.request(story.requests.granted);
  const { value, proof, atHeight } = await ok(server, 'state_get', { key: toHex(key), prove: true });
  const commit = await ok(server, 'chain_getCommit', { height: atHeight });
  const header = decode(blockHeader, hexToBytes(commit.headerBytes), 512);
  const cert = decode(certificate, hexToBytes(commit.certificateBytes!), 8_192);
  t.ok(header.ok && cert.ok);
  if (!header.ok || !cert.ok) return;
  const hash = blockHash(hexToBytes(commit.headerBytes));
  t.ok(verifyCertificate(header.value, hash, cert.value, world.genesis.validators, engine).ok);
  const proven = verifyProof(header.value.stateRoot, key, hexToBytes(proof!));
  t.ok(proven.ok && proven.value.present && toHex(proven.value.value) === value);
  t.ok(decode(requestEntry, hexToBytes(value!), 65_536).ok);

  const range = prefixRange(statePrefix.audit(story.record));
  const entries = await ok(server, 'state_getRange', {
    gte: toHex(range.gte),
    lt: toHex(range.lt),
    limit: 5,
    prove: true,
  });
  const complete = verifyRange(
    header.value.stateRoot,
    { gte: range.gte, lt: hexToBytes(entries.provenLt!) },
    hexToBytes(entries.proof!),
  );
  t.ok(complete.ok && complete.value.length === 5 && entries.more);

  const inclusion = await ok(server, 'tx_getProof', { hash: toHex(txHash(world.blocks[9]!.txs[0]!)) });
  const of = decode(blockHeader, hexToBytes(inclusion.headerBytes), 512);
  t.ok(of.ok);
  if (!of.ok) return;
  const check = (root: Uint8Array, leaf: string, { index, total, path }: typeof inclusion.txProof) =>
    merkleVerify(
      root,
      hexToBytes(leaf),
      index,
      total,
      path.map((one) => hexToBytes(one)),
    );
  t.ok(check(of.value.txRoot, inclusion.raw, inclusion.txProof));
  t.ok(check(of.value.receiptsRoot, inclusion.receiptBytes, inclusion.receiptProof));
});

t.test('a block that many wait for is read once', async (t) => {
  const { chain } = node.ports;
  const reads: number[] = [];
  const block = (height: number) => {
    reads.push(height);
    return chain.block(height);
  };
  const blocks = new Blocks({ ...chain, block });
  const [first, ...others] = await Promise.all([3, 3, 3, 4].map((height) => blocks.load(height)));
  t.same(reads, [3, 4]);
  t.equal(others[0], first);
  t.equal(await blocks.load(3), first);
  t.equal(first?.decoded, first?.decoded, 'decoded once');
  await t.rejects(Promise.all([blocks.load(10_000), blocks.load(10_000)]));
  t.same(reads.slice(2), [10_000]);
  await t.rejects(blocks.load(10_000), 'a failure is not kept');
});

t.test('what is pruned is called pruned', async (t) => {
  node.knobs.lowestHeight = 5;
  t.equal(await refused(server, 'chain_getBlock', { height: 4 }), 'PRUNED');
  t.equal((await call(server, 'chain_getHeaders', { fromHeight: 0 })).error?.code, -32002);
  t.equal((await ok(server, 'chain_getHeight', {})).lowestHeight, 5);
  t.equal((await call(server, 'tx_get', { hash: toHex(txHash(world.blocks[2]!.txs[0]!)) })).error?.code, -32002);
  t.equal(
    (
      await call(server, 'acl_checkAccess', {
        subject: toHex(world.who('bob').id),
        recordId: toHex(story.record),
        purpose: 'TREAT',
        height: 3,
      })
    ).error?.code,
    -32002,
  );
  node.knobs.lowestHeight = 0;
});

t.test('an answer that cannot be put together at one height is a conflict', async (t) => {
  const told = tellStory();
  const moving = testNode(told.world);
  const at = testServer(moving, { openReads: true });
  t.teardown(() => at.stop());
  const requestHash = toHex(told.requests.pending);
  await ok(at, 'acl_getRequest', { requestHash });
  moving.knobs.beforeRead = async () => moving.mine();
  const { error } = await call(at, 'acl_getRequest', { requestHash });
  t.same([error?.code, error?.data.reason, error?.data.retryable], [-32008, 'STATE_MOVED', true]);
});

t.test('submitting', async (t) => {
  const own = tellStory();
  const at = testNode(own.world);
  const rpc = testServer(at);
  t.teardown(() => rpc.stop());
  const next = (reason: string) =>
    own.world.tx('paula', { kind: 'access.deny', requestHash: own.requests.pending, reason });

  const bytes = next('BUSY').tx.bytes;
  const first = await ok(rpc, 'tx_submit', { raw: toHex(bytes) });
  t.same(first, { hash: toHex(txHash(bytes)), status: 'accepted', height: null, index: null, receipt: null });
  t.equal((await ok(rpc, 'tx_submit', { raw: toHex(bytes) })).status, 'accepted', 'again, and it is the same');
  t.equal((await ok(rpc, 'tx_get', { hash: first.hash })).status, 'pending');
  t.equal((await call(rpc, 'tx_submit', { raw: toHex(bytes), mode: 'committed', timeoutMs: 100 })).error?.code, -32005);

  const waiting = ok(rpc, 'tx_submit', { raw: toHex(bytes), mode: 'committed' });
  await ok(rpc, 'node_version', {});
  at.mine();
  const done = await waiting;
  t.same(
    [done.status, done.height, done.receipt?.events[0]?.type],
    ['committed', own.world.head.header.height, 'access.deny'],
  );
  t.same(await ok(rpc, 'tx_submit', { raw: toHex(bytes) }), done, 'long after, too');

  for (const [raw, code] of [
    ['0x00', 'MALFORMED'],
    [`${toHex(next('X').tx.bytes)}00`, 'MALFORMED'],
    [toHex(next('X').tx.bytes), 'NOT_PENDING'],
  ] as const) {
    const { error } = await call(rpc, 'tx_submit', { raw });
    t.same([error?.code, error?.data.reason, error?.data.retryable], [-32003, code, false], code);
    const simulated = await ok(rpc, 'tx_simulate', { raw });
    t.same([simulated.accepted, simulated.code], [false, code]);
  }
  t.equal(
    (await call(rpc, 'tx_submit', { raw: `0x${'00'.repeat(16 * 1024 + 1)}` })).error?.code,
    -32602,
    'longer than any',
  );

  // One of two that exclude each other is dropped when the block is made; whoever waits for it is told.
  const call2 = own.world.enrolCall(own.world.newActor('hospital-a', null), 'patient');
  const [left, right] = [own.world.tx('admin@a', call2), own.world.tx('admin@a', call2)];
  const both = [left, right].map(({ tx }) => call(rpc, 'tx_submit', { raw: toHex(tx.bytes), mode: 'committed' }));
  for (let tries = 0; tries < 100 && (await ok(rpc, 'node_status', {})).pendingTransactions < 2; tries += 1);
  at.mine();
  const [kept, lost] = await Promise.all(both);
  t.equal(kept?.error, null);
  t.same([lost?.error?.code, lost?.error?.data.reason], [-32003, 'KEY_ALREADY_USED']);
  t.equal(await refused(rpc, 'tx_get', { hash: toHex(right.tx.hash) }), 'KEY_ALREADY_USED');

  for (let index = 0; index < 10; index += 1) {
    const actor = { ...own.world.newActor('hospital-a', null) };
    await ok(rpc, 'tx_submit', { raw: toHex(own.world.tx('admin@a', own.world.enrolCall(actor, 'patient')).tx.bytes) });
  }
  const full = own.world.tx('admin@a', own.world.enrolCall(own.world.newActor('hospital-a', null), 'patient'));
  t.same((await call(rpc, 'tx_submit', { raw: toHex(full.tx.bytes) })).error?.code, -32004);
  const sidecar = own.world.wraps();
  const create = own.world.tx('alice', own.world.createCall('paula', own.policy), { sidecar });
  const simulated = await ok(rpc, 'tx_simulate', {
    raw: toHex(create.tx.bytes),
    sidecar: toHex(encodeSidecar(sidecar)),
  });
  t.same([simulated.accepted, simulated.events[0]?.type], [true, 'record.create']);
  t.equal((await ok(rpc, 'tx_simulate', { raw: toHex(create.tx.bytes) })).code, 'SIDECAR_MISSING');
});
