/** Whose node a key is: validator or observer, as the state has it now. What changes it is in membership.ts. */
import { equalBytes } from '../common/bytes.ts';
import type { Address } from '../common/protocol/primitives.ts';
import { observerEntry, stateKey, validatorsEntry } from '../common/protocol/state-entries.ts';
import type { Validator, ValidatorSet } from '../common/protocol/validator-set.ts';
import type { Overlay } from './overlay.ts';

export interface Membership {
  readonly member: Validator;
  readonly role: 'validator' | 'observer';
}

export const validatorsOf = (state: Overlay): ValidatorSet =>
  state.must(validatorsEntry, stateKey.validators(), 'validator set');

/** The member that a node's key belongs to now. */
export function membershipOf(state: Overlay, address: Address): Membership | undefined {
  const validator = validatorsOf(state).find((v) => equalBytes(v.address, address));
  if (validator !== undefined) return { member: validator, role: 'validator' };
  const observer = state.get(observerEntry, stateKey.observer(address));
  return observer && { member: observer, role: 'observer' };
}
