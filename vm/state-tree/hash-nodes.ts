/**
 * Hashes all that a batch has changed, from the leaves up, many nodes at a time: level by level, since a node takes in the
 * hashes of its children. The encodings lie in the memory of the lanes, where each digest goes straight into the encoding
 * of its parent. What is hashed is defined in common/protocol/state-tree.ts, and `hashOf` does the same one by one.
 */

import { blocksOf, sharedSm3Lanes, type Sm3Lanes } from '../../common/crypto/sm3-lanes/lanes.ts';
import { INNER_ENCODING, LEAF_ENCODING_HEAD } from '../../common/protocol/state-tree.ts';
import { copyBytes, OUTER, outerAt, pageBit, pageChild, pageOfBit, REF_HASH_AT, type StoredPage } from './node.ts';
import type { Inner, Leaf, Node, Origin } from './tree.ts';

const BLOCK_BYTES = 64;
const HASH_BYTES = 32;
const { bitAt, leftAt, rightAt } = INNER_ENCODING;
const INNER_BLOCKS = blocksOf(INNER_ENCODING.bytes);
const HEAD_BYTES = LEAF_ENCODING_HEAD.length;

/** The encoding of an inner node with its padding; bit and hashes are still to come. */
const INNER_BLANK = ((): Uint8Array => {
  const blank = new Uint8Array(INNER_BLOCKS * BLOCK_BYTES);
  blank.set(INNER_ENCODING.blank());
  blank[INNER_ENCODING.bytes] = 0x80;
  const bits = INNER_ENCODING.bytes * 8;
  blank[blank.length - 2] = bits >>> 8;
  blank[blank.length - 1] = bits;
  return blank;
})();

/**
 * Fills in the hashes of leaves and of the topmost nodes of pages, as far as they are not known yet: those that are stored.
 * Does nothing where there are no lanes, or where the batch is too large for their memory: `hashOf` computes what is missing.
 */
export function hashNodes(root: Node): void {
  if (root.kind === 'stub' || root.hash !== null) return;
  const lanes = sharedSm3Lanes();
  if (lanes === null) return;
  const batch = new HashBatch(lanes);
  if (batch.collect(root)) batch.hash();
}

/** Jobs for the lanes: addresses of message and digest, one after the other. */
type Jobs = number[];

class HashBatch {
  readonly #lanes: Sm3Lanes;
  /** By their number of blocks. */
  readonly #values: Jobs[] = [];
  readonly #leaves: Jobs[] = [];
  /** Inner nodes by how many of them are below, on the longest way down: 1 and more. */
  readonly #levels: Jobs[] = [];
  /** Whose hash is wanted, and where it will be. */
  readonly #wanted: (Leaf | Inner)[] = [];
  readonly #hashesAt: number[] = [];
  #isFull = false;

  constructor(lanes: Sm3Lanes) {
    this.#lanes = lanes;
  }

  /** @returns false when there is no room for all of it */
  collect(root: Leaf | Inner): boolean {
    this.#node(root, this.#take(HASH_BYTES), -1);
    return !this.#isFull;
  }

  hash(): void {
    const lanes = this.#lanes;
    for (const groups of [this.#values, this.#leaves]) {
      groups.forEach((jobs, blocks) => lanes.hash(jobs, blocks));
    }
    for (const jobs of this.#levels) if (jobs !== undefined) lanes.hash(jobs, INNER_BLOCKS);
    // One array for all: each of its own would take more than its hash.
    const hashes = new Uint8Array(this.#wanted.length * HASH_BYTES);
    for (let index = 0; index < this.#wanted.length; index++) {
      const node = this.#wanted[index] as Leaf | Inner;
      node.hash = hashes;
      node.hashAt = index * HASH_BYTES;
      copyBytes(hashes, node.hashAt, lanes.bytes, this.#hashesAt[index] as number, HASH_BYTES);
    }
  }

  #take(lengthBytes: number): number {
    const at = this.#lanes.take(lengthBytes);
    if (at === 0) this.#isFull = true;
    return at;
  }

  /**
   * @param hashAt where the node's hash shall go
   * @param page that of its parent
   * @returns its level, 0 for a leaf. Recursion is bounded by the depth of the tree
   */
  #node(node: Leaf | Inner, hashAt: number, page: number): number {
    if (node.kind === 'leaf') {
      this.#want(node, hashAt);
      this.#leaf(node, hashAt);
      return 0;
    }
    const own = pageOfBit(node.bit);
    if (own !== page) this.#want(node, hashAt);
    const at = this.#inner(node.bit);
    if (at === 0) return 0;
    const left = this.#child(node.left, at + leftAt, node.origin, own);
    const right = this.#child(node.right, at + rightAt, node.origin, own);
    return this.#level(Math.max(left, right) + 1, at, hashAt);
  }

  /** A child's hash to where its parent wants it: now, or when it is computed. */
  #child(child: Inner['left'], hashAt: number, origin: Origin | null, page: number): number {
    if (typeof child === 'number') return this.#inPage((origin as Origin).page as StoredPage, child, hashAt);
    if (child.kind === 'stub') return this.#known(child.bytes, child.at + REF_HASH_AT, hashAt);
    return child.hash === null ? this.#node(child, hashAt, page) : this.#known(child.hash, child.hashAt, hashAt);
  }

  /** A child that was not opened: its hash stands in the page, or is that of an inner node of the page. */
  #inPage(page: StoredPage, child: number, hashAt: number): number {
    if ((child & OUTER) !== 0) return this.#known(page.bytes, outerAt(page, child) + REF_HASH_AT, hashAt);
    const at = this.#inner(pageBit(page, child));
    if (at === 0) return 0;
    const left = this.#inPage(page, pageChild(page, child, 0), at + leftAt);
    const right = this.#inPage(page, pageChild(page, child, 1), at + rightAt);
    return this.#level(Math.max(left, right) + 1, at, hashAt);
  }

  #known(from: Uint8Array, start: number, hashAt: number): number {
    copyBytes(this.#lanes.bytes, hashAt, from, start, HASH_BYTES);
    return 0;
  }

  /** Room for the encoding of an inner node, hashes still to come; 0 when there is none. */
  #inner(bit: number): number {
    const at = this.#take(INNER_BLANK.length);
    if (this.#isFull) return 0;
    const { bytes } = this.#lanes;
    bytes.set(INNER_BLANK, at);
    bytes[at + bitAt] = bit >>> 8;
    bytes[at + bitAt + 1] = bit;
    return at;
  }

  #level(level: number, at: number, hashAt: number): number {
    push(this.#levels, level, at, hashAt);
    return level;
  }

  #leaf({ key, value }: Leaf, hashAt: number): void {
    const length = HEAD_BYTES + 4 + key.length + 4 + HASH_BYTES;
    const blocks = blocksOf(length);
    const at = this.#take(blocks * BLOCK_BYTES);
    const valueBlocks = blocksOf(value.length);
    const valueAt = this.#take(valueBlocks * BLOCK_BYTES);
    if (this.#isFull) return;
    const lanes = this.#lanes;
    const { bytes } = lanes;
    bytes.set(LEAF_ENCODING_HEAD, at);
    const keyAt = putLength(bytes, at + HEAD_BYTES, key.length);
    bytes.set(key, keyAt);
    const valueHashAt = putLength(bytes, keyAt + key.length, HASH_BYTES);
    lanes.pad(at, length);
    bytes.set(value, valueAt);
    lanes.pad(valueAt, value.length);
    push(this.#values, valueBlocks, valueAt, valueHashAt);
    push(this.#leaves, blocks, at, hashAt);
  }

  #want(node: Leaf | Inner, hashAt: number): void {
    this.#wanted.push(node);
    this.#hashesAt.push(hashAt);
  }
}

function push(groups: Jobs[], group: number, messageAt: number, hashAt: number): void {
  const jobs = groups[group];
  if (jobs === undefined) groups[group] = [messageAt, hashAt];
  else jobs.push(messageAt, hashAt);
}

/** A length of 4 bytes, big-endian, below 65,536. @returns where what it is of begins */
function putLength(bytes: Uint8Array, at: number, length: number): number {
  bytes[at] = 0;
  bytes[at + 1] = 0;
  bytes[at + 2] = length >>> 8;
  bytes[at + 3] = length;
  return at + 4;
}
