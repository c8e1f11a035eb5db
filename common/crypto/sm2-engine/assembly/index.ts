/**
 * What the engine calls. The caller writes its input to the addresses below, and reads results there; `start` comes first.
 *
 *   verify:  key and signature at KEY and SIGNATURE; `begin` or `beginKnown`; the message through `absorbMessage`, in pieces
 *            of at most MESSAGE_BYTES at MESSAGE; `finishMessage`; `verify` or `verifyKnown`
 *   sum:     scalars at SCALARS, that of G first, points at POINTS; `addPoints`; the point at RESULT
 */

import { ONE, IDENTITY_HEAD, IDENTITY_HEAD_BYTES, ORDER, PRIME } from './constants.generated';
import {
  copy,
  fromWords,
  invert,
  isZero,
  setOne,
  setZero,
  squareRoot,
  subtract,
  toTable,
  toWords,
  TABLE_FIELD_BYTES,
} from './field';
import { multiply, multiplySubtract, square } from './field.generated';
import { POINT_BYTES, Y, Z, curveRightSide, isInfinity, isOnCurve, scaleBy } from './point';
import { absorb, finish, keepHead, start as startHash, startFromHead } from './sm3';
import { SUM_POINTS, startGenerator, sumOf, sumWithTables, summand } from './sum';
import { KEY_TABLES_BYTES, makeKeyTables } from './table';
import { addWords, isBelow, isZeroWords, readWords, subtractWords, writeWords } from './words';

/** 64 bytes x || y. */
export const KEY: usize = memory.data(64, 8);
/** 64 bytes r || s. */
export const SIGNATURE: usize = memory.data(64, 8);
export const MESSAGE_BYTES: usize = 4096;
export const MESSAGE: usize = memory.data(4096, 8);

const identity = memory.data(32, 8);
/** 32 bytes: e = SM3(Z_A || M). */
export const DIGEST: usize = memory.data(32, 8);

const keyX = memory.data(72, 8);
const keyY = memory.data(72, 8);
const words = memory.data(32, 8);
const r = memory.data(32, 8);
const s = memory.data(32, 8);
const t = memory.data(32, 8);
const candidate = memory.data(32, 8);
const sum = memory.data(216, 8);
const x = memory.data(72, 8);
const zz = memory.data(72, 8);

/** What is kept of a key: Z_A, its two tables. */
export const KNOWN_BYTES: usize = 32 + KEY_TABLES_BYTES;
const TABLES: usize = 32;

/** First byte that the module does not use: the caller keeps known keys from here on. */
export function heapBase(): usize {
  return __heap_base;
}

/** Makes the table of G. */
export function start(): void {
  startHash();
  absorb(IDENTITY_HEAD, IDENTITY_HEAD_BYTES);
  keepHead();
  startGenerator();
}

/** The affine point with coordinates in 64 bytes: both below p and on the curve. */
function readPoint(bytes: usize): bool {
  readWords(words, bytes);
  if (!isBelow(words, PRIME)) return false;
  fromWords(keyX, words);
  readWords(words, bytes + 32);
  if (!isBelow(words, PRIME)) return false;
  fromWords(keyY, words);
  return isOnCurve(keyX, keyY);
}

function absorbIdentity(from: usize): void {
  startHash();
  absorb(from, 32);
}

/** Begins with the key at KEY. @returns false if it is no public key: then there is nothing more to do */
export function begin(): bool {
  if (!readPoint(KEY)) return false;
  startFromHead();
  absorb(KEY, 64);
  finish(identity);
  absorbIdentity(identity);
  return true;
}

/** After `begin`: makes the tables of that key. */
export function makeKnown(known: usize): void {
  const entry = memory.data(72, 8);
  memory.copy(known, identity, 32);
  toTable(entry, keyX);
  toTable(entry + TABLE_FIELD_BYTES, keyY);
  makeKeyTables(known + TABLES, entry);
}

export function beginKnown(known: usize): void {
  absorbIdentity(known);
}

export function absorbMessage(length: usize): void {
  absorb(MESSAGE, length);
}

export function finishMessage(): void {
  finish(DIGEST);
}

/** GB/T 32918.2 section 7.1 B1, B2, B5: r and s in 1..n-1, t = r + s mod n not 0. */
function readSignature(): bool {
  readWords(r, SIGNATURE);
  readWords(s, SIGNATURE + 32);
  if (isZeroWords(r) || isZeroWords(s) || !isBelow(r, ORDER) || !isBelow(s, ORDER)) return false;
  if (addWords(t, r, s) != 0 || !isBelow(t, ORDER)) subtractWords(t, t, ORDER);
  return !isZeroWords(t);
}

/** X = x Z^2 for the integer at `candidate`. */
function hasCandidate(): bool {
  fromWords(x, candidate);
  multiplySubtract(x, x, 0, zz, sum);
  return isZero(x);
}

/** B6, B7: e + x1 = r mod n, that is, x1 is r - e mod n, or n more if that is still below p. No inversion. */
function hasX(): bool {
  readWords(candidate, DIGEST);
  if (!isBelow(candidate, ORDER)) subtractWords(candidate, candidate, ORDER);
  if (subtractWords(candidate, r, candidate) != 0) addWords(candidate, candidate, ORDER);
  square(zz, sum + Z);
  if (hasCandidate()) return true;
  return addWords(candidate, candidate, ORDER) == 0 && isBelow(candidate, PRIME) && hasCandidate();
}

export function verify(): bool {
  if (!readSignature()) return false;
  for (let checked = 0; checked < 2; checked++) {
    putSummand(0);
    sumOf(sum, s, t, 1, true, checked != 0);
    if (!isInfinity(sum)) return hasX();
  }
  return false;
}

export function verifyKnown(known: usize): bool {
  if (!readSignature()) return false;
  for (let checked = 0; checked < 2; checked++) {
    sumWithTables(sum, s, t, known + TABLES, checked != 0);
    if (!isInfinity(sum)) return hasX();
  }
  return false;
}

function putSummand(index: usize): void {
  const point = summand(index);
  copy(point, keyX);
  copy(point + Y, keyY);
  setOne(point + Z);
}

/** Scalars of G and of up to eight points, 32 bytes each; those points, 64 bytes each; 64 bytes of a result. */
export const SCALARS: usize = memory.data(9 * 32, 8);
export const POINTS: usize = memory.data(8 * 64, 8);
export const RESULT: usize = memory.data(64, 8);
const scalars = memory.data(9 * 32, 8);

/** What `addPoints` answers. */
const REFUSED: i32 = 0;
const INFINITE: i32 = 1;
const FINITE: i32 = 2;

/** a G + b_1 P_1 + ... + b_count P_count. Refused: a scalar that is not below n, or a point that is none. */
export function addPoints(count: usize): i32 {
  if (count > SUM_POINTS) return REFUSED;
  for (let i: usize = 0; i <= count; i++) {
    readWords(scalars + 32 * i, SCALARS + 32 * i);
    if (!isBelow(scalars + 32 * i, ORDER)) return REFUSED;
  }
  const withGenerator = !isZeroWords(scalars);
  for (let checked = 0; checked < 2; checked++) {
    for (let i: usize = 0; i < count; i++) {
      if (!readPoint(POINTS + 64 * i)) return REFUSED;
      putSummand(i);
    }
    sumOf(sum, scalars, scalars + 32, count, withGenerator, checked != 0);
    if (isInfinity(sum)) continue;
    invert(x, sum + Z);
    scaleBy(keyX, keyY, sum, x);
    writeResult();
    return FINITE;
  }
  return INFINITE;
}

function writeResult(): void {
  toWords(words, keyX);
  writeWords(RESULT, words);
  toWords(words, keyY);
  writeWords(RESULT + 32, words);
}

/** The point with the x at POINTS, 32 bytes, and a y that is odd or not. @returns false if there is none */
export function decompress(odd: bool): bool {
  readWords(words, POINTS);
  if (!isBelow(words, PRIME)) return false;
  fromWords(keyX, words);
  curveRightSide(zz, keyX);
  // The right side is a sum that is not carried.
  multiply(zz, ONE, zz);
  if (!squareRoot(keyY, zz)) return false;
  toWords(words, keyY);
  // y = 0 is on no point of this curve: its order is odd.
  if (bool(load<u8>(words) & 1) != odd) {
    setZero(zz);
    subtract(keyY, zz, keyY);
  }
  writeResult();
  return true;
}

// For the tests, which put limbs at their limits: addresses in, addresses out.
export {
  addX,
  addY,
  doubleAlpha,
  doubleX,
  doubleY,
  doubleZ,
  multiply,
  multiplySubtract,
  multiplyTableSubtract,
  square,
} from './field.generated';
export { fromWords, invert, isZero, squareRoot, toWords } from './field';
