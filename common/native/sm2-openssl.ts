/**
 * SM2 through node:crypto (OpenSSL): some 0.4 ms a signature, and constant-time code for secret keys.
 *
 * DANGER, each the subject of a test or of the self-test below:
 *   - a key fresh from generateKeyPair signs ECDSA; only a key imported from DER signs SM2. Keys are imported here.
 *   - crypto.sign and crypto.verify('sm3') use an empty user id; createSign and createVerify('sm3') leave Z_A out
 *     altogether, so that feeding Z_A || M gives standard SM2 with our user id. Node's issue 53761 calls that a bug:
 *     a later version may change it, hence the known-answer test at boot (`sm2-select.ts`).
 *   - dsaEncoding 'ieee-p1363' is for EC and DSA keys and silently does nothing for SM2 keys: the DER form
 *     SEQUENCE { INTEGER r, INTEGER s } is written and read here.
 */

import { createPrivateKey, createPublicKey, createSign, createVerify, randomFillSync } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { concatBytes, hexToBytes } from '../bytes.ts';
import { isPublicKey } from '../crypto/curve.ts';
import {
  createNobleEngine,
  parseSignature,
  publicKeyOf,
  requirePrivateKey,
  sm2Address,
  sm2Identity,
  verifyEach,
} from '../crypto/sm2.ts';
import type { RandomBytes, Sm2Engine, Sm2Signer } from '../crypto/sm2.ts';
import { assert } from '../errors.ts';

/** The operating system's randomness. */
export const systemRandom: RandomBytes = (lengthBytes) => randomFillSync(new Uint8Array(lengthBytes));

// AlgorithmIdentifier { id-ecPublicKey 1.2.840.10045.2.1, sm2p256v1 1.2.156.10197.1.301 }
const ALGORITHM = '301306072a8648ce3d020106082a811ccf5501822d';
// SubjectPublicKeyInfo { ALGORITHM, BIT STRING 04 || x || y }
const SPKI_HEAD = hexToBytes(`3059${ALGORITHM}03420004`);
// PrivateKeyInfo { 0, ALGORITHM, OCTET STRING { ECPrivateKey { 1, OCTET STRING d, [1] BIT STRING 04 || x || y } } }
const PKCS8_HEAD = hexToBytes(`308187020100${ALGORITHM}046d306b0201010420`);
const PKCS8_MIDDLE = hexToBytes('a14403420004');

function importPublicKey(publicKey: Uint8Array): KeyObject {
  const der = concatBytes(SPKI_HEAD, publicKey);
  return createPublicKey({ key: Buffer.from(der.buffer), format: 'der', type: 'spki' });
}

const SCALAR_BYTES = 32;

/** DER INTEGER of an unsigned big-endian number: no leading zero bytes but the one that keeps it positive. */
function writeDerInteger(target: Uint8Array, offset: number, value: Uint8Array): number {
  let start = 0;
  while (start < SCALAR_BYTES - 1 && value[start] === 0) start++;
  const padding = (value[start] as number) >= 0x80 ? 1 : 0;
  target[offset] = 0x02;
  target[offset + 1] = SCALAR_BYTES - start + padding;
  target.set(value.subarray(start), offset + 2 + padding);
  return offset + 2 + padding + SCALAR_BYTES - start;
}

/** SEQUENCE { INTEGER r, INTEGER s } of 64 bytes r || s; at most 72 bytes, so that lengths take one byte. */
function signatureToDer(signature: Uint8Array): Uint8Array {
  const der = new Uint8Array(2 + 2 * (2 + 1 + SCALAR_BYTES));
  const middle = writeDerInteger(der, 2, signature.subarray(0, SCALAR_BYTES));
  const end = writeDerInteger(der, middle, signature.subarray(SCALAR_BYTES));
  der[0] = 0x30;
  der[1] = end - 2;
  return der.subarray(0, end);
}

/** OpenSSL's own output: anything else than two integers of at most 32 bytes is a broken library. */
function signatureFromDer(der: Uint8Array): Uint8Array {
  assert(der[0] === 0x30 && der[1] === der.length - 2, 'OpenSSL signature: not a sequence');
  const signature = new Uint8Array(2 * SCALAR_BYTES);
  let offset = 2;
  for (const end of [SCALAR_BYTES, 2 * SCALAR_BYTES]) {
    const length = der[offset + 1];
    assert(der[offset] === 0x02 && length !== undefined, 'OpenSSL signature: not an integer');
    let value = der.subarray(offset + 2, offset + 2 + length);
    if (value.length === SCALAR_BYTES + 1 && value[0] === 0) value = value.subarray(1);
    assert(value.length <= SCALAR_BYTES, 'OpenSSL signature: integer too long');
    signature.set(value, end - value.length);
    offset += 2 + length;
  }
  assert(offset === der.length, 'OpenSSL signature: trailing bytes');
  return signature;
}

interface ImportedKey {
  readonly identity: Uint8Array;
  readonly key: KeyObject;
}

/**
 * Imported keys, the least recently used dropped first. Importing costs as much as verifying, and nearly all traffic
 * comes from keys that repeat. 4,096 keys of some 3 KB each: about 12 MB, whatever a flood of new keys does.
 */
const IMPORTED_KEYS_LIMIT = 4096;

class ImportedKeys {
  readonly #keys = new Map<string, ImportedKey>();
  readonly #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** undefined for a key that is not a point of the curve; such keys are not remembered, the check is cheap. */
  get(publicKey: Uint8Array): ImportedKey | undefined {
    const name = Buffer.from(publicKey.buffer, publicKey.byteOffset, publicKey.byteLength).toString('latin1');
    let entry = this.#keys.get(name);
    if (entry !== undefined) {
      this.#keys.delete(name);
    } else {
      // Our own check, not OpenSSL's: all engines must agree on every key.
      if (!isPublicKey(publicKey)) return undefined;
      entry = { identity: sm2Identity(publicKey), key: importPublicKey(publicKey) };
      if (this.#keys.size >= this.#limit) {
        const oldest = this.#keys.keys().next();
        if (!oldest.done) this.#keys.delete(oldest.value);
      }
    }
    this.#keys.set(name, entry);
    return entry;
  }
}

/** @param importedKeysLimit bound on this engine's own cache of imported keys, at least 1 */
export function createOpensslEngine(importedKeysLimit: number = IMPORTED_KEYS_LIMIT): Sm2Engine {
  assert(importedKeysLimit >= 1, 'createOpensslEngine: no room for a key');
  const keys = new ImportedKeys(importedKeysLimit);
  const reference = createNobleEngine();
  const verify = (publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean => {
    if (parseSignature(signature) === undefined) return false;
    try {
      const entry = keys.get(publicKey);
      if (entry === undefined) return false;
      return createVerify('sm3').update(entry.identity).update(message).verify(entry.key, signatureToDer(signature));
    } catch {
      // OpenSSL reports some invalid signatures (s*G + t*P at infinity) as errors, and might fail for reasons of its
      // own. A verdict must not depend on those: the reference decides.
      return reference.verify(publicKey, message, signature);
    }
  };
  return { name: 'openssl', verify, verifyBatch: (items) => verifyEach(verify, items) };
}

/**
 * @param privateKey 32 bytes; not kept by reference
 * @throws EmrError SM2_PRIVATE_KEY_INVALID
 */
export function createOpensslSigner(privateKey: Uint8Array): Sm2Signer {
  requirePrivateKey(privateKey);
  const publicKey = publicKeyOf(privateKey);
  const der = concatBytes(PKCS8_HEAD, privateKey, PKCS8_MIDDLE, publicKey);
  const key = createPrivateKey({ key: Buffer.from(der.buffer), format: 'der', type: 'pkcs8' });
  der.fill(0);
  const identity = sm2Identity(publicKey);
  return {
    publicKey,
    address: sm2Address(publicKey),
    sign(message: Uint8Array): Uint8Array {
      return signatureFromDer(createSign('sm3').update(identity).update(message).sign(key));
    },
  };
}
