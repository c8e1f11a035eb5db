/**
 * SM3 (GB/T 32905-2016) and HMAC-SM3 (RFC 2104), in pure TypeScript: synchronous, isomorphic, quick on short inputs.
 * Megabytes belong to the native hash (`common/native`), which is some times faster there.
 * No domain separation here: protocol hashes go through `hash.ts`.
 */

import { assert } from '../errors.ts';

export const SM3_BYTES = 32;
const BLOCK_BYTES = 64;

const INITIAL = Int32Array.of(
  0x7380166f,
  0x4914b2b9,
  0x172442d7,
  0xda8a0600 | 0,
  0xa96f30bc | 0,
  0x163138aa,
  0xe38dee4d | 0,
  0xb0fb0e4e | 0,
);

/** T_j <<< j of GB/T 32905 section 5.3.3: constant, so rotated once. */
const ROUND = Int32Array.from({ length: 64 }, (_, j) => {
  const constant = j < 16 ? 0x79cc4519 : 0x7a879d8a;
  const shift = j % 32;
  return shift === 0 ? constant : (constant << shift) | (constant >>> (32 - shift));
});

// Shared by all instances: compression is synchronous and leaves nothing behind that the next call reads.
const words = new Int32Array(68);

/** Message expansion, GB/T 32905 section 5.3.2. */
function expand(data: Uint8Array, offset: number): void {
  for (let j = 0, at = offset; j < 16; j++, at += 4) {
    words[j] =
      ((data[at] as number) << 24) |
      ((data[at + 1] as number) << 16) |
      ((data[at + 2] as number) << 8) |
      (data[at + 3] as number);
  }
  for (let j = 16; j < 68; j++) {
    const third = words[j - 3] as number;
    const x = (words[j - 16] as number) ^ (words[j - 9] as number) ^ ((third << 15) | (third >>> 17));
    const thirteenth = words[j - 13] as number;
    words[j] =
      x ^
      ((x << 15) | (x >>> 17)) ^
      ((x << 23) | (x >>> 9)) ^
      ((thirteenth << 7) | (thirteenth >>> 25)) ^
      (words[j - 6] as number);
  }
}

/** Compression function, GB/T 32905 section 5.3.3. */
function compress(state: Int32Array, data: Uint8Array, offset: number): void {
  expand(data, offset);
  let a = state[0] as number,
    b = state[1] as number,
    c = state[2] as number,
    d = state[3] as number;
  let e = state[4] as number,
    f = state[5] as number,
    g = state[6] as number,
    h = state[7] as number;
  for (let j = 0; j < 64; j++) {
    const a12 = (a << 12) | (a >>> 20);
    const sum = (a12 + e + (ROUND[j] as number)) | 0;
    const ss1 = (sum << 7) | (sum >>> 25);
    const w = words[j] as number;
    const ff = j < 16 ? a ^ b ^ c : (a & b) | (a & c) | (b & c);
    const gg = j < 16 ? e ^ f ^ g : (e & f) | (~e & g);
    const tt1 = (ff + d + (ss1 ^ a12) + (w ^ (words[j + 4] as number))) | 0;
    const tt2 = (gg + h + ss1 + w) | 0;
    d = c;
    c = (b << 9) | (b >>> 23);
    b = a;
    a = tt1;
    h = g;
    g = (f << 19) | (f >>> 13);
    f = e;
    e = tt2 ^ ((tt2 << 9) | (tt2 >>> 23)) ^ ((tt2 << 17) | (tt2 >>> 15));
  }
  state[0] = (state[0] as number) ^ a;
  state[1] = (state[1] as number) ^ b;
  state[2] = (state[2] as number) ^ c;
  state[3] = (state[3] as number) ^ d;
  state[4] = (state[4] as number) ^ e;
  state[5] = (state[5] as number) ^ f;
  state[6] = (state[6] as number) ^ g;
  state[7] = (state[7] as number) ^ h;
}

/** Streaming SM3. One instance hashes one message, unless `reset` is called. */
export class Sm3 {
  readonly #state = Int32Array.from(INITIAL);
  readonly #block = new Uint8Array(BLOCK_BYTES);
  #filled = 0;
  #lengthBytes = 0;
  #finished = false;

  reset(): this {
    this.#state.set(INITIAL);
    this.#filled = 0;
    this.#lengthBytes = 0;
    this.#finished = false;
    return this;
  }

  /** Continues from where `other` stands; `other` is left as it is. */
  copyFrom(other: Sm3): this {
    assert(!other.#finished, 'Sm3: copy after digest');
    this.#state.set(other.#state);
    this.#block.set(other.#block);
    this.#filled = other.#filled;
    this.#lengthBytes = other.#lengthBytes;
    this.#finished = false;
    return this;
  }

  update(data: Uint8Array): this {
    assert(!this.#finished, 'Sm3: update after digest');
    this.#lengthBytes += data.length;
    let offset = 0;
    if (this.#filled > 0) {
      const taken = Math.min(BLOCK_BYTES - this.#filled, data.length);
      for (; offset < taken; offset++) this.#block[this.#filled + offset] = data[offset] as number;
      this.#filled += taken;
      if (this.#filled < BLOCK_BYTES) return this;
      compress(this.#state, this.#block, 0);
      this.#filled = 0;
    }
    for (; offset + BLOCK_BYTES <= data.length; offset += BLOCK_BYTES) compress(this.#state, data, offset);
    for (; offset < data.length; offset++) this.#block[this.#filled++] = data[offset] as number;
    return this;
  }

  /** Big-endian 32 bits, without an array of their own: length fields are half of what protocol hashes take in. */
  updateU32(value: number): this {
    assert(!this.#finished, 'Sm3: update after digest');
    assert(Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff, 'Sm3: not a u32');
    for (let shift = 24; shift >= 0; shift -= 8) {
      this.#block[this.#filled++] = value >>> shift;
      if (this.#filled === BLOCK_BYTES) {
        compress(this.#state, this.#block, 0);
        this.#filled = 0;
      }
    }
    this.#lengthBytes += 4;
    return this;
  }

  /** @returns the 32-byte digest, in `target` (at `offset`) when one is given */
  digest(target: Uint8Array = new Uint8Array(SM3_BYTES), offset = 0): Uint8Array {
    assert(!this.#finished, 'Sm3: digest twice');
    assert(offset >= 0 && offset + SM3_BYTES <= target.length, 'Sm3: digest outside the target');
    this.#finished = true;
    const block = this.#block;
    block[this.#filled++] = 0x80;
    if (this.#filled > BLOCK_BYTES - 8) {
      block.fill(0, this.#filled);
      compress(this.#state, block, 0);
      this.#filled = 0;
    }
    block.fill(0, this.#filled);
    // The length in bits, 64 bits big-endian; lengths in bytes are safe integers, so split before the factor 8.
    const view = new DataView(block.buffer);
    view.setUint32(BLOCK_BYTES - 8, Math.floor(this.#lengthBytes / 0x2000_0000));
    view.setUint32(BLOCK_BYTES - 4, (this.#lengthBytes << 3) >>> 0);
    compress(this.#state, block, 0);
    for (let index = 0, at = offset; index < 8; index++, at += 4) {
      const word = this.#state[index] as number;
      target[at] = word >>> 24;
      target[at + 1] = word >>> 16;
      target[at + 2] = word >>> 8;
      target[at + 3] = word;
    }
    return target;
  }
}

// Reused by the one-shot functions: they are synchronous and never call each other's caller.
const shared = new Sm3();

/** SM3 of one byte string, 32 bytes. */
export function sm3(data: Uint8Array): Uint8Array {
  return shared.reset().update(data).digest();
}

/**
 * HMAC-SM3 (RFC 2104 with SM3, block of 64 bytes), 32 bytes.
 * @param key any length; longer than 64 bytes is hashed first
 */
export function hmacSm3(key: Uint8Array, ...data: readonly Uint8Array[]): Uint8Array {
  const pad = new Uint8Array(BLOCK_BYTES);
  pad.set(key.length > BLOCK_BYTES ? sm3(key) : key);
  for (let index = 0; index < BLOCK_BYTES; index++) pad[index] = (pad[index] as number) ^ 0x36;
  shared.reset().update(pad);
  for (const part of data) shared.update(part);
  const inner = shared.digest();
  for (let index = 0; index < BLOCK_BYTES; index++) pad[index] = (pad[index] as number) ^ 0x36 ^ 0x5c;
  const tag = shared.reset().update(pad).update(inner).digest();
  pad.fill(0);
  return tag;
}
