/**
 * Memory for the bytes of nodes. An array of its own for each costs more than what is written into it, and then the
 * garbage collector: they are cut from longer ones. Whoever keeps a few nodes of many for long copies them.
 */

/** Some fifty nodes: what one that is kept holds in memory at most. */
const SLAB_BYTES = 16 * 1024;

export class Slab {
  #bytes = new Uint8Array(0);
  #at = 0;

  /** So many bytes of zero that nobody else has: an array that they share with others, and where they begin in it. */
  place(lengthBytes: number): { readonly bytes: Uint8Array; readonly at: number } {
    if (lengthBytes > SLAB_BYTES / 2) return { bytes: new Uint8Array(lengthBytes), at: 0 };
    if (this.#at + lengthBytes > this.#bytes.length) {
      this.#bytes = new Uint8Array(SLAB_BYTES);
      this.#at = 0;
    }
    const at = this.#at;
    this.#at += lengthBytes;
    return { bytes: this.#bytes, at };
  }

  /** The same as a view. */
  take(lengthBytes: number): Uint8Array {
    const { bytes, at } = this.place(lengthBytes);
    return new Uint8Array(bytes.buffer, at, lengthBytes);
  }
}
