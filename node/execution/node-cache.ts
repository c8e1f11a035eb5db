/**
 * State nodes of the committed chain in memory, checked and taken apart, over the database; and over those the new nodes of
 * blocks that are not committed yet. Only committed nodes come into the cache: their names are unique, where two
 * proposals for one height use the same names for different nodes.
 */
import {
  bytesOf,
  checkedNode,
  copyNode,
  nodeAt,
  nodeKey,
  outerAt,
  OUTER,
  type NewNode,
  type NodeReader,
  type NodeRef,
  type RefSlot,
  sequenceAt,
  Slab,
  type StoredNode,
  type StoredPage,
  versionAt,
} from '../../vm/state-tree/index.ts';
import { NodeTable } from './node-table.ts';

/**
 * Memory of each of the two generations. The upper pages of a tree of a million records are some 40 MB of bytes: what
 * blocks touch again and again stays in memory.
 */
const GENERATION_BYTES = 64 * 1024 * 1024;
/** What a node takes beside its bytes, as measured: an object, its places in the table and in its parent's page. */
const NODE_OBJECT_BYTES = 140;

export class NodeCache implements NodeReader {
  readonly #load: NodeReader;
  #young = new NodeTable();
  #old = new NodeTable();
  #slab = new Slab();
  #youngBytes = 0;

  /** @param load reads a node from the database by its 10-byte name */
  constructor(load: (name: Uint8Array) => Uint8Array | undefined) {
    this.#load = { getNode: (ref) => load(nodeKey(ref)) };
  }

  getNode(ref: NodeRef): Uint8Array | undefined {
    const { version, sequence } = ref;
    const kept = this.#young.get(version, sequence) ?? this.#old.get(version, sequence);
    return kept === undefined ? this.#load.getNode(ref) : bytesOf(kept);
  }

  openNode(slot: RefSlot): StoredNode {
    const version = versionAt(slot);
    const sequence = sequenceAt(slot);
    const young = this.#young.get(version, sequence);
    if (young !== undefined) return young;
    return this.#put(version, sequence, this.#old.get(version, sequence) ?? checkedNode(this.#load, slot));
  }

  /**
   * Pages remember their children. What a page of the young generation remembers is young as well, and a node that comes
   * over from the old one remembers nothing: so when the old generation goes, nothing holds any of it.
   */
  openChild(page: StoredPage, child: number): StoredNode {
    const index = child & ~OUTER;
    const known = page.opened?.[index];
    if (known !== undefined) return known;
    const found = this.openNode({ bytes: page.bytes, at: outerAt(page, child) });
    page.opened ??= new Array<StoredNode | undefined>(page.count + 1);
    page.opened[index] = found;
    return found;
  }

  /** Nodes of a block that has been committed, all of one version and in the order of their numbers. */
  add(version: number, nodes: readonly NewNode[]): void {
    nodes.forEach(({ bytes }, sequence) => this.#put(version, sequence, { bytes, at: 0, end: bytes.length }));
  }

  /**
   * Copied into memory of the young generation, which is freed with it: a node of the old one, or of a block, may be a part
   * of memory of which few nodes live on.
   */
  #put(version: number, sequence: number, { bytes, at, end }: Pick<StoredNode, 'bytes' | 'at' | 'end'>): StoredNode {
    if (this.#youngBytes >= GENERATION_BYTES) {
      this.#old = this.#young;
      this.#young = new NodeTable();
      this.#slab = new Slab();
      this.#youngBytes = 0;
    }
    const kept = copyNode(bytes, at, end, this.#slab);
    this.#young.set(version, sequence, kept);
    this.#youngBytes += end - at + NODE_OBJECT_BYTES;
    return kept;
  }
}

/** New nodes of blocks on top of others, which go on beneath. */
export class NewNodes implements NodeReader {
  readonly #beneath: NodeReader;
  /** By version; all from one height on. Bounded by the blocks that its owner executes ahead. */
  readonly #versions = new Map<number, readonly NewNode[]>();

  constructor(beneath: NodeReader) {
    this.#beneath = beneath;
  }

  /** @param nodes all that the block of this height has made, in the order of their numbers */
  add(version: number, nodes: readonly NewNode[]): this {
    this.#versions.set(version, nodes);
    return this;
  }

  getNode(ref: NodeRef): Uint8Array | undefined {
    const own = this.#versions.get(ref.version);
    return own === undefined ? this.#beneath.getNode(ref) : own[ref.sequence]?.bytes;
  }

  openNode(slot: RefSlot): StoredNode {
    const own = this.#versions.get(versionAt(slot))?.[sequenceAt(slot)];
    if (own !== undefined) return nodeAt(own.bytes, 0, own.bytes.length);
    return this.#beneath.openNode?.(slot) ?? checkedNode(this.#beneath, slot);
  }

  openChild(page: StoredPage, child: number): StoredNode {
    return this.openNode({ bytes: page.bytes, at: outerAt(page, child) });
  }
}
