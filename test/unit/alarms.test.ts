import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { AlarmWatch, type AlarmPorts } from '../../node/alarms/alarm-watch.ts';
import { SlowestWrite } from '../../node/alarms/slowest-write.ts';
import { STALLS, WARNINGS } from '../../node/alarms/codes.ts';
import { Observations } from '../../node/host/observations.ts';
import type { Log } from '../../node/log.ts';
import type { Phase } from '../../consensus/types.ts';
import type { Member, PeerInfo } from '../../node/network/types.ts';
import { ManualClock } from '../integration/node-clock.ts';
import { consortium } from '../integration/node-consortium.ts';

const net = consortium();
const { validators } = net.genesis;
const [self, second, third, fourth] = validators as [Org, Org, Org, Org];
type Org = (typeof validators)[number];
const START_MS = 1_000_000;

interface Line {
  readonly level: string;
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** A watch over facts that the test turns. Validator 0 is this node. */
function world(options: { readonly disk?: AlarmPorts['disk'] } = {}) {
  const clock = new ManualClock(START_MS);
  const seen = new Observations(START_MS);
  seen.setValidators(validators);
  const lines: Line[] = [];
  const write = (level: string) => (fields: Readonly<Record<string, unknown>>, message: string) =>
    void lines.push({ level, message, fields });
  const log: Log = { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') };
  const peer = ({ peerId, orgId, address }: Org): PeerInfo => {
    const member: Member = { peerId, orgId, role: 'validator', address };
    return { peerId, member, connected: true, direction: 'outbound', addresses: [], bytesIn: 0, bytesOut: 0 };
  };
  const turn = {
    self: self.address,
    headMs: START_MS,
    isMember: true,
    peers: [second, third, fourth].map(peer),
    syncing: false,
    pool: 0,
    slowest: new SlowestWrite(clock),
    custodyConcern: null as string | null,
  };
  const watch = new AlarmWatch({
    clock,
    log,
    disk: options.disk ?? null,
    facts: () => ({
      self: turn.self,
      head: {
        height: 9,
        timestampMs: turn.headMs,
        validators,
        leaders: { skippedAt: new Map() },
        viewTimeoutMs: 1_000,
        maxClockDriftMs: 10_000,
      },
      isMember: turn.isMember,
      peers: turn.peers,
      seen,
      sync: { syncing: turn.syncing, sourcePeerId: second.peerId, highest: 30 },
      pool: { size: turn.pool, bytes: 0, limits: { maxTransactions: 100, maxBytes: 1_000 } },
      slowestSyncMs: turn.slowest.durationMs,
      custodyConcern: turn.custodyConcern,
    }),
  });
  const hear = (...indexes: number[]): void => {
    const body = {
      kind: 'status',
      height: 9,
      hash: new Uint8Array(32),
      view: 0,
      incarnation: new Uint8Array(16),
      asking: false,
    } as const;
    for (const validator of indexes)
      seen.noteMessage({ validator, signature: new Uint8Array(64), body }, clock.nowMs());
  };
  const inPhase = (phase: Phase, missing: readonly number[], view = 0): void =>
    seen.noteReport({ kind: 'phase', height: 10, view, phase, missing }, clock.nowMs());
  const late = (): void => {
    seen.noteDue(true, clock.nowMs());
    clock.advance(3_000);
  };
  return { clock, seen, lines, turn, watch, hear, inPhase, late };
}

const orgs = (members: readonly { readonly orgId: string }[] | undefined) => members?.map(({ orgId }) => orgId);

t.test('after the start, until a quorum was heard: who is waited for', async (t) => {
  const { watch, hear, turn } = world();
  hear(1);
  const { stall } = watch.look();
  t.match(stall, { code: 'STARTING', sinceMs: START_MS });
  t.same(orgs(stall?.missing), [third.orgId, fourth.orgId]);
  t.equal(watch.hasHeard, false);
  hear(2);
  t.equal(watch.look().stall, null);
  turn.syncing = true;
  t.match(watch.look().stall, { code: 'SYNCING', message: new RegExp(`from ${second.orgId}.* 9 of 30`) });
});

t.test('an idle chain is not stalled, nor is one whose block is not late yet', async (t) => {
  const { watch, hear, clock, seen } = world();
  hear(1, 2, 3);
  clock.advance(60_000);
  hear(1, 2, 3);
  t.equal(watch.look().stall, null);
  seen.noteDue(true, clock.nowMs());
  clock.advance(2_999);
  t.equal(watch.look().stall, null);
  clock.advance(1);
  t.match(watch.look().stall, { code: 'AWAIT_LEADER', sinceMs: clock.nowMs() - 3_000 });
  seen.noteCommit(10, null, validators, clock.nowMs());
  t.equal(watch.look().stall, null, 'a block came');
});

t.test('no quorum: who is away, and since when', async (t) => {
  const { watch, hear, late, clock } = world();
  hear(1, 2);
  clock.advance(10_000);
  hear(1);
  late();
  const { stall } = watch.look();
  t.match(stall, { code: 'NO_QUORUM', height: 0, message: /2 of 4 .* 3 are needed/ });
  t.match(stall?.missing, [
    { orgId: third.orgId, lastSeenMs: START_MS, connected: true },
    { orgId: fourth.orgId, lastSeenMs: null },
  ]);
});

t.test('with a quorum here: what is waited for, and from whom', async (t) => {
  const cases: readonly [Phase, readonly number[], string, readonly string[]][] = [
    ['awaitProposal', [2], 'AWAIT_LEADER', ['*']],
    ['awaitPrepares', [2, 3], 'AWAIT_VOTES', [third.orgId, fourth.orgId]],
    ['awaitCommits', [3], 'AWAIT_VOTES', [fourth.orgId]],
    ['viewChange', [1, 3], 'VIEW_CHANGE', [second.orgId, fourth.orgId]],
    ['awaitExecution', [], 'EXECUTING', []],
    ['awaitBody', [], 'AWAIT_BODY', []],
    ['committing', [], 'COMMITTING', []],
  ];
  for (const [phase, missing, code, named] of cases) {
    const { watch, hear, late, inPhase } = world();
    hear(1, 2, 3);
    inPhase(phase, missing, 2);
    late();
    const { stall } = watch.look();
    t.match(
      stall,
      { code, phase, height: 10, view: 2, message: phase === 'committing' ? /stored/ : /for |ago/ },
      phase,
    );
    if (named[0] === '*') t.equal(stall?.missing.length, 1);
    else t.same(orgs(stall?.missing), named);
  }
  const { watch, hear, late, inPhase } = world();
  hear(1, 2, 3);
  inPhase('awaitCommits', [3]);
  late();
  t.match(watch.look().stall?.message, new RegExp(`Commit of ${fourth.orgId}`));
});

t.test('this node is what is wrong', async (t) => {
  t.test('its key runs elsewhere: a warning, and the reason where its vote decides', async (t) => {
    const { watch, hear, late, seen, clock } = world();
    hear(1, 2);
    seen.noteReport({ kind: 'keyInUse', abstainThrough: null }, clock.nowMs());
    t.match(watch.look(), { stall: null, warnings: [{ code: 'KEY_IN_USE', missing: [{ orgId: self.orgId }] }] });
    clock.advance(6_000);
    hear(1, 2);
    late();
    t.match(watch.look().stall, { code: 'KEY_IN_USE' });
    hear(1, 2, 3);
    t.not(watch.look().stall?.code, 'KEY_IN_USE', 'three others can decide without it');
    seen.noteReport({ kind: 'keyInUse', abstainThrough: 10 }, clock.nowMs());
    seen.noteCommit(9, null, [], clock.nowMs());
    t.not(seen.keyInUseSinceMs, null);
    seen.noteCommit(10, null, [], clock.nowMs());
    t.equal(seen.keyInUseSinceMs, null, 'after an old backup it ends by itself');
  });

  t.test('it is alone', async (t) => {
    const { watch, hear, late, turn, clock } = world();
    hear(1, 2, 3);
    turn.peers = turn.peers.map((peer) => ({ ...peer, connected: false }));
    clock.advance(10_000);
    t.match(watch.look(), { stall: null, warnings: [{ code: 'NO_PEERS' }] });
    late();
    t.match(watch.look().stall, { code: 'NO_PEERS' });
  });

  t.test('the chain no longer names it', async (t) => {
    const { watch, hear, turn } = world();
    hear(1, 2, 3);
    turn.isMember = false;
    t.match(watch.look().warnings, [{ code: 'NOT_A_MEMBER' }]);
  });

  t.test('an observer sees only that no block comes', async (t) => {
    const { watch, late, turn } = world();
    turn.self = new Uint8Array(20);
    t.equal(watch.hasHeard, true, 'a connection is enough');
    late();
    t.match(watch.look().stall, { code: 'NO_BLOCK' });
  });
});

t.test('clocks', async (t) => {
  const proposal = (of: Org, timestampMs: number) => ({ proposer: of.address, timestampMs });

  t.test('one that differs from all others is the own', async (t) => {
    const { watch, hear, late, seen, clock } = world();
    hear(1, 2, 3);
    const now = clock.nowMs();
    seen.noteProposal(proposal(second, now + 31_000), START_MS, now);
    t.match(watch.look().warnings, [{ code: 'PEER_CLOCK_SKEW', missing: [{ orgId: second.orgId }] }]);
    seen.noteProposal(proposal(third, now + 30_000), START_MS, now);
    t.match(watch.look().warnings, [{ code: 'CLOCK_SKEW', message: /30 s behind/ }]);
    clock.advance(2_000);
    hear(1, 2, 3);
    late();
    hear(1, 2, 3);
    t.match(watch.look().stall, { code: 'CLOCK_SKEW' });
    clock.advance(10 * 60_000);
    hear(1, 2, 3);
    t.same(watch.look().warnings, [], 'forgotten after a while without proposals');
  });

  t.test('f proposers prove nothing, and two that disagree neither', async (t) => {
    const { watch, hear, seen, clock } = world();
    hear(1, 2, 3);
    const now = clock.nowMs();
    seen.noteProposal(proposal(second, now + 60_000), START_MS, now);
    seen.noteProposal(proposal(third, now - 60_000), START_MS - 100_000, now);
    seen.noteProposal(proposal(fourth, now), START_MS - 100_000, now);
    t.match(watch.look().warnings, [{ code: 'PEER_CLOCK_SKEW' }]);
    t.equal(watch.look().warnings.length, 1);
  });

  t.test("a time that follows the parent's says nothing of a clock", async (t) => {
    const { watch, hear, seen, clock } = world();
    hear(1, 2, 3);
    for (const one of [second, third])
      seen.noteProposal(proposal(one, START_MS + 60_001), START_MS + 60_000, clock.nowMs());
    t.same(watch.look().warnings, []);
  });

  t.test('a head in the future shows it at once', async (t) => {
    const { watch, hear, turn } = world();
    hear(1, 2, 3);
    turn.headMs = START_MS + 10_001;
    t.match(watch.look().warnings, [{ code: 'CLOCK_SKEW' }]);
  });
});

t.test('other warnings come and go', async (t) => {
  t.test('validators away, and how many more may go', async (t) => {
    const { watch, hear, clock } = world();
    hear(1, 2, 3);
    clock.advance(6_000);
    hear(1, 2);
    t.match(watch.look().warnings, [
      { code: 'VALIDATORS_AWAY', message: /One more, and no block/, missing: [{ orgId: fourth.orgId }] },
    ]);
    hear(3);
    t.same(watch.look().warnings, []);
  });

  t.test('misbehaviour stays in sight for an hour', async (t) => {
    const { watch, hear, seen, clock } = world();
    hear(1, 2, 3);
    const vote = { digest: new Uint8Array(32), signature: new Uint8Array(64) };
    const equivocation = { validator: 2, vote: 'prepare', height: 10, view: 0, first: vote, second: vote } as const;
    seen.noteReport({ kind: 'evidence', equivocation }, clock.nowMs());
    t.match(watch.look().warnings, [{ code: 'MISBEHAVIOUR', missing: [{ orgId: third.orgId }] }]);
    clock.advance(61 * 60_000);
    hear(1, 2, 3);
    t.same(watch.look().warnings, []);
  });

  t.test('the pool, a slow disk', async (t) => {
    const { watch, hear, turn, clock } = world();
    hear(1, 2, 3);
    turn.pool = 90;
    turn.slowest.note(1_000);
    turn.slowest.note(10);
    t.same(
      watch.look().warnings.map(({ code }) => code),
      ['DISK_SLOW', 'POOL_FULL'],
    );
    turn.pool = 89;
    clock.advance(61_000);
    hear(1, 2, 3);
    t.same(watch.look().warnings, []);
  });

  t.test('a custodian that waits for its operator', async (t) => {
    const { watch, hear, turn } = world();
    hear(1, 2, 3);
    turn.custodyConcern = 'Shares are to go to 5 hospitals.';
    t.match(watch.look().warnings, [{ code: 'CUSTODY_WAITS', message: turn.custodyConcern }]);
    turn.custodyConcern = null;
    t.same(watch.look().warnings, []);
  });

  t.test('room on the disk: low, full, unreadable', async (t) => {
    let free: () => Promise<number> = () => Promise.resolve(200);
    const disk = { freeBytes: () => free(), minFreeBytes: 100 };
    const { watch, hear, clock } = world({ disk });
    hear(1, 2, 3);
    const settled = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));
    watch.start();
    await settled();
    t.match(watch.look().warnings, [{ code: 'DISK_LOW' }]);
    const steps: readonly [() => Promise<number>, readonly string[]][] = [
      [() => Promise.resolve(100), ['DISK_FULL']],
      [() => Promise.reject(new Error('EIO')), ['DISK_FAILING']],
      [() => Promise.resolve(201), []],
    ];
    for (const [answer, codes] of steps) {
      free = answer;
      clock.advance(10_000);
      await settled();
      hear(1, 2, 3);
      t.same(
        watch.look().warnings.map(({ code }) => code),
        codes,
      );
    }
    watch.stop();
  });
});

t.test('each change is logged once, with its fields', async (t) => {
  const { watch, hear, inPhase, late, seen, clock, lines } = world();
  hear(1, 2, 3);
  inPhase('awaitPrepares', [2]);
  late();
  for (let looks = 0; looks < 3; looks += 1) watch.look();
  t.match(lines, [
    { level: 'warn', message: 'stalled', fields: { code: 'AWAIT_VOTES', height: 10, view: 0, missing: [third.orgId] } },
  ]);
  t.equal(lines.length, 1);
  inPhase('awaitPrepares', [2, 3]);
  watch.look();
  t.equal(lines.length, 2, 'somebody else is missing');
  seen.noteCommit(10, null, validators, clock.nowMs());
  watch.look();
  watch.look();
  t.match(lines[2], { level: 'info', message: 'no longer stalled', fields: { code: 'AWAIT_VOTES', lastedMs: 3_000 } });
  t.equal(lines.length, 3);
});

t.test('the watch looks by itself each second', async (t) => {
  const { watch, clock, lines } = world();
  watch.start();
  t.match(lines, [{ fields: { code: 'STARTING' } }]);
  clock.advance(1_000);
  watch.stop();
  clock.advance(60_000);
  t.equal(lines.length, 1);
});

t.test('the runbook has a section for each alarm, and none that does not exist', async (t) => {
  const text = readFileSync(join(import.meta.dirname, '../../docs/runbook.md'), 'utf8');
  const sections = [...text.matchAll(/^## ([A-Z][A-Z_]+)$/gm)].map(([, code]) => code as string);
  const codes = [...new Set([...Object.keys(STALLS), ...Object.keys(WARNINGS)])];
  t.same(sections.toSorted(), codes.toSorted());
});
