/** A scenario as a test: its figures are comments, and whatever it must show is an assertion. */
import t from 'tap';
import { scenarios } from './catalogue.ts';
import { play } from './play.ts';

/**
 * A machine that runs the tests may be busy with other things: limits of time are four times those that the scenario
 * names, and ratios a quarter. `npm run scenarios` holds them to the letter; docs/resilience.md says what was seen.
 */
const SLACK = 4;
const FILE_DEADLINE_MS = 290_000;

/** @param count of what the scenario does many times */
export function testScenario(name: string, count: number | null = null): void {
  const scenario = scenarios(1, count)[name];
  if (scenario === undefined) throw new Error(`there is no scenario ${name}`);
  t.setTimeout(FILE_DEADLINE_MS);
  void t.test(scenario.name, { timeout: FILE_DEADLINE_MS }, async (t) => {
    const { failures } = await play(scenario, { slack: SLACK, say: (text) => t.comment(text) });
    t.same(failures, []);
  });
}
