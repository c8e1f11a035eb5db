/**
 * SM2 public key encryption (GB/T 32918.4-2016, GM/T 0003.4) in the order C1 || C3 || C2:
 *
 *   04 || x1 || y1 (65 bytes) || SM3(x2 || M || y2) (32) || M xor KDF(x2 || y2) (|M|)        97 + |M| bytes
 *
 * sm-crypto writes and reads the same bytes without the leading 04 (`cipherMode` 1).
 * For wrapping keys: messages are short. Files are encrypted elsewhere, under a symmetric key.
 */

import { concatBytes, equalBytesConstantTime } from '../bytes.ts';
import { EmrError, accept, assert, reject } from '../errors.ts';
import type { Verdict } from '../errors.ts';
import { GENERATOR, UNCOMPRESSED_BYTES, pointToRaw, rawToPoint, rawToUncompressed } from './curve.ts';
import type { CurvePoint } from './curve.ts';
import { kdf } from './hash.ts';
import { hedgedScalar, requirePrivateKey } from './sm2.ts';
import type { RandomBytes } from './sm2.ts';
import { SM3_BYTES, Sm3 } from './sm3.ts';

/** What the ciphertext is longer than the message. */
export const SM2_ENCRYPTION_OVERHEAD_BYTES = UNCOMPRESSED_BYTES + SM3_BYTES;

/** Keys and small bundles of keys; more than this has no business under a public key. */
export const SM2_ENCRYPTION_MAX_MESSAGE_BYTES = 4096;

// The key stream is all zero, and must be drawn again, with probability 256^-|M|: 1/256 for the shortest message.
const DRAW_LIMIT = 64;

function keyStream(sharedRaw: Uint8Array, lengthBytes: number): Uint8Array | undefined {
  const stream = kdf(sharedRaw, lengthBytes);
  let any = 0;
  for (const byte of stream) any |= byte;
  return any === 0 ? undefined : stream;
}

function xor(left: Uint8Array, right: Uint8Array): Uint8Array {
  assert(left.length === right.length, 'xor: lengths differ');
  return left.map((byte, index) => byte ^ (right[index] as number));
}

function check(sharedRaw: Uint8Array, message: Uint8Array): Uint8Array {
  return new Sm3().update(sharedRaw.subarray(0, 32)).update(message).update(sharedRaw.subarray(32)).digest();
}

/**
 * @param publicKey 64 bytes x || y
 * @param message 1..4096 bytes
 * @returns 97 + |message| bytes
 * @throws EmrError SM2_PUBLIC_KEY_INVALID, SM2_MESSAGE_LENGTH
 */
export function sm2Encrypt(publicKey: Uint8Array, message: Uint8Array, random: RandomBytes): Uint8Array {
  const point = rawToPoint(publicKey);
  if (point === undefined) {
    throw new EmrError('SM2_PUBLIC_KEY_INVALID', 'The public key is not a point of the SM2 curve in 64 bytes.');
  }
  if (message.length === 0 || message.length > SM2_ENCRYPTION_MAX_MESSAGE_BYTES) {
    throw new EmrError('SM2_MESSAGE_LENGTH', 'A message under a public key has 1 to 4096 bytes.', {
      lengthBytes: message.length,
    });
  }
  for (let draw = 0; draw < DRAW_LIMIT; draw++) {
    const k = hedgedScalar('sm2-encrypt', random, publicKey, message);
    const sharedRaw = pointToRaw(point.multiply(k));
    const stream = keyStream(sharedRaw, message.length);
    if (stream === undefined) continue;
    const c1 = rawToUncompressed(pointToRaw(GENERATOR.multiply(k)));
    return concatBytes(c1, check(sharedRaw, message), xor(message, stream));
  }
  throw new EmrError('RANDOMNESS_BROKEN', 'The source of randomness yields no usable nonce.');
}

function parseEphemeral(ciphertext: Uint8Array): CurvePoint | undefined {
  if (ciphertext[0] !== 4) return undefined;
  return rawToPoint(ciphertext.subarray(1, UNCOMPRESSED_BYTES));
}

/**
 * @param privateKey 32 bytes; @throws EmrError SM2_PRIVATE_KEY_INVALID (our own key: not untrusted input)
 * @param ciphertext untrusted
 * @returns the message, or SM2_CIPHERTEXT_MALFORMED (lengths, ephemeral point), SM2_CIPHERTEXT_INVALID (wrong key or
 *   changed bytes: the two cannot be told apart)
 */
export function sm2Decrypt(privateKey: Uint8Array, ciphertext: Uint8Array): Verdict<Uint8Array> {
  const d = requirePrivateKey(privateKey);
  const lengthBytes = ciphertext.length - SM2_ENCRYPTION_OVERHEAD_BYTES;
  if (lengthBytes < 1 || lengthBytes > SM2_ENCRYPTION_MAX_MESSAGE_BYTES) {
    return reject('SM2_CIPHERTEXT_MALFORMED', 'The length is not that of an SM2 ciphertext.');
  }
  const point = parseEphemeral(ciphertext);
  if (point === undefined) {
    return reject('SM2_CIPHERTEXT_MALFORMED', 'The ephemeral key is not an uncompressed point of the curve.');
  }
  const sharedRaw = pointToRaw(point.multiply(d));
  const stream = keyStream(sharedRaw, lengthBytes);
  if (stream !== undefined) {
    const message = xor(ciphertext.subarray(SM2_ENCRYPTION_OVERHEAD_BYTES), stream);
    const c3 = ciphertext.subarray(UNCOMPRESSED_BYTES, SM2_ENCRYPTION_OVERHEAD_BYTES);
    if (equalBytesConstantTime(check(sharedRaw, message), c3)) return accept(message);
  }
  return reject('SM2_CIPHERTEXT_INVALID', 'The ciphertext was changed, or is not for this key.');
}
