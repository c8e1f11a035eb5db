/**
 * Chooses the SM2 engine at boot: OpenSSL when it passes known-answer tests, else the pure one, with the reason, which
 * the caller must show. A node that verifies differently from its peers forks itself off the chain; a node that
 * verifies slowly only lags.
 */

import { hexToBytes, utf8 } from '../bytes.ts';
import { createNobleEngine, createNobleSigner, generatePrivateKey } from '../crypto/sm2.ts';
import type { RandomBytes, Sm2Engine, Sm2Signer } from '../crypto/sm2.ts';
import { createOpensslEngine, createOpensslSigner, systemRandom } from './sm2-openssl.ts';

/** GB/T 32918.5-2017 annex A.2, with the default user id. */
const KNOWN = {
  privateKey: hexToBytes('3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8'),
  publicKey: hexToBytes(
    '09f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020' +
      'ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13',
  ),
  message: utf8('message digest'),
  signature: hexToBytes(
    'f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3' +
      'b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa',
  ),
} as const;

function flipped(bytes: Uint8Array, index: number): Uint8Array {
  const copy = bytes.slice();
  copy[index] = (copy[index] as number) ^ 1;
  return copy;
}

export type MakeSigner = (privateKey: Uint8Array) => Sm2Signer;

/**
 * Known answers for an engine and a signer that claim to be SM2.
 * @returns what failed, or undefined when all is well; never throws
 */
export function selfTestSm2(engine: Sm2Engine, makeSigner: MakeSigner): string | undefined {
  try {
    const { publicKey, message, signature } = KNOWN;
    if (!engine.verify(publicKey, message, signature)) return 'refused the known signature of GB/T 32918.5';
    if (engine.verify(publicKey, utf8('message digesT'), signature)) return 'accepted a changed message';
    if (engine.verify(publicKey, message, flipped(signature, 31))) return 'accepted a changed r';
    if (engine.verify(publicKey, message, flipped(signature, 63))) return 'accepted a changed s';
    if (engine.verify(flipped(publicKey, 63), message, signature)) return 'accepted a key off the curve';
    const reference = createNobleEngine();
    const signer = makeSigner(KNOWN.privateKey);
    for (const text of ['', 'message digest']) {
      const made = signer.sign(utf8(text));
      if (!reference.verify(publicKey, utf8(text), made)) return 'made a signature that is not SM2';
      if (!engine.verify(publicKey, utf8(text), made)) return 'refused its own signature';
    }
    return undefined;
  } catch (error) {
    return `threw: ${error instanceof Error ? error.message : String(error)}`;
  }
}

export interface Sm2Backend {
  readonly engine: Sm2Engine;
  /** Signer of a 32-byte private key. @throws EmrError SM2_PRIVATE_KEY_INVALID */
  readonly createSigner: MakeSigner;
  readonly random: RandomBytes;
  /** Why the pure engine runs instead of the native one; absent when it does not. To be logged as a warning. */
  readonly fallbackReason?: string;
}

/** Some 40 ms. `candidate` is the native engine and signer; the parameter exists so that a test can break it. */
export function selectSm2Engine(
  candidate: { createEngine: () => Sm2Engine; createSigner: MakeSigner } = {
    createEngine: () => createOpensslEngine(),
    createSigner: createOpensslSigner,
  },
): Sm2Backend {
  let reason: string | undefined;
  try {
    const engine = candidate.createEngine();
    reason = selfTestSm2(engine, candidate.createSigner);
    if (reason === undefined) return { engine, createSigner: candidate.createSigner, random: systemRandom };
  } catch (error) {
    reason = `could not be made: ${error instanceof Error ? error.message : String(error)}`;
  }
  return {
    engine: createNobleEngine(),
    createSigner: (privateKey) => createNobleSigner(privateKey, systemRandom),
    random: systemRandom,
    fallbackReason: `native SM2 ${reason}; the pure engine runs, about six times slower`,
  };
}

/** A fresh private key from the operating system's randomness, 32 bytes. */
export function newPrivateKey(): Uint8Array {
  return generatePrivateKey(systemRandom);
}
