/**
 * Merkle trees over ordered byte strings: the shape of RFC 6962 section 2.1 with SM3.
 *
 *   MTH({})     = H("merkle-empty")
 *   MTH({d})    = SM3(0x00 || d)
 *   MTH(d[0:n]) = SM3(0x01 || MTH(d[0:k]) || MTH(d[k:n])), k the largest power of two below n
 *
 * Transactions, receipts and sections of a record are such lists. State is not: it has a tree of its own.
 */

import { equalBytes } from '../bytes.ts';
import { assert } from '../errors.ts';
import { H } from './hash.ts';
import { SM3_BYTES, Sm3 } from './sm3.ts';
import { blocksOf, LaneMessages, sharedSm3Lanes, type Sm3Lanes } from './sm3-lanes/lanes.ts';

const LEAF_PREFIX = Uint8Array.of(0);
const NODE_PREFIX = Uint8Array.of(1);

/** Sizes stay within 31 bits, so that indices fit integer arithmetic; lists of the protocol are far shorter. */
export const MERKLE_MAX_LEAVES = 0x7fff_ffff;

/** Lists of so many entries are hashed in lanes (`sm3-lanes`): for shorter ones, laying them out costs what it saves. */
const LANES_FROM_LEAVES = 4;

const scratch = new Sm3();

/** Hash of a leaf, 32 bytes. */
export function merkleLeaf(data: Uint8Array): Uint8Array {
  return scratch.reset().update(LEAF_PREFIX).update(data).digest();
}

/** Hash of an inner node, 32 bytes. */
export function merkleNode(left: Uint8Array, right: Uint8Array): Uint8Array {
  return scratch.reset().update(NODE_PREFIX).update(left).update(right).digest();
}

/** Root of the empty list, 32 bytes. */
export function merkleEmptyRoot(): Uint8Array {
  return H('merkle-empty');
}

/** Root of the leaves with these hashes (of `merkleLeaf`), 32 bytes. */
export function merkleRootOfHashes(hashes: readonly Uint8Array[]): Uint8Array {
  assert(hashes.length <= MERKLE_MAX_LEAVES, 'merkle: too many leaves');
  // Complete subtrees on the way from left to right, the largest first: at most 31 of them.
  const subtrees: Uint8Array[] = [];
  for (let index = 0; index < hashes.length; index++) {
    let hash = hashes[index] as Uint8Array;
    // Each trailing one bit of the index is a complete subtree that this leaf closes.
    for (let bits = index; (bits & 1) === 1; bits >>>= 1) hash = merkleNode(subtrees.pop() as Uint8Array, hash);
    subtrees.push(hash);
  }
  let root = subtrees.pop();
  if (root === undefined) return merkleEmptyRoot();
  for (let left = subtrees.pop(); left !== undefined; left = subtrees.pop()) root = merkleNode(left, root);
  return root;
}

/** Root of the byte strings, 32 bytes. */
export function merkleRoot(leaves: readonly Uint8Array[]): Uint8Array {
  const lanes = leaves.length < LANES_FROM_LEAVES ? null : sharedSm3Lanes();
  const root = lanes === null ? null : rootInLanes(lanes, leaves);
  return root ?? merkleRootOfHashes(leaves.map(merkleLeaf));
}

const NODE_MESSAGE_BYTES = 1 + 2 * SM3_BYTES;
const NODE_BLOCKS = blocksOf(NODE_MESSAGE_BYTES);
const NODE_ROOM_BYTES = NODE_BLOCKS * 64;

/**
 * The root of at least one leaf, level by level: each level pairs the nodes of the one below, and a last one without a
 * partner climbs as it is, which is the shape of RFC 6962. Each digest goes straight into the message of its parent.
 * @returns null when the lanes have no room for all of it
 */
function rootInLanes(lanes: Sm3Lanes, leaves: readonly Uint8Array[]): Uint8Array | null {
  // Of the levels below the root, from the leaves up.
  const sizes: number[] = [];
  for (let size = leaves.length; size > 1; size = (size + 1) >>> 1) sizes.push(size);
  const rootAt = lanes.take(SM3_BYTES);
  const levels: (readonly number[])[] = [];
  // Where the digests of the level at hand are wanted.
  let wantedAt: readonly number[] = [rootAt];
  for (const children of sizes.reverse()) {
    const nodesAt = lanes.take((children >>> 1) * NODE_ROOM_BYTES);
    if (nodesAt === 0) return null;
    const { jobs, childrenAt } = layLevel(lanes, nodesAt, wantedAt, children);
    levels.push(jobs);
    wantedAt = childrenAt;
  }
  const messages = new LaneMessages(lanes);
  for (let index = 0; index < leaves.length; index++) {
    if (!messages.add(LEAF_PREFIX, leaves[index] as Uint8Array, wantedAt[index] as number)) return null;
  }
  messages.hash();
  for (const jobs of levels.reverse()) lanes.hash(jobs, NODE_BLOCKS);
  return lanes.bytes.slice(rootAt, rootAt + SM3_BYTES);
}

/**
 * Lays out the nodes over so many children, whose digests are still to come.
 * @param wantedAt where the digests of these nodes shall go
 * @returns the jobs for the lanes, and where the digests of the children shall go
 */
function layLevel(
  { bytes }: Sm3Lanes,
  nodesAt: number,
  wantedAt: readonly number[],
  children: number,
): { readonly jobs: readonly number[]; readonly childrenAt: readonly number[] } {
  const jobs: number[] = [];
  const childrenAt: number[] = [];
  const pairs = children >>> 1;
  bytes.fill(0, nodesAt, nodesAt + pairs * NODE_ROOM_BYTES);
  for (let pair = 0, at = nodesAt; pair < pairs; pair++, at += NODE_ROOM_BYTES) {
    bytes[at] = 1;
    bytes[at + NODE_MESSAGE_BYTES] = 0x80;
    bytes[at + NODE_ROOM_BYTES - 2] = (NODE_MESSAGE_BYTES * 8) >>> 8;
    bytes[at + NODE_ROOM_BYTES - 1] = (NODE_MESSAGE_BYTES * 8) & 0xff;
    jobs.push(at, wantedAt[pair] as number);
    childrenAt.push(at + 1, at + 1 + SM3_BYTES);
  }
  if (children % 2 === 1) childrenAt.push(wantedAt[pairs] as number);
  return { jobs, childrenAt };
}

function largestPowerOfTwoBelow(size: number): number {
  return 2 ** (31 - Math.clz32(size - 1));
}

/**
 * Audit path of RFC 6962 section 2.1.1: the siblings from the leaf up, 32 bytes each, at most 31.
 * @param index below `leaves.length`
 */
export function merkleProof(leaves: readonly Uint8Array[], index: number): Uint8Array[] {
  assert(Number.isInteger(index) && index >= 0 && index < leaves.length, 'merkleProof: no such leaf');
  let hashes = leaves.map(merkleLeaf);
  let at = index;
  const path: Uint8Array[] = [];
  while (hashes.length > 1) {
    const split = largestPowerOfTwoBelow(hashes.length);
    const left = hashes.slice(0, split);
    const right = hashes.slice(split);
    path.push(merkleRootOfHashes(at < split ? right : left));
    hashes = at < split ? left : right;
    if (at >= split) at -= split;
  }
  return path.reverse();
}

/**
 * Checks untrusted evidence that `leaf` is entry `index` of the list of `size` entries with this root.
 * RFC 9162 section 2.1.3.2; consumes the path exactly. The caller must know `size` from where it knows the root.
 */
export function merkleVerify(
  root: Uint8Array,
  leaf: Uint8Array,
  index: number,
  size: number,
  path: readonly Uint8Array[],
): boolean {
  if (!Number.isInteger(index) || !Number.isInteger(size)) return false;
  if (index < 0 || index >= size || size > MERKLE_MAX_LEAVES || path.length > 31) return false;
  let position = index;
  let last = size - 1;
  let hash = merkleLeaf(leaf);
  for (const sibling of path) {
    if (sibling.length !== SM3_BYTES || last === 0) return false;
    if ((position & 1) === 1 || position === last) {
      hash = merkleNode(sibling, hash);
      // A right-most node without a sibling on its level: climb to where it has one.
      while ((position & 1) === 0 && position !== 0) {
        position >>>= 1;
        last >>>= 1;
      }
    } else {
      hash = merkleNode(hash, sibling);
    }
    position >>>= 1;
    last >>>= 1;
  }
  return last === 0 && equalBytes(hash, root);
}
