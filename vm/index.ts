/** The access-control state machine's doors. Everything else in this folder is its own business. */
export { buildBlock, executeBlock, simulate, Trial } from './block.ts';
export { priorityOf } from './calls.ts';
export { REJECTIONS, type RejectionCode } from './codes.ts';
export { blockDue } from './deadlines.ts';
export { EntryCache } from './entry-cache.ts';
export {
  type AccessDecision,
  type AccessQuestion,
  ANSWERS,
  type AnswerCode,
  checkAccess,
  checkGrant,
  type ExplainedNode,
  explainRequest,
  type RequestExplanation,
} from './explain.ts';
export { checkGenesis, genesisWrites } from './genesis.ts';
export { obligations } from './obligations.ts';
export type * from './types.ts';
