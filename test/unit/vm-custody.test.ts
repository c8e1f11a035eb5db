/** The custody session, from announcement to epoch; sealed records; shares that are demanded on the chain. */
import t from 'tap';
import { compareBytes } from '../../common/bytes.ts';
import { encode } from '../../common/codec.ts';
import type { RandomBytes } from '../../common/crypto/sm2.ts';
import { encodePoint, GENERATOR, modOrder } from '../../common/crypto/curve.ts';
import { interpolateAtZero } from '../../common/crypto/custody/sharing.ts';
import { sm2Address } from '../../common/crypto/sm2.ts';
import {
  custodyDemandEntry,
  custodyEpochEntry,
  custodySessionIdOf,
  custodySetHash,
  NOBODYS_KEY,
} from '../../common/protocol/custody.ts';
import { genesisHash } from '../../common/protocol/genesis.ts';
import { MAX_VALIDATORS } from '../../common/protocol/primitives.ts';
import { MAX_EVENTS_PER_RECEIPT } from '../../common/protocol/receipt.ts';
import { emptyEntry, prefixRange, requestEntry, stateKey, statePrefix } from '../../common/protocol/state-entries.ts';
import {
  type Call,
  encodeSidecar,
  type Proposal,
  proposalIdOf,
  sidecarHash,
} from '../../common/protocol/transaction.ts';
import { blockDue, executeBlock, genesisWrites } from '../../vm/index.ts';
import { storedPoint } from '../../vm/custody/session.ts';
import { CUSTODY_DEAL_MS, CUSTODY_DEMAND_MS, MAX_CAPSULES_PER_BLOCK } from '../../vm/limits.ts';
import { Custodians, hexOf, holds, typesOf } from './vm-custodians.ts';
import { people } from './vm-hospitals.ts';
import {
  A,
  B,
  C,
  D,
  DAY,
  BLANK,
  HOUR,
  MemoryState,
  MINUTE,
  newKey,
  nonce,
  owner,
  rootAt,
  token,
  World,
} from './vm-world.ts';

const founded = (people: ConstructorParameters<typeof World>[0] = {}): Custodians => new Custodians(new World(people));

function made(founders: ConstructorParameters<typeof World>[0] = {}): Custodians {
  const custodians = founded(founders);
  custodians.make();
  return custodians;
}

/** Proposed, voted through, and past its delay. */
function enact({ world }: Custodians, proposal: Proposal) {
  const call: Call = { kind: 'gov.propose', proposal, nonce: nonce() };
  world.do('admin@a', call);
  const proposalId = proposalIdOf(world.chainId, world.who('admin@a').id, call.nonce, proposal);
  for (const org of ['a', 'b', 'c']) world.do(`admin@${org}`, { kind: 'gov.vote', proposalId, approve: true });
  return world.pass(DAY);
}

t.test('a genesis whose validators all have custodians opens a session, which makes no block due', async (t) => {
  const { world, session } = founded();
  const receivers = world.genesis.validators.map(({ orgId }) => {
    const { custodianKey } = world.genesis.organisations.find((o) => o.orgId === orgId)!;
    return { orgId, custodianKey: custodianKey! };
  });
  const expected = {
    chainId: genesisHash(world.genesis),
    kind: 'genesis' as const,
    epoch: 1,
    height: 0,
    proposalId: null,
  };
  t.same(session.receivers, receivers, 'in the order of the validators');
  t.same(session.id, custodySessionIdOf({ ...expected, setHash: custodySetHash(receivers) }));
  t.match(session, { kind: 'genesis', epoch: 1, phase: 'announce', threshold: 3, deadlineMs: null });
  t.same(blockDue(world.state), { nextDeadlineMs: null, heartbeatMs: null });
  const [first, ...rest] = world.genesis.organisations;
  const without = { ...world.genesis, organisations: [{ ...first!, custodianKey: null }, ...rest] };
  const state = new MemoryState();
  state.apply(genesisWrites(without));
  t.equal(state.get(stateKey.custodySession()), undefined, 'one without a custodian: custody stays direct');
});

t.test('four custodians make a key that none of them has', async (t) => {
  const custodians = founded();
  const { world } = custodians;
  custodians.announceAll([A, B, C]);
  t.equal(custodians.session.phase, 'announce', 'all are waited for');
  t.same(typesOf(custodians.do(D, custodians.announcement(D))), ['node.custodyAnnounce', 'custody.dealing']);
  const deadlineMs = world.now - 1 + CUSTODY_DEAL_MS;
  t.match(custodians.session, { phase: 'deal', deadlineMs });
  t.equal(blockDue(world.state).nextDeadlineMs, deadlineMs);
  custodians.dealAll([D, A, C]);
  t.same(
    custodians.session.dealt,
    [A, C, D].map((org) => custodians.index(org)).sort((x, y) => x - y),
  );
  t.same(typesOf(custodians.do(B, custodians.dealing(B))), ['node.custodyDeal', 'custody.confirming']);
  t.equal(blockDue(world.state).nextDeadlineMs, null, 'and nothing is late any more');
  const { id, result } = custodians.session;
  const events = custodians.confirmAll();
  t.same(typesOf(events).slice(-2), ['node.custodyConfirm', 'custody.active']);
  const { epoch } = custodians;
  t.match(epoch, { epoch: 1, threshold: 3, sinceHeight: world.height - 1 });
  t.same(epoch.sessionId, id);
  t.same(epoch.key, result!.key);
  t.same(
    epoch.holders.map(({ orgId }) => orgId),
    world.genesis.validators.map(({ orgId }) => orgId),
  );
  t.ok(holds(custodians));
  t.notOk(custodians.isOpen, 'the session is over');
  const again = new MemoryState();
  again.apply(genesisWrites(world.genesis));
  for (const [k, { timestampMs, txs }] of world.history.entries()) {
    const block = { chainId: world.chainId, height: k + 1, timestampMs, parentStateRoot: rootAt(k) };
    const executed = executeBlock(again, block, txs);
    if (!executed.ok) throw new Error(executed.message);
    again.apply(executed.value.writes);
  }
  t.equal(again.dump(), world.state.dump(), 'who executes the same blocks has the same state');
  const left = [...world.state.range({ ...prefixRange(statePrefix.custodyDealings(id)), limit: 9 })];
  t.same(left, [], 'and its dealings are gone');
});

t.test('sixteen custodians make a key, with a dealer that cheats and one that is late', async (t) => {
  const orgs = Array.from({ length: 16 }, (_, i) => `hospital-${String.fromCharCode(97 + i)}`);
  const world = new World({}, {}, orgs);
  const custodians = new Custodians(world);
  custodians.announceAll();
  t.match(custodians.session, { phase: 'deal', threshold: 11 });
  const [cheat, victim, late] = ['hospital-c', 'hospital-n', 'hospital-p'] as const;
  custodians.do(cheat, custodians.dealing(cheat, { victim }));
  custodians.dealAll(orgs.filter((org) => org !== cheat && org !== late));
  t.same(
    typesOf(custodians.do(victim, custodians.complaint(victim, cheat))),
    ['node.custodyComplain', 'custody.disqualified'],
    'one may still deal',
  );
  t.same(typesOf(world.pass(CUSTODY_DEAL_MS)), ['custody.confirming']);
  t.same(typesOf(custodians.confirmAll()).slice(-2), ['node.custodyConfirm', 'custody.active']);
  t.match(custodians.epoch, { epoch: 1, threshold: 11, holders: { length: 16 } });
  t.ok(holds(custodians), 'any eleven shares are of one key');
  t.not(hexOf(encodePoint(interpolated(custodians, 10))), hexOf(custodians.epoch.key), 'ten are not');
});

/** At 0, through so many of the public shares. */
function interpolated({ epoch }: Custodians, count: number) {
  const indices = Array.from({ length: count }, (_, k) => k + 1);
  return interpolateAtZero(
    indices,
    indices.map((k) => storedPoint(epoch.holders[k - 1]!.share)),
  );
}

t.test('announcements', async (t) => {
  const custodians = founded();
  const { world } = custodians;
  const call = custodians.announcement(A);
  t.equal(custodians.try(A, { ...call, sessionId: token('other') }), 'CUSTODY_SESSION_UNKNOWN');
  t.equal(custodians.try(B, call), 'CUSTODIAN_KEY_WRONG', "another's");
  t.equal(custodians.try(A, { ...call, orgId: B }), 'CUSTODIAN_KEY_WRONG');
  t.equal(
    custodians.try(A, { ...call, custodianKey: custodians.session.receivers.find((r) => r.orgId === B)!.custodianKey }),
    'CUSTODIAN_KEY_WRONG',
  );
  t.equal(
    custodians.try(A, { ...call, key: encodePoint(GENERATOR) }),
    'BAD_CUSTODY_PROOF',
    'a key that it does not know',
  );
  t.equal(custodians.try(A, { ...call, key: new Uint8Array(33) }), 'BAD_CUSTODY_PROOF', 'no point');
  t.equal(custodians.try(A, { ...call, key: NOBODYS_KEY }), 'BAD_CUSTODY_PROOF');
  t.equal(custodians.try(A, { ...call, proof: custodians.announcement(B).proof }), 'BAD_CUSTODY_PROOF');
  t.equal(world.try('admin@a', call), 'NODE_UNKNOWN', 'people do not speak for custodians');
  t.equal(custodians.try(A, call), null);
  t.equal(custodians.try(A, custodians.announcement(A)), 'CUSTODY_SAID_ALREADY');
  const early = { kind: 'node.custodyConfirm' as const, sessionId: custodians.session.id, proof: call.proof };
  t.equal(custodians.try(A, early), 'CUSTODY_WRONG_PHASE');
});

t.test('dealings', async (t) => {
  const custodians = founded();
  const early = { kind: 'node.custodyDeal' as const, sessionId: custodians.session.id, dealing: new Uint8Array(9) };
  t.equal(custodians.try(A, early), 'CUSTODY_WRONG_PHASE');
  custodians.announceAll();
  const call = custodians.dealing(A);
  t.equal(custodians.try(A, early), 'BAD_DEALING', 'no dealing');
  t.equal(custodians.try(B, call), 'BAD_DEALING', "another's");
  t.equal(custodians.try(A, { ...call, dealing: call.dealing.with(200, call.dealing[200]! ^ 1) }), 'BAD_DEALING');
  t.equal(custodians.try(A, { ...call, sessionId: token('other') }), 'CUSTODY_SESSION_UNKNOWN');
  t.equal(custodians.try(A, call), null);
  t.equal(custodians.try(A, custodians.dealing(A)), 'CUSTODY_SAID_ALREADY');
  t.equal(custodians.try(A, custodians.announcement(A)), 'CUSTODY_WRONG_PHASE');
});

t.test('a dealer that is late is not waited for, unless too few have dealt', async (t) => {
  const custodians = founded();
  const { world } = custodians;
  custodians.announceAll();
  custodians.dealAll([A, B]);
  const first = custodians.session.deadlineMs!;
  t.same(typesOf(world.pass(CUSTODY_DEAL_MS)), [], 'two are too few: the session waits on');
  t.ok(custodians.session.deadlineMs! > first);
  t.equal(blockDue(world.state).nextDeadlineMs, custodians.session.deadlineMs);
  custodians.dealAll([C]);
  t.same(typesOf(world.pass(CUSTODY_DEAL_MS)), ['custody.confirming']);
  t.equal(blockDue(world.state).nextDeadlineMs, null);
  t.equal(custodians.try(D, custodians.dealing(D)), 'CUSTODY_WRONG_PHASE');
  custodians.confirmAll();
  t.ok(holds(custodians), 'who has not dealt has a share all the same');
});

t.test('complaints', async (t) => {
  const custodians = founded();
  custodians.announceAll();
  custodians.do(A, custodians.dealing(A, { victim: C }));
  const call = custodians.complaint(C, A);
  t.equal(custodians.try(B, call), 'BAD_COMPLAINT', "another's");
  t.equal(custodians.try(C, { ...call, complaint: call.complaint.with(90, call.complaint[90]! ^ 1) }), 'BAD_COMPLAINT');
  t.equal(
    custodians.try(C, { ...call, complaint: call.complaint.with(3, custodians.index(B)) }),
    'BAD_COMPLAINT',
    'about what nobody has dealt',
  );
  custodians.dealAll([B, C, D]);
  t.equal(custodians.session.phase, 'confirm');
  const before = custodians.session.result!.key;
  custodians.do(D, custodians.confirmation(D));
  const events = custodians.do(C, custodians.complaint(C, A));
  t.same(
    events.map((e) => [e.type, e.orgId, e.detail]),
    [
      ['node.custodyComplain', C, 'dealer'],
      ['custody.disqualified', A, null],
      ['custody.confirming', C, null],
    ],
  );
  t.match(custodians.session, { phase: 'confirm', confirmed: [], disqualified: [custodians.index(A)] });
  t.notSame(custodians.session.result!.key, before, 'the key is made without it, and D confirms anew');
  t.equal(custodians.try(C, call), 'CUSTODY_SAID_ALREADY');

  const falsely = custodians.do(B, custodians.complaint(B, D));
  t.same(
    falsely.map((e) => [e.type, e.detail]),
    [['node.custodyComplain', 'accuser']],
  );
  t.same(custodians.session.falseAccusers, [custodians.index(B)]);
  t.equal(custodians.try(B, custodians.complaint(B, C)), 'CUSTODY_SAID_ALREADY', 'a false accuser is not heard again');
  custodians.confirmAll();
  t.ok(holds(custodians), 'the cheat is a receiver as before');
  t.equal(custodians.try(C, call), 'CUSTODY_SESSION_UNKNOWN', 'too late');
});

t.test('a cheat that leaves too few dealers: who was late has another chance', async (t) => {
  const custodians = founded();
  const { world } = custodians;
  custodians.announceAll();
  custodians.do(A, custodians.dealing(A, { victim: C }));
  custodians.dealAll([B, C]);
  world.pass(CUSTODY_DEAL_MS);
  t.equal(custodians.session.phase, 'confirm');
  const { id } = custodians.session;
  custodians.do(C, custodians.complaint(C, A));
  t.match(custodians.session, { phase: 'deal', result: null });
  t.ok(custodians.session.deadlineMs! > world.now);
  t.same(typesOf(custodians.do(D, custodians.dealing(D))), ['node.custodyDeal', 'custody.confirming']);
  t.same(custodians.session.id, id, 'in the same session');
  custodians.confirmAll();
  t.ok(holds(custodians));
});

t.test('more cheats than a quorum bears: another session', async (t) => {
  const custodians = founded();
  const { id } = custodians.session;
  custodians.announceAll();
  custodians.do(A, custodians.dealing(A, { victim: C }));
  custodians.do(B, custodians.dealing(B, { victim: C }));
  custodians.do(C, custodians.complaint(C, A));
  t.equal(custodians.session.phase, 'deal', 'three may still do');
  const events = custodians.do(C, custodians.complaint(C, B));
  t.same(
    events.map((e) => [e.type, e.detail]),
    [
      ['node.custodyComplain', 'dealer'],
      ['custody.disqualified', null],
      ['custody.closed', 'TOO_FEW_DEALERS'],
      ['custody.opened', 'genesis'],
    ],
  );
  t.notSame(custodians.session.id, id);
  t.match(custodians.session, { phase: 'announce', dealt: [], disqualified: [], keys: [null, null, null, null] });
  const left = [...custodians.world.state.range({ ...prefixRange(statePrefix.custodyDealings(id)), limit: 9 })];
  t.same(left, []);
  t.equal(blockDue(custodians.world.state).nextDeadlineMs, null);
  custodians.make();
  t.ok(holds(custodians));
});

t.test('a receiver that deals last so that its own public share is O: another session', async (t) => {
  const custodians = founded();
  const { id } = custodians.session;
  custodians.announceAll();
  custodians.dealAll([A, B, C]);
  const fixed: RandomBytes = (length) => new Uint8Array(length).fill(3);
  const parts = [A, B, C].map((org) => custodians.part(D, custodians.stored(org)));
  const first = custodians.dealing(D, { secret: 1n, random: fixed });
  const own = custodians.part(D, first.dealing);
  const secret = modOrder(1n - parts.reduce((sum, part) => sum + part, own));
  const events = custodians.do(D, custodians.dealing(D, { secret, random: fixed }));
  t.same(
    events.map((e) => [e.type, e.detail]),
    [
      ['node.custodyDeal', null],
      ['custody.closed', 'KEY_DEGENERATE'],
      ['custody.opened', 'genesis'],
    ],
  );
  t.notSame(custodians.session.id, id);
  custodians.make();
  t.ok(holds(custodians));
});

t.test('confirmations', async (t) => {
  const custodians = founded();
  custodians.announceAll();
  custodians.dealAll();
  const call = custodians.confirmation(A);
  t.equal(custodians.try(B, call), 'BAD_CUSTODY_PROOF');
  t.equal(custodians.try(A, { ...call, proof: new Uint8Array(64) }), 'BAD_CUSTODY_PROOF');
  t.equal(custodians.try(A, { ...call, sessionId: token('other') }), 'CUSTODY_SESSION_UNKNOWN');
  t.equal(custodians.try(A, call), null);
  t.equal(custodians.try(A, custodians.confirmation(A)), 'CUSTODY_SAID_ALREADY');
});

t.test('by vote, a session goes on without a receiver that is missing', async (t) => {
  const custodians = founded();
  const { world } = custodians;
  const override = (): Proposal => ({ kind: 'overrideCustody', sessionId: custodians.session.id });
  t.equal(
    world.try('admin@a', {
      kind: 'gov.propose',
      proposal: { ...override(), sessionId: token('x') } as Proposal,
      nonce: nonce(),
    }),
    'CUSTODY_SESSION_UNKNOWN',
  );
  custodians.announceAll([A, B]);
  t.same(typesOf(enact(custodians, override())), ['custody.overridden', 'gov.effective']);
  t.match(custodians.session, { phase: 'announce', override: true }, 'two are no threshold');
  t.same(typesOf(custodians.do(C, custodians.announcement(C))), ['node.custodyAnnounce', 'custody.dealing']);
  t.match(custodians.session, { phase: 'deal', override: false }, 'the vote has done what it was for');
  t.same(custodians.session.keys[custodians.index(D) - 1], NOBODYS_KEY);
  t.equal(
    world.try('admin@a', { kind: 'gov.propose', proposal: override(), nonce: nonce() }),
    'CUSTODY_WRONG_PHASE',
    'dealings wait for no receiver',
  );
  t.equal(custodians.try(D, custodians.announcement(D)), 'CUSTODY_WRONG_PHASE');
  custodians.dealAll([A, B, C]);
  world.pass(CUSTODY_DEAL_MS);
  const bare = { kind: 'node.custodyConfirm' as const, sessionId: custodians.session.id, proof: new Uint8Array(64) };
  t.equal(custodians.try(D, bare), 'BAD_CUSTODY_PROOF', 'nobody has a share there');
  const known = custodians.shareFromOthers(D, [A, B, C]);
  t.equal(
    custodians.try(D, custodians.confirmation(D, known)),
    'BAD_CUSTODY_PROOF',
    'and if the others together told it, it would not stand in for one of them',
  );
  custodians.confirmAll([A, B]);
  t.equal(custodians.session.phase, 'confirm', 'those that announced are all waited for');
  t.same(typesOf(custodians.confirmAll([C])).at(-1), 'custody.active');
  t.ok(holds(custodians));
});

t.test('by vote, a session ends although a receiver does not confirm', async (t) => {
  const custodians = founded();
  custodians.announceAll();
  custodians.dealAll();
  custodians.confirmAll([A, C, D]);
  t.equal(custodians.session.phase, 'confirm');
  const events = enact(custodians, { kind: 'overrideCustody', sessionId: custodians.session.id });
  t.same(typesOf(events), ['custody.overridden', 'custody.active', 'gov.effective']);
  t.equal(custodians.epoch.epoch, 1);
});

t.test('records: wraps before a key is active, capsules after', async (t) => {
  const custodians = founded(people);
  const { world } = custodians;
  world.patient('paula');
  const both = world.policy(owner);
  const noWrap = world.policy(owner, {}, { patientWrap: false });
  const direct = world.policy(owner, {}, { custodian: false });
  custodians.announceAll();
  custodians.dealAll();
  custodians.confirmAll([A, B, C]);
  world.record('alice', 'paula', both);
  const { key } = custodians.session.result!;
  const fields = { key, u: key, uBar: key, e: new Uint8Array(32), f: new Uint8Array(32) };
  const capsule = { kind: 'threshold' as const, ...fields, recovery: null };
  const early = { kind: 'sealed' as const, c: new Uint8Array(32), recoveryC: null, wraps: [] };
  const earlyCall = world.createCall('paula', both, { capsule, sidecarHash: sidecarHash(encodeSidecar(early)) });
  t.equal(world.try('alice', earlyCall, { sidecar: early }), 'CAPSULE_NOT_ALLOWED', 'no key is active yet');
  custodians.confirmAll([D]);

  const wrapped = world.createCall('paula', both);
  t.equal(world.try('alice', wrapped, { sidecar: world.wraps() }), 'CUSTODIAN_WRAP_REFUSED');
  const code = ({ call, sidecar }: ReturnType<Custodians['sealed']>) => world.try('alice', call, { sidecar });
  const good = custodians.sealed('alice', 'paula', both);
  t.equal(world.try('alice', good.call), 'SIDECAR_MISSING');
  t.equal(code(custodians.sealed('alice', 'paula', both, [])), 'SIDECAR_WRONG_WRAPS', "the patient's wrap is missing");
  t.equal(code(custodians.sealed('alice', 'paula', noWrap)), 'SIDECAR_WRONG_WRAPS', 'the policy wants none');
  t.equal(code(custodians.sealed('alice', 'paula', direct)), 'CAPSULE_NOT_ALLOWED', 'the policy wants no custodian');
  const only = world.wraps(A, 'patient');
  t.equal(
    world.try('alice', world.createCall('paula', direct, {}, only), { sidecar: only }),
    null,
    'the patient alone has the key, as before',
  );
  const { content } = good.call;
  const { capsule: sealed } = content;
  if (sealed.kind !== 'threshold') throw new Error('not sealed');
  const changed = (more: object) => code({ ...good, call: { ...good.call, content: { ...content, ...more } } });
  t.equal(changed({ capsule: { ...sealed, key: encodePoint(GENERATOR) } }), 'CAPSULE_WRONG_KEY');
  t.equal(changed({ capsule: { ...sealed, u: sealed.uBar } }), 'BAD_CAPSULE');
  t.equal(changed({ capsule: { ...sealed, u: new Uint8Array(33) } }), 'BAD_CAPSULE');
  t.equal(changed({ dataDigest: token('other') }), 'BAD_CAPSULE', 'another label');
  t.equal(changed({ keyCheck: new Uint8Array(16) }), 'BAD_CAPSULE');
  t.equal(code({ ...good, call: { ...good.call, nonce: nonce() } }), 'BAD_CAPSULE', 'for another record');
  const other = { ...good.sidecar, c: new Uint8Array(32) } as typeof good.sidecar;
  t.equal(code({ ...good, sidecar: other }), 'SIDECAR_MISMATCH');
  const swapped = { ...content, sidecarHash: sidecarHash(encodeSidecar(other)) };
  t.equal(code({ ...good, sidecar: other, call: { ...good.call, content: swapped } }), 'BAD_CAPSULE', 'another C');
  t.equal(code(good), null);
  t.equal(code(custodians.sealed('alice', 'paula', noWrap, [])), null);
  const erased = world.tx('alice', custodians.sealed('alice', 'paula', both).call);
  t.equal(executeBlock(world.state, { ...world.block, certified: true }, [erased]).ok, true, 'behind a certificate');
  const next: Call = { ...good.call, kind: 'record.addVersion', recordId: good.recordId, version: 2 };
  t.equal(world.try('alice', next, { sidecar: good.sidecar }), 'BAD_CAPSULE', 'of the version before');
});

t.test('so many capsules in a block, and no more', async (t) => {
  const custodians = made(people);
  const { world } = custodians;
  world.patient('paula');
  const policy = world.policy(owner);
  const one = custodians.sealed('alice', 'paula', policy);
  const txs = Array.from({ length: MAX_CAPSULES_PER_BLOCK + 1 }, () => world.tx('alice', one.call, one));
  const executed = executeBlock(world.state, { ...world.block, certified: true }, txs.slice(0, 2));
  t.match(executed, { ok: false, code: 'RECORD_EXISTS' }, 'they are looked at');
  const calls = txs.map((_, k) => {
    const call = { ...one.call, nonce: token(`${k}`).slice(0, 16) };
    return world.tx('alice', call);
  });
  const all = executeBlock(world.state, { ...world.block, certified: true }, calls);
  t.match(all, { ok: false, code: 'BLOCK_TOO_LARGE' });
  t.equal(executeBlock(world.state, { ...world.block, certified: true }, calls.slice(1)).ok, true);
});

/** A grant on a sealed record of paula's. */
function granted(custodians: Custodians) {
  const { world } = custodians;
  world.patient('paula');
  const { call, sidecar, recordId } = custodians.sealed('alice', 'paula', world.policy(owner));
  world.do('alice', call, { sidecar });
  const requestHash = world.ask('bob', recordId);
  return { requestHash, recordId, demand: { kind: 'access.demand' as const, requestHash } };
}

t.test('shares are demanded on the chain, and who withholds is named', async (t) => {
  const custodians = made(people);
  const { world } = custodians;
  const { requestHash, demand, recordId } = granted(custodians);
  t.equal(world.try('bob', { ...demand, requestHash: token('x') }), 'REQUEST_UNKNOWN');
  t.equal(world.try('bob', demand), 'NOT_GRANTED');
  t.equal(custodians.try(A, custodians.releaseShare(A, requestHash)), 'DEMAND_UNKNOWN');
  t.equal(world.approve('paula', requestHash), null);
  t.equal(world.try('alice', demand), 'NOT_THE_REQUESTER');
  t.same(typesOf(world.do('bob', demand)), ['access.demand']);
  t.equal(world.try('bob', demand), 'DEMAND_OPEN');
  t.equal(blockDue(world.state).nextDeadlineMs, world.now - 1 + CUSTODY_DEMAND_MS, 'the end of it makes a block due');
  const share = custodians.releaseShare(A, requestHash);
  t.equal(custodians.try(B, share), 'BAD_SHARE', "another's");
  t.equal(custodians.try(A, custodians.releaseShare(A, requestHash, { grantId: token('other') })), 'BAD_SHARE');
  t.equal(custodians.try(A, { ...share, share: share.share.with(100, share.share[100]! ^ 1) }), 'BAD_SHARE');
  t.equal(custodians.try(A, share), null);
  t.equal(custodians.try(A, share), 'CUSTODY_SAID_ALREADY');
  t.equal(custodians.try(C, custodians.releaseShare(C, requestHash)), null);
  const events = world.pass(CUSTODY_DEMAND_MS);
  t.same(
    new Set(events.map((e) => `${e.type} ${e.orgId} ${hexOf(e.recordId!)}`)),
    new Set([B, D].map((org) => `custody.withheld ${org} ${hexOf(recordId)}`)),
  );
  t.same(typesOf(world.do('bob', demand)), ['access.demand'], 'once more');
  t.equal(custodians.try(A, share), 'CUSTODY_SAID_ALREADY', 'what was posted is still there');
  t.equal(custodians.try(D, custodians.releaseShare(D, requestHash)), null);
  t.same(
    world.pass(CUSTODY_DEMAND_MS).map((e) => e.orgId),
    [B],
  );
  t.equal(custodians.try(B, custodians.releaseShare(B, requestHash)), null, 'late is better than never');
  world.do('paula', { kind: 'access.revoke', requestHash, reason: 'CHANGED_MIND' });
  t.equal(world.state.get(stateKey.custodyDemand(requestHash)), undefined, 'the shares go with the grant');
  t.equal(world.try('bob', demand), 'NOT_GRANTED');
});

t.test('a grant that ends takes an open demand with it', async (t) => {
  const custodians = made(people);
  const { world } = custodians;
  const { recordId } = granted(custodians);
  const requestHash = world.ask('bob', recordId, { notAfterMs: world.now + MINUTE / 2 });
  world.approve('paula', requestHash);
  world.do('bob', { kind: 'access.demand', requestHash });
  world.pass(HOUR);
  t.equal(world.state.get(stateKey.custodyDemand(requestHash)), undefined);
  t.equal(blockDue(world.state).nextDeadlineMs, custodians.epoch.refreshMs);
});

t.test('however many withhold at once, a block reports no more than a receipt holds', async (t) => {
  const custodians = made(people);
  const { world, epoch } = custodians;
  const { requestHash } = granted(custodians);
  world.approve('paula', requestHash);
  const request = custodians.read(requestEntry, stateKey.request(requestHash))!;
  const holders = Array.from({ length: MAX_VALIDATORS }, (_, k) => ({ orgId: `org-${k}`, share: epoch.key }));
  const untilMs = world.now + MINUTE;
  const demanded = Array.from({ length: 40 }, (_, k) => {
    const hash = token(`request ${k}`);
    const demand = { requestHash: hash, epoch: epoch.epoch, openedMs: world.now, untilMs, shares: [] };
    return [
      { key: stateKey.request(hash), value: encode(requestEntry, { ...request, hash }) },
      { key: stateKey.custodyDemand(hash), value: encode(custodyDemandEntry, demand) },
      { key: stateKey.deadline(untilMs, 'custodyDemand', hash), value: encode(emptyEntry, {}) },
    ];
  });
  const writes = [
    ...demanded.flat(),
    { key: stateKey.custodyEpoch(), value: encode(custodyEpochEntry, { ...epoch, holders }) },
  ];
  world.state.apply(writes.sort((x, y) => compareBytes(x.key, y.key)));
  const first = world.pass(MINUTE + 1);
  t.ok(first.length <= MAX_EVENTS_PER_RECEIPT && first.length > 900, `${first.length} events`);
  t.equal(blockDue(world.state).nextDeadlineMs, untilMs, 'the rest makes the next block due');
  t.equal(first.length + world.pass(1).length, 40 * MAX_VALIDATORS, 'which names the others');
});

t.test('a record that is wrapped has no shares', async (t) => {
  const custodians = founded(people);
  const { world } = custodians;
  world.patient('paula');
  const record = world.record('alice', 'paula', world.policy(owner));
  custodians.make();
  const requestHash = world.ask('bob', record);
  world.approve('paula', requestHash);
  t.equal(world.try('bob', { kind: 'access.demand', requestHash }), 'RECORD_NOT_SHARED');
});

t.test('an observer of an organisation does not speak for its custodian', async (t) => {
  const custodians = founded(people);
  const { world } = custodians;
  const key = newKey();
  const card = { orgId: A, publicKey: key.publicKey, peerId: '12D3KooWWatcher', addresses: [] };
  enact(custodians, { kind: 'admitObserver', card, possession: BLANK });
  const observer = { ...key, id: sm2Address(key.publicKey), orgId: A, tag: null, custodial: false };
  t.equal(world.try(observer, custodians.announcement(A)), 'CUSTODY_NOT_RECEIVER');
  custodians.announceAll();
  t.equal(world.try(observer, custodians.dealing(A)), 'CUSTODY_NOT_DEALER');
  custodians.dealAll();
  custodians.confirmAll();
  const { requestHash, demand } = granted(custodians);
  world.approve('paula', requestHash);
  world.do('bob', demand);
  t.equal(world.try(observer, custodians.releaseShare(A, requestHash)), 'NOT_A_HOLDER');
});
