/**
 * SM3 of many messages at once, four in the lanes of 128-bit words (WebAssembly): some five times as fast as one after the
 * other in JavaScript, for hashing by the thousand. The caller lays its messages out in the memory of the module and pads
 * them there, and gets digests where it wants them: also within messages that are hashed later, so that a tree is hashed
 * from its leaves up without a copy. Synchronous, isomorphic. Nothing about what is hashed goes in here.
 */

import { equalBytes } from '../../bytes.ts';
import { assert } from '../../errors.ts';
import { sm3 } from '../sm3.ts';
import { SM3_LANES_MODULE } from './module.generated.ts';

const PAGE_BYTES = 65_536;
const BLOCK_BYTES = 64;
/** 0x80, and 8 bytes of length. */
const LEAST_PADDING_BYTES = 9;
/** Jobs that are given to the module at a time. */
const CHUNK_JOBS = 4_096;
/** A job: address of its message, address of its digest. */
const JOB_WORDS = 2;
/** Memory for messages: those of a block of thousands of transactions. It is taken as it is needed, and kept. */
export const MAX_LANES_BYTES = 64 * 1024 * 1024;

interface LanesExports {
  readonly memory: { readonly buffer: ArrayBuffer; grow(pages: number): number };
  readonly heapBase: () => number;
  readonly hash: (jobs: number, count: number, blocks: number) => void;
}

// As in sm2-engine/instance.ts: the language's own library of types does not know WebAssembly.
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: unknown };
};

/** Blocks of 64 bytes that a message takes with its padding. */
export const blocksOf = (lengthBytes: number): number => Math.ceil((lengthBytes + LEAST_PADDING_BYTES) / BLOCK_BYTES);

export class Sm3Lanes {
  readonly #wasm: LanesExports;
  readonly #jobsAt: number;
  readonly #startAt: number;
  #bytes: Uint8Array;
  #jobs: Uint32Array;
  #freeAt: number;

  /** Use `createSm3Lanes`. */
  constructor(wasm: LanesExports) {
    this.#wasm = wasm;
    this.#jobsAt = Math.ceil(wasm.heapBase() / BLOCK_BYTES) * BLOCK_BYTES;
    this.#startAt = this.#jobsAt + CHUNK_JOBS * JOB_WORDS * 4;
    this.#freeAt = this.#startAt;
    this.#bytes = new Uint8Array(0);
    this.#jobs = new Uint32Array(0);
    this.#reserve(this.#startAt);
  }

  /** All of the module's memory, by address. Another array after `take` had to grow it. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  /** Gives all memory back that was taken. */
  clear(): void {
    this.#freeAt = this.#startAt;
  }

  /** Address of so many bytes that are free; 0 when there is no room for them. What they hold is left from before. */
  take(lengthBytes: number): number {
    const at = this.#freeAt;
    const end = at + lengthBytes;
    if (end - this.#startAt > MAX_LANES_BYTES) return 0;
    if (end > this.#bytes.length) this.#reserve(end);
    this.#freeAt = end;
    return at;
  }

  /** Pads the message of so many bytes at an address: its room has whole blocks, `blocksOf` its length. */
  pad(at: number, lengthBytes: number): void {
    const bytes = this.#bytes;
    const end = at + blocksOf(lengthBytes) * BLOCK_BYTES;
    bytes[at + lengthBytes] = 0x80;
    bytes.fill(0, at + lengthBytes + 1, end - 4);
    // Messages are shorter than 2^29 bytes: the length in bits is in the last 4 of its 8 bytes.
    const bits = lengthBytes * 8;
    bytes[end - 4] = bits >>> 24;
    bytes[end - 3] = bits >>> 16;
    bytes[end - 2] = bits >>> 8;
    bytes[end - 1] = bits;
  }

  /**
   * Hashes messages that all have so many blocks.
   * @param jobs for each message its address and that of its 32-byte digest, one after the other; no digest goes into a
   *   message of the same call
   */
  hash(jobs: readonly number[], blocks: number): void {
    for (let from = 0; from < jobs.length; from += CHUNK_JOBS * JOB_WORDS) {
      const until = Math.min(jobs.length, from + CHUNK_JOBS * JOB_WORDS);
      for (let index = from; index < until; index++) this.#jobs[index - from] = jobs[index] as number;
      this.#wasm.hash(this.#jobsAt, (until - from) / JOB_WORDS, blocks);
    }
  }

  #reserve(end: number): void {
    const { memory } = this.#wasm;
    const missing = end - memory.buffer.byteLength;
    // A quarter more than asked for: each growth makes new views.
    if (missing > 0) memory.grow(Math.ceil((missing + end / 4) / PAGE_BYTES));
    this.#bytes = new Uint8Array(memory.buffer);
    this.#jobs = new Uint32Array(memory.buffer, this.#jobsAt, CHUNK_JOBS * JOB_WORDS);
  }
}

/** Messages of any length that are hashed together, each in two parts: a short head, and a body that need not be copied first. */
export class LaneMessages {
  readonly #lanes: Sm3Lanes;
  /** Addresses of message and digest, by the number of blocks. */
  readonly #jobs = new Map<number, number[]>();

  constructor(lanes: Sm3Lanes) {
    this.#lanes = lanes;
  }

  /**
   * @param digestAt address where the 32 bytes of the digest shall go: in no message of this batch
   * @returns false when there is no room for the message
   */
  add(head: Uint8Array, body: Uint8Array, digestAt: number): boolean {
    const lengthBytes = head.length + body.length;
    const blocks = blocksOf(lengthBytes);
    const at = this.#lanes.take(blocks * BLOCK_BYTES);
    if (at === 0) return false;
    const { bytes } = this.#lanes;
    for (let index = 0; index < head.length; index++) bytes[at + index] = head[index] as number;
    bytes.set(body, at + head.length);
    this.#lanes.pad(at, lengthBytes);
    const jobs = this.#jobs.get(blocks);
    if (jobs === undefined) this.#jobs.set(blocks, [at, digestAt]);
    else jobs.push(at, digestAt);
    return true;
  }

  hash(): void {
    for (const [blocks, jobs] of this.#jobs) this.#lanes.hash(jobs, blocks);
  }
}

// Made by the first who asks; undefined before that.
let shared: Sm3Lanes | null | undefined;

/**
 * The lanes that all of this program share, with their memory given back; null where there are none. All hashing is
 * synchronous: whoever asks is done, and has copied the digests, before the next one asks.
 */
export function sharedSm3Lanes(): Sm3Lanes | null {
  if (shared === undefined) shared = createSm3Lanes();
  shared?.clear();
  return shared;
}

/** The lanes, if this machine has them and they know SM3; else null, and messages are hashed one by one. */
export function createSm3Lanes(): Sm3Lanes | null {
  let lanes: Sm3Lanes;
  try {
    const module = new WebAssembly.Module(Uint8Array.from(atob(SM3_LANES_MODULE), (unit) => unit.charCodeAt(0)));
    lanes = new Sm3Lanes(new WebAssembly.Instance(module).exports as LanesExports);
  } catch {
    // No WebAssembly, or none with 128-bit words.
    return null;
  }
  checkLanes(lanes);
  return lanes;
}

/** One answer that is known in each lane: a wrong digest would fork this node off, with no other sign of it. */
function checkLanes(lanes: Sm3Lanes): void {
  const messages = [0, 1, 2, 3].map((lane) => new Uint8Array(100).fill(lane + 1));
  const jobs = messages.flatMap((message) => {
    const at = lanes.take(blocksOf(message.length) * BLOCK_BYTES);
    lanes.bytes.set(message, at);
    lanes.pad(at, message.length);
    return [at, lanes.take(32)];
  });
  lanes.hash(jobs, blocksOf(100));
  messages.forEach((message, lane) => {
    const out = jobs[lane * JOB_WORDS + 1] as number;
    assert(equalBytes(lanes.bytes.subarray(out, out + 32), sm3(message)), 'SM3 in lanes gives wrong digests here');
  });
  lanes.clear();
}
