/**
 * Threshold custody on the chain: how the key that records are sealed under is made by the custodians of all validators'
 * organisations, handed on when the set of them changes, and used. Formulas: docs/custody-protocol.md, section 12.
 *
 * A session makes or hands on the key. Its phases are counted by the chain alone:
 *
 *   announce   each receiver's custodian names a fresh key that its parts are encrypted to
 *   deal       each dealer's custodian deals; at the deadline a threshold of dealers is enough
 *   confirm    each receiver's custodian proves that it has its share; complaints are heard until the end
 *   prepared   everybody has; a change of members that the session is for takes effect with it, at one height
 *
 * Receivers are in the order of the validator set that the session is for; index i in a formula is position i - 1.
 */
import { concatBytes, u32be, u64be, utf8 } from '../bytes.ts';
import { bool, boundedBytes, bytes, list, nullable, oneOf, struct, type TypeOf, uint } from '../codec.ts';
import { COMPRESSED_BYTES, encodePoint, SCALAR_BYTES } from '../crypto/curve.ts';
import { GBAR, RECORD_KEY_BYTES } from '../crypto/custody/capsule.ts';
import { COMPLAINT_BYTES, dealingBytes } from '../crypto/custody/dealing.ts';
import { PROOF_BYTES } from '../crypto/custody/proofs.ts';
import { RELEASE_SHARE_BYTES } from '../crypto/custody/release-share.ts';
import { H } from '../crypto/hash.ts';
import { type Hash, hash32, height, MAX_VALIDATORS, orgId, type OrgId, publicKey, timeMs } from './primitives.ts';
import { quorumSize } from './validator-set.ts';

/** A point of the curve, 33 bytes compressed. Whether it is one is checked where it is used. */
export const point = bytes(COMPRESSED_BYTES);
/** (e, z), 64 bytes. */
export const proof = bytes(PROOF_BYTES);
/** The largest set of receivers, with its threshold. */
export const MAX_DEALING_BYTES = dealingBytes({
  id: new Uint8Array(0),
  n: MAX_VALIDATORS,
  t: quorumSize(MAX_VALIDATORS),
});
export const dealing = boundedBytes(1, MAX_DEALING_BYTES);
export const complaint = bytes(COMPLAINT_BYTES);
export const releaseShareBytes = bytes(RELEASE_SHARE_BYTES);

/** What an absent receiver's parts are encrypted to: nobody knows the logarithm, so that nobody ever reads them. */
export const NOBODYS_KEY = encodePoint(GBAR);

/** How many custodians release a key, of `n`: as many as decide a block, so that custody never needs more nodes than that. */
export const custodyThreshold = (n: number): number => quorumSize(n);

export const CUSTODY_PHASES = ['announce', 'deal', 'confirm', 'prepared'] as const;

/** Organisations whose custodians hold shares, in the order of their indices 1..n. */
export const custodyReceivers = list(struct({ orgId, custodianKey: publicKey }), MAX_VALIDATORS, 1);
export type CustodyReceivers = TypeOf<typeof custodyReceivers>;

/** Names the set that a session is for: what a holder's operator confirms before it hands its share on. */
export const custodySetHash = (receivers: CustodyReceivers): Hash =>
  H('custody-set', ...receivers.flatMap(({ orgId: org, custodianKey }) => [utf8(org), custodianKey]));

export const CUSTODY_KINDS = ['genesis', 'reshare'] as const;
export type CustodyKind = (typeof CUSTODY_KINDS)[number];

/** The one key that there is. */
const KEY_NAME = 'records';
const NO_PROPOSAL = new Uint8Array(32);

/** Everything that the session's messages are bound to. */
export const custodySessionIdOf = (session: {
  readonly chainId: Hash;
  readonly kind: CustodyKind;
  readonly epoch: number;
  readonly setHash: Hash;
  readonly height: number;
  /** The vote that caused it; null where a new set or a failed attempt did. */
  readonly proposalId: Hash | null;
}): Hash =>
  H(
    'dkg-session',
    session.chainId,
    utf8(KEY_NAME),
    utf8(session.kind),
    u32be(session.epoch),
    session.setHash,
    u64be(session.height),
    session.proposalId ?? NO_PROPOSAL,
  );

/** By the receiver's custodian key: the node cannot put an encryption key of its own in the place of its custodian's. */
export const custodyAnnounceHash = (sessionId: Hash, org: OrgId, key: Uint8Array): Hash =>
  H('custody-announce', sessionId, utf8(org), key);

/** Which share it is: what is a holder's in one epoch is false in the next. */
export interface ShareSubject {
  readonly chainId: Hash;
  readonly epoch: number;
  /** Hash of the granted request. */
  readonly grantId: Hash;
}

/** By the holder's custodian key, over a release share: it answers for that epoch, and a false share of that epoch convicts it. */
export const custodyShareHash = ({ chainId, epoch, grantId }: ShareSubject, org: OrgId, share: Uint8Array): Hash =>
  H('custody-share', chainId, u32be(epoch), grantId, utf8(org), share);

/** The epoch that is active: whose shares open records. */
export const custodyEpochEntry = struct({
  epoch: uint(2 ** 32 - 1),
  sessionId: hash32,
  /** X, the same in all epochs. */
  key: point,
  threshold: uint(MAX_VALIDATORS),
  /** X_i = x_i G in order of index. */
  holders: list(struct({ orgId, share: point }), MAX_VALIDATORS, 1),
  sinceHeight: height,
  sinceMs: timeMs,
  /** When the chain by itself begins to make new shares. */
  refreshMs: timeMs,
});
export type CustodyEpochEntry = TypeOf<typeof custodyEpochEntry>;

/** The session that is under way; there is one at the most. */
export const custodySessionEntry = struct({
  id: hash32,
  kind: oneOf(CUSTODY_KINDS),
  /** The epoch that it makes: 1 for the first. */
  epoch: uint(2 ** 32 - 1),
  phase: oneOf(CUSTODY_PHASES),
  threshold: uint(MAX_VALIDATORS),
  receivers: custodyReceivers,
  /** Each receiver's key for this session, in order; null until it is announced. */
  keys: list(nullable(point), MAX_VALIDATORS, 1),
  /** Indices of dealers whose dealings are stored, ascending: receivers themselves, or holders of the epoch before. */
  dealt: list(uint(MAX_VALIDATORS), MAX_VALIDATORS),
  /** Dealers that a complaint has proven false, and receivers that complained falsely. */
  disqualified: list(uint(MAX_VALIDATORS), MAX_VALIDATORS),
  falseAccusers: list(uint(MAX_VALIDATORS), MAX_VALIDATORS),
  /** What the qualified dealings add up to, from phase `confirm` on. */
  result: nullable(struct({ key: point, shares: list(point, MAX_VALIDATORS, 1) })),
  /** Receivers that have proven to hold their share. */
  confirmed: list(uint(MAX_VALIDATORS), MAX_VALIDATORS),
  /** By vote: goes on without the receivers that are missing, as long as a threshold of them is there. */
  override: bool,
  openedHeight: height,
  openedMs: timeMs,
  /** When the phase `deal` no longer waits for every dealer; null in other phases. */
  deadlineMs: nullable(timeMs),
  /** The vote that waits for the session: a change of members, or a refresh. */
  proposalId: nullable(hash32),
});
export type CustodySessionEntry = TypeOf<typeof custodySessionEntry>;

export const custodyDealingEntry = struct({ dealing });

/** A requester's call for shares on the chain, when custodians do not answer. */
export const custodyDemandEntry = struct({
  requestHash: hash32,
  epoch: uint(2 ** 32 - 1),
  openedMs: timeMs,
  untilMs: timeMs,
  /** Verified shares, by index. */
  shares: list(struct({ orgId, share: releaseShareBytes }), MAX_VALIDATORS),
});
export type CustodyDemandEntry = TypeOf<typeof custodyDemandEntry>;

/** Everything of a threshold capsule but C, which is erasable and travels in the sidecar. */
const sealedFields = {
  /** X: the public key that the capsule is sealed under. */
  key: point,
  u: point,
  uBar: point,
  e: bytes(32),
  f: bytes(32),
} as const;
export const sealedCapsule = struct(sealedFields);
export type SealedCapsule = TypeOf<typeof sealedCapsule>;

/** The same record key under both: each opens it without the other. */
export const thresholdCapsule = struct({
  ...sealedFields,
  /** Under the recovery key; null where the policy allows none, or there was none. */
  recovery: nullable(sealedCapsule),
});
export type ThresholdCapsule = TypeOf<typeof thresholdCapsule>;

/** The 162 bytes that `common/crypto/custody/capsule.ts` reads, with C from the sidecar. */
export const capsuleBytesOf = ({ u, uBar, e, f }: SealedCapsule, c: Uint8Array): Uint8Array =>
  concatBytes(u, uBar, c, e, f);

/** The other way, of 162 bytes that `sealCapsule` made: what goes into the transaction, and C for the sidecar. */
export function splitCapsule(
  key: Uint8Array,
  capsule: Uint8Array,
): { readonly sealed: SealedCapsule; readonly c: Uint8Array } {
  let at = 0;
  const take = (length: number): Uint8Array => capsule.slice(at, (at += length));
  const [u, uBar, c] = [take(COMPRESSED_BYTES), take(COMPRESSED_BYTES), take(RECORD_KEY_BYTES)];
  return { sealed: { key, u, uBar, e: take(SCALAR_BYTES), f: take(SCALAR_BYTES) }, c };
}
