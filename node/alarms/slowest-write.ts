/** The slowest synced write of the last minute: every vote waits for one. */
import type { TimeMs } from '../../common/protocol/primitives.ts';
import type { Clock } from '../clock.ts';

const REMEMBERED_MS = 60_000;

export class SlowestWrite {
  readonly #clock: Clock;
  #slowest: { readonly durationMs: number; readonly atMs: TimeMs } | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  note(durationMs: number): void {
    if (durationMs >= this.durationMs) this.#slowest = { durationMs, atMs: this.#clock.nowMs() };
  }

  /** 0 if there was none. */
  get durationMs(): number {
    const slowest = this.#slowest;
    return slowest === null || this.#clock.nowMs() - slowest.atMs > REMEMBERED_MS ? 0 : slowest.durationMs;
  }
}
