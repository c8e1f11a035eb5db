/**
 * Proofs from a tree: of a key's value, of its absence, of a whole range. Their verifiers, and what the encodings mean,
 * are in common/protocol/state-proof.ts. Every node that goes into a proof is hashed in full on the way: a damaged disk
 * stops the node and never makes a proof that fails elsewhere.
 */

import { concatBytes, equalBytes, u32be } from '../../common/bytes.ts';
import { sm3 } from '../../common/crypto/sm3.ts';
import { assert } from '../../common/errors.ts';
import {
  KEY_PROOF,
  KEY_PROOF_FORMAT,
  MAX_RANGE_PROOF_BYTES,
  RANGE_NODE,
  RANGE_PROOF_FORMAT,
  type StateRange,
} from '../../common/protocol/state-proof.ts';
import {
  branchOutside,
  inRange,
  isStateKey,
  isStateRange,
  keyBit,
  prefixOutside,
} from '../../common/protocol/state-tree.ts';
import { EMPTY, type NodeReader, type TreeRoot } from './node.ts';
import { iterate } from './read.ts';
import { childOf, expandHashed, hashOf, type Inner, type Leaf, openChild, search, stubOf } from './tree.ts';

const u16be = (value: number): Uint8Array => Uint8Array.of(value >>> 8, value);
const u8 = (value: number): Uint8Array => Uint8Array.of(value);

function openRoot(reader: NodeReader, root: NonNullable<TreeRoot>): Leaf | Inner {
  return expandHashed(reader, stubOf(root), -1);
}

/**
 * Proof of a key's value, or of its absence: 34 bytes for each level, and the leaf.
 * @param key 1 to 128 bytes
 * @returns what `verifyProof` takes
 * @throws InvariantError for nodes that are missing or damaged
 */
export function proveKey(reader: NodeReader, root: TreeRoot, key: Uint8Array): Uint8Array {
  assert(isStateKey(key), 'a state key has 1 to 128 bytes');
  if (root === EMPTY) return Uint8Array.of(KEY_PROOF_FORMAT, KEY_PROOF.empty);
  const { path, leaf } = search(reader, openRoot(reader, root), key, expandHashed);
  const steps = path.flatMap((node) => [u16be(node.bit), hashOf(childOf(node, keyBit(key, node.bit) === 0 ? 1 : 0))]);
  const present = equalBytes(leaf.key, key);
  const end = present ? [u32be(leaf.value.length), leaf.value] : [u8(leaf.key.length), leaf.key, sm3(leaf.value)];
  const kind = present ? KEY_PROOF.present : KEY_PROOF.absent;
  return concatBytes(Uint8Array.of(KEY_PROOF_FORMAT, kind), u16be(path.length), ...steps, ...end);
}

/** Most entries that one proof of a range shows. */
export const MAX_RANGE_ENTRIES = 10_000;
/** Most bytes of entries (keys, values, 8 bytes each) after which a range is cut short; the first entry always fits. */
export const MAX_RANGE_ENTRY_BYTES = MAX_RANGE_PROOF_BYTES / 2;
const ENTRY_OVERHEAD_BYTES = 8;

export interface RangeProof {
  /** What `verifyRange` takes, together with this same `gte` and `lt`. */
  readonly proof: Uint8Array;
  readonly gte: Uint8Array;
  /** End of what is proven: the one that was asked for, or the key of the first entry that did not fit. Go on from there. */
  readonly lt: Uint8Array | null;
}

/**
 * Proof that a range holds exactly its entries. A long range is cut short, and what is proven is complete up to there.
 * @param limit most entries to show, 1 to `MAX_RANGE_ENTRIES`
 * @param maxBytes most bytes of entries, after which the range is cut short as well
 * @throws InvariantError for nodes that are missing or damaged, and for a range that is none
 */
export function proveRange(
  reader: NodeReader,
  root: TreeRoot,
  range: StateRange,
  limit: number,
  maxBytes = MAX_RANGE_ENTRY_BYTES,
): RangeProof {
  assert(isStateRange(range), 'proveRange: bounds are keys, the lower before the upper');
  assert(Number.isSafeInteger(limit) && limit >= 1 && limit <= MAX_RANGE_ENTRIES, 'proveRange: limit out of range');
  if (root === EMPTY) return { ...range, proof: Uint8Array.of(RANGE_PROOF_FORMAT, RANGE_NODE.empty) };
  const cut = {
    gte: range.gte,
    lt: whereToCut(reader, root, range, { entries: limit, bytes: Math.min(maxBytes, MAX_RANGE_ENTRY_BYTES) }),
  };
  const parts: Uint8Array[] = [u8(RANGE_PROOF_FORMAT)];
  const top = openRoot(reader, root);
  new RangeProver(reader, cut, parts).open(top, firstKey(reader, top));
  return { ...cut, proof: concatBytes(...parts) };
}

function whereToCut(
  reader: NodeReader,
  root: TreeRoot,
  range: StateRange,
  most: { readonly entries: number; readonly bytes: number },
): Uint8Array | null {
  let count = 0;
  let bytes = 0;
  for (const { key, value } of iterate(reader, root, { ...range, limit: most.entries + 1 })) {
    bytes += key.length + value.length + ENTRY_OVERHEAD_BYTES;
    if (count === most.entries || (count > 0 && bytes > most.bytes)) return key;
    count += 1;
  }
  return range.lt;
}

/** Key of the first leaf of a subtree: it shows the bits that all keys of the subtree have in common. */
function firstKey(reader: NodeReader, node: Leaf | Inner): Uint8Array {
  let at = node;
  while (at.kind === 'inner') at = openChild(reader, at, 0, expandHashed);
  return at.key;
}

/** Writes the tree from the top, left before right, hiding behind their hashes the subtrees that are outside. */
class RangeProver {
  readonly #reader: NodeReader;
  readonly #range: StateRange;
  readonly #parts: Uint8Array[];

  constructor(reader: NodeReader, range: StateRange, parts: Uint8Array[]) {
    this.#reader = reader;
    this.#range = range;
    this.#parts = parts;
  }

  /** A subtree that may hold keys of the range; `sample` is its first key. Recursion is bounded by the tree's depth. */
  open(node: Leaf | Inner, sample: Uint8Array): void {
    if (node.kind === 'leaf') {
      this.#leaf(node);
    } else if (prefixOutside(sample, node.bit, this.#range)) {
      this.#witness(node);
    } else {
      this.#parts.push(u8(RANGE_NODE.inner), u16be(node.bit));
      this.#branch(node, 0, sample);
      this.#branch(node, 1, sample);
    }
  }

  #branch(node: Inner, direction: 0 | 1, sample: Uint8Array): void {
    if (branchOutside(sample, node.bit, direction, this.#range)) {
      this.#parts.push(u8(RANGE_NODE.hidden), hashOf(childOf(node, direction)));
      return;
    }
    const child = openChild(this.#reader, node, direction, expandHashed);
    this.open(child, direction === 0 ? sample : firstKey(this.#reader, child));
  }

  /** No key of this subtree is in the range, and one of them has to show it. */
  #witness(node: Leaf | Inner): void {
    if (node.kind === 'leaf') {
      this.#leaf(node);
      return;
    }
    this.#parts.push(u8(RANGE_NODE.inner), u16be(node.bit));
    this.#witness(openChild(this.#reader, node, 0, expandHashed));
    this.#parts.push(u8(RANGE_NODE.hidden), hashOf(childOf(node, 1)));
  }

  #leaf({ key, value }: Leaf): void {
    if (inRange(key, this.#range)) {
      this.#parts.push(u8(RANGE_NODE.entry), u8(key.length), key, u32be(value.length), value);
    } else {
      this.#parts.push(u8(RANGE_NODE.outside), u8(key.length), key, sm3(value));
    }
  }
}
