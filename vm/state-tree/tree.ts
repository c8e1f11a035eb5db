/**
 * The tree in memory: stored nodes expanded into leaves and inner nodes, the rest left as references. What reads, writes
 * and proves goes over this. Expanded nodes belong to the one call that made them; nothing here is shared or kept.
 */

import { equalBytes } from '../../common/bytes.ts';
import { assert } from '../../common/errors.ts';
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

/** A stored node that was read, and whether the tree has gone on without it. */
export interface Origin {
  readonly ref: NodeRef;
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
  /** Null until it is computed, and again after a change. */
  hash: Uint8Array | null;
  origin: Origin | null;
}

export interface Inner {
  readonly kind: 'inner';
  readonly bit: number;
  /** Use `childOf`. */
  left: Child;
  right: Child;
  /** Null until it is computed, and again after a change below. */
  hash: Uint8Array | null;
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
  return expanded(openNode(reader, stub), refAt(stub.bytes, stub.at), above);
}

function expanded(node: StoredNode, ref: NodeRef, above: number): Leaf | Inner {
  const origin: Origin = { ref, page: node.kind === 'leaf' ? null : node, stale: false, reshaped: false };
  if (node.kind === 'leaf') return { kind: 'leaf', key: keyOf(node), value: valueOf(node), hash: ref.hash, origin };
  const top = innerOf(origin, 0);
  assert(top.bit > above, `${describe(ref)}: bits out of order`);
  top.hash = ref.hash;
  return top;
}

/** An inner node of a page. */
function innerOf(origin: Origin, index: number): Inner {
  const page = origin.page as StoredPage;
  const left = pageChild(page, index, 0);
  const right = pageChild(page, index, 1);
  return { kind: 'inner', bit: pageBit(page, index), left, right, hash: null, origin, index };
}

/** `expand`, and hashes what was read: where the answer goes to someone who must be able to rely on every bit of it. */
export function expandHashed(reader: NodeReader, stub: Stub, above: number): Leaf | Inner {
  const node = expand(reader, stub, above);
  const known = node.hash;
  node.hash = null;
  const hash = hashOf(node);
  const { ref } = node.origin as Origin;
  assert(
    known !== null && equalBytes(hash, known),
    `${describe(ref)} is damaged: its hash is not what its parent says`,
  );
  return node;
}

/** Hash of a node, computing what is not known below it, once. Recursion is bounded by the depth of the tree. */
export function hashOf(node: Node): Uint8Array {
  if (node.kind === 'stub') return refAt(node.bytes, node.at).hash;
  if (node.hash !== null) return node.hash;
  if (node.kind === 'leaf') {
    node.hash = leafHash(node.key, node.value);
  } else {
    const { bit } = node;
    const [left, right] = [childOf(node, 0), childOf(node, 1)];
    const leftHash = left.kind === 'stub' ? left.bytes : hashOf(left);
    const rightHash = right.kind === 'stub' ? right.bytes : hashOf(right);
    node.hash = innerHashAt(bit, leftHash, hashStart(left), rightHash, hashStart(right));
  }
  return node.hash;
}

/** Where the hash of a node begins in the array that holds it. */
function hashStart(node: Node): number {
  return node.kind === 'stub' ? node.at + REF_HASH_AT : 0;
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
    const ref = refAt(page.bytes, outerAt(page, said));
    const found = expanded(openOuter(reader, page, said), ref, node.bit);
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
