/**
 * Transactions: native calls, signed by account keys. No byte code, no gas, no tokens.
 *
 * Wire form: `SignedTransaction` = body bytes, public key, signature. The replay key is (account, nonce) within the
 * transaction's validity, whatever the signature's bytes are. Blocks hold only transactions that executed with success.
 */
import {
  bool,
  boundedBytes,
  bytes,
  decode,
  encode,
  list,
  nullable,
  oneOf,
  struct,
  text,
  type TypeOf,
  uint,
  union,
} from '../codec.ts';
import { accept, type Verdict } from '../errors.ts';
import { H, hashEach } from '../crypto/hash.ts';
import { MAX_BLOB_SIZE_BYTES } from '../unixfs-layout.ts';
import { chainParams } from './chain-params.ts';
import { complaint, dealing, point, proof, releaseShareBytes, thresholdCapsule } from './custody.ts';
import { nodeCard } from './member.ts';
import { policyDocument, purpose, role } from './policy.ts';
import { recoveryKeyRegistration } from './recovery-key.ts';
import { sectionClass } from './record.ts';
import { VOTE_KINDS } from './signing.ts';
import {
  address,
  cidBytes,
  code,
  type Hash,
  hash32,
  height,
  MAX_SIDECAR_BYTES,
  MAX_TX_BYTES,
  nonce16,
  orgId,
  publicKey,
  signature,
  timeMs,
  token32,
} from './primitives.ts';

/** A second party's signature over the call's statement, for calls that no one may make alone. */
export const countersignature = struct({ account: address, publicKey, signature });
export type Countersignature = TypeOf<typeof countersignature>;

/** `patient` accounts are per-hospital pseudonyms; `staff` carry a person tag; `service` are machines, without roles. */
export const ACCOUNT_KINDS = ['staff', 'patient', 'service'] as const;
export const accountKind = oneOf(ACCOUNT_KINDS);

/** What an enrolment states; what is signed over it is in `statements.ts`. */
export const enrolment = struct({
  publicKey,
  orgId,
  kind: accountKind,
  /** Keyed token of a licence: equal for all accounts of one person. Null for patients and services only. */
  personTag: nullable(token32),
  /** The hospital keeps this patient's key: it never fills the owner slot for that hospital's own requests. */
  custodial: bool,
});
export type Enrolment = TypeOf<typeof enrolment>;

export const recovery = struct({ account: address, newPublicKey: publicKey });
export const attendingRelation = struct({ patient: address, physician: address, expiresAtMs: timeMs });
export const roleScope = struct({ account: address, role, orgId, department: nullable(token32) });

/**
 * How a record's key is kept. `direct`: wraps in the sidecar, to the patient and to the writer's custodian. `threshold`:
 * sealed under the key that the custodians of all validators' organisations share, and under the recovery key where the
 * policy allows that and there is one; C of each is in the sidecar.
 */
export const capsule = union({ direct: struct({}), threshold: thresholdCapsule });

/** Everything that a new record, or a new version of one, says about itself. */
export const recordContent = struct({
  policyRef: hash32,
  cid: cidBytes,
  /** SM3 of the whole ciphertext blob. */
  dataDigest: hash32,
  /** Size of the ciphertext blob, already padded. */
  sizeBytes: uint(MAX_BLOB_SIZE_BYTES),
  categoryToken: token32,
  /** H of the record header (`record.ts`), which lies inside the ciphertext. */
  headerHash: hash32,
  keyCheck: bytes(16),
  capsule,
  /** `sidecarHash` of the wraps that travel beside the block. */
  sidecarHash: hash32,
  ownerPublicKey: publicKey,
  /** The owner's signature over `writeSigningHash`. */
  ownerSignature: signature,
});
export type RecordContent = TypeOf<typeof recordContent>;

/** What approvers sign the hash of, the requester's fresh key included. */
export const accessRequest = struct({
  recordId: hash32,
  version: uint(2 ** 32 - 1),
  requester: address,
  /** Q: a fresh SM2 key of this request alone. */
  requesterKey: publicKey,
  purpose,
  ruleIndex: uint(7),
  policyVersion: uint(2 ** 32 - 1),
  notAfterMs: timeMs,
  nonce: nonce16,
});
export type AccessRequest = TypeOf<typeof accessRequest>;

export const proposal = union({
  addOrganisation: struct({
    orgId,
    name: text(100),
    /** Key that records' custodian wraps of this organisation are made to; null if it runs none. */
    custodianKey: nullable(publicKey),
    admin: struct({ publicKey, personTag: token32, possession: signature }),
  }),
  suspendOrganisation: struct({ orgId }),
  reinstateOrganisation: struct({ orgId }),
  setParams: struct({ params: chainParams }),
  /** Takes in a full replica without a vote. What it must be before it can be a validator. */
  admitObserver: struct({ card: nodeCard, possession: signature }),
  /** Makes an observer the validator of its organisation, once it has shown on chain that it is in step. */
  addValidator: struct({ orgId, address }),
  removeValidator: struct({ orgId }),
  removeObserver: struct({ orgId, address }),
  /** Another SM2 key, peer id or address for the node of a member. */
  rotateMember: struct({ address, card: nodeCard, possession: signature }),
  /** New shares of the custody key for the same holders. */
  refreshCustody: struct({}),
  /** Goes on with a custody session although receivers are missing, as long as a threshold of them is there. */
  overrideCustody: struct({ sessionId: hash32 }),
  /** The recovery key for new records, in the place of the one before. */
  setRecoveryKey: recoveryKeyRegistration,
  /** New records are sealed under no recovery key any more. */
  endRecoveryKey: struct({ key: point }),
});
export type Proposal = TypeOf<typeof proposal>;

/** What a policy is to say from its next version on. */
export const amendment = struct({ policyRef: hash32, version: uint(2 ** 32 - 1), document: policyDocument });
export type Amendment = TypeOf<typeof amendment>;

const signedDigest = struct({ digest: hash32, signature });

export const call = union({
  'account.enrol': struct({ enrolment, possession: signature, countersignature: nullable(countersignature) }),
  'account.suspend': struct({ account: address, reason: code }),
  'account.reinstate': struct({ account: address }),
  /** By the account itself: its old key signs the transaction, the new key the possession proof. */
  'account.rotate': struct({ newPublicKey: publicKey, possession: signature }),
  /** By an administrator of the account's organisation, countersigned in a second one; takes effect after a delay. */
  'account.recover': struct({ recovery, possession: signature, countersignature: nullable(countersignature) }),
  /** By the account's old key, within the delay. */
  'account.vetoRecovery': struct({}),
  'account.completeRecovery': struct({ account: address }),
  'role.grant': struct({ scope: roleScope, expiresAtMs: timeMs }),
  'role.revoke': struct({ scope: roleScope }),
  /** By the patient alone, or by an author among the owner's physicians with a second party. */
  'attending.set': struct({ relation: attendingRelation, countersignature: nullable(countersignature) }),
  'attending.end': struct({ patient: address, physician: address }),
  'policy.create': struct({ document: policyDocument }),
  /** Approvals and rejections name the amendment's id, which is the hash of all that it says. */
  'policy.propose': struct({ amendment, nonce: nonce16 }),
  'policy.approve': struct({ amendmentId: hash32 }),
  'policy.reject': struct({ amendmentId: hash32 }),
  /** `hospital` is the sender's organisation; named here so that what the owner signs needs no state to be checked. */
  'record.create': struct({ owner: address, hospital: orgId, nonce: nonce16, sectionClass, content: recordContent }),
  /** `owner`, `hospital` and `sectionClass` repeat what the record says, for the same reason. */
  'record.addVersion': struct({
    recordId: hash32,
    version: uint(2 ** 32 - 1),
    owner: address,
    hospital: orgId,
    sectionClass,
    content: recordContent,
  }),
  'access.request': struct({ request: accessRequest, possession: signature }),
  'access.approve': struct({ requestHash: hash32 }),
  'access.deny': struct({ requestHash: hash32, reason: code }),
  'access.cancel': struct({ requestHash: hash32 }),
  'access.revoke': struct({ requestHash: hash32, reason: code }),
  /** The owner's client re-wraps the record key to the requester: the wrap is the sidecar. */
  'access.deliver': struct({ requestHash: hash32, sidecarHash: hash32 }),
  /** The requester's last resort: each holder is to post its share on the chain, and who does not is seen to. */
  'access.demand': struct({ requestHash: hash32 }),
  'gov.propose': struct({ proposal, nonce: nonce16 }),
  'gov.vote': struct({ proposalId: hash32, approve: bool }),
  /**
   * By nodes, not by people: `account` is the address of the key of a validator or an observer, which signs.
   *
   * A candidate shows that it has executed the chain up to `height`.
   */
  'node.ready': struct({ height, stateRoot: hash32 }),
  /** A validator signed two votes of one kind for one height and view. */
  'node.evidence': struct({
    publicKey,
    vote: oneOf(VOTE_KINDS),
    height,
    view: uint(),
    first: signedDigest,
    second: signedDigest,
  }),
  /** Of a custody session, relayed for the organisation's custodian: the key that its parts are encrypted to. */
  'node.custodyAnnounce': struct({
    sessionId: hash32,
    /** The node's organisation; named here so that what the custodian signs needs no state to be checked. */
    orgId,
    key: point,
    /** The custodian knows the logarithm of `key`. */
    proof,
    custodianKey: publicKey,
    /** By `custodianKey`, over `custodyAnnounceHash`. */
    signature,
  }),
  'node.custodyDeal': struct({ sessionId: hash32, dealing }),
  'node.custodyComplain': struct({ sessionId: hash32, complaint }),
  /** The custodian has its share. */
  'node.custodyConfirm': struct({ sessionId: hash32, proof }),
  /** The share that an `access.demand` calls for. */
  'node.custodyShare': struct({ requestHash: hash32, share: releaseShareBytes }),
});
export type Call = TypeOf<typeof call>;
export type CallKind = Call['kind'];
/** Calls of which the sender is a node, known by its validator's or observer's key. */
export type NodeCall = Extract<Call, { readonly kind: `node.${string}` }>;
export const isNodeCall = (value: Call): value is NodeCall => value.kind.startsWith('node.');
export type CallOf<K extends CallKind> = Extract<Call, { readonly kind: K }>;

export const transactionBody = struct({
  version: uint(1),
  /** Genesis hash. */
  chainId: hash32,
  /** Account id, which outlives its keys; for calls of nodes the address of the node's key. */
  account: address,
  nonce: nonce16,
  /** Last block time at which it may be executed. */
  validUntilMs: timeMs,
  call,
});
export type TransactionBody = TypeOf<typeof transactionBody>;

export const signedTransaction = struct({ body: boundedBytes(1, MAX_TX_BYTES), publicKey, signature });
export type SignedTransaction = TypeOf<typeof signedTransaction>;

/** Identity of a transaction: hash of its full signed bytes. */
export const txHash = (signedBytes: Uint8Array): Hash => H('signedtx', signedBytes);
/** `txHash` of each of many, in their order. */
export const txHashes = (signedBytes: readonly Uint8Array[]): Hash[] => hashEach('signedtx', signedBytes);
export const sidecarHash = (bytesOf: Uint8Array): Hash => H('sidecar', bytesOf);
export const requestHashOf = (chainId: Hash, request: AccessRequest): Hash =>
  H('request', chainId, encode(accessRequest, request));
export const proposalIdOf = (chainId: Hash, account: Uint8Array, nonce: Uint8Array, value: Proposal): Hash =>
  H('proposal', chainId, account, nonce, encode(proposal, value));
export const amendmentIdOf = (chainId: Hash, account: Uint8Array, nonce: Uint8Array, value: Amendment): Hash =>
  H('amendment', chainId, account, nonce, encode(amendment, value));

/** A transaction decoded once, with the bytes it came in and their hash; passed on so that nobody does it again. */
export interface DecodedTransaction {
  readonly bytes: Uint8Array;
  readonly hash: Hash;
  readonly signed: SignedTransaction;
  readonly body: TransactionBody;
}

/**
 * Strict decoding of untrusted bytes: TOO_LARGE, MALFORMED or NOT_CANONICAL where they are not one transaction.
 * @param hash their `txHash`, where the caller has made it already
 */
export function decodeTransaction(signedBytes: Uint8Array, hash?: Hash): Verdict<DecodedTransaction> {
  const signed = decode(signedTransaction, signedBytes, MAX_TX_BYTES);
  if (!signed.ok) return signed;
  const body = decode(transactionBody, signed.value.body, MAX_TX_BYTES);
  if (!body.ok) return body;
  return accept({ bytes: signedBytes, hash: hash ?? txHash(signedBytes), signed: signed.value, body: body.value });
}

/** The erasable part of a transaction. */
export const keyWrap = struct({
  to: union({ patient: struct({}), custodian: struct({ orgId }) }),
  /** SM2 public-key encryption (C1C3C2, 97 bytes more than its message) of `wrapPlaintext`. */
  ciphertext: boundedBytes(98, 512),
});
export const sidecar = union({
  wraps: struct({ wraps: list(keyWrap, 2) }),
  /** Of a threshold capsule: C, C under the recovery key where there is that, the patient's wrap where the policy has one. */
  sealed: struct({ c: bytes(32), recoveryC: nullable(bytes(32)), wraps: list(keyWrap, 1) }),
  delivery: struct({ ciphertext: boundedBytes(98, 512) }),
});
export type Sidecar = TypeOf<typeof sidecar>;
export const encodeSidecar = (value: Sidecar): Uint8Array => encode(sidecar, value);
export const decodeSidecar = (value: Uint8Array): Verdict<Sidecar> => decode(sidecar, value, MAX_SIDECAR_BYTES);

/** The hash that a call commits to its erasable bytes by; null for calls without a sidecar. */
export function sidecarHashOf(value: Call): Hash | null {
  switch (value.kind) {
    case 'record.create':
    case 'record.addVersion':
      return value.content.sidecarHash;
    case 'access.deliver':
      return value.sidecarHash;
    default:
      return null;
  }
}
