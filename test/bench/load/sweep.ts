/** Loads of growing rates, up to where a network is saturated, told of while they run. */
import type { Loaded } from './loaded-network.ts';

const LEAST_RATE = 200;
const STEP_FACTOR = 1.6;
const MAX_STEPS = 9;
/** The load rises as long as that brings this much more: blocks that carry more cost less for each transaction. */
const GAIN = 1.05;
const FRUITLESS_STEPS = 2;

/** To whoever waits; the report goes elsewhere. */
export const say = (text: string): void => void process.stderr.write(`${text}\n`);

/** Rates that grow until more load brings no more commits, or those that were asked for. */
export async function sweep(
  run: (ratePerSecond: number) => Promise<Loaded | null>,
  rates: readonly number[] | null,
): Promise<readonly Loaded[]> {
  const steps: Loaded[] = [];
  let [best, fruitless] = [0, 0];
  for (let step = 0; step < (rates?.length ?? MAX_STEPS) && fruitless < FRUITLESS_STEPS; step += 1) {
    const done = told(await run(rates?.[step] ?? LEAST_RATE * STEP_FACTOR ** step));
    if (done === null) break;
    steps.push(done);
    fruitless = rates !== null || done.committedPerSecond > GAIN * best ? 0 : fruitless + 1;
    best = Math.max(best, done.committedPerSecond);
  }
  if (steps.length === 0) throw new Error('nothing was measured');
  return steps;
}

export function told(loaded: Loaded | null): Loaded | null {
  if (loaded === null) {
    say('  too little is prepared for more');
    return null;
  }
  const { ratePerSecond, committedPerSecond, latency, cpuUsPerTx, refused, lost, loadCores, validatorCores } = loaded;
  const refusals = Object.entries(refused).map(([code, count]) => `, ${count} ${code}`);
  say(
    `  offered ${ratePerSecond.toFixed(0)}/s, committed ${committedPerSecond.toFixed(0)}/s, p50 ${latency.p50Ms.toFixed(0)} ms, ` +
      `p99 ${latency.p99Ms.toFixed(0)} ms, ${cpuUsPerTx.toFixed(0)} us/tx, cores ${validatorCores.toFixed(2)} + ${loadCores.toFixed(2)}` +
      `${refusals.join('')}${lost > 0 ? `, ${lost} LOST` : ''}`,
  );
  if (lost > 0) throw new Error(`${lost} transactions were accepted and are in no block`);
  return loaded;
}
