/** A blob index in memory: what the node's database does, for suites that are about blobs and not about databases. */

import type { BlobIndex, IndexWrite } from '../../node/ipfs/blob-store.ts';

export class MemoryIndex implements BlobIndex {
  readonly #entries: Map<string, Uint8Array>;

  constructor(entries: ReadonlyMap<string, Uint8Array> = new Map()) {
    this.#entries = new Map(entries);
  }

  /** What a database would hold after a crash at this moment. */
  copy(): MemoryIndex {
    return new MemoryIndex(this.#entries);
  }

  get size(): number {
    return this.#entries.size;
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    return this.#entries.get(key);
  }

  async write(writes: readonly IndexWrite[]): Promise<void> {
    for (const write of writes) {
      if (write.kind === 'put') this.#entries.set(write.key, write.value);
      else this.#entries.delete(write.key);
    }
  }

  async list(prefix: string, limit: number, after?: string): Promise<{ key: string; value: Uint8Array }[]> {
    return [...this.#entries]
      .filter(([key]) => key.startsWith(prefix) && (after === undefined || key > after))
      .sort(([left], [right]) => (left < right ? -1 : 1))
      .slice(0, limit)
      .map(([key, value]) => ({ key, value }));
  }
}
