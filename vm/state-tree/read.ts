/**
 * Reading the tree: one key, or a range of keys in order. Views that it gives must not be changed.
 */

import { compareBytes } from '../../common/bytes.ts';
import { assert } from '../../common/errors.ts';
import {
  criticalBit,
  inRange,
  isStateKey,
  keyBit,
  MAX_CRITICAL_BIT,
  type StateEntry,
} from '../../common/protocol/state-tree.ts';
import type { StateReader } from '../types.ts';
import {
  EMPTY,
  encodeRef,
  hasKey,
  keyOf,
  type NodeReader,
  openNode,
  openOuter,
  OUTER,
  outerOf,
  pageBit,
  pageChild,
  type RefSlot,
  type StoredLeaf,
  type StoredNode,
  type StoredPage,
  type TreeRoot,
  valueOf,
} from './node.ts';

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
  while (node.kind === 'page') node = openOuter(reader, node, outerOf(node, key));
  return hasKey(node, key) ? valueOf(node) : undefined;
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
  const top = openNode(reader, { bytes: encodeRef(root), at: 0 });
  if (top.kind === 'leaf') {
    if (inRange(keyOf(top), options)) yield entryOf(top);
    return;
  }
  const pending = reverse ? seekDown(reader, top, lt) : seekUp(reader, top, gte);
  let given = 0;
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const entry = entryOf(descend(reader, next, reverse ? 1 : 0, pending));
    if (!inRange(entry.key, options)) return;
    yield entry;
    given += 1;
    if (given === limit) return;
  }
}

function entryOf(leaf: StoredLeaf): StateEntry {
  return { key: keyOf(leaf), value: valueOf(leaf) };
}

/** A subtree below a page: an inner node of the page, or one of its outer children (`pageChild`). */
interface Subtree {
  readonly page: StoredPage;
  readonly child: number;
}

/** Subtrees still to visit, the next one last. At most one for each level. */
type Pending = Subtree[];

/** The first leaf of a subtree on the side of `direction`; what else the subtree has is still to be visited. */
function descend(reader: NodeReader, subtree: Subtree, direction: 0 | 1, pending: Pending): StoredLeaf {
  let { page, child } = subtree;
  for (;;) {
    while ((child & OUTER) === 0) {
      pending.push({ page, child: pageChild(page, child, opposite(direction)) });
      child = pageChild(page, child, direction);
    }
    const node = openOuter(reader, page, child);
    if (node.kind === 'leaf') return node;
    page = node;
    child = 0;
  }
}

/** What holds the keys from `gte` on. */
function seekUp(reader: NodeReader, top: StoredPage, gte: Uint8Array): Pending {
  return gte.length === 0 ? [{ page: top, child: 0 }] : seek(reader, top, gte, 0, true);
}

/** What holds the keys before `lt`. */
function seekDown(reader: NodeReader, top: StoredPage, lt: Uint8Array | null): Pending {
  return lt === null ? [{ page: top, child: 0 }] : seek(reader, top, lt, 1, false);
}

/**
 * What lies beyond `bound` on the side opposite to `direction`: where the search for it turns in that direction, the
 * other child does. The subtree where the bound would be inserted lies all on one side of it.
 */
function seek(reader: NodeReader, top: StoredPage, bound: Uint8Array, direction: 0 | 1, withBound: boolean): Pending {
  const pages: StoredPage[] = [];
  let node: StoredNode = top;
  while (node.kind === 'page') {
    pages.push(node);
    node = openOuter(reader, node, outerOf(node, bound));
  }
  const bit = criticalBit(keyOf(node), bound);
  const until = bit === -1 ? MAX_CRITICAL_BIT + 1 : bit;
  const pending: Pending = [];
  let rest: Subtree = { page: top, child: 0 };
  for (const page of pages) {
    let child = 0;
    while ((child & OUTER) === 0 && pageBit(page, child) < until) {
      const turn = keyBit(bound, pageBit(page, child));
      if (turn === direction) pending.push({ page, child: pageChild(page, child, opposite(turn)) });
      child = pageChild(page, child, turn);
    }
    rest = { page, child };
    if ((child & OUTER) === 0) break;
  }
  if (bit === -1 ? withBound : keyBit(bound, bit) === direction) pending.push(rest);
  return pending;
}

function opposite(direction: 0 | 1): 0 | 1 {
  return direction === 0 ? 1 : 0;
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
