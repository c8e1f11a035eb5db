/** The recovery key on the chain: who may hold shares of it, how it is voted in and out, and what is sealed under it. */
import t from 'tap';
import { equalBytes } from '../../common/bytes.ts';
import { encodePoint, GENERATOR } from '../../common/crypto/curve.ts';
import {
  activeRecoveryKeyEntry,
  recoveryKeyEntry,
  type RecoveryKeyRegistration,
} from '../../common/protocol/recovery-key.ts';
import { stateKey } from '../../common/protocol/state-entries.ts';
import {
  type Call,
  decodeTransaction,
  encodeSidecar,
  type Proposal,
  proposalIdOf,
  sidecarHash,
} from '../../common/protocol/transaction.ts';
import { executeBlock } from '../../vm/index.ts';
import { MAX_CAPSULES_PER_BLOCK } from '../../vm/limits.ts';
import { obligations } from '../../vm/obligations.ts';
import { engine, makeKey, must, type Officer, planFor } from './officers.ts';
import { Custodians, hexOf, typesOf } from './vm-custodians.ts';
import { people } from './vm-hospitals.ts';
import { B, BLANK, DAY, nonce, owner, tag, token, World } from './vm-world.ts';

/** Two of each of two hospitals: any three open a record, and two do not. */
const OFFICERS = ['alice', 'hans', 'bob', 'hilda'];

function consortium(names: readonly string[] = OFFICERS, threshold = 3, founders = people) {
  const custodians = new Custodians(new World(founders));
  custodians.make();
  const { world } = custodians;
  const officer = (name: string): Officer => ({ ...world.who(name), account: world.who(name).id });
  const make = (of: readonly string[] = names, m = threshold) => {
    const officers = of.map(officer);
    return makeKey(planFor(world.chainId, m, officers), officers);
  };
  const code = (proposal: Proposal): string | null =>
    world.try('admin@a', { kind: 'gov.propose', proposal, nonce: nonce() });
  const vote = (proposal: Proposal) => {
    const call: Call = { kind: 'gov.propose', proposal, nonce: nonce() };
    world.do('admin@a', call);
    const proposalId = proposalIdOf(world.chainId, world.who('admin@a').id, call.nonce, proposal);
    for (const org of ['a', 'b', 'c']) world.do(`admin@${org}`, { kind: 'gov.vote', proposalId, approve: true });
    return proposalId;
  };
  const enact = (proposal: Proposal) => {
    vote(proposal);
    return world.pass(DAY);
  };
  const active = () => custodians.read(activeRecoveryKeyEntry, stateKey.activeRecoveryKey());
  const entryOf = (key: Uint8Array) => custodians.read(recoveryKeyEntry, stateKey.recoveryKey(key));
  return { custodians, world, make, code, vote, enact, active, entryOf };
}

const setting = (registration: RecoveryKeyRegistration): Proposal => ({ kind: 'setRecoveryKey', ...registration });

t.test('voted in, replaced and ended; each stays known', async (t) => {
  const { make, code, enact, active, entryOf } = consortium();
  t.equal(active(), undefined);
  const { registration, shares } = make();
  const key = shares[0]!.key;
  t.ok(shares.every((share) => equalBytes(share.key, key)));
  t.equal(code({ kind: 'endRecoveryKey', key }), 'RECOVERY_KEY_NOT_ACTIVE', 'there is none');
  t.same(typesOf(enact(setting(registration))), ['custody.recoveryKey', 'gov.effective']);
  t.match(active(), { version: 1, key });
  const entry = entryOf(key)!;
  t.match(entry, { version: 1, threshold: 3, endedMs: null });
  t.same(
    entry.holders.map(({ share }) => hexOf(share)),
    shares.map(({ share }) => hexOf(share)),
    'with the public share of each officer',
  );
  t.equal(code(setting(registration)), 'RECOVERY_KEY_KNOWN');

  const next = make();
  t.same(typesOf(enact(setting(next.registration))), ['custody.recoveryKey', 'custody.recoveryKey', 'gov.effective']);
  t.match(active(), { version: 2, key: next.shares[0]!.key });
  const { sinceMs } = entryOf(next.shares[0]!.key)!;
  t.equal(entryOf(key)!.endedMs, sinceMs, 'the one before is over, and its officers are known still');
  t.equal(code({ kind: 'endRecoveryKey', key }), 'RECOVERY_KEY_NOT_ACTIVE');
  enact({ kind: 'endRecoveryKey', key: next.shares[0]!.key });
  t.match(active(), { version: 2, key: null });
  t.not(entryOf(next.shares[0]!.key)!.endedMs, null);
  enact(setting(make().registration));
  t.match(active(), { version: 3 });
});

t.test('two votes for one key: the second is void when its time comes', async (t) => {
  const { world, make, vote, active } = consortium();
  const { registration } = make();
  vote(setting(registration));
  vote(setting(registration));
  t.same(typesOf(world.pass(DAY)).sort(), ['custody.recoveryKey', 'gov.effective', 'gov.failed']);
  t.match(active(), { version: 1 });
});

t.test('what makes no key', async (t) => {
  const { world, make, code } = consortium();
  const { registration } = make();
  const changed = (more: Partial<RecoveryKeyRegistration>) => code(setting({ ...registration, ...more }));
  const { commitment, holders } = registration;
  const point = encodePoint(GENERATOR);
  t.equal(changed({ commitment: commitment.slice(0, 2) }), 'RECOVERY_KEY_SHAPE', 'two officers would be enough');
  t.equal(changed({ commitment: [...commitment, point] }), 'RECOVERY_KEY_SHAPE', 'it would take four');
  t.equal(changed({ threshold: 4 }), 'RECOVERY_KEY_SHAPE');
  t.equal(changed({ threshold: 1, commitment: [point, point] }), 'RECOVERY_KEY_SHAPE', 'one alone is nobody');
  t.equal(changed({ threshold: 5 }), 'RECOVERY_KEY_SHAPE', 'more than there are');
  t.equal(changed({ commitment: [...commitment.slice(0, 2), new Uint8Array(33)] }), 'RECOVERY_KEY_SHAPE', 'no point');
  t.equal(
    changed({ threshold: 2, commitment: commitment.slice(0, 2) }),
    'RECOVERY_KEY_ONE_ORGANISATION',
    'the two of one hospital',
  );
  t.equal(changed({ holders: [holders[0]!, ...holders.slice(0, 3)] }), 'RECOVERY_KEY_SHAPE', 'one officer twice');
  t.equal(changed({ commitment: [point, ...commitment.slice(1)] }), 'BAD_RECOVERY_PROOF', 'a key that nobody shares');
  t.equal(changed({ nonce: new Uint8Array(16) }), 'BAD_RECOVERY_PROOF', 'proofs for another plan');
  const swapped = [holders[1]!, holders[0]!, ...holders.slice(2)];
  t.equal(changed({ holders: swapped }), 'BAD_RECOVERY_PROOF', 'each at the own place');
  const unproven = holders.map((holder, k) => (k === 2 ? { ...holder, proof: holders[0]!.proof } : holder));
  t.equal(changed({ holders: unproven }), 'BAD_RECOVERY_PROOF');
  t.equal(code(setting(registration)), null);
  t.equal(world.try('alice', { kind: 'gov.propose', proposal: setting(registration), nonce: nonce() }), 'ROLE_MISSING');
});

t.test('who is no officer', async (t) => {
  const { world, make, code, vote, active } = consortium(OFFICERS, 3, {
    ...people,
    alias: { org: B, roles: ['nurse'], tag: 'alice' },
  } as typeof people);
  const { registration } = make();
  const holder = (more: object) =>
    code(setting({ ...registration, holders: registration.holders.map((h, k) => (k === 0 ? { ...h, ...more } : h)) }));
  t.equal(holder({ account: tag('nobody').slice(0, 20) }), 'RECOVERY_KEY_OFFICER');
  t.equal(holder({ orgId: B }), 'RECOVERY_KEY_ONE_ORGANISATION', 'said to be of another hospital');
  t.equal(holder({ orgId: 'hospital-c' }), 'RECOVERY_KEY_OFFICER');
  t.equal(holder({ publicKey: world.who('bob').publicKey }), 'RECOVERY_KEY_OFFICER', 'not by the key it has now');
  world.patient('paula');
  t.equal(holder({ account: world.who('paula').id, publicKey: world.who('paula').publicKey }), 'RECOVERY_KEY_OFFICER');
  t.equal(code(setting(make(['alice', 'hans', 'alias']).registration)), 'RECOVERY_KEY_OFFICER', 'one person twice');
  vote(setting(registration));
  world.do('admin@b', { kind: 'account.suspend', account: world.who('bob').id, reason: 'left' });
  t.equal(code(setting(registration)), 'RECOVERY_KEY_OFFICER', 'suspended');
  t.same(typesOf(world.pass(DAY)), ['gov.failed'], 'and when it was to take effect');
  t.equal(active(), undefined);
  const young = new Custodians(new World(people));
  t.equal(
    young.world.try('admin@a', { kind: 'gov.propose', proposal: setting(registration), nonce: nonce() }),
    'CUSTODY_NOT_ACTIVE',
    'before the custodians have a key',
  );
});

t.test('each officer signs what is voted on', async (t) => {
  const { world, make } = consortium();
  const { registration } = make();
  const call: Call = { kind: 'gov.propose', proposal: setting(registration), nonce: nonce() };
  const owed = obligations(world.chainId, must(decodeTransaction(world.tx('admin@a', call).tx.bytes)));
  t.equal(owed.length, 1 + OFFICERS.length);
  const officers = owed.filter(({ code }) => code === 'BAD_OFFICER_SIGNATURE');
  t.ok(officers.every(({ publicKey, message, signature }) => engine.verify(publicKey, message, signature)));
  const forged = setting({
    ...registration,
    holders: registration.holders.map((h, k) => (k === 1 ? { ...h, signature: BLANK } : h)),
  });
  const bad = obligations(
    world.chainId,
    must(decodeTransaction(world.tx('admin@a', { ...call, proposal: forged }).tx.bytes)),
  );
  t.same(
    bad.filter((o) => o.code !== 'BAD_SIGNATURE' && !engine.verify(o.publicKey, o.message, o.signature)).length,
    1,
  );
});

t.test('policies: with custodians only, and for good', async (t) => {
  const { world } = consortium();
  const create = (more: object) =>
    world.try('admin@a', { kind: 'policy.create', document: world.document([{ approvals: owner }], more) });
  t.equal(create({ custodian: false, recovery: true }), 'POLICY_RECOVERY_ALONE');
  t.equal(create({ recovery: true }), null);
});

t.test('records: sealed under it exactly where policy and chain say so', async (t) => {
  const { custodians, world, make, enact } = consortium();
  world.patient('paula');
  const allows = world.policy(owner, {}, { recovery: true });
  const forbids = world.policy(owner);
  const { registration, shares } = make();
  const { key } = shares[0]!;
  const other = make().shares[0]!.key;
  const sealed = (policy: Uint8Array, under: Uint8Array | null) =>
    custodians.sealed('alice', 'paula', policy, ['patient'], {}, under);
  const code = ({ call, sidecar }: ReturnType<typeof sealed>) => world.try('alice', call, { sidecar });
  t.equal(code(sealed(allows, key)), 'RECOVERY_CAPSULE_NOT_ALLOWED', 'before it is voted in');
  t.equal(code(sealed(allows, null)), null, 'there is none yet');
  enact(setting(registration));

  t.equal(code(sealed(allows, null)), 'RECOVERY_CAPSULE_MISSING');
  t.equal(code(sealed(forbids, key)), 'RECOVERY_CAPSULE_NOT_ALLOWED', 'the policy wants none');
  t.equal(code(sealed(allows, other)), 'RECOVERY_CAPSULE_WRONG_KEY');
  t.equal(
    code(sealed(allows, custodians.epoch.key)),
    'RECOVERY_CAPSULE_WRONG_KEY',
    'the custody key is no recovery key',
  );
  t.equal(code(sealed(forbids, null)), null);

  const good = sealed(allows, key);
  const { content } = good.call;
  const { capsule } = content;
  if (capsule.kind !== 'threshold' || good.sidecar.kind !== 'sealed') throw new Error('not sealed');
  const { recovery } = capsule;
  const withCapsule = (changed: object) =>
    code({ ...good, call: { ...good.call, content: { ...content, capsule: { ...capsule, ...changed } } } });
  t.equal(withCapsule({ recovery: { ...recovery!, u: recovery!.uBar } }), 'BAD_RECOVERY_CAPSULE');
  t.equal(withCapsule({ recovery: { ...recovery!, f: new Uint8Array(32) } }), 'BAD_RECOVERY_CAPSULE');
  const { recovery: _, ...custodys } = capsule;
  t.equal(withCapsule({ recovery: { ...custodys, key } }), 'BAD_RECOVERY_CAPSULE', "the custodians' capsule again");
  const withSidecar = (changed: object) => {
    const sidecar = { ...good.sidecar, ...changed } as typeof good.sidecar;
    const hash = sidecarHash(encodeSidecar(sidecar));
    return code({ ...good, sidecar, call: { ...good.call, content: { ...content, sidecarHash: hash } } });
  };
  t.equal(withSidecar({ recoveryC: new Uint8Array(32) }), 'BAD_RECOVERY_CAPSULE');
  t.equal(withSidecar({ recoveryC: null }), 'BAD_RECOVERY_CAPSULE', 'no C for it');
  t.equal(withSidecar({ c: new Uint8Array(32) }), 'BAD_CAPSULE', "the custodians' is looked at as before");
  t.equal(code({ ...good, call: { ...good.call, nonce: nonce() } }), 'BAD_CAPSULE', 'for another record');
  t.equal(code(good), null);
  const erased = world.tx('alice', sealed(allows, key).call);
  t.equal(executeBlock(world.state, { ...world.block, certified: true }, [erased]).ok, true, 'behind a certificate');
  enact({ kind: 'endRecoveryKey', key });
  t.equal(code(sealed(allows, key)), 'RECOVERY_CAPSULE_NOT_ALLOWED');
  t.equal(code(sealed(allows, null)), null);
});

t.test('a record with two capsules counts twice in a block', async (t) => {
  const { custodians, world, make, enact } = consortium();
  world.patient('paula');
  const policy = world.policy(owner, {}, { recovery: true });
  const { registration, shares } = make();
  enact(setting(registration));
  const one = custodians.sealed('alice', 'paula', policy, ['patient'], {}, shares[0]!.key);
  const calls = Array.from({ length: MAX_CAPSULES_PER_BLOCK / 2 + 1 }, (_, k) =>
    world.tx('alice', { ...one.call, nonce: token(`${k}`).slice(0, 16) }),
  );
  const run = (txs: typeof calls) => executeBlock(world.state, { ...world.block, certified: true }, txs);
  t.match(run(calls), { ok: false, code: 'BLOCK_TOO_LARGE' });
  t.equal(run(calls.slice(1)).ok, true);
});
