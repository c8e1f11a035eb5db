/**
 * Virtual time and the network between nodes: loss, duplication, reordering, delay, floods, partitions, links that carry in
 * one direction only or slowly; all from the seed. Nothing in here knows about consensus.
 */
import type { Verdict } from '../../common/errors.ts';
import type { SignedMessage } from '../../consensus/messages.ts';
import type { Verified } from '../../consensus/types.ts';
import { Prng } from './prng.ts';

export interface NetworkWeather {
  /** In 1,000 messages. */
  readonly lossPerMille: number;
  readonly duplicatePerMille: number;
  readonly minDelayMs: number;
  readonly maxDelayMs: number;
  /** In 1,000 messages, and how late those are. */
  readonly slowPerMille: number;
  readonly slowDelayMs: number;
}

export const FAIR_WEATHER: NetworkWeather = {
  lossPerMille: 0,
  duplicatePerMille: 0,
  minDelayMs: 1,
  maxDelayMs: 5,
  slowPerMille: 0,
  slowDelayMs: 0,
};

interface Scheduled {
  readonly atMs: number;
  readonly sequence: number;
  readonly run: () => void;
}

/** What travels: its bytes, and what decoding and verifying them against one set gave: the same for all who have that set. */
export interface Parcel {
  readonly bytes: Uint8Array;
  opened?: { readonly against: Uint8Array; readonly verdict: Verdict<Verified<SignedMessage>> };
}

/** Whether the message passes. */
export type Filter = (from: number, to: number, message: SignedMessage) => boolean;

export class World {
  readonly prng: Prng;
  nowMs = 1_000_000;
  weather: NetworkWeather = FAIR_WEATHER;
  filter: Filter | null = null;
  /** Nodes in different cells do not hear each other; absent means no partition. */
  cells: readonly number[] | null = null;
  /** Links `from * 64 + to` that carry nothing; the other direction may still work. */
  readonly cutLinks = new Set<number>();
  /** Links that take this many milliseconds more. */
  readonly slowLinks = new Map<number, number>();
  /** Copies of each message, beside those that `duplicatePerMille` makes. */
  copies = 1;
  /** Running hash of everything that happened: equal for equal seeds. */
  trace = 0;
  deliveries = 0;
  #sequence = 0;
  readonly #heap: Scheduled[] = [];

  constructor(seed: number) {
    this.prng = new Prng(seed);
  }

  note(value: number): void {
    this.trace = (Math.imul(this.trace ^ (value >>> 0), 0x01000193) + this.nowMs) >>> 0;
  }

  after(delayMs: number, run: () => void): void {
    this.#push({ atMs: this.nowMs + delayMs, sequence: (this.#sequence += 1), run });
  }

  /** Carries something from one node to another as the weather lets it; `deliver` may run never, once or twice. */
  carry(from: number, to: number, deliver: () => void): void {
    const { weather, prng } = this;
    if (prng.chance(weather.lossPerMille)) return;
    const copies = this.copies + (prng.chance(weather.duplicatePerMille) ? 1 : 0);
    const lateMs = this.slowLinks.get(linkOf(from, to)) ?? 0;
    for (let copy = 0; copy < copies; copy += 1) {
      const slowMs = prng.chance(weather.slowPerMille) ? prng.between(0, weather.slowDelayMs) : 0;
      this.after(prng.between(weather.minDelayMs, weather.maxDelayMs) + slowMs + lateMs, () => {
        if (!this.connected(from, to)) return;
        this.deliveries += 1;
        this.note(linkOf(from, to));
        deliver();
      });
    }
  }

  connected(from: number, to: number): boolean {
    if (this.cutLinks.size > 0 && this.cutLinks.has(linkOf(from, to))) return false;
    return this.cells === null || this.cells[from] === this.cells[to];
  }

  /** All links carry again, at their own speed. */
  heal(): void {
    this.weather = FAIR_WEATHER;
    this.cells = null;
    this.cutLinks.clear();
    this.slowLinks.clear();
    this.copies = 1;
    this.filter = null;
  }

  /** Runs what is scheduled until `untilMs`, or until `done` says so after an event. Whether it was done. */
  run(untilMs: number, done: () => boolean = () => false): boolean {
    if (done()) return true;
    for (;;) {
      const next = this.#heap[0];
      if (next === undefined || next.atMs > untilMs) {
        this.nowMs = untilMs;
        return done();
      }
      this.#pop();
      this.nowMs = next.atMs;
      next.run();
      if (done()) return true;
    }
  }

  #push(item: Scheduled): void {
    const heap = this.#heap;
    let at = heap.push(item) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (before(heap[parent] as Scheduled, item)) break;
      heap[at] = heap[parent] as Scheduled;
      at = parent;
    }
    heap[at] = item;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop() as Scheduled;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1] as Scheduled, heap[child] as Scheduled)) child += 1;
      if (before(last, heap[child] as Scheduled)) break;
      heap[at] = heap[child] as Scheduled;
      at = child;
    }
    heap[at] = last;
  }
}

export const linkOf = (from: number, to: number): number => from * 64 + to;

const before = (a: Scheduled, b: Scheduled): boolean =>
  a.atMs < b.atMs || (a.atMs === b.atMs && a.sequence < b.sequence);
