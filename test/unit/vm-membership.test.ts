import t, { type Test } from 'tap';
import { bytesToHex } from '../../common/bytes.ts';
import { decodeTrusted, encode } from '../../common/codec.ts';
import { sm2Address } from '../../common/crypto/sm2.ts';
import { MAX_OBSERVERS, MAX_VALIDATORS } from '../../common/protocol/primitives.ts';
import {
  counterEntry,
  evidenceEntry,
  observerEntry,
  peerEntry,
  prefixRange,
  proposalEntry,
  READY_WINDOW_BLOCKS,
  recentRootsEntry,
  stateKey,
  statePrefix,
  tenureEntry,
  validatorsEntry,
} from '../../common/protocol/state-entries.ts';
import { type Call, type CallOf, type Proposal, proposalIdOf } from '../../common/protocol/transaction.ts';
import { sortedValidatorSet } from '../../common/protocol/validator-set.ts';
import { checkGenesis } from '../../vm/index.ts';
import { admit, cardOf, rotateTo, Seats } from './vm-seats.ts';
import { A, B, BLANK, C, D, DAY, HOUR, MINUTE, newKey, nonce, rootAt, tag, World } from './vm-world.ts';

const E = 'hospital-e';
const F = 'hospital-f';

/** What must hold of every state. */
function sound(t: Test, seats: Seats): void {
  const { validators } = seats;
  t.same(validators, sortedValidatorSet(validators), 'the set is in its order, each member once');
  const observers = [...seats.world.state.range({ ...prefixRange(statePrefix.observers()), limit: 200 })].map(
    ({ value }) => decodeTrusted(observerEntry, value, 'observer'),
  );
  for (const member of [...validators, ...observers]) {
    t.same(seats.read(peerEntry, stateKey.peer(member.peerId)), { address: member.address });
  }
}

t.test('an observer comes in by vote, and its key and peer id are its own', async (t) => {
  const seats = new Seats();
  const { world } = seats;
  const card = cardOf(A);
  t.equal(seats.code(admit(cardOf('nowhere'))), 'ORG_UNKNOWN');
  t.equal(seats.code(admit({ ...card, publicKey: new Uint8Array(64).fill(1) })), 'BAD_KEY');
  t.equal(seats.code(admit({ ...card, publicKey: world.who('admin@b').publicKey })), 'KEY_ALREADY_USED');
  t.equal(seats.code(admit({ ...card, publicKey: seats.validators[0]!.publicKey })), 'KEY_ALREADY_USED');
  t.equal(seats.code(admit({ ...card, peerId: seats.validators[1]!.peerId })), 'PEER_ID_ALREADY_USED');
  const elsewhere = `/ip4/192.0.2.1/tcp/7600/p2p/${seats.validators[1]!.peerId}`;
  t.equal(seats.code(admit({ ...card, addresses: [elsewhere] })), 'BAD_MEMBER_ADDRESS');
  const addresses = [`/ip4/192.0.2.1/tcp/7600/p2p/${card.peerId}`];
  const before = seats.read(counterEntry, stateKey.membership())!.value;
  const twice = seats.accept(admit(card));
  t.equal(seats.status(seats.enact(admit({ ...card, addresses }))), 'failed KEY_ALREADY_USED', 'the first has it');
  t.equal(seats.status(twice), 'effective');
  t.equal(seats.read(counterEntry, stateKey.membership())!.value, before + 1, 'one change of who is a member');
  const address = sm2Address(card.publicKey);
  t.match(seats.read(observerEntry, stateKey.observer(address)), { orgId: A, peerId: card.peerId });
  t.equal(seats.validators.length, 4, 'and has no vote');
  sound(t, seats);

  t.equal(seats.code({ kind: 'removeObserver', orgId: B, address }), 'OBSERVER_UNKNOWN');
  seats.enact({ kind: 'removeObserver', orgId: A, address });
  t.equal(seats.read(observerEntry, stateKey.observer(address)), undefined);
  t.equal(seats.read(peerEntry, stateKey.peer(card.peerId)), undefined, 'its peer id is free again');
  t.equal(seats.code(admit(card)), 'KEY_ALREADY_USED', 'its key is not: an old proof brings nobody back');
  t.equal(seats.code(admit({ ...card, publicKey: newKey().publicKey })), null);
  world.do('admin@a', { kind: 'gov.propose', proposal: { kind: 'suspendOrganisation', orgId: D }, nonce: nonce() });
  seats.enact({ kind: 'suspendOrganisation', orgId: D });
  t.equal(seats.code(admit(cardOf(D))), 'ORG_NOT_ACTIVE');
});

t.test('there are so many observers and no more', async (t) => {
  const seats = new Seats();
  const writes = Array.from({ length: MAX_OBSERVERS }, (_, n) => {
    const publicKey = newKey().publicKey;
    const address = sm2Address(publicKey);
    const value = encode(observerEntry, {
      orgId: A,
      publicKey,
      address,
      peerId: `12D3KooWMany${n + 1}`.replaceAll('0', 'z'),
    });
    return { key: stateKey.observer(address), value };
  });
  seats.world.state.apply(writes.sort((x, y) => Buffer.compare(x.key, y.key)));
  t.equal(seats.code(admit(cardOf(A))), 'TOO_MANY_OBSERVERS');
});

t.test('there are so many validators and no more', async (t) => {
  const seats = new Seats();
  seats.found(E);
  const node = seats.observer(E);
  const more = Array.from({ length: MAX_VALIDATORS - 4 }, (_, n) => {
    const { publicKey } = newKey();
    const peerId = `12D3KooWMore${n + 1}`.replaceAll('0', 'z');
    return { orgId: `org-${n}`, publicKey, address: sm2Address(publicKey), peerId };
  });
  const value = encode(validatorsEntry, sortedValidatorSet([...seats.validators, ...more]));
  seats.world.state.apply([{ key: stateKey.validators(), value }]);
  t.equal(seats.code({ kind: 'addValidator', orgId: E, address: node.id }), 'TOO_MANY_VALIDATORS');
});

t.test('an observer becomes a validator once it has shown on chain that it is in step', async (t) => {
  const seats = new Seats();
  const { world } = seats;
  seats.found(E);
  const node = seats.observer(E);
  const add: Proposal = { kind: 'addValidator', orgId: E, address: node.id };
  t.equal(seats.code({ ...add, orgId: F }), 'OBSERVER_UNKNOWN');
  t.equal(seats.code({ ...add, address: seats.node(B).id }), 'OBSERVER_UNKNOWN');
  t.equal(seats.code({ kind: 'addValidator', orgId: A, address: seats.observer(A).id }), 'ORG_HAS_VALIDATOR');
  t.equal(world.try(node, seats.readyCall()), 'NOT_A_CANDIDATE', 'nobody has asked it');
  const id = seats.accept(add);
  t.equal(world.try(node, seats.readyCall()), 'NOT_A_CANDIDATE', 'the public delay is not over');
  t.same(
    world.pass(DAY).map((e) => e.type),
    ['gov.awaitingReady'],
  );
  t.equal(seats.status(id), 'awaitingReady');
  t.equal(seats.validators.length, 4, 'a vote alone changes no quorum');
  t.equal(world.try(seats.node(A), seats.readyCall()), 'NOT_A_CANDIDATE');
  const { height } = world;
  t.equal(world.try(node, seats.readyCall(height - 1, rootAt(height))), 'READY_WRONG_STATE', 'behind, or on a fork');
  t.equal(world.try(node, seats.readyCall(height)), 'READY_NOT_RECENT', 'a height that has not come');
  t.equal(world.try(node, seats.readyCall(height - 5)), 'READY_NOT_RECENT', 'from before it was asked');
  t.equal(world.try(world.who('admin@a'), seats.readyCall()), 'NODE_UNKNOWN', 'people do not speak for nodes');
  t.equal(world.try(node, { kind: 'account.vetoRecovery' }), 'ACCOUNT_UNKNOWN', 'nor nodes for people');
  t.same(
    world.do(node, seats.readyCall()).map((e) => [e.type, e.orgId, bytesToHex(e.actor!)]),
    [
      ['node.ready', E, bytesToHex(node.id)],
      ['gov.effective', E, bytesToHex(node.id)],
      ['custody.closed', E, bytesToHex(node.id)],
    ],
  );
  t.equal(seats.status(id), 'effective');
  t.equal(seats.validators.length, 5);
  t.equal(seats.read(observerEntry, stateKey.observer(node.id)), undefined);
  t.same(seats.read(tenureEntry, stateKey.tenure(node.id)), { orgId: E, fromHeight: height + 1, untilHeight: null });
  t.equal(seats.read(recentRootsEntry, stateKey.recentRoots()), undefined, 'roots are kept for candidates only');
  t.equal(seats.read(counterEntry, stateKey.openCandidacies()), undefined);
  t.equal(world.try(node, seats.readyCall()), 'NOT_A_CANDIDATE', 'once');
  sound(t, seats);

  const vote = (org: string, proposalId: Uint8Array) =>
    world.try(`admin@${org}`, { kind: 'gov.vote', proposalId, approve: true });
  const next = admit(cardOf(E));
  const call: Call = { kind: 'gov.propose', proposal: next, nonce: nonce() };
  world.do('admin@e', call);
  const nextId = proposalIdOf(world.chainId, world.who('admin@e').id, call.nonce, next);
  for (const org of ['a', 'b', 'e']) t.equal(vote(org, nextId), null);
  t.equal(seats.status(nextId), 'open', 'its organisation votes, and the quorum of five is four');
  t.equal(vote('c', nextId), null);
  t.equal(seats.status(nextId), 'accepted');
});

t.test('a candidate that is not in step stays an observer, and the quorum what it was', async (t) => {
  const seats = new Seats();
  const { world } = seats;
  seats.found(E);
  const node = seats.observer(E);
  const id = seats.candidacy(node);
  t.equal(seats.code(rotateTo(node.id, cardOf(E))), 'CANDIDACY_OPEN');
  for (let i = 0; i < READY_WINDOW_BLOCKS + 5; i += 1) world.pass(1);
  const kept = seats.read(recentRootsEntry, stateKey.recentRoots())!;
  t.equal(kept.roots.length, READY_WINDOW_BLOCKS, 'so many roots, and no more');
  t.same(kept.roots.at(-1), rootAt(world.height - 2));
  t.equal(world.try(node, seats.readyCall(world.height - READY_WINDOW_BLOCKS - 1)), 'READY_NOT_RECENT');
  t.same(
    world.pass(HOUR).map((e) => [e.type, e.detail]),
    [['gov.failed', 'addValidator']],
  );
  t.equal(seats.read(proposalEntry, stateKey.proposal(id))!.reason, 'CANDIDATE_NOT_READY');
  t.equal(seats.status(id), 'failed CANDIDATE_NOT_READY');
  t.equal(seats.validators.length, 4);
  t.equal(world.try(node, seats.readyCall()), 'NOT_A_CANDIDATE', 'its time is over');
  t.equal(seats.read(recentRootsEntry, stateKey.recentRoots()), undefined);
  t.equal(seats.read(counterEntry, stateKey.openProposals(A)), undefined);

  const again = seats.candidacy(node);
  t.equal(world.try(node, seats.readyCall(world.height - READY_WINDOW_BLOCKS)), 'READY_NOT_RECENT');
  t.equal(world.try(node, seats.readyCall()), null, 'it may be asked again');
  t.equal(seats.status(again), 'effective');
});

t.test('what was possible when the vote took effect is judged once more when the candidate is ready', async (t) => {
  const seats = new Seats();
  const { world } = seats;
  seats.found(E);
  const [one, two] = [seats.observer(E), seats.observer(E)];
  const [first, second] = [one, two].map((node) => seats.accept({ kind: 'addValidator', orgId: E, address: node.id }));
  const removed = seats.accept({ kind: 'removeObserver', orgId: E, address: two.id }, 'admin@b');
  world.pass(DAY);
  t.same(
    [first, second, removed].map((id) => seats.status(id!)),
    ['awaitingReady', 'awaitingReady', 'effective'],
  );
  t.equal(world.try(two, seats.readyCall()), 'NODE_UNKNOWN', 'voted out while it was a candidate');
  t.equal(world.try(one, seats.readyCall()), null);
  world.pass(HOUR);
  t.equal(seats.status(second!), 'failed CANDIDATE_NOT_READY');

  const late = new Seats();
  late.found(F);
  const nodes = [late.observer(F), late.observer(F)];
  for (const node of nodes) late.accept({ kind: 'addValidator', orgId: F, address: node.id });
  late.world.pass(DAY);
  t.equal(late.world.try(nodes[0]!, late.readyCall()), null);
  t.equal(late.world.try(nodes[1]!, late.readyCall()), 'ORG_HAS_VALIDATOR', 'one validator for each legal entity');
});

t.test('a validator leaves by vote, and four stay', async (t) => {
  const seats = new Seats();
  const { world } = seats;
  t.equal(seats.code({ kind: 'removeValidator', orgId: B }), 'SET_TOO_SMALL');
  t.equal(seats.code({ kind: 'removeValidator', orgId: 'nowhere' }), 'VALIDATOR_UNKNOWN');
  const node = seats.validator(E);
  const leaving = seats.node(D);
  const open: Call = { kind: 'gov.propose', proposal: admit(cardOf(E)), nonce: nonce() };
  world.do('admin@a', open);
  const openId = proposalIdOf(world.chainId, world.who('admin@a').id, open.nonce, open.proposal);
  seats.enact({ kind: 'removeValidator', orgId: D }, 'admin@a', ['a', 'b', 'c', 'e']);
  const height = world.height - 1;
  t.same(seats.validators.map((v) => v.orgId).sort(), [A, B, C, E]);
  t.same(seats.read(tenureEntry, stateKey.tenure(leaving.id)), { orgId: D, fromHeight: 1, untilHeight: height });
  t.equal(world.try('admin@d', { kind: 'gov.vote', proposalId: openId, approve: true }), 'NOT_A_VOTER');
  t.equal(seats.code(admit(cardOf(D)), 'admin@d'), 'NOT_A_VOTER');
  t.equal(world.try(leaving, seats.readyCall()), 'NODE_UNKNOWN');
  t.equal(seats.code({ kind: 'removeValidator', orgId: E }), 'SET_TOO_SMALL');
  t.equal(node.orgId, E);
  sound(t, seats);
});

t.test('no change of the set makes votes impossible', async (t) => {
  const seats = new Seats();
  seats.validator(E);
  const voters = ['a', 'b', 'c', 'e'];
  const remove = (orgId: string): Proposal => ({ kind: 'removeValidator', orgId });
  // Judged when it takes effect: both are possible alone, and together they leave too few.
  const [first, second] = [seats.accept(remove(D), 'admin@a', voters), seats.accept(remove(C), 'admin@a', voters)];
  seats.world.pass(DAY);
  t.same(
    [first, second].map((id) => seats.status(id)),
    ['effective', 'failed SET_TOO_SMALL'],
  );

  const suspended = new Seats();
  suspended.validator(E);
  suspended.enact({ kind: 'suspendOrganisation', orgId: E }, 'admin@a', ['a', 'b', 'c', 'd']);
  t.equal(suspended.code(remove(B)), null, 'three of four still vote');
  suspended.enact({ kind: 'reinstateOrganisation', orgId: E }, 'admin@a', ['a', 'b', 'c', 'd']);
  suspended.validator(F, voters);
  suspended.enact({ kind: 'suspendOrganisation', orgId: F }, 'admin@a', ['a', 'b', 'c', 'd']);
  suspended.enact({ kind: 'suspendOrganisation', orgId: E }, 'admin@a', ['a', 'b', 'c', 'd']);
  t.equal(suspended.code(remove(D)), 'GOVERNANCE_WOULD_STALL', 'three of five are no quorum');
});

t.test('a member changes its key or its peer id by vote, and a validator only on its own wish', async (t) => {
  const seats = new Seats();
  const { world } = seats;
  const old = seats.node(B);
  const before = seats.validators.find((v) => v.orgId === B)!;
  const card = cardOf(B);
  t.equal(seats.code(rotateTo(old.id, card), 'admin@a'), 'NOT_YOUR_ORGANISATION');
  t.equal(seats.code(rotateTo(tag('x').slice(0, 20), card), 'admin@b'), 'MEMBER_UNKNOWN');
  t.equal(seats.code(rotateTo(seats.node(A).id, card), 'admin@b'), 'MEMBER_UNKNOWN', "another's node");
  t.equal(seats.code(rotateTo(old.id, { ...card, publicKey: seats.node(A).publicKey }), 'admin@b'), 'KEY_ALREADY_USED');
  t.equal(
    seats.code(rotateTo(old.id, { ...card, peerId: seats.validators.find((v) => v.orgId === A)!.peerId }), 'admin@b'),
    'PEER_ID_ALREADY_USED',
  );
  seats.enact(rotateTo(old.id, card), 'admin@b');
  const height = world.height - 1;
  const fresh = seats.node(B);
  t.same(fresh.publicKey, card.publicKey);
  t.equal(seats.validators.length, 4);
  t.equal(seats.read(tenureEntry, stateKey.tenure(old.id))!.untilHeight, height);
  t.equal(seats.read(tenureEntry, stateKey.tenure(fresh.id))!.fromHeight, height + 1);
  t.equal(seats.read(peerEntry, stateKey.peer(before.peerId)), undefined);
  t.equal(
    seats.code(rotateTo(fresh.id, { ...card, publicKey: old.publicKey }), 'admin@b'),
    'KEY_ALREADY_USED',
    'old keys never come back',
  );
  sound(t, seats);

  const peerOnly = { ...cardOf(B), publicKey: fresh.publicKey };
  seats.enact(rotateTo(fresh.id, peerOnly), 'admin@b');
  t.match(
    seats.validators.find((v) => v.orgId === B),
    { peerId: peerOnly.peerId, address: fresh.id },
  );
  t.equal(seats.read(tenureEntry, stateKey.tenure(fresh.id))!.untilHeight, null, 'the key still certifies');
  sound(t, seats);

  const observer = seats.observer(C);
  const other = cardOf(C);
  seats.enact(rotateTo(observer.id, other), 'admin@a');
  t.equal(seats.read(observerEntry, stateKey.observer(observer.id)), undefined);
  t.match(seats.read(observerEntry, stateKey.observer(sm2Address(other.publicKey))), { orgId: C });
  sound(t, seats);
});

t.test('evidence of two votes stands on chain once, whoever brings it', async (t) => {
  const seats = new Seats();
  const { world } = seats;
  const offender = seats.node(D);
  const evidence = (more: Partial<CallOf<'node.evidence'>> = {}): Call => ({
    kind: 'node.evidence',
    publicKey: offender.publicKey,
    vote: 'prepare',
    height: 1,
    view: 0,
    first: { digest: tag('one'), signature: BLANK },
    second: { digest: tag('two'), signature: BLANK },
    ...more,
  });
  world.pass(1);
  const code = (more: Partial<CallOf<'node.evidence'>> = {}) => world.try(seats.node(A), evidence(more));
  t.equal(code({ second: { digest: tag('one'), signature: BLANK } }), 'EVIDENCE_NOT_CONFLICTING');
  t.equal(code({ height: world.height + 1 }), 'EVIDENCE_FROM_FUTURE');
  t.equal(code({ height: 0 }), 'EVIDENCE_NOT_OF_VALIDATOR', 'nobody certifies the genesis');
  t.equal(code({ publicKey: newKey().publicKey }), 'EVIDENCE_NOT_OF_VALIDATOR');
  t.equal(world.try('admin@a', evidence()), 'NODE_UNKNOWN');
  t.same(
    world
      .do(seats.node(A), evidence())
      .map(({ type, subject, orgId, detail }) => [type, bytesToHex(subject!), orgId, detail]),
    [['node.evidence', bytesToHex(offender.id), D, 'prepare']],
  );
  t.equal(world.try(seats.node(B), evidence({ view: 3 })), 'EVIDENCE_KNOWN', 'once for a height and kind');
  t.match(seats.read(evidenceEntry, stateKey.evidence(offender.id, 1, 'prepare')), {
    orgId: D,
    view: 0,
    reporter: seats.node(A).id,
  });
  t.equal(code({ vote: 'commit' }), null);
  for (let i = 0; i < 14; i += 1) world.pass(1);
  for (let height = 2; height < 16; height += 1) t.equal(code({ height }), null);
  t.equal(code({ height: 16 }), 'TOO_MUCH_EVIDENCE', 'an offender fills no state');
  t.equal(seats.validators.length, 4, 'nobody is expelled but by a vote');

  seats.validator(E);
  seats.enact({ kind: 'removeValidator', orgId: D }, 'admin@a', ['a', 'b', 'c', 'e']);
  const left = seats.read(tenureEntry, stateKey.tenure(offender.id))!.untilHeight!;
  world.pass(1);
  const newcomer = seats.node(E);
  const joined = seats.read(tenureEntry, stateKey.tenure(newcomer.id))!.fromHeight;
  const against = (publicKey: Uint8Array, height: number) => code({ publicKey, height, vote: 'preprepare' });
  t.equal(against(newcomer.publicKey, joined - 1), 'EVIDENCE_NOT_OF_VALIDATOR');
  t.equal(against(newcomer.publicKey, joined), null);
  t.equal(against(offender.publicKey, left + 1), 'EVIDENCE_NOT_OF_VALIDATOR', 'not one of the set of that height');
});

t.test('what a node says is bound to its key, its time and its organisation, and is not said twice', async (t) => {
  const seats = new Seats();
  const { world } = seats;
  const call = seats.readyCall();
  const node = seats.node(A);
  t.equal(world.try(node, call, { publicKey: seats.node(B).publicKey }), 'KEY_NOT_CURRENT');
  t.equal(world.try(node, call, { validUntilMs: world.now - 1 }), 'TX_EXPIRED');
  t.equal(world.try(node, call, { validUntilMs: world.now + HOUR }), 'TX_VALIDITY_TOO_LONG');
  const evidence: Call = {
    kind: 'node.evidence',
    publicKey: seats.node(D).publicKey,
    vote: 'commit',
    height: 1,
    view: 0,
    first: { digest: tag('one'), signature: BLANK },
    second: { digest: tag('two'), signature: BLANK },
  };
  const again = { nonce: nonce(), validUntilMs: world.now + MINUTE };
  t.equal(world.try(node, evidence, again), null);
  t.equal(world.try(node, evidence, again), 'TX_REPLAYED');
  seats.enact({ kind: 'suspendOrganisation', orgId: D });
  t.equal(world.try(seats.node(D), { ...evidence, vote: 'prepare' }), 'ORG_SUSPENDED');
});

t.test('the genesis gives each member its own peer id', async (t) => {
  const { genesis } = new World();
  const [first] = genesis.validators;
  const key = newKey().publicKey;
  const observer = { orgId: A, publicKey: key, address: sm2Address(key), peerId: first!.peerId };
  t.match(checkGenesis({ ...genesis, observers: [observer] }), { ok: false, message: /peer id/ });
});
