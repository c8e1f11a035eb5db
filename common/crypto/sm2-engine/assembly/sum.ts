/**
 * Sums of multiples of points: a G + b P with the tables of P, or a G + b_1 P_1 + ... + b_m P_m for points without tables.
 * One chain of doublings serves all of them. PUBLIC scalars only: time and memory access depend on them.
 */

import { GENERATOR_X, GENERATOR_Y } from './constants.generated';
import { TABLE_FIELD_BYTES, toTable } from './field';
import { CACHED_BYTES, ENTRY_BYTES, POINT_BYTES, addCached, addEntry, cache, double, setInfinity } from './point';
import { COMB_BYTES, COMB_SPACING, NAF_BYTES, NAF_DIGITS, ODD_MULTIPLES, recodeComb, recodeNaf } from './recode';
import { KEY_ENTRIES, KEY_TEETH, makeGeneratorTable } from './table';

const GENERATOR_TEETH: usize = 12;
const generatorTable = memory.data(2048 * 72, 8);
const generatorComb = memory.data(48, 8);
const keyComb = memory.data(48, 8);

/** Points without tables in one sum, at most. */
export const SUM_POINTS: usize = 8;
const nafs = memory.data(8 * 264, 8);
const multiples = memory.data(8 * 8 * 360, 8);
const twice = memory.data(360, 8);

export function startGenerator(): void {
  const entry = memory.data(72, 8);
  toTable(entry, GENERATOR_X);
  toTable(entry + TABLE_FIELD_BYTES, GENERATOR_Y);
  makeGeneratorTable(generatorTable, entry);
}

/** p += the entry that digit `column` of teeth `first` .. `first` + `count` - 1 of a comb selects. */
function addColumn(p: usize, table: usize, comb: usize, count: usize, column: u32, checked: bool): void {
  let index: u32 = 0;
  for (let i: usize = 0; i < count; i++) {
    index |= ((load<u32>(comb + 4 * i) >> column) & 1) << u32(i);
  }
  const half: u32 = 1 << u32(count - 1);
  const negative = (index & half) == 0;
  if (negative) index = ~index;
  addEntry(p, table + usize(index & (half - 1)) * ENTRY_BYTES, negative ? -1 : 0, checked);
}

/** p = a G + b Q, by the tables of Q; scalars 1 .. n-1. */
export function sumWithTables(p: usize, a: usize, b: usize, tables: usize, checked: bool): void {
  recodeComb(generatorComb, a);
  recodeComb(keyComb, b);
  setInfinity(p);
  for (let column = COMB_SPACING - 1; column >= 0; column--) {
    const first = column == COMB_SPACING - 1;
    if (!first) double(p);
    addColumn(p, tables, keyComb, KEY_TEETH, column, checked || first);
    addColumn(p, tables + KEY_ENTRIES * ENTRY_BYTES, keyComb + 4 * KEY_TEETH, KEY_TEETH, column, checked);
    addColumn(p, generatorTable, generatorComb, GENERATOR_TEETH, column, checked);
  }
}

/** P, 3 P, 5 P, ... 15 P of the point that stands, Jacobian, at `cached`. */
function makeMultiples(cached: usize, checked: bool): void {
  cache(cached);
  memory.copy(twice, cached, POINT_BYTES);
  double(twice);
  cache(twice);
  for (let i: i32 = 1; i < ODD_MULTIPLES; i++) {
    const previous = cached + usize(i - 1) * CACHED_BYTES;
    const next = previous + CACHED_BYTES;
    memory.copy(next, previous, POINT_BYTES);
    addCached(next, twice, 0, checked);
    cache(next);
  }
}

/** Where the Jacobian point `index` of the next sum has to stand. */
export function summand(index: usize): usize {
  return multiples + index * usize(ODD_MULTIPLES) * CACHED_BYTES;
}

/**
 * p = a G + sum of b_i P_i. The points stand at `summand(i)`, none of them O; the scalars, 0 .. n-1, at `b`, 32 bytes each.
 * `a` = 0 leaves G out.
 */
export function sumOf(p: usize, a: usize, b: usize, count: usize, withGenerator: bool, checked: bool): void {
  if (withGenerator) recodeComb(generatorComb, a);
  for (let i: usize = 0; i < count; i++) {
    recodeNaf(nafs + i * NAF_BYTES, b + 32 * i);
    makeMultiples(summand(i), checked);
  }
  setInfinity(p);
  // Doubling O again and again would be correct and slow; adding to it needs the check.
  let empty = true;
  for (let bit = NAF_DIGITS - 1; bit >= 0; bit--) {
    if (!empty) double(p);
    for (let i: usize = 0; i < count; i++) {
      const digit: i32 = load<i8>(nafs + i * NAF_BYTES + bit);
      if (digit == 0) continue;
      const size = digit < 0 ? -digit : digit;
      addCached(p, summand(i) + usize(size >> 1) * CACHED_BYTES, digit < 0 ? -1 : 0, checked || empty);
      empty = false;
    }
    if (withGenerator && bit < COMB_SPACING) {
      addColumn(p, generatorTable, generatorComb, GENERATOR_TEETH, bit, checked || empty);
      empty = false;
    }
  }
}
