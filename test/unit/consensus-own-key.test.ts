import t from 'tap';
import { equalBytes } from '../../common/bytes.ts';
import type { Echo, HeardPromise, HeardStatus, UnsignedMessage } from '../../consensus/messages.ts';
import { covers, type SafetyRecord } from '../../consensus/safety-record.ts';
import { LoneReplica, signAs } from '../sim/lone-replica.ts';

const OWN = 0;
const digest = new Uint8Array(32).fill(7);
const other = new Uint8Array(32).fill(8);
const process = (byte: number): Uint8Array => new Uint8Array(16).fill(byte);
const { consortium } = new LoneReplica();

/** What validator `by` signed, as others hand it on. */
function heard(body: UnsignedMessage, by = OWN): HeardPromise {
  const { signature } = signAs(consortium, by, body);
  switch (body.kind) {
    case 'prepare':
    case 'commit':
      return { kind: 'vote', vote: body.kind, height: body.height, view: body.view, digest: body.digest, signature };
    case 'prePrepare': {
      const { height, view, block } = body;
      return { kind: 'vote', vote: 'preprepare', height, view, digest: block.hash, signature };
    }
    case 'viewChange':
      return { kind: 'viewChange', height: body.height, view: body.view, prepared: body.prepared, signature };
    default:
      throw new Error('no promise');
  }
}

function shown(height: number, by: number, asking = false, validator = OWN): HeardStatus {
  const body = new LoneReplica().status(height, 0, by, asking);
  return { ...body, signature: signAs(consortium, validator, body).signature };
}

const promised = (lone: LoneReplica): readonly string[] =>
  lone
    .of('broadcast')
    .map((e) => e.message.kind)
    .filter((kind) => kind !== 'status');
const echoes = (lone: LoneReplica): Echo[] => lone.of('answer').map((e) => e.message);

t.test('before it promises anything, a process asks what its key has promised [R5]', async (t) => {
  t.test('and waits for a quorum, itself included', async (t) => {
    const lone = new LoneReplica({ asks: true });
    t.match(lone.said('status'), [{ asking: true, incarnation: lone.incarnation }]);
    lone.give({ kind: 'due', due: true });
    lone.hearProposal(lone.block());
    t.equal(lone.timer('view'), undefined, 'nor does it ask for the next view');
    lone.hearEcho(1);
    lone.hearEcho(1);
    t.match(lone.reports('phase').at(-1), { phase: 'awaitEchoes' });
    lone.fire('retransmit');
    t.match(lone.reports('phase').at(-1), { phase: 'awaitEchoes', missing: [2, 3] });
    lone.hearEcho(2, { incarnation: process(3) });
    t.same(promised(lone), [], 'an answer to another process is none');
    lone.hearEcho(2);
    t.same(promised(lone), ['prepare']);
    t.match(lone.said('status').at(-1), { asking: false });
  });

  t.test('as the leader, too; and follows meanwhile', async (t) => {
    const lone = new LoneReplica({ self: 1, asks: true });
    lone.give({ kind: 'due', due: true });
    t.equal(lone.of('propose').length, 0);
    const block = lone.block();
    lone.commitTo(block);
    t.match(lone.said('status').at(-1), { height: 1, asking: true });
    const first = new LoneReplica({ self: 1, asks: true });
    first.give({ kind: 'due', due: true });
    for (const from of [0, 3]) first.hearEcho(from);
    t.equal(first.of('propose').length, 1);
  });

  t.test('sends its record again only then', async (t) => {
    const lone = new LoneReplica();
    lone.hearProposal(lone.block());
    const again = new LoneReplica({ record: lone.record, bodies: [...lone.bodies.values()], asks: true });
    again.fire('retransmit');
    t.same(promised(again), []);
    for (const from of [1, 2]) again.hearEcho(from);
    t.same(promised(again), ['prepare']);
  });

  t.test('asks again with each tick, and at once whoever appears', async (t) => {
    const lone = new LoneReplica({ asks: true });
    lone.take();
    lone.fire('retransmit');
    t.match(lone.of('send'), [{ to: null, message: { body: { kind: 'status', asking: true } } }]);
    lone.take();
    for (let i = 0; i < 3; i += 1) lone.hear(3, lone.status(0));
    t.match(lone.of('send'), [{ to: 3, message: { body: { kind: 'status', asking: true } } }], 'once in a tick');
    lone.hearEcho(3);
    lone.take();
    lone.fire('retransmit');
    lone.hear(3, lone.status(0));
    t.notOk(lone.of('send').some((e) => e.to === 3));
  });

  t.test('alone in its consortium there is nobody to ask', async (t) => {
    const lone = new LoneReplica({ count: 1, asks: true });
    lone.give({ kind: 'due', due: true });
    t.equal(lone.of('propose').length, 1);
  });
});

t.test('whoever is asked tells all that it heard under that key [R5]', async (t) => {
  const heardFrom3 = (lone: LoneReplica): void => {
    const block = lone.block(0, [Uint8Array.of(3)]);
    lone.hear(3, { kind: 'prePrepare', height: 1, view: 3, block });
    lone.hearVotes('prepare', [3], 2, digest);
    lone.hearVotes('prepare', [3], 1, other);
    lone.hearVotes('commit', [3], 1, digest);
    lone.hear(3, { kind: 'viewChange', height: 1, view: 2, prepared: null });
    lone.hear(3, { kind: 'prepare', height: 2, view: 0, digest });
  };

  t.test('the latest of each kind, of this height and the next', async (t) => {
    const lone = new LoneReplica();
    heardFrom3(lone);
    lone.hear(3, lone.status(0, 0, 5, true));
    const [echo] = echoes(lone);
    t.match(echo, { to: 3, height: 0, incarnation: process(5), status: null });
    t.strictSame(
      echo!.promises.map((p) => [p.kind === 'vote' ? p.vote : p.kind, p.height, p.view]),
      [
        ['preprepare', 1, 3],
        ['prepare', 1, 2],
        ['commit', 1, 1],
        ['viewChange', 1, 2],
        ['prepare', 2, 0],
      ],
    );
    // What it says proves itself.
    const asker = new LoneReplica({ self: 3, incarnation: process(5), asks: true });
    asker.hear(0, echo!);
    t.match(asker.reports('keyInUse'), [{ abstainThrough: 1 }, { abstainThrough: 2 }]);
  });

  t.test('and where that is nothing, what it heard last, at whatever height', async (t) => {
    const lone = new LoneReplica();
    lone.hear(3, { kind: 'prepare', height: 1, view: 0, digest });
    lone.hear(3, { kind: 'prepare', height: 2, view: 0, digest: other });
    for (let height = 1; height <= 3; height += 1) lone.commitTo(lone.block());
    lone.hear(3, lone.status(0, 0, 5, true));
    t.match(echoes(lone), [{ to: 3, height: 3, promises: [{ vote: 'prepare', height: 2, digest: other }] }]);
    t.equal(echoes(lone)[0]!.promises.length, 1);
    const asker = new LoneReplica({ self: 3, incarnation: process(5), asks: true });
    asker.hear(0, echoes(lone)[0]!);
    t.match(asker.reports('keyInUse'), [{ abstainThrough: 2 }], 'its disk is older than that');
  });

  t.test('also while it waits for answers itself, and what its own record has', async (t) => {
    const lone = new LoneReplica();
    const block = lone.block();
    lone.hearProposal(block);
    lone.hearVotes('prepare', [1, 2], 0, block.hash);
    const again = new LoneReplica({ record: lone.record, bodies: [...lone.bodies.values()], asks: true });
    again.hear(2, again.status(0, 0, 5, true));
    t.match(echoes(again), [{ to: 2, promises: [{ vote: 'prepare', view: 0, digest: block.hash }] }]);
  });

  t.test('once for each process in a tick, and four times in all', async (t) => {
    const lone = new LoneReplica();
    for (let i = 0; i < 3; i += 1) for (const by of [5, 5, 6, 7, 8, 9]) lone.hear(3, lone.status(0, 0, by, true));
    t.strictSame(
      echoes(lone).map((e) => [e.incarnation[0], e.status?.incarnation[0]]),
      [
        [5, undefined],
        [6, 5],
        [5, 6],
        [7, 6],
      ],
    );
    lone.take();
    lone.fire('retransmit');
    lone.hear(3, lone.status(0, 0, 9, true));
    t.equal(echoes(lone).length, 1);
    const [echo] = echoes(lone);
    t.ok(echo?.status !== null && echo?.status.asking, 'and shows another process');
  });
});

t.test('what the own record does not cover [R4]', async (t) => {
  t.test('binds at its height, and no longer', async (t) => {
    const promises: readonly UnsignedMessage[] = [
      { kind: 'prePrepare', height: 1, view: 0, block: new LoneReplica().block(0, [Uint8Array.of(9)]) },
      { kind: 'prepare', height: 1, view: 0, digest },
      { kind: 'commit', height: 1, view: 0, digest },
      { kind: 'viewChange', height: 1, view: 1, prepared: null },
    ];
    for (const body of promises) {
      for (const hears of ['in an answer', 'as it is'] as const) {
        const lone = new LoneReplica({ asks: true });
        if (hears === 'as it is') lone.hear(OWN, body);
        lone.hearEcho(1, hears === 'in an answer' ? { promises: [heard(body)] } : {});
        lone.hearEcho(2);
        lone.give({ kind: 'due', due: true });
        const block = lone.block();
        lone.hearProposal(block);
        t.same(promised(lone), [], `${body.kind} ${hears}`);
        t.match(lone.reports('keyInUse'), [{ abstainThrough: 1 }]);
        t.match(lone.reports('phase').at(-1), { phase: 'abstaining' });
        t.equal(lone.timer('view'), undefined);
        lone.hearVotes('commit', [1, 2, 3], 0, block.hash);
        t.equal(lone.of('commit').length, 1, 'it follows');
        lone.commitTo(block);
        lone.hearProposal(lone.block());
        t.same(promised(lone), ['prepare'], 'and takes part again');
      }
    }
  });

  t.test('is found however late it comes', async (t) => {
    const lone = new LoneReplica();
    lone.hearProposal(lone.block());
    lone.hearEcho(3, { promises: [heard({ kind: 'commit', height: 1, view: 0, digest })] });
    lone.take();
    lone.hearVotes('prepare', [1, 2], 0, lone.block().hash);
    lone.fire('retransmit');
    t.same(promised(lone), []);
  });

  t.test('is nothing at a height that is decided', async (t) => {
    const lone = new LoneReplica();
    lone.commitTo(lone.block());
    lone.hearEcho(3, { promises: [heard({ kind: 'commit', height: 1, view: 0, digest })] });
    t.same(lone.reports('keyInUse'), []);
  });

  t.test('is never what it promised itself, in whatever state it was', async (t) => {
    const lone = new LoneReplica();
    const all: HeardPromise[] = [];
    const block = lone.block();
    lone.hearProposal(block);
    lone.hearVotes('prepare', [1, 2], 0, block.hash);
    lone.fire('view');
    for (const { message } of lone.of('broadcast')) if (message.kind !== 'status') all.push(heard(message));
    t.equal(all.length, 3);
    const again = lone.restarted();
    for (const replica of [lone, again]) {
      for (let at = 0; at < all.length; at += 1) replica.hearEcho(3, { promises: all.slice(at) });
      t.same(replica.reports('keyInUse'), []);
    }
  });

  t.test('covers: the views that were left, except a Commit without its certificate', async (t) => {
    const lone = new LoneReplica();
    const prepared = lone.preparedBy([0, 1, 2], 1, digest);
    const votes = [{ vote: 'prepare' as const, view: 2, digest }];
    const record: SafetyRecord = { height: 1, view: 2, votes, prepared, abstainThrough: 0 };
    const vote = (kind: 'prepare' | 'commit', view: number, of = digest): boolean =>
      covers(record, heard({ kind, height: 1, view, digest: of }));
    t.ok(vote('prepare', 2) && vote('prepare', 1) && vote('prepare', 0, other) && vote('commit', 1));
    t.notOk(vote('prepare', 2, other), 'a second digest');
    t.notOk(vote('prepare', 3), 'a later view');
    t.notOk(vote('commit', 2), 'a later certificate');
    t.notOk(covers({ ...record, prepared: null }, heard({ kind: 'commit', height: 1, view: 1, digest })));
    const change = (view: number, certificate: SafetyRecord['prepared']): boolean =>
      covers(record, heard({ kind: 'viewChange', height: 1, view, prepared: certificate }));
    t.ok(change(1, null) && change(2, prepared));
    t.notOk(change(3, null), 'a later view');
    t.notOk(change(2, { ...prepared, view: 2 }), 'a later certificate');
  });

  t.test('takes the own signature: nobody else can silence a replica', async (t) => {
    const lies: Partial<Echo>[] = [
      { promises: [heard({ kind: 'prepare', height: 1, view: 0, digest }, 3)] },
      { promises: [{ ...heard({ kind: 'prepare', height: 1, view: 0, digest }), view: 1 }] },
      { promises: [{ ...heard({ kind: 'prepare', height: 1, view: 0, digest }), height: 5 }] },
      { promises: [{ ...heard({ kind: 'viewChange', height: 1, view: 1, prepared: null }), view: 9 }] },
      { status: shown(9, 4, false, 3) },
      { status: { ...shown(0, 4), height: 9 } },
      { status: { ...shown(9, 4, true), asking: false } },
    ];
    for (const lie of lies) {
      const lone = new LoneReplica({ asks: true });
      t.throws(() => lone.hearEcho(3, lie), /BAD_SIGNATURE/);
    }
    t.throws(() => new LoneReplica().hear(3, { ...echoTo(31), to: 30 }), /UNKNOWN_VALIDATOR/);
  });
});

function echoTo(incarnation: number, to = OWN): Echo {
  return { kind: 'echo', height: 0, view: 0, to, incarnation: process(incarnation), promises: [], status: null };
}

t.test('a process whose disk is older than what its key has shown [R6]', async (t) => {
  t.test('promises nothing up to the height after that', async (t) => {
    const lone = new LoneReplica({ asks: true });
    for (const from of [1, 2]) lone.hearEcho(from, { status: shown(1, 4) });
    lone.fire('retransmit');
    t.match(lone.reports('keyInUse'), [{ abstainThrough: 2 }]);
    for (const at of [1, 2, 3]) {
      lone.take();
      const block = lone.block();
      lone.hearProposal(block);
      t.equal(promised(lone).length, at === 3 ? 1 : 0, `height ${at}`);
      lone.commitTo(block);
    }
  });

  t.test('nor does the process after it, whose head says nothing any more', async (t) => {
    const lone = new LoneReplica({ asks: true });
    lone.hearEcho(1, { status: shown(1, 4) });
    const again = new LoneReplica({ record: lone.record });
    for (const at of [1, 2, 3]) {
      again.take();
      const block = again.block();
      again.hearProposal(block);
      t.equal(promised(again).length, at === 3 ? 1 : 0, `height ${at}`);
      again.commitTo(block);
    }
  });

  t.test('the disk of a process that took up its key says so; one that does not is no witness', async (t) => {
    const lone = new LoneReplica();
    const parent = lone.block();
    t.ok(lone.record, 'a record, before any vote');
    const wiped = new LoneReplica({ asks: true, parent });
    wiped.hearEcho(1, { status: shown(1, 4) });
    t.match(wiped.reports('keyInUse'), [{ abstainThrough: 2 }], 'its head came from others');
    const known = new LoneReplica({ asks: true, parent, record: lone.record });
    known.hearEcho(1, { status: shown(1, 4) });
    t.same(known.reports('keyInUse'), []);
  });

  t.test('what is not above its own head at the start, or of a process that only asked, says nothing', async (t) => {
    const lone = new LoneReplica({ asks: true });
    lone.hearEcho(1, { status: shown(0, 4) });
    lone.hearEcho(2, { status: shown(9, 4, true) });
    lone.hear(OWN, lone.status(0, 5, 4));
    lone.hear(OWN, { ...lone.status(9), incarnation: lone.incarnation });
    lone.fire('retransmit');
    t.same(lone.reports('keyInUse'), []);
    lone.hearProposal(lone.block());
    t.same(promised(lone), ['prepare']);
  });
});

t.test('a second process with the key [R7]', async (t) => {
  t.test('is found by the answer that only it can give, and then this one falls silent', async (t) => {
    const lone = new LoneReplica({ asks: true });
    for (const from of [1, 2, 3]) lone.hearEcho(from, { status: shown(0, 4) });
    lone.hearProposal(lone.block());
    t.same(promised(lone), [], 'a process that is known of has a tick to answer');
    lone.hear(OWN, { ...echoTo(0), incarnation: lone.incarnation });
    t.match(lone.reports('keyInUse'), [{ abstainThrough: null }]);
    lone.take();
    for (let i = 0; i < 3; i += 1) lone.fire('retransmit');
    t.equal(lone.of('broadcast').length + lone.of('send').length, 0, 'it does not even show its head any more');
    const block = lone.block();
    lone.hearVotes('commit', [1, 2, 3], 0, block.hash);
    t.equal(lone.of('commit').length, 1, 'but follows');
  });

  t.test('that does not answer within a tick is no more', async (t) => {
    const lone = new LoneReplica({ asks: true });
    lone.hearProposal(lone.block());
    lone.hearEcho(1, { status: shown(0, 4) });
    const before = lone.timer('retransmit');
    lone.hearEcho(2);
    t.not(lone.timer('retransmit')?.token, before?.token, 'a whole tick from now on');
    lone.fire('retransmit');
    t.same(promised(lone), ['prepare']);
  });

  t.test('answers as the first one does, through the others', async (t) => {
    const first = new LoneReplica({ incarnation: process(4) });
    first.hearEcho(2, { status: shown(0, 1, true) });
    first.hearEcho(3, { status: shown(0, 1, true) });
    t.match(first.of('answer'), [{ to: null, message: { to: OWN, incarnation: process(1), promises: [] } }], 'once');
    first.hearProposal(first.block());
    t.same(promised(first), ['prepare'], 'which is not disturbed');
    const between = new LoneReplica({ self: 2 });
    for (let i = 0; i < 3; i += 1) between.hear(OWN, echoTo(1));
    t.match(between.of('send'), [{ to: OWN, message: { validator: OWN, body: { kind: 'echo', to: OWN } } }]);
    between.take();
    between.hear(3, echoTo(1));
    t.equal(between.of('send').length, 0, 'what others are told is none of its business');
  });

  t.test('the others show each of the two to the other', async (t) => {
    const lone = new LoneReplica();
    lone.hear(3, lone.status(0, 0, 4));
    t.same(echoes(lone), []);
    lone.hear(3, lone.status(0, 0, 5));
    const shownTo = echoes(lone).map((e) => [e.incarnation[0], e.status?.incarnation[0]]);
    t.strictSame(shownTo, [
      [5, 4],
      [4, 5],
    ]);
    lone.take();
    lone.fire('retransmit');
    // Whatever is replayed in between, what promised most is shown.
    for (const [by, height] of [
      [6, 9],
      [7, 2],
      [8, 3],
    ] as const)
      lone.hear(3, lone.status(height, 0, by));
    lone.take();
    lone.fire('retransmit');
    lone.hear(3, lone.status(0, 0, 5, true));
    const toFive = echoes(lone).find((e) => equalBytes(e.incarnation, process(5)));
    t.match(toFive?.status, { height: 9, incarnation: process(6) });
  });
});
