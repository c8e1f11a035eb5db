/** The committed block that the next one is executed on, with what its state says about the next height. */
import { equalBytes } from '../../common/bytes.ts';
import { decodeTrusted } from '../../common/codec.ts';
import { assert } from '../../common/errors.ts';
import type { BlockHeader } from '../../common/protocol/block.ts';
import type { ChainParams } from '../../common/protocol/chain-params.ts';
import type { Hash, Height } from '../../common/protocol/primitives.ts';
import { paramsEntry, stateKey, validatorsEntry } from '../../common/protocol/state-entries.ts';
import { type ValidatorSet, validatorSetHash } from '../../common/protocol/validator-set.ts';
import type { LeaderHistory } from '../../consensus/types.ts';
import { blockDue } from '../../vm/index.ts';
import { rootHashOf, type TreeRoot } from '../../vm/state-tree/index.ts';
import type { BlockDue, StateReader } from '../../vm/types.ts';

export interface ExecutionHead {
  readonly height: Height;
  readonly hash: Hash;
  readonly header: BlockHeader;
  readonly root: TreeRoot;
  readonly params: ChainParams;
  /** The set that certifies the next height: its hash is the header's `nextValidatorsHash`. */
  readonly validators: ValidatorSet;
  /** For the next height. */
  readonly leaders: LeaderHistory;
  /** When the state itself asks for a block. */
  readonly due: BlockDue;
}

/** Reads the head's part of the state, and holds it against the header. */
export function readExecutionHead(
  at: { readonly hash: Hash; readonly header: BlockHeader; readonly root: TreeRoot; readonly leaders: LeaderHistory },
  state: StateReader,
): ExecutionHead {
  assert(equalBytes(rootHashOf(at.root), at.header.stateRoot), 'the state is not that of the head');
  const params = state.get(stateKey.params());
  const validators = state.get(stateKey.validators());
  assert(params !== undefined && validators !== undefined, 'the state has no parameters or no validators');
  const set = decodeTrusted(validatorsEntry, validators, 'validator set');
  assert(equalBytes(validatorSetHash(set), at.header.nextValidatorsHash), 'the validators are not those of the head');
  return {
    ...at,
    height: at.header.height,
    params: decodeTrusted(paramsEntry, params, 'parameters'),
    validators: set,
    due: blockDue(state),
  };
}
