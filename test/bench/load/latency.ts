/**
 * Latencies in an HDR histogram: microseconds up to ten minutes, three digits. A latency begins when the transaction was
 * due, not when it was sent: a sender that was held up must not hide what it did not send (coordinated omission).
 */
import { build, type Histogram } from 'hdr-histogram-js';

const HIGHEST_US = 600_000_000;
const DIGITS = 3;

export interface Percentiles {
  readonly count: number;
  readonly meanMs: number;
  readonly p50Ms: number;
  readonly p90Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
  readonly maxMs: number;
}

export class Latencies {
  readonly #histogram: Histogram = build({
    bitBucketSize: 64,
    lowestDiscernibleValue: 1,
    highestTrackableValue: HIGHEST_US,
    numberOfSignificantValueDigits: DIGITS,
  });

  /** @param ms below zero counts as zero, beyond ten minutes as ten minutes */
  record(ms: number): void {
    this.#histogram.recordValue(Math.min(HIGHEST_US, Math.max(0, Math.round(ms * 1_000))));
  }

  percentiles(): Percentiles {
    const at = (percent: number): number => this.#histogram.getValueAtPercentile(percent) / 1_000;
    const { totalCount: count } = this.#histogram;
    const known = (value: number): number => (count === 0 ? Number.NaN : value);
    return {
      count,
      meanMs: known(this.#histogram.mean / 1_000),
      p50Ms: known(at(50)),
      p90Ms: known(at(90)),
      p99Ms: known(at(99)),
      p999Ms: known(at(99.9)),
      maxMs: known(this.#histogram.maxValue / 1_000),
    };
  }
}
