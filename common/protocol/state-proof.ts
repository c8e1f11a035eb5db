/**
 * Verifiers of proofs against a state root: that a key has a value, that it has none, and that a range of keys holds
 * exactly these entries. Whoever trusts the root (by a certificate over a header) needs to trust nobody else.
 * Encodings are canonical: a root and a question have one proof. docs/state-tree.md defines them.
 *
 * Everything read here is untrusted: verdicts, no throws. Proving is in vm/state-tree, which has the tree.
 */

import { equalBytes } from '../bytes.ts';
import { sm3 } from '../crypto/sm3.ts';
import { accept, reject, type Verdict } from '../errors.ts';
import {
  branchOutside,
  criticalBit,
  EMPTY_STATE_ROOT,
  innerHash,
  inRange,
  isStateKey,
  isStateRange,
  keyBit,
  leafHashOf,
  MAX_CRITICAL_BIT,
  MAX_STATE_DEPTH,
  MAX_STATE_KEY_BYTES,
  MAX_STATE_VALUE_BYTES,
  prefixOutside,
  type StateEntry,
  type StateRange,
} from './state-tree.ts';

export type { StateEntry, StateRange } from './state-tree.ts';

const HASH_BYTES = 32;

/** First byte of each encoding: a changed format gets another, and one kind is never read as the other. */
export const KEY_PROOF_FORMAT = 0x01;
export const RANGE_PROOF_FORMAT = 0x11;

/** Second byte of a proof about one key. */
export const KEY_PROOF = { empty: 0, present: 1, absent: 2 } as const;

/** First byte of each node of a range proof. */
export const RANGE_NODE = { empty: 0, hidden: 1, inner: 2, entry: 3, outside: 4 } as const;

/** Format, kind, the longest value or key with its length, and the longest path. */
export const MAX_KEY_PROOF_BYTES =
  2 + 4 + MAX_STATE_VALUE_BYTES + MAX_STATE_KEY_BYTES + 2 + MAX_STATE_DEPTH * (2 + HASH_BYTES);

/**
 * Longest proof of a range: twice what a prover puts into one as entries. Hidden siblings add at most four paths of the
 * greatest depth (two at the bounds, two down to a leaf that shows what lies beyond them), some 170 KB.
 */
export const MAX_RANGE_PROOF_BYTES = 4 * 1024 * 1024;

/** What is proven about a key. */
export type ProvenKey = { readonly present: true; readonly value: Uint8Array } | { readonly present: false };

const malformed = (message: string) => reject('STATE_PROOF_MALFORMED', message);
const mismatch = (message: string) => reject('STATE_PROOF_MISMATCH', message);

/** Reads forward. Past the end it answers zeros and remembers, so that one check at the end is enough. */
class Input {
  readonly #bytes: Uint8Array;
  #at = 0;
  /** False once something was read that is not there. */
  complete = true;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  take(length: number): Uint8Array {
    if (this.#at + length > this.#bytes.length) {
      this.complete = false;
      return new Uint8Array(0);
    }
    this.#at += length;
    return this.#bytes.slice(this.#at - length, this.#at);
  }

  uint(length: 1 | 2 | 4): number {
    return this.take(length).reduce((value, byte) => value * 256 + byte, 0);
  }

  /** Every byte was read, and every byte that was read was there. */
  get exact(): boolean {
    return this.complete && this.#at === this.#bytes.length;
  }
}

interface PathStep {
  readonly bit: number;
  readonly sibling: Uint8Array;
}

/** A path from the root down: tested bits only grow. */
function readPath(input: Input): readonly PathStep[] | undefined {
  const length = input.uint(2);
  if (length > MAX_STATE_DEPTH) return undefined;
  const path: PathStep[] = [];
  let previous = 0;
  for (let index = 0; index < length && input.complete; index++) {
    const bit = input.uint(2);
    if (bit <= previous || bit > MAX_CRITICAL_BIT) return undefined;
    path.push({ bit, sibling: input.take(HASH_BYTES) });
    previous = bit;
  }
  return path;
}

/** Hash of the root above a leaf at the end of `path`; its key's bits say on which side each sibling is. */
function climb(leaf: Uint8Array, key: Uint8Array, path: readonly PathStep[]): Uint8Array {
  let hash = leaf;
  for (let index = path.length - 1; index >= 0; index--) {
    const { bit, sibling } = path[index] as PathStep;
    hash = keyBit(key, bit) === 0 ? innerHash(bit, hash, sibling) : innerHash(bit, sibling, hash);
  }
  return hash;
}

/**
 * Verifies a proof about one key.
 *
 * Present: the leaf and the path lead to the root. Absent: a search for the key ends, bit by bit, at the leaf of another
 * key; in a tree that holds the key it would end there.
 *
 * @param rootHash state root, 32 bytes, which the caller trusts
 * @param key 1 to 128 bytes
 * @param proof as `proveKey` of vm/state-tree encodes it, at most `MAX_KEY_PROOF_BYTES`
 * @returns the value or its absence; STATE_KEY_INVALID, STATE_PROOF_TOO_LARGE, STATE_PROOF_MALFORMED (not an encoding
 *   that a prover makes) or STATE_PROOF_MISMATCH (an encoding that proves something else)
 */
export function verifyProof(rootHash: Uint8Array, key: Uint8Array, proof: Uint8Array): Verdict<ProvenKey> {
  if (!isStateKey(key)) return reject('STATE_KEY_INVALID', `a state key has 1 to ${MAX_STATE_KEY_BYTES} bytes`);
  if (proof.length > MAX_KEY_PROOF_BYTES) return reject('STATE_PROOF_TOO_LARGE', 'the proof is longer than any can be');
  const input = new Input(proof);
  if (input.uint(1) !== KEY_PROOF_FORMAT) return malformed('not a proof about one key in a known format');
  switch (input.uint(1)) {
    case KEY_PROOF.empty:
      if (!input.exact) return malformed('bytes beyond the end of the proof');
      return equalBytes(rootHash, EMPTY_STATE_ROOT) ? accept({ present: false }) : mismatch('the state is not empty');
    case KEY_PROOF.present:
      return verifyPresent(rootHash, key, input);
    case KEY_PROOF.absent:
      return verifyAbsent(rootHash, key, input);
    default:
      return malformed('unknown kind of proof');
  }
}

function verifyPresent(rootHash: Uint8Array, key: Uint8Array, input: Input): Verdict<ProvenKey> {
  const path = readPath(input);
  const valueBytes = input.uint(4);
  if (path === undefined || valueBytes > MAX_STATE_VALUE_BYTES) return malformed('path or value out of bounds');
  const value = input.take(valueBytes);
  if (!input.exact) return malformed('the proof is cut short or has bytes beyond its end');
  const root = climb(leafHashOf(key, sm3(value)), key, path);
  return equalBytes(root, rootHash) ? accept({ present: true, value }) : mismatch('the proof leads to another root');
}

function verifyAbsent(rootHash: Uint8Array, key: Uint8Array, input: Input): Verdict<ProvenKey> {
  const path = readPath(input);
  const found = input.take(input.uint(1));
  const valueHash = input.take(HASH_BYTES);
  if (path === undefined || !input.exact) return malformed('path out of bounds, or the proof has another length');
  if (!isStateKey(found)) return malformed('the leaf has no valid key');
  if (equalBytes(found, key)) return mismatch('the proof shows the very key that it calls absent');
  if (path.some(({ bit }) => keyBit(found, bit) !== keyBit(key, bit))) {
    return mismatch('a search for the key does not end at that leaf');
  }
  const root = climb(leafHashOf(found, valueHash), found, path);
  return equalBytes(root, rootHash) ? accept({ present: false }) : mismatch('the proof leads to another root');
}

/**
 * The other key that a proof of absence shows; null where it shows none. For a prover's own proofs: nothing is verified.
 */
export function keyShownBy(proof: Uint8Array): Uint8Array | null {
  const input = new Input(proof);
  const shows = input.uint(1) === KEY_PROOF_FORMAT && input.uint(1) === KEY_PROOF.absent;
  return shows && readPath(input) !== undefined ? input.take(input.uint(1)) : null;
}

type OpenNode =
  | { readonly kind: 'hidden'; readonly hash: Uint8Array }
  | { readonly kind: 'leaf'; readonly hash: Uint8Array; readonly sample: Uint8Array; readonly value: Uint8Array | null }
  | {
      readonly kind: 'inner';
      readonly hash: Uint8Array;
      readonly bit: number;
      readonly left: OpenNode;
      readonly right: OpenNode;
      /** The key of a leaf below: it shows the bits that all keys below have in common. */
      readonly sample: Uint8Array;
    };

/** Reads one node and what is below it. Recursion is bounded by the depth of the tree: tested bits only grow. */
function readNode(input: Input, above: number): OpenNode | undefined {
  const kind = input.uint(1);
  if (!input.complete) return undefined;
  if (kind === RANGE_NODE.hidden) return { kind: 'hidden', hash: input.take(HASH_BYTES) };
  if (kind === RANGE_NODE.inner) return readInner(input, above);
  if (kind !== RANGE_NODE.entry && kind !== RANGE_NODE.outside) return undefined;

  const key = input.take(input.uint(1));
  if (!isStateKey(key)) return undefined;
  if (kind === RANGE_NODE.outside) {
    const valueHash = input.take(HASH_BYTES);
    return { kind: 'leaf', hash: leafHashOf(key, valueHash), sample: key, value: null };
  }
  const valueBytes = input.uint(4);
  if (valueBytes > MAX_STATE_VALUE_BYTES) return undefined;
  const value = input.take(valueBytes);
  return { kind: 'leaf', hash: leafHashOf(key, sm3(value)), sample: key, value };
}

function readInner(input: Input, above: number): OpenNode | undefined {
  const bit = input.uint(2);
  if (bit <= above || bit > MAX_CRITICAL_BIT) return undefined;
  const left = readNode(input, bit);
  const right = left && readNode(input, bit);
  if (left === undefined || right === undefined) return undefined;
  const sample = left.kind !== 'hidden' ? left.sample : right.kind !== 'hidden' ? right.sample : undefined;
  if (sample === undefined) return undefined;
  // The samples must belong where they are: alike before the tested bit, 0 on the left and 1 on the right of it.
  if (left.kind !== 'hidden' && keyBit(left.sample, bit) !== 0) return undefined;
  if (right.kind !== 'hidden' && keyBit(right.sample, bit) !== 1) return undefined;
  if (left.kind !== 'hidden' && right.kind !== 'hidden' && criticalBit(left.sample, right.sample) !== bit)
    return undefined;
  return { kind: 'inner', hash: innerHash(bit, left.hash, right.hash), bit, left, right, sample };
}

/**
 * Collects the entries under a node that may hold keys of the range, in order. False when something is hidden that may
 * be in the range, or open that need not be: then the proof is not the one that a prover makes.
 */
function collect(node: OpenNode, range: StateRange, entries: StateEntry[]): boolean {
  if (node.kind === 'hidden') return false;
  if (node.kind === 'leaf') {
    if (inRange(node.sample, range) !== (node.value !== null)) return false;
    if (node.value !== null) entries.push({ key: node.sample, value: node.value });
    return true;
  }
  if (prefixOutside(node.sample, node.bit, range)) return isWitness(node);
  const { left, right, sample, bit } = node;
  return (
    (branchOutside(sample, bit, 0, range) ? left.kind === 'hidden' : collect(left, range, entries)) &&
    (branchOutside(sample, bit, 1, range) ? right.kind === 'hidden' : collect(right, range, entries))
  );
}

/** A subtree without keys of the range, which only its own keys can show: opened down to its first leaf. */
function isWitness(node: OpenNode): boolean {
  let at = node;
  while (at.kind === 'inner') {
    if (at.right.kind !== 'hidden') return false;
    at = at.left;
  }
  return at.kind === 'leaf' && at.value === null;
}

/**
 * Verifies that a range holds exactly the entries that the proof shows: none is left out.
 *
 * Every subtree is either open or hidden behind its hash, and a hidden one is accepted only where the bits that its keys
 * have in common put all of them outside of the range.
 *
 * @param rootHash state root, 32 bytes, which the caller trusts
 * @param range the range that was proven: where the prover cut a long one short, the shorter
 * @param proof as `proveRange` of vm/state-tree encodes it, at most `MAX_RANGE_PROOF_BYTES`
 * @returns all entries of the range in the order of their keys; STATE_RANGE_INVALID, STATE_PROOF_TOO_LARGE,
 *   STATE_PROOF_MALFORMED, STATE_PROOF_INCOMPLETE (not the proof of this range) or STATE_PROOF_MISMATCH (another root)
 */
export function verifyRange(
  rootHash: Uint8Array,
  range: StateRange,
  proof: Uint8Array,
): Verdict<readonly StateEntry[]> {
  if (!isStateRange(range)) return reject('STATE_RANGE_INVALID', 'bounds are keys, the lower before the upper');
  if (proof.length > MAX_RANGE_PROOF_BYTES)
    return reject('STATE_PROOF_TOO_LARGE', 'the proof is longer than any can be');
  const input = new Input(proof);
  if (input.uint(1) !== RANGE_PROOF_FORMAT) return malformed('not a proof of a range in a known format');
  if (proof.length === 2 && proof[1] === RANGE_NODE.empty) {
    return equalBytes(rootHash, EMPTY_STATE_ROOT) ? accept([]) : mismatch('the state is not empty');
  }
  const root = readNode(input, 0);
  if (root === undefined || !input.exact) return malformed('not the encoding of a tree');
  if (!equalBytes(root.hash, rootHash)) return mismatch('the proof leads to another root');
  const entries: StateEntry[] = [];
  if (!collect(root, range, entries)) return reject('STATE_PROOF_INCOMPLETE', 'not a proof of the whole of this range');
  return accept(entries);
}
