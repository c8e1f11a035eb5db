/**
 * How long a leader waits for more before it proposes. A block costs each replica some 10 ms whatever is in it. While many come,
 * blocks that follow each other at once hold few transactions each and take all of a machine, so that each of them takes long: a
 * short rest makes them fewer, and those who wait are served no later. Pure: the caller has the clock.
 */
import type { TimeMs } from '../../common/protocol/primitives.ts';

/** Of the time that the last block took, at most. */
const REST_SHARE = 1 / 2;
/** However long that was. */
export const LONGEST_REST_MS = 60;
/** The rest is as much shorter as the last block had fewer transactions: while few come, nobody waits for others. */
const FULL_REST_FROM_TXS = 8;

export class Pace {
  #committedMs: TimeMs = 0;
  #tookMs = 0;
  #transactions = 0;

  /** A block became the head. */
  committed(transactions: number, nowMs: TimeMs): void {
    this.#tookMs = Math.max(0, nowMs - this.#committedMs);
    this.#committedMs = nowMs;
    this.#transactions = transactions;
  }

  /** How long to rest from now on; 0 for not at all. A clock that jumps makes no rest longer. */
  restMs(nowMs: TimeMs): number {
    const load = Math.min(1, this.#transactions / FULL_REST_FROM_TXS);
    const restMs = Math.min(LONGEST_REST_MS, this.#tookMs * REST_SHARE) * load;
    return Math.max(0, Math.min(restMs, this.#committedMs + restMs - nowMs));
  }
}
