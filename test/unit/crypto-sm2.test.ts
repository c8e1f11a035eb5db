import { readFileSync } from 'node:fs';
import smCrypto from 'sm-crypto';
import t from 'tap';
import { bigintToBytes, bytesToBigint, bytesToHex, concatBytes, hexToBytes, utf8 } from '../../common/bytes.ts';
import * as curve from '../../common/crypto/curve.ts';
import { sm2Decrypt, sm2Encrypt } from '../../common/crypto/sm2-encrypt.ts';
import { createWasmEngine } from '../../common/crypto/sm2-engine/engine.ts';
import { createSmCryptoEngine } from '../../common/crypto/sm2-smcrypto.ts';
import * as sm2 from '../../common/crypto/sm2.ts';
import { hq } from '../../common/crypto/hash.ts';
import { sm3 } from '../../common/crypto/sm3.ts';
import { EmrError, InvariantError } from '../../common/errors.ts';
import { createOpensslEngine, createOpensslSigner, systemRandom } from '../../common/native/sm2-openssl.ts';
import { type Sm2Candidates, chooseSm2, newPrivateKey, selectSm2Engine } from '../../common/native/sm2-select.ts';

const vectors = JSON.parse(readFileSync(new URL('../vectors/crypto/sm2.json', import.meta.url), 'utf8')) as {
  privateKey: string;
  publicKey: string;
  signature: { message: string; identity: string; digest: string; rs: string };
  encryption: { message: string; c1: string; c3: string; c2: string };
};
const { CURVE_ORDER: n, FIELD_PRIME: p, GENERATOR: G } = curve;

const engines = [sm2.createNobleEngine(), createOpensslEngine(), createSmCryptoEngine(), createWasmEngine()];
const known = {
  privateKey: hexToBytes(vectors.privateKey),
  publicKey: hexToBytes(vectors.publicKey),
  message: utf8(vectors.signature.message),
  signature: hexToBytes(vectors.signature.rs),
};

/** Repeatable bytes for keys and messages; the signatures themselves are randomised. */
let counter = 0;
const seeded: sm2.RandomBytes = (length) => {
  const parts: Uint8Array[] = [];
  for (let at = 0; at < length; at += 32) parts.push(sm3(utf8(`sm2 test ${counter++}`)));
  return concatBytes(...parts).subarray(0, length);
};

function smCryptoSign(privateKey: Uint8Array, message: Uint8Array): Uint8Array {
  return hexToBytes(smCrypto.sm2.doSignature(Array.from(message), bytesToHex(privateKey), { hash: true }));
}

/** The verdict of every engine. */
function verdicts(key: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean[] {
  return engines.map((engine) => engine.verify(key, message, signature));
}

const rs = (r: bigint, s: bigint): Uint8Array => concatBytes(bigintToBytes(r, 32), bigintToBytes(s, 32));
const xy = (x: bigint, y: bigint): Uint8Array => rs(x, y);
const all = (value: boolean): boolean[] => engines.map(() => value);

t.test('GB/T 32918.5 signature example', async (t) => {
  t.equal(bytesToHex(sm2.publicKeyOf(known.privateKey)), vectors.publicKey);
  t.equal(bytesToHex(sm2.sm2Identity(known.publicKey)), vectors.signature.identity);
  t.equal(bytesToHex(sm2.sm2Digest(known.publicKey, known.message)), vectors.signature.digest);
  t.same(verdicts(known.publicKey, known.message, known.signature), all(true));
  t.same(sm2.sm2Address(known.publicKey), sm3(known.publicKey).subarray(12));
});

t.test('every signer is understood by every engine', async (t) => {
  for (let round = 0; round < 12; round++) {
    const privateKey = sm2.generatePrivateKey(seeded);
    const message = seeded(round * 37);
    const signers = [sm2.createNobleSigner(privateKey, systemRandom), createOpensslSigner(privateKey)];
    t.same(signers[0]!.publicKey, signers[1]!.publicKey);
    t.same(signers[0]!.address, sm2.sm2Address(signers[1]!.publicKey));
    const { publicKey } = signers[0]!;
    const signatures = [...signers.map((signer) => signer.sign(message)), smCryptoSign(privateKey, message)];
    for (const signature of signatures) t.same(verdicts(publicKey, message, signature), all(true));
    for (let trial = 0; trial < 3; trial++) {
      const [bit, which] = seeded(2);
      const parts = [publicKey.slice(), message.length > 0 ? message.slice() : Uint8Array.of(0), signatures[trial]!];
      const target = parts[which! % 3]!;
      target[bit! % target.length]! ^= 1 << (bit! % 8);
      t.same(verdicts(parts[0]!, parts[1]!, parts[2]!), all(false), 'one bit changed');
    }
  }
});

t.test('noble and OpenSSL agree on many more', async (t) => {
  const [noble, native] = engines as [sm2.Sm2Engine, sm2.Sm2Engine];
  let disagreements = 0;
  for (let round = 0; round < 150; round++) {
    const privateKey = sm2.generatePrivateKey(seeded);
    const signer = round % 2 === 0 ? sm2.createNobleSigner(privateKey, seeded) : createOpensslSigner(privateKey);
    const message = seeded(round % 90);
    const signature = signer.sign(message);
    if (!noble.verify(signer.publicKey, message, signature)) disagreements++;
    if (!native.verify(signer.publicKey, message, signature)) disagreements++;
    const changed = signature.slice();
    changed[round % 64]! ^= 1 << (round % 8);
    if (noble.verify(signer.publicKey, message, changed) || native.verify(signer.publicKey, message, changed)) {
      disagreements++;
    }
    const garbage = seeded(64);
    if (noble.verify(garbage, message, signature) || native.verify(garbage, message, signature)) disagreements++;
  }
  t.equal(disagreements, 0);
});

t.test('boundary signatures', async (t) => {
  const r = bytesToBigint(known.signature.subarray(0, 32));
  const s = bytesToBigint(known.signature.subarray(32));
  const top = 2n ** 256n - 1n;
  const cases: [string, bigint, bigint][] = [];
  for (const value of [0n, 1n, n - 1n, n, n + 1n, p, top])
    cases.push([`r=${value}`, value, s], [`s=${value}`, r, value]);
  cases.push(['both 0', 0n, 0n], ['both n', n, n], ['r + s = n', r, n - r], ['r + s = n at the ends', 1n, n - 1n]);
  cases.push(['swapped', s, r], ['s negated', r, n - s], ['r + n', r + n > top ? n : r + n, s]);
  for (const [name, left, right] of cases) {
    t.same(verdicts(known.publicKey, known.message, rs(left, right)), all(false), name);
  }
  // s*G + t*P = O: s = -r*d / (1 + d). Libraries throw here; the standard says "not valid".
  const d = bytesToBigint(known.privateKey);
  for (const choice of [1n, 12345n, r]) {
    const zero = curve.modOrder(-choice * d * curve.invertModOrder(1n + d));
    t.ok(G.mulAddUnsafe(zero, curve.rawToPoint(known.publicKey)!, (choice + zero) % n).is0());
    t.same(verdicts(known.publicKey, known.message, rs(choice, zero)), all(false), 'sum at infinity');
  }
  for (const length of [0, 1, 63, 65, 128]) {
    t.same(verdicts(known.publicKey, known.message, new Uint8Array(length).fill(1)), all(false), `${length} bytes`);
  }
});

t.test('keys k*G for small k, where additions are exceptional', async (t) => {
  for (const d of [1n, 2n, 3n, 4n, 16n, n - 2n, n - 3n, (n - 1n) / 2n]) {
    const privateKey = bigintToBytes(d, 32);
    for (const signer of [sm2.createNobleSigner(privateKey, seeded), createOpensslSigner(privateKey)]) {
      t.same(verdicts(signer.publicKey, known.message, signer.sign(known.message)), all(true), `d = ${d}`);
    }
    t.same(verdicts(sm2.publicKeyOf(privateKey), known.message, rs(d, d)), all(false));
  }
  const minusG = curve.pointToRaw(G.negate());
  t.same(verdicts(minusG, known.message, known.signature), all(false), 'no private key has this public key');
  t.same(verdicts(minusG, known.message, rs(5n, 10n)), all(false), 's = t: the sum is O');
});

t.test('public keys have one verdict', async (t) => {
  const raw = known.publicKey;
  const x = bytesToBigint(raw.subarray(0, 32));
  const y = bytesToBigint(raw.subarray(32));
  // A point whose x is small, so that x + p still fits in 32 bytes.
  let small = 1n;
  let point: curve.CurvePoint | undefined;
  for (; point === undefined; small++)
    point = curve.decodePoint(concatBytes(Uint8Array.of(2), bigintToBytes(small, 32)));
  const smallKey = curve.pointToRaw(point);
  const smallX = bytesToBigint(smallKey.subarray(0, 32));
  const smallY = bytesToBigint(smallKey.subarray(32));
  t.ok(curve.isPublicKey(smallKey));
  const origin = curve.decodePoint(concatBytes(Uint8Array.of(2), new Uint8Array(32)));
  t.ok(origin !== undefined, 'x = 0 is on this curve');
  for (const key of [smallKey, curve.pointToRaw(origin!)]) {
    t.same(verdicts(key, known.message, known.signature), all(false));
  }
  const bad: [string, Uint8Array][] = [
    ['x + p', xy(smallX + p, smallY)],
    ['x = p', xy(p, smallY)],
    ['y = p', xy(smallX, p)],
    ['both above', xy(p + 1n, p + 1n)],
    ['off curve', xy(x, y ^ 1n)],
    ['swapped', xy(y, x)],
    ['zero', xy(0n, 0n)],
    ['(0, 1)', xy(0n, 1n)],
    ['all ones', new Uint8Array(64).fill(255)],
    ['63 bytes', raw.subarray(1)],
    ['with 04', curve.rawToUncompressed(raw)],
    ['compressed', curve.rawToCompressed(raw)],
    ['empty', new Uint8Array(0)],
  ];
  for (const [name, key] of bad) {
    t.notOk(curve.isPublicKey(key), name);
    t.same(verdicts(key, known.message, known.signature), all(false), name);
    t.throws(() => sm2Encrypt(key, known.message, seeded), { code: 'SM2_PUBLIC_KEY_INVALID' }, name);
  }
  t.ok(curve.isPublicKey(xy(x, p - y)), 'the negative is another valid key');
  t.same(verdicts(xy(x, p - y), known.message, known.signature), all(false));
});

t.test('encodings of points and scalars are strict and canonical', async (t) => {
  for (let round = 0; round < 50; round++) {
    const raw = sm2.publicKeyOf(sm2.generatePrivateKey(seeded));
    const compressed = curve.rawToCompressed(raw);
    t.same(curve.encodePoint(curve.rawToPoint(raw)!), compressed);
    t.same(curve.pointToRaw(curve.decodePoint(compressed)!), raw);
    t.same(curve.compressedToRaw(compressed), raw);
    t.same(curve.uncompressedToRaw(curve.rawToUncompressed(raw)), raw);
    const x = bytesToBigint(raw.subarray(0, 32));
    t.equal(curve.decodePoint(concatBytes(Uint8Array.of(5), raw.subarray(0, 32))), undefined);
    if (x + p < 2n ** 256n)
      t.equal(curve.decodePoint(concatBytes(Uint8Array.of(2), bigintToBytes(x + p, 32))), undefined);
  }
  const good = curve.rawToCompressed(known.publicKey);
  for (const bytes of [
    good.subarray(0, 32),
    curve.rawToUncompressed(known.publicKey),
    Uint8Array.of(0),
    new Uint8Array(33),
  ]) {
    t.equal(curve.decodePoint(bytes), undefined);
  }
  t.equal(curve.decodePoint(concatBytes(Uint8Array.of(2), bigintToBytes(p + 3n, 32))), undefined, 'x at or above p');
  const hybrid = curve.rawToUncompressed(known.publicKey);
  hybrid[0] = 6;
  t.equal(curve.uncompressedToRaw(hybrid), undefined);
  t.throws(() => curve.encodePoint(curve.INFINITY), InvariantError);
  t.throws(() => curve.pointToRaw(curve.INFINITY), InvariantError);
  t.equal(curve.decodeScalar(bigintToBytes(n - 1n, 32)), n - 1n);
  t.equal(curve.decodeScalar(bigintToBytes(n, 32)), undefined, 'never reduced');
  t.equal(curve.decodeScalar(new Uint8Array(31)), undefined);
  t.equal(hq('range') < n, true);
});

t.test('private keys and nonces', async (t) => {
  for (const d of [0n, n - 1n, n, 2n ** 256n - 1n]) {
    const bytes = bigintToBytes(d, 32);
    t.equal(sm2.parsePrivateKey(bytes), undefined);
    for (const make of [
      (): unknown => createOpensslSigner(bytes),
      (): unknown => sm2.createNobleSigner(bytes, seeded),
    ]) {
      t.throws(make, { code: 'SM2_PRIVATE_KEY_INVALID' });
    }
  }
  t.equal(sm2.parsePrivateKey(new Uint8Array(33).fill(1)), undefined);
  t.throws(() => sm2.generatePrivateKey((length) => new Uint8Array(length)), { code: 'RANDOMNESS_BROKEN' });
  t.throws(() => sm2.generatePrivateKey(() => new Uint8Array(8).fill(1)), InvariantError);
  t.not(bytesToHex(newPrivateKey()), bytesToHex(newPrivateKey()));

  // With a dead source the nonce still depends on key and message: no two messages share one.
  const dead: sm2.RandomBytes = (length) => new Uint8Array(length).fill(7);
  const signer = sm2.createNobleSigner(known.privateKey, dead);
  const first = signer.sign(utf8('a'));
  t.same(signer.sign(utf8('a')), first);
  const second = signer.sign(utf8('b'));
  t.not(bytesToHex(second.subarray(0, 32)), bytesToHex(first.subarray(0, 32)));
  t.same(verdicts(signer.publicKey, utf8('b'), second), all(true));
  const live = sm2.createNobleSigner(known.privateKey, systemRandom);
  t.not(bytesToHex(live.sign(utf8('a'))), bytesToHex(live.sign(utf8('a'))));
});

t.test('batches', async (t) => {
  const bad = known.signature.slice();
  bad[5]! ^= 1;
  const items = [known, { ...known, signature: bad }, { ...known, publicKey: new Uint8Array(3) }, known];
  for (const engine of engines) t.same(engine.verifyBatch(items), [true, false, false, true], engine.name);
  t.same(engines[1]!.verifyBatch([]), []);
});

t.test('verdicts do not depend on which keys are remembered', async (t) => {
  const engine = createOpensslEngine(2);
  const signers = [1n, 2n, 3n, 4n].map((d) => createOpensslSigner(bigintToBytes(d, 32)));
  for (const at of [0, 1, 0, 2, 1, 3, 0, 0, 2]) {
    const signer = signers[at]!;
    const signature = signer.sign(known.message);
    t.ok(engine.verify(signer.publicKey, known.message, signature));
    t.notOk(engine.verify(signers[(at + 1) % 4]!.publicKey, known.message, signature));
  }
});

t.test('boot self-test', async (t) => {
  const chosen = selectSm2Engine();
  t.equal(chosen.engine.name, 'wasm');
  t.equal(chosen.fallbackReason, undefined);
  t.equal(selectSm2Engine(), chosen, 'one engine and one set of tables for a process');
  const signer = chosen.createSigner(known.privateKey);
  t.same(verdicts(signer.publicKey, known.message, signer.sign(known.message)), all(true));

  const wasm = createWasmEngine();
  const acceptsAll = (): sm2.Sm2Engine => ({ ...wasm, name: 'wasm', verify: () => true });
  const refusesAll = (): sm2.Sm2Engine => ({ ...wasm, name: 'wasm', verify: () => false });
  const throws = (): sm2.Sm2Engine => {
    throw new Error('WebAssembly is forbidden here');
  };
  /** Wrong only once the key has its table. */
  const forgetful = (): sm2.Sm2Engine => {
    let calls = 0;
    return { ...wasm, name: 'wasm', verify: (...args) => ++calls > 11 || wasm.verify(...args) };
  };
  for (const broken of [acceptsAll, refusesAll, throws, forgetful]) {
    for (const [engines, name] of [
      [[broken, () => createOpensslEngine()], 'openssl'],
      [[broken, broken], 'noble'],
    ] as const) {
      const fallback = chooseSm2({ engines, createSigner: createOpensslSigner });
      t.equal(fallback.engine.name, name, broken.name);
      t.type(fallback.fallbackReason, 'string', broken.name);
      const made = fallback.createSigner(known.privateKey);
      t.ok(fallback.engine.verify(made.publicKey, known.message, made.sign(known.message)));
    }
  }
  const noSigner: Sm2Candidates = {
    engines: [() => createWasmEngine()],
    createSigner: (key) => ({ ...createOpensslSigner(key), sign: () => new Uint8Array(64).fill(1) }),
  };
  const fallback = chooseSm2(noSigner);
  t.equal(fallback.engine.name, 'wasm');
  t.type(fallback.fallbackReason, 'string');
  const pure = fallback.createSigner(known.privateKey);
  t.same(verdicts(pure.publicKey, known.message, pure.sign(known.message)), all(true));
});

t.test('encryption', async (t) => {
  t.test('GB/T 32918.5 example', async (t) => {
    const { c1, c2, c3, message } = vectors.encryption;
    t.same(sm2Decrypt(known.privateKey, hexToBytes(`04${c1}${c3}${c2}`)), { ok: true, value: utf8(message) });
  });

  t.test('round trip, and sm-crypto in both directions', async (t) => {
    for (const length of [1, 2, 31, 32, 33, 64, 65, 300]) {
      const privateKey = sm2.generatePrivateKey(seeded);
      const publicKey = sm2.publicKeyOf(privateKey);
      const message = seeded(length);
      const ours = sm2Encrypt(publicKey, message, systemRandom);
      t.equal(ours.length, 97 + length);
      t.same(sm2Decrypt(privateKey, ours), { ok: true, value: message });
      const bare = bytesToHex(ours).slice(2);
      t.same(smCrypto.sm2.doDecrypt(bare, bytesToHex(privateKey), 1, { output: 'array' }), Array.from(message));
      // The one-byte message is left out: sm-crypto does not redraw an all-zero key stream, which we refuse.
      if (length > 1) {
        const theirs = smCrypto.sm2.doEncrypt(Array.from(message), `04${bytesToHex(publicKey)}`, 1);
        t.same(sm2Decrypt(privateKey, hexToBytes(`04${theirs}`)), { ok: true, value: message });
      }
    }
    for (let round = 0; round < 300; round++) {
      const ct = sm2Encrypt(known.publicKey, Uint8Array.of(round & 255), seeded);
      if (ct[97] === (round & 255)) t.fail('one byte went out in clear');
    }
  });

  t.test('refuses whatever was changed', async (t) => {
    const ct = sm2Encrypt(known.publicKey, utf8('wrapped key'), seeded);
    const malformed = 'SM2_CIPHERTEXT_MALFORMED';
    const invalid = 'SM2_CIPHERTEXT_INVALID';
    for (let at = 0; at < ct.length; at += 3) {
      const changed = ct.slice();
      changed[at]! ^= 0x10;
      t.match(sm2Decrypt(known.privateKey, changed), { ok: false, code: at < 65 ? malformed : invalid }, `byte ${at}`);
    }
    const other = sm2.publicKeyOf(sm2.generatePrivateKey(seeded));
    const moved = concatBytes(curve.rawToUncompressed(other), ct.subarray(65));
    t.match(sm2Decrypt(known.privateKey, moved), { ok: false, code: invalid }, 'another ephemeral point');
    t.match(sm2Decrypt(sm2.generatePrivateKey(seeded), ct), { ok: false, code: invalid }, 'another key');
    t.match(sm2Decrypt(known.privateKey, ct.subarray(0, ct.length - 1)), { ok: false, code: invalid });
    t.match(sm2Decrypt(known.privateKey, concatBytes(ct, Uint8Array.of(0))), { ok: false, code: invalid });
    for (const bytes of [new Uint8Array(0), ct.subarray(0, 97), ct.subarray(1), new Uint8Array(97 + 4097).fill(4)]) {
      t.match(sm2Decrypt(known.privateKey, bytes), { ok: false, code: malformed });
    }
    for (const length of [0, 4097]) {
      t.throws(() => sm2Encrypt(known.publicKey, new Uint8Array(length), seeded), { code: 'SM2_MESSAGE_LENGTH' });
    }
    t.throws(() => sm2Decrypt(new Uint8Array(32), ct), EmrError);
  });
});
