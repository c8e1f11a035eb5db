import t, { type Test } from 'tap';
import { MIN_CANDIDATES, Proposer, type ProposerPorts } from '../../node/host/proposer.ts';

interface World {
  readonly proposer: Proposer;
  readonly asked: number[];
}

/** A leader whose blocks take `msPerTx` of processor time for each transaction. */
function leader(waiting: () => number, msPerTx: number, viewTimeoutMs = 1_000): World {
  const asked: number[] = [];
  let processorMs = 0;
  const ports = {
    clock: { nowMs: () => 10_000 },
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
  return { proposer: new Proposer(ports as unknown as ProposerPorts), asked };
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
