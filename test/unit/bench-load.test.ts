/** What benchmarks send, when, and how what they see is counted. */
import { join } from 'node:path';
import t from 'tap';
import { utf8 } from '../../common/bytes.ts';
import { createWasmEngine } from '../../common/crypto/sm2-engine/engine.ts';
import { decodeTransaction } from '../../common/protocol/transaction.ts';
import { svgOf } from '../../scripts/bench/svg.ts';
import { markdownOf } from '../../scripts/bench/table.ts';
import { benchKey } from '../bench/load/bench-key.ts';
import { Latencies } from '../bench/load/latency.ts';
import { readLoad, writeLoad } from '../bench/load/load-file.ts';
import { LoadRun } from '../bench/load/load-run.ts';
import { arrivals, zipf } from '../bench/load/schedule.ts';
import { type CpuProfile, stagesOf } from '../bench/load/stages.ts';
import { signed } from '../bench/load/transactions.ts';
import { Prng } from '../sim/prng.ts';

t.test('arrivals are Poisson, in order, and the same for one seed', (t) => {
  const times = arrivals(1_000, 20, new Prng(7));
  t.same(times, arrivals(1_000, 20, new Prng(7)));
  t.not(times[0], arrivals(1_000, 20, new Prng(8))[0]);
  t.ok(Math.abs(times.length - 20_000) < 600, `${times.length} of some 20,000`);
  const gaps = times.slice(1).map((atMs, i) => atMs - (times[i] as number));
  t.ok(gaps.every((gap) => gap >= 0));
  t.ok((times.at(-1) as number) < 20_000);
  // Of a Poisson process, one gap in e is longer than the mean.
  const long = gaps.filter((gap) => gap > 1).length / gaps.length;
  t.ok(Math.abs(long - Math.exp(-1)) < 0.02, `${long}`);
  t.end();
});

t.test('people sign as often as their place says', (t) => {
  const draw = zipf(1_000, 1, new Prng(3));
  const counts = new Float64Array(1_000);
  for (let n = 0; n < 100_000; n += 1) counts[draw()]! += 1;
  const harmonic = Array.from({ length: 1_000 }, (_, k) => 1 / (k + 1)).reduce((sum, part) => sum + part);
  for (const k of [0, 1, 9]) {
    const wanted = 100_000 / (k + 1) / harmonic;
    t.ok(Math.abs(counts[k]! - wanted) < 5 * Math.sqrt(wanted), `place ${k}: ${counts[k]} of ${wanted}`);
  }
  t.ok(counts[999]! < 60);
  t.end();
});

t.test('percentiles have three digits, and nothing is out of range', (t) => {
  const latencies = new Latencies();
  for (let ms = 1; ms <= 1_000; ms += 1) latencies.record(ms);
  const { count, p50Ms, p99Ms, maxMs } = latencies.percentiles();
  t.equal(count, 1_000);
  t.ok(Math.abs(p50Ms - 500) < 1 && Math.abs(p99Ms - 990) < 2 && Math.abs(maxMs - 1_000) < 1);
  latencies.record(-5);
  latencies.record(10 ** 9);
  t.ok(Math.abs(latencies.percentiles().maxMs - 600_000) < 600);
  t.ok(Number.isNaN(new Latencies().percentiles().p50Ms));
  t.end();
});

t.test("a benchmark's keys sign what every engine verifies", (t) => {
  const key = benchKey('test', 1);
  const engine = createWasmEngine();
  const message = utf8('a message');
  t.ok(engine.verify(key.publicKey, message, key.sign(message)));
  t.notOk(engine.verify(benchKey('test', 2).publicKey, message, key.sign(message)));
  t.end();
});

t.test('a load is read as it was written', (t) => {
  const file = join(t.testdir({}), 'load');
  const origin = { chainId: new Uint8Array(32).fill(1), validUntilMs: 1_800_000_000_000 };
  const made = Array.from({ length: 3 }, (_, node) => ({
    ...signed(origin, benchKey('test', node), { kind: 'access.approve', requestHash: new Uint8Array(32) }),
    sidecar: node === 1 ? utf8('beside') : null,
    node,
  }));
  t.equal(writeLoad(file, made), 3);
  t.same(readLoad(file), made);
  t.ok(readLoad(file).every(({ bytes }) => decodeTransaction(bytes).ok));
  t.end();
});

/** A node that takes everything after some time, and tells of it in the next block. */
function slowNode(delayMs: number) {
  const listeners = new Set<(hashes: readonly string[], atMs: number) => void>();
  return {
    waiting: 0,
    onBlock(listener: (hashes: readonly string[], atMs: number) => void) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async submit(entries: readonly { readonly hash: Uint8Array }[]) {
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      const hashes = entries.map(({ hash }) => `0x${Buffer.from(hash).toString('hex')}`);
      for (const listener of listeners) listener(hashes, performance.now());
      return entries.map((_, index) => (index === 0 && hashes[0]?.startsWith('0x00') ? 'POOL_FULL' : null));
    },
  };
}

t.test('a run counts from when each was due, and says what was refused and what was lost', async (t) => {
  const node = slowNode(20);
  const entries = Array.from({ length: 50 }, (_, n) => ({
    node: 0,
    hash: new Uint8Array(32).fill(n),
    bytes: utf8('tx'),
    sidecar: null,
  }));
  const due = Float64Array.from({ length: 50 }, (_, n) => n * 2);
  const result = await new LoadRun([[node as never]]).run(entries, due, 0.1);
  t.equal(result.offered, 50);
  t.equal(result.accepted, 49);
  t.same(result.refused, { POOL_FULL: 1 });
  t.equal(result.lost, 0);
  t.equal(result.latency.count, 50);
  t.ok(result.latency.p50Ms >= 19 && result.accept.p50Ms >= 19);
});

t.test('time counts for the innermost stage', (t) => {
  const frame = (functionName: string, url = '') => ({ functionName, url });
  const profile: CpuProfile = {
    nodes: [
      { id: 1, callFrame: frame('(root)'), children: [2, 5, 6, 7] },
      { id: 2, callFrame: frame('admit', 'file:///x/node/mempool/mempool.ts'), children: [3] },
      { id: 3, callFrame: frame('verify', 'file:///x/common/crypto/sm2-engine/engine.ts'), children: [4] },
      { id: 4, callFrame: frame('wasm-function[3]', 'wasm://wasm/1') },
      { id: 5, callFrame: frame('(idle)') },
      { id: 6, callFrame: frame('(garbage collector)') },
      { id: 7, callFrame: frame('(program)') },
    ],
    samples: [2, 3, 4, 5, 6, 7],
    timeDeltas: [10, 20, 40, 1_000, 20, 10],
  };
  const shares = Object.fromEntries(stagesOf(profile).map(({ stage, share }) => [stage, share]));
  t.same(shares, {
    signatures: 0.6,
    'garbage collection': 0.2,
    'pool and gossip': 0.1,
    'native code, system calls': 0.1,
  });
  t.end();
});

t.test('tables are Markdown', (t) => {
  const text = markdownOf({
    title: 'Seen',
    head: ['what', 'ms'],
    rows: [
      ['one', 1_234.5],
      ['none', Number.NaN],
    ],
  });
  t.equal(text, 'Seen:\n\n| what |    ms |\n| ---- | ----: |\n| one  | 1,230 |\n| none |     – |');
  t.end();
});

t.test('plots hold every point, on both kinds of axes', (t) => {
  const lines = [
    {
      name: 'a < b',
      points: [
        [0, 3],
        [10, 500],
        [1_000, 20],
      ] as const,
    },
  ];
  const plot = { name: 'p', title: 'Seen', x: { title: 'x' }, y: { title: 'y', logarithmic: true }, lines };
  const svg = svgOf(plot);
  t.equal(svg.match(/<circle /gu)?.length, 3);
  t.match(svg, 'a &lt; b');
  t.notMatch(svg, /NaN|Infinity/u);
  t.equal(svgOf(plot), svg);
  t.notMatch(svgOf({ ...plot, lines: [] }), /NaN|Infinity/u);
  t.end();
});
