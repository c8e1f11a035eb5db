/** So many in each second of somebody's clock. */
import type { TimeMs } from '../../common/protocol/primitives.ts';

export class RateLimit {
  readonly #perSecond: number;
  #windowStartMs = 0;
  #inWindow = 0;

  constructor(perSecond: number) {
    this.#perSecond = perSecond;
  }

  admits(nowMs: TimeMs): boolean {
    if (nowMs - this.#windowStartMs >= 1000 || nowMs < this.#windowStartMs) {
      this.#windowStartMs = nowMs;
      this.#inWindow = 0;
    }
    this.#inWindow += 1;
    return this.#inWindow <= this.#perSecond;
  }
}
