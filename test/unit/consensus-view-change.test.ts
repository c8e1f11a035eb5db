import t from 'tap';
import { bytesToHex, equalBytes } from '../../common/bytes.ts';
import { viewTimeoutMs } from '../../consensus/timers.ts';
import { LONE_PARAMS, LoneReplica } from '../sim/lone-replica.ts';

// Of four validators, 1 leads view 0 of height 1, 2 leads view 1, 3 view 2, 0 view 3. The replica under test is 0.
const HUGE = [2 ** 31, 2 ** 32, Number.MAX_SAFE_INTEGER];

t.test('timers [T1-T4]', async (t) => {
  t.test('double with each view, and are capped', async (t) => {
    t.strictSame(
      [0, 1, 2, 3, 4, 5, 40, Number.MAX_SAFE_INTEGER].map((v) => viewTimeoutMs(v, LONE_PARAMS)),
      [1_000, 2_000, 4_000, 8_000, 16_000, 16_000, 16_000, 16_000],
    );
  });

  t.test('an idle chain runs none; a due block starts one, a decision ends it', async (t) => {
    const lone = new LoneReplica();
    t.notOk(lone.timer('view'));
    lone.give({ kind: 'due', due: true });
    t.equal(lone.timer('view')?.afterMs, 1_000);
    lone.give({ kind: 'due', due: false });
    t.notOk(lone.timer('view'));
    const block = lone.block();
    lone.hearProposal(block);
    const { token } = lone.timer('view')!;
    lone.hearVotes('prepare', [1, 2], 0, block.hash);
    t.equal(lone.timer('view')?.token, token, 'phases do not restart it');
    lone.hearVotes('commit', [1, 2], 0, block.hash);
    t.notOk(lone.timer('view'));
  });

  t.test('a view change runs one only once a quorum is there, and the next view starts a longer one', async (t) => {
    const lone = new LoneReplica();
    lone.give({ kind: 'due', due: true });
    lone.fire('view');
    t.notOk(lone.timer('view'), 'alone it waits');
    lone.hear(1, { kind: 'viewChange', height: 1, view: 7, prepared: null });
    t.notOk(lone.timer('view'));
    lone.hear(2, { kind: 'viewChange', height: 1, view: 1, prepared: null });
    t.equal(lone.timer('view')?.afterMs, 2_000, 'higher views count as this one or more');
    lone.fire('view');
    t.match(lone.replica.position, { view: 2, mode: 'viewChange' });
  });

  t.test('who has prepared a block does not rest, even where a new-view left it out', async (t) => {
    const lone = new LoneReplica();
    const block = lone.block();
    lone.hearProposal(block);
    lone.hearVotes('prepare', [1, 2], 0, block.hash);
    const viewChanges = [1, 2, 3].map((v) => lone.viewChangeOf(v, 1));
    lone.hear(2, { kind: 'newView', height: 1, view: 1, viewChanges });
    t.equal(lone.timer('view')?.afterMs, 2_000);
    const unprepared = new LoneReplica();
    unprepared.hearProposal(block);
    unprepared.hear(2, { kind: 'newView', height: 1, view: 1, viewChanges });
    t.notOk(unprepared.timer('view'), 'a Prepare alone binds nobody in a later view');
  });

  t.test('the next height starts from view 0 and the base', async (t) => {
    const lone = new LoneReplica();
    lone.give({ kind: 'due', due: true });
    lone.fire('view');
    lone.commitTo(lone.block());
    t.match(lone.replica.position, { height: 2, view: 0, mode: 'normal' });
    t.equal(lone.timer('view')?.afterMs, 1_000);
  });

  t.test('a firing that was overtaken is ignored', async (t) => {
    const lone = new LoneReplica();
    lone.give({ kind: 'due', due: true });
    const { token } = lone.timer('view')!;
    lone.give({ kind: 'due', due: false });
    lone.give({ kind: 'timer', timer: 'view', token });
    lone.give({ kind: 'due', due: true });
    lone.give({ kind: 'timer', timer: 'view', token });
    t.match(lone.replica.position, { view: 0, mode: 'normal' });
  });

  t.test('a suspected censor is treated as silent, but only in the view that is meant', async (t) => {
    const lone = new LoneReplica();
    lone.give({ kind: 'suspect', height: 1, view: 1 });
    lone.give({ kind: 'suspect', height: 2, view: 0 });
    t.equal(lone.said('viewChange').length, 0);
    lone.give({ kind: 'suspect', height: 1, view: 0 });
    t.match(lone.said('viewChange'), [{ view: 1 }]);
  });
});

t.test('joining others [V6]', async (t) => {
  t.test('one never does, whatever view it names', async (t) => {
    const lone = new LoneReplica();
    for (const view of [1, 2, ...HUGE]) lone.hear(1, { kind: 'viewChange', height: 1, view, prepared: null });
    t.match(lone.replica.position, { view: 0, mode: 'normal' });
  });

  t.test('two of four do: the second highest view is joined, not the highest', async (t) => {
    for (const view of HUGE) {
      const lone = new LoneReplica();
      lone.hear(1, { kind: 'viewChange', height: 1, view, prepared: null });
      lone.hear(2, { kind: 'viewChange', height: 1, view: 3, prepared: null });
      t.match(lone.replica.position, { view: 3, mode: 'viewChange' });
      t.match(lone.said('viewChange'), [{ view: 3 }]);
    }
  });

  t.test('the last view that there is ends no process', async (t) => {
    const lone = new LoneReplica({ self: 3 });
    const last = Number.MAX_SAFE_INTEGER;
    for (const from of [1, 2]) lone.hear(from, { kind: 'viewChange', height: 1, view: last, prepared: null });
    t.match(lone.replica.position, { view: last, mode: 'viewChange' });
    lone.fire('view');
    t.match(lone.replica.position, { view: last, mode: 'viewChange' });
    t.equal(lone.timer('view')?.afterMs, 16_000);
    const block = lone.block();
    lone.hearVotes('commit', [0, 1, 2], 0, block.hash);
    lone.fetched(block);
    t.equal(lone.of('commit').length, 1, 'a decision is a decision');
  });

  t.test('of one validator the highest view counts, whatever came last [V2]', async (t) => {
    const lone = new LoneReplica();
    lone.hear(1, { kind: 'viewChange', height: 1, view: 5, prepared: null });
    lone.hear(1, { kind: 'viewChange', height: 1, view: 1, prepared: null });
    lone.hear(2, { kind: 'viewChange', height: 1, view: 3, prepared: null });
    t.equal(lone.replica.position.view, 3);
  });

  t.test('of seven it takes three, of one and the same validator never more than one counts', async (t) => {
    const lone = new LoneReplica({ count: 7 });
    for (const view of [1, 2, 3]) lone.hear(1, { kind: 'viewChange', height: 1, view, prepared: null });
    lone.hear(2, { kind: 'viewChange', height: 1, view: 9, prepared: null });
    t.equal(lone.replica.position.view, 0);
    lone.hear(3, { kind: 'viewChange', height: 1, view: 5, prepared: null });
    t.equal(lone.replica.position.view, 3);
  });

  t.test('two of three: with f = 0 one is still not enough', async (t) => {
    const lone = new LoneReplica({ count: 3 });
    lone.hear(1, { kind: 'viewChange', height: 1, view: 1, prepared: null });
    t.equal(lone.replica.position.view, 0);
    lone.hear(2, { kind: 'viewChange', height: 1, view: 1, prepared: null });
    t.equal(lone.replica.position.view, 1);
  });
});

t.test('beginning a view as its leader [V3, V5]', async (t) => {
  t.test('takes a quorum of view changes for exactly that view', async (t) => {
    const lone = new LoneReplica({ self: 2 });
    lone.give({ kind: 'due', due: true });
    lone.fire('view');
    lone.hear(0, { kind: 'viewChange', height: 1, view: 1, prepared: null });
    lone.hear(3, { kind: 'viewChange', height: 1, view: 9, prepared: null });
    t.equal(lone.said('newView').length, 0);
    lone.hear(1, { kind: 'viewChange', height: 1, view: 1, prepared: null });
    t.match(lone.said('newView'), [{ view: 1, viewChanges: [{ validator: 0 }, { validator: 1 }, { validator: 2 }] }]);
    t.match(lone.of('propose'), [{ view: 1 }], 'free to propose a block of its own');
  });

  t.test('proposes what was prepared in the highest view, under its old hash, after executing it', async (t) => {
    const lone = new LoneReplica({ self: 3 });
    const older = lone.block(0);
    const newer = lone.block(1);
    lone.hearProposal(older);
    lone.give({ kind: 'due', due: true });
    lone.fire('view');
    lone.hear(1, { kind: 'viewChange', height: 1, view: 2, prepared: lone.preparedBy([0, 1, 3], 0, older.hash) });
    lone.hear(0, { kind: 'viewChange', height: 1, view: 2, prepared: lone.preparedBy([0, 1, 2], 1, newer.hash) });
    t.equal(lone.said('newView').length, 1);
    t.equal(lone.of('propose').length, 0, 'not free');
    t.match(lone.of('fetch'), [{ from: [0, 1, 2] }], 'the body is asked of those who voted for it');
    t.ok(equalBytes(lone.of('fetch')[0]!.blockHash, newer.hash));
    lone.fetched(newer);
    t.match(lone.of('execute').at(-1), { fresh: false });
    const [again] = lone.said('prePrepare');
    t.equal(again?.view, 2);
    t.equal(bytesToHex(again!.block.hash), bytesToHex(newer.hash));
  });
});

t.test('entering a view as a backup [V4, V5]', async (t) => {
  const free = (lone: LoneReplica, view: number) => [1, 2, 3].map((v) => lone.viewChangeOf(v, view));

  t.test('only with a new-view from the leader of that view', async (t) => {
    const lone = new LoneReplica();
    lone.hear(3, { kind: 'newView', height: 1, view: 1, viewChanges: free(lone, 1) });
    t.match(lone.reports('refused'), [{ code: 'NOT_THE_LEADER', from: 3 }]);
    t.equal(lone.replica.position.view, 0);
    lone.hear(2, { kind: 'newView', height: 1, view: 1, viewChanges: free(lone, 1) });
    t.match(lone.replica.position, { view: 1, mode: 'normal' });
  });

  t.test('never back, and not out of a decision', async (t) => {
    const lone = new LoneReplica();
    lone.hear(3, { kind: 'newView', height: 1, view: 2, viewChanges: free(lone, 2) });
    lone.hear(2, { kind: 'newView', height: 1, view: 1, viewChanges: free(lone, 1) });
    t.equal(lone.replica.position.view, 2);
    const deciding = new LoneReplica();
    const block = deciding.block();
    deciding.hearProposal(block);
    deciding.hearVotes('commit', [1, 2, 3], 0, block.hash);
    deciding.hear(2, { kind: 'newView', height: 1, view: 1, viewChanges: free(deciding, 1) });
    t.match(deciding.replica.position, { view: 0, mode: 'committing' });
  });

  t.test('works out by itself what must be proposed, and refuses everything else', async (t) => {
    const lone = new LoneReplica();
    const prepared = lone.block(0);
    const certificate = lone.preparedBy([1, 2, 3], 0, prepared.hash);
    const viewChanges = [lone.viewChangeOf(1, 1), lone.viewChangeOf(2, 1, certificate), lone.viewChangeOf(3, 1)];
    lone.hear(2, { kind: 'newView', height: 1, view: 1, viewChanges });
    lone.hearProposal(lone.block(1), 1);
    lone.hearProposal(lone.block(0, [Uint8Array.of(7)]), 1);
    t.match(lone.reports('refused'), [
      { code: 'WRONG_PROPOSAL', from: 2 },
      { code: 'WRONG_PROPOSAL', from: 2 },
    ]);
    t.equal(lone.said('prepare').length, 0);
    lone.hearProposal(prepared, 1);
    t.match(lone.of('execute'), [{ fresh: false }], 'exempt from the clock');
    t.match(lone.said('prepare'), [{ view: 1 }]);
    t.ok(equalBytes(lone.said('prepare')[0]!.digest, prepared.hash));
  });

  t.test('refuses an old block where nothing was prepared, and a new one under an old view', async (t) => {
    const lone = new LoneReplica();
    lone.hear(2, { kind: 'newView', height: 1, view: 1, viewChanges: free(lone, 1) });
    lone.hearProposal(lone.block(0), 1);
    t.match(lone.reports('refused'), [{ code: 'WRONG_PROPOSAL' }]);
    lone.hearProposal(lone.block(1), 1);
    t.equal(lone.said('prepare').length, 1);
  });

  t.test('takes a proposal that overtook its new-view', async (t) => {
    const lone = new LoneReplica();
    lone.hearProposal(lone.block(1), 1);
    t.equal(lone.of('execute').length, 0);
    lone.hear(2, { kind: 'newView', height: 1, view: 1, viewChanges: free(lone, 1) });
    t.match(lone.said('prepare'), [{ view: 1 }]);
  });

  t.test('follows a leader that restarted and justifies its view anew, until something was accepted', async (t) => {
    const lone = new LoneReplica();
    const prepared = lone.block(0);
    const certificate = lone.preparedBy([1, 2, 3], 0, prepared.hash);
    const mandated = [lone.viewChangeOf(1, 1), lone.viewChangeOf(2, 1), lone.viewChangeOf(3, 1, certificate)];
    lone.hear(2, { kind: 'newView', height: 1, view: 1, viewChanges: free(lone, 1) });
    lone.hear(2, { kind: 'newView', height: 1, view: 1, viewChanges: mandated });
    lone.hearProposal(prepared, 1);
    t.equal(lone.said('prepare').length, 1);
    lone.hear(2, { kind: 'newView', height: 1, view: 1, viewChanges: free(lone, 1) });
    lone.hearProposal(lone.block(1), 1);
    t.equal(lone.said('prepare').length, 1, 'one vote in one view');
  });

  t.test('does not vote in the view that it asked to leave [V1]', async (t) => {
    const lone = new LoneReplica();
    const block = lone.block();
    lone.hearProposal(block);
    lone.fire('view');
    lone.take();
    lone.hearVotes('prepare', [1, 2, 3], 0, block.hash);
    t.equal(lone.said('commit').length, 0);
    const fresh = new LoneReplica();
    fresh.give({ kind: 'due', due: true });
    fresh.fire('view');
    fresh.hearProposal(fresh.block());
    t.equal(fresh.said('prepare').length, 0);
  });
});

t.test('restart [R1-R3]', async (t) => {
  t.test('repeats the votes that were cast and never casts others', async (t) => {
    const lone = new LoneReplica();
    const block = lone.block();
    lone.hearProposal(block);
    const again = lone.restarted();
    t.match(again.said('prepare'), [{ view: 0 }]);
    t.match(again.of('execute'), [{ fresh: false }], 'it was fresh when it was voted for');
    t.ok(again.timer('view'), 'what was under way is under way again, due or not');
    again.take();
    again.hearProposal(again.block(0, [Uint8Array.of(7)]));
    t.equal(again.said('prepare').length, 0);
    again.hearVotes('prepare', [1, 2], 0, block.hash);
    t.equal(again.said('commit').length, 1);
    const third = again.restarted();
    t.equal(third.said('commit').length, 1);
    third.hearVotes('commit', [1, 2], 0, block.hash);
    t.equal(third.of('commit').length, 1, 'the body was on disk');
  });

  t.test('as leader: sends its proposal again, never a second one', async (t) => {
    const lone = new LoneReplica({ self: 1 });
    lone.give({ kind: 'due', due: true });
    const block = lone.block();
    lone.give({ kind: 'proposal', height: 1, view: 0, block });
    const again = lone.restarted();
    again.give({ kind: 'due', due: true });
    t.equal(again.of('propose').length, 0);
    t.equal(bytesToHex(again.said('prePrepare')[0]!.block.hash), bytesToHex(block.hash));
    t.equal(again.said('prepare').length, 1);
  });

  t.test(
    'in a view change: asks for the same view in the same words, and votes for nothing without its new-view',
    async (t) => {
      const lone = new LoneReplica();
      const block = lone.block();
      lone.hearProposal(block);
      lone.hearVotes('prepare', [1, 2], 0, block.hash);
      lone.fire('view');
      const [before] = lone.said('viewChange');
      const again = lone.restarted();
      t.same(again.said('viewChange'), [before]);
      t.match(again.replica.position, { view: 1, mode: 'viewChange' });
      again.hearProposal(again.block(1), 1);
      again.hearProposal(block, 0);
      again.hearVotes('prepare', [1, 2, 3], 0, block.hash);
      t.equal(again.said('prepare').length + again.said('commit').length, 0);
    },
  );

  t.test('a record of an earlier height is history', async (t) => {
    const lone = new LoneReplica();
    const block = lone.block();
    lone.hearProposal(block);
    const { record } = lone;
    const next = new LoneReplica({ record: { ...record!, height: 0 }, bodies: [] });
    t.match(next.replica.position, { height: 1, view: 0, mode: 'normal' });
  });

  t.test('a promise whose body or parent is missing stops the node', async (t) => {
    const lone = new LoneReplica();
    lone.hearProposal(lone.block());
    t.throws(() => new LoneReplica({ record: lone.record, bodies: [] }), /body/);
    t.throws(
      () => new LoneReplica({ record: { ...lone.record!, height: 2 }, bodies: [...lone.bodies.values()] }),
      /store/,
    );
  });
});

t.test('nobody is left behind [S1-S6]', async (t) => {
  const status = (height: number, view = 0) => new LoneReplica().status(height, view);

  t.test('status goes out at the start, when the view changed, and with each tick', async (t) => {
    const lone = new LoneReplica();
    t.match(lone.said('status').at(-1), { height: 0, view: 0 });
    lone.take();
    lone.fire('retransmit');
    t.match(lone.of('send'), [{ to: null, message: { body: { kind: 'status', height: 0 } } }]);
    lone.take();
    lone.give({ kind: 'due', due: true });
    lone.fire('view');
    t.match(lone.said('status'), [{ height: 0, view: 1 }]);
  });

  t.test('and when the head has moved and no vote of this replica says so', async (t) => {
    const lone = new LoneReplica();
    lone.take();
    lone.commitTo(lone.block());
    t.same(lone.said('status'), [], 'not at once');
    lone.fire('announce');
    t.match(lone.said('status'), [{ height: 1, view: 0 }]);
    t.equal(lone.timer('announce'), undefined, 'once');
    lone.commitTo(lone.block());
    lone.take();
    lone.hearProposal(lone.block());
    lone.fire('announce');
    t.match(lone.said('prepare'), [{ height: 3 }]);
    t.same(lone.said('status'), []);
    lone.fire('retransmit');
    t.match(lone.said('status'), [{ height: 2, view: 0 }]);
  });

  t.test('and at once while it asks for its own promises [R5]', async (t) => {
    const lone = new LoneReplica({ asks: true });
    lone.take();
    lone.commitTo(lone.block());
    t.match(lone.said('status'), [{ height: 1, asking: true }]);
  });

  t.test('votes go out again with each tick, the proposal to those who have not voted', async (t) => {
    const lone = new LoneReplica({ self: 1 });
    lone.give({ kind: 'due', due: true });
    const block = lone.block();
    lone.give({ kind: 'proposal', height: 1, view: 0, block });
    lone.hearVotes('prepare', [3], 0, block.hash);
    lone.take();
    lone.fire('retransmit');
    const sent = lone.of('send').map((e) => [e.message.body.kind, e.to]);
    t.strictSame(sent, [
      ['status', null],
      ['prePrepare', 0],
      ['prePrepare', 2],
      ['prepare', null],
    ]);
  });

  t.test('votes that the host never fed back are signed again', async (t) => {
    const lone = new LoneReplica();
    lone.feedsBack = false;
    lone.hearProposal(lone.block());
    lone.take();
    lone.fire('retransmit');
    t.equal(lone.said('prepare').length, 1);
  });

  t.test('whoever is ahead is asked for blocks, at once or with the tick, once in a tick', async (t) => {
    const lone = new LoneReplica();
    lone.hear(1, status(1));
    t.equal(lone.of('sync').length, 0, 'one block ahead for a moment is the rule');
    lone.hear(2, status(5));
    lone.hear(2, status(6));
    t.match(lone.of('sync'), [{ height: 5, from: 2 }]);
    lone.take();
    lone.fire('retransmit');
    t.match(lone.of('sync'), [
      { height: 1, from: 1 },
      { height: 6, from: 2 },
    ]);
    lone.take();
    lone.hear(3, { kind: 'prepare', height: 9, view: 0, digest: new Uint8Array(32) });
    t.match(lone.of('sync'), [{ height: 8, from: 3 }], 'votes for later heights say the same');
  });

  t.test('another block at the height of our head is reported', async (t) => {
    const lone = new LoneReplica();
    lone.hear(1, status(0));
    t.match(lone.reports('refused'), [{ code: 'OTHER_HEAD', from: 1 }]);
  });

  t.test('a claimed height is asked for and not believed, and may be lowered again', async (t) => {
    const lone = new LoneReplica();
    lone.hear(1, status(Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER));
    t.match(lone.of('sync'), [{ from: 1 }]);
    t.match(lone.replica.position, { height: 1, view: 0, mode: 'normal' });
    lone.hear(1, status(0));
    lone.take();
    lone.fire('retransmit');
    t.equal(lone.of('sync').length, 0);
    const block = lone.block();
    lone.hearProposal(block);
    lone.hearVotes('prepare', [1, 2], 0, block.hash);
    lone.hearVotes('commit', [1, 2], 0, block.hash);
    t.equal(lone.of('commit').length, 1);
  });

  t.test('whoever stays behind is offered blocks; a late vote alone is no sign of it', async (t) => {
    const lone = new LoneReplica();
    const block = lone.block();
    lone.commitTo(block);
    for (const there of [2, 3]) lone.hear(there, { ...status(1), hash: block.hash });
    lone.hear(1, status(0));
    lone.fire('retransmit');
    t.equal(lone.of('serve').length, 0);
    lone.fire('retransmit');
    t.match(lone.of('serve'), [{ to: 1, fromHeight: 1 }]);
    lone.take();
    lone.hear(2, { kind: 'commit', height: 1, view: 0, digest: block.hash });
    t.equal(lone.of('serve').length, 0);
    lone.hear(3, { kind: 'viewChange', height: 1, view: 1, prepared: null });
    lone.hear(3, { kind: 'viewChange', height: 1, view: 2, prepared: null });
    t.match(
      lone.of('serve'),
      [{ to: 3, fromHeight: 1 }],
      'a view change for a decided height is answered at once, once in a tick',
    );
  });

  t.test('whoever is in an earlier view is given what this replica moved on with, once in a tick', async (t) => {
    const lone = new LoneReplica();
    const viewChanges = [1, 2, 3].map((v) => lone.viewChangeOf(v, 1));
    lone.hear(2, { kind: 'newView', height: 1, view: 1, viewChanges });
    lone.hearProposal(lone.block(1), 1);
    lone.take();
    for (let i = 0; i < 3; i += 1) lone.hear(3, status(0, 0));
    t.strictSame(
      lone.of('send').map((e) => [e.message.body.kind, e.to]),
      [
        ['newView', 3],
        ['prepare', 3],
      ],
    );
    lone.take();
    lone.hear(1, { kind: 'viewChange', height: 1, view: 1, prepared: null });
    t.strictSame(
      lone.of('send').map((e) => [e.message.body.kind, e.to]),
      [
        ['newView', 1],
        ['prepare', 1],
      ],
    );
  });

  t.test('nothing of this takes more room with more messages', async (t) => {
    const lone = new LoneReplica();
    for (let i = 1; i <= 200; i += 1) {
      lone.hear(1, status(i * 1_000, i));
      lone.hear(1, { kind: 'viewChange', height: 1, view: i * 1_000, prepared: null });
      lone.hear(1, { kind: 'commit', height: 1, view: i % 5, digest: new Uint8Array(32) });
    }
    t.ok(lone.of('sync').length <= 1 && lone.of('send').length === 0);
    t.match(lone.replica.position, { height: 1, view: 0, mode: 'normal' });
  });
});
