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

/** Moves the time of every clock that shares it: days pass in a moment, and timers that they cover fire. */
export class Leap {
  #offsetMs = 0;
  readonly clocks = new Set<MortalClock>();

  get offsetMs(): number {
    return this.#offsetMs;
  }

  by(ms: number): void {
    this.#offsetMs += ms;
    for (const clock of this.clocks) clock.leapt();
  }
}

/** Real time, from where the leap has brought it; once killed, no timer of it fires any more. */
export class MortalClock implements Clock {
  readonly #timers = new Map<() => void, { readonly atMs: number; readonly call: () => void }>();
  readonly #leap: Leap;
  readonly #skewMs: number;
  #dead = false;

  constructor(leap = new Leap(), skewMs = 0) {
    this.#leap = leap;
    this.#skewMs = skewMs;
    leap.clocks.add(this);
  }

  nowMs(): number {
    return systemClock.nowMs() + this.#leap.offsetMs + this.#skewMs;
  }

  after(delayMs: number, call: () => void): () => void {
    if (this.#dead) return () => {};
    const cancelReal = systemClock.after(delayMs, () => {
      this.#timers.delete(cancel);
      call();
    });
    const cancel = (): void => {
      this.#timers.delete(cancel);
      cancelReal();
    };
    this.#timers.set(cancel, { atMs: this.nowMs() + delayMs, call });
    return cancel;
  }

  /** Fires what the leap has made due, in order. */
  leapt(): void {
    const due = [...this.#timers].filter(([, { atMs }]) => atMs <= this.nowMs());
    for (const [cancel, { call }] of due.sort(([, a], [, b]) => a.atMs - b.atMs)) {
      if (!this.#timers.has(cancel)) continue;
      cancel();
      call();
    }
  }

  kill(): void {
    this.#dead = true;
    for (const cancel of [...this.#timers.keys()]) cancel();
    this.#leap.clocks.delete(this);
  }
}
