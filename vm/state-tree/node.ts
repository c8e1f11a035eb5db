/**
 * Stored nodes of the state tree: how they are named, what their bytes are, and how they are read back.
 *
 * Two kinds are stored. A leaf holds one entry, value included. A page holds inner nodes that hang together, up to 7 of
 * them, so that a lookup reads a third of what it passes. Pages are a matter of storage alone: root hashes do not know
 * them, and another layout may follow without a change of any root.
 *
 * Nodes are never changed. No hashing of state here, and nothing about how trees change.
 */

import { readU16be, readU32be, writeU32be } from '../../common/bytes.ts';
import { assert, InvariantError } from '../../common/errors.ts';
import type { Slab } from './slab.ts';
import {
  keyBit,
  MAX_CRITICAL_BIT,
  MAX_STATE_KEY_BYTES,
  MAX_STATE_VALUE_BYTES,
} from '../../common/protocol/state-tree.ts';

/** Names a stored node. */
export interface NodeName {
  /** Height of the block that wrote the node. */
  readonly version: number;
  /** Its number among the nodes of that version. */
  readonly sequence: number;
}

/** Names a stored node, and says what it must be: `hash` is that of the leaf or of the topmost inner node of the page. */
export interface NodeRef extends NodeName {
  /** 32 bytes. */
  readonly hash: Uint8Array;
}

/** A stored reference within its array. */
export interface RefSlot {
  readonly bytes: Uint8Array;
  readonly at: number;
}

/** The root of a tree without entries, which has no node. */
export const EMPTY = null;
export type TreeRoot = NodeRef | typeof EMPTY;

/**
 * Where nodes come from: overlay over cache over database. Bytes are as they were stored and must not change afterwards.
 * Two blocks proposed for one height use the same names for different nodes: a cache must go by `hash` as well.
 */
export interface NodeReader {
  getNode(ref: NodeRef): Uint8Array | undefined;
  /**
   * Where nodes are kept that were checked when they came from the database: the node of a reference, as `openNode` gives it.
   * Without this, each read checks anew.
   */
  openNode?(slot: RefSlot): StoredNode;
  /** As `openNode`, for an outer child (`pageChild`) of a page that this reader gave: what it remembers is not looked up. */
  openChild?(page: StoredPage, child: number): StoredNode;
}

/**
 * A stored node that was checked once: what is in memory is trusted from then on. Never changed. A view of its own for each
 * would take more memory than most nodes are long: it says where it stands in an array that it shares with others.
 */
export type StoredNode = StoredLeaf | StoredPage;

export interface StoredLeaf {
  readonly kind: 'leaf';
  readonly bytes: Uint8Array;
  /** Where it begins in `bytes`, and ends. */
  readonly at: number;
  readonly end: number;
}

export interface StoredPage {
  readonly kind: 'page';
  readonly bytes: Uint8Array;
  /** Where it begins in `bytes`, and ends. */
  readonly at: number;
  readonly end: number;
  /** Inner nodes. */
  readonly count: number;
  /** Outer children that were opened before, for the cache that has the page; it sees to it that they are not held for ever. */
  opened: (StoredNode | undefined)[] | null;
}

export interface NewNode {
  /** `nodeKey` of its reference. */
  readonly key: Uint8Array;
  readonly bytes: Uint8Array;
}

/** Heights are stored in 6 bytes, which is beyond any that a chain reaches. */
export const MAX_VERSION = 2 ** 48 - 1;

const HASH_BYTES = 32;
/** Version (6 bytes) and sequence (4), big-endian. */
const NAME_BYTES = 10;
/** A reference as it is stored: name and hash. */
const REF_BYTES = NAME_BYTES + HASH_BYTES;
/** Where its hash begins. */
export const REF_HASH_AT = NAME_BYTES;

function putName(target: Uint8Array, at: number, version: number, sequence: number): void {
  const high = Math.floor(version / 0x1_0000_0000);
  target[at] = high >>> 8;
  target[at + 1] = high;
  writeU32be(target, at + 2, version % 0x1_0000_0000);
  writeU32be(target, at + 6, sequence);
}

/** Storage key of a node, 10 bytes: nodes lie in the order in which they were written. */
export function nodeKey({ version, sequence }: NodeName): Uint8Array {
  assert(Number.isSafeInteger(version) && version >= 0 && version <= MAX_VERSION, 'node version out of range');
  const key = new Uint8Array(NAME_BYTES);
  putName(key, 0, version, sequence);
  return key;
}

/** Storage key of the node of a stored reference, a view. */
export function nodeKeyAt({ bytes, at }: RefSlot): Uint8Array {
  return plain(bytes, at, at + NAME_BYTES);
}

/** A reference as it is stored, 42 bytes. */
export function encodeRef(ref: NodeRef): Uint8Array {
  assert(ref.hash.length === HASH_BYTES, 'node reference: not a hash');
  const bytes = new Uint8Array(REF_BYTES);
  putName(bytes, 0, ref.version, ref.sequence);
  bytes.set(ref.hash, REF_HASH_AT);
  return bytes;
}

/**
 * A new reference as it is stored.
 * @param hash array with the node's hash, from `hashAt` on
 * @param slab where its bytes are cut from
 */
export function placeRef({ version, sequence }: NodeName, hash: Uint8Array, hashAt: number, slab: Slab): RefSlot {
  const slot = slab.place(REF_BYTES);
  putName(slot.bytes, slot.at, version, sequence);
  copyBytes(slot.bytes, slot.at + REF_HASH_AT, hash, hashAt, HASH_BYTES);
  return slot;
}

/** For the few bytes of a hash or a reference, for which `set` and the view that it takes cost more. */
export function copyBytes(
  target: Uint8Array,
  targetAt: number,
  from: Uint8Array,
  at: number,
  lengthBytes: number,
): void {
  for (let index = 0; index < lengthBytes; index++) target[targetAt + index] = from[at + index] as number;
}

/** The reference at an offset; callers have checked the length. Its hash is a view. */
export function refAt(bytes: Uint8Array, at: number): NodeRef {
  return {
    version: (readU16be(bytes, at) as number) * 0x1_0000_0000 + (readU32be(bytes, at + 2) as number),
    sequence: readU32be(bytes, at + 6) as number,
    hash: plain(bytes, at + REF_HASH_AT, at + REF_BYTES),
  };
}

/** Height of the block that wrote the node of a stored reference, and the node's number in it. */
export function versionAt({ bytes, at }: RefSlot): number {
  return (
    (((bytes[at] as number) << 8) | (bytes[at + 1] as number)) * 0x1_0000_0000 + (readU32be(bytes, at + 2) as number)
  );
}
export function sequenceAt({ bytes, at }: RefSlot): number {
  return readU32be(bytes, at + 6) as number;
}

/** A view that is a Uint8Array and nothing more: databases hand out Buffers. */
function plain(bytes: Uint8Array, from: number, to: number): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset + from, to - from);
}

/** A root as the caller keeps it beside its block: nothing for the empty tree, else 42 bytes. */
export function encodeRoot(root: TreeRoot): Uint8Array {
  return root === EMPTY ? new Uint8Array(0) : encodeRef(root);
}

/** What `encodeRoot` wrote; our own database is trusted, so anything else is an `InvariantError`. */
export function decodeRoot(bytes: Uint8Array): TreeRoot {
  if (bytes.length === 0) return EMPTY;
  assert(bytes.length === REF_BYTES, 'stored state root: wrong length');
  return rootAt({ bytes, at: 0 });
}

/** A stored reference as a root, which is kept for longer than the array that it stands in. */
export function rootAt({ bytes, at }: RefSlot): NodeRef {
  return refAt(bytes.slice(at, at + REF_BYTES), 0);
}

const KIND_LEAF = 1;
const KIND_PAGE = 2;
/** Kind, and the checksum. */
const HEADER_BYTES = 5;
/** A leaf: header, length of its key, key, value. */
const LEAF_KEY_AT = HEADER_BYTES + 1;

/**
 * Checksum over kind, hash and all that follows the header, in words of 32 bits. Each step maps the state one to one for
 * a given word, and each word one to one for a given state: damage within one word never goes unseen, any other does
 * once in 2^32. Since it takes in the hash that the parent knows, a sound node under another's name fails as well.
 * It keeps nobody out who means it: proofs and `auditTree` hash in full.
 */
function checksum(bytes: Uint8Array, ref: RefSlot): number {
  const hashAt = ref.at + REF_HASH_AT;
  const seed = mix((bytes[0] as number) ^ HASH_BYTES, ref.bytes, hashAt, hashAt + HASH_BYTES);
  return mix(seed ^ bytes.length, bytes, HEADER_BYTES, bytes.length) >>> 0;
}

function mix(seed: number, bytes: Uint8Array, from: number, end: number): number {
  let state = seed;
  let at = from;
  for (; at + 4 <= end; at += 4) {
    const word =
      ((bytes[at] as number) << 24) |
      ((bytes[at + 1] as number) << 16) |
      ((bytes[at + 2] as number) << 8) |
      (bytes[at + 3] as number);
    state = Math.imul(state ^ word, 0x9e3779b1);
    state ^= state >>> 15;
  }
  for (; at < end; at++) {
    state = Math.imul(state ^ (bytes[at] as number), 0x9e3779b1);
    state ^= state >>> 15;
  }
  return state;
}

export function describe(ref: NodeName): string {
  return `state node ${ref.version}/${ref.sequence}`;
}

/** The node of a reference. @throws InvariantError when it is missing or damaged */
export function openNode(reader: NodeReader, slot: RefSlot): StoredNode {
  return reader.openNode === undefined ? checkedNode(reader, slot) : reader.openNode(slot);
}

/**
 * An outer child of a page that the reader gave. A page tests later bits than the one above it: a walk ends whatever the
 * disk says.
 * @throws InvariantError when it is missing or damaged
 */
export function openOuter(reader: NodeReader, page: StoredPage, child: number): StoredNode {
  const node = reader.openChild?.(page, child) ?? openNode(reader, { bytes: page.bytes, at: outerAt(page, child) });
  if (node.kind === 'page' && pageBit(node, 0) <= pageBit(page, 0)) {
    throw new InvariantError(`${describe(refAt(page.bytes, outerAt(page, child)))}: bits out of order`);
  }
  return node;
}

/** Reads a node and checks it against its reference. @throws InvariantError when it is missing or damaged */
export function checkedNode(reader: NodeReader, slot: RefSlot): StoredNode {
  const ref = refAt(slot.bytes, slot.at);
  const bytes = reader.getNode(ref);
  if (bytes === undefined) throw new InvariantError(`${describe(ref)} is missing: the database lost or pruned it`);
  if (bytes.length <= HEADER_BYTES || readU32be(bytes, 1) !== checksum(bytes, slot)) {
    throw new InvariantError(`${describe(ref)} is damaged: its checksum does not fit its reference`);
  }
  return takeApart(bytes);
}

/**
 * A node, its layout checked: walks need not do it again.
 * @param bytes as `encodeLeaf` or `encodePage` made them
 * @throws InvariantError for any other layout
 */
export function takeApart(bytes: Uint8Array): StoredNode {
  const node = nodeAt(bytes, 0, bytes.length);
  if (node.kind === 'leaf') checkLeaf(node);
  else checkPage(node);
  return node;
}

/** A node that was checked before, or that this process made. */
export function nodeAt(bytes: Uint8Array, at: number, end: number): StoredNode {
  if (bytes[at] === KIND_LEAF) return { kind: 'leaf', bytes, at, end };
  return { kind: 'page', bytes, at, end, count: bytes[at + COUNT_AT] as number, opened: null };
}

/** As `nodeAt`, its bytes copied into memory of the slab. */
export function copyNode(bytes: Uint8Array, at: number, end: number, slab: Slab): StoredNode {
  const lengthBytes = end - at;
  const copy = slab.place(lengthBytes);
  copy.bytes.set(lengthBytes === bytes.length ? bytes : plain(bytes, at, end), copy.at);
  return nodeAt(copy.bytes, copy.at, copy.at + lengthBytes);
}

/** All bytes of a node. */
export function bytesOf({ bytes, at, end }: StoredNode): Uint8Array {
  return end - at === bytes.length ? bytes : plain(bytes, at, end);
}

function checkLeaf(leaf: StoredLeaf): void {
  const valueAt = leafValueAt(leaf);
  const keyBytes = valueAt - leaf.at - LEAF_KEY_AT;
  assert(keyBytes >= 1 && valueAt <= leaf.end, 'state leaf: wrong layout');
  const sound = keyBytes <= MAX_STATE_KEY_BYTES && leaf.end - valueAt <= MAX_STATE_VALUE_BYTES;
  assert(sound, 'state leaf: key or value out of bounds');
}

/** Children come after their parents and test later bits: no walk can go in circles, whatever the disk says. */
function checkPage(page: StoredPage): void {
  const { bytes, at, end, count } = page;
  assert(bytes[at] === KIND_PAGE && count >= 1 && count <= MAX_PAGE_NODES, 'state page: wrong layout');
  assert(end - at === pageBytes(count), 'state page: wrong length');
  for (let index = 0; index < count; index++) {
    const bit = pageBit(page, index);
    assert(bit <= MAX_CRITICAL_BIT, 'state page: bit out of bounds');
    for (const direction of [0, 1] as const) {
      const child = pageChild(page, index, direction);
      const isOuter = (child & OUTER) !== 0;
      assert(isOuter ? (child & ~OUTER) <= count : child > index && child < count, 'state page: child out of bounds');
      assert(isOuter || pageBit(page, child) > bit, 'state page: bits out of order');
    }
  }
}

/**
 * Walks a page by the bits of a key.
 * @returns the outer child that the search goes on with
 */
export function outerOf(page: StoredPage, key: Uint8Array): number {
  let child = 0;
  // Ends: `checkPage` has seen that children come after their parents.
  while ((child & OUTER) === 0) child = pageChild(page, child, keyBit(key, pageBit(page, child)));
  return child;
}

/**
 * @param ref its reference
 * @param slab where the bytes are cut from
 */
export function encodeLeaf(key: Uint8Array, value: Uint8Array, ref: RefSlot, slab: Slab): Uint8Array {
  const bytes = slab.take(LEAF_KEY_AT + key.length + value.length);
  bytes[0] = KIND_LEAF;
  bytes[HEADER_BYTES] = key.length;
  bytes.set(key, LEAF_KEY_AT);
  bytes.set(value, LEAF_KEY_AT + key.length);
  writeU32be(bytes, 1, checksum(bytes, ref));
  return bytes;
}

function leafValueAt({ bytes, at }: StoredLeaf): number {
  return at + LEAF_KEY_AT + (bytes[at + HEADER_BYTES] as number);
}

/** The key of a leaf, a view. */
export function keyOf(leaf: StoredLeaf): Uint8Array {
  return plain(leaf.bytes, leaf.at + LEAF_KEY_AT, leafValueAt(leaf));
}

/** The value of a leaf, a view. */
export function valueOf(leaf: StoredLeaf): Uint8Array {
  return plain(leaf.bytes, leafValueAt(leaf), leaf.end);
}

/** Whether a leaf is that of a key. */
export function hasKey({ bytes, at }: StoredLeaf, key: Uint8Array): boolean {
  if (bytes[at + HEADER_BYTES] !== key.length) return false;
  for (let index = 0; index < key.length; index++) {
    if (bytes[at + LEAF_KEY_AT + index] !== key[index]) return false;
  }
  return true;
}

/**
 * The page of a bit: three to a page, nine to a byte of the key. By position and not by depth, so that what a page holds
 * depends, as the tree does, on the keys alone. Wider pages mean fewer reads and writes, but more bytes for each, and all
 * hashes within a page are computed anew when one changes; docs/state-tree.md has the measurements.
 */
export function pageOfBit(bit: number): number {
  return Math.floor(bit / 3);
}

/** Three levels of two children each: 1 + 2 + 4. */
export const MAX_PAGE_NODES = 7;

/** A child within a page: the number of an inner node of the same page, or with this bit set that of an outer child. */
export const OUTER = 0x80;

/** A page: header, number of inner nodes; 4 bytes for each (bit, left, right); then the references of outer children. */
const COUNT_AT = HEADER_BYTES;
const NODES_AT = COUNT_AT + 1;
const NODE_BYTES = 4;

export interface PageNode {
  readonly bit: number;
  left: number;
  right: number;
}

/**
 * @param nodes inner nodes, the topmost first and every other one after its parent
 * @param outer their outer children in the order of keys
 * @param slab where the bytes are cut from
 * @returns a page that is still to be sealed
 */
export function encodePage(nodes: readonly PageNode[], outer: readonly RefSlot[], slab: Slab): Uint8Array {
  assert(nodes.length <= MAX_PAGE_NODES && outer.length === nodes.length + 1, 'state page: not a tree');
  const bytes = slab.take(pageBytes(nodes.length));
  bytes[0] = KIND_PAGE;
  bytes[COUNT_AT] = nodes.length;
  let at = NODES_AT;
  for (const { bit, left, right } of nodes) {
    bytes[at++] = bit >>> 8;
    bytes[at++] = bit;
    bytes[at++] = left;
    bytes[at++] = right;
  }
  for (const slot of outer) {
    putRef(bytes, at, slot);
    at += REF_BYTES;
  }
  return bytes;
}

/** Puts a reference where one stands in a page that is being made. */
export function putRef(bytes: Uint8Array, at: number, { bytes: from, at: start }: RefSlot): void {
  copyBytes(bytes, at, from, start, REF_BYTES);
}

/** Ends a page: its checksum. @param ref its reference */
export function sealPage(bytes: Uint8Array, ref: RefSlot): void {
  writeU32be(bytes, 1, checksum(bytes, ref));
}

/** Length of a page of `count` inner nodes. */
function pageBytes(count: number): number {
  return NODES_AT + count * NODE_BYTES + (count + 1) * REF_BYTES;
}

/** The bit that inner node `index` of a page tests. */
export function pageBit({ bytes, at }: StoredPage, index: number): number {
  const start = at + NODES_AT + index * NODE_BYTES;
  return ((bytes[start] as number) << 8) | (bytes[start + 1] as number);
}

/** Child of inner node `index`: the number of a later inner node, or `OUTER` and that of an outer child. */
export function pageChild({ bytes, at }: StoredPage, index: number, direction: 0 | 1): number {
  return bytes[at + NODES_AT + index * NODE_BYTES + 2 + direction] as number;
}

/** Where the reference of an outer child of a page stands in the page's array. */
export function outerAt({ at, count }: StoredPage, child: number): number {
  return at + NODES_AT + count * NODE_BYTES + (child & ~OUTER) * REF_BYTES;
}
