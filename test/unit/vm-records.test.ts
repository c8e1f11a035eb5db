import t from 'tap';
import { decodeTrusted, encode } from '../../common/codec.ts';
import type { PolicyDocument } from '../../common/protocol/policy.ts';
import { policyRefOf } from '../../common/protocol/policy.ts';
import {
  auditEntry,
  organisationEntry,
  prefixRange,
  recordVersionEntry,
  stateKey,
  statePrefix,
} from '../../common/protocol/state-entries.ts';
import type { Sidecar } from '../../common/protocol/transaction.ts';
import { executeBlock } from '../../vm/index.ts';
import { A, all, ANY_PHYSICIAN, B, by, C, HOUR, newKey, nonce, owner, some, token, World } from './vm-world.ts';

const people = {
  alice: { org: A, roles: ['physician' as const] },
  eva: { org: A, roles: ['emergency_physician' as const] },
  nora: { org: A, roles: ['nurse' as const] },
  bob: { org: B, roles: ['physician' as const] },
};

t.test('policies', async (t) => {
  const world = new World(people);
  const code = (document: PolicyDocument, from = 'admin@a'): string | null =>
    world.try(from, { kind: 'policy.create', document });
  const one = (approvals: Parameters<World['policy']>[0], rule = {}, more = {}): PolicyDocument =>
    world.document([{ approvals, ...rule }], more);
  t.equal(code(one(owner), 'alice'), 'ROLE_MISSING');
  t.equal(code(one(owner), 'admin@b'), 'NOT_YOUR_ORGANISATION');
  t.equal(code(one(owner, {}, { custodian: false, patientWrap: false })), 'POLICY_NO_WRAP');
  t.equal(code(one(owner, { maxDurationMs: 0 })), 'POLICY_BAD_DURATION');
  t.equal(code(one(some(1, some(1, some(1, some(1, some(1, owner))))))), 'POLICY_TOO_DEEP');
  t.equal(code(one(all(all(...Array.from({ length: 12 }, () => owner)), owner))), 'POLICY_TOO_WIDE');
  t.equal(code(one(some(3, owner, owner))), 'POLICY_BAD_THRESHOLD');
  t.equal(code(one(by('patient'))), 'POLICY_BAD_SLOT', 'a patient slot is never filled by role');
  t.equal(code(one(owner, {}, { adminRule: by('patient') })), 'POLICY_BAD_SLOT');
  t.equal(code(one(all(owner, { kind: 'person', account: new Uint8Array(20) }))), 'POLICY_UNKNOWN_PERSON');
  t.equal(code(one(all(owner, by('physician', { orgId: 'nowhere' })))), 'POLICY_UNKNOWN_ORGANISATION');
  const nowhere = [
    { role: 'physician' as const, scope: { kind: 'named' as const, orgId: 'nowhere' }, department: null },
  ];
  t.equal(code(one(owner, { requesters: nowhere })), 'POLICY_UNKNOWN_ORGANISATION');
  t.equal(code(one(all(owner, owner))), 'POLICY_UNSATISFIABLE', 'the owner fills one slot');
  t.equal(code(one(by('department_head', 'writer'))), 'POLICY_UNSATISFIABLE', 'one organisation, and no owner');
  const good = one(some(2, by('ethics_board'), by('ethics_board'), by('ethics_board')));
  t.equal(code(good), null);
  t.equal(code(good), 'POLICY_EXISTS');
});

t.test('records', async (t) => {
  const world = new World({ ...people, late: { org: A, roles: [] } }, { orgStorageBytes: 10_000 });
  const paula = world.patient('paula');
  world.patient('bert', B);
  const policy = world.policy(owner);
  const sidecar = world.wraps();
  const code = (
    from: string,
    call = world.createCall('paula', policy),
    given: Sidecar | null = sidecar,
  ): string | null => world.try(from, call, { sidecar: given });
  t.equal(code('nora'), 'ROLE_MISSING');
  world.do('admin@a', world.grantCall(world.who('late'), 'physician', world.now + 10));
  world.pass(10);
  t.equal(code('late'), 'ROLE_EXPIRED');
  t.equal(code('bob'), 'HOSPITAL_MISMATCH');
  t.equal(code('alice', { ...world.createCall('paula', policy), hospital: B }), 'HOSPITAL_MISMATCH');
  t.equal(
    code('alice', { ...world.createCall('paula', policy), owner: world.who('bert').id }),
    'OWNER_NOT_PATIENT_HERE',
  );
  t.equal(
    code('alice', { ...world.createCall('paula', policy), owner: world.who('nora').id }),
    'OWNER_NOT_PATIENT_HERE',
  );
  t.equal(
    code('alice', world.createCall('paula', policy, { ownerPublicKey: newKey().publicKey })),
    'OWNER_KEY_NOT_CURRENT',
  );
  t.equal(code('alice', world.createCall('paula', policy, { sizeBytes: 0 })), 'EMPTY_RECORD');
  const cid = Uint8Array.from([1, 0x71, 0x12, 32, ...token('cid')]);
  t.equal(code('alice', world.createCall('paula', policy, { cid })), 'BAD_CID');
  t.equal(code('alice', world.createCall('paula', token('no policy'))), 'POLICY_UNKNOWN');
  const other = world.policy(owner, { categories: [token('other')] });
  t.equal(code('alice', world.createCall('paula', other)), 'POLICY_EXCLUDES_CATEGORY');
  t.equal(code('alice', world.createCall('paula', policy, { sizeBytes: 10_001 })), 'STORAGE_QUOTA');

  const call = world.createCall('paula', policy);
  t.equal(code('alice', call), null);
  t.equal(code('alice', call), 'RECORD_EXISTS');
  t.equal(code('eva', world.createCall('paula', policy, { sizeBytes: 5_904 })), null, 'the last bytes of the quota');
  t.equal(code('alice', world.createCall('paula', policy, { sizeBytes: 1 })), 'STORAGE_QUOTA');
  world.do('admin@a', { kind: 'account.suspend', account: paula.id, reason: 'LOST_KEY' });
  t.equal(code('alice'), 'OWNER_SUSPENDED');
});

t.test('the sidecar holds the wraps that the policy demands, and nothing else', async (t) => {
  const world = new World(people);
  world.patient('paula');
  const both = world.policy(owner);
  const patientOnly = world.policy(owner, {}, { custodian: false });
  const code = (policy: Uint8Array, sidecar: Sidecar, given: Sidecar | null = sidecar): string | null =>
    world.try('alice', world.createCall('paula', policy, {}, sidecar), { sidecar: given });
  t.equal(code(both, world.wraps(), null), 'SIDECAR_MISSING');
  t.equal(code(both, world.wraps(), world.wraps(A, 'patient')), 'SIDECAR_MISMATCH');
  t.equal(world.try('admin@a', { kind: 'account.vetoRecovery' }, { sidecar: world.wraps() }), 'SIDECAR_UNEXPECTED');
  t.equal(code(both, { kind: 'delivery', ciphertext: new Uint8Array(165) }), 'SIDECAR_WRONG_WRAPS');
  t.equal(code(both, world.wraps(A, 'patient')), 'SIDECAR_WRONG_WRAPS');
  t.equal(code(both, world.wraps(B)), 'SIDECAR_WRONG_WRAPS', "another hospital's custodian");
  t.equal(code(both, world.wraps(A, 'custodian', 'patient')), 'SIDECAR_WRONG_WRAPS', 'one order');
  t.equal(code(both, world.wraps(A, 'patient', 'patient')), 'SIDECAR_WRONG_WRAPS');
  const short: Sidecar = { kind: 'wraps', wraps: [{ to: { kind: 'patient' }, ciphertext: new Uint8Array(129) }] };
  t.equal(code(patientOnly, short), 'SIDECAR_WRONG_WRAPS', 'a wrap of the bare key');
  t.equal(code(patientOnly, world.wraps()), 'SIDECAR_WRONG_WRAPS', 'the custodian only where the policy says so');
  t.equal(code(patientOnly, world.wraps(A, 'patient')), null);
  t.equal(code(both, world.wraps()), null);

  const tx = world.tx('alice', world.createCall('paula', both), { sidecar: null });
  t.match(
    executeBlock(world.state, { ...world.block, certified: true }, [tx]),
    { ok: true },
    'erased since, in a block from sync',
  );
});

t.test('a hospital without a custodian writes under no policy that wants one', async (t) => {
  const world = new World(people);
  world.patient('paula');
  const policy = world.policy(owner);
  const entry = { orgId: A, name: A, status: 'active' as const, custodianKey: null, sinceMs: 0 };
  world.state.apply([{ key: stateKey.organisation(A), value: encode(organisationEntry, entry) }]);
  t.equal(world.try('alice', world.createCall('paula', policy), { sidecar: world.wraps() }), 'CUSTODIAN_KEY_MISSING');
});

t.test('versions', async (t) => {
  const world = new World(people);
  const paula = world.patient('paula');
  world.patient('peter');
  const policy = world.policy(owner);
  const recordId = world.record('alice', 'paula', policy);
  const sidecar = world.wraps();
  const version = (more: object = {}) => ({
    kind: 'record.addVersion' as const,
    recordId,
    version: 2,
    owner: paula.id,
    hospital: A as string,
    sectionClass: 'general' as const,
    content: world.content('paula', policy, sidecar),
    ...more,
  });
  const code = (from: string, more: object = {}): string | null => world.try(from, version(more), { sidecar });
  t.equal(code('alice', { recordId: token('none') }), 'RECORD_UNKNOWN');
  t.equal(code('bob'), 'NOT_WRITING_ORGANISATION');
  t.equal(code('alice', { owner: world.who('peter').id }), 'RECORD_MISMATCH');
  t.equal(code('alice', { sectionClass: 'imaging' }), 'RECORD_MISMATCH');
  t.equal(code('alice', { version: 1 }), 'VERSION_NOT_NEXT');
  t.equal(code('alice', { version: 3 }), 'VERSION_NOT_NEXT');
  t.equal(code('eva'), null, 'a colleague of the same hospital');
  const stored = decodeTrusted(recordVersionEntry, world.state.get(stateKey.recordVersion(recordId, 2))!, 'version');
  t.same(stored.writer, world.who('eva').id);
  t.equal(world.try('bob', world.requestCall(world.request('bob', recordId, { version: 3 }))), 'VERSION_UNKNOWN');
  t.equal(world.try('bob', world.requestCall(world.request('bob', recordId, { version: 2 }))), null);
  const trail = [...world.state.range({ ...prefixRange(statePrefix.audit(recordId)), limit: 10 })];
  t.same(
    trail.map(({ value }) => decodeTrusted(auditEntry, value, 'audit').event.type),
    ['record.create', 'record.addVersion', 'access.request'],
  );
});

t.test('what a request names', async (t) => {
  const world = new World(
    { ...people, rita: { org: C, roles: ['researcher'] }, late: { org: B, roles: [] } },
    { maxOpenRequests: 2, maxGrantMs: 10 * HOUR },
  );
  const paula = world.patient('paula');
  const department = token('cardiology');
  const document = world.document([
    { approvals: owner, requesters: [...ANY_PHYSICIAN, { role: 'nurse', scope: { kind: 'writer' }, department }] },
    { approvals: owner, purposes: ['HRESCH'], categories: [token('other')] },
    { approvals: all(by('ethics_board'), by('ethics_board')), purposes: ['PATRQT'] },
  ]);
  world.do('admin@a', { kind: 'policy.create', document });
  const record = world.record('alice', 'paula', policyRefOf(document));
  const code = (from: string, more: Parameters<World['request']>[2] = {}): string | null =>
    world.try(from, world.requestCall(world.request(from, record, more)));
  t.equal(code('bob', { requester: paula.id }), 'NOT_THE_REQUESTER');
  t.equal(code('bob', { recordId: token('none') }), 'RECORD_UNKNOWN');
  t.equal(code('bob', { policyVersion: 2 }), 'POLICY_CHANGED');
  t.equal(code('bob', { ruleIndex: 3 }), 'RULE_UNKNOWN');
  t.equal(code('bob', { ruleIndex: 1, purpose: 'HRESCH' }), 'RULE_NOT_FOR_CATEGORY');
  t.equal(code('bob', { purpose: 'HRESCH' }), 'PURPOSE_NOT_ALLOWED');
  t.equal(code('rita'), 'ROLE_MISSING');
  t.equal(code('nora'), 'ROLE_MISSING', 'a nurse, but not of the department');
  world.do('admin@a', world.grantCall(world.who('nora'), 'nurse', world.now + HOUR, department));
  t.equal(code('nora'), null);
  world.do('admin@b', world.grantCall(world.who('late'), 'physician', world.now + HOUR));
  world.pass(HOUR);
  t.equal(code('late'), 'ROLE_EXPIRED');
  t.equal(code('bob', { notAfterMs: world.now }), 'NOT_AFTER_PASSED');
  t.equal(code('bob', { notAfterMs: world.now + 10 * HOUR + 1 }), 'DURATION_TOO_LONG');
  t.equal(code('bob', { requesterKey: world.who('bob').publicKey }), 'KEY_ALREADY_USED', 'the own key');
  const { requesterKey } = world.request('bob', record);
  t.equal(code('bob', { requesterKey }), null);
  t.equal(code('bob', { requesterKey }), 'KEY_ALREADY_USED', 'a key for one request alone');
  t.equal(code('bob', { notAfterMs: world.now + 10 * HOUR, nonce: nonce() }), null);
  t.equal(code('bob'), 'TOO_MANY_OPEN_REQUESTS');
});

t.test("an owner's own request fills the owner slot; one by a key that the hospital keeps does not", async (t) => {
  const world = new World(people);
  world.patient('paula');
  world.patient('kept', A, true);
  const patients = {
    purposes: ['PATRQT' as const],
    requesters: [{ role: 'patient' as const, scope: { kind: 'any' as const }, department: null }],
  };
  const policy = world.policy(owner, patients);
  const own = world.record('alice', 'paula', policy);
  const events = world.do('paula', world.requestCall(world.request('paula', own, { purpose: 'PATRQT' })));
  t.same(
    events.map((e) => e.type),
    ['access.request', 'access.granted'],
  );
  const kept = world.record('alice', 'kept', policy);
  t.equal(
    world.try('paula', world.requestCall(world.request('paula', kept, { purpose: 'PATRQT' }))),
    'ROLE_MISSING',
    "not another patient's",
  );
  t.equal(
    world.try('kept', world.requestCall(world.request('kept', kept, { purpose: 'PATRQT' }))),
    'REQUEST_UNSATISFIABLE',
  );
});
