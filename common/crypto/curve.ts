/**
 * The curve sm2p256v1 (GB/T 32918.5-2017) and the strict encodings of its points and scalars.
 *
 * Public keys are 64 bytes x || y everywhere on the wire ("raw"); points inside proofs are 33 bytes compressed. The
 * cofactor is 1: every point on the curve but O has order n, so that "on the curve and not O" is the whole check.
 * Decoders answer `undefined` and never reduce: a second encoding of one value would fork whoever hashes it.
 *
 * DANGER: `multiplyUnsafe` and `mulAddUnsafe` take public scalars only. Secret scalars go through `multiply`, which
 * blinds them with randomness of its own that never shows in a result. JavaScript integers are not constant-time in
 * the strict sense; SECURITY.md says what is not promised.
 */

import { weierstrass } from '@noble/curves/abstract/weierstrass.js';
import type { WeierstrassPoint } from '@noble/curves/abstract/weierstrass.js';
import { bigintToBytes, bytesToBigint, concatBytes } from '../bytes.ts';
import { assert } from '../errors.ts';
import { SM2_ORDER } from './hash.ts';

/** Order n of the group. */
export const CURVE_ORDER = SM2_ORDER;
/** Prime p of the field. */
export const FIELD_PRIME = 0xfffffffeffffffffffffffffffffffffffffffff00000000ffffffffffffffffn;

export const CURVE_A = FIELD_PRIME - 3n;
export const CURVE_B = 0x28e9fa9e9d9f5e344d5a9e4bcf6509a7f39789f515ab8f92ddbcbd414d940e93n;
export const GENERATOR_X = 0x32c4ae2c1f1981195f9904466a39c9948fe30bbff2660be1715a4589334c74c7n;
export const GENERATOR_Y = 0xbc3736a2f4f6779c59bdcee36b692153d0a9877cc62a474002df32e52139f0a0n;

export const SCALAR_BYTES = 32;
export const COMPRESSED_BYTES = 33;
export const PUBLIC_KEY_BYTES = 64;
export const UNCOMPRESSED_BYTES = 65;

export type CurvePoint = WeierstrassPoint<bigint>;

export const Point = weierstrass({
  p: FIELD_PRIME,
  n: CURVE_ORDER,
  h: 1n,
  a: CURVE_A,
  b: CURVE_B,
  Gx: GENERATOR_X,
  Gy: GENERATOR_Y,
});

export const GENERATOR: CurvePoint = Point.BASE;
/** O, the neutral element. It has no encoding. */
export const INFINITY: CurvePoint = Point.ZERO;

/** True for affine coordinates, both below p, of a point on the curve. */
function isOnCurve(x: bigint, y: bigint): boolean {
  if (x >= FIELD_PRIME || y >= FIELD_PRIME) return false;
  return (y * y - (x * x + CURVE_A) * x - CURVE_B) % FIELD_PRIME === 0n;
}

/** 33 bytes compressed. O is a bug of the caller: no protocol message may hold it. */
export function encodePoint(point: CurvePoint): Uint8Array {
  assert(!point.is0(), 'encodePoint: the point at infinity has no encoding');
  const { x, y } = point.toAffine();
  const bytes = new Uint8Array(COMPRESSED_BYTES);
  bytes[0] = (y & 1n) === 0n ? 2 : 3;
  bytes.set(bigintToBytes(x, SCALAR_BYTES), 1);
  return bytes;
}

/** Untrusted: exactly 33 bytes, prefix 02 or 03, x < p, on the curve; else undefined. */
export function decodePoint(bytes: Uint8Array): CurvePoint | undefined {
  // The length first: the decoder below would take the 65-byte form as well.
  if (bytes.length !== COMPRESSED_BYTES) return undefined;
  try {
    return Point.fromBytes(bytes);
  } catch {
    return undefined;
  }
}

/** xy(P): 64 bytes x || y. */
export function pointToRaw(point: CurvePoint): Uint8Array {
  assert(!point.is0(), 'pointToRaw: the point at infinity has no encoding');
  const { x, y } = point.toAffine();
  return concatBytes(bigintToBytes(x, SCALAR_BYTES), bigintToBytes(y, SCALAR_BYTES));
}

/** Untrusted 64 bytes x || y: both coordinates < p, on the curve; else undefined. */
export function rawToPoint(raw: Uint8Array): CurvePoint | undefined {
  if (!isPublicKey(raw)) return undefined;
  return Point.fromAffine({ x: bytesToBigint(raw.subarray(0, 32)), y: bytesToBigint(raw.subarray(32)) });
}

/**
 * The one rule for public keys, which every SM2 engine applies before its own: 64 bytes x || y, both coordinates below
 * p, on the curve. Two engines that disagree on a key fork the chain.
 */
export function isPublicKey(raw: Uint8Array): boolean {
  if (raw.length !== PUBLIC_KEY_BYTES) return false;
  return isOnCurve(bytesToBigint(raw.subarray(0, 32)), bytesToBigint(raw.subarray(32)));
}

/** 65 bytes 04 || x || y from 64 bytes x || y (not checked). */
export function rawToUncompressed(raw: Uint8Array): Uint8Array {
  assert(raw.length === PUBLIC_KEY_BYTES, 'rawToUncompressed: not 64 bytes');
  return concatBytes(Uint8Array.of(4), raw);
}

/** Untrusted 65 bytes 04 || x || y: the 64-byte form of a valid public key, or undefined. */
export function uncompressedToRaw(bytes: Uint8Array): Uint8Array | undefined {
  if (bytes.length !== UNCOMPRESSED_BYTES || bytes[0] !== 4) return undefined;
  const raw = bytes.slice(1);
  return isPublicKey(raw) ? raw : undefined;
}

/** Untrusted 33 bytes: the 64-byte form of a valid public key, or undefined. */
export function compressedToRaw(bytes: Uint8Array): Uint8Array | undefined {
  const point = decodePoint(bytes);
  return point === undefined ? undefined : pointToRaw(point);
}

/** 33 bytes from 64 bytes x || y (not checked). */
export function rawToCompressed(raw: Uint8Array): Uint8Array {
  assert(raw.length === PUBLIC_KEY_BYTES, 'rawToCompressed: not 64 bytes');
  return concatBytes(Uint8Array.of(2 + ((raw[PUBLIC_KEY_BYTES - 1] as number) & 1)), raw.subarray(0, 32));
}

/** I2B32: 32 bytes of a scalar in 0..n-1. */
export function encodeScalar(scalar: bigint): Uint8Array {
  assert(scalar >= 0n && scalar < CURVE_ORDER, 'encodeScalar: not below the group order');
  return bigintToBytes(scalar, SCALAR_BYTES);
}

/** Untrusted: exactly 32 bytes, value below n (refused, never reduced); else undefined. Zero is a scalar. */
export function decodeScalar(bytes: Uint8Array): bigint | undefined {
  if (bytes.length !== SCALAR_BYTES) return undefined;
  const value = bytesToBigint(bytes);
  return value < CURVE_ORDER ? value : undefined;
}

/** value^-1 mod n, for PUBLIC values: its time depends on them. */
export function invertModOrder(value: bigint): bigint {
  return Point.Fn.inv(value);
}

/** The representative in 0..n-1. */
export function modOrder(value: bigint): bigint {
  const rest = value % CURVE_ORDER;
  return rest < 0n ? rest + CURVE_ORDER : rest;
}
