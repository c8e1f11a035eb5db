import t from 'tap';
import { equalBytes } from '../../common/bytes.ts';
import { decodeTrusted } from '../../common/codec.ts';
import { requestEntry, stateKey } from '../../common/protocol/state-entries.ts';
import { encodeSidecar, requestHashOf, sidecarHash } from '../../common/protocol/transaction.ts';
import {
  blockDue,
  buildBlock,
  checkAccess,
  checkGrant,
  executeBlock,
  explainRequest,
  genesisWrites,
  simulate,
} from '../../vm/index.ts';
import { A, all, attending, B, by, HOUR, MemoryState, owner, rootAt, World } from './vm-world.ts';

const people = {
  alice: { org: A, roles: ['physician' as const] },
  hans: { org: A, roles: ['department_head' as const] },
  bob: { org: B, roles: ['physician' as const] },
};

function story() {
  const world = new World(people);
  world.patient('paula');
  world.attend('paula', 'alice');
  const policy = world.policy(all(owner, attending, by('department_head', 'writer')));
  const record = world.record('alice', 'paula', policy);
  return { world, record };
}

t.test('a request is made, approved by three, granted and revoked', async (t) => {
  const { world, record } = story();
  const hash = world.ask('bob', record);
  const status = () => decodeTrusted(requestEntry, world.state.get(stateKey.request(hash))!, 'request').status;
  t.equal(status(), 'pending');
  t.equal(
    checkAccess(world.state, { subject: world.who('bob').id, recordId: record, purpose: 'TREAT', atMs: world.now })
      .reason,
    'WAITING',
  );

  t.same(
    world.do('paula', { kind: 'access.approve', requestHash: hash }).map((e) => e.type),
    ['access.approve'],
  );
  t.equal(world.approve('alice', hash), null);
  t.equal(status(), 'pending');
  const waiting = explainRequest(world.state, hash, world.now)!;
  t.equal(waiting.missing?.code, 'APPROVALS_MISSING');
  t.same(waiting.tree.kind === 'threshold' && waiting.tree.of.map((n) => n.kind === 'slot' && n.state), [
    'filled',
    'filled',
    'open',
  ]);

  const events = world.do('hans', { kind: 'access.approve', requestHash: hash });
  t.same(
    events.map((e) => e.type),
    ['access.approve', 'access.granted'],
  );
  t.ok(events.every((e) => equalBytes(e.subject!, world.who('paula').id) && equalBytes(e.recordId!, record)));
  t.equal(status(), 'granted');
  const granted = checkGrant(world.state, hash, world.now);
  t.ok(granted.ok && granted.value.filled.length === 3);
  const question = { subject: world.who('bob').id, recordId: record, purpose: 'TREAT' as const, atMs: world.now };
  t.equal(checkAccess(world.state, question).decision, 'allow');
  t.equal(checkAccess(world.state, { ...question, purpose: 'HRESCH' }).reason, 'WRONG_PURPOSE');
  t.equal(
    checkAccess(world.state, { ...question, atMs: world.now + 2 * HOUR }).decision,
    'deny',
    'lateness of the sweep changes nothing',
  );
  t.equal(blockDue(world.state).heartbeatMs, 30_000);

  const delivery = { kind: 'delivery' as const, ciphertext: new Uint8Array(165) };
  world.do(
    'paula',
    { kind: 'access.deliver', requestHash: hash, sidecarHash: sidecarHash(encodeSidecar(delivery)) },
    { sidecar: delivery },
  );

  t.same(
    world.do('paula', { kind: 'access.revoke', requestHash: hash, reason: 'CHANGED_MIND' }).map((e) => e.type),
    ['access.revoke'],
  );
  t.equal(status(), 'revoked');
  t.equal(checkAccess(world.state, { ...question, atMs: world.now }).reason, 'REVOKED');
  const after = checkGrant(world.state, hash, world.now);
  t.ok(!after.ok && after.code === 'NOT_GRANTED');
  t.same(blockDue(world.state), { nextDeadlineMs: null, heartbeatMs: null });
});

t.test('the same blocks give the same writes, for whoever executes them', async (t) => {
  const { world, record } = story();
  const hash = world.ask('bob', record);
  for (const name of ['paula', 'alice', 'hans']) t.equal(world.approve(name, hash), null);
  world.pass(2 * HOUR);
  const state = new MemoryState();
  state.apply(genesisWrites(world.genesis));
  world.history.forEach(({ timestampMs, txs }, i) => {
    const executed = executeBlock(
      state,
      { chainId: world.chainId, height: i + 1, timestampMs, parentStateRoot: rootAt(i) },
      txs,
    );
    if (!executed.ok) throw new Error(executed.message);
    state.apply(executed.value.writes);
  });
  t.equal(state.dump(), world.state.dump());
});

t.test('many transactions in one block see each other, and a bad one leaves nothing', async (t) => {
  const { world, record } = story();
  const request = world.request('bob', record);
  const requestHash = requestHashOf(world.chainId, request);
  const approve = { kind: 'access.approve' as const, requestHash };
  const txs = [
    world.tx('bob', world.requestCall(request)),
    world.tx('paula', approve),
    world.tx('bob', approve),
    world.tx('alice', approve),
    world.tx('hans', approve),
  ];
  const built = buildBlock(world.state, world.block, txs);
  t.same(
    built.rejected.map((r) => r.code),
    ['REQUESTER_CANNOT_APPROVE'],
  );
  t.same(
    built.receipts.map((r) => r.events.length),
    [1, 1, 1, 2, 0],
  );
  const clean = executeBlock(world.state, world.block, built.included);
  t.same(clean.ok && clean.value.writes, built.writes);
  const dirty = executeBlock(world.state, world.block, txs);
  t.match(dirty, { ok: false, code: 'REQUESTER_CANNOT_APPROVE', message: /^transaction 2/ });
  const alone = simulate(world.state, world.block, txs[1]!);
  t.match(alone, { ok: false, code: 'REQUEST_UNKNOWN' });
  t.match(simulate(world.state, world.block, txs[0]!), { ok: true, value: [{ type: 'access.request' }] });
});
