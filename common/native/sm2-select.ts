/**
 * Chooses, once for a process, who verifies and who signs SM2: the WebAssembly engine, else OpenSSL, else the pure one;
 * OpenSSL, else the pure signer. Each only after known answers, and with the reason if it is not the first choice, which the
 * caller must show. A node that verifies differently from its peers forks itself off the chain; a node that verifies slowly
 * only lags.
 */

import { hexToBytes, utf8 } from '../bytes.ts';
import { createWasmEngine } from '../crypto/sm2-engine/engine.ts';
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

/** A first sight of a key, its table being built, its table in use: an engine may take another way each time. */
const SIGHTS = 3;

function flipped(bytes: Uint8Array, index: number): Uint8Array {
  const copy = bytes.slice();
  copy[index] = (copy[index] as number) ^ 1;
  return copy;
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/**
 * Known answers for an engine that claims to verify SM2.
 * @returns what failed, or undefined when all is well; never throws
 */
function testEngine(engine: Sm2Engine): string | undefined {
  try {
    const { publicKey, message, signature } = KNOWN;
    for (let sight = 0; sight < SIGHTS; sight++) {
      if (!engine.verify(publicKey, message, signature)) return 'refused the known signature of GB/T 32918.5';
      if (engine.verify(publicKey, utf8('message digesT'), signature)) return 'accepted a changed message';
      if (engine.verify(publicKey, message, flipped(signature, 31))) return 'accepted a changed r';
      if (engine.verify(publicKey, message, flipped(signature, 63))) return 'accepted a changed s';
      if (engine.verify(flipped(publicKey, 63), message, signature)) return 'accepted a key off the curve';
    }
    return undefined;
  } catch (error) {
    return `threw: ${messageOf(error)}`;
  }
}

export type MakeSigner = (privateKey: Uint8Array) => Sm2Signer;

/** The same for a signer; `engine` has passed its own test. */
function testSigner(makeSigner: MakeSigner, engine: Sm2Engine): string | undefined {
  try {
    const signer = makeSigner(KNOWN.privateKey);
    for (const text of ['', 'message digest']) {
      if (!engine.verify(KNOWN.publicKey, utf8(text), signer.sign(utf8(text)))) return 'made what is no signature';
    }
    return undefined;
  } catch (error) {
    return `threw: ${messageOf(error)}`;
  }
}

export interface Sm2Backend {
  readonly engine: Sm2Engine;
  /** Signer of a 32-byte private key. @throws EmrError SM2_PRIVATE_KEY_INVALID */
  readonly createSigner: MakeSigner;
  readonly random: RandomBytes;
  /** Why something slower runs than what should; absent when all is well. To be logged as a warning. */
  readonly fallbackReason?: string;
}

/** What there is to choose from, best first. The pure engine and signer, which have no known answers to fail, come last. */
export interface Sm2Candidates {
  readonly engines: readonly (() => Sm2Engine)[];
  readonly createSigner: MakeSigner;
}

const CANDIDATES: Sm2Candidates = {
  engines: [() => createWasmEngine(), () => createOpensslEngine()],
  createSigner: createOpensslSigner,
};

export function chooseSm2(candidates: Sm2Candidates): Sm2Backend {
  const reasons: string[] = [];
  const engine = firstSound(candidates.engines, reasons) ?? createNobleEngine();
  if (reasons.length > 0) reasons.push(`${engine.name} verifies, which is several times slower`);
  const wrong = testSigner(candidates.createSigner, engine);
  if (wrong !== undefined) reasons.push(`OpenSSL's signer ${wrong}; the pure one signs`);
  return {
    engine,
    createSigner:
      wrong === undefined ? candidates.createSigner : (privateKey) => createNobleSigner(privateKey, systemRandom),
    random: systemRandom,
    ...(reasons.length > 0 ? { fallbackReason: reasons.join('; ') } : {}),
  };
}

function firstSound(makers: Sm2Candidates['engines'], reasons: string[]): Sm2Engine | undefined {
  for (const make of makers) {
    try {
      const engine = make();
      const wrong = testEngine(engine);
      if (wrong === undefined) return engine;
      reasons.push(`SM2 engine ${engine.name} ${wrong}`);
    } catch (error) {
      reasons.push(`an SM2 engine could not be made: ${messageOf(error)}`);
    }
  }
  return undefined;
}

let chosen: Sm2Backend | undefined;

/** The choice for this process (or worker): some 30 ms the first time; after that, the same engine with its tables. */
export function selectSm2Engine(): Sm2Backend {
  chosen ??= chooseSm2(CANDIDATES);
  return chosen;
}

/** A fresh private key from the operating system's randomness, 32 bytes. */
export function newPrivateKey(): Uint8Array {
  return generatePrivateKey(systemRandom);
}
