/**
 * State nodes by name, without a number or text made for each look-up, and with no structure for each version: of one, all
 * nodes are kept, of another a single one. Open addressing: a name stands at the first free slot from its own on.
 */
import type { StoredNode } from '../../vm/state-tree/index.ts';

/** Beyond these, which no chain soon reaches, a name is a text: as a number it would not be exact. */
const SEQUENCES = 2 ** 26;
const VERSIONS = 2 ** 27;

const FIRST_SLOTS = 1_024;
/** Of so many slots, so many are taken at most: searches stay short. */
const FILL_OF = 8;
const FILL = 5;

export class NodeTable {
  /** Of a slot, its name and one; 0 where it is free. */
  #names = new Float64Array(FIRST_SLOTS);
  #nodes = new Array<StoredNode | undefined>(FIRST_SLOTS).fill(undefined);
  #taken = 0;
  readonly #far = new Map<string, StoredNode>();

  get(version: number, sequence: number): StoredNode | undefined {
    if (version >= VERSIONS || sequence >= SEQUENCES) return this.#far.get(farName(version, sequence));
    const slot = slotOf(this.#names, version, sequence);
    return this.#nodes[slot];
  }

  /** In place of the one of this name, if there is one. None can be taken out. */
  set(version: number, sequence: number, node: StoredNode): void {
    if (version >= VERSIONS || sequence >= SEQUENCES) {
      this.#far.set(farName(version, sequence), node);
      return;
    }
    if (this.#taken * FILL_OF >= this.#names.length * FILL) this.#grow();
    const slot = slotOf(this.#names, version, sequence);
    if (this.#names[slot] === 0) this.#taken += 1;
    this.#names[slot] = version * SEQUENCES + sequence + 1;
    this.#nodes[slot] = node;
  }

  #grow(): void {
    const slots = this.#names.length * 2;
    const names = new Float64Array(slots);
    const nodes = new Array<StoredNode | undefined>(slots).fill(undefined);
    for (const [at, stored] of this.#names.entries()) {
      if (stored === 0) continue;
      const version = Math.floor((stored - 1) / SEQUENCES);
      const slot = slotOf(names, version, stored - 1 - version * SEQUENCES);
      names[slot] = stored;
      nodes[slot] = this.#nodes[at];
    }
    this.#names = names;
    this.#nodes = nodes;
  }
}

const farName = (version: number, sequence: number): string => `${version}/${sequence}`;

/** Where a name is, or would be. One slot at least is free. */
function slotOf(names: Float64Array, version: number, sequence: number): number {
  const stored = version * SEQUENCES + sequence + 1;
  const mask = names.length - 1;
  let slot = scattered(version, sequence) & mask;
  for (;;) {
    const found = names[slot];
    if (found === stored || found === 0) return slot;
    slot = (slot + 1) & mask;
  }
}

/** Eight nodes that a block made one after the other stand together: they are often read together. */
function scattered(version: number, sequence: number): number {
  const mixed = Math.imul(version, 0x9e37_79b1) ^ Math.imul(sequence >>> 3, 0x85eb_ca6b);
  const more = Math.imul(mixed ^ (mixed >>> 15), 0x2c1b_3c6d);
  return ((more ^ (more >>> 13)) << 3) | (sequence & 7);
}
