/** Scalars as the digits that the sums in sum.ts and the tables in table.ts are made for. */

import { ORDER } from './constants.generated';
import { addWords, bitsOf } from './words';

/** Teeth of a comb are this many bits apart: 12 of them cover 264 bits. */
export const COMB_SPACING: i32 = 22;
export const COMB_TEETH: i32 = 12;
/** One 32-bit word for each tooth: its 22 digits. */
export const COMB_BYTES: usize = 48;

const odd = memory.data(32, 8);

/**
 * Digits +1 and -1, none of them 0: k = sum of (2 u_i - 1) 2^i over 264 bits, where u = (k >> 1) with bit 263 set, for
 * odd k. An even k is replaced by k + n. Tooth i gets bits 22 i to 22 i + 21 of u.
 */
export function recodeComb(out: usize, k: usize): void {
  let carry: u64 = 0;
  let source = k;
  if ((load<u64>(k) & 1) == 0) {
    carry = addWords(odd, k, ORDER);
    source = odd;
  }
  for (let tooth = 0; tooth < COMB_TEETH; tooth++) {
    const from = COMB_SPACING * tooth + 1;
    let bits = bitsOf(source, from, COMB_SPACING);
    if (tooth == COMB_TEETH - 1) {
      bits |= u32(carry) << (256 - from);
      bits |= 1 << (COMB_SPACING - 1);
    }
    store<u32>(out + 4 * usize(tooth), bits);
  }
}

/** Width of the windows of a point that has no table of its own: odd multiples up to 15. */
const WINDOW: i32 = 5;
/** A digit, one byte, for each of 257 bits. */
export const NAF_BYTES: usize = 264;
export const NAF_DIGITS: i32 = 257;
export const ODD_MULTIPLES: i32 = 8;

/** Non-adjacent form: k = sum of digit_i 2^i, digits 0 or odd in -15..15, at least four zeros after each other one. */
export function recodeNaf(out: usize, k: usize): void {
  memory.fill(out, 0, NAF_BYTES);
  let carry: i32 = 0;
  let at = 0;
  while (at < 256) {
    if (i32(bitsOf(k, at, 1)) == carry) {
      at++;
      continue;
    }
    let digit = i32(bitsOf(k, at, WINDOW)) + carry;
    carry = digit >> (WINDOW - 1);
    digit -= carry << WINDOW;
    store<i8>(out + usize(at), i8(digit));
    at += WINDOW;
  }
  if (carry != 0) store<i8>(out + 256, 1);
}
