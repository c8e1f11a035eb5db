/** Custody and membership: who holds shares is who validates, and both change at one height. */
import t from 'tap';
import { encode } from '../../common/codec.ts';
import { custodyDemandEntry } from '../../common/protocol/custody.ts';
import { organisationEntry, proposalEntry, stateKey } from '../../common/protocol/state-entries.ts';
import type { Proposal } from '../../common/protocol/transaction.ts';
import { quorumSize } from '../../common/protocol/validator-set.ts';
import { blockDue } from '../../vm/index.ts';
import { CUSTODY_DEAL_MS, CUSTODY_DEMAND_MS, CUSTODY_REFRESH_MS, CUSTODY_REFRESH_RETRY_MS } from '../../vm/limits.ts';
import { Custodians, holds, typesOf } from './vm-custodians.ts';
import { people } from './vm-hospitals.ts';
import { Seats } from './vm-seats.ts';
import { A, type Actor, B, C, D, DAY, HOUR, newKey, owner, World } from './vm-world.ts';

const E = 'hospital-e';
const F = 'hospital-f';
const G = 'hospital-g';

/** A world, its seats and its custodians. */
function setting(founders: ConstructorParameters<typeof World>[0] = {}) {
  const world = new World(founders);
  return { world, seats: new Seats(world), custodians: new Custodians(world) };
}
type Setting = ReturnType<typeof setting>;

/** Voters of a set with E in it: four of five decide. */
const FIVE = ['a', 'b', 'c', 'd'];

/** An organisation with an observer that is to be its validator. */
function newcomer(
  { seats, custodians }: Setting,
  orgId: string,
  custodianKey: Uint8Array | null,
  voters?: string[],
): Actor {
  seats.found(orgId, voters, custodianKey);
  const node = seats.observer(orgId, voters);
  custodians.observers.set(orgId, node);
  return node;
}

function withFive(founders: ConstructorParameters<typeof World>[0] = {}): Setting & { readonly node: Actor } {
  const on = setting(founders);
  on.custodians.make();
  const node = newcomer(on, E, newKey().publicKey);
  on.seats.candidacy(node);
  on.custodians.make();
  on.world.do(node, on.seats.readyCall());
  return { ...on, node };
}

const orgsOf = (members: readonly { readonly orgId: string }[]): string[] =>
  members.map(({ orgId }) => orgId).sort((x, y) => (x < y ? -1 : 1));

t.test('a new validator comes in together with its share', async (t) => {
  const on = setting();
  const { world, seats, custodians } = on;
  custodians.make();
  const first = custodians.epoch;
  const node = newcomer(on, E, newKey().publicKey);
  t.equal(custodians.isOpen, false);
  const id = seats.accept({ kind: 'addValidator', orgId: E, address: node.id });
  t.same(typesOf(world.pass(DAY)), ['custody.opened', 'gov.awaitingReady']);
  t.match(custodians.session, { kind: 'reshare', epoch: 2, threshold: 4, phase: 'announce' });
  t.same(custodians.session.proposalId, id);
  t.same(orgsOf(custodians.session.receivers), [A, B, C, D, E]);
  t.equal(world.try(node, seats.readyCall()), 'CUSTODY_NOT_PREPARED');
  custodians.announceAll();
  t.equal(world.try(node, custodians.dealing(A)), 'CUSTODY_NOT_DEALER', 'it has nothing to hand on');
  t.equal(custodians.try(A, custodians.dealing(A, { secret: 7n })), 'BAD_DEALING', 'not its own share');
  custodians.dealAll([A, B, C]);
  world.pass(CUSTODY_DEAL_MS);
  custodians.confirmAll([A, B, C, D]);
  t.equal(world.try(node, seats.readyCall()), 'CUSTODY_NOT_PREPARED', 'its own share is missing');
  t.same(typesOf(custodians.confirmAll([E])), ['node.custodyConfirm', 'custody.prepared']);
  t.equal(custodians.epoch.epoch, 1, 'nothing has changed yet');
  const { height } = world;
  t.same(typesOf(world.do(node, seats.readyCall())), ['node.ready', 'gov.effective', 'custody.active']);
  t.equal(seats.validators.length, 5);
  const { epoch } = custodians;
  t.match(epoch, { epoch: 2, threshold: 4, sinceHeight: height });
  t.same(epoch.key, first.key, 'the key stays');
  t.same(orgsOf(epoch.holders), orgsOf(seats.validators));
  t.notOk(custodians.isOpen);
});

t.test('without a custodian nobody comes in, once there is a key', async (t) => {
  const on = setting();
  const { seats, custodians, world } = on;
  const node = newcomer(on, E, null);
  const add: Proposal = { kind: 'addValidator', orgId: E, address: node.id };
  const id = seats.accept(add);
  custodians.make();
  t.equal(seats.code(add), 'CUSTODIAN_REQUIRED');
  world.pass(DAY);
  t.equal(seats.status(id), 'failed CUSTODIAN_REQUIRED');
});

t.test('a candidate that does not come takes its session with it', async (t) => {
  const on = setting();
  const { world, seats, custodians } = on;
  custodians.make();
  const id = seats.candidacy(newcomer(on, E, newKey().publicKey));
  t.equal(custodians.isOpen, true);
  custodians.announceAll();
  t.same(typesOf(world.pass(HOUR)), ['gov.failed', 'custody.closed']);
  t.equal(seats.status(id), 'failed CANDIDATE_NOT_READY');
  t.notOk(custodians.isOpen);
  t.equal(blockDue(world.state).nextDeadlineMs, custodians.epoch.refreshMs, 'and with the deadline of its dealings');
});

t.test('a candidate from before the first key is served when there is one', async (t) => {
  const on = setting();
  const { world, seats, custodians } = on;
  const node = newcomer(on, E, newKey().publicKey);
  const other = newcomer(on, F, null);
  custodians.announceAll();
  custodians.dealAll();
  custodians.confirmAll([A, B, C]);
  seats.accept({ kind: 'addValidator', orgId: F, address: other.id });
  seats.candidacy(node);
  t.match(custodians.session, { kind: 'genesis', epoch: 1 });
  t.same(typesOf(custodians.confirmAll([D])), ['node.custodyConfirm', 'custody.active', 'custody.opened']);
  t.match(custodians.session, { kind: 'reshare', epoch: 2 });
  t.same(orgsOf(custodians.session.receivers), [A, B, C, D, E], 'who runs no custodian is not served');
  t.equal(world.try(other, seats.readyCall()), 'CUSTODIAN_REQUIRED');
  custodians.make();
  world.do(node, seats.readyCall());
  t.equal(custodians.epoch.epoch, 2);
});

t.test('a validator leaves when the others have their shares', async (t) => {
  const { world, seats, custodians } = withFive();
  const { key } = custodians.epoch;
  const id = seats.accept({ kind: 'removeValidator', orgId: B }, 'admin@a', FIVE);
  t.same(typesOf(world.pass(DAY)), ['custody.opened', 'gov.awaitingReady']);
  t.equal(seats.status(id), 'awaitingReady');
  t.equal(seats.validators.length, 5, 'it is one until then');
  t.same(orgsOf(custodians.session.receivers), [A, C, D, E]);
  t.equal(custodians.try(B, custodians.announcement(B)), 'CUSTODY_NOT_RECEIVER');
  custodians.announceAll();
  custodians.dealAll([B, C, D, E]);
  t.equal(custodians.session.phase, 'deal', 'A may still deal');
  world.pass(CUSTODY_DEAL_MS);
  const { height } = world;
  const events = custodians.confirmAll();
  t.same(typesOf(events).slice(-3), ['node.custodyConfirm', 'custody.active', 'gov.effective']);
  t.equal(seats.status(id), 'effective');
  t.same(orgsOf(seats.validators), [A, C, D, E]);
  t.match(custodians.epoch, { epoch: 3, threshold: 3, sinceHeight: height + 3 });
  t.same(custodians.epoch.key, key);
});

t.test('who leaves may be silent', async (t) => {
  const { world, seats, custodians } = withFive();
  seats.enact({ kind: 'removeValidator', orgId: B }, 'admin@a', FIVE);
  custodians.announceAll();
  custodians.dealAll([A, C, D, E]);
  world.pass(CUSTODY_DEAL_MS);
  custodians.confirmAll();
  t.same(orgsOf(seats.validators), [A, C, D, E]);
});

t.test('custodians that make no new shares keep other changes waiting no longer than a vote may', async (t) => {
  const { world, seats, custodians } = withFive();
  const id = seats.enact({ kind: 'removeValidator', orgId: B }, 'admin@a', FIVE);
  const { closesMs } = custodians.read(proposalEntry, stateKey.proposal(id))!;
  t.equal(closesMs, world.now - 1 + world.genesis.params.governanceTtlMs);
  custodians.announceAll();
  world.now = closesMs - 1;
  world.commit();
  t.equal(custodians.isOpen, true);
  t.same(typesOf(world.pass(1)), ['gov.failed', 'custody.closed']);
  t.equal(seats.status(id), 'failed CUSTODY_NOT_PREPARED');
  t.equal(seats.validators.length, 5);
  t.notOk(custodians.isOpen);
  t.equal(blockDue(world.state).nextDeadlineMs, custodians.epoch.refreshMs);
  const again = seats.enact({ kind: 'removeValidator', orgId: B }, 'admin@a', FIVE);
  custodians.make();
  t.equal(seats.status(again), 'effective');
  t.equal(blockDue(world.state).nextDeadlineMs, custodians.epoch.refreshMs, 'no deadline is left behind');
});

t.test('what has become impossible meanwhile has failed', async (t) => {
  const { world, seats, custodians } = withFive();
  const id = seats.enact({ kind: 'removeValidator', orgId: B }, 'admin@a', FIVE);
  custodians.announceAll();
  custodians.dealAll();
  custodians.confirmAll([A, C, D]);
  // Votes would take longer than the test: two of the four that would be left are suspended.
  for (const org of [C, D]) {
    const key = stateKey.organisation(org);
    const value = encode(organisationEntry, {
      ...custodians.read(organisationEntry, key)!,
      status: 'suspended' as const,
    });
    world.state.apply([{ key, value }]);
  }
  const events = custodians.confirmAll([E]);
  t.same(typesOf(events), ['node.custodyConfirm', 'custody.closed', 'gov.failed']);
  t.equal(seats.status(id), 'failed GOVERNANCE_WOULD_STALL');
  t.equal(custodians.epoch.epoch, 2, 'holders are who they were');
});

t.test('one change at a time', async (t) => {
  const on = withFive();
  const { world, seats, custodians } = on;
  seats.enact({ kind: 'removeValidator', orgId: B }, 'admin@a', FIVE);
  const node = newcomer(on, F, newKey().publicKey, FIVE);
  const id = seats.enact({ kind: 'addValidator', orgId: F, address: node.id }, 'admin@a', FIVE);
  t.equal(seats.status(id), 'accepted', 'a session is open');
  t.equal(blockDue(world.state).nextDeadlineMs, world.now - 1 + CUSTODY_DEAL_MS, 'it is looked at again');
  world.pass(CUSTODY_DEAL_MS);
  t.equal(seats.status(id), 'accepted');
  custodians.make();
  t.same(orgsOf(seats.validators), [A, C, D, E]);
  t.same(typesOf(world.pass(CUSTODY_DEAL_MS)), ['custody.opened', 'gov.awaitingReady']);
  t.same(orgsOf(custodians.session.receivers), [A, C, D, E, F]);
  custodians.make();
  world.do(node, seats.readyCall());
  t.same(orgsOf(seats.validators), [A, C, D, E, F]);
});

t.test('a proven cheat among the dealers is left out, also when all had confirmed', async (t) => {
  const on = setting();
  const { world, seats, custodians } = on;
  custodians.make();
  const node = newcomer(on, E, newKey().publicKey);
  seats.candidacy(node);
  custodians.announceAll();
  custodians.do(A, custodians.dealing(A, { victim: E }));
  custodians.dealAll([B, C, D]);
  t.throws(() => custodians.share(E), { message: /cannot open/ });
  custodians.confirmAll([A, B, C, D]);
  custodians.do(E, custodians.complaint(E, A));
  t.match(custodians.session, { phase: 'confirm', confirmed: [] });
  custodians.confirmAll();
  t.equal(custodians.session.phase, 'prepared');
  const late = custodians.complaint(B, C);
  t.same(typesOf(custodians.do(B, late)), ['node.custodyComplain'], 'a false one changes nothing');
  t.equal(custodians.session.phase, 'prepared');
  world.do(node, seats.readyCall());
  t.equal(custodians.epoch.epoch, 2);
});

t.test('refresh: new shares of the same key for the same holders', async (t) => {
  const { world, seats, custodians } = setting();
  t.equal(seats.code({ kind: 'refreshCustody' }), 'CUSTODY_NOT_ACTIVE');
  custodians.make();
  const before = custodians.epoch;
  const id = seats.enact({ kind: 'refreshCustody' });
  t.match(custodians.session, { kind: 'reshare', epoch: 2 });
  t.equal(seats.code({ kind: 'refreshCustody' }), 'CUSTODY_SESSION_OPEN');
  custodians.make();
  t.equal(seats.status(id), 'effective');
  const { epoch } = custodians;
  t.same(epoch.key, before.key);
  t.same(orgsOf(epoch.holders), orgsOf(before.holders));
  t.notSame(epoch.holders, before.holders);
  t.equal(world.state.get(stateKey.custodySession()), undefined);
});

t.test(
  'four become seven and four again, with a dealer that is absent and one that cheats; the key stays',
  async (t) => {
    const on = setting();
    const { world, seats, custodians } = on;
    custodians.make();
    const { key } = custodians.epoch;
    const voters = () =>
      orgsOf(seats.validators)
        .slice(0, quorumSize(seats.validators.length))
        .map((org) => org.slice(-1));
    /** Who is absent deals nothing; who cheats sends the victim a false part, and is found out. */
    const step = (absent: string | null, cheat: string | null, victim: string): void => {
      custodians.announceAll();
      for (const org of custodians.dealers.filter((dealer) => dealer !== absent)) {
        custodians.do(org, custodians.dealing(org, org === cheat ? { victim } : {}));
      }
      if (cheat !== null) custodians.do(victim, custodians.complaint(victim, cheat));
      world.pass(CUSTODY_DEAL_MS);
      custodians.confirmAll();
    };
    const join = (orgId: string, absent: string | null, cheat: string | null): void => {
      const node = newcomer(on, orgId, newKey().publicKey, voters());
      seats.candidacy(node, voters());
      step(absent, cheat, orgId);
      world.do(node, seats.readyCall());
      t.same(orgsOf(custodians.epoch.holders), orgsOf(seats.validators));
    };
    const leave = (orgId: string, absent: string | null, cheat: string | null): void => {
      seats.enact({ kind: 'removeValidator', orgId }, `admin@${voters().at(-1)}`, voters());
      step(absent, cheat, G);
      t.same(orgsOf(custodians.epoch.holders), orgsOf(seats.validators));
    };
    join(E, null, A);
    join(F, B, null);
    join(G, C, D);
    t.match(custodians.epoch, { epoch: 4, threshold: 5 });
    leave(A, A, D);
    leave(B, B, D);
    leave(C, null, D);
    t.same(orgsOf(custodians.epoch.holders), [D, E, F, G]);
    t.match(custodians.epoch, { epoch: 7, threshold: 3 });
    t.same(custodians.epoch.key, key);
    t.ok(holds(custodians));
  },
);

t.test('a demand is for the shares of one epoch', async (t) => {
  const { world, seats, custodians } = setting(people);
  custodians.make();
  world.patient('paula');
  const policy = world.policy(owner, { maxDurationMs: 30 * DAY });
  const { call, sidecar, recordId } = custodians.sealed('alice', 'paula', policy);
  world.do('alice', call, { sidecar });
  const requestHash = world.ask('bob', recordId, { notAfterMs: world.now + 20 * DAY });
  world.approve('paula', requestHash);
  seats.enact({ kind: 'refreshCustody' });
  custodians.announceAll();
  custodians.dealAll();
  world.do('bob', { kind: 'access.demand', requestHash });
  custodians.do(A, custodians.releaseShare(A, requestHash));
  custodians.confirmAll();
  t.equal(custodians.try(B, custodians.releaseShare(B, requestHash)), 'DEMAND_UNKNOWN', 'of another epoch');
  world.do('bob', { kind: 'access.demand', requestHash });
  const demand = custodians.read(custodyDemandEntry, stateKey.custodyDemand(requestHash))!;
  t.match(demand, { epoch: 2, shares: [] }, 'at once, and from the beginning');
  t.equal(blockDue(world.state).nextDeadlineMs, demand.untilMs, 'with one deadline');
  custodians.do(B, custodians.releaseShare(B, requestHash));
  world.pass(DAY);
});

t.test('nobody is named for the shares of an epoch that is over', async (t) => {
  const { world, seats, custodians } = setting(people);
  custodians.make();
  world.patient('paula');
  const { call, sidecar, recordId } = custodians.sealed(
    'alice',
    'paula',
    world.policy(owner, { maxDurationMs: 9 * DAY }),
  );
  world.do('alice', call, { sidecar });
  const requestHash = world.ask('bob', recordId, { notAfterMs: world.now + 9 * DAY });
  world.approve('paula', requestHash);
  seats.enact({ kind: 'refreshCustody' });
  custodians.announceAll();
  custodians.dealAll();
  world.do('bob', { kind: 'access.demand', requestHash });
  custodians.confirmAll();
  t.equal(custodians.epoch.epoch, 2);
  t.same(typesOf(world.pass(CUSTODY_DEMAND_MS)), []);
});

t.test('while there is no key, membership goes its own way and the session follows', async (t) => {
  const on = setting();
  const { world, seats, custodians } = on;
  const { id } = custodians.session;
  custodians.announceAll([A, B]);
  const node = newcomer(on, E, newKey().publicKey);
  seats.candidacy(node);
  t.same(typesOf(world.do(node, seats.readyCall())).slice(2), ['custody.closed', 'custody.opened']);
  t.notSame(custodians.session.id, id);
  t.match(custodians.session, { kind: 'genesis', epoch: 1, threshold: 4 });
  const without = newcomer(on, F, null, FIVE);
  seats.candidacy(without, FIVE);
  t.same(typesOf(world.do(without, seats.readyCall())).slice(2), ['custody.closed']);
  t.notOk(custodians.isOpen, 'one runs no custodian: custody is direct');
  const removed = seats.enact({ kind: 'removeValidator', orgId: F }, 'admin@a', FIVE);
  t.equal(seats.status(removed), 'effective', 'at once');
  t.match(custodians.session, { kind: 'genesis', epoch: 1 }, 'and another try without it');
  custodians.make();
  t.equal(custodians.epoch.holders.length, 5);
});

t.test('an old epoch gets new shares by itself, and what nobody completes gives way', async (t) => {
  const { world, seats, custodians } = setting();
  custodians.make();
  const first = custodians.epoch;
  t.equal(first.refreshMs, first.sinceMs + CUSTODY_REFRESH_MS);
  t.equal(blockDue(world.state).nextDeadlineMs, first.refreshMs);
  world.now = first.refreshMs - 1;
  world.commit();
  t.notOk(custodians.isOpen, 'not before');
  t.same(typesOf(world.pass(1)), ['custody.opened']);
  t.match(custodians.session, { kind: 'reshare', epoch: 2, proposalId: null });

  custodians.announceAll([A, B, C]);
  t.same(typesOf(world.pass(CUSTODY_REFRESH_RETRY_MS)), ['custody.closed'], 'D stays away');
  t.same(typesOf(world.pass(CUSTODY_REFRESH_RETRY_MS)), ['custody.opened'], 'another attempt');
  custodians.make();
  const { epoch } = custodians;
  t.match(epoch, { epoch: 2, refreshMs: epoch.sinceMs + CUSTODY_REFRESH_MS });
  t.same(epoch.key, first.key);
  t.notSame(epoch.holders, first.holders);
  t.equal(blockDue(world.state).nextDeadlineMs, epoch.refreshMs, 'one deadline, of the epoch that is');

  world.pass(CUSTODY_REFRESH_MS - 2 * DAY);
  seats.enact({ kind: 'refreshCustody' });
  const voted = custodians.session;
  t.ok(voted.proposalId);
  world.pass(2 * DAY);
  t.same(custodians.session.id, voted.id, 'a session of a vote goes first');
});
