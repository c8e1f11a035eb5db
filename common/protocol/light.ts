/**
 * Light verification: from a validator set that one trusts to any state entry, with signatures and hashes alone.
 *
 * Whoever knows the genesis knows the first set. A set hands over to the next in a header that it certified itself
 * (`nextValidatorsHash`), so trust follows the chain of handovers, and a node that shows them can lie about nothing
 * else. What this cannot tell is whether a header is the latest: callers bound its age by their own clock.
 */
import { equalBytes } from '../bytes.ts';
import type { Sm2Engine } from '../crypto/sm2.ts';
import { boundedBytes, decode, list, struct, type TypeOf } from '../codec.ts';
import { accept, reject, type Verdict } from '../errors.ts';
import { type BlockHeader, blockHash, blockHeader, certificate, MAX_HEADER_BYTES, verifyCertificate } from './block.ts';
import type { Hash, Height } from './primitives.ts';
import { verifyProof } from './state-proof.ts';
import { validatorSet, type ValidatorSet, validatorSetHash } from './validator-set.ts';

/** A header with the certificate that makes it final. */
export const certifiedHeader = struct({ header: boundedBytes(1, MAX_HEADER_BYTES), certificate });
export type CertifiedHeader = TypeOf<typeof certifiedHeader>;

/** A header that hands over to another set, which it names by hash. */
export const handover = struct({ at: certifiedHeader, nextValidators: validatorSet });
export type Handover = TypeOf<typeof handover>;

/** Membership changes between what one trusts and the header: a verifier keeps what it learned and asks from there. */
export const MAX_HANDOVERS = 64;

export const lightProof = struct({ handovers: list(handover, MAX_HANDOVERS), head: certifiedHeader });
export type LightProof = TypeOf<typeof lightProof>;

/** The set that certifies all heights from `fromHeight` until the next handover. */
export interface TrustedSet {
  readonly chainId: Hash;
  readonly fromHeight: Height;
  readonly validators: ValidatorSet;
}

export interface VerifiedHeader {
  readonly header: BlockHeader;
  readonly hash: Hash;
  /** The set that certified it: trusted from now on. */
  readonly trusted: TrustedSet;
}

/** Checks one certified header against the set that is trusted for it. */
export function verifyHeader(trusted: TrustedSet, proof: CertifiedHeader, engine: Sm2Engine): Verdict<VerifiedHeader> {
  const header = decode(blockHeader, proof.header, MAX_HEADER_BYTES);
  if (!header.ok) return header;
  if (!equalBytes(header.value.chainId, trusted.chainId)) {
    return reject('CHAIN_ID_MISMATCH', 'the header is of another chain');
  }
  if (header.value.height < trusted.fromHeight) {
    return reject('HEADER_TOO_OLD', 'the header is older than the validator set that is trusted');
  }
  const hash = blockHash(proof.header);
  const certified: Verdict = verifyCertificate(header.value, hash, proof.certificate, trusted.validators, engine);
  return certified.ok ? accept({ header: header.value, hash, trusted }) : certified;
}

/** Checks one handover. @returns the set that is trusted after it */
export function verifyHandover(trusted: TrustedSet, proof: Handover, engine: Sm2Engine): Verdict<TrustedSet> {
  const verified = verifyHeader(trusted, proof.at, engine);
  if (!verified.ok) return verified;
  const { header } = verified.value;
  if (!equalBytes(validatorSetHash(proof.nextValidators), header.nextValidatorsHash)) {
    return reject('WRONG_VALIDATOR_SET', 'the handover names another next set');
  }
  return accept({ chainId: trusted.chainId, fromHeight: header.height + 1, validators: proof.nextValidators });
}

/**
 * Follows the handovers and checks the head. Handovers from before what is trusted are passed over: whoever shows them need
 * not know how far the verifier is.
 */
export function verifyLightProof(trusted: TrustedSet, proof: LightProof, engine: Sm2Engine): Verdict<VerifiedHeader> {
  let current = trusted;
  for (const step of proof.handovers) {
    const header = decode(blockHeader, step.at.header, MAX_HEADER_BYTES);
    if (!header.ok) return header;
    if (header.value.height < trusted.fromHeight) continue;
    const next = verifyHandover(current, step, engine);
    if (!next.ok) return next;
    current = next.value;
  }
  return verifyHeader(current, proof.head, engine);
}

/**
 * The value of a key in the state after the block of a verified header; null where it is proven to be absent.
 * @param proof as `state_get` answers it, untrusted
 */
export function verifyStateEntry(at: VerifiedHeader, key: Uint8Array, proof: Uint8Array): Verdict<Uint8Array | null> {
  const proven = verifyProof(at.header.stateRoot, key, proof);
  if (!proven.ok) return proven;
  return accept(proven.value.present ? proven.value.value : null);
}
