/**
 * SM2 verification by sm-crypto: the compatibility oracle, and the engine of a client that wants plain JavaScript only.
 * Some 30 ms a signature: not for a node.
 */

import smCrypto from 'sm-crypto';
import { bytesToHex } from '../bytes.ts';
import { isPublicKey } from './curve.ts';
import { SM2_USER_ID, parseSignature, verifyEach } from './sm2.ts';
import type { Sm2Engine } from './sm2.ts';

export function createSmCryptoEngine(): Sm2Engine {
  const verify = (publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean => {
    // sm-crypto reduces coordinates at or above p and takes short hex: the shared rules come first.
    if (!isPublicKey(publicKey) || parseSignature(signature) === undefined) return false;
    try {
      return smCrypto.sm2.doVerifySignature(Array.from(message), bytesToHex(signature), `04${bytesToHex(publicKey)}`, {
        hash: true,
        der: false,
        userId: SM2_USER_ID,
      });
    } catch {
      // It throws when s*G + t*P is the point at infinity, where the standard says "not valid".
      return false;
    }
  };
  return { name: 'sm-crypto', verify, verifyBatch: (items) => verifyEach(verify, items) };
}
