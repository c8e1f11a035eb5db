/**
 * Which keys have tables, and where. A table costs as much to build as one verification saves three times over, so it is built when
 * a key comes back; what it may take is bounded, so that a flood of new keys costs time and not memory.
 */

import { assert } from '../../errors.ts';

/** Keys that were seen once, for each of two generations: about 100 bytes each. */
const SEEN_KEYS_LIMIT = 8_192;

export class KnownKeys {
  readonly #slots = new Map<string, number>();
  /** By slot: its key, and whether it was used since the hand last came by. */
  readonly #names: string[] = [];
  readonly #used: Uint8Array;
  readonly #limit: number;
  #hand = 0;
  #seen = new Set<string>();
  #seenBefore = new Set<string>();

  /** @param limit number of slots, at least 1 */
  constructor(limit: number) {
    assert(Number.isInteger(limit) && limit >= 1, 'KnownKeys: no room for a key');
    this.#limit = limit;
    this.#used = new Uint8Array(limit);
  }

  /** The slot of a key that has one. */
  find(name: string): number | undefined {
    const slot = this.#slots.get(name);
    if (slot !== undefined) this.#used[slot] = 1;
    return slot;
  }

  /** Whether this key was noted before. Old notes are forgotten. */
  hasSeen(name: string): boolean {
    return this.#seen.has(name) || this.#seenBefore.has(name);
  }

  note(name: string): void {
    if (this.#seen.size >= SEEN_KEYS_LIMIT) {
      this.#seenBefore = this.#seen;
      this.#seen = new Set();
    }
    this.#seen.add(name);
  }

  /** A slot for a key that has none: a free one, or that of a key that was not used for a while (second chance). */
  take(name: string): number {
    const slot = this.#names.length < this.#limit ? this.#names.length : this.#leastUsed();
    const old = this.#names[slot];
    if (old !== undefined) this.#slots.delete(old);
    this.#names[slot] = name;
    this.#slots.set(name, slot);
    this.#used[slot] = 0;
    return slot;
  }

  /** At most one round: the hand takes away the mark of each that it passes. */
  #leastUsed(): number {
    for (;;) {
      const slot = this.#hand;
      this.#hand = (slot + 1) % this.#limit;
      if (this.#used[slot] === 0) return slot;
      this.#used[slot] = 0;
    }
  }
}
