/**
 * Reading the tree: one key, or a range of keys in order. Views that it gives must not be changed.
 */

import { compareBytes } from '../../common/bytes.ts';
import { assert, InvariantError } from '../../common/errors.ts';
import {
  criticalBit,
  inRange,
  isStateKey,
  keyBit,
  MAX_STATE_KEY_BYTES,
  type StateEntry,
} from '../../common/protocol/state-tree.ts';
import type { StateReader } from '../types.ts';
import {
  EMPTY,
  encodeRef,
  hasKey,
  type NodeReader,
  openNode,
  openOuter,
  outerOf,
  type RefSlot,
  type TreeRoot,
  valueOf,
} from './node.ts';
import { childOf, expand, type Inner, type Leaf, type Node, search, stubOf } from './tree.ts';

/**
 * The value of a key, or undefined. Reads some log8 n pages and a leaf.
 * @param key 1 to 128 bytes
 * @throws InvariantError for nodes that are missing or damaged
 */
export function get(reader: NodeReader, root: TreeRoot, key: Uint8Array): Uint8Array | undefined {
  assert(isStateKey(key), 'a state key has 1 to 128 bytes');
  return root === EMPTY ? undefined : getFrom(reader, { bytes: encodeRef(root), at: 0 }, key);
}

function getFrom(reader: NodeReader, root: RefSlot, key: Uint8Array): Uint8Array | undefined {
  let node = openNode(reader, root);
  // Bounded: each page leads to one of later bits, and no bit is beyond the longest key's.
  for (let pages = 0; pages <= 3 * MAX_STATE_KEY_BYTES; pages++) {
    if (node.kind === 'leaf') return hasKey(node, key) ? valueOf(node) : undefined;
    node = openOuter(reader, node, outerOf(node, key));
  }
  throw new InvariantError('a search went deeper than keys are long: the database is damaged');
}

export interface IterateOptions {
  /** From this key on; empty for the beginning. */
  readonly gte: Uint8Array;
  /** Before this key; null for the end. */
  readonly lt: Uint8Array | null;
  /** At most this many entries. */
  readonly limit: number;
  /** From the last to the first. */
  readonly reverse?: boolean;
}

/**
 * Entries of a range, ascending or (reverse) descending. Reads as it goes: whoever stops early has read little more.
 * @throws InvariantError for nodes that are missing or damaged
 */
export function* iterate(
  reader: NodeReader,
  root: TreeRoot,
  options: IterateOptions,
): Generator<StateEntry, void, void> {
  const { gte, lt, limit, reverse = false } = options;
  assert(Number.isSafeInteger(limit) && limit >= 0, 'iterate: limit must be a non-negative integer');
  if (root === EMPTY || limit === 0 || (lt !== null && compareBytes(gte, lt) >= 0)) return;
  const pending = reverse ? seekDown(reader, root, lt) : seekUp(reader, root, gte);
  let given = 0;
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const node = next.node.kind === 'stub' ? expand(reader, next.node, next.above) : next.node;
    if (node.kind === 'inner') {
      const [left, right] = [childOf(node, 0), childOf(node, 1)];
      const [first, second] = reverse ? [right, left] : [left, right];
      pending.push({ node: second, above: node.bit }, { node: first, above: node.bit });
      continue;
    }
    if (!inRange(node.key, { gte, lt })) return;
    yield { key: node.key, value: node.value };
    given += 1;
    if (given === limit) return;
  }
}

/** Subtrees still to visit, the next one last; with the bit that their parent tests. At most one for each level. */
type Pending = { readonly node: Node; readonly above: number }[];

/** What holds the keys from `gte` on. */
function seekUp(reader: NodeReader, root: NonNullable<TreeRoot>, gte: Uint8Array): Pending {
  const stub = stubOf(root);
  if (gte.length === 0) return [{ node: stub, above: -1 }];
  return seek(reader, expand(reader, stub, -1), gte, 0, true);
}

/** What holds the keys before `lt`. */
function seekDown(reader: NodeReader, root: NonNullable<TreeRoot>, lt: Uint8Array | null): Pending {
  const stub = stubOf(root);
  if (lt === null) return [{ node: stub, above: -1 }];
  return seek(reader, expand(reader, stub, -1), lt, 1, false);
}

/**
 * What lies beyond `bound` on the side opposite to `direction`: where the search for it turns in that direction, the
 * other child does. The subtree where the bound would be inserted lies all on one side of it.
 */
function seek(
  reader: NodeReader,
  root: Leaf | Inner,
  bound: Uint8Array,
  direction: 0 | 1,
  withBound: boolean,
): Pending {
  const { path, leaf } = search(reader, root, bound);
  const bit = criticalBit(leaf.key, bound);
  const shared = bit === -1 ? path : path.filter((node) => node.bit < bit);
  const pending: Pending = [];
  for (const node of shared) {
    if (keyBit(bound, node.bit) === direction) {
      pending.push({ node: childOf(node, direction === 0 ? 1 : 0), above: node.bit });
    }
  }
  const rest = path[shared.length] ?? leaf;
  if (bit === -1 ? withBound : keyBit(bound, bit) === direction) {
    pending.push({ node: rest, above: shared.at(-1)?.bit ?? -1 });
  }
  return pending;
}

/** One version of the state as the vm reads it. */
export function stateReader(reader: NodeReader, root: TreeRoot): StateReader {
  const slot = root === EMPTY ? undefined : { bytes: encodeRef(root), at: 0 };
  return {
    get(key) {
      assert(isStateKey(key), 'a state key has 1 to 128 bytes');
      return slot === undefined ? undefined : getFrom(reader, slot, key);
    },
    range: (query) => iterate(reader, root, query),
  };
}
