import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import { createWasmEngine } from '../../common/crypto/sm2-engine/engine.ts';
import type { BlockDue } from '../../vm/types.ts';
import { encodeMessage, type SignedMessage, signingHash, type UnsignedMessage } from '../../consensus/messages.ts';
import type { Validator } from '../../common/protocol/validator-set.ts';
import { DueWatch } from '../../node/host/due.ts';
import { type Evidence, EvidenceBox } from '../../node/host/evidence.ts';
import { Inbox } from '../../node/host/inbox.ts';
import { ReadAhead } from '../../node/host/read-ahead.ts';
import {
  decodeBlocksRequest,
  decodeCertifiedBlock,
  encodeBlocksRequest,
  unwrapDirect,
  wrapDirect,
} from '../../node/host/wire.ts';
import type { Member } from '../../node/network/types.ts';
import { Verifier } from '../../node/verification/verifier.ts';
import { ManualClock } from '../integration/node-clock.ts';
import { consortium, type Hospital } from '../integration/node-consortium.ts';
import { until } from '../integration/node-cluster.ts';
import { flipBit, mustFail } from '../integration/node-expect.ts';

const net = consortium();

t.test('a block is due', (t) => {
  function watch(due: BlockDue): { clock: ManualClock; pool: { size: number }; changes: boolean[]; watch: DueWatch } {
    const clock = new ManualClock(10_000);
    const pool = { size: 0 };
    const changes: boolean[] = [];
    const made = new DueWatch({
      clock,
      poolSize: () => pool.size,
      head: () => ({ height: 1, due, header: { timestampMs: 9_000 } }),
      onChange: (isDue) => changes.push(isDue),
    });
    made.update();
    return { clock, pool, changes, watch: made };
  }
  const never: BlockDue = { nextDeadlineMs: null, heartbeatMs: null };

  t.test('while transactions wait', async (t) => {
    const { pool, changes, watch: due } = watch(never);
    pool.size = 1;
    t.equal(due.update(), true);
    pool.size = 0;
    t.equal(due.update(), false);
    t.same(changes, [true, false]);
  });

  t.test('once a deadline has passed, and not at it', async (t) => {
    const { clock, changes, watch: due } = watch({ nextDeadlineMs: 15_000, heartbeatMs: null });
    clock.advance(5_000);
    t.equal(due.due, false);
    clock.advance(1);
    t.same(changes, [true]);
    t.equal(due.stateIsDue(15_000), false);
    t.equal(due.stateIsDue(15_001), true);
  });

  t.test('a heartbeat after the last one, while grants are active', async (t) => {
    const { clock, changes } = watch({ nextDeadlineMs: 1_000_000, heartbeatMs: 30_000 });
    clock.advance(28_999);
    t.same(changes, []);
    clock.advance(1);
    t.same(changes, [true]);
  });

  t.test('never on an idle chain, nor after the node has stopped', async (t) => {
    const { clock, changes } = watch(never);
    clock.advance(10_000_000);
    const stopped = watch({ nextDeadlineMs: 15_000, heartbeatMs: null });
    stopped.watch.stop();
    stopped.clock.advance(10_000);
    t.same([changes, stopped.changes], [[], []]);
  });
  t.end();
});

t.test('messages of consensus are verified before the core sees them', async (t) => {
  const delivered: SignedMessage[] = [];
  const refused: string[] = [];
  const waiting: (() => void)[] = [];
  const { validators } = net.genesis;
  const inbox = new Inbox({
    chainId: net.chainId,
    verifier: new Verifier(createWasmEngine()),
    current: () => ({ validators, validatorsHash: new Uint8Array(32), committed: 4 }),
    deliver: (message, _hash, done) => {
      delivered.push(message);
      waiting.push(done);
    },
    refused: (_from, code) => refused.push(code),
    failed: (error) => t.fail(String(error)),
  });
  const memberAt = (index: number): Member => ({ ...(validators[index] as Validator), role: 'validator' });
  const signed = (index: number, body: UnsignedMessage): Uint8Array => {
    const { validator } = net.hospitals[index] as Hospital;
    return encodeMessage({ validator: index, signature: validator.sign(signingHash(net.chainId, body)), body });
  };
  const settled = (): Promise<void> => {
    const expected = delivered.length + refused.length + 1;
    return until(
      () => delivered.length + refused.length === expected,
      5_000,
      () => 'an answer',
    );
  };
  const vote: UnsignedMessage = { kind: 'commit', height: 5, view: 0, digest: new Uint8Array(32) };

  let done = settled();
  inbox.receive(memberAt(1), signed(2, vote));
  await done;
  t.equal(delivered.length, 1, 'forwarded by another member is as good');

  for (const [what, from, bytes, code] of [
    ['a stranger', { ...memberAt(1), peerId: 'nobody' }, signed(1, vote), 'NOT_A_VALIDATOR'],
    ['another signature', memberAt(1), flipBit(signed(1, vote), 8 * 12), 'BAD_SIGNATURE'],
    ['no message', memberAt(1), Uint8Array.of(1, 2, 3), 'MALFORMED'],
    ['a trailing byte', memberAt(1), Uint8Array.of(...signed(1, vote), 0), 'MALFORMED'],
    [
      'an index beyond the set',
      memberAt(1),
      encodeMessage({ validator: 9, signature: new Uint8Array(64), body: vote }),
      'UNKNOWN_VALIDATOR',
    ],
  ] as const) {
    done = settled();
    inbox.receive(from, bytes);
    await done;
    t.equal(refused.at(-1), code, what);
  }
  inbox.receive(memberAt(1), signed(1, { ...vote, height: 4 }));
  t.equal(refused.length, 5, 'a vote for the block just committed is late, and no fault');

  const flood = signed(1, vote);
  for (let n = 0; n < 64; n += 1) inbox.receive(memberAt(3), flood);
  inbox.receive(memberAt(3), flood);
  t.equal(refused.at(-1), 'INBOX_FULL', 'one sender has its share');
  await until(
    () => delivered.length === 65,
    10_000,
    () => `${delivered.length}`,
  );
  inbox.receive(memberAt(3), flood);
  t.equal(refused.length, 7, 'until the core has taken them');
  for (const take of waiting) take();
  done = settled();
  inbox.receive(memberAt(3), flood);
  await done;
  t.equal(delivered.length, 66);
});

t.test('evidence is kept until the chain has it', async (t) => {
  const [first, second] = net.genesis.validators;
  const of = (validator: Validator, height: number): Evidence => {
    const vote = { digest: new Uint8Array(32), signature: new Uint8Array(64) };
    return { equivocation: { validator: 0, vote: 'prepare', height, view: 0, first: vote, second: vote }, validator };
  };
  const box = new EvidenceBox();
  const heard: number[] = [];
  box.onEvidence(({ equivocation }) => heard.push(equivocation.height));
  for (const height of [1, 2, 2, 3, 4, 5, 6]) box.add(of(first!, height));
  t.same(heard, [1, 2, 3, 4], 'each once, and some proofs of one validator are enough');
  box.add(of(second!, 9));
  box.settle(of(first!, 2));
  t.same(
    box.pending().map((e) => [e.validator.address, e.equivocation.height]),
    [...[1, 3, 4].map((height) => [first!.address, height]), [second!.address, 9]],
  );
  box.settle(of(first!, 2));
  for (const height of [1, 3, 4]) box.settle(of(first!, height));
  t.equal(box.pending().length, 1);

  t.test('within bounds, whatever validators come and go', async (t) => {
    const many = new EvidenceBox();
    for (let i = 0; i < 100; i += 1) many.add(of({ ...first!, address: new Uint8Array(20).fill(i) }, i));
    t.equal(many.pending().length, 64);
    t.equal(many.pending()[0]?.equivocation.height, 36, 'the oldest went');
  });
});

t.test('the wire refuses what it does not know', async (t) => {
  t.equal(mustFail(unwrapDirect(new Uint8Array())), 'MALFORMED');
  t.equal(mustFail(unwrapDirect(Uint8Array.of(9, 1))), 'MALFORMED');
  t.match(unwrapDirect(wrapDirect('block', Uint8Array.of(7))), { value: { kind: 'block', bytes: Uint8Array.of(7) } });
  t.equal(mustFail(decodeBlocksRequest(Uint8Array.of(0x80))), 'MALFORMED');
  t.match(decodeBlocksRequest(encodeBlocksRequest({ kind: 'from', height: 9 })), {
    value: { kind: 'from', height: 9 },
  });
  t.equal(mustFail(decodeCertifiedBlock(new Uint8Array(64))), 'MALFORMED');
});

t.test('read-ahead: whoever brings waits while it is full, whoever takes while it is empty', async (t) => {
  const ahead = new ReadAhead<number>({ items: 2, bytes: 100 });
  t.equal(await ahead.put(1, 1_000), true, 'one always fits');
  let brought = false;
  const second = ahead.put(2, 1).then((taken) => {
    brought = true;
    return taken;
  });
  await setImmediate();
  t.equal(brought, false, 'the bytes are used up');
  t.same(await ahead.take(), [1]);
  t.equal(await second, true);
  t.equal(await ahead.put(3, 1), true);
  const fourth = ahead.put(4, 1);
  t.same(await ahead.take(), [2, 3]);
  t.equal(await fourth, true);
  const fifth = ahead.put(5, 1);
  await fifth;
  const sixth = ahead.put(6, 1);
  ahead.end();
  t.equal(await sixth, false, 'nothing is taken after the end');
  t.same(await ahead.take(), [4, 5], 'what waits is given all the same');
  t.same(await ahead.take(), []);
});
