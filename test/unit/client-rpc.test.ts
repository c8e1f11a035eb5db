/** Nodes that are slow, wrong or hostile: what the client makes of them. */
import t from 'tap';
import { Home } from '../../client/home.ts';
import { meetNode } from '../../client/network.ts';
import { authorizer } from '../../client/reader-token.ts';
import { MAX_RESPONSE_BYTES, RpcClient, parseRpcUrl } from '../../client/rpc-client.ts';
import { ChainView } from '../../client/chain-view.ts';
import { execute } from '../../client/transactions.ts';
import { downloadBlob } from '../../client/blob-download.ts';
import { uploadBlob } from '../../client/blob-upload.ts';
import { accountEntry, stateKey } from '../../common/protocol/state-entries.ts';
import { ChainWorld } from '../integration/rpc-fixture.ts';
import { A } from './vm-world.ts';
import { ClientWorld, codeOf, rogue } from './client-world.ts';

const VERSION = { version: '1', rpcVersion: '1', nodejs: 'v24' };
const result = (id: unknown, value: unknown) => JSON.stringify({ jsonrpc: '2.0', id, result: value });
const idOf = (body: string): unknown => (JSON.parse(body) as { id: unknown }).id;

t.test('addresses of nodes', (t) => {
  t.equal(parseRpcUrl('http://localhost:8545').origin, 'http://localhost:8545');
  t.equal(new RpcClient('https://example.org/emr/').base, 'https://example.org/emr');
  t.equal(new RpcClient('http://localhost:8545/rpc').base, 'http://localhost:8545', 'as nodes print it');
  for (const bad of ['localhost:8545', 'ftp://x', 'http://user:pw@x', 'http://x?y', '', 'http://']) {
    t.throws(() => parseRpcUrl(bad), { code: 'RPC_URL_INVALID' }, bad || 'empty');
  }
  t.end();
});

t.test('answers that are none', async (t) => {
  const answers: Record<string, (body: string) => [number, string]> = {
    'no JSON': () => [200, '<html>'],
    'a list': () => [200, '[]'],
    'another id': () => [200, result(999, VERSION)],
    'no result': (body) => [200, JSON.stringify({ jsonrpc: '2.0', id: idOf(body) })],
    'another protocol': (body) => [200, JSON.stringify({ id: idOf(body), result: VERSION })],
    'the wrong shape': (body) => [200, result(idOf(body), { version: 1 })],
    'a proxy error': () => [502, 'Bad Gateway'],
  };
  for (const [name, answer] of Object.entries(answers)) {
    const server = await rogue((_request, body, response) => {
      const [status, text] = answer(body);
      response.writeHead(status).end(text);
    });
    t.equal(await codeOf(new RpcClient(server.url).call('node_version', {})), 'RESPONSE_INVALID', name);
    await server.close();
  }
});

t.test('what a newer node adds is passed over', async (t) => {
  const server = await rogue(
    (_request, body, response) => void response.end(result(idOf(body), { ...VERSION, more: 1 })),
  );
  t.same(await new RpcClient(server.url).call('node_version', {}), VERSION);
  await server.close();
});

t.test('an answer without end is cut off', async (t) => {
  const server = await rogue((_request, _body, response) => {
    const piece = Buffer.alloc(1024 * 1024, 0x20);
    const pour = (): void => {
      if (!response.destroyed && response.write(piece)) setImmediate(pour);
      else response.once('drain', pour);
    };
    pour();
  });
  t.equal(await codeOf(new RpcClient(server.url).call('node_version', {})), 'RESPONSE_TOO_LARGE');
  t.ok(MAX_RESPONSE_BYTES >= 8 * 1024 * 1024, 'the largest proof fits');
  await server.close();
});

t.test('errors of the node keep their code and get a remedy', async (t) => {
  const say = async (error: unknown) => {
    const server = await rogue(
      (_request, body, response) => void response.end(JSON.stringify({ jsonrpc: '2.0', id: idOf(body), error })),
    );
    try {
      await new RpcClient(server.url).call('node_version', {});
    } catch (thrown) {
      return thrown as { code: string; message: string; remedy: string };
    } finally {
      await server.close();
    }
    throw new Error('no error');
  };
  t.match(await say({ code: -32003, message: 'the role has expired', data: { reason: 'ROLE_EXPIRED' } }), {
    code: 'ROLE_EXPIRED',
    message: 'The role has expired.',
    remedy: /role grant/,
  });
  t.match(await say({ code: -32007, message: 'no', data: { reason: 'NEW_REASON' } }), {
    code: 'NEW_REASON',
    remedy: /--as/,
  });
  t.match(await say({ code: -1, message: 'a\u001b[2Jb', data: { reason: 'not a code' } }), {
    code: 'NODE_ERROR',
    message: 'A\\u{1b}[2Jb.',
  });
  t.match(await say('nonsense'), { code: 'NODE_ERROR' });
});

t.test('reads are repeated, submissions are not', async (t) => {
  let failures = 2;
  const server = await rogue((_request, body, response) => {
    if (failures-- > 0)
      response.end(JSON.stringify({ jsonrpc: '2.0', id: idOf(body), error: { code: -32008, message: 'moved' } }));
    else response.end(result(idOf(body), VERSION));
  });
  t.same(await new RpcClient(server.url).call('node_version', {}), VERSION);
  t.equal(server.calls.length, 3);
  failures = 1;
  server.calls.length = 0;
  t.equal(await codeOf(new RpcClient(server.url).call('tx_submit', { raw: '0x00' })), 'NODE_ERROR');
  t.equal(server.calls.length, 1);
  await server.close();
  t.equal(await codeOf(new RpcClient(server.url).call('node_version', {})), 'NODE_UNREACHABLE');
});

t.test('a node that says nothing is left after a time; redirects are not followed', async (t) => {
  const server = await rogue((_request, body, response) => {
    if (body.includes('node_info')) response.writeHead(307, { location: 'http://127.0.0.1:1/' }).end();
  });
  t.equal(await codeOf(new RpcClient(server.url).call('node_version', {}, { timeoutMs: 50 })), 'NODE_TIMEOUT');
  t.equal(await codeOf(new RpcClient(server.url).call('node_info', {})), 'NODE_UNREACHABLE');
  await server.close();
});

t.test('chain and node are pinned at the first meeting', async (t) => {
  const world = new ChainWorld({ alice: { org: A, roles: ['physician'] } });
  const clients = new ClientWorld(world);
  await clients.start();
  t.teardown(() => clients.stop());
  const home = new Home(clients.folder());
  const alter = { chainId: undefined as string | undefined, nodeId: undefined as string | undefined };
  const proxy = await rogue(async (_request, body, response) => {
    const answer = await fetch(`${clients.url}/rpc`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    });
    const said = (await answer.json()) as { result: Record<string, unknown> };
    for (const [name, value] of Object.entries(alter))
      if (value !== undefined && name in said.result) said.result[name] = value;
    response.end(JSON.stringify(said));
  });
  t.teardown(() => proxy.close());

  const met: unknown[] = [];
  const meet = () => meetNode(home, new RpcClient(proxy.url), { announce: (contact) => void met.push(contact) });
  const node = await meet();
  t.same(node.chainId, world.chainId);
  t.match(met, [{ network: 'test', orgId: world.genesis.validators[0]?.orgId }]);
  await meet();
  t.equal(met.length, 1, 'announced once');

  alter.nodeId = `0x${'11'.repeat(20)}`;
  t.equal(await codeOf(meet()), 'NODE_PIN_MISMATCH');
  alter.chainId = `0x${'22'.repeat(32)}`;
  t.equal(await codeOf(meet()), 'CHAIN_PIN_MISMATCH');
  t.equal(
    await codeOf(meetNode(new Home(clients.folder()), new RpcClient(proxy.url))),
    'GENESIS_INVALID',
    'a genesis of another chain id',
  );
  alter.chainId = undefined;
  await meetNode(home, new RpcClient(proxy.url), { replace: true });
  t.ok(await meet(), 'pinned anew by explicit wish only');
});

t.test('a node cannot show what its chain does not hold', async (t) => {
  const world = new ChainWorld({ alice: { org: A, roles: ['physician'] } });
  world.patient('paula');
  const clients = new ClientWorld(world);
  await clients.start();
  t.teardown(() => clients.stop());
  let twist: (method: string, result: Record<string, unknown>) => void = () => undefined;
  const proxy = await rogue(async (request, body, response) => {
    const answer = await fetch(`${clients.url}/rpc`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        ...(request.headers.authorization === undefined ? {} : { authorization: request.headers.authorization }),
      },
      body,
    });
    const said = (await answer.json()) as { result?: Record<string, unknown> };
    if (said.result !== undefined) twist((JSON.parse(body) as { method: string }).method, said.result);
    response.end(JSON.stringify(said));
  });
  t.teardown(() => proxy.close());
  const key = clients.key('alice');
  const home = new Home(clients.folder());
  const node = await meetNode(home, new RpcClient(proxy.url));
  // The token is for the origin that is dialled, which behind this proxy is another: reads are open instead.
  const open = new ClientWorld(world);
  await open.start({ openReads: true });
  t.teardown(() => open.stop());
  clients.url = open.url;
  const view = () => new ChainView(new RpcClient(proxy.url), node);
  const read = () => view().entry(stateKey.account(key.account), accountEntry, 'the account');
  t.same((await read()).value.id, key.account);

  const flipAt = (text: unknown, from: number): string => {
    const hex = String(text);
    const at = hex.length - from;
    return `${hex.slice(0, at)}${hex[at] === '0' ? '1' : '0'}${hex.slice(at + 1)}`;
  };
  twist = (method, result) => {
    if (method === 'state_get') result['proof'] = flipAt(result['proof'], 9);
  };
  t.equal(await codeOf(read()), 'PROOF_INVALID', 'a changed proof');
  twist = (method, result) => {
    if (method === 'state_get') result['proof'] = null;
  };
  t.equal(await codeOf(read()), 'PROOF_MISSING', 'no proof');
  twist = (method, result) => {
    if (method === 'chain_getCommit') result['certificateBytes'] = flipAt(result['certificateBytes'], 9);
  };
  t.equal(await codeOf(read()), 'PROOF_INVALID', 'a changed certificate');
  twist = (method, result) => {
    if (method === 'chain_getCommit') result['headerBytes'] = flipAt(result['headerBytes'], 200);
  };
  t.equal(await codeOf(read()), 'PROOF_INVALID', 'a changed header');
  twist = (method, result) => {
    if (method === 'chain_getCommit' || method === 'state_get') result['atHeight'] = 1;
  };
  world.patient('petra');
  t.equal(await codeOf(read()), 'PROOF_INVALID', 'the header of another height');

  twist = (method, result) => {
    if (method === 'tx_getProof') result['receiptBytes'] = flipAt(result['receiptBytes'], 9);
  };
  const call = { kind: 'account.vetoRecovery' } as const;
  t.equal(
    await codeOf(execute(view(), { account: key.account, signer: key.signer }, call, { nowMs: clients.nowMs })),
    'RECOVERY_NOT_PENDING',
  );
  const attending = {
    patient: clients.key('paula').account,
    physician: key.account,
    expiresAtMs: world.now + 1_000_000,
  };
  const paula = clients.key('paula');
  const set = { kind: 'attending.set', relation: attending, countersignature: null } as const;
  t.equal(
    await codeOf(execute(view(), { account: paula.account, signer: paula.signer }, set, { nowMs: clients.nowMs })),
    'PROOF_INVALID',
    'a changed receipt',
  );
});

t.test('a transaction that no block takes', async (t) => {
  const world = new ChainWorld({ alice: { org: A, roles: ['physician'] } });
  const clients = new ClientWorld(world);
  await clients.start();
  t.teardown(() => clients.stop());
  const { key } = await clients.client('alice');
  const home = new Home(clients.folder());
  const node = await meetNode(home, new RpcClient(clients.url));
  const submissions: string[] = [];
  const server = await rogue((_request, body, response) => {
    const { id, params } = JSON.parse(body) as { id: number; params: { raw: string } };
    submissions.push(params.raw);
    response.end(
      JSON.stringify({
        jsonrpc: '2.0',
        id,
        error: { code: -32005, message: 'not yet', data: { reason: 'COMMIT_TIMEOUT' } },
      }),
    );
  });
  t.teardown(() => server.close());
  const rpc = new RpcClient(server.url, { authorize: authorizer(node, key.signer, clients.nowMs) });
  const waited: number[] = [];
  const failed = execute(
    new ChainView(rpc, node),
    { account: key.account, signer: key.signer },
    { kind: 'account.vetoRecovery' },
    {
      deadlineMs: 1_200,
      onWaiting: (ms) => void waited.push(ms),
    },
  );
  t.equal(await codeOf(failed), 'COMMIT_TIMEOUT');
  t.ok(submissions.length > 1 && waited.length > 1, 'it is given again');
  t.equal(new Set(submissions).size, 1, 'the very same bytes');
});

t.test('transfers', async (t) => {
  const source = async function* (bytes: number) {
    for (let left = bytes; left > 0; left -= 65_536) yield new Uint8Array(Math.min(left, 65_536));
  };
  const refusing = await rogue(() => undefined);
  await refusing.close();
  t.equal(
    await codeOf(uploadBlob(new RpcClient(refusing.url), source(1_000), 1_000)),
    'TRANSFER_BROKEN',
    'nobody is there',
  );

  let opens = false;
  const server = await rogue((request, _body, response) => {
    if (request.method === 'POST' && opens)
      response.writeHead(201, { location: `/blob/uploads/${'ab'.repeat(16)}` }).end();
    else if (request.method !== 'GET')
      response
        .writeHead(403)
        .end(JSON.stringify({ error: { code: -32007, message: 'full', data: { reason: 'BLOB_QUOTA' } } }));
    else response.writeHead(206, { 'content-length': 20 }).end(new Uint8Array(20));
  });
  t.teardown(() => server.close());
  const rpc = new RpcClient(server.url);
  t.equal(await codeOf(uploadBlob(rpc, source(300_000), 300_000)), 'BLOB_QUOTA', "the node's reason, before a byte");
  opens = true;
  t.equal(await codeOf(uploadBlob(rpc, source(300_000), 300_000)), 'BLOB_QUOTA', 'and later');
  const failing = async function* () {
    yield new Uint8Array(10);
    throw Object.assign(new Error('the disk is gone'), { code: 'EIO' });
  };
  t.equal(await codeOf(uploadBlob(rpc, failing(), 1_000)), 'EIO', "the source's own error");
  const clients = new ClientWorld(new ChainWorld());
  t.teardown(() => clients.stop());
  const path = `${clients.folder()}/part`;
  t.equal(await codeOf(downloadBlob(rpc, 'bcid', 10, path)), 'TRANSFER_BROKEN', 'more bytes than asked for');
});
