/**
 * The field of sm2p256v1 beyond the generated multiplications: conversions, the test for zero, inversion and square root.
 * Elements are nine signed limbs of 29 bits in 64 bits each, in Montgomery form (README.md).
 */

import { ONE, PRIME_LIMBS, R_SQUARED, UNIT } from './constants.generated';
import { multiply, square } from './field.generated';

export const FIELD_BYTES: usize = 72;
export const TABLE_FIELD_BYTES: usize = 36;
const LIMBS: usize = 9;
const LIMB_MASK: i64 = (1 << 29) - 1;
const HALF_LIMB: i64 = 1 << 28;

/** Values are below 32 p in size, far above what any formula leaves behind. */
const MULTIPLES: i64 = 32;

const limbs = memory.data(72, 8);

export function copy(out: usize, a: usize): void {
  for (let i: usize = 0; i < FIELD_BYTES; i += 8) store<i64>(out + i, load<i64>(a + i));
}

export function setZero(out: usize): void {
  for (let i: usize = 0; i < FIELD_BYTES; i += 8) store<i64>(out + i, 0);
}

/** a - b, not carried: the sizes of limbs add up. */
export function subtract(out: usize, a: usize, b: usize): void {
  for (let i: usize = 0; i < FIELD_BYTES; i += 8) store<i64>(out + i, load<i64>(a + i) - load<i64>(b + i));
}

/** a + b, not carried. */
export function add(out: usize, a: usize, b: usize): void {
  for (let i: usize = 0; i < FIELD_BYTES; i += 8) store<i64>(out + i, load<i64>(a + i) + load<i64>(b + i));
}

export function fromTable(out: usize, entry: usize): void {
  for (let i: usize = 0; i < LIMBS; i++) {
    const limb: i32 = load<i32>(entry + 4 * i);
    store<i64>(out + 8 * i, i64(limb));
  }
}

/** The limbs of a carried element fit in 32 bits. */
export function toTable(entry: usize, a: usize): void {
  for (let i: usize = 0; i < LIMBS; i++) store<i32>(entry + 4 * i, i32(load<i64>(a + 8 * i)));
}

/** Element of an integer below 2^256. */
export function fromWords(out: usize, words: usize): void {
  for (let i: usize = 0; i < LIMBS; i++) {
    const bit: usize = 29 * i;
    const word: usize = bit >> 6;
    const shift = u64(bit & 63);
    let bits = load<u64>(words + 8 * word) >> shift;
    if (shift > 35 && word < 3) bits |= load<u64>(words + 8 * word, 8) << (64 - shift);
    store<i64>(limbs + 8 * i, i64(bits) & LIMB_MASK);
  }
  multiply(out, limbs, R_SQUARED);
}

/** a mod p as an integer: the one representative below p. */
export function toWords(words: usize, a: usize): void {
  multiply(limbs, a, UNIT);
  carryExactly();
  while (load<i64>(limbs, 64) < 0) addMultiple(1);
  for (;;) {
    addMultiple(-1);
    if (load<i64>(limbs, 64) < 0) break;
  }
  addMultiple(1);
  for (let i: usize = 0; i < 32; i += 8) store<u64>(words + i, 0);
  for (let i: usize = 0; i < LIMBS; i++) {
    const bit: usize = 29 * i;
    const word: usize = bit >> 6;
    const shift = u64(bit & 63);
    const limb = load<u64>(limbs + 8 * i);
    store<u64>(words + 8 * word, load<u64>(words + 8 * word) | (limb << shift));
    if (shift > 35 && word < 3) store<u64>(words + 8 * word, limb >> (64 - shift), 8);
  }
}

/** All limbs but the highest into 0..2^29-1; the highest has the sign. */
function carryExactly(): void {
  let carry: i64 = 0;
  for (let i: usize = 0; i < 64; i += 8) {
    carry += load<i64>(limbs + i);
    store<i64>(limbs + i, carry & LIMB_MASK);
    carry >>= 29;
  }
  store<i64>(limbs, load<i64>(limbs, 64) + carry, 64);
}

function addMultiple(k: i64): void {
  for (let i: usize = 0; i < FIELD_BYTES; i += 8) {
    store<i64>(limbs + i, load<i64>(limbs + i) + k * load<i64>(PRIME_LIMBS + i));
  }
  carryExactly();
}

/** a is a multiple of p. The limbs need not be carried. As p = -1 mod 2^29, the lowest limb says which multiple it must be. */
export function isZero(a: usize): bool {
  const low = load<i64>(a) & LIMB_MASK;
  const k = low > HALF_LIMB ? LIMB_MASK + 1 - low : -low;
  if (k > MULTIPLES || k < -MULTIPLES) return false;
  let carry: i64 = 0;
  for (let i: usize = 0; i < FIELD_BYTES; i += 8) {
    carry += load<i64>(a + i) - k * load<i64>(PRIME_LIMBS + i);
    if ((carry & LIMB_MASK) != 0) return false;
    carry >>= 29;
  }
  return carry == 0;
}

/** out = a^(2^count) * b */
function squareTimes(out: usize, a: usize, count: i32, b: usize): void {
  // Apart from `out`, which may be b.
  square(squared, a);
  for (let i = 1; i < count; i++) square(squared, squared);
  multiply(out, squared, b);
}

const squared = memory.data(72, 8);
const x1 = memory.data(72, 8);
const x2 = memory.data(72, 8);
const x31 = memory.data(72, 8);
const x32 = memory.data(72, 8);
const x = memory.data(72, 8);
const power = memory.data(72, 8);

/** x31 = a^(2^31 - 1), x32 = a^(2^32 - 1): runs of ones that both exponents below are made of. */
function raiseToRuns(a: usize): void {
  copy(x1, a);
  squareTimes(x2, x1, 1, x1);
  squareTimes(x, x2, 1, x1); // 3 ones
  squareTimes(x32, x, 3, x); // 6
  squareTimes(x32, x32, 6, x32); // 12
  squareTimes(x, x32, 3, x); // 15
  squareTimes(x, x, 15, x); // 30
  squareTimes(x31, x, 1, x1);
  squareTimes(x32, x31, 1, x1);
}

/** out = a^(p-2) = 1/a; 0 for 0. The exponent: 31 ones, a zero, 128 ones, 32 zeros, 62 ones, 01. */
export function invert(out: usize, a: usize): void {
  raiseToRuns(a);
  squareTimes(x, x32, 32, x32); // 64
  squareTimes(x, x, 64, x); // 128
  squareTimes(power, x31, 129, x);
  squareTimes(x, x31, 31, x31); // 62
  squareTimes(power, power, 94, x);
  squareTimes(out, power, 2, x1);
}

/** out = a^((p+1)/4), a square root of a if there is one. (p+1)/4 = 2^62 (2^32 - 1) (2^160 - 1). @returns whether it is one */
export function squareRoot(out: usize, a: usize): bool {
  raiseToRuns(a);
  copy(x1, x32); // 1 one of base a^(2^32-1)
  squareTimes(x, x1, 1, x1); // 2
  squareTimes(x, x, 2, x); // 4
  squareTimes(x, x, 1, x1); // 5
  squareTimes(x, x, 5, x); // 10
  squareTimes(x, x, 10, x); // 20
  squareTimes(x, x, 20, x); // 40
  squareTimes(x, x, 40, x); // 80
  squareTimes(x, x, 80, x); // 160
  copy(power, a);
  for (let i = 0; i < 62; i++) square(x, x);
  square(x2, x);
  subtract(x2, x2, power);
  copy(out, x);
  return isZero(x2);
}

export function setOne(out: usize): void {
  copy(out, ONE);
}
