/**
 * Reads the part of dag-cbor that the codecs write, item by item, as a schema asks for it: unsigned integers up to
 * 2^53 - 1, byte strings, text, arrays, booleans and null (RFC 8949 section 3; strictness of the dag-cbor
 * specification: shortest heads, definite lengths, nothing after the end).
 *
 * Why not decode first and look afterwards: a message of 4 MiB can hold four million empty arrays, which cost half a
 * second and 300 MB before the first of them is found to be wrong. Here the first byte that does not fit ends it. And
 * since only canonical bytes are accepted, nothing has to be encoded again to find out whether they were.
 * What must not go in here: knowledge of any particular structure.
 */
import { parseUtf8, utf8 } from './bytes.ts';

/** Bytes that are not what was expected. Leaves this folder as a verdict only: `decode` catches it. */
export class Malformed extends Error {
  readonly code: 'MALFORMED' | 'NOT_CANONICAL';
  /** Where, from the outside in; filled in while the error passes the structures around it. */
  readonly path: string[] = [];

  constructor(message: string, code: 'MALFORMED' | 'NOT_CANONICAL' = 'MALFORMED') {
    super(message);
    this.code = code;
  }
}

const MAJOR = { uint: 0, bytes: 2, text: 3, array: 4 } as const;
const FALSE = 0xf4;
const TRUE = 0xf5;
const NULL = 0xf6;

/** Nesting of recursive structures. The deepest that we have is a policy's approval tree, of 4 levels. */
const MAX_RECURSION = 32;

/** Up to here a loop copies faster than a call. */
const LOOPED_BYTES = 128;

const notShortest = (): Malformed => new Malformed('not in its shortest form', 'NOT_CANONICAL');

/** ASCII words that are looked for in bytes. */
export class Words {
  /** Bytes of the longest. */
  readonly longest: number;
  readonly texts: readonly string[];
  readonly #words: readonly Uint8Array[];

  constructor(texts: readonly string[]) {
    this.texts = texts;
    this.#words = texts.map(utf8);
    this.longest = Math.max(...this.#words.map(({ length }) => length));
  }

  /** Which of them stands there, or -1. */
  find(bytes: Uint8Array, from: number, length: number): number {
    return this.#words.findIndex((word) => word.length === length && isAt(word, bytes, from));
  }
}

function isAt(word: Uint8Array, bytes: Uint8Array, from: number): boolean {
  for (let index = 0; index < word.length; index += 1) if (word[index] !== bytes[from + index]) return false;
  return true;
}

export class CborReader {
  readonly #bytes: Uint8Array;
  #at = 0;
  #recursion = 0;

  constructor(bytes: Uint8Array) {
    // A Buffer's slice shares memory; what is read here must not change with what it was read from.
    this.#bytes =
      bytes.constructor === Uint8Array ? bytes : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  uint(expected: string): number {
    return this.#head(MAJOR.uint, expected);
  }

  /** A copy of a byte string of `min` to `max` bytes. */
  bytes(min: number, max: number, expected: string): Uint8Array {
    const length = this.#head(MAJOR.bytes, expected);
    if (length < min || length > max) throw new Malformed(`expected ${expected}`);
    const from = this.#skip(length);
    const bytes = this.#bytes;
    if (length > LOOPED_BYTES) return bytes.slice(from, from + length);
    const copy = new Uint8Array(length);
    for (let index = 0; index < length; index += 1) copy[index] = bytes[from + index] as number;
    return copy;
  }

  /** Text of at most `maxBytes` bytes. */
  text(maxBytes: number, expected: string): string {
    const length = this.#head(MAJOR.text, expected);
    if (length > maxBytes) throw new Malformed(`expected ${expected}`);
    const from = this.#skip(length);
    const bytes = this.#bytes;
    let ascii = '';
    for (let at = from; at < from + length; at += 1) {
      const unit = bytes[at] as number;
      if (unit >= 0x80) return decodeText(bytes.subarray(from, from + length));
      ascii += String.fromCharCode(unit);
    }
    return ascii;
  }

  /** One of some words, as its number among them: no text is made. */
  word(words: Words, expected: string): number {
    const length = this.#head(MAJOR.text, expected);
    if (length > words.longest) throw new Malformed(`expected ${expected}`);
    const index = words.find(this.#bytes, this.#skip(length), length);
    if (index === -1) throw new Malformed(`expected ${expected}`);
    return index;
  }

  /** The length of an array whose items follow. Each of them has at least one byte. */
  array(min: number, max: number, expected: string): number {
    const length = this.#head(MAJOR.array, expected);
    if (length < min || length > max) throw new Malformed(`expected ${expected}`);
    if (length > this.#bytes.length - this.#at) throw new Malformed('cut short');
    return length;
  }

  bool(): boolean {
    const initial = this.#bytes[this.#at];
    if (initial !== FALSE && initial !== TRUE) throw new Malformed('expected a boolean');
    this.#at += 1;
    return initial === TRUE;
  }

  /** Steps over a null; false, without a step, when something else comes. */
  takeNull(): boolean {
    if (this.#bytes[this.#at] !== NULL) return false;
    this.#at += 1;
    return true;
  }

  /** Around each level of a recursive structure: how deep it goes must not depend on what the stack still holds. */
  nested<T>(read: () => T): T {
    if (this.#recursion >= MAX_RECURSION) throw new Malformed(`nested more than ${MAX_RECURSION} levels deep`);
    this.#recursion += 1;
    const value = read();
    this.#recursion -= 1;
    return value;
  }

  /** To be called last: one value, and nothing after it. */
  end(): void {
    if (this.#at !== this.#bytes.length) throw new Malformed('bytes beyond the end');
  }

  /** @returns where the bytes begin that are stepped over */
  #skip(length: number): number {
    const from = this.#at;
    if (length > this.#bytes.length - from) throw new Malformed('cut short');
    this.#at += length;
    return from;
  }

  /** The argument of an item's head: a value or a length. */
  #head(major: number, expected: string): number {
    const initial = this.#bytes[this.#at];
    if (initial === undefined) throw new Malformed('cut short');
    if (initial >> 5 !== major) throw new Malformed(`expected ${expected}`);
    this.#at += 1;
    const info = initial & 0x1f;
    switch (info) {
      case 24:
        return this.#argument(1, 24);
      case 25:
        return this.#argument(2, 0x100);
      case 26:
        return this.#argument(4, 0x1_0000);
      case 27:
        return this.#argument(8, 0x1_0000_0000);
      case 28:
      case 29:
      case 30:
        throw new Malformed('a reserved head');
      case 31:
        throw new Malformed('an indefinite length', 'NOT_CANONICAL');
      default:
        return info;
    }
  }

  /** @param least what has no shorter head */
  #argument(length: number, least: number): number {
    const from = this.#skip(length);
    let value = 0;
    for (let at = from; at < from + length; at += 1) value = value * 256 + (this.#bytes[at] as number);
    if (value < least) throw notShortest();
    // Beyond 2^53 - 1 numbers are no longer exact: 2^53 itself and 2^53 + 1 would read alike.
    if (value > Number.MAX_SAFE_INTEGER) throw new Malformed('expected an integer of at most 2^53 - 1');
    return value;
  }
}

function decodeText(bytes: Uint8Array): string {
  const text = parseUtf8(bytes);
  if (text === undefined) throw new Malformed('expected UTF-8');
  return text;
}
