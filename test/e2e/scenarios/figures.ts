/** What a scenario has measured, and whether that is within its limits. */
import type { Limit } from './scenario.ts';

/** By name, in the order in which they were measured. */
export type Figures = ReadonlyMap<string, readonly number[]>;

/** Limits that the figures do not keep, in words. */
export function brokenLimits(limits: readonly Limit[], figures: Figures, slack: number): readonly string[] {
  const of = (figure: string): readonly number[] => {
    const values = figures.get(figure);
    if (values === undefined) throw new Error(`no step has measured "${figure}"`);
    return values;
  };
  const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
  return limits.flatMap((limit) => {
    if ('atMost' in limit) {
      const most = Math.max(...of(limit.figure));
      const bound = limit.atMost * slack;
      return most <= bound ? [] : [`${limit.figure}: ${most.toFixed(0)} ms, which is more than ${bound} ms`];
    }
    const [part, whole] = [of(limit.figure), of(limit.per)];
    const ratio = sum(part) / part.length / (sum(whole) / whole.length);
    const bound = limit.atLeast / slack;
    return ratio >= bound ? [] : [`${limit.figure}: ${ratio.toFixed(2)} of ${limit.per}, which is less than ${bound}`];
  });
}

/** All values of one figure in a few words. */
export function spread(values: readonly number[]): string {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number): string => (sorted[Math.floor(share * (sorted.length - 1))] as number).toFixed(0);
  return sorted.length === 1 ? at(0) : `min ${at(0)}, median ${at(0.5)}, max ${at(1)} (${sorted.length} times)`;
}
