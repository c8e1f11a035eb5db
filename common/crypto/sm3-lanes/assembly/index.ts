/**
 * SM3 (GB/T 32905-2016) of many messages of one length, four at a time. The caller pads them and lays them out; it owns all of the
 * memory from `heapBase` on.
 */

import { compress } from './compress.generated';

const BLOCK: usize = 64;
/** A job: where its message begins, and where its digest goes; 4 bytes each. */
const JOB: usize = 8;

/** Eight words, each in four lanes. */
const state = memory.data(128, 16);

/** First byte that the module does not use. */
export function heapBase(): usize {
  return __heap_base;
}

function begin(): void {
  v128.store(state, i32x4.splat(0x7380166f));
  v128.store(state, i32x4.splat(0x4914b2b9), 16);
  v128.store(state, i32x4.splat(0x172442d7), 32);
  v128.store(state, i32x4.splat(0xda8a0600), 48);
  v128.store(state, i32x4.splat(0xa96f30bc), 64);
  v128.store(state, i32x4.splat(0x163138aa), 80);
  v128.store(state, i32x4.splat(0xe38dee4d), 96);
  v128.store(state, i32x4.splat(0xb0fb0e4e), 112);
}

/** Digest of one lane, 32 bytes big-endian. */
function give(lane: usize, out: usize): void {
  for (let word: usize = 0; word < 8; word++) {
    store<u32>(out + 4 * word, bswap<u32>(load<u32>(state + 16 * word + 4 * lane)));
  }
}

/**
 * Digests of `count` messages of `blocks` blocks of 64 bytes each, padding included. Digests may go into messages of later jobs,
 * but not of those within the same call.
 */
export function hash(jobs: usize, count: usize, blocks: usize): void {
  const end = jobs + count * JOB;
  for (let job = jobs; job < end; job += 4 * JOB) {
    const last = end - JOB;
    // The lanes of a last, smaller group do the last message again.
    const job1 = min<usize>(job + JOB, last);
    const job2 = min<usize>(job + 2 * JOB, last);
    const job3 = min<usize>(job + 3 * JOB, last);
    const message0: usize = load<u32>(job);
    const message1: usize = load<u32>(job1);
    const message2: usize = load<u32>(job2);
    const message3: usize = load<u32>(job3);
    begin();
    for (let at: usize = 0; at < blocks * BLOCK; at += BLOCK) {
      compress(state, message0 + at, message1 + at, message2 + at, message3 + at);
    }
    give(0, load<u32>(job, 4));
    give(1, load<u32>(job1, 4));
    give(2, load<u32>(job2, 4));
    give(3, load<u32>(job3, 4));
  }
}
