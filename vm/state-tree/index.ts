/** The authenticated ordered map under the state root. docs/state-tree.md says what it is and why. */
export { applyWrites, type AppliedWrites, rootHashOf } from './apply.ts';
export { auditTree } from './audit.ts';
export {
  bytesOf,
  checkedNode,
  copyNode,
  decodeRoot,
  EMPTY,
  encodeRoot,
  type NewNode,
  type NodeReader,
  type NodeRef,
  nodeAt,
  nodeKey,
  OUTER,
  outerAt,
  type RefSlot,
  sequenceAt,
  type StoredNode,
  type StoredPage,
  type TreeRoot,
  versionAt,
} from './node.ts';
export { proveKey, proveRange } from './prove.ts';
export { get, iterate, stateReader } from './read.ts';
export { Slab } from './slab.ts';
