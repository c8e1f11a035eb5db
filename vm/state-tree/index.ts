/** The authenticated ordered map under the state root. docs/state-tree.md says what it is and why. */
export { applyWrites, type AppliedWrites, rootHashOf } from './apply.ts';
export { auditTree } from './audit.ts';
export {
  checkedNode,
  decodeRoot,
  EMPTY,
  encodeRoot,
  type NewNode,
  type NodeReader,
  type NodeRef,
  nodeKey,
  OUTER,
  outerAt,
  refAt,
  type RefSlot,
  sequenceAt,
  type StoredNode,
  type StoredPage,
  takeApart,
  type TreeRoot,
  versionAt,
} from './node.ts';
export { proveKey, proveRange } from './prove.ts';
export { get, iterate, stateReader } from './read.ts';
