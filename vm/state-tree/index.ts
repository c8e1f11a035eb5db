/** The authenticated ordered map under the state root. docs/state-tree.md says what it is and why. */
export { applyWrites, type AppliedWrites, MAX_BATCH_WRITES, rootHashOf } from './apply.ts';
export { auditTree, type TreeAudit } from './audit.ts';
export {
  decodeRoot,
  EMPTY,
  encodeRoot,
  type NewNode,
  type NodeReader,
  type NodeRef,
  nodeKey,
  NODE_KEY_BYTES,
  type TreeRoot,
} from './node.ts';
export { MAX_RANGE_ENTRIES, proveKey, proveRange, type RangeProof } from './prove.ts';
export { get, iterate, type IterateOptions, stateReader } from './read.ts';
