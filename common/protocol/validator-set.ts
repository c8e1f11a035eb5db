/**
 * The validators that certify a height: who they are, how many of them decide, and which order they lead in.
 */
import { compareBytes } from '../bytes.ts';
import { encode, list, struct, text, type TypeOf } from '../codec.ts';
import { assert } from '../errors.ts';
import { H } from '../crypto/hash.ts';
import { address, type Hash, MAX_VALIDATORS, orgId, publicKey } from './primitives.ts';

/** libp2p peer id, base58btc text. */
export const peerId = text(64, /^[1-9A-HJ-NP-Za-km-z]+$/);

/** A validator; an observer has the same fields. */
export const validator = struct({
  /** One validator and one vote per legal entity. */
  orgId,
  publicKey,
  /** Address of `publicKey`. */
  address,
  /** Its connections come from this peer. */
  peerId,
});
export type Validator = TypeOf<typeof validator>;

/** Sorted by address, without duplicates; a validator's index is its position here. */
export const validatorSet = list(validator, MAX_VALIDATORS, 1);
export type ValidatorSet = readonly Validator[];

/** Hash that headers name the set by. */
export const validatorSetHash = (set: ValidatorSet): Hash => H('validators', encode(validatorSet, set));

/** Sorted copy; throws `InvariantError` on a duplicate address, organisation or peer id. */
export function sortedValidatorSet(set: ValidatorSet): ValidatorSet {
  const sorted = [...set].sort((a, b) => compareBytes(a.address, b.address));
  for (const field of [(v: Validator) => v.orgId, (v: Validator) => v.peerId, (v: Validator) => v.publicKey.join()]) {
    assert(new Set(sorted.map(field)).size === sorted.length, 'validators of one set are distinct');
  }
  return sorted;
}

/** How many Byzantine validators a set of `n` survives: floor((n - 1) / 3). */
export const faultTolerance = (n: number): number => Math.floor((n - 1) / 3);

/** How many validators decide: ceil((n + f + 1) / 2); two quorums share an honest validator. */
export const quorumSize = (n: number): number => Math.ceil((n + faultTolerance(n) + 1) / 2);

/** How a set of `n` decides. */
export const decisionOf = (n: number): { validators: number; faultTolerance: number; quorum: number } => ({
  validators: n,
  faultTolerance: faultTolerance(n),
  quorum: quorumSize(n),
});

/** No vote leaves fewer: below four, one faulty validator is one too many. A genesis may begin smaller, for trials. */
export const MIN_VALIDATORS = 4;
