import t from 'tap';
import { Checkers } from './checkers.ts';
import { Cluster } from './cluster.ts';
import { FAULT_KINDS } from './faults.ts';
import { signAs } from './lone-replica.ts';
import { randomRun, type RunResult } from './random-run.ts';
import { readRegressions } from './regressions.ts';
import { runSeeds } from './seed-runner.ts';
import { buildBlock, toyGenesis } from './toy-chain.ts';

/** Of four validators, 1 leads view 0 of height 1, 2 leads view 1, 3 view 2, 0 view 3. */
function four(seed = 1): Cluster {
  return new Cluster(seed, 4);
}

const SEEDS = 150;

t.test('random runs: every property holds', async (t) => {
  const kept = readRegressions();
  const results: RunResult[] = [];
  const seeds = new Set([...kept, ...Array.from({ length: SEEDS }, (_, i) => i + 1)]);
  await runSeeds(seeds, 2, { patches: [], options: {} }, (result) => void results.push(result));
  t.equal(results.length, seeds.size);
  for (const { seed, violation } of results) if (violation !== null) t.fail(`seed ${seed}: ${violation}`);
  const drawn = new Set(results.flatMap((r) => r.faults));
  t.equal(drawn.size, FAULT_KINDS.length, 'every kind of fault was there');
  t.ok(
    results.some((r) => r.setChanges > 0) &&
      results.some((r) => r.lostWrites > 0) &&
      results.some((r) => r.highestView > 2),
  );
});

t.test('a seed repeats a run exactly, on whatever thread', async (t) => {
  for (const seed of [7, 36, 75]) {
    const here = randomRun(seed);
    t.strictSame(randomRun(seed), here);
    await runSeeds([seed], 1, { patches: [], options: {} }, (there) => void t.strictSame(there, here));
  }
  t.not(randomRun(7).trace, randomRun(8).trace);
});

t.test('the checkers notice', async (t) => {
  t.test('two blocks at one height, and a second body under one hash', async (t) => {
    const { consortium } = four();
    const checkers = new Checkers(consortium);
    const commit = (timestampMs: number, txs: readonly Uint8Array[]) => {
      const block = buildBlock(consortium, toyGenesis(consortium), { view: 0, proposer: 1, timestampMs }, txs);
      const signatures = [0, 1, 2].map((validator) => ({
        validator,
        signature: signAs(consortium, validator, { kind: 'commit', height: 1, view: 0, digest: block.hash }).signature,
      }));
      return { block, certificate: { height: 1, view: 0, blockHash: block.hash, signatures } };
    };
    const first = commit(1_000, [Uint8Array.of(1)]);
    checkers.committed(0, first);
    checkers.committed(1, first);
    t.throws(() => checkers.committed(2, commit(1_001, [])), /disagreement/);
    const body = { ...first.block, block: { ...first.block.block, txs: [Uint8Array.of(2)] } };
    t.throws(() => checkers.committed(2, { ...first, block: body }), /different bodies/);
    const short = { ...first.certificate, signatures: first.certificate.signatures.slice(1) };
    t.throws(() => checkers.committed(3, { ...first, certificate: short }), /CERTIFICATE_QUORUM/);
    t.throws(() => checkers.started(1, 0), /lost committed blocks/);
  });
});
