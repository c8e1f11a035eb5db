/**
 * Tables of multiples of one point, for combs with digits +1 and -1. For teeth T_0 .. T_w-1, 22 doublings apart, entry j is
 *
 *   T_w-1 + sum over i < w-1 of (bit i of j is set ? T_i : -T_i)
 *
 * so that every column of a comb is one entry or its negative. A key has two tables of 6 teeth (64 entries, 4.6 KB), G one of
 * 12 teeth (2,048 entries): see README.md for the choice.
 *
 * No addition here is exceptional: all the points are distinct multiples of a point of order n, their factors below n / 2 and
 * of different parity structure (an entry has a digit at every tooth, what is added to it one digit at one tooth).
 */

import { ONE } from './constants.generated';
import { COMB_SPACING, COMB_TEETH } from './recode';
import { FIELD_BYTES, TABLE_FIELD_BYTES, add, copy, fromTable, invert, subtract, toTable } from './field';
import { addX, multiply, multiplySubtract } from './field.generated';
import { ENTRY_BYTES, POINT_BYTES, Y, Z, addEntry, double, scaleBy, setEntry } from './point';

const TEETH: usize = usize(COMB_TEETH);

/** The teeth, and their doubles, affine as they are in a table. */
const teeth = memory.data(12 * 72, 8);
const doubles = memory.data(12 * 72, 8);

const points = memory.data(24 * 216, 8);
/** Products of everything before, for inverting many at once. */
const products = memory.data(1024 * 72, 8);
const inverse = memory.data(72, 8);
const one = memory.data(72, 8);
const left = memory.data(72, 8);
const sum = memory.data(72, 8);
const slope = memory.data(72, 8);
const x = memory.data(72, 8);
const y = memory.data(72, 8);
const x2 = memory.data(72, 8);
const y2 = memory.data(72, 8);
const x3 = memory.data(72, 8);
const zero = memory.data(72, 8);

/** `count` Jacobian points, none of them O, as table entries. */
function toEntries(entries: usize, from: usize, count: usize): void {
  copy(products, from + Z);
  for (let i: usize = 1; i < count; i++) {
    multiply(products + i * FIELD_BYTES, products + (i - 1) * FIELD_BYTES, from + i * POINT_BYTES + Z);
  }
  invert(inverse, products + (count - 1) * FIELD_BYTES);
  for (let i = count - 1; i < count; i--) {
    const point = from + i * POINT_BYTES;
    if (i > 0) {
      multiply(one, inverse, products + (i - 1) * FIELD_BYTES);
      multiply(inverse, inverse, point + Z);
    } else {
      copy(one, inverse);
    }
    scaleBy(x, y, point, one);
    toTable(entries + i * ENTRY_BYTES, x);
    toTable(entries + i * ENTRY_BYTES + TABLE_FIELD_BYTES, y);
  }
}

/** The twelve teeth of the point with affine `entry`, and the double of each. */
function makeTeeth(entry: usize): void {
  setEntry(points, entry, 0);
  for (let tooth: usize = 0; tooth < TEETH; tooth++) {
    const point = points + 2 * tooth * POINT_BYTES;
    memory.copy(point + POINT_BYTES, point, POINT_BYTES);
    double(point + POINT_BYTES);
    if (tooth == TEETH - 1) break;
    memory.copy(point + 2 * POINT_BYTES, point + POINT_BYTES, POINT_BYTES);
    for (let i = 1; i < COMB_SPACING; i++) double(point + 2 * POINT_BYTES);
  }
  // Alternating: tooth, double, tooth, double ...; `doubles` follows `teeth` in memory only by chance, so copy apart.
  const both = products + 24 * FIELD_BYTES;
  toEntries(both, points, 24);
  for (let tooth: usize = 0; tooth < TEETH; tooth++) {
    memory.copy(teeth + tooth * ENTRY_BYTES, both + 2 * tooth * ENTRY_BYTES, ENTRY_BYTES);
    memory.copy(doubles + tooth * ENTRY_BYTES, both + (2 * tooth + 1) * ENTRY_BYTES, ENTRY_BYTES);
  }
}

/**
 * Entries `count` .. 2 `count` - 1 of each table: its first `count` entries plus the double of its tooth `tooth`. `doubles` has
 * the teeth of the tables one after the other; the tables share one inversion.
 */
function doubleTables(table: usize, tables: usize, teethEach: usize, tooth: usize): void {
  const count: usize = 1 << tooth;
  const size: usize = ENTRY_BYTES << (teethEach - 1);
  const all = tables << tooth;
  for (let i: usize = 0; i < all; i++) {
    const which = i >> tooth;
    fromTable(x2, doubles + (which * teethEach + tooth) * ENTRY_BYTES);
    fromTable(x, table + which * size + (i & (count - 1)) * ENTRY_BYTES);
    subtract(left, x2, x);
    if (i == 0) multiply(products, left, ONE);
    else multiply(products + i * FIELD_BYTES, left, products + (i - 1) * FIELD_BYTES);
  }
  invert(inverse, products + (all - 1) * FIELD_BYTES);
  for (let i = all - 1; i < all; i--) {
    const which = i >> tooth;
    const double = doubles + (which * teethEach + tooth) * ENTRY_BYTES;
    const entry = table + which * size + (i & (count - 1)) * ENTRY_BYTES;
    const target = entry + count * ENTRY_BYTES;
    fromTable(x, entry);
    fromTable(y, entry + TABLE_FIELD_BYTES);
    fromTable(x2, double);
    fromTable(y2, double + TABLE_FIELD_BYTES);
    if (i > 0) {
      multiply(one, inverse, products + (i - 1) * FIELD_BYTES);
      subtract(left, x2, x);
      multiply(inverse, left, inverse);
    } else {
      copy(one, inverse);
    }
    subtract(left, y2, y);
    multiply(slope, left, one);
    add(sum, x, x2);
    addX(x3, slope, sum, zero);
    subtract(left, x, x3);
    multiplySubtract(y, left, 0, slope, y);
    toTable(target, x3);
    toTable(target + TABLE_FIELD_BYTES, y);
  }
}

/** Tables over `teethEach` teeth each, one after the other, of the point with affine `entry`. */
function makeTables(table: usize, tables: usize, teethEach: usize, entry: usize): void {
  makeTeeth(entry);
  for (let which: usize = 0; which < tables; which++) {
    const first = teeth + which * teethEach * ENTRY_BYTES;
    const point = points + which * POINT_BYTES;
    setEntry(point, first + (teethEach - 1) * ENTRY_BYTES, 0);
    for (let i: usize = 0; i < teethEach - 1; i++) addEntry(point, first + i * ENTRY_BYTES, -1, false);
  }
  const lowest = products + 24 * FIELD_BYTES;
  toEntries(lowest, points, tables);
  for (let which: usize = 0; which < tables; which++) {
    memory.copy(table + which * (ENTRY_BYTES << (teethEach - 1)), lowest + which * ENTRY_BYTES, ENTRY_BYTES);
  }
  for (let tooth: usize = 0; tooth < teethEach - 1; tooth++) doubleTables(table, tables, teethEach, tooth);
}

/** Entries of each of the two tables of a key. */
export const KEY_ENTRIES: usize = 32;
export const KEY_TEETH: usize = 6;
export const KEY_TABLES_BYTES: usize = 2 * KEY_ENTRIES * ENTRY_BYTES;

export function makeKeyTables(tables: usize, entry: usize): void {
  makeTables(tables, 2, KEY_TEETH, entry);
}

export function makeGeneratorTable(table: usize, entry: usize): void {
  makeTables(table, 1, TEETH, entry);
}
