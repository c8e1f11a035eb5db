/**
 * Points of the curve. Jacobian: x = X / Z^2, y = Y / Z^3; O has Z = 0. An entry of a table is affine, two coordinates of
 * nine 32-bit limbs.
 *
 * The unchecked additions are wrong where both sides are equal or opposite, or one is O, and show it: Z becomes 0 and
 * stays 0 through every later addition and doubling. Whoever adds unchecked looks at Z once at the end and, if it is 0, does
 * the sum again with checks.
 *
 * Sizes of values (in multiples of p): X at most 0.6, as it is weakly reduced; every product at most 2.
 */

import { CURVE_B } from './constants.generated';
import { FIELD_BYTES, TABLE_FIELD_BYTES, add, copy, fromTable, isZero, setOne, setZero, subtract } from './field';
import {
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

export const Y: usize = FIELD_BYTES;
export const Z: usize = 2 * FIELD_BYTES;
export const POINT_BYTES: usize = 3 * FIELD_BYTES;
export const ENTRY_BYTES: usize = 2 * TABLE_FIELD_BYTES;
/** A Jacobian point with Z^2 and Z^3 beside it. */
export const ZZ: usize = 3 * FIELD_BYTES;
export const ZZZ: usize = 4 * FIELD_BYTES;
export const CACHED_BYTES: usize = 5 * FIELD_BYTES;

const alpha = memory.data(72, 8);
const beta = memory.data(72, 8);
const gamma = memory.data(72, 8);
const delta = memory.data(72, 8);
const h = memory.data(72, 8);
const hh = memory.data(72, 8);
const hhh = memory.data(72, 8);
const r = memory.data(72, 8);
const v = memory.data(72, 8);
const zz = memory.data(72, 8);
const zzz = memory.data(72, 8);
const u1 = memory.data(72, 8);
const s1 = memory.data(72, 8);

export function setInfinity(p: usize): void {
  setOne(p);
  setOne(p + Y);
  setZero(p + Z);
}

export function isInfinity(p: usize): bool {
  return isZero(p + Z);
}

/** p = 2 p, for O too. */
export function double(p: usize): void {
  square(delta, p + Z);
  square(gamma, p + Y);
  multiply(beta, gamma, p);
  doubleAlpha(alpha, p, delta);
  doubleZ(p + Z, p + Y, p + Z);
  doubleX(p, alpha, beta);
  doubleY(p + Y, alpha, beta, p, gamma);
}

/** p = the entry of a table, negated if mask is -1 */
export function setEntry(p: usize, entry: usize, mask: i64): void {
  fromTable(p, entry);
  fromTable(p + Y, entry + TABLE_FIELD_BYTES);
  if (mask != 0) negate(p);
  setOne(p + Z);
}

export function negate(p: usize): void {
  for (let i = Y; i < Z; i += 8) store<i64>(p + i, -load<i64>(p + i));
}

/** What both additions share, from h = x2 - x1 and r = y2 - y1 over a common Z: p = (x, y) + ..., where `x`, `y` are those of p. */
function finishAddition(p: usize, x: usize, y: usize): void {
  square(hh, h);
  multiply(hhh, h, hh);
  multiply(v, x, hh);
  addX(p, r, hhh, v);
  addY(p + Y, r, v, p, y, hhh);
}

/** Equal or opposite points, once h = 0 has said so. */
function addExceptional(p: usize): void {
  if (isZero(r)) double(p);
  else setInfinity(p);
}

/** p = p + entry, or p - entry if mask is -1. */
export function addEntry(p: usize, entry: usize, mask: i64, checked: bool): void {
  if (checked && isInfinity(p)) {
    setEntry(p, entry, mask);
    return;
  }
  square(zz, p + Z);
  multiplyTableSubtract(h, entry, 0, zz, p);
  multiply(zzz, zz, p + Z);
  multiplyTableSubtract(r, entry + TABLE_FIELD_BYTES, mask, zzz, p + Y);
  if (checked && isZero(h)) {
    addExceptional(p);
    return;
  }
  multiply(p + Z, p + Z, h);
  finishAddition(p, p, p + Y);
}

/** p = p + q, or p - q if mask is -1, where q has Z^2 and Z^3 beside it and is not O. */
export function addCached(p: usize, q: usize, mask: i64, checked: bool): void {
  if (checked && isInfinity(p)) {
    for (let i: usize = 0; i < POINT_BYTES; i += 8) store<i64>(p + i, load<i64>(q + i));
    if (mask != 0) negate(p);
    return;
  }
  square(zz, p + Z);
  multiply(zzz, zz, p + Z);
  multiply(u1, p, q + ZZ);
  multiply(s1, p + Y, q + ZZZ);
  multiplySubtract(h, q, 0, zz, u1);
  multiplySubtract(r, q + Y, mask, zzz, s1);
  if (checked && isZero(h)) {
    addExceptional(p);
    return;
  }
  multiply(p + Z, p + Z, q + Z);
  multiply(p + Z, p + Z, h);
  finishAddition(p, u1, s1);
}

/** Fills in Z^2 and Z^3 of a point. */
export function cache(q: usize): void {
  square(q + ZZ, q + Z);
  multiply(q + ZZZ, q + ZZ, q + Z);
}

/** out = x^3 - 3 x + b */
export function curveRightSide(out: usize, x: usize): void {
  square(out, x);
  multiply(out, out, x);
  // Not carried, and of size 5: only compared, or multiplied by what is carried.
  add(v, x, x);
  add(v, v, x);
  subtract(out, out, v);
  add(out, out, CURVE_B);
}

/** y^2 = x^3 - 3 x + b */
export function isOnCurve(x: usize, y: usize): bool {
  curveRightSide(r, x);
  square(h, y);
  subtract(h, h, r);
  return isZero(h);
}

/** Affine coordinates over 1 / Z, which `inverse` holds. */
export function scaleBy(outX: usize, outY: usize, p: usize, inverse: usize): void {
  square(zz, inverse);
  multiply(outX, zz, p);
  multiply(zz, zz, inverse);
  multiply(outY, zz, p + Y);
}

export { copy };
