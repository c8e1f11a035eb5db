/** A number of inputs over all targets: how many each gets, and what came of it. */
import { Prng } from '../sim/prng.ts';
import { fuzz, type Target, type TargetReport } from './engine.ts';

/** Samples of each target that the others are spliced with. */
const SAMPLES_EACH = 2;
const DEFAULT_COST_US = 15;
/** However slow: a decoder that nobody gives inputs is not fuzzed. */
const LEAST_EACH = 20;

/** Each gets about the same time, so that the quick ones get most inputs. */
export function shares(targets: readonly Target[], inputs: number): ReadonlyMap<Target, number> {
  const weight = ({ costUs }: Target): number => 1 / Math.sqrt(costUs ?? DEFAULT_COST_US);
  const total = targets.reduce((sum, target) => sum + weight(target), 0);
  return new Map(
    targets.map((target) => [target, Math.max(LEAST_EACH, Math.round((inputs * weight(target)) / total))]),
  );
}

export async function campaign(
  targets: readonly Target[],
  options: { readonly inputs: number; readonly seed: number; readonly done?: (report: TargetReport) => void },
): Promise<readonly TargetReport[]> {
  const random = new Prng(options.seed);
  const others = targets.flatMap((target) =>
    Array.from({ length: SAMPLES_EACH }, () => new Uint8Array(target.sample(random))),
  );
  const reports: TargetReport[] = [];
  for (const [target, share] of shares(targets, options.inputs)) {
    const report = await fuzz(target, share, options.seed, others);
    options.done?.(report);
    reports.push(report);
  }
  return reports;
}
