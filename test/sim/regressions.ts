/** Seeds that once found something: they run first, for as long as the simulator draws the same from them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export const REGRESSIONS = join(import.meta.dirname, 'regressions.txt');

/** One seed at the beginning of each line; what follows it is for people. Lines that begin with # are comments. */
export function readRegressions(): readonly number[] {
  const lines = readFileSync(REGRESSIONS, 'utf8').split('\n');
  return lines.flatMap((line) => {
    const seed = /^seed (\d+)/.exec(line)?.[1];
    return seed === undefined ? [] : [Number(seed)];
  });
}
