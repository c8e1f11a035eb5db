/** Unsigned integers of 256 bits: four words of 64 bits, the least significant first. Scalars live here, coordinates do not. */

export const WORDS_BYTES: usize = 32;

/** 32 bytes, most significant first, as words. */
export function readWords(out: usize, bytes: usize): void {
  for (let i: usize = 0; i < 4; i++) {
    store<u64>(out + 8 * i, bswap<u64>(load<u64>(bytes + 24 - 8 * i)));
  }
}

export function writeWords(bytes: usize, a: usize): void {
  for (let i: usize = 0; i < 4; i++) {
    store<u64>(bytes + 24 - 8 * i, bswap<u64>(load<u64>(a + 8 * i)));
  }
}

export function isZeroWords(a: usize): bool {
  return (load<u64>(a) | load<u64>(a, 8) | load<u64>(a, 16) | load<u64>(a, 24)) == 0;
}

/** a < b */
export function isBelow(a: usize, b: usize): bool {
  for (let i: isize = 24; i >= 0; i -= 8) {
    const left = load<u64>(a + i);
    const right = load<u64>(b + i);
    if (left != right) return left < right;
  }
  return false;
}

/** out = a + b mod 2^256. @returns the carry */
export function addWords(out: usize, a: usize, b: usize): u64 {
  let carry: u64 = 0;
  for (let i: usize = 0; i < 32; i += 8) {
    const left = load<u64>(a + i);
    const sum = left + load<u64>(b + i);
    const total = sum + carry;
    carry = u64(sum < left) | u64(total < sum);
    store<u64>(out + i, total);
  }
  return carry;
}

/** out = a - b mod 2^256. @returns the borrow */
export function subtractWords(out: usize, a: usize, b: usize): u64 {
  let borrow: u64 = 0;
  for (let i: usize = 0; i < 32; i += 8) {
    const left = load<u64>(a + i);
    const right = load<u64>(b + i);
    const difference = left - right;
    store<u64>(out + i, difference - borrow);
    borrow = u64(left < right) | u64(difference < borrow);
  }
  return borrow;
}

/** `count` bits (at most 32) of a from bit `from`; zeros above bit 255. */
export function bitsOf(a: usize, from: i32, count: i32): u32 {
  const word = from >> 6;
  if (word > 3) return 0;
  const shift = u64(from & 63);
  let bits = load<u64>(a + (usize(word) << 3)) >> shift;
  if (shift != 0 && word < 3) bits |= load<u64>(a + (usize(word) << 3), 8) << (64 - shift);
  return u32(bits) & u32((u64(1) << u64(count)) - 1);
}
