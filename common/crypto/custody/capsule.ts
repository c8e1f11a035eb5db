/**
 * Capsules: a record's key under the consortium's public key X, bound to a label (TDH2 of Shoup and Gennaro, "Securing
 * threshold cryptosystems against chosen ciphertext attack", J. Cryptology 2002, on sm2p256v1).
 *
 *   U = r G    Ubar = r GBAR    W = r X    C = k xor KDF(xy(W) || TLV("wrap", X, U, L), 32)
 *   e = Hq("tdh2", X, L, C, U, Ubar, s G, s GBAR)    f = s + e r
 *
 * Nobody may compute a share of a capsule whose proof was not checked: that check is what makes the holders useless as
 * an oracle for other capsules. Changing any byte of the label, C, U, Ubar or X makes the proof false.
 */
import { concatBytes, equalBytesConstantTime, u32be } from '../../bytes.ts';
import { accept, assert, reject, type Verdict } from '../../errors.ts';
import {
  COMPRESSED_BYTES,
  type CurvePoint,
  decodePoint,
  decodeScalar,
  encodePoint,
  encodeScalar,
  GENERATOR,
  pointToRaw,
  SCALAR_BYTES,
} from '../curve.ts';
import { H, hq, kdf, tlv } from '../hash.ts';
import { decodePublicPoint } from '../public-arithmetic.ts';
import { hedgedScalar, type RandomBytes } from '../sm2.ts';
import { recommit, respond } from './proofs.ts';

export const RECORD_KEY_BYTES = 32;
export const KEY_CHECK_BYTES = 16;
/** U (33), Ubar (33), C (32), e (32), f (32). */
export const CAPSULE_BYTES = 162;

/**
 * GBAR, a point whose discrete logarithm nobody knows: the first x of KDF(TLV("h2c/tdh2-gbar", "sm2p256v1", u32 counter), 48)
 * mod p that is on the curve, with even y; it is found at counter 0 (test: crypto-custody).
 */
const GBAR_BYTES = Uint8Array.of(
  ...[0x02, 0x85, 0xbd, 0x85, 0x21, 0xf1, 0x80, 0x3e, 0x2a, 0xfb, 0xe1, 0xf1, 0x90, 0x5f, 0xce, 0xf4, 0x4b],
  ...[0x65, 0x93, 0xbb, 0x57, 0x2f, 0xba, 0x7d, 0x6b, 0x88, 0x15, 0xb1, 0x95, 0x2d, 0x5a, 0x4c, 0x91],
);

function requirePoint(bytes: Uint8Array): CurvePoint {
  const point = decodePoint(bytes);
  assert(point !== undefined, 'a constant of the protocol is a point');
  return point;
}

export const GBAR: CurvePoint = requirePoint(GBAR_BYTES);

/** What a capsule is for. Byte lengths: 32 each, but `ownerId` (an address, 20) and `keyCheck` (16). */
export interface CapsuleLabel {
  readonly chainId: Uint8Array;
  readonly recordId: Uint8Array;
  readonly version: number;
  /** Hash of the policy's founding document, which outlives the policy's versions. */
  readonly policyRef: Uint8Array;
  readonly ownerId: Uint8Array;
  readonly dataDigest: Uint8Array;
  readonly keyCheck: Uint8Array;
}

/** L: the bytes under the capsule's proof. */
export const encodeLabel = (label: CapsuleLabel): Uint8Array =>
  tlv(
    'label',
    label.chainId,
    label.recordId,
    u32be(label.version),
    label.policyRef,
    label.ownerId,
    label.dataDigest,
    label.keyCheck,
  );

/** Commits to the key of a record's version, 16 bytes: tells at once whether what was opened is that key. */
export const keyCheckOf = (recordId: Uint8Array, version: number, recordKey: Uint8Array): Uint8Array =>
  H('keycheck', recordId, u32be(version), recordKey).slice(0, KEY_CHECK_BYTES);

export interface Capsule {
  readonly U: CurvePoint;
  readonly Ubar: CurvePoint;
  /** 32 bytes. */
  readonly C: Uint8Array;
  readonly e: bigint;
  readonly f: bigint;
}

/** Untrusted bytes to a capsule; its proof is not checked yet. CAPSULE_MALFORMED unless it is 162 canonical bytes. */
export function parseCapsule(bytes: Uint8Array): Verdict<Capsule> {
  if (bytes.length !== CAPSULE_BYTES) return reject('CAPSULE_MALFORMED', `a capsule has ${CAPSULE_BYTES} bytes`);
  const cOffset = 2 * COMPRESSED_BYTES;
  const eOffset = cOffset + RECORD_KEY_BYTES;
  const U = decodePublicPoint(bytes.subarray(0, COMPRESSED_BYTES));
  const Ubar = decodePublicPoint(bytes.subarray(COMPRESSED_BYTES, cOffset));
  const e = decodeScalar(bytes.subarray(eOffset, eOffset + SCALAR_BYTES));
  const f = decodeScalar(bytes.subarray(eOffset + SCALAR_BYTES));
  if (U === undefined || Ubar === undefined || e === undefined || f === undefined)
    return reject('CAPSULE_MALFORMED', 'a point or a number of the capsule is not canonical');
  return accept({ U, Ubar, C: bytes.slice(cOffset, eOffset), e, f });
}

const encodeCapsule = ({ U, Ubar, C, e, f }: Capsule): Uint8Array =>
  concatBytes(encodePoint(U), encodePoint(Ubar), C, encodeScalar(e), encodeScalar(f));

function challenge(
  X: CurvePoint,
  label: Uint8Array,
  { C, U, Ubar }: Pick<Capsule, 'C' | 'U' | 'Ubar'>,
  A: CurvePoint,
  Abar: CurvePoint,
): bigint {
  return hq('tdh2', encodePoint(X), label, C, ...[U, Ubar, A, Abar].map(encodePoint));
}

/** The one-time pad that hides the record key: 32 bytes out of W = log_G(U) * X. */
function pad(W: CurvePoint, X: CurvePoint, U: CurvePoint, label: Uint8Array): Uint8Array {
  return kdf(concatBytes(pointToRaw(W), tlv('wrap', encodePoint(X), encodePoint(U), label)), RECORD_KEY_BYTES);
}

const xor = (left: Uint8Array, right: Uint8Array): Uint8Array =>
  left.map((byte, index) => byte ^ (right[index] as number));

/**
 * Seals a record's key.
 * @param X public key of the custody epoch
 * @param label `encodeLabel`, whose key check is of this key
 * @param recordKey 32 bytes
 * @returns 162 bytes
 */
export function sealCapsule(X: CurvePoint, label: Uint8Array, recordKey: Uint8Array, random: RandomBytes): Uint8Array {
  const r = hedgedScalar('nonce/capsule-r', random, encodePoint(X), label, recordKey);
  const s = hedgedScalar('nonce/capsule-s', random, encodePoint(X), label, recordKey);
  return sealCapsuleWith(X, label, recordKey, r, s);
}

/** DANGER: `r` opens the capsule, and `s` gives `r` away. Exported for known answers alone. */
export function sealCapsuleWith(
  X: CurvePoint,
  label: Uint8Array,
  recordKey: Uint8Array,
  r: bigint,
  s: bigint,
): Uint8Array {
  assert(recordKey.length === RECORD_KEY_BYTES, 'a record key has 32 bytes');
  const U = GENERATOR.multiply(r);
  const Ubar = GBAR.multiply(r);
  const C = xor(recordKey, pad(X.multiply(r), X, U, label));
  const e = challenge(X, label, { C, U, Ubar }, GENERATOR.multiply(s), GBAR.multiply(s));
  return encodeCapsule({ U, Ubar, C, e, f: respond(s, e, r) });
}

/**
 * Whether the capsule was made for this key and this label by somebody who knows what is in it. Public data alone;
 * consensus checks it before a record is stored.
 * @returns the parsed capsule, or CAPSULE_MALFORMED, CAPSULE_PROOF
 */
export function checkCapsule(bytes: Uint8Array, X: CurvePoint, label: Uint8Array): Verdict<Capsule> {
  const parsed = parseCapsule(bytes);
  if (!parsed.ok) return parsed;
  const { U, Ubar, e, f } = parsed.value;
  const A = recommit(f, GENERATOR, e, U);
  const Abar = recommit(f, GBAR, e, Ubar);
  const isProven = A !== undefined && Abar !== undefined && challenge(X, label, parsed.value, A, Abar) === e;
  return isProven ? parsed : reject('CAPSULE_PROOF', 'the capsule does not belong to this key and label');
}

/**
 * Opens a capsule with W, which t holders' shares gave.
 * @returns the record key (32 bytes), or KEY_CHECK_FAILED where it is not the one that `keyCheck` promises
 */
export function openCapsule(capsule: Capsule, W: CurvePoint, X: CurvePoint, label: CapsuleLabel): Verdict<Uint8Array> {
  if (W.is0()) return reject('KEY_CHECK_FAILED', 'the shares give no key');
  const recordKey = xor(capsule.C, pad(W, X, capsule.U, encodeLabel(label)));
  const check = keyCheckOf(label.recordId, label.version, recordKey);
  return equalBytesConstantTime(check, label.keyCheck)
    ? accept(recordKey)
    : reject('KEY_CHECK_FAILED', 'what the shares open is not the key of this record');
}
