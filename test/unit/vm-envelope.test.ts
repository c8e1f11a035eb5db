import t from 'tap';
import { token, nonce, newKey, World, MINUTE, HOUR, START } from './vm-world.ts';
import { prefixRange, stateKey, statePrefix } from '../../common/protocol/state-entries.ts';
import { blockDue, buildBlock, executeBlock, priorityOf } from '../../vm/index.ts';
import type { Call } from '../../common/protocol/transaction.ts';

const SUSPEND = (account: Uint8Array): Call => ({ kind: 'account.suspend', account, reason: 'LEFT' });

t.test('the envelope', async (t) => {
  const world = new World({ nora: { org: 'hospital-a', roles: ['nurse'] } });
  const call: Call = {
    kind: 'role.revoke',
    scope: { account: world.who('nora').id, role: 'nurse', orgId: 'hospital-a', department: null },
  };
  const limit = 10 * MINUTE + 10_000;
  t.equal(world.try('admin@a', call, { version: 0 }), 'UNSUPPORTED_VERSION');
  t.equal(world.try('admin@a', call, { chainId: token('another chain') }), 'CHAIN_ID_MISMATCH');
  t.equal(world.try('admin@a', call, { validUntilMs: world.now - 1 }), 'TX_EXPIRED');
  t.equal(world.try('admin@a', call, { validUntilMs: world.now + limit + 1 }), 'TX_VALIDITY_TOO_LONG');
  t.equal(world.try('admin@a', call, { publicKey: newKey().publicKey }), 'KEY_NOT_CURRENT');
  t.equal(world.try(world.newActor('hospital-a', null), call), 'ACCOUNT_UNKNOWN');
  t.equal(world.try('admin@a', call, { validUntilMs: world.now + limit }), null, 'the longest validity');
});

t.test('a transaction is executed once, whatever its signature bytes', async (t) => {
  const world = new World({ nora: { org: 'hospital-a', roles: ['nurse'] } });
  const again = { nonce: nonce(), validUntilMs: world.now + 5 * MINUTE };
  const grant = world.grantCall(world.who('nora'), 'physician');
  t.equal(world.try('admin@a', grant, again), null);
  t.equal(world.try('admin@a', grant, again), 'TX_REPLAYED');
  t.equal(world.try('admin@a', { kind: 'account.reinstate', account: world.who('nora').id }, again), 'TX_REPLAYED');
  t.equal(
    world.try('admin@b', world.grantCall(world.who('admin@b'), 'nurse'), again),
    'ROLE_SELF_GRANT',
    'nonces are per account',
  );
  const twice = world.tx('admin@a', world.grantCall(world.who('nora'), 'researcher'));
  const built = buildBlock(world.state, world.block, [twice, twice]);
  t.equal(built.included.length, 1);
  t.same(
    built.rejected.map((r) => r.code),
    ['TX_REPLAYED'],
    'within one block too',
  );
});

t.test('a suspended account, and an account of a suspended organisation', async (t) => {
  const world = new World({ adam: { org: 'hospital-a', roles: ['org_admin'] } });
  world.do('admin@a', SUSPEND(world.who('adam').id));
  t.equal(world.try('adam', SUSPEND(world.who('admin@a').id)), 'ACCOUNT_SUSPENDED');
});

t.test('the replay set is pruned by block time, a bounded number per block', async (t) => {
  const world = new World({ nora: { org: 'hospital-a', roles: [] } });
  const size = (): number => [...world.state.range({ ...prefixRange(statePrefix.replay()), limit: 10_000 })].length;
  const old: Uint8Array[] = Array.from({ length: 300 }, (_, i) => {
    const id = new Uint8Array(20).fill(i % 250);
    return stateKey.replay(START + 1_000 + i, id, nonce());
  });
  world.state.apply(old.sort((x, y) => Buffer.compare(x, y)).map((key) => ({ key, value: Uint8Array.of(0x80) })));
  t.equal(size(), 300);
  world.pass(MINUTE);
  t.equal(size(), 300 - 64);
  world.do('admin@a', world.grantCall(world.who('nora'), 'nurse'));
  t.equal(size(), 300 - 64 - 66 + 1, 'two more for each transaction');
  world.pass(HOUR);
  world.pass(HOUR);
  world.pass(HOUR);
  t.equal(size(), 0);
});

t.test('a block holds what the parameters allow', async (t) => {
  const world = new World({ nora: { org: 'hospital-a', roles: [] } }, { maxBlockTxs: 2 });
  const txs = (['nurse', 'physician', 'researcher'] as const).map((role) =>
    world.tx('admin@a', world.grantCall(world.who('nora'), role)),
  );
  const built = buildBlock(world.state, world.block, txs);
  t.equal(built.included.length, 2);
  t.same(built.rejected, [], 'what does not fit is not refused');
  t.match(executeBlock(world.state, world.block, txs), { ok: false, code: 'BLOCK_TOO_LARGE' });
  const narrow = new World({ nora: { org: 'hospital-a', roles: [] } }, { maxBlockBytes: 100 });
  t.equal(narrow.try('admin@a', narrow.grantCall(narrow.who('nora'), 'nurse')), 'BLOCK_TOO_LARGE');
});

t.test('what takes access away goes first', async (t) => {
  t.equal(priorityOf({ kind: 'access.revoke', requestHash: token('x'), reason: 'X' }), 'urgent');
  t.equal(priorityOf({ kind: 'account.vetoRecovery' }), 'urgent');
  t.equal(priorityOf({ kind: 'access.approve', requestHash: token('x') }), 'normal');
});

t.test('an idle chain asks for no block', async (t) => {
  const world = new World();
  t.same(blockDue(world.state), { nextDeadlineMs: null, heartbeatMs: null });
  t.same(world.pass(HOUR), []);
});
