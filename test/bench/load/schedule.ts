/**
 * When transactions are due and whose they are: drawn from a seed before anything runs, so that what the network does
 * cannot change the load (open loop), and the same seed gives the same load.
 */
import type { Prng } from '../../sim/prng.ts';

/** From above 0 to 1. */
const unit = (random: Prng): number => (random.uint32() + 1) / 2 ** 32;

/**
 * Poisson arrivals: offsets from the start in milliseconds, ascending, all below `seconds`.
 * @param ratePerSecond mean of arrivals
 */
export function arrivals(ratePerSecond: number, seconds: number, random: Prng): Float64Array {
  const times: number[] = [];
  const meanGapMs = 1_000 / ratePerSecond;
  for (let atMs = 0; ;) {
    atMs -= Math.log(unit(random)) * meanGapMs;
    if (atMs >= seconds * 1_000) return Float64Array.from(times);
    times.push(atMs);
  }
}

/** Draws 0 … n − 1, the k-th with a probability that falls as 1 / k^exponent. */
export function zipf(n: number, exponent: number, random: Prng): () => number {
  const sums = new Float64Array(n);
  let sum = 0;
  for (let k = 0; k < n; k += 1) {
    sum += (k + 1) ** -exponent;
    sums[k] = sum;
  }
  return () => {
    const wanted = unit(random) * sum;
    let [low, high] = [0, n - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((sums[middle] as number) < wanted) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}
