import t from 'tap';
import { decodeTrusted } from '../../common/codec.ts';
import type { PolicyDocument, PolicyRule } from '../../common/protocol/policy.ts';
import { policyRefOf } from '../../common/protocol/policy.ts';
import type { Hash } from '../../common/protocol/primitives.ts';
import { amendmentEntry, policyEntry, requestEntry, stateKey } from '../../common/protocol/state-entries.ts';
import { amendmentIdOf } from '../../common/protocol/transaction.ts';
import { checkAccess, checkGrant, explainRequest } from '../../vm/index.ts';
import { A, all, attending, B, by, C, D, DAY, HOUR, nonce, owner, person, some, token, World } from './vm-world.ts';

const people = {
  alice: { org: A, roles: ['physician' as const] },
  bob: { org: B, roles: ['physician' as const] },
  ada: { org: A, roles: ['medical_affairs' as const] },
  bea: { org: B, roles: ['ethics_board' as const] },
  cora: { org: C, roles: ['ethics_board' as const] },
  dora: { org: D, roles: ['ethics_board' as const] },
};
const ADMIN_RULE = all(by('medical_affairs', 'writer'), by('ethics_board'));
const ETHICS = some(2, by('ethics_board'), by('ethics_board'), by('ethics_board'));

class Amending {
  readonly world = new World(people);
  readonly ref: Hash;
  document: PolicyDocument;

  constructor(more: Partial<PolicyDocument> = {}, rules: readonly Partial<PolicyRule>[] = [{}]) {
    this.document = this.world.document(rules, { adminRule: ADMIN_RULE, ...more });
    this.world.do('admin@a', { kind: 'policy.create', document: this.document });
    this.ref = policyRefOf(this.document);
  }

  changed(more: Partial<PolicyRule>): PolicyDocument {
    return { ...this.document, rules: this.document.rules.map((rule, i) => (i === 0 ? { ...rule, ...more } : rule)) };
  }

  get policy() {
    return decodeTrusted(policyEntry, this.world.state.get(stateKey.policy(this.ref))!, 'policy');
  }

  entry(id: Hash) {
    return decodeTrusted(amendmentEntry, this.world.state.get(stateKey.amendment(id))!, 'amendment');
  }

  proposal(from: string, document: PolicyDocument, version = this.policy.version + 1) {
    const amendment = { policyRef: this.ref, version, document };
    const fresh = nonce();
    const id = amendmentIdOf(this.world.chainId, this.world.who(from).id, fresh, amendment);
    return { id, call: { kind: 'policy.propose' as const, amendment, nonce: fresh } };
  }

  /** The code that it is refused with. */
  code(from: string, document: PolicyDocument, version?: number): string | null {
    return this.world.try(from, this.proposal(from, document, version).call);
  }

  propose(from: string, document: PolicyDocument): Hash {
    const { id, call } = this.proposal(from, document);
    this.world.do(from, call);
    return id;
  }

  approve(from: string, amendmentId: Hash): string | null {
    return this.world.try(from, { kind: 'policy.approve', amendmentId });
  }

  reject(from: string, amendmentId: Hash): string | null {
    return this.world.try(from, { kind: 'policy.reject', amendmentId });
  }
}

t.test('a policy gets a new version when its admin rule is satisfied', async (t) => {
  const on = new Amending();
  const document = on.changed({ maxDurationMs: 2 * DAY });
  const id = on.propose('admin@a', document);
  t.equal(on.approve('admin@a', id), 'NOT_AN_APPROVER', 'an administrator proposes and fills no slot');
  t.equal(on.approve('bob', id), 'NOT_AN_APPROVER');
  t.equal(on.approve('ada', id), null);
  t.equal(on.approve('ada', id), 'ALREADY_DECIDED');
  t.equal(on.policy.version, 1);
  const events = on.world.do('bea', { kind: 'policy.approve', amendmentId: id });
  t.match(
    events.map(({ type }) => type),
    ['policy.approve', 'policy.amended'],
  );
  t.match(on.policy, { ref: on.ref, version: 2, document, amendmentId: id });
  t.match(on.entry(id), { status: 'effective', statusBy: on.world.who('bea').id });
  const old = on.world.state.get(stateKey.policyVersion(on.ref, 1));
  t.match(decodeTrusted(policyEntry, old!, 'version'), { version: 1, document: on.document, amendmentId: null });
  t.equal(on.approve('cora', id), 'AMENDMENT_CLOSED');
  t.equal(on.reject('ada', id), 'AMENDMENT_CLOSED');
  t.equal(on.approve('ada', token('none')), 'AMENDMENT_UNKNOWN');
});

t.test('who proposes, and what', async (t) => {
  const on = new Amending();
  const { document } = on;
  const wider = on.changed({ maxDurationMs: 2 * DAY });
  t.equal(on.code('bob', wider), 'NOT_AN_APPROVER');
  t.equal(on.code('admin@b', wider), 'NOT_AN_APPROVER', "another organisation's administrator");
  t.equal(on.code('ada', wider, 3), 'VERSION_NOT_NEXT');
  t.equal(on.code('ada', wider, 1), 'VERSION_NOT_NEXT');
  for (const other of [{ nonce: nonce() }, { orgId: B }, { custodian: false }, { patientWrap: false }]) {
    t.equal(on.code('ada', { ...wider, ...other }), 'POLICY_PART_FIXED', Object.keys(other).join());
  }
  t.equal(on.code('ada', on.changed({ approvals: all(owner, owner) })), 'POLICY_UNSATISFIABLE');
  t.equal(on.code('ada', { ...document, adminRule: by('patient') }), 'POLICY_BAD_SLOT');
  const unknown = { policyRef: token('none'), version: 2, document };
  t.equal(on.world.try('ada', { kind: 'policy.propose', amendment: unknown, nonce: nonce() }), 'POLICY_UNKNOWN');
  const { call } = on.proposal('ada', wider);
  t.equal(on.world.try('ada', call), null);
  t.equal(on.world.try('ada', call), 'AMENDMENT_EXISTS');
  t.equal(on.code('admin@a', wider), 'AMENDMENT_OPEN', 'one for each organisation');
  t.equal(on.code('bea', wider), null, 'which keeps no other from proposing');
});

t.test('admin rules that nobody can satisfy keep a policy as it is', async (t) => {
  for (const adminRule of [
    owner,
    all(owner, by('ethics_board')),
    all(attending, by('ethics_board')),
    all(by('medical_affairs', 'requester'), by('ethics_board')),
    all(by('org_admin', { orgId: A }), by('medical_affairs', { orgId: A })),
  ]) {
    const on = new Amending({ adminRule });
    t.equal(on.code('admin@a', on.changed({ maxDurationMs: HOUR })), 'POLICY_NOT_AMENDABLE');
  }
});

t.test('two organisations, one person one slot, roles that have cooled', async (t) => {
  const on = new Amending({ adminRule: all(by('ethics_board'), by('ethics_board')) });
  on.world.staff('betty', B, ['ethics_board']);
  on.world.staff('bea again', C, [], 'bea');
  on.world.do('admin@c', on.world.grantCall(on.world.who('bea again'), 'ethics_board'));
  on.world.pass(on.world.genesis.params.roleCoolingMs + 1);
  on.world.staff('new', D, ['ethics_board']);
  const id = on.propose('bea', on.changed({ maxDurationMs: HOUR }));
  t.equal(on.approve('new', id), 'ROLE_NOT_YET_EFFECTIVE');
  t.equal(on.approve('bea', id), null);
  t.equal(on.approve('bea again', id), 'ALREADY_DECIDED');
  t.equal(on.entry(id).decisions[0]?.personTag, null, 'everybody reads it, and nobody learns that they are one');
  t.equal(on.approve('betty', id), null);
  t.equal(on.policy.version, 1, 'two persons, but of one organisation');
  t.equal(on.approve('cora', id), null);
  t.equal(on.policy.version, 2);
});

t.test('a role that is revoked before the last approval counts no more', async (t) => {
  const on = new Amending();
  const id = on.propose('ada', on.changed({ maxDurationMs: HOUR }));
  t.equal(on.approve('ada', id), null);
  const { id: account, orgId } = on.world.who('ada');
  on.world.do('admin@a', { kind: 'role.revoke', scope: { account, role: 'medical_affairs', orgId, department: null } });
  t.equal(on.approve('bea', id), null);
  t.equal(on.policy.version, 1);
});

t.test('a key that a hospital keeps fills no slot of an admin rule', async (t) => {
  const world = new World(people);
  const paula = world.patient('paula', A, true);
  const adminRule = all(person(paula), by('ethics_board', { orgId: B }));
  const document = world.document([{}], { adminRule });
  world.do('admin@a', { kind: 'policy.create', document });
  const amendment = { policyRef: policyRefOf(document), version: 2, document };
  t.equal(world.try('bea', { kind: 'policy.propose', amendment, nonce: nonce() }), 'POLICY_NOT_AMENDABLE');
});

t.test('rejections', async (t) => {
  const on = new Amending({
    adminRule: some(2, by('medical_affairs', 'writer'), by('ethics_board'), by('ethics_board', { orgId: B })),
  });
  const document = on.changed({ maxDurationMs: HOUR });
  const first = on.propose('ada', document);
  t.equal(on.reject('bob', first), 'NOT_AN_APPROVER');
  t.equal(on.reject('cora', first), null);
  t.equal(on.reject('cora', first), 'ALREADY_DECIDED');
  t.equal(on.reject('dora', first), 'SLOT_ALREADY_DENIED');
  t.equal(on.entry(first).status, 'open', 'two slots are left');
  t.equal(on.reject('bea', first), null);
  t.match(on.entry(first), { status: 'rejected', statusBy: on.world.who('bea').id });
  const second = on.propose('ada', document);
  t.equal(on.reject('ada', second), null, 'who proposed takes it back');
  t.equal(on.entry(second).status, 'rejected');
  const third = on.propose('bea', document);
  t.equal(on.reject('admin@a', third), 'NOT_AN_APPROVER');
  t.equal(on.reject('admin@b', third), null, "or an administrator of the proposer's organisation");
});

t.test('two amendments race: the first that takes effect outdates the other', async (t) => {
  const on = new Amending();
  const one = on.propose('ada', on.changed({ maxDurationMs: HOUR }));
  const other = on.propose('bea', on.changed({ maxDurationMs: 2 * HOUR }));
  t.equal(on.approve('ada', one), null);
  t.equal(on.approve('ada', other), null);
  t.equal(on.approve('bea', one), null);
  t.equal(on.approve('cora', other), 'AMENDMENT_OUTDATED');
  t.equal(on.reject('cora', other), 'AMENDMENT_OUTDATED');
  t.equal(on.policy.document.rules[0]?.maxDurationMs, HOUR);
  const next = on.proposal('bea', on.changed({ maxDurationMs: 3 * HOUR }));
  t.match(
    on.world.do('bea', next.call).map(({ type }) => type),
    ['policy.outdated', 'policy.propose'],
    'it is no obstacle to another',
  );
  t.equal(on.entry(other).status, 'outdated');
  t.equal(on.approve('cora', other), 'AMENDMENT_OUTDATED');
});

t.test('in one block the first of two last approvals takes effect', async (t) => {
  const on = new Amending();
  const one = on.propose('ada', on.changed({ maxDurationMs: HOUR }));
  const other = on.propose('bea', on.changed({ maxDurationMs: 2 * HOUR }));
  t.same([on.approve('ada', one), on.approve('ada', other)], [null, null]);
  const { world } = on;
  const outcome = world.commit(
    world.tx('bea', { kind: 'policy.approve', amendmentId: other }),
    world.tx('cora', { kind: 'policy.approve', amendmentId: one }),
  );
  t.equal(outcome.code, 'AMENDMENT_OUTDATED');
});

t.test('an approval is for one amendment alone', async (t) => {
  const on = new Amending();
  const harmless = on.propose('ada', on.changed({ maxDurationMs: HOUR }));
  const other = on.propose('bea', on.changed({ maxDurationMs: 30 * DAY }));
  const signed = on.world.tx('ada', { kind: 'policy.approve', amendmentId: harmless });
  t.equal(on.world.commit(signed).code, null);
  t.equal(on.world.commit(signed).code, 'TX_REPLAYED');
  t.equal(on.approve('bea', other), null);
  t.equal(on.policy.version, 1, 'an approval of the one is none of the other');
  t.same(
    on.entry(other).decisions.map(({ account }) => account),
    [on.world.who('bea').id],
  );
});

t.test('amendments end with their time', async (t) => {
  const on = new Amending();
  const ttl = on.world.genesis.params.governanceTtlMs;
  const id = on.propose('ada', on.changed({ maxDurationMs: HOUR }));
  on.world.now = on.entry(id).closesMs - 1;
  t.equal(on.approve('ada', id), null);
  t.match(on.world.pass(0), [{ type: 'policy.expired', actor: null, objectId: id }]);
  t.equal(on.entry(id).status, 'expired');
  t.equal(on.approve('bea', id), 'AMENDMENT_CLOSED');
  const stale = on.propose('bea', on.changed({ maxDurationMs: 2 * HOUR }));
  const good = on.propose('ada', on.changed({ maxDurationMs: HOUR }));
  t.same([on.approve('ada', good), on.approve('bea', good)], [null, null]);
  t.match(on.world.pass(ttl), [{ type: 'policy.outdated', objectId: stale }]);
});

t.test('what would weaken owners is refused, whoever proposes it', async (t) => {
  const ethics: Partial<PolicyRule> = {
    approvals: ETHICS,
    purposes: ['HRESCH'],
    requesters: [{ role: 'researcher', scope: { kind: 'named', orgId: B }, department: null }],
    categories: [token('imaging')],
  };
  const self: Partial<PolicyRule> = {
    purposes: ['PATRQT'],
    requesters: [{ role: 'patient', scope: { kind: 'any' }, department: null }],
  };
  const on = new Amending({}, [{ approvals: all(owner, attending) }, ethics, self]);
  const [consent, free, own] = on.document.rules as [PolicyRule, PolicyRule, PolicyRule];
  const code = (...rules: PolicyRule[]): string | null => {
    const { id, call } = on.proposal('ada', { ...on.document, rules });
    const refused = on.world.try('ada', call);
    if (refused === null) on.world.do('ada', { kind: 'policy.reject', amendmentId: id });
    return refused;
  };
  const role = (scope: PolicyRule['requesters'][number]['scope']): PolicyRule['requesters'] => [
    { role: 'researcher', scope, department: null },
  ];
  const W = 'POLICY_WEAKENS_OWNER';
  // Consent that was needed is needed no more.
  t.equal(code({ ...consent, approvals: some(1, owner, all(attending, by('ethics_board'))) }, free, own), W);
  t.equal(code({ ...consent, approvals: all(attending, by('ethics_board')) }, free, own), W, 'the slot is removed');
  t.equal(code(consent, free, own, { ...consent, approvals: ETHICS }), W, 'a new rule beside the old one');
  t.equal(code(consent, free, own, { ...free, purposes: ['BTG'] }), W);
  // Access that needed no consent becomes wider or easier.
  t.equal(code(consent, { ...free, purposes: ['HRESCH', 'TREAT'] }, own), W);
  t.equal(code(consent, { ...free, categories: null }, own), W);
  t.equal(code(consent, { ...free, categories: [token('imaging'), token('psychiatry')] }, own), W);
  t.equal(code(consent, { ...free, requesters: role({ kind: 'any' }) }, own), W);
  t.equal(code(consent, { ...free, requesters: role({ kind: 'named', orgId: C }) }, own), W);
  t.equal(code(consent, { ...free, maxDurationMs: free.maxDurationMs + 1 }, own), W);
  t.equal(code(consent, { ...free, approvals: some(2, by('nurse'), by('ethics_board'), by('ethics_board')) }, own), W);
  t.equal(code(consent, { ...free, approvals: all(by('ethics_board'), by('ethics_board')) }, own), W, 'another shape');
  // Owners' own way to their records.
  t.equal(code(consent, free), W);
  t.equal(code(consent, free, { ...own, maxDurationMs: HOUR }), W);
  t.equal(code(consent, free, { ...own, approvals: all(owner, attending) }), W);
  t.equal(code(consent, free, { ...own, categories: [token('imaging')] }), W);
  // What does neither.
  t.equal(code({ ...consent, approvals: owner, purposes: ['TREAT', 'HRESCH'] }, free, own), null, 'the owner is asked');
  t.equal(code(consent, own), null);
  t.equal(code(free, own), null);
  const strict = some(3, by('ethics_board', { orgId: A }), by('ethics_board'), by('ethics_board'));
  t.equal(code(consent, { ...free, approvals: strict }, own), null, 'narrower slots, a higher threshold');
  t.equal(code(consent, { ...free, maxDurationMs: HOUR }, own), null);
  t.equal(code(consent, { ...free, approvals: all(owner, by('ethics_board')) }, own), null);
});

t.test('an administrator alone does not loosen a policy in order to read', async (t) => {
  const on = new Amending();
  on.world.staff('helper', A, ['medical_affairs', 'ethics_board', 'physician']);
  on.world.pass(on.world.genesis.params.roleCoolingMs + 1);
  const loose = on.changed({ approvals: all(by('medical_affairs'), by('ethics_board')) });
  t.equal(on.code('admin@a', loose), 'POLICY_WEAKENS_OWNER');
  const id = on.propose('admin@a', { ...on.document, adminRule: by('org_admin') });
  t.equal(on.approve('admin@a', id), 'NOT_AN_APPROVER', 'the present rule decides, not the new one');
  t.equal(on.approve('ada', id), null);
  t.equal(on.approve('helper', id), null);
  t.equal(on.policy.version, 1, 'one organisation alone changes nothing');
});

t.test('pending requests end with the policy that they name, grants go on', async (t) => {
  const on = new Amending({}, [{ approvals: owner }, { approvals: owner, purposes: ['HRESCH'] }]);
  const { world } = on;
  const paula = world.patient('paula');
  const record = world.record('alice', 'paula', on.ref);
  const granted = world.ask('bob', record, { purpose: 'HRESCH', ruleIndex: 1 });
  t.equal(world.approve('paula', granted), null);
  const pending = world.ask('bob', record);
  const removed = { ...on.document, rules: on.document.rules.slice(0, 1) };
  const id = on.propose('ada', removed);
  t.same([on.approve('ada', id), on.approve('bea', id)], [null, null]);
  t.equal(world.approve('paula', pending), 'POLICY_CHANGED');
  t.equal(world.deny('paula', pending), 'POLICY_CHANGED');
  t.match(explainRequest(world.state, pending, world.now), { missing: { code: 'POLICY_CHANGED' } });
  t.ok(checkGrant(world.state, granted, world.now).ok, 'what is granted is granted');
  t.match(explainRequest(world.state, granted, world.now), { status: 'granted', tree: { slot: owner, by: paula.id } });
  const again = world.request('bob', record);
  t.equal(world.try('bob', world.requestCall(again)), 'POLICY_CHANGED');
  t.equal(world.try('bob', world.requestCall({ ...again, policyVersion: 2 })), null);
  const { pendingUntilMs } = decodeTrusted(requestEntry, world.state.get(stateKey.request(pending))!, 'request');
  world.now = pendingUntilMs;
  t.match(
    world.commit().events.filter(({ requestHash }) => Buffer.compare(requestHash!, pending) === 0),
    [{ type: 'access.expired', detail: 'POLICY_CHANGED' }],
  );
  t.equal(world.approve('paula', pending), 'POLICY_CHANGED', 'the same code after the sweep');
});

t.test('a request that ended so is cancelled as any other, and frees its place', async (t) => {
  const on = new Amending();
  on.world.patient('paula');
  const recordId = on.world.record('alice', 'paula', on.ref);
  const pending = on.world.ask('bob', recordId);
  const subject = on.world.who('bob').id;
  const reason = () => checkAccess(on.world.state, { subject, recordId, purpose: 'TREAT', atMs: on.world.now }).reason;
  t.equal(reason(), 'WAITING');
  const id = on.propose('ada', on.changed({ maxDurationMs: 2 * HOUR }));
  t.same([on.approve('ada', id), on.approve('bea', id)], [null, null]);
  t.equal(reason(), 'POLICY_CHANGED');
  t.equal(on.world.try('bob', { kind: 'access.cancel', requestHash: pending }), null);
  t.equal(reason(), 'CANCELLED');
});
