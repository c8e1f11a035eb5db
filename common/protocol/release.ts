/**
 * What passes between a node and the custodian of its hospital, and between hospitals, when key material is released.
 *
 * A demand names a grant and proves it: the custodian trusts no node, its own included. Replies are many and come
 * asynchronously; which of them help is for the requester to find out, by the key check of the record.
 */
import { boundedBytes, bytes, list, nullable, struct, text, type TypeOf, uint, union } from '../codec.ts';
import { complaint, dealing, point, proof as knowledgeProof, releaseShareBytes } from './custody.ts';
import { lightProof, MAX_HANDOVERS } from './light.ts';
import { MAX_CERTIFICATE_BYTES, MAX_HEADER_BYTES } from './block.ts';
import { code, hash32, MAX_SIDECAR_BYTES, MAX_VALIDATORS, orgId, publicKey, signature } from './primitives.ts';
import type { OrgId } from './primitives.ts';
import { MAX_KEY_PROOF_BYTES } from './state-proof.ts';

const proof = boundedBytes(1, MAX_KEY_PROOF_BYTES);

const evidenceBytes = (keyProofs: number): number =>
  keyProofs * MAX_KEY_PROOF_BYTES +
  (MAX_HANDOVERS + 1) * (MAX_HEADER_BYTES + MAX_CERTIFICATE_BYTES) +
  MAX_HANDOVERS * MAX_VALIDATORS * 256;

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

/** As a release demand, for a record that is sealed under the key that the custodians share. */
export const shareDemand = struct({
  grantId: hash32,
  head: lightProof,
  request: proof,
  recordVersion: proof,
  requester: proof,
  requesterOrg: proof,
  params: proof,
  /** Of the custody epoch that is active. */
  epoch: proof,
});
export type ShareDemand = TypeOf<typeof shareDemand>;

/** A custody session as the state has it, shown to a custodian so that it takes the next step. */
export const sessionDemand = struct({
  head: lightProof,
  session: proof,
  /** The active epoch, or its absence. */
  epoch: proof,
  /** Of the dealings that are stored. */
  dealings: list(struct({ dealer: uint(MAX_VALIDATORS), proof }), MAX_VALIDATORS),
});
export type SessionDemand = TypeOf<typeof sessionDemand>;

export const custodianDemand = union({ release: releaseDemand, share: shareDemand, session: sessionDemand });
export type CustodianDemand = TypeOf<typeof custodianDemand>;
export const MAX_CUSTODIAN_DEMAND_BYTES = MAX_SIDECAR_BYTES + evidenceBytes(MAX_VALIDATORS + 6);

const MAX_REFUSAL_CHARACTERS = 300;

const released = struct({
  orgId,
  /** SM2 encryption to the request's fresh key of `wrapPlaintext` (record.ts). */
  wrapped: boundedBytes(98, 512),
  custodianKey: publicKey,
  /** By the custodian, over `releaseSigningHash`. */
  signature,
});
const refused = struct({ orgId, code, message: text(MAX_REFUSAL_CHARACTERS) });
const share = struct({
  orgId,
  /** A holder's masked share; `common/crypto/custody/release-share.ts` checks it. */
  share: releaseShareBytes,
  custodianKey: publicKey,
  /** By the custodian, over `custodyShareHash`. */
  signature,
});

/** What one holder of key material answers to a grant. */
export const releaseAnswer = union({ released, refused, share });
export type ReleaseAnswer = TypeOf<typeof releaseAnswer>;
export const MAX_RELEASE_ANSWER_BYTES = 1024;

/** What a custodian wants to be said on the chain, by its node, in a session. */
export const custodyStep = union({
  /** `signature` is the custodian's, over `custodyAnnounceHash`. */
  announce: struct({ key: point, proof: knowledgeProof, custodianKey: publicKey, signature }),
  deal: struct({ dealing }),
  complain: struct({ complaint }),
  confirm: struct({ proof: knowledgeProof }),
});
export type CustodyStep = TypeOf<typeof custodyStep>;

export const custodianAnswer = union({
  released,
  refused,
  share,
  /** Empty where there is nothing to do, or where the custodian waits for its operator (`waitsFor` says for what). */
  steps: struct({ orgId, steps: list(custodyStep, MAX_VALIDATORS), waitsFor: nullable(text(MAX_REFUSAL_CHARACTERS)) }),
});
export type CustodianAnswer = TypeOf<typeof custodianAnswer>;
/** Complaints about everybody, or one dealing. */
export const MAX_CUSTODIAN_ANSWER_BYTES = 8 * 1024;

/** A refusal that can be sent, whatever the message is: cut to its length, and never in the middle of a character. */
export function refusal(by: OrgId, why: { readonly code: string; readonly message: string }): ReleaseAnswer {
  const message = why.message.slice(0, MAX_REFUSAL_CHARACTERS).toWellFormed();
  return { kind: 'refused', orgId: by, code: why.code, message: message === '' ? why.code : message };
}

/** Between hospitals: the grant alone. Everything else each hospital takes from its own executed state. */
export const releaseCall = struct({ grantId: bytes(32) });
export const MAX_RELEASE_CALL_BYTES = 64;
