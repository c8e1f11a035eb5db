/** SM3 (GB/T 32905-2016) of what arrives in pieces; one message at a time. */

import { compress } from './sm3.generated';

const BLOCK: usize = 64;
/** State (8 words), block, bytes in the block, bytes in all. */
const CONTEXT_BYTES: usize = 32 + 64 + 8 + 8;
const context = memory.data(112, 8);
const block = context + 32;
const filledAt = context + 96;
const lengthAt = context + 104;

/** A context in which the head of Z_A is absorbed. */
const headed = memory.data(112, 8);

export function start(): void {
  store<u32>(context, 0x7380166f);
  store<u32>(context, 0x4914b2b9, 4);
  store<u32>(context, 0x172442d7, 8);
  store<u32>(context, 0xda8a0600, 12);
  store<u32>(context, 0xa96f30bc, 16);
  store<u32>(context, 0x163138aa, 20);
  store<u32>(context, 0xe38dee4d, 24);
  store<u32>(context, 0xb0fb0e4e, 28);
  store<usize>(filledAt, 0);
  store<u64>(lengthAt, 0);
}

export function absorb(from: usize, length: usize): void {
  store<u64>(lengthAt, load<u64>(lengthAt) + u64(length));
  let filled = load<usize>(filledAt);
  let at = from;
  const end = from + length;
  if (filled > 0) {
    const room = BLOCK - filled;
    const taken = room < length ? room : length;
    memory.copy(block + filled, at, taken);
    filled += taken;
    at += taken;
    if (filled < BLOCK) {
      store<usize>(filledAt, filled);
      return;
    }
    compress(context, block);
  }
  for (; at + BLOCK <= end; at += BLOCK) compress(context, at);
  memory.copy(block, at, end - at);
  store<usize>(filledAt, end - at);
}

/** The 32 bytes of the digest. */
export function finish(out: usize): void {
  let filled = load<usize>(filledAt);
  store<u8>(block + filled, 0x80);
  filled++;
  if (filled > BLOCK - 8) {
    memory.fill(block + filled, 0, BLOCK - filled);
    compress(context, block);
    filled = 0;
  }
  memory.fill(block + filled, 0, BLOCK - 8 - filled);
  store<u64>(block, bswap<u64>(load<u64>(lengthAt) << 3), 56);
  compress(context, block);
  for (let i: usize = 0; i < 32; i += 4) store<u32>(out + i, bswap<u32>(load<u32>(context + i)));
}

/** Keeps what was absorbed, for `startFromHead`. */
export function keepHead(): void {
  memory.copy(headed, context, CONTEXT_BYTES);
}

export function startFromHead(): void {
  memory.copy(context, headed, CONTEXT_BYTES);
}
