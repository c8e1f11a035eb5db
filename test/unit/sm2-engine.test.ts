/**
 * The WebAssembly engine from inside: field arithmetic at the limits of its limbs against BigInt, additions of equal and
 * opposite points, tables of keys, and the same verdict as every other engine on signatures made to part them. What all
 * engines share is tested in crypto-sm2.test.ts. EMRCHAIN_TEST_SM2_LONG=1 runs many times more of each.
 */
import t from 'tap';
import { bigintToBytes, bytesToBigint, bytesToHex, concatBytes, utf8 } from '../../common/bytes.ts';
import {
  CURVE_B,
  CURVE_ORDER as n,
  FIELD_PRIME as p,
  GENERATOR as G,
  Point,
  compressedToRaw,
  invertModOrder,
  modOrder,
  pointToRaw,
  rawToPoint,
} from '../../common/crypto/curve.ts';
import { createWasmEngine } from '../../common/crypto/sm2-engine/engine.ts';
import { createWasmPoints } from '../../common/crypto/sm2-engine/points.ts';
import { instantiate } from '../../common/crypto/sm2-engine/instance.ts';
import { KnownKeys } from '../../common/crypto/sm2-engine/known-keys.ts';
import { createSmCryptoEngine } from '../../common/crypto/sm2-smcrypto.ts';
import { createNobleEngine, generatePrivateKey } from '../../common/crypto/sm2.ts';
import type { RandomBytes } from '../../common/crypto/sm2.ts';
import { sm3 } from '../../common/crypto/sm3.ts';
import { InvariantError } from '../../common/errors.ts';
import { createOpensslEngine, createOpensslSigner } from '../../common/native/sm2-openssl.ts';

const LONG = process.env.EMRCHAIN_TEST_SM2_LONG === '1';
const times = (short: number, long: number): number => (LONG ? long : short);

let counter = 0;
const seeded: RandomBytes = (length) => {
  const parts: Uint8Array[] = [];
  for (let at = 0; at < length; at += 32) parts.push(sm3(utf8(`sm2 engine test ${counter++}`)));
  return concatBytes(...parts).subarray(0, length);
};
const pick = (below: number): number => Number(bytesToBigint(seeded(4)) % BigInt(below));

/** The module's field functions on BigInt. Addresses are multiples of 8 beyond what the module uses. */
function openField() {
  const wasm = instantiate() as unknown as Record<string, (...args: unknown[]) => number> & {
    memory: { buffer: ArrayBuffer };
    heapBase: () => number;
  };
  const base = Math.ceil(wasm.heapBase() / 64) * 64;
  const limbs = new BigInt64Array(wasm.memory.buffer);
  const small = new Int32Array(wasm.memory.buffer);
  const address = (index: number): number => base + 72 * index;
  const read = (at: number): bigint => {
    let value = 0n;
    for (let i = 8; i >= 0; i--) value = (value << 29n) + limbs[at / 8 + i]!;
    return value;
  };
  const write = (at: number, values: readonly bigint[]): void =>
    values.forEach((limb, i) => (limbs[at / 8 + i] = limb));
  return { wasm, limbs, small, address, read, write };
}

const LIMB = 2n ** 28n;
const R = 2n ** 261n;
const mod = (value: bigint): bigint => ((value % p) + p) % p;
function power(base: bigint, exponent: bigint): bigint {
  let result = 1n;
  for (let rest = exponent, square = mod(base); rest > 0n; rest >>= 1n, square = mod(square * square)) {
    if (rest & 1n) result = mod(result * square);
  }
  return result;
}
const inverseOfR = power(R, p - 2n);

/**
 * Nine limbs, each at an end of its range, near it, 0, or anything between. The highest holds what values need: elements are
 * below `values` times p.
 */
function extremeLimbs(size: bigint, values: bigint): bigint[] {
  const limit = (most: bigint): bigint => {
    const choice = pick(8);
    if (choice === 0) return most;
    if (choice === 1) return -most;
    if (choice === 2) return most - 1n;
    if (choice === 3) return 0n;
    if (choice === 4) return -1n;
    return (bytesToBigint(seeded(8)) % (2n * most + 1n)) - most;
  };
  return Array.from({ length: 9 }, (_, i) => limit(i < 8 ? size * LIMB : values << 24n));
}

t.test('field operations at the limits of their limbs', async (t) => {
  const { wasm, limbs, small, address, read, write } = openField();
  const [a, b, c, d, g, out] = [0, 1, 2, 3, 4, 5].map(address) as [number, number, number, number, number, number];
  /** name -> sizes of the operands in limbs, the call, and what it is modulo p */
  const cases: Record<
    string,
    { sizes: bigint[]; values?: bigint; call: () => void; gives: (...v: bigint[]) => bigint }
  > = {
    multiply: {
      sizes: [2n, 5n],
      call: () => wasm.multiply!(out, a, b),
      gives: (x, y) => x * y * inverseOfR,
    },
    square: { sizes: [3n], call: () => wasm.square!(out, a), gives: (x) => x * x * inverseOfR },
    multiplySubtract: {
      sizes: [3n, 1n, 1n],
      call: () => wasm.multiplySubtract!(out, a, 0n, b, c),
      gives: (x, y, z) => x * y * inverseOfR - z,
    },
    'multiplySubtract negated': {
      sizes: [3n, 1n, 1n],
      call: () => wasm.multiplySubtract!(out, a, -1n, b, c),
      gives: (x, y, z) => -x * y * inverseOfR - z,
    },
    doubleAlpha: {
      sizes: [1n, 1n],
      call: () => wasm.doubleAlpha!(out, a, b),
      gives: (x, y) => 3n * (x - y) * (x + y) * inverseOfR,
    },
    doubleX: {
      sizes: [1n, 1n],
      values: 1n,
      call: () => wasm.doubleX!(out, a, b),
      gives: (x, y) => x * x * inverseOfR - 8n * y,
    },
    doubleY: {
      sizes: [1n, 1n, 1n, 1n],
      call: () => wasm.doubleY!(out, a, b, c, d),
      gives: (alpha, beta, x, gamma) => (alpha * (4n * beta - x) - 8n * gamma * gamma) * inverseOfR,
    },
    doubleZ: { sizes: [1n, 1n], call: () => wasm.doubleZ!(out, a, b), gives: (y, z) => 2n * y * z * inverseOfR },
    addX: {
      sizes: [1n, 1n, 1n],
      call: () => wasm.addX!(out, a, b, c),
      gives: (r, h, v) => r * r * inverseOfR - h - 2n * v,
    },
    addY: {
      sizes: [1n, 1n, 1n, 1n, 1n],
      call: () => wasm.addY!(out, a, b, c, d, g),
      gives: (r, v, x, y, h) => (r * (v - x) - y * h) * inverseOfR,
    },
    'in place': { sizes: [1n, 1n], call: () => (wasm.multiply!(a, a, b), wasm.multiply!(out, a, b)), gives: () => 0n },
  };
  let wrong = 0;
  let notCarried = 0;
  const rounds = times(1_500, 20_000);
  for (const [name, { sizes, values = 2n, call, gives }] of Object.entries(cases)) {
    for (let round = 0; round < rounds; round++) {
      const operands = sizes.map((size, index) => {
        write(address(index), extremeLimbs(size, values));
        return read(address(index));
      });
      call();
      const expected = name === 'in place' ? operands[0]! * operands[1]! ** 2n * inverseOfR ** 2n : gives(...operands);
      if (mod(read(out)) !== mod(expected)) wrong++;
      // What is weakly reduced stays small: without it, values would grow from one operation to the next.
      if (name.endsWith('X') && read(out) * read(out) * 100n > 36n * p * p) wrong++;
      for (let i = 0; i < 8; i++) {
        const limb = limbs[out / 8 + i]!;
        if (limb < -LIMB - LIMB / 10n || limb > LIMB + LIMB / 10n) notCarried++;
      }
    }
    t.equal(wrong, 0, name);
    t.equal(notCarried, 0, `${name} is carried`);
  }
  for (let round = 0; round < rounds; round++) {
    const entry = extremeLimbs(1n, 2n);
    entry.forEach((limb, i) => (small[d / 4 + i] = Number(limb)));
    write(b, extremeLimbs(1n, 2n));
    write(c, extremeLimbs(1n, 2n));
    const value = entry.reduceRight((sum, limb) => (sum << 29n) + limb, 0n);
    for (const mask of [0n, -1n]) {
      wasm.multiplyTableSubtract!(out, d, mask, b, c);
      if (mod(read(out)) !== mod((mask === 0n ? value : -value) * read(b) * inverseOfR - read(c))) wrong++;
    }
  }
  t.equal(wrong, 0, 'multiplyTableSubtract');
});

t.test('multiples of p are zero, whatever their limbs; nothing else is', async (t) => {
  const { wasm, limbs, address, read, write } = openField();
  const [a, out] = [address(0), address(1)];
  const pLimbs = Array.from({ length: 9 }, (_, i) => (i < 8 ? (p >> BigInt(29 * i)) & (2n ** 29n - 1n) : p >> 232n));
  for (let k = -32n; k <= 32n; k++) {
    for (let round = 0; round < 40; round++) {
      const values = pLimbs.map((limb) => limb * k);
      // Moves part of a limb to its neighbour: another form of the same number.
      for (let i = 0; i < 8; i++) {
        const moved = BigInt(pick(5) - 2);
        values[i]! += moved << 29n;
        values[i + 1]! -= moved;
      }
      write(a, values);
      if (wasm.isZero!(a) !== 1) t.fail(`${k} p`);
      limbs[a / 8 + pick(9)]! += BigInt(1 + pick(1000));
      if (wasm.isZero!(a) !== 0) t.fail(`${k} p and a little`);
    }
  }
  const random = Array.from({ length: 8 }, () => bytesToBigint(seeded(32)) % p);
  for (const value of [0n, 1n, 2n, p - 1n, CURVE_B, ...random]) {
    const words = new BigUint64Array(wasm.memory.buffer, out, 4);
    for (let i = 0; i < 4; i++) words[i] = BigInt.asUintN(64, value >> BigInt(64 * i));
    wasm.fromWords!(a, out);
    t.equal(mod(read(a) * inverseOfR), value);
    wasm.toWords!(out, a);
    t.equal(
      words.reduceRight((sum, word) => (sum << 64n) + word, 0n),
      value,
    );
    wasm.invert!(out, a);
    t.equal(mod(mod(read(out) * inverseOfR) * value), value === 0n ? 0n : 1n, 'inverse');
    const isSquare = power(value, (p - 1n) / 2n) <= 1n;
    t.equal(wasm.squareRoot!(out, a), isSquare ? 1 : 0);
    if (isSquare) t.equal(mod(mod(read(out) * inverseOfR) ** 2n), value, 'square root');
  }
});

const engines = [createNobleEngine(), createOpensslEngine(), createWasmEngine()];
const oracle = createSmCryptoEngine();

interface Signed {
  readonly publicKey: Uint8Array;
  readonly message: Uint8Array;
  readonly signature: Uint8Array;
}

/** One verdict: each engine twice more than once, so that the tables of a key are built, used, and not used. */
function verdictOf({ publicKey, message, signature }: Signed, withOracle: boolean): boolean {
  const verdicts = [...engines, engines[2]!, engines[2]!, createdLast].map((engine) =>
    engine.verify(publicKey, message, signature),
  );
  if (withOracle) verdicts.push(oracle.verify(publicKey, message, signature));
  const [first] = verdicts;
  if (verdicts.some((verdict) => verdict !== first)) {
    t.fail(`${verdicts.join()}: ${[publicKey, message, signature].map(bytesToHex).join(' ')}`);
  }
  return first!;
}
/** Never sees a key often enough to keep its tables: room for one. */
const createdLast = createWasmEngine(5_000);

const rs = (r: bigint, s: bigint): Uint8Array => concatBytes(bigintToBytes(r, 32), bigintToBytes(s, 32));

/**
 * A key and message with an r and s that every check of GB/T 32918.2 section 7.1 accepts, from a chosen s and t: no private
 * key is needed to make s * G + t * P, only to make it fit a given digest. Here the digest is what the message says, so
 * r = t - s decides nothing but the verdict.
 */
function signatureOf(publicKey: Uint8Array, message: Uint8Array, s: bigint, sum: bigint): Signed {
  return { publicKey, message, signature: rs(modOrder(sum - s), modOrder(s)) };
}

t.test('one verdict on signatures: true ones, damaged ones, boundary values', async (t) => {
  const boundary = [0n, 1n, 2n, n - 2n, n - 1n, n, n + 1n, p - 1n, p, p + 1n, 2n ** 256n - 1n, 2n ** 255n];
  const keys = Array.from({ length: times(12, 100) }, () => generatePrivateKey(seeded));
  let valid = 0;
  let checked = 0;
  for (let round = 0; round < times(160, 6_000); round++) {
    const signer = createOpensslSigner(keys[pick(keys.length)]!);
    const message = seeded(pick(400));
    const signature = signer.sign(message);
    const good = { publicKey: signer.publicKey, message, signature };
    const withOracle = round % 24 === 0;
    checked++;
    if (verdictOf(good, withOracle)) valid++;
    const [r, s] = [bytesToBigint(signature.subarray(0, 32)), bytesToBigint(signature.subarray(32))];
    const edge = boundary[pick(boundary.length)]!;
    const bit = pick(512);
    const damaged = signature.slice();
    damaged[bit >> 3]! ^= 1 << (bit & 7);
    const key = signer.publicKey.slice();
    key[bit >> 3]! ^= 1 << (bit & 7);
    const variants: Signed[] = [
      { ...good, signature: damaged },
      { ...good, publicKey: key },
      { ...good, message: concatBytes(message, Uint8Array.of(0)) },
      { ...good, signature: rs(edge, s) },
      { ...good, signature: rs(r, edge) },
      { ...good, signature: rs(r, modOrder(n - r)) },
      { ...good, signature: rs(r, modOrder(-s)) },
      { ...good, publicKey: rs(edge, bytesToBigint(key.subarray(32))) },
      { ...good, publicKey: rs(bytesToBigint(key.subarray(0, 32)), p - bytesToBigint(signer.publicKey.subarray(32))) },
      { ...good, publicKey: keys.length > 1 ? createOpensslSigner(keys[0]!).publicKey : key },
    ];
    for (const variant of variants.slice(0, LONG || round % 4 === 0 ? variants.length : 2)) {
      const verdict = verdictOf(variant, withOracle && round % 48 === 0);
      if (verdict && !variant.publicKey.every((byte, index) => byte === signer.publicKey[index])) t.fail('wrong key');
    }
  }
  t.equal(valid, checked);
});

t.test('keys k * G for small k: sums that meet themselves on the way', async (t) => {
  const message = utf8('message digest');
  const small = [1n, 2n, 3n, 4n, 5n, 7n, 15n, 16n, 17n, 31n, 32n, 1n << 22n, (1n << 22n) + 1n, 1n << 132n];
  const multiples = [...small, ...small.map((k) => n - k)];
  for (const k of multiples) {
    const publicKey = pointToRaw(G.multiplyUnsafe(k));
    for (let round = 0; round < times(3, 60); round++) {
      const s = bytesToBigint(seeded(32)) % n;
      // s = +-k t, +-t and near them: partial sums of s * G and t * P that are equal, opposite, or O.
      for (const sum of [s, n - s, modOrder(s * k), modOrder(-s * k), modOrder(s * invertModOrder(k)), 1n, s + 1n]) {
        if (modOrder(sum - s) === 0n) continue;
        verdictOf(signatureOf(publicKey, message, s, modOrder(sum)), false);
      }
    }
    if (k < n - 1n) {
      const signer = createOpensslSigner(bigintToBytes(k, 32));
      for (let round = 0; round < 3; round++) {
        t.ok(verdictOf({ publicKey, message, signature: signer.sign(message) }, false), `d = ${k}`);
      }
    }
  }
});

t.test('a valid signature whose interleaved sum adds equal points (P = G)', async (t) => {
  // Found by trying: the first column of both scalars has the same twelve digits, so that the second addition doubles.
  const digits = (scalar: bigint): number => {
    const u = ((scalar & 1n ? scalar : scalar + n) >> 1n) | (1n << 263n);
    let column = 0;
    for (let tooth = 0n; tooth < 12n; tooth++) column |= Number((u >> (22n * tooth + 21n)) & 1n) << Number(tooth);
    return column;
  };
  const privateKey = bigintToBytes(1n, 32);
  const signer = createOpensslSigner(privateKey);
  let found = 0;
  for (let round = 0; found < times(1, 8) && round < times(30_000, 240_000); round++) {
    const message = utf8(`exceptional ${round}`);
    const signature = signer.sign(message);
    const s = bytesToBigint(signature.subarray(32));
    const sum = modOrder(bytesToBigint(signature.subarray(0, 32)) + s);
    const [left, right] = [digits(s), digits(sum)];
    if (left !== right && left !== (right ^ 4095)) continue;
    found++;
    t.ok(verdictOf({ publicKey: signer.publicKey, message, signature }, false));
  }
  t.ok(found > 0);
});

t.test('digests of any value, and sums with x1 at or above n', async (t) => {
  const wasm = instantiate();
  const memory = (): Uint8Array => new Uint8Array(wasm.memory.buffer);
  const known = Math.ceil(wasm.heapBase() / 64) * 64;
  wasm.memory.grow(1);
  /** Both ways of the engine, on a digest that no message needs to have. */
  const verdict = (publicKey: Uint8Array, digest: bigint, signature: Uint8Array): boolean => {
    memory().set(publicKey, wasm.KEY.value);
    memory().set(signature, wasm.SIGNATURE.value);
    t.equal(wasm.begin(), 1);
    wasm.makeKnown(known);
    memory().set(bigintToBytes(digest, 32), wasm.DIGEST.value);
    const [first, second] = [wasm.verify(), wasm.verifyKnown(known)];
    t.equal(first, second, 'with tables and without');
    return first !== 0;
  };
  // s * G + t * P = S for a free S: P = (S - s G) / t. Valid for the digest that gives r = t - s: e = r - x mod n.
  const sums = [2n, 3n].map((k) => G.multiplyUnsafe(k));
  for (let x = n; sums.length < 8; x++) {
    const square = mod(x ** 3n - 3n * x + CURVE_B);
    const y = power(square, (p + 1n) / 4n);
    if (mod(y * y) === square) sums.push(Point.fromAffine({ x, y }), Point.fromAffine({ x, y: p - y }));
  }
  // x so small that x + p is below 2^256, too; x just below n, so that a digest just above n belongs to a small r.
  for (let k = 1n; k < 8n; k++) {
    for (const x of [k, n - k]) {
      const raw = compressedToRaw(concatBytes(Uint8Array.of(2), bigintToBytes(x, 32)));
      if (raw !== undefined) sums.push(rawToPoint(raw)!);
    }
  }
  for (const S of sums) {
    const { x } = S.toAffine();
    for (let round = 0; round < times(4, 100); round++) {
      const s = bytesToBigint(seeded(32)) % n;
      const sum = round % 2 === 0 ? bytesToBigint(seeded(32)) % n : modOrder(s + 5n);
      const P = S.add(G.multiplyUnsafe(modOrder(-s))).multiplyUnsafe(invertModOrder(sum));
      const r = modOrder(sum - s);
      const e = modOrder(r - x);
      const publicKey = pointToRaw(P);
      t.ok(verdict(publicKey, e, rs(r, s)), `x = ${x}`);
      if (e + n < 2n ** 256n) t.ok(verdict(publicKey, e + n, rs(r, s)), 'a digest at or above n');
      t.notOk(verdict(publicKey, modOrder(e + 1n), rs(r, s)));
      // x + p or x - p in the place of x.
      t.notOk(verdict(publicKey, modOrder(r - x - p), rs(r, s)));
      t.notOk(verdict(publicKey, modOrder(r - x + p), rs(r, s)));
    }
  }
  // r and s out of range, or r + s = n, with a digest for which e + x1 = r holds all the same.
  const P = G.multiplyUnsafe(12_345n);
  for (let round = 0; round < times(4, 100); round++) {
    const k = bytesToBigint(seeded(32)) % n;
    const tiny = 1n + (bytesToBigint(seeded(20)) % 2n ** 150n);
    const pairs: [bigint, bigint][] = [
      [0n, k],
      [k, 0n],
      [n - k, k],
      [n, k],
      [k, n],
      [tiny + n, k],
      [k, tiny + n],
    ];
    for (const [r, s] of pairs) {
      const S = G.multiplyUnsafe(s % n).add(P.multiplyUnsafe((r + s) % n));
      const e = modOrder(r - S.toAffine().x);
      t.notOk(verdict(pointToRaw(P), e, rs(r, s)), `${r} ${s}`);
    }
  }
});

t.test('sums of multiples, equal, opposite and infinite ones among them', async (t) => {
  const points = createWasmPoints();
  const reference = (a: bigint, terms: readonly [bigint, bigint][]): Uint8Array | 'infinity' => {
    const k = modOrder(terms.reduce((sum, [scalar, of]) => sum + scalar * of, a));
    return k === 0n ? 'infinity' : pointToRaw(G.multiplyUnsafe(k));
  };
  const small = [1n, 2n, 3n, 5n, 15n, 16n, 1n << 22n, (1n << 22n) + 1n, n - 1n, n - 2n, n - 15n, invertModOrder(2n)];
  const scalarOf = (): bigint => {
    if (pick(3) > 0) return bytesToBigint(seeded(32)) % n;
    return [0n, 1n, 2n, n - 1n, n - 2n, 15n, 16n, 31n, 1n << 255n, (1n << 255n) - 1n][pick(10)]! % n;
  };
  for (let round = 0; round < times(250, 5_000); round++) {
    const terms = Array.from({ length: pick(5) }, (): [bigint, bigint] => [
      scalarOf(),
      round % 2 === 0 ? small[pick(small.length)]! : 1n + (bytesToBigint(seeded(32)) % (n - 1n)),
    ]);
    let a = scalarOf();
    // Every third sum is O or G, by way of points that meet.
    if (round % 3 === 0) a = modOrder(BigInt(pick(2)) - terms.reduce((sum, [scalar, of]) => sum + scalar * of, 0n));
    const given = terms.map(([scalar, of]) => ({ scalar, point: pointToRaw(G.multiplyUnsafe(of)) }));
    t.same(points.sum(a, given), reference(a, terms), `${a} ${terms.join(' ')}`);
  }
  const G64 = pointToRaw(G);
  t.equal(points.sum(0n, []), 'infinity');
  t.same(points.sum(1n, []), G64);
  t.equal(points.sum(1n, [{ scalar: 1n, point: new Uint8Array(64) }]), 'not a point');
  t.equal(points.sum(1n, [{ scalar: 1n, point: G64.subarray(1) }]), 'not a point');
  t.throws(() => points.sum(n, []), InvariantError);
  t.throws(() => points.sum(0n, [{ scalar: -1n, point: G64 }]), InvariantError);
  t.throws(() => points.sum(0n, Array(9).fill({ scalar: 1n, point: G64 })), InvariantError);

  for (let round = 0; round < times(60, 2_000); round++) {
    const x =
      round < 40
        ? bigintToBytes([BigInt(round), p - BigInt(round) - 1n, p + BigInt(round)][round % 3]!, 32)
        : seeded(32);
    for (const head of [0, 2, 3, 4]) {
      const compressed = concatBytes(Uint8Array.of(head), x);
      t.same(points.decompress(compressed), compressedToRaw(compressed));
    }
  }
  t.equal(points.decompress(new Uint8Array(0)), undefined);
  t.equal(points.decompress(concatBytes(Uint8Array.of(2), G64)), undefined);
});

t.test('tables of keys: built for the second sight, and bounded', async (t) => {
  const room = 3;
  const engine = createWasmEngine(room * 4_640 + 100);
  const signers = Array.from({ length: 9 }, (_, k) => createOpensslSigner(bigintToBytes(BigInt(k + 1000), 32)));
  for (let round = 0; round < 200; round++) {
    const signer = signers[pick(pick(2) === 0 ? 2 : signers.length)]!;
    const message = seeded(40);
    const signature = signer.sign(message);
    t.ok(engine.verify(signer.publicKey, message, signature));
    signature[pick(64)]! ^= 1 << pick(8);
    t.notOk(engine.verify(signer.publicKey, message, signature));
  }
  t.throws(() => createWasmEngine(1_000), InvariantError, 'no room for a key');

  const keys = new KnownKeys(room);
  for (const name of ['a', 'b', 'c']) t.equal(keys.find(name), undefined);
  t.same(
    ['a', 'b', 'c'].map((name) => keys.take(name)),
    [0, 1, 2],
  );
  keys.find('a');
  t.equal(keys.take('d'), 1, 'a was used, b was not');
  t.equal(keys.find('b'), undefined);
  t.equal(keys.find('a'), 0);
  keys.note('e');
  t.ok(keys.hasSeen('e'));
  for (let index = 0; index < 3 * 8_192; index++) keys.note(`flood ${index}`);
  t.notOk(keys.hasSeen('e'), 'forgotten in the end');
});

t.test('messages of any length', async (t) => {
  const engine = createWasmEngine();
  const signer = createOpensslSigner(bigintToBytes(77n, 32));
  for (const length of [0, 1, 22, 23, 24, 31, 32, 33, 55, 56, 63, 64, 4_095, 4_096, 4_097, 8_192, 100_000]) {
    const message = seeded(length);
    const signature = signer.sign(message);
    t.ok(engine.verify(signer.publicKey, message, signature), `${length} bytes`);
    if (length > 0) message[length - 1]! ^= 1;
    t.equal(engine.verify(signer.publicKey, message, signature), length === 0);
  }
});
