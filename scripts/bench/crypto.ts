/** SM2 by every engine that the project has, in one process: 200-byte messages, Z_A and SM3 included. */

import { randomBytes } from 'node:crypto';
import { bytesToBigint } from '../../common/bytes.ts';
import { CURVE_ORDER, GENERATOR, modOrder, pointToRaw, rawToCompressed } from '../../common/crypto/curve.ts';
import { createWasmEngine } from '../../common/crypto/sm2-engine/engine.ts';
import { createWasmPoints } from '../../common/crypto/sm2-engine/points.ts';
import { createSmCryptoEngine } from '../../common/crypto/sm2-smcrypto.ts';
import { createNobleEngine, createNobleSigner, generatePrivateKey } from '../../common/crypto/sm2.ts';
import type { Sm2Engine, Sm2Verification } from '../../common/crypto/sm2.ts';
import { createOpensslEngine, createOpensslSigner, systemRandom } from '../../common/native/sm2-openssl.ts';
import { interleaved } from './measure.ts';
import type { Bench, Case, Report } from './measure.ts';

/** As many as a block has, and more than fit a processor's nearest caches with their tables. */
const KEYS = 250;
const MESSAGE_BYTES = 200;
const ROUNDS = 20;
/** The slow engines verify fewer in a round. */
const NOBLE_KEYS = 8;
const SM_CRYPTO_KEYS = 1;

const NEW_KEY = 'verify, new key: WebAssembly';
const KNOWN_KEY = 'verify, known key: WebAssembly';
const SECOND = 'verify, second sight (builds tables): WebAssembly';
const OPENSSL = 'verify, imported key: node:crypto';
const OPENSSL_NEW = 'verify, new key: node:crypto';
const NOBLE = 'verify: noble';
const SM_CRYPTO = 'verify: sm-crypto';
const CAPSULE = 'four multiplications (a proof of equal logarithms): WebAssembly';
const CAPSULE_NOBLE = 'four multiplications (a proof of equal logarithms): noble';

function signedMessages(): Sm2Verification[] {
  return Array.from({ length: KEYS }, () => {
    const signer = createOpensslSigner(generatePrivateKey(systemRandom));
    const message = new Uint8Array(randomBytes(MESSAGE_BYTES));
    return { publicKey: signer.publicKey, message, signature: signer.sign(message) };
  });
}

/** All items verified `sights` times before, by an engine that is new in every round. */
function verifying(name: string, make: () => Sm2Engine, items: readonly Sm2Verification[], sights: number): Case {
  let engine = make();
  return {
    name,
    operations: items.length,
    prepare: () => {
      engine = make();
      for (let sight = 0; sight < sights; sight++) engine.verifyBatch(items);
    },
    run: () => {
      if (!engine.verifyBatch(items).every((valid) => valid)) throw new Error(`${name}: a signature was refused`);
    },
  };
}

function repeated(name: string, operations: number, run: () => unknown): Case {
  return {
    name,
    operations,
    run: () => {
      for (let index = 0; index < operations; index++) run();
    },
  };
}

/** f G - e U and f H - e V: what a proof that log_G U = log_H V makes its verifier compute. */
function equalLogarithms(): [Case, Case, Case] {
  const points = createWasmPoints();
  const scalar = (): bigint => bytesToBigint(randomBytes(32)) % CURVE_ORDER;
  const [f, e] = [scalar(), modOrder(-scalar())];
  const [U, H, V] = [1, 2, 3].map(() => GENERATOR.multiplyUnsafe(scalar()));
  if (U === undefined || H === undefined || V === undefined) throw new Error('three points were made');
  const [u, h, v] = [U, H, V].map(pointToRaw);
  if (u === undefined || h === undefined || v === undefined) throw new Error('three points were made');
  const compressed = rawToCompressed(u);
  return [
    repeated(CAPSULE, 50, () => [
      points.sum(f, [{ scalar: e, point: u }]),
      points.sum(0n, [
        { scalar: f, point: h },
        { scalar: e, point: v },
      ]),
    ]),
    repeated(CAPSULE_NOBLE, 2, () => [GENERATOR.mulAddUnsafe(f, U, e).toAffine(), H.mulAddUnsafe(f, V, e).toAffine()]),
    repeated('a point decompressed: WebAssembly', 200, () => points.decompress(compressed)),
  ];
}

async function run(): Promise<Report> {
  const items = signedMessages();
  const privateKey = generatePrivateKey(systemRandom);
  const message = new Uint8Array(MESSAGE_BYTES);
  const [native, pure] = [createOpensslSigner(privateKey), createNobleSigner(privateKey, systemRandom)];
  const { rows, ratio } = await interleaved(
    [
      verifying(KNOWN_KEY, createWasmEngine, items, 2),
      verifying(NEW_KEY, createWasmEngine, items, 0),
      verifying(SECOND, createWasmEngine, items, 1),
      verifying(OPENSSL, createOpensslEngine, items, 1),
      verifying(OPENSSL_NEW, createOpensslEngine, items, 0),
      verifying(NOBLE, createNobleEngine, items.slice(0, NOBLE_KEYS), 0),
      verifying(SM_CRYPTO, createSmCryptoEngine, items.slice(0, SM_CRYPTO_KEYS), 0),
      repeated('sign: node:crypto', 50, () => native.sign(message)),
      repeated('sign: noble', 10, () => pure.sign(message)),
      ...equalLogarithms(),
      repeated('engine made and its table of G built', 1, createWasmEngine),
    ],
    ROUNDS,
  );
  return {
    rows,
    ratios: [
      ratio(OPENSSL, KNOWN_KEY, 7),
      ratio(OPENSSL, NEW_KEY, 2.5),
      ratio(OPENSSL_NEW, NEW_KEY),
      ratio(NOBLE, NEW_KEY),
      ratio(SM_CRYPTO, KNOWN_KEY, 400),
      ratio(CAPSULE_NOBLE, CAPSULE),
    ],
  };
}

export const crypto: Bench = { says: 'SM2: verifying, signing, proofs', run };
