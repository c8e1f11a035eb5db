/**
 * What passes between a node and the custodian of its hospital, and between hospitals, when key material is released.
 *
 * A demand names a grant and proves it: the custodian trusts no node, its own included. Replies are many and come
 * asynchronously; which of them help is for the requester to find out, by the key check of the record.
 */
import { boundedBytes, bytes, struct, text, type TypeOf, union } from '../codec.ts';
import { lightProof, MAX_HANDOVERS } from './light.ts';
import { MAX_CERTIFICATE_BYTES, MAX_HEADER_BYTES } from './block.ts';
import { code, hash32, MAX_SIDECAR_BYTES, MAX_VALIDATORS, orgId, publicKey, signature } from './primitives.ts';
import type { OrgId } from './primitives.ts';
import { MAX_KEY_PROOF_BYTES } from './state-proof.ts';

const proof = boundedBytes(1, MAX_KEY_PROOF_BYTES);

export const releaseDemand = struct({
  grantId: hash32,
  head: lightProof,
  /** State proofs under the head's state root, of the entries named. */
  request: proof,
  recordVersion: proof,
  /** Account of the requester. */
  requester: proof,
  /** Organisation of that account. */
  requesterOrg: proof,
  params: proof,
  /** The record's sidecar, which the record version commits to by hash. */
  sidecar: boundedBytes(1, MAX_SIDECAR_BYTES),
});
export type ReleaseDemand = TypeOf<typeof releaseDemand>;

export const MAX_RELEASE_DEMAND_BYTES =
  5 * MAX_KEY_PROOF_BYTES +
  MAX_SIDECAR_BYTES +
  (MAX_HANDOVERS + 1) * (MAX_HEADER_BYTES + MAX_CERTIFICATE_BYTES) +
  MAX_HANDOVERS * MAX_VALIDATORS * 256;

const MAX_REFUSAL_CHARACTERS = 300;

export const releaseAnswer = union({
  released: struct({
    orgId,
    /** SM2 encryption to the request's fresh key of `wrapPlaintext` (record.ts). */
    wrapped: boundedBytes(98, 512),
    custodianKey: publicKey,
    /** By the custodian, over `releaseSigningHash`. */
    signature,
  }),
  refused: struct({ orgId, code, message: text(MAX_REFUSAL_CHARACTERS) }),
});
export type ReleaseAnswer = TypeOf<typeof releaseAnswer>;
export const MAX_RELEASE_ANSWER_BYTES = 1024;

/** A refusal that can be sent, whatever the message is: cut to its length, and never in the middle of a character. */
export function refusal(by: OrgId, why: { readonly code: string; readonly message: string }): ReleaseAnswer {
  const message = why.message.slice(0, MAX_REFUSAL_CHARACTERS).toWellFormed();
  return { kind: 'refused', orgId: by, code: why.code, message: message === '' ? why.code : message };
}

/** Between hospitals: the grant alone. Everything else each hospital takes from its own executed state. */
export const releaseCall = struct({ grantId: bytes(32) });
export const MAX_RELEASE_CALL_BYTES = 64;
