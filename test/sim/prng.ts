/** Seeded pseudo-random numbers (splitmix32): the only source of chance in the simulator, so that a seed repeats a run. */
export class Prng {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** An integer from 0 to 2^32 - 1. */
  uint32(): number {
    this.#state = (this.#state + 0x9e3779b9) | 0;
    let z = this.#state;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return (z ^ (z >>> 16)) >>> 0;
  }

  /** An integer from `min` to `max`, both included. */
  between(min: number, max: number): number {
    return min + (this.uint32() % (max - min + 1));
  }

  /** True in `perMille` of 1,000 cases. */
  chance(perMille: number): boolean {
    return this.uint32() % 1000 < perMille;
  }

  bytes(count: number): Uint8Array {
    return Uint8Array.from({ length: count }, () => this.between(0, 255));
  }

  pick<T>(items: readonly T[]): T {
    return items[this.between(0, items.length - 1)] as T;
  }

  shuffled<T>(items: readonly T[]): T[] {
    const copy = [...items];
    for (let i = copy.length - 1; i > 0; i -= 1) {
      const j = this.between(0, i);
      [copy[i], copy[j]] = [copy[j] as T, copy[i] as T];
    }
    return copy;
  }

  /** An independent stream, so that one part drawing more does not shift another. */
  fork(label: number): Prng {
    return new Prng(this.uint32() ^ Math.imul(label + 1, 0x27d4eb2f));
  }
}
