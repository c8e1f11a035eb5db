/**
 * The definition of the state tree that provers, verifiers and storage share: which bit of a key is which, and what the
 * hash of a leaf, of an inner node and of the empty tree is. docs/state-tree.md is the same in prose.
 *
 * A crit-bit (PATRICIA) tree over the bit strings of keys: an inner node tests the first bit at which the keys below it
 * differ, 0 to the left. So its shape is a function of the set of keys, and its leaves are in the order of their bytes.
 *
 * The bits of a key: a 1 and the eight bits (highest first) of each byte, then a 0. That keeps the order of bytes, and
 * makes no key's bits a prefix of another's, so that a key may well be a prefix of another key.
 *
 * No storage and no proof formats here.
 */

import { compareBytes } from '../bytes.ts';
import { H, tlv } from '../crypto/hash.ts';
import { sm3 } from '../crypto/sm3.ts';

const HASH_BYTES = 32;
/** Longest key, in bytes. The shortest is one byte. */
export const MAX_STATE_KEY_BYTES = 128;
/** Longest value, in bytes. An empty value is a value. */
export const MAX_STATE_VALUE_BYTES = 64 * 1024;
/** Bits of one byte of a key: whether it is there, and its own eight. */
const BITS_PER_BYTE = 9;
/** The last bit at which two keys can differ: the lowest of the 128th byte (after it, both keys just end). */
export const MAX_CRITICAL_BIT = BITS_PER_BYTE * MAX_STATE_KEY_BYTES - 1;
/**
 * Most inner nodes above a leaf: each tests a later bit, and bit 0 (whether there is a first byte) is the same in all
 * keys. Only whoever chooses raw key bytes gets there, at one key for each level.
 */
export const MAX_STATE_DEPTH = BITS_PER_BYTE * MAX_STATE_KEY_BYTES - 1;

export function isStateKey(key: Uint8Array): boolean {
  return key.length >= 1 && key.length <= MAX_STATE_KEY_BYTES;
}

/** Bit `position` of a key's bit string; 0 beyond its end. */
export function keyBit(key: Uint8Array, position: number): 0 | 1 {
  const index = (position / BITS_PER_BYTE) | 0;
  if (index >= key.length) return 0;
  const within = position - index * BITS_PER_BYTE;
  return within === 0 ? 1 : ((((key[index] as number) >>> (BITS_PER_BYTE - 1 - within)) & 1) as 0 | 1);
}

/** First bit at which two keys differ; -1 when they are the same. */
export function criticalBit(left: Uint8Array, right: Uint8Array): number {
  const shared = Math.min(left.length, right.length);
  for (let index = 0; index < shared; index++) {
    const difference = (left[index] as number) ^ (right[index] as number);
    // clz32 of a byte is 24..31: its first differing bit, after the bit that says that the byte is there.
    if (difference !== 0) return BITS_PER_BYTE * index + 1 + Math.clz32(difference) - 24;
  }
  return left.length === right.length ? -1 : BITS_PER_BYTE * shared;
}

/** Root hash of the tree without entries. */
export const EMPTY_STATE_ROOT: Uint8Array = H('state-empty');

/** Hash of a leaf from its value's plain SM3, 32 bytes. */
export function leafHashOf(key: Uint8Array, valueHash: Uint8Array): Uint8Array {
  return H('state-leaf', key, valueHash);
}

/** Hash of a leaf, 32 bytes. */
export function leafHash(key: Uint8Array, value: Uint8Array): Uint8Array {
  return leafHashOf(key, sm3(value));
}

/**
 * The encoding that `H('state-inner', bit, left, right)` hashes, filled in anew by each call: this hash is most of what
 * a block costs its state, and hashing is synchronous and keeps nothing of it.
 */
const innerEncoding = tlv('state-inner', new Uint8Array(2), new Uint8Array(HASH_BYTES), new Uint8Array(HASH_BYTES));
const RIGHT_AT = innerEncoding.length - HASH_BYTES;
const LEFT_AT = RIGHT_AT - 4 - HASH_BYTES;
const BIT_AT = LEFT_AT - 4 - 2;

/** Where in the encoding of an inner node its parts go, for who hashes many at a time. */
export const INNER_ENCODING = {
  bytes: innerEncoding.length,
  /** With all parts zero. */
  blank: (): Uint8Array =>
    tlv('state-inner', new Uint8Array(2), new Uint8Array(HASH_BYTES), new Uint8Array(HASH_BYTES)),
  bitAt: BIT_AT,
  leftAt: LEFT_AT,
  rightAt: RIGHT_AT,
} as const;

/** What the encoding of a leaf begins with: then its key and SM3 of its value follow, each after its length of 4 bytes. */
export const LEAF_ENCODING_HEAD: Uint8Array = tlv('state-leaf');

/** `H('state-inner', bit, left, right)`, 32 bytes: the bit that the node tests (2 bytes) and its children's hashes. */
export function innerHash(bit: number, left: Uint8Array, right: Uint8Array): Uint8Array {
  return innerHashAt(bit, left, 0, right, 0);
}

/** `innerHash` of hashes that stand within longer arrays, without a view of each. */
export function innerHashAt(
  bit: number,
  left: Uint8Array,
  leftAt: number,
  right: Uint8Array,
  rightAt: number,
): Uint8Array {
  innerEncoding[BIT_AT] = bit >>> 8;
  innerEncoding[BIT_AT + 1] = bit;
  for (let index = 0; index < HASH_BYTES; index++) {
    innerEncoding[LEFT_AT + index] = left[leftAt + index] as number;
    innerEncoding[RIGHT_AT + index] = right[rightAt + index] as number;
  }
  return sm3(innerEncoding);
}

export interface StateEntry {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/** Keys from `gte` on and before `lt`, in the order of bytes. An empty `gte` is the beginning, a null `lt` the end. */
export interface StateRange {
  readonly gte: Uint8Array;
  readonly lt: Uint8Array | null;
}

/** Where the keys of a subtree stand to a bound: all before it, none before it, or it may be either. */
type Side = 'before' | 'from' | 'either';

/** Number of bits of a bound up to its last 1. Keys that begin with all of these cannot be before it. */
function significantBits(bound: Uint8Array): number {
  const last = bound.at(-1);
  if (last === undefined) return 0;
  // Of x & -x only the lowest 1 of x is left; of a zero byte, the bit that says that it is there.
  const beyond = last === 0 ? 8 : 31 - Math.clz32(last & -last);
  return BITS_PER_BYTE * bound.length - beyond;
}

/**
 * For the keys that share the first `bits` bits of `sample`. Exact: with the keys of an inner node on neither side, those
 * of one of its branches are on neither side too, so that proofs never hide both.
 */
function prefixSide(sample: Uint8Array, bits: number, bound: Uint8Array): Side {
  const differs = criticalBit(sample, bound);
  if (differs !== -1 && differs < bits) return keyBit(sample, differs) === 0 ? 'before' : 'from';
  return bits >= significantBits(bound) ? 'from' : 'either';
}

/** For the keys that share the first `bit` bits of `sample` and have `direction` as the next. */
function branchSide(sample: Uint8Array, bit: number, direction: 0 | 1, bound: Uint8Array): Side {
  const side = prefixSide(sample, bit, bound);
  if (side !== 'either') return side;
  if (direction !== keyBit(bound, bit)) return direction === 0 ? 'before' : 'from';
  return bit + 1 >= significantBits(bound) ? 'from' : 'either';
}

/** Whether no key that shares the first `bits` bits of `sample` can be in the range. */
export function prefixOutside(sample: Uint8Array, bits: number, range: StateRange): boolean {
  if (prefixSide(sample, bits, range.gte) === 'before') return true;
  return range.lt !== null && prefixSide(sample, bits, range.lt) === 'from';
}

/** Whether no key that shares the first `bit` bits of `sample` and has `direction` next can be in the range. */
export function branchOutside(sample: Uint8Array, bit: number, direction: 0 | 1, range: StateRange): boolean {
  if (branchSide(sample, bit, direction, range.gte) === 'before') return true;
  return range.lt !== null && branchSide(sample, bit, direction, range.lt) === 'from';
}

/** Whether the bounds are keys or open ends, and some key may lie between them. */
export function isStateRange(range: StateRange): boolean {
  if (range.gte.length > MAX_STATE_KEY_BYTES) return false;
  return range.lt === null || (isStateKey(range.lt) && compareBytes(range.gte, range.lt) < 0);
}

export function inRange(key: Uint8Array, range: StateRange): boolean {
  return compareBytes(key, range.gte) >= 0 && (range.lt === null || compareBytes(key, range.lt) < 0);
}
