/**
 * State nodes of the committed chain in memory, by name, over the database. Only committed nodes come in: their names
 * are unique, where two proposals for one height use the same names for different nodes.
 */
import { nodeKey, type NewNode, type NodeReader, type NodeRef } from '../../vm/state-tree/index.ts';

/**
 * Bytes of nodes in each of the two generations; with keys and objects about twice that. The upper pages of a tree of a
 * million records are some 40 MB: what blocks touch again and again stays in memory.
 */
const GENERATION_BYTES = 32 * 1024 * 1024;

const nameOf = (version: number, sequence: number): string => `${version}/${sequence}`;

/** The number of a node among those of its version: the last four bytes of its name. */
export function sequenceOf(name: Uint8Array): number {
  return new DataView(name.buffer, name.byteOffset, name.byteLength).getUint32(6);
}

export class NodeCache implements NodeReader {
  readonly #load: (name: Uint8Array) => Uint8Array | undefined;
  #young = new Map<string, Uint8Array>();
  #old = new Map<string, Uint8Array>();
  #youngBytes = 0;

  /** @param load reads a node from the database by its 10-byte name */
  constructor(load: (name: Uint8Array) => Uint8Array | undefined) {
    this.#load = load;
  }

  getNode(ref: NodeRef): Uint8Array | undefined {
    const name = nameOf(ref.version, ref.sequence);
    const young = this.#young.get(name);
    if (young !== undefined) return young;
    const found = this.#old.get(name) ?? this.#load(nodeKey(ref));
    if (found !== undefined) this.#put(name, found);
    return found;
  }

  /** Nodes of a block that has been committed, all of one version. */
  add(version: number, nodes: readonly NewNode[]): void {
    for (const { key, bytes } of nodes) {
      this.#put(nameOf(version, sequenceOf(key)), bytes);
    }
  }

  #put(name: string, bytes: Uint8Array): void {
    if (this.#youngBytes >= GENERATION_BYTES) {
      this.#old = this.#young;
      this.#young = new Map();
      this.#youngBytes = 0;
    }
    this.#young.set(name, bytes);
    this.#youngBytes += bytes.length;
  }
}
