import t from 'tap';
import { decodeTrusted } from '../../common/codec.ts';
import { sm2Address } from '../../common/crypto/sm2.ts';
import { accountEntry, keyEntry, roleEntry, stateKey } from '../../common/protocol/state-entries.ts';
import type { Call } from '../../common/protocol/transaction.ts';
import { A, type Actor, B, BLANK, C, DAY, HOUR, NEVER, newKey, tag, World } from './vm-world.ts';

const accountOf = (world: World, actor: Actor) =>
  decodeTrusted(accountEntry, world.state.get(stateKey.account(actor.id))!, 'account');

t.test('enrolment', async (t) => {
  const world = new World({
    nora: { org: A, roles: ['nurse'] },
    reg: { org: C, roles: ['registrar'] },
    regA: { org: A, roles: ['registrar'] },
    twin: { org: C, roles: ['org_admin'], tag: 'admin hospital-a' },
  });
  const staff = world.newActor(A, tag('sam'));
  t.equal(world.try('nora', world.enrolCall(staff, 'staff', 'admin@b')), 'ROLE_MISSING');
  t.equal(world.try('admin@b', world.enrolCall(staff, 'staff', 'admin@c')), 'NOT_YOUR_ORGANISATION');
  t.equal(world.try('admin@a', world.enrolCall(staff, 'staff')), 'COUNTERSIGNATURE_REQUIRED');
  t.equal(world.try('admin@a', world.enrolCall(staff, 'staff', 'admin@a')), 'COUNTERSIGNER_SAME_PERSON');
  t.equal(world.try('admin@a', world.enrolCall(staff, 'staff', 'twin')), 'COUNTERSIGNER_SAME_PERSON', 'by the tag');
  t.equal(world.try('admin@a', world.enrolCall(staff, 'staff', 'regA')), 'COUNTERSIGNER_SAME_ORGANISATION');
  t.equal(
    world.try('admin@b', world.enrolCall(world.newActor(B, tag('x')), 'staff', 'nora')),
    'COUNTERSIGNER_ROLE_MISSING',
  );
  const stranger = { ...world.sign('admin@b'), account: new Uint8Array(20) };
  const forged = { ...world.enrolCall(staff, 'staff', 'admin@b'), countersignature: stranger } as Call;
  t.equal(world.try('admin@a', forged), 'COUNTERSIGNER_UNKNOWN');
  const oldKey = { ...world.sign('admin@b'), publicKey: newKey().publicKey };
  t.equal(world.try('admin@a', { ...forged, countersignature: oldKey } as Call), 'COUNTERSIGNER_KEY_NOT_CURRENT');
  t.equal(world.try('admin@a', world.enrolCall(world.newActor(A, null), 'staff', 'admin@b')), 'PERSON_TAG_REQUIRED');
  t.equal(world.try('admin@a', world.enrolCall(world.newActor(A, tag('p')), 'patient')), 'PERSON_TAG_NOT_ALLOWED');
  t.equal(
    world.try('admin@a', world.enrolCall(world.newActor(A, null), 'patient', 'admin@b')),
    'COUNTERSIGNATURE_NOT_ALLOWED',
  );
  t.equal(world.try('admin@a', world.enrolCall(world.newActor(A, null, true), 'service')), 'CUSTODIAL_NOT_ALLOWED');

  t.equal(world.try('admin@a', world.enrolCall(staff, 'staff', 'reg')), null, 'a registrar of a second organisation');
  t.equal(world.try('admin@a', world.enrolCall(staff, 'staff', 'reg')), 'KEY_ALREADY_USED');
  const service = world.newActor(A, null);
  t.equal(world.try('admin@a', world.enrolCall(service, 'service')), null);
  t.equal(world.try('admin@a', world.grantCall(service, 'physician')), 'ROLE_ONLY_FOR_STAFF');
  world.do('admin@c', { kind: 'account.suspend', account: world.who('reg').id, reason: 'LEFT' });
  t.equal(
    world.try('admin@a', world.enrolCall(world.newActor(A, tag('y')), 'staff', 'reg')),
    'COUNTERSIGNER_NOT_ACTIVE',
  );
});

t.test('a second party must have held its role for the cooling period', async (t) => {
  const world = new World({ rita: { org: B, roles: [] } });
  world.do('admin@b', world.grantCall(world.who('rita'), 'registrar'));
  const call = world.enrolCall(world.newActor(A, tag('z')), 'staff', 'rita');
  t.equal(world.try('admin@a', call), 'COUNTERSIGNER_ROLE_MISSING');
  world.pass(DAY);
  t.equal(world.try('admin@a', call), null);
});

t.test('roles', async (t) => {
  const world = new World({ nora: { org: A, roles: [] }, adam: { org: A, roles: ['org_admin'] } });
  const nora = world.who('nora');
  const physician = world.grantCall(nora, 'physician', world.now + HOUR);
  t.equal(world.try('nora', physician), 'ROLE_MISSING');
  t.equal(world.try('admin@b', physician), 'NOT_YOUR_ORGANISATION');
  const elsewhere = {
    kind: 'role.grant' as const,
    scope: { account: nora.id, role: 'physician' as const, orgId: B, department: null },
    expiresAtMs: NEVER,
  };
  t.equal(world.try('admin@b', elsewhere), 'NOT_YOUR_ORGANISATION', 'an account of another organisation');
  t.equal(world.try('admin@a', elsewhere), 'NOT_YOUR_ORGANISATION', 'the scope of another organisation');
  t.equal(
    world.try('admin@a', { ...elsewhere, scope: { ...elsewhere.scope, orgId: A, account: new Uint8Array(20) } }),
    'ACCOUNT_UNKNOWN',
  );
  t.equal(world.try('admin@a', world.grantCall(world.who('admin@a'), 'physician')), 'ROLE_SELF_GRANT');
  t.equal(world.try('admin@a', world.grantCall(nora, 'patient')), 'ROLE_NOT_GRANTABLE');
  t.equal(world.try('admin@a', world.grantCall(nora, 'physician', world.now)), 'EXPIRY_PASSED');
  t.equal(world.try('admin@a', physician), null);

  const entry = () => decodeTrusted(roleEntry, world.state.get(stateKey.role(nora.id, 'physician', A, null))!, 'role');
  const first = entry();
  t.equal(first.effectiveMs, first.grantedMs + DAY);
  t.equal(world.try('adam', world.grantCall(nora, 'physician', world.now + 2 * HOUR)), null);
  t.match(entry(), { grantedMs: first.grantedMs, effectiveMs: first.effectiveMs }, 'renewed in time: it goes on');
  world.pass(3 * HOUR);
  world.do('admin@a', world.grantCall(nora, 'physician', world.now + HOUR));
  t.ok(entry().effectiveMs > first.effectiveMs, 'renewed too late: it begins anew');

  const revoke = {
    kind: 'role.revoke' as const,
    scope: { account: nora.id, role: 'physician' as const, orgId: A, department: null },
  };
  t.equal(world.try('admin@b', revoke), 'NOT_YOUR_ORGANISATION');
  t.equal(world.try('admin@a', revoke), null);
  t.equal(world.try('admin@a', revoke), 'ROLE_MISSING');
  for (let i = 0; i < 32; i += 1)
    world.do('admin@a', world.grantCall(nora, 'physician', NEVER, tag(`department ${i}`)));
  t.equal(world.try('admin@a', world.grantCall(nora, 'nurse')), 'TOO_MANY_ROLES');
});

t.test("an administrator's own role expires like any other", async (t) => {
  const world = new World({ adam: { org: A, roles: [] } });
  world.do('admin@a', world.grantCall(world.who('adam'), 'org_admin', world.now + HOUR));
  const enrol = world.enrolCall(world.newActor(A, null), 'patient');
  world.pass(HOUR);
  t.equal(world.try('adam', enrol), 'ROLE_EXPIRED');
});

t.test('suspension, reinstatement, rotation', async (t) => {
  const world = new World({
    nora: { org: A, roles: ['physician'] },
    twin: { org: A, roles: [], tag: 'admin hospital-a' },
  });
  const nora = world.who('nora');
  const suspend = (account: Uint8Array): Call => ({ kind: 'account.suspend', account, reason: 'LEFT' });
  t.equal(world.try('admin@b', suspend(nora.id)), 'NOT_YOUR_ORGANISATION');
  t.equal(world.try('admin@a', suspend(world.who('twin').id)), 'CANNOT_SUSPEND_SELF', 'nor by another account');
  t.equal(world.try('admin@a', suspend(nora.id)), null);
  t.equal(world.try('admin@a', suspend(nora.id)), 'ACCOUNT_SUSPENDED');
  t.equal(
    world.try('nora', { kind: 'account.rotate', newPublicKey: newKey().publicKey, possession: BLANK }),
    'ACCOUNT_SUSPENDED',
  );
  t.equal(world.try('admin@a', { kind: 'account.reinstate', account: world.who('twin').id }), 'CANNOT_REINSTATE_SELF');
  t.equal(world.try('admin@a', { kind: 'account.reinstate', account: nora.id }), null);
  t.equal(world.try('admin@a', { kind: 'account.reinstate', account: nora.id }), 'ACCOUNT_NOT_SUSPENDED');

  const before = nora.publicKey;
  const { publicKey } = newKey();
  t.equal(world.try('nora', { kind: 'account.rotate', newPublicKey: before, possession: BLANK }), 'KEY_ALREADY_USED');
  world.do('nora', { kind: 'account.rotate', newPublicKey: publicKey, possession: BLANK });
  t.equal(world.try('nora', suspend(nora.id)), 'KEY_NOT_CURRENT', 'the old key is no key any more');
  nora.publicKey = publicKey;
  t.equal(
    world.try('nora', { kind: 'account.rotate', newPublicKey: before, possession: BLANK }),
    'KEY_ALREADY_USED',
    'and never comes back',
  );
  t.same(decodeTrusted(keyEntry, world.state.get(stateKey.key(sm2Address(before)))!, 'key'), {
    account: nora.id,
    use: 'account',
  });
});

t.test('an administrator alone never takes over an account', async (t) => {
  const world = new World({ nora: { org: A, roles: ['physician'] } });
  const paula = world.patient('paula');
  const fresh = newKey();
  const recover = (actor: Actor, key: Uint8Array, by?: string): Call => ({
    kind: 'account.recover',
    recovery: { account: actor.id, newPublicKey: key },
    possession: BLANK,
    countersignature: by === undefined ? null : world.sign(by),
  });
  t.equal(world.try('admin@a', recover(paula, fresh.publicKey)), 'COUNTERSIGNATURE_REQUIRED');
  t.equal(world.try('admin@a', recover(paula, fresh.publicKey, 'admin@a')), 'COUNTERSIGNER_SAME_PERSON');
  t.equal(world.try('admin@b', recover(paula, fresh.publicKey, 'admin@c')), 'NOT_YOUR_ORGANISATION');
  t.equal(world.try('admin@a', recover(paula, paula.publicKey, 'admin@b')), 'KEY_ALREADY_USED');
  const complete: Call = { kind: 'account.completeRecovery', account: paula.id };
  t.equal(world.try('admin@a', complete), 'RECOVERY_NOT_PENDING');
  t.equal(world.try('paula', { kind: 'account.vetoRecovery' }), 'RECOVERY_NOT_PENDING');

  t.equal(world.try('admin@a', recover(paula, fresh.publicKey, 'admin@b')), null);
  t.equal(world.try('admin@a', recover(paula, newKey().publicKey, 'admin@b')), 'RECOVERY_PENDING');
  t.equal(
    world.try('paula', { kind: 'account.rotate', newPublicKey: newKey().publicKey, possession: BLANK }),
    'RECOVERY_PENDING',
  );
  t.equal(world.try('admin@a', complete), 'RECOVERY_NOT_DUE');
  world.do('admin@a', { kind: 'account.suspend', account: paula.id, reason: 'LOST_KEY' });
  t.equal(world.try('paula', { kind: 'account.vetoRecovery' }), null, 'even while suspended');
  t.equal(
    world.try('admin@a', recover(paula, fresh.publicKey, 'admin@b')),
    'KEY_ALREADY_USED',
    'a vetoed key is burnt, and so is the countersignature',
  );
  world.do('admin@a', { kind: 'account.reinstate', account: paula.id });

  const next = newKey();
  world.do('admin@a', recover(paula, next.publicKey, 'admin@b'));
  world.pass(72 * HOUR);
  t.equal(world.try('admin@b', complete), 'NOT_YOUR_ORGANISATION');
  t.equal(world.try('admin@a', complete), null);
  t.equal(world.try('paula', { kind: 'account.vetoRecovery' }), 'KEY_NOT_CURRENT', 'the old key is gone');
  t.same(accountOf(world, paula).publicKey, next.publicKey);
  t.ok(accountOf(world, paula).recoveredMs! > 0);
});

t.test('attending relations', async (t) => {
  const world = new World({
    alice: { org: A, roles: ['physician'] },
    dave: { org: A, roles: ['physician'] },
    nora: { org: A, roles: ['nurse'] },
    mona: { org: A, roles: ['medical_affairs'] },
    hans: { org: A, roles: ['department_head'] },
    bob: { org: B, roles: ['physician', 'department_head'] },
  });
  const paula = world.patient('paula');
  const set = (physician: string, by?: string, expiresAtMs = world.now + DAY, patient = paula.id): Call => ({
    kind: 'attending.set',
    relation: { patient, physician: world.who(physician).id, expiresAtMs },
    countersignature: by === undefined ? null : world.sign(by),
  });
  const end = (physician: string): Call => ({
    kind: 'attending.end',
    patient: paula.id,
    physician: world.who(physician).id,
  });
  t.equal(world.try('paula', set('nora')), 'NOT_A_PHYSICIAN');
  t.equal(world.try('paula', set('dave', undefined, world.now)), 'EXPIRY_PASSED');
  t.equal(world.try('paula', set('dave', 'mona')), 'COUNTERSIGNATURE_NOT_ALLOWED');
  t.equal(world.try('paula', set('dave', undefined, NEVER, world.who('nora').id)), 'NOT_A_PATIENT');
  t.equal(world.try('paula', set('dave', undefined, NEVER, new Uint8Array(20))), 'ACCOUNT_UNKNOWN');
  t.equal(world.try('paula', set('bob')), null, 'a patient may choose a physician of any hospital');
  t.equal(world.try('alice', set('alice', 'mona')), 'NOT_AN_AUTHOR');
  world.record('alice', 'paula', world.policy({ kind: 'owner' }));
  t.equal(world.try('alice', set('alice')), 'COUNTERSIGNATURE_REQUIRED');
  t.equal(world.try('alice', set('alice', 'dave')), 'COUNTERSIGNER_ROLE_MISSING');
  t.equal(world.try('alice', set('alice', 'bob')), 'COUNTERSIGNER_OTHER_ORGANISATION');
  t.equal(world.try('alice', set('bob', 'mona')), 'NOT_YOUR_ORGANISATION');
  t.equal(world.try('alice', set('alice', 'hans')), null);

  t.equal(world.try('nora', end('alice')), 'NOT_ALLOWED_TO_END');
  t.equal(world.try('mona', end('dave')), 'ATTENDING_UNKNOWN');
  t.equal(world.try('mona', end('alice')), null);
  t.equal(world.try('mona', end('alice')), 'ATTENDING_UNKNOWN');
  t.equal(
    world.try('alice', set('alice', 'hans', world.now + HOUR)),
    'ATTENDING_NOT_LATER',
    'an old countersignature brings nothing back',
  );
  t.equal(world.try('alice', set('alice', 'hans', world.now + 2 * DAY)), null);
  t.equal(world.try('paula', end('alice')), null);
  t.equal(world.try('alice', set('alice', 'hans', world.now + 9 * DAY)), 'ATTENDING_ENDED_BY_PATIENT');
  t.equal(world.try('paula', set('alice')), null);
});
