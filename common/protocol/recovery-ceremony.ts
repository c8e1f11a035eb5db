/**
 * How officers make a recovery key: what each of them says, and what each checks before it goes on. Messages go as files from
 * hand to hand, in three rounds; nobody else is needed, and no officer is believed (recovery-key.ts has the formats).
 *
 * DANGER: `p` opens an officer's parts. It lives from the announcement to the share, and nowhere after that.
 */
import { bigintToBytes, bytesToBigint, equalBytes } from '../bytes.ts';
import { type CurvePoint, encodePoint, encodeScalar, GENERATOR, SCALAR_BYTES } from '../crypto/curve.ts';
import {
  checkDealing,
  checkEncryptionKey,
  deal,
  type Dealing,
  type EncryptionKey,
  openDealing,
  proveEncryptionKey,
} from '../crypto/custody/dealing.ts';
import { generatedKey, proveShare, secretShare, type SharedKey } from '../crypto/custody/shared-key.ts';
import { decodePublicPoint } from '../crypto/public-arithmetic.ts';
import { type RandomBytes, requirePrivateKey, type Sm2Engine, type Sm2Signer } from '../crypto/sm2.ts';
import { accept, assert, reject, type Verdict } from '../errors.ts';
import {
  announcedHash,
  checkRecoveryKey,
  type RecoveryAnnouncement,
  recoveryAnnouncementHash,
  type RecoveryDealing,
  recoveryDealingHash,
  type RecoveryHolding,
  recoveryHoldingHash,
  type RecoveryKeyRegistration,
  type RecoveryPlan,
  recoverySession,
  recoverySessionId,
  type RecoveryShare,
} from './recovery-key.ts';

/** Index of the officer with this public key, from 1 on; 0 where the plan names none. */
export const officerIndex = ({ holders }: RecoveryPlan, publicKey: Uint8Array): number =>
  holders.findIndex((holder) => equalBytes(holder.publicKey, publicKey)) + 1;

interface Message {
  readonly sessionId: Uint8Array;
  readonly index: number;
  readonly signature: Uint8Array;
}

/** One message of each officer, in their order, signed by their accounts' keys. */
function fromAll<M extends Message>(
  plan: RecoveryPlan,
  messages: readonly M[],
  signed: (message: M) => Uint8Array,
  engine: Sm2Engine,
): Verdict<readonly M[]> {
  const sessionId = recoverySessionId(plan);
  const inOrder: M[] = [];
  for (const [k, { publicKey }] of plan.holders.entries()) {
    const message = messages.find(({ index }) => index === k + 1);
    if (message === undefined) return reject('RECOVERY_FILE_MISSING', `officer ${k + 1} has not said this yet`);
    if (!equalBytes(message.sessionId, sessionId))
      return reject('RECOVERY_FILE_FALSE', `what officer ${k + 1} said is about another plan`);
    if (!engine.verify(publicKey, signed(message), message.signature))
      return reject('RECOVERY_FILE_FALSE', `what officer ${k + 1} said is not signed by that account's key`);
    inOrder.push(message);
  }
  return accept(inOrder);
}

// --------------------------------------------------------------------------------------------------- first: announce

/** @param p fresh for this plan, 32 bytes; the officer keeps it to itself for `takeShare`, and erases it after that */
export function announce(
  plan: RecoveryPlan,
  p: Uint8Array,
  officer: Sm2Signer,
  random: RandomBytes,
): RecoveryAnnouncement {
  const index = officerIndex(plan, officer.publicKey);
  assert(index > 0, 'an officer of the plan announces');
  const scalar = requirePrivateKey(p);
  const P = GENERATOR.multiply(scalar);
  const session = recoverySession(plan);
  const proof = proveEncryptionKey(session, { index, P }, scalar, random);
  const said = { sessionId: session.id, index, key: encodePoint(P), proof };
  return { ...said, signature: officer.sign(recoveryAnnouncementHash(said)) };
}

/** @returns the keys of all officers, or RECOVERY_FILE_MISSING, RECOVERY_FILE_FALSE */
function announcedKeys(
  plan: RecoveryPlan,
  announcements: readonly RecoveryAnnouncement[],
  engine: Sm2Engine,
): Verdict<readonly EncryptionKey[]> {
  const all = fromAll(plan, announcements, recoveryAnnouncementHash, engine);
  if (!all.ok) return all;
  const session = recoverySession(plan);
  const keys: EncryptionKey[] = [];
  for (const { index, key, proof } of all.value) {
    const P = decodePublicPoint(key);
    if (P === undefined || !checkEncryptionKey(session, { index, P }, proof))
      return reject('RECOVERY_FILE_FALSE', `officer ${index} does not know the key that it announced`);
    keys.push({ index, P });
  }
  return accept(keys);
}

// ------------------------------------------------------------------------------------------------------ second: deal

/** @returns what this officer deals to all, or RECOVERY_FILE_MISSING, RECOVERY_FILE_FALSE */
export function dealToOfficers(
  plan: RecoveryPlan,
  announcements: readonly RecoveryAnnouncement[],
  officer: Sm2Signer,
  engine: Sm2Engine,
  random: RandomBytes,
): Verdict<RecoveryDealing> {
  const keys = announcedKeys(plan, announcements, engine);
  if (!keys.ok) return keys;
  const index = officerIndex(plan, officer.publicKey);
  assert(index > 0, 'an officer of the plan deals');
  const session = recoverySession(plan);
  const dealing = deal(session, index, null, keys.value, random);
  const announced = announcedHash(keys.value.map(({ P }) => encodePoint(P)));
  const said = { sessionId: session.id, index, announced, dealing };
  return accept({ ...said, signature: officer.sign(recoveryDealingHash(said)) });
}

function checkedDealings(
  plan: RecoveryPlan,
  keys: readonly EncryptionKey[],
  messages: readonly RecoveryDealing[],
  engine: Sm2Engine,
): Verdict<readonly Dealing[]> {
  const all = fromAll(plan, messages, recoveryDealingHash, engine);
  if (!all.ok) return all;
  const session = recoverySession(plan);
  const announced = announcedHash(keys.map(({ P }) => encodePoint(P)));
  const dealings: Dealing[] = [];
  for (const { index, dealing, announced: seen } of all.value) {
    if (!equalBytes(seen, announced))
      return reject('RECOVERY_FILE_FALSE', `officer ${index} was shown other announcements than these`);
    const checked = checkDealing(session, dealing, null);
    if (!checked.ok || checked.value.dealer !== index)
      return reject('RECOVERY_FILE_FALSE', `officer ${index} dealt what is no dealing`);
    dealings.push(checked.value);
  }
  return accept(dealings);
}

// ----------------------------------------------------------------------------------------------- third: take and hold

export interface TakenShare {
  /** DANGER: with the share itself. Sealed, and erased by the caller. */
  readonly share: RecoveryShare;
  readonly key: SharedKey;
}

/**
 * The officer's share out of all dealings.
 * @param p as for `announce`, 32 bytes
 * @returns RECOVERY_FILE_MISSING, RECOVERY_FILE_FALSE, or RECOVERY_DEALING_FALSE, which names the officer who cheated this
 *   one: the others cannot see it, and begin anew without that officer, or without the one who says so
 */
export function takeShare(
  plan: RecoveryPlan,
  { publicKey, p }: { readonly publicKey: Uint8Array; readonly p: Uint8Array },
  announcements: readonly RecoveryAnnouncement[],
  messages: readonly RecoveryDealing[],
  engine: Sm2Engine,
): Verdict<TakenShare> {
  const keys = announcedKeys(plan, announcements, engine);
  if (!keys.ok) return keys;
  const dealings = checkedDealings(plan, keys.value, messages, engine);
  if (!dealings.ok) return dealings;
  const index = officerIndex(plan, publicKey);
  const own = keys.value[index - 1];
  const scalar = bytesToBigint(p);
  if (own === undefined || !own.P.equals(GENERATOR.multiply(scalar)))
    return reject('RECOVERY_FILE_FALSE', 'the announcement with your name is not the one that you made');
  const session = recoverySession(plan);
  const parts: bigint[] = [];
  for (const dealing of dealings.value) {
    const part = openDealing(session, dealing, own, scalar);
    if (!part.ok) return reject('RECOVERY_DEALING_FALSE', `officer ${dealing.dealer} dealt you a false part`);
    parts.push(part.value);
  }
  const key = generatedKey(session, dealings.value);
  if (!key.ok) return key;
  const dealers = dealings.value.map(({ dealer }) => dealer);
  const publicShare = key.value.holders[index - 1] as CurvePoint;
  const x = secretShare(dealers, parts, 'sum', publicShare);
  const share: RecoveryShare = {
    chainId: plan.chainId,
    sessionId: session.id,
    index,
    account: (plan.holders[index - 1] as RecoveryPlan['holders'][number]).account,
    key: encodePoint(key.value.X),
    share: encodePoint(publicShare),
    x: encodeScalar(x),
  };
  return accept({ share, key: key.value });
}

/** The officer's word that it has the share, with the proof; only after the share was kept, and read back. */
export function holdShare(
  plan: RecoveryPlan,
  share: RecoveryShare,
  { X, commitment }: SharedKey,
  officer: Sm2Signer,
  random: RandomBytes,
): RecoveryHolding {
  const { index, sessionId } = share;
  const x = bytesToBigint(share.x);
  assert(share.x.length === SCALAR_BYTES && equalBytes(bigintToBytes(x, SCALAR_BYTES), share.x), 'a share is a scalar');
  const proof = proveShare(recoverySession(plan), index, X, GENERATOR.multiply(x), x, random);
  const said = { sessionId, index, commitment: commitment.map(encodePoint), proof };
  return { ...said, signature: officer.sign(recoveryHoldingHash(said)) };
}

/**
 * What the members vote on.
 * @returns RECOVERY_FILE_MISSING, RECOVERY_FILE_FALSE, RECOVERY_KEYS_DIFFER where the officers were dealt different keys, and
 *   those of `checkRecoveryKey`
 */
export function registrationOf(
  plan: RecoveryPlan,
  holdings: readonly RecoveryHolding[],
  engine: Sm2Engine,
): Verdict<RecoveryKeyRegistration> {
  const all = fromAll(plan, holdings, recoveryHoldingHash, engine);
  if (!all.ok) return all;
  const { commitment } = all.value[0] as RecoveryHolding;
  const other = all.value.find(
    (one) =>
      one.commitment.length !== commitment.length ||
      one.commitment.some((point, k) => !equalBytes(point, commitment[k] as Uint8Array)),
  );
  if (other !== undefined)
    return reject('RECOVERY_KEYS_DIFFER', `officer ${other.index} has a share of another key than officer 1`);
  const { nonce, threshold, holders, chainId } = plan;
  const registration = {
    nonce,
    threshold,
    commitment: [...commitment],
    holders: holders.map((holder, k) => {
      const { proof, signature } = all.value[k] as RecoveryHolding;
      return { ...holder, proof, signature };
    }),
  };
  const key = checkRecoveryKey(chainId, registration);
  return key.ok ? accept(registration) : key;
}
