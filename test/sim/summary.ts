/** What a number of random runs amounts to: the same lines for the same seeds, in whatever order their results came. */
import { BEHAVIOURS } from './adversary.ts';
import { FAULT_KINDS } from './faults.ts';
import type { RunResult } from './random-run.ts';

export class Summary {
  readonly #results = new Map<number, RunResult>();
  readonly #seeds: readonly number[];

  constructor(seeds: readonly number[]) {
    this.#seeds = seeds;
  }

  add(result: RunResult): void {
    this.#results.set(result.seed, result);
  }

  failures(): readonly { readonly seed: number; readonly line: string }[] {
    return this.#inOrder()
      .filter((r) => r.violation !== null)
      .map(({ seed, validators, byzantine, faults, violation }) => ({
        seed,
        line:
          `seed ${seed}: ${violation} (${validators} validators; Byzantine: ${byzantine.join() || 'none'}; ` +
          `faults: ${faults.join() || 'none'})`,
      }));
  }

  /** @param tookS real time, in seconds */
  lines(tookS: number): readonly string[] {
    const results = this.#inOrder();
    const sum = (of: (r: RunResult) => number): number => results.reduce((total, r) => total + of(r), 0);
    const max = (of: (r: RunResult) => number): number => results.reduce((highest, r) => Math.max(highest, of(r)), 0);
    const hours = sum((r) => r.virtualMs) / 3_600_000;
    const trace = results.reduce((hash, r) => (Math.imul(hash, 31) + r.trace) >>> 0, 0);
    const sizes = [...new Set(results.map((r) => r.validators))].sort((a, b) => a - b);
    return [
      `${results.length} runs of ${sizes.map((n) => `${n} (${results.filter((r) => r.validators === n).length})`).join(', ')} validators: ` +
        `${sum((r) => r.height)} blocks, ${sum((r) => r.setChanges)} changes of the set, ${sum((r) => r.deliveries)} deliveries`,
      `${sum((r) => r.crashes)} crashes, ${sum((r) => r.lostWrites)} writes lost or torn, ${sum((r) => r.byzantine.length)} faulty validators, ` +
        `${sum((r) => r.evidence)} reports of evidence, highest deciding view ${max((r) => r.highestView)}, ` +
        `slowest recovery ${max((r) => r.recoveryMs)} ms of virtual time`,
      `faults: ${FAULT_KINDS.map((k) => `${k} ${results.filter((r) => r.faults.includes(k)).length}`).join(', ')}`,
      `misbehaviour: ${counted(results.flatMap((r) => r.byzantine))} of ${BEHAVIOURS.length} kinds and rotten disks`,
      `${hours.toFixed(2)} simulated hours in ${tookS.toFixed(1)} s: ${(hours / tookS).toFixed(3)} simulated hours per second`,
      `violations: ${results.filter((r) => r.violation !== null).length}; trace ${trace.toString(16).padStart(8, '0')}`,
    ];
  }

  #inOrder(): readonly RunResult[] {
    return this.#seeds.flatMap((seed) => this.#results.get(seed) ?? []);
  }
}

function counted(names: readonly string[]): string {
  const counts = Map.groupBy(names, (name) => name);
  const sorted = [...counts].sort(([a], [b]) => (a < b ? -1 : 1));
  return sorted.map(([name, all]) => `${name} ${all.length}`).join(', ');
}
