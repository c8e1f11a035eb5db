import t from 'tap';
import { stateKey } from '../../common/protocol/state-entries.ts';
import { encodeSidecar, sidecarHash } from '../../common/protocol/transaction.ts';
import { blockDue, explainRequest } from '../../vm/index.ts';
import { setUp, staff } from './vm-hospitals.ts';
import { A, all, B, by, HOUR, MINUTE, owner, token } from './vm-world.ts';

t.test('cancelling and revoking', async (t) => {
  const { world, record, status } = setUp(all(owner, by('ethics_board')), {
    hans2: { ...staff(B), tag: 'erik' },
    nora: staff(A, 'nurse'),
  });
  const grant = (): Uint8Array => {
    const hash = world.ask('bob', record);
    t.equal(world.approve('erik', hash), null);
    t.equal(world.approve('paula', hash), null);
    return hash;
  };
  const cancel = (name: string, requestHash: Uint8Array) => world.try(name, { kind: 'access.cancel', requestHash });
  const revoke = (name: string, requestHash: Uint8Array) =>
    world.try(name, { kind: 'access.revoke', requestHash, reason: 'OVER' });
  const pending = world.ask('bob', record);
  t.equal(cancel('paula', pending), 'NOT_THE_REQUESTER');
  t.equal(cancel('bob', token('none')), 'REQUEST_UNKNOWN');
  t.equal(revoke('paula', pending), 'NOT_GRANTED');
  t.equal(revoke('paula', token('none')), 'REQUEST_UNKNOWN');
  t.equal(cancel('bob', pending), null);
  t.equal(cancel('bob', pending), 'NOT_PENDING');
  t.equal(world.approve('paula', pending), 'NOT_PENDING');

  const first = grant();
  t.equal(revoke('nora', first), 'NOT_ALLOWED_TO_REVOKE');
  t.equal(revoke('erna', first), 'NOT_ALLOWED_TO_REVOKE', 'could have approved, but did not');
  t.equal(revoke('admin@b', first), 'NOT_ALLOWED_TO_REVOKE', "the requester's hospital did not write the record");
  t.equal(revoke('hans2', first), null, 'a person who approved, by another account');
  t.equal(status(first), 'revoked');
  t.equal(revoke('paula', first), 'NOT_GRANTED');
  for (const name of ['paula', 'bob', 'admin@a', 'mona']) t.equal(revoke(name, grant()), null);
  t.equal(world.state.get(stateKey.activeGrants()), undefined);
});

t.test('the owner delivers the key of a grant, and nobody else', async (t) => {
  const { world, record } = setUp(owner);
  const delivery = { kind: 'delivery' as const, ciphertext: new Uint8Array(165) };
  const deliver = (name: string, requestHash: Uint8Array, sidecar: Parameters<typeof encodeSidecar>[0] = delivery) =>
    world.try(
      name,
      { kind: 'access.deliver', requestHash, sidecarHash: sidecarHash(encodeSidecar(sidecar)) },
      { sidecar },
    );
  const hash = world.ask('bob', record);
  t.equal(deliver('paula', token('none')), 'REQUEST_UNKNOWN');
  t.equal(deliver('paula', hash), 'NOT_GRANTED');
  t.equal(world.approve('paula', hash), null);
  t.equal(deliver('alice', hash), 'NOT_THE_OWNER');
  t.equal(deliver('paula', hash, world.wraps()), 'SIDECAR_WRONG_WRAPS');
  t.equal(deliver('paula', hash), null);
  t.equal(deliver('paula', hash), null, 'again, if the first was wrong');
});

t.test('time ends requests and grants, whether the sweep has come by or not', async (t) => {
  const { world, record, status } = setUp(owner, {}, {}, { requestTtlMs: HOUR });
  const dueAt = world.now + HOUR;
  const hash = world.ask('bob', record, { notAfterMs: world.now + 2 * HOUR });
  const other = world.ask('bob', record, { notAfterMs: world.now + 30 * MINUTE });
  t.equal(
    blockDue(world.state).nextDeadlineMs,
    dueAt - 30 * MINUTE + 1,
    'a request ends with the access that it asks for',
  );
  t.equal(world.approve('paula', other), null);
  t.equal(explainRequest(world.state, hash, dueAt)!.status, 'expired');
  t.equal(explainRequest(world.state, other, dueAt)!.status, 'ended');
  world.now = dueAt;
  t.equal(world.approve('paula', hash), 'REQUEST_EXPIRED');
  t.equal(
    world.try('bob', { kind: 'access.cancel', requestHash: hash }),
    'REQUEST_EXPIRED',
    'by the sweep of the same block',
  );
  t.equal(world.try('paula', { kind: 'access.revoke', requestHash: other, reason: 'OVER' }), 'NOT_GRANTED');
  t.same(
    world.pass(0).map((e) => [e.type, e.actor]),
    [
      ['access.ended', null],
      ['access.expired', null],
    ],
  );
  t.equal(status(hash), 'expired');
  t.equal(status(other), 'ended');
  const open = world.state.get(stateKey.openRequests(world.who('bob').tag!));
  t.equal(open, undefined, 'nothing is open any more');
  t.same(blockDue(world.state), { nextDeadlineMs: null, heartbeatMs: null });
});

t.test(
  'a block sweeps a bounded number of deadlines, the next one the rest, and lateness changes nothing',
  async (t) => {
    const { world, record, status } = setUp(owner, {}, {}, { requestTtlMs: HOUR, maxOpenRequests: 500 });
    const hashes = Array.from({ length: 230 }, () => world.ask('bob', record));
    world.pass(2 * HOUR);
    const expired = hashes.filter((hash) => status(hash) === 'expired').length;
    t.equal(expired, 200);
    const late = hashes.find((hash) => status(hash) === 'pending')!;
    t.ok(blockDue(world.state).nextDeadlineMs! <= world.now, 'a block is due at once');
    t.equal(explainRequest(world.state, late, world.now)!.status, 'expired');
    world.pass(0);
    t.ok(hashes.every((hash) => status(hash) === 'expired'));
    t.equal(world.state.get(stateKey.openRequests(world.who('bob').tag!)), undefined);
  },
);
