/** Where the core stands: the head that it was told of last, and this node's place in its set. */
import { equalBytes } from '../../common/bytes.ts';
import type { Address } from '../../common/protocol/primitives.ts';
import type { ChainHead } from '../../consensus/types.ts';
import type { ExecutionHead } from '../execution/execution-head.ts';

/** The core speaks of validators by index into this head's set, which changes only when the core is told. */
export interface Position {
  readonly head: ChainHead;
  /** This node's index; null when it is not in the set. */
  readonly self: number | null;
}

export function positionOf(head: ExecutionHead, address: Address): Position {
  const { validators } = head;
  const index = validators.findIndex((validator) => equalBytes(validator.address, address));
  return {
    self: index === -1 ? null : index,
    head: {
      height: head.height,
      hash: head.hash,
      timestampMs: head.header.timestampMs,
      validators,
      validatorsHash: head.header.nextValidatorsHash,
    },
  };
}
