import t from 'tap';
import { bytesToHex, equalBytes } from '../../common/bytes.ts';
import { InvariantError } from '../../common/errors.ts';
import { NO_LEADER_HISTORY } from '../../consensus/leader-order.ts';
import type { ProposedBlock } from '../../consensus/messages.ts';
import type { Effect, Input } from '../../consensus/types.ts';
import { VoteBook } from '../../consensus/votes.ts';
import { verifyMessage } from '../../consensus/verification.ts';
import { LONE_PARAMS, LoneReplica, signAs } from '../sim/lone-replica.ts';
import { sealBlock } from '../sim/toy-chain.ts';

// Of four validators, 1 leads view 0 of height 1, 2 leads view 1, and so on. The replica under test is 0 unless said.
const kinds = (effects: readonly Effect[]): string[] =>
  effects.filter((e) => e.kind !== 'report').map((e) => (e.kind === 'broadcast' ? e.message.kind : e.kind));
const hex = bytesToHex;
const altered = (block: ProposedBlock, change: Partial<ProposedBlock['header']>): ProposedBlock =>
  sealBlock({ ...block.header, ...change }, block.block.txs);

t.test('the leader [P1, P2]', async (t) => {
  t.test('asks for a block when one is due, and has its promise on disk before anything leaves', async (t) => {
    const lone = new LoneReplica({ self: 1 });
    lone.take();
    lone.give({ kind: 'due', due: true });
    t.match(lone.of('propose'), [{ height: 1, view: 0, minTimestampMs: 1 }]);
    const block = lone.block();
    lone.take();
    lone.give({ kind: 'proposal', height: 1, view: 0, block });
    t.strictSame(kinds(lone.take()), ['persist', 'prePrepare', 'prepare']);
    t.strictSame(
      lone.record?.votes.map((v) => v.vote),
      ['preprepare', 'prepare'],
    );
    t.ok(lone.bodies.has(hex(block.hash)), 'the body is durable with the promise');
    lone.hearVotes('prepare', [0], 0, block.hash);
    t.strictSame(kinds(lone.take()), []);
    lone.hearVotes('prepare', [2], 0, block.hash);
    t.strictSame(kinds(lone.take()), ['persist', 'commit']);
    t.equal(lone.record?.prepared?.signatures.length, 3);
    lone.hearVotes('commit', [2, 3], 0, block.hash);
    const [commit] = lone.of('commit');
    t.match(commit?.certificate, {
      height: 1,
      view: 0,
      signatures: [{ validator: 1 }, { validator: 2 }, { validator: 3 }],
    });
    t.equal(lone.replica.position.mode, 'committing');
  });

  t.test('proposes nothing when nothing is due, or when the pool turns out empty', async (t) => {
    const lone = new LoneReplica({ self: 1 });
    t.equal(lone.of('propose').length, 0);
    lone.give({ kind: 'due', due: true });
    t.ok(lone.timer('view'));
    lone.give({ kind: 'proposal', height: 1, view: 0, block: null });
    t.notOk(lone.timer('view'), 'idle again');
    lone.take();
    lone.give({ kind: 'due', due: true });
    t.equal(lone.of('propose').length, 1, 'and asks again');
  });

  t.test('a proposal that comes too late for its view is dropped, one that nobody would accept is a bug', async (t) => {
    const lone = new LoneReplica({ self: 1 });
    lone.give({ kind: 'due', due: true });
    const block = lone.block();
    t.throws(
      () => lone.replica.step({ kind: 'proposal', height: 1, view: 0, block: altered(block, { timestampMs: 0 }) }),
      InvariantError,
    );
    const other = new LoneReplica({ self: 1 });
    other.give({ kind: 'due', due: true });
    other.fire('view');
    other.take();
    other.give({ kind: 'proposal', height: 1, view: 0, block });
    t.strictSame(kinds(other.take()), []);
  });
});

t.test('a backup [P3, P4]', async (t) => {
  t.test('votes only after it executed, and its record and the body are durable before', async (t) => {
    const lone = new LoneReplica();
    lone.executesAtOnce = false;
    const block = lone.block();
    lone.take();
    lone.hearProposal(block);
    t.match(lone.of('execute'), [{ fresh: true }]);
    t.ok(lone.timer('view'), 'a proposal under way starts the timer, due or not');
    t.equal(lone.said('prepare').length, 0);
    lone.take();
    lone.give({ kind: 'executed', height: 1, blockHash: block.hash, verdict: { ok: true, value: undefined } });
    t.strictSame(kinds(lone.take()), ['persist', 'prepare']);
    t.ok(lone.bodies.has(hex(block.hash)));
  });

  t.test('never votes for what fails, and asks for the next leader at once', async (t) => {
    const lone = new LoneReplica();
    const block = altered(lone.block(), { stateRoot: new Uint8Array(32).fill(9) });
    lone.hearProposal(block);
    t.equal(lone.said('prepare').length, 0);
    t.match(lone.reports('refused'), [{ code: 'EXECUTION_FAILED', from: 1 }]);
    t.match(lone.said('viewChange'), [{ view: 1, prepared: null }]);
  });

  t.test('refuses headers that the head contradicts', async (t) => {
    const cases: readonly [string, Partial<ProposedBlock['header']>][] = [
      ['WRONG_PARENT', { parentHash: new Uint8Array(32) }],
      ['WRONG_TIME', { timestampMs: 0 }],
      ['WRONG_PROPOSER', { proposer: new Uint8Array(20) }],
      ['WRONG_VALIDATOR_SET', { validatorsHash: new Uint8Array(32) }],
    ];
    for (const [code, change] of cases) {
      const lone = new LoneReplica();
      lone.hearProposal(altered(lone.block(), change));
      t.match(lone.reports('refused'), [{ code }], code);
      t.equal(lone.of('execute').length, 0);
    }
  });

  t.test('refuses a proposal of somebody who does not lead', async (t) => {
    const lone = new LoneReplica();
    lone.hear(2, { kind: 'prePrepare', height: 1, view: 0, block: lone.block() });
    t.match(lone.reports('refused'), [{ code: 'NOT_THE_LEADER', from: 2 }]);
    t.equal(lone.said('prepare').length, 0);
  });

  t.test('a false body under a true header does not poison the hash', async (t) => {
    const lone = new LoneReplica();
    lone.executesAtOnce = false;
    const block = lone.block();
    // Structure cannot tell: the sidecar is what the transaction names, and only execution looks inside.
    const falseBody = { ...block, block: { ...block.block, sidecars: [Uint8Array.of(1)] } };
    lone.hearProposal(falseBody);
    lone.give({
      kind: 'executed',
      height: 1,
      blockHash: block.hash,
      verdict: { ok: false, code: 'SIDECAR', message: '' },
    });
    t.equal(lone.replica.position.mode, 'viewChange');
    lone.hearVotes('commit', [1, 2, 3], 0, block.hash);
    t.match(lone.of('fetch'), [{ from: [1, 2, 3] }]);
    lone.fetched(block);
    lone.give({ kind: 'executed', height: 1, blockHash: block.hash, verdict: { ok: true, value: undefined } });
    t.same(lone.of('commit')[0]?.block.block.sidecars, [null]);
  });
});

t.test('executions', async (t) => {
  t.test('of one header with two bodies each count for the body that was executed', async (t) => {
    const lone = new LoneReplica();
    lone.executesAtOnce = false;
    const block = lone.block();
    lone.hearProposal({ ...block, block: { ...block.block, sidecars: [Uint8Array.of(1)] } });
    lone.fire('view');
    lone.hearVotes('commit', [1, 2, 3], 0, block.hash);
    lone.fetched(block);
    t.equal(lone.of('execute').length, 1, 'one at a time for one hash');
    lone.give({
      kind: 'executed',
      height: 1,
      blockHash: block.hash,
      verdict: { ok: false, code: 'SIDECAR', message: '' },
    });
    t.equal(lone.of('execute').length, 2, 'the other body has its own chance');
    lone.give({ kind: 'executed', height: 1, blockHash: block.hash, verdict: { ok: true, value: undefined } });
    t.equal(lone.of('commit').length, 1);
  });

  t.test('do not pile up when the host does not answer', async (t) => {
    const lone = new LoneReplica();
    lone.executesAtOnce = false;
    for (let view = 0; view < 12; view += 1) {
      if (lone.leader(view) === lone.self) continue;
      const viewChanges = [1, 2, 3].map((v) => lone.viewChangeOf(v, view));
      if (view > 0) lone.hear(lone.leader(view), { kind: 'newView', height: 1, view, viewChanges });
      lone.hearProposal(lone.block(view), view);
    }
    t.equal(lone.of('execute').length, 4);
  });
});

t.test('votes [P4, P5]', async (t) => {
  t.test('come in any order: before the proposal, too', async (t) => {
    const lone = new LoneReplica();
    const block = lone.block();
    lone.hearVotes('commit', [1, 2], 0, block.hash);
    lone.hearVotes('prepare', [1, 2], 0, block.hash);
    lone.hearProposal(block);
    t.equal(lone.of('commit').length, 1);
  });

  t.test('count once for each signer, however often they come', async (t) => {
    const lone = new LoneReplica();
    const block = lone.block();
    lone.hearProposal(block);
    for (let i = 0; i < 5; i += 1) lone.hearVotes('prepare', [1], 0, block.hash);
    t.equal(lone.said('commit').length, 0);
    for (let i = 0; i < 5; i += 1) lone.hearVotes('commit', [1, 2], 0, block.hash);
    t.equal(lone.of('commit').length, 0);
  });

  t.test('that differ in view or digest do not add up', async (t) => {
    const lone = new LoneReplica();
    const block = lone.block();
    const other = lone.block(0, [Uint8Array.of(7)]);
    lone.hearProposal(block);
    lone.hearVotes('commit', [1], 0, block.hash);
    lone.hearVotes('commit', [2], 1, block.hash);
    lone.hearVotes('commit', [3], 0, other.hash);
    lone.hearVotes('prepare', [3], 0, other.hash);
    lone.hearVotes('prepare', [2], 1, block.hash);
    t.equal(lone.of('commit').length, 0);
    t.equal(lone.said('commit').length, 0);
  });

  t.test('that conflict are evidence, reported once, and the first one counts [E1]', async (t) => {
    const lone = new LoneReplica();
    const block = lone.block();
    const other = lone.block(0, [Uint8Array.of(7)]);
    lone.hearProposal(block);
    lone.hearProposal(other);
    lone.hearVotes('prepare', [2], 0, block.hash);
    lone.hearVotes('prepare', [2, 2], 0, other.hash);
    t.match(lone.reports('evidence'), [
      { equivocation: { validator: 1, vote: 'preprepare', height: 1, view: 0 } },
      { equivocation: { validator: 2, vote: 'prepare' } },
    ]);
    const { first, second } = lone.reports('evidence')[0]!.equivocation;
    t.ok(equalBytes(first.digest, block.hash) && equalBytes(second.digest, other.hash));
    t.equal(lone.said('prepare').length, 1, 'one vote for the first proposal only');
    lone.hearVotes('prepare', [3], 0, block.hash);
    t.equal(lone.said('commit').length, 1);
  });

  t.test('for views from nowhere change nothing, and take room from their signer alone', async (t) => {
    const book = new VoteBook(4, 3);
    const digest = new Uint8Array(32);
    for (let view = 0; view < 100; view += 1) book.add(2, view, digest, new Uint8Array(64));
    t.equal(Array.from({ length: 100 }, (_, view) => book.has(2, view)).filter(Boolean).length, 8);
    book.add(0, 0, digest, new Uint8Array(64));
    t.ok(book.has(0, 0));
    const lone = new LoneReplica();
    lone.take();
    for (const view of [5, 2 ** 31, Number.MAX_SAFE_INTEGER]) {
      lone.hearVotes('prepare', [2], view, new Uint8Array(32));
      lone.hearVotes('commit', [2], view, new Uint8Array(32));
    }
    t.strictSame(
      kinds(lone.take()).filter((k) => k !== 'status' && k !== 'setTimer'),
      [],
    );
    t.equal(lone.replica.position.view, 0);
  });
});

t.test('a decision [P6, P7, P8]', async (t) => {
  t.test('stands with the Commits of any one view, whatever view the replica is in', async (t) => {
    const lone = new LoneReplica();
    const block = lone.block();
    lone.hearProposal(block);
    lone.fire('view');
    t.equal(lone.replica.position.mode, 'viewChange');
    lone.hearVotes('commit', [1, 2, 3], 0, block.hash);
    t.match(lone.of('commit'), [{ certificate: { view: 0 } }]);
    const behind = new LoneReplica();
    behind.hearProposal(block);
    behind.hearVotes('commit', [1, 2, 3], 1_000, block.hash);
    t.match(behind.of('commit'), [{ certificate: { view: 1_000 } }]);
  });

  t.test('for a block that never came: fetched, executed without the clock, committed', async (t) => {
    const lone = new LoneReplica();
    const block = lone.block();
    lone.hearVotes('commit', [1, 2, 3], 0, block.hash);
    t.match(lone.of('fetch'), [{ height: 1, from: [1, 2, 3] }]);
    lone.take();
    lone.fire('retransmit');
    t.equal(lone.of('fetch').length, 1, 'asked for again with the tick');
    lone.fetched(lone.block(0, [Uint8Array.of(7)]));
    t.equal(lone.of('execute').length, 0, 'another block than the one wanted');
    lone.fetched(block);
    t.match(lone.of('execute'), [{ fresh: false }]);
    t.equal(lone.of('commit').length, 1);
  });

  t.test('is not one if the certified body cannot be executed: it is asked for again, and nothing stops', async (t) => {
    const lone = new LoneReplica();
    lone.executesAtOnce = false;
    const block = lone.block();
    lone.hearVotes('commit', [1, 2, 3], 0, block.hash);
    lone.fetched(block);
    lone.give({ kind: 'executed', height: 1, blockHash: block.hash, verdict: { ok: false, code: 'X', message: '' } });
    lone.take();
    lone.fire('retransmit');
    t.equal(lone.of('fetch').length, 1);
    t.equal(lone.of('commit').length, 0);
  });
});

t.test('a sync that ends at any step [P9]', async (t) => {
  const block = new LoneReplica().block();
  const steps: readonly ((lone: LoneReplica) => void)[] = [
    (lone) => lone.give({ kind: 'due', due: true }),
    (lone) => lone.hearProposal(block),
    (lone) => lone.hearVotes('prepare', [1], 0, block.hash),
    (lone) => lone.hearVotes('prepare', [2], 0, block.hash),
    (lone) => lone.hearVotes('commit', [1], 0, block.hash),
    (lone) => lone.hearVotes('commit', [2], 0, block.hash),
    (lone) => lone.hearVotes('commit', [3], 0, block.hash),
  ];
  for (let at = 0; at <= steps.length; at += 1) {
    const lone = new LoneReplica();
    for (const step of steps.slice(0, at)) step(lone);
    const late: Input[] = [
      { kind: 'executed', height: 1, blockHash: block.hash, verdict: { ok: true, value: undefined } },
      { kind: 'proposal', height: 1, view: 0, block },
      { kind: 'suspect', height: 1, view: 0 },
      { kind: 'committed', head: lone.head(), params: LONE_PARAMS, leaders: NO_LEADER_HISTORY },
    ];
    lone.commitTo(block);
    lone.take();
    for (const input of late) lone.give(input);
    for (const kind of ['prepare', 'commit'] as const) {
      for (const from of [1, 2, 3]) lone.hear(from, { kind, height: 1, view: 0, digest: block.hash });
    }
    t.strictSame(kinds(lone.take()), [], `after step ${at}: what comes late changes nothing`);
    t.match(lone.replica.position, { height: 2, view: 0, mode: 'normal' });
    const next = lone.block();
    lone.hearProposal(next);
    lone.hearVotes('prepare', [1, 2], 0, next.hash);
    lone.hearVotes('commit', [1, 2], 0, next.hash);
    t.equal(lone.of('commit').length, 1, 'the next height is decided');
  }
});

t.test('a head that is reported twice changes nothing, whatever was voted above it [P9]', async (t) => {
  const lone = new LoneReplica();
  lone.commitTo(lone.block());
  const next = lone.block();
  lone.hearProposal(next);
  lone.hearVotes('prepare', [1, 2], 0, next.hash);
  t.ok(lone.said('commit').length > 0);
  lone.take();
  lone.give({ kind: 'committed', head: lone.head(), params: LONE_PARAMS, leaders: NO_LEADER_HISTORY });
  t.strictSame(kinds(lone.take()), []);
  lone.hearVotes('commit', [1, 2], 0, next.hash);
  t.equal(lone.of('commit').length, 1, 'its own Commit still counts');
});

t.test('messages for the next height [S7]', async (t) => {
  t.test('wait for it', async (t) => {
    const lone = new LoneReplica();
    const first = lone.block();
    const ahead = new LoneReplica({ self: 3 });
    ahead.commitTo(first);
    const second = ahead.block();
    lone.hear(2, { kind: 'prePrepare', height: 2, view: 0, block: second });
    lone.hear(2, { kind: 'prepare', height: 2, view: 0, digest: second.hash });
    lone.hear(3, { kind: 'prepare', height: 2, view: 0, digest: second.hash });
    t.equal(lone.of('execute').length, 0);
    lone.take();
    lone.commitTo(first);
    t.equal(lone.said('prepare').length, 1);
    t.equal(lone.said('commit').length, 1);
  });

  t.test('do not pile up', async (t) => {
    const lone = new LoneReplica();
    const ahead = new LoneReplica();
    ahead.commitTo(lone.block());
    for (const from of [1, 2, 3]) {
      for (let i = 0; i < 10; i += 1) {
        lone.hear(from, { kind: 'prePrepare', height: 2, view: 0, block: ahead.block(0, [Uint8Array.of(i)]) });
      }
    }
    lone.commitTo(lone.block());
    t.ok(lone.reports('refused').length <= 2, 'of three senders two were kept');
  });
});

t.test('another validator set', async (t) => {
  const lone = new LoneReplica();
  const block = lone.block();
  const message = signAs(lone.consortium, 1, { kind: 'prePrepare', height: 1, view: 0, block });
  const verified = verifyMessage(message, lone.consortium, lone.consortium.engine);
  if (!verified.ok) throw new Error(verified.code);
  lone.give({ kind: 'message', message: verified.value, validatorsHash: new Uint8Array(32) });
  t.equal(lone.of('execute').length, 0, 'what was verified against another set is dropped');

  const changed = new LoneReplica();
  const ahead = new LoneReplica();
  ahead.commitTo(block);
  changed.hear(2, { kind: 'prePrepare', height: 2, view: 0, block: ahead.block() });
  changed.parent = block;
  const newHead = { ...changed.head(), validatorsHash: new Uint8Array(32).fill(1) };
  changed.give({ kind: 'committed', head: newHead, params: LONE_PARAMS, leaders: NO_LEADER_HISTORY });
  t.equal(
    changed.of('execute').length + changed.reports('refused').length,
    0,
    'and so is what waited for the next height',
  );

  const observer = new LoneReplica({ self: 0 });
  const validators = observer.consortium.validators.slice(1);
  const head = {
    ...observer.head(),
    height: 1,
    hash: block.hash,
    validators,
    validatorsHash: new Uint8Array(32).fill(1),
  };
  observer.give({ kind: 'committed', head, params: LONE_PARAMS, leaders: NO_LEADER_HISTORY });
  observer.take();
  observer.give({ kind: 'due', due: true });
  observer.fire('retransmit');
  t.strictSame(kinds(observer.take()), ['setTimer'], 'who left the set says nothing any more and runs no view timer');
});
