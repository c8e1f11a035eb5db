/** A clock that the test moves, and one that runs until it is stopped as a crash would. */
import { type Clock, systemClock } from '../../node/clock.ts';

export class ManualClock implements Clock {
  #nowMs: number;
  #timers: { readonly atMs: number; readonly call: () => void }[] = [];

  constructor(nowMs: number) {
    this.#nowMs = nowMs;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  after(delayMs: number, call: () => void): () => void {
    const timer = { atMs: this.#nowMs + delayMs, call };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  /** Moves on, and fires on the way what is due, in order. */
  advance(byMs: number): void {
    const untilMs = this.#nowMs + byMs;
    for (;;) {
      const due = this.#timers.filter((timer) => timer.atMs <= untilMs);
      const next = due.sort((a, b) => a.atMs - b.atMs)[0];
      if (next === undefined) break;
      this.#timers = this.#timers.filter((other) => other !== next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.call();
    }
    this.#nowMs = untilMs;
  }
}

/** Real time; once killed, no timer of it fires any more. */
export class MortalClock implements Clock {
  readonly #cancels = new Set<() => void>();
  #dead = false;

  nowMs(): number {
    return systemClock.nowMs();
  }

  after(delayMs: number, call: () => void): () => void {
    if (this.#dead) return () => {};
    const cancel = systemClock.after(delayMs, () => {
      this.#cancels.delete(cancel);
      call();
    });
    this.#cancels.add(cancel);
    return () => {
      this.#cancels.delete(cancel);
      cancel();
    };
  }

  kill(): void {
    this.#dead = true;
    for (const cancel of this.#cancels) cancel();
    this.#cancels.clear();
  }
}
