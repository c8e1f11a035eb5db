import t, { type Test } from 'tap';
import { LONGEST_REST_MS, Pace } from '../../node/host/pace.ts';
import { MIN_CANDIDATES, Proposer, type ProposerPorts } from '../../node/host/proposer.ts';

t.test('the rest before a block', (t) => {
  t.test('is a share of the time that the last one took, with many transactions', (t) => {
    const pace = new Pace();
    pace.committed(8, 1_000);
    pace.committed(8, 1_040);
    t.equal(pace.restMs(1_040), 20);
    t.equal(pace.restMs(1_050), 10);
    t.equal(pace.restMs(1_060), 0);
    t.equal(pace.restMs(5_000), 0);
    t.end();
  });

  t.test('is shorter where fewer come, and none after a block without any', (t) => {
    const pace = new Pace();
    pace.committed(1, 1_000);
    for (const [transactions, restMs] of [
      [0, 0],
      [2, 5],
      [4, 10],
      [100, 20],
    ] as const) {
      pace.committed(8, 1_000);
      pace.committed(transactions, 1_040);
      t.equal(pace.restMs(1_040), restMs, `${transactions} transactions`);
    }
    t.end();
  });

  t.test('is bounded, whatever the clock says', (t) => {
    const pace = new Pace();
    t.equal(pace.restMs(0), 0, 'before any block');
    pace.committed(8, 1_000_000);
    t.equal(pace.restMs(1_000_000), LONGEST_REST_MS);
    t.equal(pace.restMs(5_000), LONGEST_REST_MS, 'the clock went back');
    pace.committed(8, 5_000);
    t.equal(pace.restMs(5_000), 0, 'a block took less than no time');
    t.end();
  });
  t.end();
});

interface World {
  readonly proposer: Proposer;
  readonly asked: number[];
  readonly rests: number[];
}

/** A leader whose blocks take `msPerTx` of processor time for each transaction. */
function leader(waiting: () => number, msPerTx: number, viewTimeoutMs = 1_000): World {
  const asked: number[] = [];
  const rests: number[] = [];
  let processorMs = 0;
  let nowMs = 10_000;
  const ports = {
    clock: {
      nowMs: () => nowMs,
      after: (ms: number, then: () => void) => {
        rests.push(ms);
        nowMs += ms;
        then();
        return () => undefined;
      },
    },
    executor: {
      head: { height: 1, params: { maxBlockTxs: 2_000, maxBlockBytes: 1_000_000, viewTimeoutMs } },
      build: ({ candidates }: { readonly candidates: readonly unknown[] }) => {
        processorMs += candidates.length * msPerTx;
        return Promise.resolve({ proposal: {}, included: candidates.length, rejected: [] });
      },
    },
    mempool: {
      get size() {
        return waiting();
      },
      candidates: (most: number) => {
        const count = Math.min(most, waiting());
        asked.push(count);
        return new Array<object>(count).fill({});
      },
      reject: () => undefined,
    },
    due: { stateIsDue: () => false },
    address: new Uint8Array(20),
    processorMs: () => processorMs,
  };
  return { proposer: new Proposer(ports as unknown as ProposerPorts), asked, rests };
}

async function proposeSome({ proposer, asked }: World, times: number): Promise<number> {
  for (let block = 0; block < times; block += 1) await proposer.propose({ height: 2, view: 0, minTimestampMs: 0 });
  return asked.at(-1) ?? Number.NaN;
}

t.test('the size of a block', (t) => {
  const about = (t: Test, found: number, wanted: number): void => {
    t.ok(Math.abs(found - wanted) <= wanted * 0.05, `${found}, about ${wanted}`);
  };

  t.test('is bounded by the time that its execution takes', async (t) => {
    about(
      t,
      await proposeSome(
        leader(() => 200, 0.3),
        40,
      ),
      100,
    );
  });

  t.test('is a share of a backlog, up to a share of the time that a leader has', async (t) => {
    about(
      t,
      await proposeSome(
        leader(() => 1_000, 0.3),
        40,
      ),
      250,
    );
    about(
      t,
      await proposeSome(
        leader(() => 20_000, 0.3),
        40,
      ),
      416,
    );
    about(
      t,
      await proposeSome(
        leader(() => 20_000, 0.3, 400),
        40,
      ),
      166,
    );
  });

  t.test('has a least, however slow the machine is, and a most', async (t) => {
    t.equal(
      await proposeSome(
        leader(() => 20_000, 50),
        40,
      ),
      MIN_CANDIDATES,
    );
    t.equal(
      await proposeSome(
        leader(() => 20_000, 0.001),
        40,
      ),
      2_000,
    );
  });
  t.end();
});

t.test('a leader rests when few wait though many came, and not when a block is full', async (t) => {
  let waiting = 5;
  const world = leader(() => waiting, 0.3);
  world.proposer.committed(20);
  world.proposer.committed(20);
  await proposeSome(world, 1);
  t.same(world.rests, [], 'the block before took no time');
  const slow = leader(() => waiting, 0.3);
  slow.proposer.committed(20);
  await proposeSome(slow, 1);
  t.same(slow.rests, [LONGEST_REST_MS]);
  await proposeSome(slow, 1);
  t.equal(slow.rests.length, 1, 'the rest is over');
  slow.proposer.committed(20);
  waiting = MIN_CANDIDATES;
  await proposeSome(slow, 1);
  t.equal(slow.rests.length, 1);
});
