/**
 * Memory for the bytes of new nodes. An array of its own for each costs more than what is written into it, and then the
 * garbage collector: they are cut from longer ones. Whoever keeps a few nodes of many for long copies them.
 */

/** Some fifty nodes: what one that is kept holds in memory at most. */
const SLAB_BYTES = 16 * 1024;

export class Slab {
  #buffer = new ArrayBuffer(0);
  #at = 0;

  /** So many bytes of zero that nobody else has. */
  take(lengthBytes: number): Uint8Array {
    if (lengthBytes > SLAB_BYTES / 2) return new Uint8Array(lengthBytes);
    if (this.#at + lengthBytes > this.#buffer.byteLength) {
      this.#buffer = new ArrayBuffer(SLAB_BYTES);
      this.#at = 0;
    }
    const bytes = new Uint8Array(this.#buffer, this.#at, lengthBytes);
    this.#at += lengthBytes;
    return bytes;
  }
}
