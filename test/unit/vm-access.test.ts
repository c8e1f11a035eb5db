import t from 'tap';
import { bytesToHex } from '../../common/bytes.ts';
import { decodeTrusted } from '../../common/codec.ts';
import type { Role } from '../../common/protocol/policy.ts';
import { decisionEntry, requestEntry, stateKey } from '../../common/protocol/state-entries.ts';
import { checkAccess, checkGrant, explainRequest } from '../../vm/index.ts';
import {
  A,
  all,
  attending,
  B,
  BLANK,
  by,
  C,
  D,
  DAY,
  HOUR,
  MINUTE,
  newKey,
  owner,
  person,
  some,
  token,
  World,
} from './vm-world.ts';
import { people, setUp, staff } from './vm-hospitals.ts';

t.test('one person fills one slot, whatever roles and accounts that person has', async (t) => {
  const more = {
    both: staff(A, 'physician', 'department_head'),
    again: { ...staff(B, 'department_head'), tag: 'both' },
  };
  const { world, record, status } = setUp(all(by('physician'), by('department_head')), more);
  const hash = world.ask('bob', record);
  t.equal(world.approve('both', hash), null);
  t.equal(world.approve('both', hash), 'ALREADY_DECIDED');
  t.equal(world.approve('again', hash), 'ALREADY_DECIDED', 'a second account of the same person');
  t.equal(world.deny('again', hash), 'ALREADY_DECIDED', 'a decision is final');
  t.equal(status(hash), 'pending');
  t.equal(world.approve('hilda', hash), null, 'the other takes the slot that is left');
  t.equal(status(hash), 'granted');
  const { filled } = decodeTrusted(requestEntry, world.state.get(stateKey.request(hash))!, 'request');
  t.same(
    filled.map((f) => [f.slot, bytesToHex(f.account)]),
    [
      [0, bytesToHex(world.who('both').id)],
      [1, bytesToHex(world.who('hilda').id)],
    ],
  );
});

t.test('the requester decides nothing, by no account', async (t) => {
  const { world, record } = setUp(all(by('physician'), by('department_head')), {
    bob2: { ...staff(C, 'department_head'), tag: 'bob' },
  });
  const hash = world.ask('bob', record);
  t.equal(world.approve('bob', hash), 'REQUESTER_CANNOT_APPROVE');
  t.equal(world.approve('bob2', hash), 'REQUESTER_CANNOT_APPROVE');
  t.equal(world.deny('bob2', hash), 'REQUESTER_CANNOT_APPROVE');
});

t.test('who is not named approves nothing', async (t) => {
  const department = token('cardiology');
  const { world, record, status } = setUp(all(owner, attending, by('department_head', 'writer', department)), {
    doc: staff(C, 'physician'),
    head2: staff(A),
  });
  world.patient('peter');
  world.do('admin@a', world.grantCall(world.who('hans'), 'department_head', world.now + 10 * DAY, department));
  world.do('admin@a', world.grantCall(world.who('head2'), 'department_head', world.now + 10 * DAY, token('surgery')));
  world.attend('paula', 'bob');
  world.pass(DAY + 1);
  const hash = world.ask('doc', record);
  t.equal(world.approve('peter', hash), 'NOT_AN_APPROVER', 'a patient, but not the owner');
  t.equal(world.approve('alice', hash), 'NOT_AN_APPROVER', 'a physician whom no relation ties to the patient');
  t.equal(world.approve('hilda', hash), 'NOT_AN_APPROVER', 'a head of another hospital');
  t.equal(world.approve('head2', hash), 'NOT_AN_APPROVER', 'a head of another department');
  t.equal(world.deny('alice', hash), 'NOT_AN_APPROVER');
  for (const name of ['bob', 'hans', 'paula']) t.equal(world.approve(name, hash), null);
  t.equal(status(hash), 'granted');
  t.equal(world.approve('paula', token('none')), 'REQUEST_UNKNOWN');
});

t.test('a role fills a slot only if it was effective before the request and still is', async (t) => {
  const { world, record, status } = setUp(all(owner, by('department_head', 'writer')), {
    nina: staff(A),
    otto: staff(A),
    lars: staff(A),
  });
  world.do('admin@a', world.grantCall(world.who('nina'), 'department_head', world.now + 3 * DAY));
  world.do('admin@a', world.grantCall(world.who('lars'), 'department_head', world.now + DAY + 10 * MINUTE));
  world.pass(DAY + MINUTE);
  const hash = world.ask('bob', record, { notAfterMs: world.now + DAY });
  world.do('admin@a', world.grantCall(world.who('otto'), 'department_head'));
  t.equal(world.approve('otto', hash), 'ROLE_NOT_YET_EFFECTIVE', 'granted after the request was made');
  t.equal(world.approve('lars', hash), null);
  world.pass(HOUR);
  t.equal(world.approve('paula', hash), null);
  t.equal(status(hash), 'pending', 'the role of one who approved has expired since: it does not count');
  t.equal(explainRequest(world.state, hash, world.now)!.idle.length, 1);
  t.equal(world.approve('nina', hash), null);
  t.equal(status(hash), 'granted');
  const next = world.ask('bob', record);
  world.do('admin@a', world.grantCall(world.who('lars'), 'department_head', world.now + DAY));
  t.equal(world.approve('lars', next), 'ROLE_NOT_YET_EFFECTIVE');
  const late = world.ask('bob', record, { notAfterMs: world.now + DAY });
  t.equal(world.approve('otto', late), 'ROLE_NOT_YET_EFFECTIVE', 'within the cooling period');
});

t.test('an expired role is called expired', async (t) => {
  const { world, record } = setUp(all(owner, by('department_head', 'writer')), { lars: staff(A) });
  world.do('admin@a', world.grantCall(world.who('lars'), 'department_head', world.now + DAY + MINUTE));
  world.pass(DAY + 30_000);
  const hash = world.ask('bob', record);
  world.pass(MINUTE);
  t.equal(world.approve('lars', hash), 'ROLE_EXPIRED');
});

t.test('an administrator who enrols a physician and a head does not satisfy a policy with them', async (t) => {
  const approvals = some(2, owner, by('physician', 'writer'), by('department_head', 'writer'), by('ethics_board'));
  const { world, record, status } = setUp(approvals, {}, {}, { requestTtlMs: 7 * DAY });
  t.equal(
    world.try('admin@a', world.enrolCall(world.newActor(A, token('sock 1')), 'staff')),
    'COUNTERSIGNATURE_REQUIRED',
  );
  t.equal(world.try('admin@a', world.grantCall(world.who('admin@a'), 'physician')), 'ROLE_SELF_GRANT');
  // Even if a second organisation was fooled:
  world.staff('sock1', A, ['physician']);
  world.staff('sock2', A, ['department_head']);
  world.staff('sock3', A, ['physician']);
  const early = world.ask('sock3', record);
  t.equal(world.approve('sock1', early), 'ROLE_NOT_YET_EFFECTIVE');
  t.equal(world.approve('admin@a', early), 'NOT_AN_APPROVER');
  world.pass(DAY + MINUTE);
  const hash = world.ask('sock3', record);
  t.equal(world.approve('sock1', hash), null);
  t.equal(world.approve('sock2', hash), null);
  t.equal(status(hash), 'pending', 'without the owner, approvals span two organisations');
  t.equal(explainRequest(world.state, hash, world.now)!.missing?.code, 'APPROVALS_ONE_ORGANISATION');
  t.equal(world.approve('erna', hash), null);
  t.equal(status(hash), 'granted');
});

t.test('a key that the hospital keeps fills no owner slot for the hospital', async (t) => {
  const world = new World(people);
  world.patient('kept', A, true);
  const record = world.record(
    'alice',
    'kept',
    world.policy(some(1, owner, all(by('department_head'), by('ethics_board')))),
  );
  const inside = world.ask('alice', record);
  t.equal(world.approve('kept', inside), 'CUSTODIAL_OWNER');
  t.equal(world.deny('kept', inside), null, 'saying no is always possible');
  const outside = world.ask('bob', record);
  t.equal(world.approve('kept', outside), null);
  const ownerOnly = world.record('alice', 'kept', world.policy(owner));
  t.equal(world.try('alice', world.requestCall(world.request('alice', ownerOnly))), 'REQUEST_UNSATISFIABLE');
  const named = all(person(world.who('kept')), by('ethics_board', { orgId: C }));
  const byName = world.record('alice', 'kept', world.policy(named));
  t.equal(
    world.try('alice', world.requestCall(world.request('alice', byName))),
    'REQUEST_UNSATISFIABLE',
    'nor by name',
  );
});

t.test('a recovered account fills no slot until the cooling period is over', async (t) => {
  const { world, record, status } = setUp(owner);
  const paula = world.who('paula');
  const early = world.ask('bob', record, { notAfterMs: world.now + DAY });
  const fresh = newKey();
  world.do('admin@a', {
    kind: 'account.recover',
    recovery: { account: paula.id, newPublicKey: fresh.publicKey },
    possession: BLANK,
    countersignature: world.sign('admin@b'),
  });
  world.pass(72 * HOUR);
  world.do('admin@a', { kind: 'account.completeRecovery', account: paula.id });
  t.equal(status(early), 'expired');
  paula.publicKey = fresh.publicKey;
  const hash = world.ask('bob', record, { notAfterMs: world.now + DAY });
  t.equal(world.approve('paula', hash), 'ACCOUNT_RECENTLY_RECOVERED');
  world.pass(DAY);
  const later = world.ask('bob', record);
  t.equal(world.approve('paula', later), null);
  t.equal(status(later), 'granted');
});

t.test('suspended approvers, organisations and requesters', async (t) => {
  const { world, record, status } = setUp(all(owner, by('ethics_board'), by('ethics_board')));
  const suspend = (name: string, admin: string) =>
    world.do(admin, { kind: 'account.suspend', account: world.who(name).id, reason: 'LEFT' });
  const hash = world.ask('bob', record);
  t.equal(world.approve('erik', hash), null);
  suspend('erik', 'admin@c');
  t.equal(world.approve('erna', hash), null);
  t.equal(world.approve('paula', hash), null);
  t.equal(status(hash), 'pending', 'who was suspended since does not count');
  suspend('bob', 'admin@b');
  t.equal(world.approve('edda', hash), 'REQUESTER_SUSPENDED');
  world.do('admin@b', { kind: 'account.reinstate', account: world.who('bob').id });
  t.equal(world.approve('edda', hash), null);
  t.equal(status(hash), 'granted');
  suspend('bob', 'admin@b');
  t.match(checkGrant(world.state, hash, world.now), { ok: false, code: 'REQUESTER_SUSPENDED' });
  const asked = { subject: world.who('bob').id, recordId: record, purpose: 'TREAT' as const, atMs: world.now };
  t.equal(checkAccess(world.state, asked).reason, 'SUBJECT_SUSPENDED');
  t.equal(checkAccess(world.state, { ...asked, subject: new Uint8Array(20) }).reason, 'SUBJECT_UNKNOWN');
  t.equal(checkAccess(world.state, { ...asked, recordId: token('none') }).reason, 'RECORD_UNKNOWN');
  t.match(checkGrant(world.state, token('none'), world.now), { ok: false, code: 'REQUEST_UNKNOWN' });
});

t.test('the requester holds the role at the request and at the grant', async (t) => {
  const { world, record } = setUp(owner, { tim: staff(B) });
  const tim = world.who('tim');
  world.do('admin@b', world.grantCall(tim, 'physician', world.now + HOUR));
  const hash = world.ask('tim', record);
  const other = world.ask('tim', record);
  world.pass(HOUR - 10 * MINUTE);
  world.do('admin@b', {
    kind: 'role.revoke',
    scope: { account: tim.id, role: 'physician', orgId: B, department: null },
  });
  t.equal(world.approve('paula', hash), 'REQUESTER_ROLE_MISSING');
  world.do('admin@b', world.grantCall(tim, 'physician', world.now + MINUTE));
  world.pass(MINUTE);
  t.equal(world.approve('paula', hash), 'REQUESTER_ROLE_EXPIRED');
  world.do('admin@b', world.grantCall(tim, 'physician'));
  t.equal(world.approve('paula', other), null);
});

t.test('denials', async (t) => {
  const board = some(2, by('ethics_board'), by('ethics_board'), by('ethics_board'));
  const { world, record, status } = setUp(board, { extra: staff(B, 'ethics_board') });
  const first = world.ask('bob', record);
  t.equal(world.deny('erik', first), null);
  t.equal(status(first), 'pending', 'one of three is out');
  t.equal(world.approve('erna', first), null);
  t.equal(world.approve('edda', first), null);
  t.equal(status(first), 'granted');

  const second = world.ask('bob', record);
  t.equal(world.deny('erik', second), null);
  t.equal(world.approve('erna', second), null);
  const events = world.do('edda', { kind: 'access.deny', requestHash: second, reason: 'NOT_JUSTIFIED' });
  t.same(
    events.map((e) => e.type),
    ['access.deny', 'access.denied'],
  );
  t.equal(status(second), 'denied');
  t.equal(world.approve('extra', second), 'NOT_PENDING');
  t.equal(
    checkAccess(world.state, { subject: world.who('bob').id, recordId: record, purpose: 'TREAT', atMs: world.now })
      .decision,
    'allow',
  );

  const third = world.ask('bob', record);
  t.equal(world.approve('erna', third), null);
  t.equal(world.deny('paula', third), null);
  t.equal(status(third), 'denied', "the owner's denial ends it, in the tree or not");
  const decision = decodeTrusted(
    decisionEntry,
    world.state.get(stateKey.decision(third, world.who('paula').id))!,
    'decision',
  );
  t.match(decision, { approve: false, slot: null, reason: 'NOT_JUSTIFIED' });
});

t.test('a denial takes out a slot that names the person, and one without approval, before others', async (t) => {
  const { world, record, status } = setUp(
    some(1, all(owner, by('ethics_board')), all(by('ethics_board'), by('department_head'))),
    {
      extra: staff(B, 'ethics_board'),
      last: staff(B, 'ethics_board'),
    },
  );
  const hash = world.ask('bob', record);
  t.equal(world.approve('erik', hash), null);
  t.equal(world.deny('erna', hash), null);
  const slot = (name: string) =>
    decodeTrusted(decisionEntry, world.state.get(stateKey.decision(hash, world.who(name).id))!, 'decision').slot;
  t.equal(slot('erna'), 2, 'erik fills the first');
  t.equal(world.approve('edda', hash), null);
  t.equal(world.deny('extra', hash), null);
  t.equal(status(hash), 'denied', 'now neither branch can be satisfied');

  const named = setUp(all(by('ethics_board'), by('ethics_board')), {}).world;
  const policy = named.policy(some(1, owner, all(by('ethics_board'), person(named.who('erik')), by('physician'))));
  const record2 = named.record('alice', 'paula', policy);
  const second = named.ask('bob', record2);
  t.equal(named.deny('erik', second), null);
  t.equal(decodeTrusted(decisionEntry, named.state.get(stateKey.decision(second, named.who('erik').id))!, 'd').slot, 2);
  t.match(explainRequest(named.state, second, named.now)!.tree, {
    of: [{ state: 'open' }, { of: [{ state: 'open' }, { state: 'denied' }, { state: 'open' }] }],
  });
});

t.test('approvals and denials that could not matter are refused', async (t) => {
  const more = {
    e2: staff(C, 'ethics_board'),
    e3: staff(C, 'ethics_board'),
    p2: staff(C, 'physician'),
    p3: staff(D, 'physician'),
  };
  const { world, record } = setUp(some(2, owner, by('ethics_board'), by('department_head')), more);
  const hash = world.ask('bob', record);
  t.equal(world.approve('erik', hash), null);
  t.equal(world.approve('e2', hash), 'APPROVAL_NOT_NEEDED', 'another of the same organisation for the same slot');
  t.equal(world.deny('edda', hash), null);
  t.equal(world.deny('e3', hash), 'SLOT_ALREADY_DENIED');
  t.equal(world.approve('erna', hash), 'SLOT_ALREADY_DENIED');
});

t.test('as many approvals as are looked at', async (t) => {
  const more: Record<string, { org: string; roles: Role[] }> = {};
  for (let i = 0; i < 25; i += 1) more[`n${i}`] = { org: [A, B, C, D][i % 4]!, roles: ['nurse'] };
  const { world, record } = setUp(all(owner, ...Array.from({ length: 11 }, () => by('nurse'))), more);
  const hash = world.ask('bob', record);
  for (let i = 0; i < 24; i += 1) t.equal(world.approve(`n${i}`, hash), null);
  t.equal(world.approve('n24', hash), 'TOO_MANY_DECISIONS');
  t.equal(world.deny('paula', hash), null, 'the owner is always heard');
});
