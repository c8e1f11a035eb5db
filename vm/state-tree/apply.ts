/**
 * Changing the tree: one sorted batch of writes, one new root, and the stored nodes that this makes and leaves behind.
 * Nothing is written: the caller stores the new nodes in the batch of their block, or throws the result away.
 */

import { compareBytes, equalBytes } from '../../common/bytes.ts';
import { assert } from '../../common/errors.ts';
import {
  criticalBit,
  EMPTY_STATE_ROOT,
  isStateKey,
  keyBit,
  MAX_STATE_VALUE_BYTES,
} from '../../common/protocol/state-tree.ts';
import type { StateWrite } from '../types.ts';
import { hashNodes } from './hash-nodes.ts';
import {
  bytesOf,
  EMPTY,
  encodeLeaf,
  encodePage,
  MAX_VERSION,
  type NewNode,
  type NodeReader,
  nodeKeyAt,
  type NodeName,
  OUTER,
  outerAt,
  pageChild,
  pageOfBit,
  type PageNode,
  placeRef,
  putRef,
  type RefSlot,
  rootAt,
  sealPage,
  sequenceAt,
  type StoredPage,
  type TreeRoot,
  versionAt,
} from './node.ts';
import { Slab } from './slab.ts';
import {
  childOf,
  expand,
  hashIn,
  hashStart,
  type Inner,
  type Leaf,
  type Node,
  type Origin,
  search,
  setChild,
  stubOf,
} from './tree.ts';

/** Writes of one batch: more than any block makes, and few enough that what they touch fits into memory. */
export const MAX_BATCH_WRITES = 1_000_000;

export interface AppliedWrites {
  readonly root: TreeRoot;
  /** 32 bytes. */
  readonly rootHash: Uint8Array;
  /** To be stored together with whatever makes `root` the current one. */
  readonly newNodes: readonly NewNode[];
  /**
   * Nodes of the old tree that the new one does not use: once no root older than this version is wanted, they can be
   * deleted.
   */
  readonly staleNodes: readonly NodeName[];
}

/** State root of a tree, 32 bytes. */
export function rootHashOf(root: TreeRoot): Uint8Array {
  return root === EMPTY ? EMPTY_STATE_ROOT : root.hash;
}

/**
 * Applies a batch. Every node that it touches is hashed once, whatever the number of writes below it. Writing the value
 * that is there, or deleting what is not, changes nothing.
 *
 * @param reader nodes of the tree under `root`
 * @param writes strictly ascending keys of 1 to 128 bytes; values of at most 64 KiB; null deletes
 * @param version height of the block, greater than that of any node of the tree
 * @param firstSequence for a tree that is put together in several batches of one version: as many nodes as they have made
 * @throws InvariantError for writes that break these rules, and for nodes that are missing or damaged
 */
export function applyWrites(
  reader: NodeReader,
  root: TreeRoot,
  writes: readonly StateWrite[],
  version: number,
  firstSequence = 0,
): AppliedWrites {
  assert(Number.isSafeInteger(version) && version >= 0 && version <= MAX_VERSION, 'state version out of range');
  const continues = firstSequence > 0 && root !== EMPTY && version === root.version;
  assert(root === EMPTY || version > root.version || continues, 'a state version must be greater than those before it');
  assert(writes.length <= MAX_BATCH_WRITES, 'too many state writes in one batch');
  const batch = new Batch(reader, root, version, firstSequence);
  let previous: Uint8Array | undefined;
  for (const { key, value } of writes) {
    assert(isStateKey(key), 'a state key has 1 to 128 bytes');
    assert(previous === undefined || compareBytes(previous, key) < 0, 'state writes must be sorted, each key once');
    previous = key;
    if (value === null) batch.remove(key);
    else batch.set(key, value);
  }
  return batch.finish();
}

class Batch {
  readonly #reader: NodeReader;
  readonly #version: number;
  readonly #firstSequence: number;
  readonly #newNodes: NewNode[] = [];
  readonly #stale: NodeName[] = [];
  readonly #slab = new Slab();
  /** Of references, kept as long as the keys of the new nodes. */
  readonly #refs = new Slab();
  #root: Node | null;

  constructor(reader: NodeReader, root: TreeRoot, version: number, firstSequence: number) {
    this.#reader = reader;
    this.#version = version;
    this.#firstSequence = firstSequence;
    this.#root = root === EMPTY ? null : stubOf(root);
  }

  set(key: Uint8Array, value: Uint8Array): void {
    assert(value.length <= MAX_STATE_VALUE_BYTES, 'a state value has at most 64 KiB');
    const root = this.#openRoot();
    if (root === null) {
      this.#root = newLeaf(key, value);
      return;
    }
    const { path, leaf } = search(this.#reader, root, key);
    const bit = criticalBit(leaf.key, key);
    if (bit !== -1) {
      this.#insert(path, key, value, bit);
    } else if (!equalBytes(leaf.value, value)) {
      this.#retire(leaf.origin);
      leaf.origin = null;
      leaf.value = value;
      leaf.hash = null;
      this.#touch(path);
    }
  }

  remove(key: Uint8Array): void {
    const root = this.#openRoot();
    if (root === null) return;
    const { path, leaf } = search(this.#reader, root, key);
    if (!equalBytes(leaf.key, key)) return;
    this.#retire(leaf.origin);
    const parent = path.pop();
    if (parent === undefined) {
      this.#root = null;
      return;
    }
    // An inner node has two children, always: the other one takes its place.
    this.#reshape(parent.origin);
    const sibling = childOf(parent, keyBit(key, parent.bit) === 0 ? 1 : 0);
    this.#attach(path, key, sibling);
  }

  /** Puts a new leaf where `bit` belongs among the bits of the path that a search for its key takes. */
  #insert(path: Inner[], key: Uint8Array, value: Uint8Array, bit: number): void {
    let depth = path.length;
    while (depth > 0 && (path[depth - 1] as Inner).bit > bit) depth--;
    const above = path.slice(0, depth);
    const parent = above.at(-1);
    const other = parent === undefined ? this.#openRoot() : childOf(parent, keyBit(key, parent.bit));
    assert(other !== null && other.kind !== 'stub', 'the search left its path unread');
    const leaf = newLeaf(key, value);
    const [left, right] = keyBit(key, bit) === 0 ? [leaf, other] : [other, leaf];
    this.#attach(above, key, { kind: 'inner', bit, left, right, hash: null, hashAt: 0, origin: null, index: 0 });
  }

  /** Makes `node` what the path leads to in the direction of `key`. */
  #attach(path: readonly Inner[], key: Uint8Array, node: Node): void {
    const parent = path.at(-1);
    if (parent === undefined) this.#root = node;
    else setChild(parent, keyBit(key, parent.bit), node);
    this.#touch(path);
    if (parent !== undefined) this.#reshape(parent.origin);
  }

  /** The page is left behind, and no other one has just its inner nodes. */
  #reshape(origin: Origin | null): void {
    if (origin !== null) origin.reshaped = true;
    this.#retire(origin);
  }

  #touch(path: readonly Inner[]): void {
    for (const node of path) {
      node.hash = null;
      this.#retire(node.origin);
    }
  }

  #retire(origin: Origin | null): void {
    if (origin === null || origin.stale) return;
    origin.stale = true;
    this.#stale.push({ version: versionAt(origin), sequence: sequenceAt(origin) });
  }

  #openRoot(): Leaf | Inner | null {
    if (this.#root?.kind === 'stub') this.#root = expand(this.#reader, this.#root, -1);
    return this.#root;
  }

  finish(): AppliedWrites {
    if (this.#root !== null) hashNodes(this.#root);
    const slot = this.#root === null ? null : this.#store(this.#root);
    const root = slot === null ? EMPTY : rootAt(slot);
    return { root, rootHash: rootHashOf(root), newNodes: this.#newNodes, staleNodes: this.#stale };
  }

  /** Stores what is new of a subtree, children first, and answers with the reference to it. */
  #store(node: Node): RefSlot {
    if (node.kind === 'stub') return node;
    const { origin } = node;
    if (node.kind === 'leaf') {
      if (origin !== null) return origin;
      const ref = this.#nextRef(node);
      return this.#add(ref, encodeLeaf(node.key, node.value, ref, this.#slab));
    }
    // A page in use begins with this node: whatever takes a node out of a page, or into another, retires the page.
    if (origin !== null && !origin.stale) return origin;
    const page = origin === null || origin.reshaped || node.index !== 0 ? null : origin.page;
    const bytes = page === null ? this.#newPage(node) : this.#likeBefore(node, page);
    const ref = this.#nextRef(node);
    sealPage(bytes, ref);
    return this.#add(ref, bytes);
  }

  /** What the next stored node is named, and its hash. */
  #nextRef(node: Leaf | Inner): RefSlot {
    const sequence = this.#firstSequence + this.#newNodes.length;
    const hash = hashIn(node);
    return placeRef({ version: this.#version, sequence }, hash, hashStart(node), this.#refs);
  }

  #add(ref: RefSlot, bytes: Uint8Array): RefSlot {
    this.#newNodes.push({ key: nodeKeyAt(ref), bytes });
    return ref;
  }

  /** The page that a node was read from, with the references that have changed. */
  #likeBefore(node: Inner, page: StoredPage): Uint8Array {
    const bytes = this.#slab.take(page.end - page.at);
    bytes.set(bytesOf(page));
    this.#putChanged(node, page, bytes);
    return bytes;
  }

  #putChanged(node: Inner, page: StoredPage, bytes: Uint8Array): void {
    for (const direction of [0, 1] as const) {
      const child = direction === 0 ? node.left : node.right;
      // What is not opened has not changed.
      if (typeof child === 'number' || child.kind === 'stub') continue;
      if (child.kind === 'inner' && child.origin?.page === page) {
        this.#putChanged(child, page, bytes);
      } else {
        const outer = pageChild(page, node.index, direction);
        putRef(bytes, outerAt(page, outer) - page.at, this.#store(child));
      }
    }
  }

  #newPage(node: Inner): Uint8Array {
    const nodes: PageNode[] = [];
    const outer: RefSlot[] = [];
    this.#place(node, pageOfBit(node.bit), nodes, outer);
    return encodePage(nodes, outer, this.#slab);
  }

  /**
   * Puts into a page the inner nodes that hang together and test bits of that page. An insertion can bring the top of
   * another page in here: then that page is no longer used, though no bit of it changed.
   */
  #place(node: Node, page: number, nodes: PageNode[], outer: RefSlot[]): number {
    if (node.kind === 'inner' && pageOfBit(node.bit) === page) {
      this.#retire(node.origin);
      const index = nodes.length;
      const placed: PageNode = { bit: node.bit, left: 0, right: 0 };
      nodes.push(placed);
      placed.left = this.#place(childOf(node, 0), page, nodes, outer);
      placed.right = this.#place(childOf(node, 1), page, nodes, outer);
      return index;
    }
    outer.push(this.#store(node));
    return OUTER | (outer.length - 1);
  }
}

function newLeaf(key: Uint8Array, value: Uint8Array): Leaf {
  return { kind: 'leaf', key, value, hash: null, hashAt: 0, origin: null };
}
