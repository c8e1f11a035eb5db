/**
 * The simulator notices: cores and hosts with deliberate defects are caught by random runs, not by seeds made for them. Those
 * that take many seeds are for `npm run sim -- --weakness NAME`; unit tests catch them sooner.
 */
import t from 'tap';
import { runSeeds } from './seed-runner.ts';
import { WEAKNESSES } from './weaknesses.ts';

const MAX_SEEDS = 500;

for (const { name, patches, catches } of WEAKNESSES.filter((w) => w.catches.withinSeeds <= MAX_SEEDS)) {
  t.test(name, { timeout: 200_000 }, async (t) => {
    let tried = 0;
    let caught: string | null = null;
    const seeds = Array.from({ length: catches.withinSeeds }, (_, i) => i + 1);
    await runSeeds(seeds, 2, { patches, options: {} }, ({ seed, violation }) => {
      tried += 1;
      if (violation === null || !catches.as.test(violation)) return false;
      caught = `seed ${seed}: ${violation}`;
      return true;
    });
    t.ok(caught, `${String(caught)} (${tried} seeds tried)`);
  });
}
