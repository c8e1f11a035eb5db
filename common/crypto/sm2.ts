/**
 * SM2 signatures (GB/T 32918.2-2016): the engine and signer interfaces, what every engine must share (user id, Z_A,
 * digest, ranges, addresses), key pairs, and the pure implementation on @noble/curves.
 *
 * Signatures are 64 bytes r || s, public keys 64 bytes x || y, private keys 32 bytes. No randomness of its own: callers
 * inject it. No proofs of possession and no transactions here: those are protocol.
 */

import { bytesToBigint, concatBytes, bigintToBytes, u16be, u32be, utf8 } from '../bytes.ts';
import { EmrError, assert } from '../errors.ts';
import {
  CURVE_A,
  CURVE_B,
  CURVE_ORDER,
  GENERATOR,
  GENERATOR_X,
  GENERATOR_Y,
  PUBLIC_KEY_BYTES,
  SCALAR_BYTES,
  encodeScalar,
  invertModOrder,
  modOrder,
  pointToRaw,
  rawToPoint,
} from './curve.ts';
import { hq } from './hash.ts';
import { Sm3, sm3 } from './sm3.ts';

export const SIGNATURE_BYTES = 64;
export const ADDRESS_BYTES = 20;

/** GM/T 0009's default, which devices and other SM2 libraries use. */
export const SM2_USER_ID = '1234567812345678';

/** Source of `lengthBytes` unpredictable bytes, injected wherever randomness is needed. */
export type RandomBytes = (lengthBytes: number) => Uint8Array;

export interface Sm2Verification {
  readonly publicKey: Uint8Array;
  readonly message: Uint8Array;
  readonly signature: Uint8Array;
}

/** Verifies; handles public data only. Every engine gives the same verdict on every input, and none throws. */
export interface Sm2Engine {
  readonly name: string;
  /** @param publicKey 64 bytes x || y; `signature` 64 bytes r || s. Anything malformed is false. */
  verify(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean;
  /** The verdicts in the order of the items. A bad item does not change the verdict on another. */
  verifyBatch(items: readonly Sm2Verification[]): boolean[];
}

/** Holds one private key. */
export interface Sm2Signer {
  /** 64 bytes x || y. */
  readonly publicKey: Uint8Array;
  /** 20 bytes. */
  readonly address: Uint8Array;
  /** @returns 64 bytes r || s over SM3(Z_A || message) */
  sign(message: Uint8Array): Uint8Array;
}

/** ENTL || ID || a || b || xG || yG: the head of Z_A, the same for every key (GB/T 32918.2 section 5.5). */
const identityHead = ((): Sm3 => {
  const id = utf8(SM2_USER_ID);
  const hash = new Sm3().update(u16be(id.length * 8)).update(id);
  for (const parameter of [CURVE_A, CURVE_B, GENERATOR_X, GENERATOR_Y]) hash.update(bigintToBytes(parameter, 32));
  return hash;
})();

const scratch = new Sm3();

/**
 * Z_A, 32 bytes. With the constant head absorbed once, what remains is two compressions (about 0.7 us): less than
 * looking the key up in a map would cost, so there is no cache to bound here.
 */
export function sm2Identity(publicKey: Uint8Array): Uint8Array {
  assert(publicKey.length === PUBLIC_KEY_BYTES, 'sm2Identity: public key is not 64 bytes');
  return scratch.copyFrom(identityHead).update(publicKey).digest();
}

/** e = SM3(Z_A || message), 32 bytes: what SM2 signs. */
export function sm2Digest(publicKey: Uint8Array, message: Uint8Array): Uint8Array {
  const identity = sm2Identity(publicKey);
  return scratch.reset().update(identity).update(message).digest();
}

/** Address of a key: last 20 bytes of SM3(x || y), as FISCO BCOS has it. The key itself is not checked. */
export function sm2Address(publicKey: Uint8Array): Uint8Array {
  assert(publicKey.length === PUBLIC_KEY_BYTES, 'sm2Address: public key is not 64 bytes');
  return sm3(publicKey).slice(32 - ADDRESS_BYTES);
}

export interface SignatureScalars {
  readonly r: bigint;
  readonly s: bigint;
  /** (r + s) mod n, not zero. */
  readonly t: bigint;
}

/** GB/T 32918.2 section 7.1 B1, B2, B5: r and s in 1..n-1 and r + s not n; else undefined. Shared by all engines. */
export function parseSignature(signature: Uint8Array): SignatureScalars | undefined {
  if (signature.length !== SIGNATURE_BYTES) return undefined;
  const r = bytesToBigint(signature.subarray(0, 32));
  const s = bytesToBigint(signature.subarray(32));
  if (r === 0n || s === 0n || r >= CURVE_ORDER || s >= CURVE_ORDER) return undefined;
  const t = (r + s) % CURVE_ORDER;
  return t === 0n ? undefined : { r, s, t };
}

/** GB/T 32918.2 section 7.1 in plain arithmetic: some 2.5 ms, the fallback and the reference. */
export function createNobleEngine(): Sm2Engine {
  const verify = (publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean => {
    const scalars = parseSignature(signature);
    if (scalars === undefined) return false;
    const point = rawToPoint(publicKey);
    if (point === undefined) return false;
    // All public: variable time is fine.
    const sum = GENERATOR.mulAddUnsafe(scalars.s, point, scalars.t);
    if (sum.is0()) return false;
    const e = bytesToBigint(sm2Digest(publicKey, message));
    return (e + sum.toAffine().x) % CURVE_ORDER === scalars.r;
  };
  return { name: 'noble', verify, verifyBatch: (items) => verifyEach(verify, items) };
}

/** `verifyBatch` of engines that know nothing better than one after the other. */
export function verifyEach(verify: Sm2Engine['verify'], items: readonly Sm2Verification[]): boolean[] {
  return items.map((item) => verify(item.publicKey, item.message, item.signature));
}

/**
 * Untrusted private key: 32 bytes, value in 1..n-2 (GB/T 32918.1 section 6.1: n-1 has no inverse of 1 + d); else
 * undefined.
 */
export function parsePrivateKey(privateKey: Uint8Array): bigint | undefined {
  if (privateKey.length !== SCALAR_BYTES) return undefined;
  const d = bytesToBigint(privateKey);
  return d >= 1n && d <= CURVE_ORDER - 2n ? d : undefined;
}

/** @throws EmrError SM2_PRIVATE_KEY_INVALID, which never carries the key */
export function requirePrivateKey(privateKey: Uint8Array): bigint {
  const d = parsePrivateKey(privateKey);
  if (d === undefined) {
    throw new EmrError('SM2_PRIVATE_KEY_INVALID', 'The private key is not 32 bytes in the range 1..n-2.');
  }
  return d;
}

/** 64-byte public key of a 32-byte private key. @throws EmrError SM2_PRIVATE_KEY_INVALID */
export function publicKeyOf(privateKey: Uint8Array): Uint8Array {
  return pointToRaw(GENERATOR.multiply(requirePrivateKey(privateKey)));
}

// A uniform 32-byte string is out of range with probability 2^-32: sixteen misses in a row mean a broken source.
const DRAW_LIMIT = 16;

/** A fresh 32-byte private key, uniform in 1..n-2. */
export function generatePrivateKey(random: RandomBytes): Uint8Array {
  for (let draw = 0; draw < DRAW_LIMIT; draw++) {
    const candidate = drawBytes(random, SCALAR_BYTES);
    if (parsePrivateKey(candidate) !== undefined) return candidate;
  }
  throw new EmrError('RANDOMNESS_BROKEN', 'The source of randomness yields no usable key.');
}

/** The injected source must give what was asked for: fewer bytes would silently weaken a nonce. */
export function drawBytes(random: RandomBytes, lengthBytes: number): Uint8Array {
  const bytes = random(lengthBytes);
  assert(bytes.length === lengthBytes, 'random source gave a wrong length');
  return bytes;
}

/**
 * A scalar in 1..n-1 from fresh randomness hashed together with a secret and the context: unpredictable when either
 * the source or the secret is good, and never the same for two contexts.
 */
export function hedgedScalar(domain: string, random: RandomBytes, ...context: readonly Uint8Array[]): bigint {
  for (let draw = 0; draw < DRAW_LIMIT; draw++) {
    const scalar = hq(domain, drawBytes(random, SCALAR_BYTES), u32be(draw), ...context);
    if (scalar !== 0n) return scalar;
  }
  throw new EmrError('RANDOMNESS_BROKEN', 'The source of randomness yields no usable nonce.');
}

/**
 * Pure signer (GB/T 32918.2 section 6.1), about 0.6 ms.
 * @param privateKey 32 bytes; not kept by reference
 * @throws EmrError SM2_PRIVATE_KEY_INVALID
 */
export function createNobleSigner(privateKey: Uint8Array, random: RandomBytes): Sm2Signer {
  const d = requirePrivateKey(privateKey);
  const secret = encodeScalar(d);
  const publicKey = publicKeyOf(privateKey);
  // (1 + d)^-1, blinded: the inversion's time depends on its argument.
  const blind = hedgedScalar('sm2-blind', random, secret);
  const inverse = modOrder(invertModOrder(modOrder((1n + d) * blind)) * blind);
  return {
    publicKey,
    address: sm2Address(publicKey),
    sign(message: Uint8Array): Uint8Array {
      const digest = sm2Digest(publicKey, message);
      const e = bytesToBigint(digest);
      for (let attempt = 0; attempt < DRAW_LIMIT; attempt++) {
        const k = hedgedScalar('sm2-nonce', random, secret, digest, u32be(attempt));
        const r = (e + GENERATOR.multiply(k).toAffine().x) % CURVE_ORDER;
        if (r === 0n || r + k === CURVE_ORDER) continue;
        // (k - r d) / (1 + d) = (k + r) / (1 + d) - r
        const s = modOrder(inverse * (k + r) - r);
        if (s !== 0n) return concatBytes(encodeScalar(r), encodeScalar(s));
      }
      throw new EmrError('RANDOMNESS_BROKEN', 'The source of randomness yields no usable nonce.');
    },
  };
}
