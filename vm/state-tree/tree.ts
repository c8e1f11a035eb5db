/**
 * The tree in memory: stored nodes expanded into leaves and inner nodes, the rest left as references. What reads, writes
 * and proves goes over this. Expanded nodes belong to the one call that made them; nothing here is shared or kept.
 */

import { equalBytes } from '../../common/bytes.ts';
import { InvariantError } from '../../common/errors.ts';
import { innerHashAt, keyBit, leafHash } from '../../common/protocol/state-tree.ts';
import {
  describe,
  encodeRef,
  keyOf,
  type NodeReader,
  type NodeRef,
  openNode,
  openOuter,
  OUTER,
  outerAt,
  pageBit,
  pageChild,
  REF_HASH_AT,
  refAt,
  type RefSlot,
  type StoredNode,
  type StoredPage,
  valueOf,
} from './node.ts';

const HASH_BYTES = 32;

/** A stored node that was read, where its reference stands, and whether the tree has gone on without it. */
export interface Origin extends RefSlot {
  /** Null for a leaf. */
  readonly page: StoredPage | null;
  stale: boolean;
  /** Whether inner nodes have come into the page or gone from it: else a new one has the same, and other references. */
  reshaped: boolean;
}

/** Stored, and not read. Where its reference stands rather than the reference. */
export interface Stub extends RefSlot {
  readonly kind: 'stub';
}

export function stubOf(ref: NodeRef): Stub {
  return { kind: 'stub', bytes: encodeRef(ref), at: 0 };
}

export interface Leaf {
  readonly kind: 'leaf';
  readonly key: Uint8Array;
  value: Uint8Array;
  /** Where the hash stands, from `hashAt` on. Null until it is computed, and again after a change. */
  hash: Uint8Array | null;
  hashAt: number;
  origin: Origin | null;
}

export interface Inner {
  readonly kind: 'inner';
  readonly bit: number;
  /** Use `childOf`. */
  left: Child;
  right: Child;
  /** Where the hash stands, from `hashAt` on. Null until it is computed, and again after a change below. */
  hash: Uint8Array | null;
  hashAt: number;
  /** The page that it was read from, and its number there. */
  origin: Origin | null;
  readonly index: number;
}

export type Node = Stub | Leaf | Inner;

/**
 * A node, or what the page of its parent says of it (`pageChild`): most calls need one child of the eight of a page, and
 * objects for all of them would cost more than hashing.
 */
type Child = Node | number;

/**
 * Reads a stored node and expands it.
 * @param above the bit that the parent tests; -1 for the root. Bits grow downwards, so a walk ends whatever the disk says
 */
export function expand(reader: NodeReader, stub: Stub, above: number): Leaf | Inner {
  return expanded(openNode(reader, stub), stub.bytes, stub.at, above);
}

/** @param bytes array with the node's reference, from `at` on */
function expanded(node: StoredNode, bytes: Uint8Array, at: number, above: number): Leaf | Inner {
  const page = node.kind === 'leaf' ? null : node;
  const origin: Origin = { bytes, at, page, stale: false, reshaped: false };
  const hashAt = at + REF_HASH_AT;
  if (node.kind === 'leaf') {
    return { kind: 'leaf', key: keyOf(node), value: valueOf(node), hash: bytes, hashAt, origin };
  }
  const top = innerOf(origin, 0);
  if (top.bit <= above) throw new InvariantError(`${describe(refAt(bytes, at))}: bits out of order`);
  top.hash = bytes;
  top.hashAt = hashAt;
  return top;
}

/** An inner node of a page. */
function innerOf(origin: Origin, index: number): Inner {
  const page = origin.page as StoredPage;
  const left = pageChild(page, index, 0);
  const right = pageChild(page, index, 1);
  return { kind: 'inner', bit: pageBit(page, index), left, right, hash: null, hashAt: 0, origin, index };
}

/** `expand`, and hashes what was read: where the answer goes to someone who must be able to rely on every bit of it. */
export function expandHashed(reader: NodeReader, stub: Stub, above: number): Leaf | Inner {
  const node = expand(reader, stub, above);
  node.hash = null;
  const ref = refAt(stub.bytes, stub.at);
  if (!equalBytes(hashOf(node), ref.hash)) {
    throw new InvariantError(`${describe(ref)} is damaged: its hash is not what its parent says`);
  }
  return node;
}

/** Hash of a node, 32 bytes, computing what is not known below it, once. */
export function hashOf(node: Node): Uint8Array {
  const hash = hashIn(node);
  const start = hashStart(node);
  return hash.slice(start, start + HASH_BYTES);
}

/** The array with the hash of a node, from `hashStart` on. Recursion is bounded by the depth of the tree. */
export function hashIn(node: Node): Uint8Array {
  if (node.kind === 'stub') return node.bytes;
  if (node.hash !== null) return node.hash;
  node.hashAt = 0;
  if (node.kind === 'leaf') {
    node.hash = leafHash(node.key, node.value);
  } else {
    const [left, right] = [childOf(node, 0), childOf(node, 1)];
    const [leftHash, rightHash] = [hashIn(left), hashIn(right)];
    node.hash = innerHashAt(node.bit, leftHash, hashStart(left), rightHash, hashStart(right));
  }
  return node.hash;
}

/** Where the hash of a node begins in the array that holds it. */
export function hashStart(node: Node): number {
  return node.kind === 'stub' ? node.at + REF_HASH_AT : node.hashAt;
}

export function childOf(node: Inner, direction: 0 | 1): Node {
  const child = direction === 0 ? node.left : node.right;
  if (typeof child !== 'number') return child;
  const origin = node.origin as Origin;
  const page = origin.page as StoredPage;
  const opened: Node =
    (child & OUTER) === 0 ? innerOf(origin, child) : { kind: 'stub', bytes: page.bytes, at: outerAt(page, child) };
  setChild(node, direction, opened);
  return opened;
}

export function setChild(node: Inner, direction: 0 | 1, child: Node): void {
  if (direction === 0) node.left = child;
  else node.right = child;
}

type Expand = typeof expand;

/** The child of an inner node, expanded in its place. */
export function openChild(reader: NodeReader, node: Inner, direction: 0 | 1, how: Expand = expand): Leaf | Inner {
  const said = direction === 0 ? node.left : node.right;
  if (how === expand && typeof said === 'number' && (said & OUTER) !== 0) {
    const page = (node.origin as Origin).page as StoredPage;
    const found = expanded(openOuter(reader, page, said), page.bytes, outerAt(page, said), node.bit);
    setChild(node, direction, found);
    return found;
  }
  const child = childOf(node, direction);
  if (child.kind !== 'stub') return child;
  const opened = how(reader, child, node.bit);
  setChild(node, direction, opened);
  return opened;
}

/**
 * Searches for a key: the inner nodes on the way down, and the leaf where the search ends. If the key is in the tree, it
 * is that leaf's; if not, that leaf has the longest beginning in common with it that any has.
 */
export function search(
  reader: NodeReader,
  root: Leaf | Inner,
  key: Uint8Array,
  how: Expand = expand,
): { readonly path: Inner[]; readonly leaf: Leaf } {
  const path: Inner[] = [];
  let at = root;
  while (at.kind === 'inner') {
    path.push(at);
    at = openChild(reader, at, keyBit(key, at.bit), how);
  }
  return { path, leaf: at };
}
