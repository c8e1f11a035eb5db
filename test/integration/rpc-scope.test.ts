import t from 'tap';
import { H } from '../../common/crypto/hash.ts';
import { publicKeyOf } from '../../common/crypto/sm2.ts';
import { stateKey, statePrefix, prefixRange } from '../../common/protocol/state-entries.ts';
import { encodeSidecar, sidecarHash, txHash } from '../../common/protocol/transaction.ts';
import { toHex } from '../../rpc/json.ts';
import { METHOD_NAMES, METHODS, type MethodDefinition, type MethodName } from '../../rpc/methods.ts';
import type { ReleaseReply } from '../../rpc/index.ts';
import { MINUTE, newKey } from '../unit/vm-world.ts';
import { call, ok, refused, testNode, testServer, tokenOf } from './rpc-fixture.ts';
import { tellStory } from './rpc-story.ts';

function setUp() {
  const story = tellStory();
  const node = testNode(story.world);
  const server = testServer(node);
  t.teardown(() => server.stop());
  const id = (name: string) => toHex(story.world.who(name).id);
  const token = (name: string) => tokenOf(node, story.world.who(name));
  return { story, node, server, id, token };
}

t.test('a token is for one network, node and origin, and for a short time', async (t) => {
  const { story, node, server } = setUp();
  const bob = story.world.who('bob');
  const why = (more: Parameters<typeof tokenOf>[2]) => refused(server, 'chain_getParams', {}, tokenOf(node, bob, more));
  t.ok(await ok(server, 'chain_getParams', {}, tokenOf(node, bob)));
  const now = node.ports.node.nowMs();
  t.equal(await why({ network: 'other' }), 'TOKEN_WRONG_NETWORK');
  t.equal(await why({ chainId: H('other') }), 'TOKEN_WRONG_NETWORK');
  t.equal(await why({ nodeId: story.world.genesis.validators[1]!.address }), 'TOKEN_WRONG_NODE');
  t.equal(await why({ origin: 'http://localhost:8546' }), 'TOKEN_WRONG_ORIGIN');
  t.equal(await why({ origin: 'https://localhost' }), 'TOKEN_WRONG_ORIGIN');
  t.equal(await why({ notAfterMs: now }), 'TOKEN_EXPIRED');
  t.equal(await why({ notAfterMs: now + 15 * MINUTE + 1 }), 'TOKEN_TOO_LONG');
  t.ok(await ok(server, 'chain_getParams', {}, tokenOf(node, bob, { notAfterMs: now + 15 * MINUTE })));
  t.equal(await why({ signature: new Uint8Array(64).fill(1) }), 'TOKEN_BAD_SIGNATURE');
  t.equal(
    await why({ publicKey: story.world.who('alice').publicKey }),
    'TOKEN_BAD_SIGNATURE',
    'in the name of another',
  );
  t.equal(await refused(server, 'chain_getParams', {}, tokenOf(node, newKey())), 'ACCOUNT_UNKNOWN');
  const known = tokenOf(node, bob);
  for (const bad of ['x', `${known}A`, known.slice(0, -1), `${known.slice(0, -1)}-`, 'A'.repeat(2_000)]) {
    t.equal(await refused(server, 'chain_getParams', {}, bad), 'TOKEN_MALFORMED', bad.slice(0, 20));
  }
  for (const authorization of ['Bearer x', 'EMR', `EMR ${known} ${known}`, `emr ${known}`]) {
    const response = await server.app.inject({
      method: 'POST',
      url: '/rpc',
      headers: { 'content-type': 'application/json', host: 'localhost', authorization },
      payload: '{"jsonrpc":"2.0","id":1,"method":"node_version"}',
    });
    t.equal(response.json().error.data.reason, 'TOKEN_MALFORMED', 'even where no token is needed');
  }
  const lasting = tokenOf(node, bob);
  t.ok(await ok(server, 'chain_getParams', {}, lasting));
  node.knobs.clockMs = now + 10 * MINUTE;
  t.equal(await refused(server, 'chain_getParams', {}, lasting), 'TOKEN_EXPIRED', 'a token that was good before');
});

t.test('an account that may no longer act reads nothing from the next block on', async (t) => {
  const { story, node, server, token } = setUp();
  const { world } = story;
  const [bob, nora] = [token('bob'), token('nora')];
  t.ok(await ok(server, 'chain_getParams', {}, bob));
  world.do('admin@b', { kind: 'account.suspend', account: world.who('bob').id, reason: 'LEFT' });
  t.equal(await refused(server, 'chain_getParams', {}, bob), 'ACCOUNT_SUSPENDED');
  t.ok(await ok(server, 'chain_getParams', {}, nora));
  const fresh = newKey();
  const { publicKey } = fresh;
  world.do('nora', { kind: 'account.rotate', newPublicKey: publicKey, possession: new Uint8Array(64) });
  t.equal(await refused(server, 'chain_getParams', {}, nora), 'KEY_NOT_CURRENT');
  t.ok(await ok(server, 'chain_getParams', {}, tokenOf(node, fresh)), 'the new key, the same account');
  t.same(publicKeyOf(fresh.privateKey), publicKey);
});

t.test('without a token: health, headers, certificates, digests, genesis', async (t) => {
  const { story, server } = setUp();
  const open: MethodName[] = [];
  for (const name of METHOD_NAMES) {
    const { access, transport }: MethodDefinition = METHODS[name];
    if (transport === 'websocket') continue;
    const { error } = await call(server, name, {} as never);
    if (error?.data.reason !== 'TOKEN_REQUIRED') open.push(name);
    t.equal(error?.data.reason === 'TOKEN_REQUIRED', access !== 'public', name);
  }
  t.same(open.sort(), [
    'chain_getBlock',
    'chain_getCommit',
    'chain_getGenesis',
    'chain_getHeader',
    'chain_getHeaders',
    'chain_getHeight',
    'consensus_getValidators',
    'custody_getStatus',
    'light_getBundle',
    'node_info',
    'node_status',
    'node_version',
    'rpc.discover',
    'tx_get',
    'tx_list',
    'tx_simulate',
    'tx_submit',
  ]);
  const block = await ok(server, 'chain_getBlock', { height: story.world.head.header.height - 2 });
  t.ok(
    block.txs.length > 0 &&
      block.txs.every(({ account, callKind, hash }) => account === null && callKind === null && hash),
  );
  const tx = await ok(server, 'tx_get', { hash: block.txs[0]!.hash });
  t.same([tx.visible, tx.call, tx.raw, tx.sidecar, tx.account], [false, null, null, null, null]);
  t.same((await ok(server, 'tx_list', { callKind: 'access.approve' })).items, [], 'a filter tells nothing');
  t.same((await ok(server, 'tx_list', { account: toHex(story.world.who('paula').id) })).items, []);
  t.ok((await ok(server, 'consensus_getValidators', {})).validators.every(({ liveness }) => liveness === null));
});

/** What each reader gets: `full`, `request`, or the reason why not. */
t.test('records', async (t) => {
  const { story, server, id, token } = setUp();
  const recordId = toHex(story.record);
  const view = async (name: string, of = recordId) => {
    const { result, error } = await call(server, 'emr_getRecord', { recordId: of }, token(name));
    return error === null ? result.record.view : error.data.reason;
  };
  const seen: Record<string, string> = {};
  for (const name of ['paula', 'petra', 'peter', 'alice', 'nora', 'admin@a', 'bob', 'hilda', 'carol', 'dora', 'reg'])
    seen[name] = await view(name);
  t.same(seen, {
    paula: 'full',
    petra: 'OUT_OF_SCOPE',
    peter: 'OUT_OF_SCOPE',
    alice: 'full',
    nora: 'full',
    'admin@a': 'full',
    // He holds a grant: he needs CID and digest.
    bob: 'full',
    hilda: 'request',
    carol: 'request',
    dora: 'request',
    reg: 'full',
  });
  const asked = (await ok(server, 'emr_getRecord', { recordId }, token('carol'))).record;
  t.same([asked.owner, asked.writer, asked.section, asked.createdMs, asked.latest], [null, null, null, null, null]);
  t.same([asked.orgId, asked.latestVersion, asked.policyRef], ['hospital-a', 1, toHex(story.policy)]);
  t.equal(await refused(server, 'emr_getRecord', { recordId, prove: true }, token('carol')), 'OUT_OF_SCOPE');
  t.equal(await refused(server, 'emr_listVersions', { recordId }, token('carol')), 'OUT_OF_SCOPE');
  t.equal(await refused(server, 'emr_getRecord', { recordId: toHex(H('none')) }, token('carol')), 'NOT_FOUND');

  const listed = async (name: string) =>
    (await ok(server, 'emr_listRecords', {}, token(name))).items.map((record) => record.id).sort();
  const [record, other, foreign] = [recordId, toHex(story.otherRecord), toHex(story.foreignRecord)];
  t.same(await listed('paula'), [record]);
  t.same(await listed('alice'), [record, other].sort());
  t.same(await listed('carol'), [foreign]);
  t.same(await listed('bob'), [], 'a grant is no way to find records');
  t.same(await listed('reg'), [record, other, foreign].sort());
  t.same((await ok(server, 'emr_listRecords', { owner: id('paula') }, token('carol'))).items, []);

  const wraps = async (name: string) =>
    (await call(server, 'emr_getWraps', { recordId, version: 1 }, token(name))).error?.data.reason ?? 'given';
  t.same(
    [await wraps('paula'), await wraps('alice'), await wraps('bob'), await wraps('carol'), await wraps('petra')],
    ['given', 'given', 'OUT_OF_SCOPE', 'OUT_OF_SCOPE', 'OUT_OF_SCOPE'],
  );
  const trail = async (name: string) =>
    (await call(server, 'acl_getAuditTrail', { recordId }, token(name))).error?.data.reason ?? 'given';
  t.same(
    [await trail('paula'), await trail('alice'), await trail('bob'), await trail('dora'), await trail('reg')],
    ['given', 'given', 'OUT_OF_SCOPE', 'OUT_OF_SCOPE', 'given'],
  );
});

t.test('requests: both sides and whoever may decide', async (t) => {
  const { story, server, id, token } = setUp();
  const sees = async (name: string, request: keyof typeof story.requests) =>
    (await call(server, 'acl_getRequest', { requestHash: toHex(story.requests[request]) }, token(name))).error?.data
      .reason ?? 'yes';
  const readers = async (request: keyof typeof story.requests) => {
    const yes: string[] = [];
    for (const name of [
      'paula',
      'petra',
      'peter',
      'alice',
      'hans',
      'bob',
      'hilda',
      'rita',
      'erik',
      'erna',
      'edda',
      'carol',
      'dora',
      'admin@d',
      'reg',
    ]) {
      const answer = await sees(name, request);
      t.ok(['yes', 'OUT_OF_SCOPE'].includes(answer), `${name}: ${answer}`);
      if (answer === 'yes') yes.push(name);
    }
    return yes;
  };
  // Of hospital A the record, of hospital B the requester; a head of D has no slot.
  t.same(await readers('pending'), ['paula', 'alice', 'hans', 'bob', 'hilda', 'edda', 'reg']);
  // Of hospital A the record, of C the requester; edda of B and erna of D sit on boards that decide.
  t.same(await readers('board'), ['petra', 'alice', 'hans', 'rita', 'erik', 'erna', 'edda', 'carol', 'reg']);

  const listed = async (name: string) => (await ok(server, 'acl_listRequests', {}, token(name))).items.length;
  t.same(
    [
      await listed('paula'),
      await listed('petra'),
      await listed('peter'),
      await listed('erna'),
      await listed('dora'),
      await listed('reg'),
    ],
    [5, 1, 0, 1, 0, 6],
  );
  t.equal(
    await refused(server, 'acl_getApprovals', { requestHash: toHex(story.requests.pending) }, token('carol')),
    'OUT_OF_SCOPE',
  );
  t.equal(
    await refused(server, 'acl_getRevocationStatus', { requestHash: toHex(story.requests.revoked) }, token('dora')),
    'OUT_OF_SCOPE',
  );
  t.same((await ok(server, 'acl_getGrants', {}, token('carol'))).items, []);
  t.equal((await ok(server, 'acl_getGrants', { recordId: toHex(story.record) }, token('paula'))).items.length, 1);
  const question = { subject: id('bob'), recordId: toHex(story.record), purpose: 'TREAT' } as const;
  t.equal((await ok(server, 'acl_checkAccess', question, token('paula'))).decision, 'allow');
  t.equal((await ok(server, 'acl_checkAccess', question, token('bob'))).reason, 'GRANTED');
  t.equal(await refused(server, 'acl_checkAccess', question, token('carol')), 'OUT_OF_SCOPE');
});

t.test('accounts: the staff directory for all, patients for their hospital', async (t) => {
  const { server, id, token } = setUp();
  const account = async (reader: string, of: string) => {
    const { result, error } = await call(server, 'acl_getAccount', { account: id(of) }, token(reader));
    return error === null ? (result.account.personTag === null ? 'without tag' : 'with tag') : error.data.reason;
  };
  t.equal(await account('alice', 'alice'), 'with tag');
  t.equal(await account('nora', 'alice'), 'with tag');
  t.equal(await account('bob', 'alice'), 'without tag');
  t.equal(await account('paula', 'bob'), 'without tag', 'who asked me?');
  t.equal(await account('reg', 'alice'), 'with tag');
  t.equal(await account('alice', 'paula'), 'without tag', 'patients have none');
  t.equal(await account('bob', 'paula'), 'OUT_OF_SCOPE');
  t.equal(await account('petra', 'paula'), 'OUT_OF_SCOPE');
  t.equal(await refused(server, 'acl_getAccount', { account: id('alice'), prove: true }, token('bob')), 'OUT_OF_SCOPE');
  t.ok((await ok(server, 'acl_getAccount', { account: id('alice'), prove: true }, token('nora'))).proof);
  t.equal(await refused(server, 'acl_getRoles', { account: id('paula') }, token('bob')), 'OUT_OF_SCOPE');
  const kinds = (await ok(server, 'acl_listAccounts', { limit: 100 }, token('bob'))).items.map(({ kind }) => kind);
  t.notOk(kinds.includes('patient'));
});

t.test('a regulator whom an administrator made sees the own organisation only', async (t) => {
  const { story, node, server, token } = setUp();
  const { world } = story;
  world.do('admin@b', world.grantCall(world.who('hilda'), 'regulator'));
  t.equal(
    (await ok(server, 'emr_getRecord', { recordId: toHex(story.otherRecord) }, token('hilda'))).record.view,
    'request',
  );
  t.equal(
    (await ok(server, 'emr_getRecord', { recordId: toHex(story.otherRecord) }, tokenOf(node, world.who('reg')))).record
      .view,
    'full',
  );
});

t.test('raw state and its proofs', async (t) => {
  const { story, server, token } = setUp();
  const { world } = story;
  const state = async (name: string, key: Uint8Array, prove = false) => {
    const { result, error } = await call(server, 'state_get', { key: toHex(key), prove }, token(name));
    return error === null
      ? result.value === null
        ? 'absent'
        : result.proof === null
          ? 'value'
          : 'proof'
      : error.data.reason;
  };
  const record = stateKey.record(story.record);
  t.equal(await state('paula', record, true), 'proof');
  t.equal(await state('nora', record, true), 'proof');
  t.equal(await state('carol', record), 'OUT_OF_SCOPE');
  t.equal(await state('petra', record), 'OUT_OF_SCOPE');
  t.equal(await state('petra', stateKey.request(story.requests.pending)), 'OUT_OF_SCOPE');
  t.equal(await state('paula', stateKey.request(story.requests.pending), true), 'proof');
  t.equal(await state('bob', stateKey.account(world.who('alice').id)), 'OUT_OF_SCOPE', 'it holds the person tag');
  t.equal(await state('nora', stateKey.account(world.who('alice').id)), 'value');
  t.equal(await state('carol', stateKey.policy(story.policy), true), 'proof');
  t.equal(await state('carol', stateKey.params(), true), 'proof');
  const closed = [
    stateKey.key(world.who('paula').id),
    stateKey.person(world.who('bob').tag!, world.who('bob').id),
    stateKey.deadline(1, 'grant', story.requests.granted),
    stateKey.replay(1, world.who('paula').id, new Uint8Array(16)),
    Uint8Array.of(0xee, 1),
    Uint8Array.of(0x30),
  ];
  for (const key of closed) {
    t.equal(await state('alice', key), 'OUT_OF_SCOPE', toHex(key));
    t.not(await state('reg', key), 'OUT_OF_SCOPE', toHex(key));
  }
  // A proof of absence shows another key: it is given where that one is in scope, too.
  const besideOthers = stateKey.recovery(world.who('paula').id);
  const besideOwn = stateKey.recordVersion(story.record, 9);
  for (const absent of [besideOthers, besideOwn]) {
    t.equal(await state('paula', absent), 'absent');
    t.equal(await state('reg', absent, true), 'absent');
  }
  t.equal(await state('paula', besideOwn, true), 'absent', 'beside the first version');
  t.equal(await state('paula', besideOthers, true), 'PROOF_SHOWS_OTHERS');

  const range = async (name: string, { gte, lt }: { gte: Uint8Array; lt: Uint8Array }, prove = false) => {
    const { result, error } = await call(
      server,
      'state_getRange',
      { gte: toHex(gte), lt: toHex(lt), prove },
      token(name),
    );
    return error === null ? result.entries.length : error.data.reason;
  };
  const mine = prefixRange(statePrefix.recordsOfOwner(world.who('paula').id));
  t.equal(await range('paula', mine), 1);
  t.equal(await range('paula', mine, true), 'PROOF_SHOWS_OTHERS');
  t.equal(await range('reg', mine, true), 1);
  t.equal(await range('petra', mine), 'OUT_OF_SCOPE');
  t.equal(
    await range('paula', { gte: mine.gte, lt: prefixRange(Uint8Array.of(0x32)).lt }),
    'OUT_OF_SCOPE',
    'beyond the own records',
  );
  t.equal(await range('paula', { gte: Uint8Array.of(0x32), lt: mine.lt }), 'OUT_OF_SCOPE', 'from before them');
  t.equal(await range('alice', prefixRange(Uint8Array.of(0x30))), 'OUT_OF_SCOPE');
  t.equal(await range('alice', prefixRange(Uint8Array.of(0x10))), 4);
  t.equal(await range('alice', { gte: mine.lt, lt: mine.gte }), 'EMPTY_RANGE');
});

t.test('transactions, receipts and events', async (t) => {
  const { story, server, token } = setUp();
  const { world } = story;
  const approvals = (await ok(server, 'tx_list', { callKind: 'access.approve', limit: 100 }, token('reg'))).items;
  const approval = approvals.find(({ account }) => account === toHex(world.who('erna').id))!;
  const visible = async (name: string) => (await ok(server, 'tx_get', { hash: approval.hash }, token(name))).visible;
  t.same(
    [
      await visible('erna'),
      await visible('petra'),
      await visible('rita'),
      await visible('paula'),
      await visible('dora'),
      await visible('edda'),
    ],
    [true, true, true, false, true, true],
    'sender, owner, requester, a stranger, staff of the sender, another who decides',
  );
  t.equal(await refused(server, 'tx_getProof', { hash: approval.hash }, token('paula')), 'OUT_OF_SCOPE');
  t.equal(await refused(server, 'tx_getReceipt', { hash: approval.hash }, token('paula')), 'OUT_OF_SCOPE');
  const results = async (name: string) =>
    (await ok(server, 'chain_getBlockResults', { height: approval.height! }, token(name))).receipts.flatMap(
      ({ events }) => events,
    ).length;
  t.same([await results('petra'), await results('paula'), await results('reg')], [1, 0, 1]);
  const enrolment = world.blocks.find(({ receipts }) => receipts[0]?.events[0]?.type === 'account.enrol')!;
  const hash = toHex(txHash(enrolment.txs[0]!));
  t.equal((await ok(server, 'tx_get', { hash }, token('bob'))).visible, false, 'an enrolment elsewhere');
  t.equal((await ok(server, 'tx_get', { hash }, token('nora'))).visible, true);
});

t.test('the key of a grant is for its requester alone, whatever reads are open', async (t) => {
  const { story, node, token } = setUp();
  const open = testServer(node, { openReads: true });
  t.teardown(() => open.stop());
  const grantId = toHex(story.requests.granted);
  const reply: ReleaseReply = {
    kind: 'wrap',
    orgId: 'hospital-a',
    wrapped: new Uint8Array(165).fill(3),
    signature: new Uint8Array(64),
    custodianKey: new Uint8Array(64),
  };
  node.knobs.release = async function* () {
    yield reply;
    yield { kind: 'refused', orgId: 'hospital-c', code: 'NOT_GRANTED', message: 'my state does not show it' };
  };
  t.equal(await refused(open, 'custody_getShare', { grantId }), 'TOKEN_REQUIRED');
  for (const name of ['paula', 'alice', 'reg', 'hilda'])
    t.equal(await refused(open, 'custody_getShare', { grantId }, token(name)), 'OUT_OF_SCOPE', name);
  const share = await ok(open, 'custody_getShare', { grantId }, token('bob'));
  t.same(
    [share.complete, share.replies.map(({ orgId, code }) => [orgId, code])],
    [
      true,
      [
        ['hospital-a', null],
        ['hospital-c', 'NOT_GRANTED'],
      ],
    ],
  );
  for (const state of ['pending', 'revoked', 'denied'] as const) {
    t.equal(
      await refused(open, 'custody_getShare', { grantId: toHex(story.requests[state]) }, token('bob')),
      'NOT_GRANTED',
      state,
    );
  }

  // The patient's own delivery comes from the ledger, before anybody is asked.
  const { world } = story;
  const sidecar = { kind: 'delivery', ciphertext: new Uint8Array(165).fill(9) } as const;
  const deliver = {
    kind: 'access.deliver',
    requestHash: story.requests.granted,
    sidecarHash: sidecarHash(encodeSidecar(sidecar)),
  } as const;
  world.do('paula', deliver, { sidecar });
  node.knobs.release = async function* (signal) {
    yield reply;
    await new Promise((_, fail) => signal.addEventListener('abort', () => fail(new Error('aborted'))));
  };
  const late = await ok(open, 'custody_getShare', { grantId, timeoutMs: 100 }, token('bob'));
  t.same(
    [late.complete, late.replies.map(({ from }) => from)],
    [false, ['owner', 'custodian']],
    'who does not answer in time',
  );
  t.ok((await ok(open, 'acl_getRequest', { requestHash: grantId })).delivered);
});

t.test('a revocation is final once a quorum has executed it', async (t) => {
  const { story, node, server, token } = setUp();
  const requestHash = toHex(story.requests.revoked);
  const status = () => ok(server, 'acl_getRevocationStatus', { requestHash }, token('paula'));
  const { revokedHeight } = await status();
  node.knobs.executed = [revokedHeight, revokedHeight! - 1, 0, revokedHeight! + 1];
  t.match(await status(), { status: 'revoked', quorum: 3, final: false });
  t.equal((await status()).executedBy.length, 2);
  node.knobs.executed[2] = revokedHeight;
  t.equal((await status()).final, true);
  t.match(await ok(server, 'acl_getRevocationStatus', { requestHash: toHex(story.requests.granted) }, token('paula')), {
    revokedHeight: null,
    final: false,
  });
});

t.test('governance, members and the pool are for every member', async (t) => {
  const { story, server, token } = setUp();
  const { world } = story;
  const proposal = { kind: 'setParams', params: { ...world.genesis.params, replicas: 2 } } as const;
  world.do('admin@a', { kind: 'gov.propose', proposal, nonce: new Uint8Array(16) });
  const [listed] = (await ok(server, 'gov_listProposals', {}, token('paula'))).items;
  const shown = await ok(server, 'gov_getProposal', { proposalId: listed!.id }, token('carol'));
  t.same(shown.proposal, listed);
  t.equal((await ok(server, 'gov_getMembers', {}, token('paula'))).organisations.length, 4);
  const tx = world.tx('paula', { kind: 'access.deny', requestHash: story.requests.pending, reason: 'BUSY' });
  await ok(server, 'tx_submit', { raw: toHex(tx.tx.bytes) });
  const kind = async (name: string) => (await ok(server, 'tx_pending', {}, token(name))).items[0]!.callKind;
  t.same(
    [await kind('paula'), await kind('nora'), await kind('bob'), await kind('reg')],
    ['access.deny', 'access.deny', null, 'access.deny'],
  );
});
