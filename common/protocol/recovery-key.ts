/**
 * The recovery key: a second key like the one that the custodians share, whose shares lie with people (officers) of at least
 * two organisations, on machines without a network. It opens records when more custodians have lost their shares than the
 * custody key can do without (docs/custody-protocol.md, section 14).
 *
 * Its officers make it among themselves, with the dealings of the custody key, as files that go from hand to hand:
 *
 *   plan          who holds a share, and how many of them open a record
 *   announcement  of each officer: a fresh key that parts are encrypted to
 *   dealing       of each officer, to all of them
 *   holding       of each officer: what the dealings add up to, and a proof to have the share of it
 *
 * and the members vote on what came out (`setRecoveryKey`). There are no complaints: where a dealing is false its dealer is
 * named, and the officers begin anew without that one. Officer i of the plan has the index i, from 1 on.
 */
import { concatBytes, u16be } from '../bytes.ts';
import { boundedBytes, bytes, encode, list, nullable, struct, type TypeOf, uint } from '../codec.ts';
import { type CurvePoint, encodePoint, SCALAR_BYTES } from '../crypto/curve.ts';
import type { Session } from '../crypto/custody/dealing.ts';
import { checkShareProof, type SharedKey } from '../crypto/custody/shared-key.ts';
import { commitmentAt } from '../crypto/custody/sharing.ts';
import { H } from '../crypto/hash.ts';
import { decodePublicPoint } from '../crypto/public-arithmetic.ts';
import { accept, reject, type Verdict } from '../errors.ts';
import { point, proof } from './custody.ts';
import { address, type Hash, hash32, height, nonce16, orgId, publicKey, signature, timeMs } from './primitives.ts';

/** Officers at the most: they cost the block of the proposal some 15 ms, and a meeting of more is none. */
export const MAX_RECOVERY_HOLDERS = 16;
/** Fewer would be a key that one person can use alone. */
export const MIN_RECOVERY_THRESHOLD = 2;
/** `dealingBytes` of that many, all of whom it takes. */
export const MAX_RECOVERY_DEALING_BYTES = 1_171;

const threshold = uint(MAX_RECOVERY_HOLDERS);
const index = uint(MAX_RECOVERY_HOLDERS);
/** To the polynomial whose value at i is officer i's share: as many points as officers open a record, X first. */
const commitment = list(point, MAX_RECOVERY_HOLDERS, MIN_RECOVERY_THRESHOLD);

/** An officer: the account signs, and `publicKey` is its key now. */
const officer = { account: address, orgId, publicKey } as const;

export const recoveryPlan = struct({
  chainId: hash32,
  nonce: nonce16,
  threshold,
  holders: list(struct(officer), MAX_RECOVERY_HOLDERS, MIN_RECOVERY_THRESHOLD),
});
export type RecoveryPlan = TypeOf<typeof recoveryPlan>;

/** What the members vote on: the plan, and what its officers have made. */
export const recoveryKeyRegistration = struct({
  nonce: nonce16,
  threshold,
  commitment,
  holders: list(
    struct({
      ...officer,
      /** The officer has the share that the commitment promises. */
      proof,
      /** By the officer's account, over `recoveryHoldingHash`. */
      signature,
    }),
    MAX_RECOVERY_HOLDERS,
    MIN_RECOVERY_THRESHOLD,
  ),
});
export type RecoveryKeyRegistration = TypeOf<typeof recoveryKeyRegistration>;

/** Everything that the officers' messages are bound to. */
export const recoverySessionId = (plan: RecoveryPlan): Hash => H('recovery-session', encode(recoveryPlan, plan));

export const recoverySession = (plan: RecoveryPlan): Session => ({
  id: recoverySessionId(plan),
  n: plan.holders.length,
  t: plan.threshold,
});

export const planOf = (chainId: Hash, registration: RecoveryKeyRegistration): RecoveryPlan => ({
  chainId,
  nonce: registration.nonce,
  threshold: registration.threshold,
  holders: registration.holders.map(({ account, orgId: org, publicKey: key }) => ({
    account,
    orgId: org,
    publicKey: key,
  })),
});

// ------------------------------------------------------------------------------------------------- what officers say

/** A fresh key for this session, erased after it: files of the session may be kept by anybody. */
export const recoveryAnnouncement = struct({ sessionId: hash32, index, key: point, proof, signature });
export type RecoveryAnnouncement = TypeOf<typeof recoveryAnnouncement>;
export const recoveryAnnouncementHash = (said: Omit<RecoveryAnnouncement, 'signature'>): Hash =>
  H('recovery-announce', said.sessionId, u16be(said.index), said.key, said.proof);

/** `announced`: hash of the keys that the parts are encrypted to, so that nobody deals to another set of them. */
export const recoveryDealing = struct({
  sessionId: hash32,
  index,
  announced: hash32,
  dealing: boundedBytes(1, MAX_RECOVERY_DEALING_BYTES),
  signature,
});
export type RecoveryDealing = TypeOf<typeof recoveryDealing>;
export const announcedHash = (keys: readonly Uint8Array[]): Hash => H('recovery-announced', ...keys);
export const recoveryDealingHash = (said: Omit<RecoveryDealing, 'signature'>): Hash =>
  H('recovery-deal', said.sessionId, u16be(said.index), said.announced, said.dealing);

export const recoveryHolding = struct({ sessionId: hash32, index, commitment, proof, signature });
export type RecoveryHolding = TypeOf<typeof recoveryHolding>;
/** By the officer's account: this is the key, and I hold my share of it. */
export const recoveryHoldingHash = (said: Omit<RecoveryHolding, 'signature'>): Hash =>
  H('recovery-hold', said.sessionId, u16be(said.index), concatBytes(...said.commitment), said.proof);

/** A message of an officer has 2,300 bytes at the most. */
export const MAX_RECOVERY_MESSAGE_BYTES = 4 * 1024;

/** What an officer keeps, under a passphrase of its own. DANGER: `x` is the share itself. */
export const recoveryShare = struct({
  chainId: hash32,
  sessionId: hash32,
  index,
  account: address,
  /** X, and X_i = x G. */
  key: point,
  share: point,
  x: bytes(SCALAR_BYTES),
});
export type RecoveryShare = TypeOf<typeof recoveryShare>;

// ----------------------------------------------------------------------------------------------------------- checks

/**
 * Whether a plan is one: 2 <= m <= n, no account twice, and no organisation with m officers, so that no single
 * organisation opens anything. That there are two organisations follows.
 * @returns RECOVERY_KEY_SHAPE, RECOVERY_KEY_ONE_ORGANISATION
 */
export function checkRecoveryPlan({ threshold: m, holders }: Pick<RecoveryPlan, 'threshold' | 'holders'>): Verdict {
  if (m < MIN_RECOVERY_THRESHOLD || m > holders.length)
    return reject('RECOVERY_KEY_SHAPE', `${m} of ${holders.length} officers`);
  const inOrganisation = new Map<string, number>();
  const accounts = new Set<string>();
  for (const { account, orgId: org } of holders) {
    inOrganisation.set(org, (inOrganisation.get(org) ?? 0) + 1);
    accounts.add(account.join());
  }
  if (accounts.size !== holders.length) return reject('RECOVERY_KEY_SHAPE', 'an officer is named twice');
  const [org] = [...inOrganisation].find(([, officers]) => officers >= m) ?? [];
  return org === undefined ? accept(undefined) : reject('RECOVERY_KEY_ONE_ORGANISATION', org);
}

function pointsOf(encoded: readonly Uint8Array[]): readonly CurvePoint[] | undefined {
  const points = encoded.flatMap((one) => decodePublicPoint(one) ?? []);
  return points.length === encoded.length ? points : undefined;
}

/**
 * The key that a registration makes, with the public share of each officer: as many commitments as officers open a record,
 * none of them O, so that fewer say nothing.
 * @returns RECOVERY_KEY_SHAPE, RECOVERY_KEY_ONE_ORGANISATION
 */
export function recoveryKeyOf(registration: RecoveryKeyRegistration): Verdict<SharedKey> {
  const shape = checkRecoveryPlan(registration);
  if (!shape.ok) return shape;
  if (registration.commitment.length !== registration.threshold)
    return reject('RECOVERY_KEY_SHAPE', `${registration.commitment.length} commitments for ${registration.threshold}`);
  const points = pointsOf(registration.commitment);
  if (points === undefined) return reject('RECOVERY_KEY_SHAPE', 'a commitment is no point of the curve');
  const holders = registration.holders.map((_, k) => commitmentAt(points, k + 1));
  if (holders.some((share) => share.is0())) return reject('RECOVERY_KEY_SHAPE', "an officer's share is zero");
  return accept({ X: points[0] as CurvePoint, holders, commitment: points });
}

/**
 * As `recoveryKeyOf`, and that each officer has proven to hold the share that the commitments promise. Consensus checks it
 * before it is voted on; that the officers signed is an obligation.
 * @param key `recoveryKeyOf` the registration, for whoever has it already: with 16 officers it is most of the work
 * @returns the key, or RECOVERY_KEY_SHAPE, RECOVERY_KEY_ONE_ORGANISATION, BAD_RECOVERY_PROOF
 */
export function checkRecoveryKey(
  chainId: Hash,
  registration: RecoveryKeyRegistration,
  key: Verdict<SharedKey> = recoveryKeyOf(registration),
): Verdict<SharedKey> {
  if (!key.ok) return key;
  const { X, holders } = key.value;
  const session = recoverySession(planOf(chainId, registration));
  const unproven = registration.holders.findIndex(
    ({ proof: given }, k) => !checkShareProof(session, k + 1, X, holders[k] as CurvePoint, given),
  );
  return unproven === -1 ? key : reject('BAD_RECOVERY_PROOF', `officer ${unproven + 1}`);
}

// ------------------------------------------------------------------------------------------------------------ state

/** The key that new records are sealed under as well. There is one at the most. */
export const activeRecoveryKeyEntry = struct({
  /** How many there have been. */
  version: uint(2 ** 32 - 1),
  /** X; null where the members have ended the last one. */
  key: nullable(point),
});

/** A recovery key, kept when another has replaced it: records of its time stay sealed under it. */
export const recoveryKeyEntry = struct({
  version: uint(2 ** 32 - 1),
  key: point,
  sessionId: hash32,
  threshold,
  /** X_i in order of index. */
  holders: list(struct({ account: address, orgId, share: point }), MAX_RECOVERY_HOLDERS, MIN_RECOVERY_THRESHOLD),
  proposalId: hash32,
  sinceHeight: height,
  sinceMs: timeMs,
  /** From when on no record is sealed under it any more; null while it is active. */
  endedMs: nullable(timeMs),
});
export type RecoveryKeyEntry = TypeOf<typeof recoveryKeyEntry>;

export const registeredKey = (
  { X, holders: shares }: SharedKey,
  chainId: Hash,
  registration: RecoveryKeyRegistration,
): Pick<RecoveryKeyEntry, 'key' | 'sessionId' | 'threshold' | 'holders'> => ({
  key: encodePoint(X),
  sessionId: recoverySessionId(planOf(chainId, registration)),
  threshold: registration.threshold,
  holders: registration.holders.map(({ account, orgId: org }, k) => ({
    account,
    orgId: org,
    share: encodePoint(shares[k] as CurvePoint),
  })),
});
