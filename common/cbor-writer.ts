/**
 * Writes the part of dag-cbor that the codecs use, item by item: the counterpart of `CborReader`, and as small. Always the
 * shortest heads and definite lengths, so that a value has one encoding (RFC 8949 section 3, dag-cbor specification).
 *
 * Why not the library: it is given a tree of values that has to be made first, and asks of each what it is. A test holds what
 * is written here to the library's bytes. What must not go in here: knowledge of any particular structure.
 */
import { utf8 } from './bytes.ts';
import { assert } from './errors.ts';

const MAJOR = { uint: 0x00, bytes: 0x40, text: 0x60, array: 0x80 } as const;
const FALSE = 0xf4;
const TRUE = 0xf5;
const NULL = 0xf6;

/** A head has at most a byte and an argument of 8. */
const HEAD_BYTES = 9;
const FIRST_BYTES = 4 * 1024;
/** A writer that has grown beyond this is not kept for the next. */
const KEPT_BYTES = 256 * 1024;
const TWO_32 = 0x1_0000_0000;

export class CborWriter {
  #bytes = new Uint8Array(FIRST_BYTES);
  #at = 0;

  /** An integer from 0 to 2^53 - 1, which the caller has checked. */
  uint(value: number): void {
    this.#head(MAJOR.uint, value);
  }

  bytes(value: Uint8Array): void {
    const { length } = value;
    this.#head(MAJOR.bytes, length);
    this.#room(length);
    this.#bytes.set(value, this.#at);
    this.#at += length;
  }

  /** Well-formed text. */
  text(value: string): void {
    const { length } = value;
    for (let index = 0; index < length; index += 1) {
      if (value.charCodeAt(index) >= 0x80) return this.#utf8(utf8(value));
    }
    this.#head(MAJOR.text, length);
    this.#room(length);
    for (let index = 0; index < length; index += 1) this.#bytes[this.#at + index] = value.charCodeAt(index);
    this.#at += length;
  }

  /** So many items follow. */
  array(length: number): void {
    this.#head(MAJOR.array, length);
  }

  bool(value: boolean): void {
    assert(typeof value === 'boolean', 'refusing to encode something else as a boolean');
    this.#byte(value ? TRUE : FALSE);
  }

  null(): void {
    this.#byte(NULL);
  }

  /** A copy of what was written. The writer begins anew. */
  take(): Uint8Array {
    const written = this.#bytes.slice(0, this.#at);
    this.clear();
    return written;
  }

  /** Forgets what was written. */
  clear(): void {
    this.#at = 0;
    if (this.#bytes.length > KEPT_BYTES) this.#bytes = new Uint8Array(FIRST_BYTES);
  }

  #utf8(encoded: Uint8Array): void {
    this.#head(MAJOR.text, encoded.length);
    this.#room(encoded.length);
    this.#bytes.set(encoded, this.#at);
    this.#at += encoded.length;
  }

  #byte(value: number): void {
    this.#room(1);
    this.#bytes[this.#at] = value;
    this.#at += 1;
  }

  #head(major: number, argument: number): void {
    this.#room(HEAD_BYTES);
    const bytes = this.#bytes;
    if (argument < 24) {
      bytes[this.#at++] = major | argument;
    } else if (argument < 0x100) {
      bytes[this.#at++] = major | 24;
      bytes[this.#at++] = argument;
    } else if (argument < 0x1_0000) {
      bytes[this.#at++] = major | 25;
      bytes[this.#at++] = argument >>> 8;
      bytes[this.#at++] = argument;
    } else if (argument < TWO_32) {
      bytes[this.#at++] = major | 26;
      this.#u32(argument);
    } else {
      bytes[this.#at++] = major | 27;
      this.#u32(Math.floor(argument / TWO_32));
      this.#u32(argument % TWO_32);
    }
  }

  #u32(value: number): void {
    const bytes = this.#bytes;
    bytes[this.#at++] = value >>> 24;
    bytes[this.#at++] = value >>> 16;
    bytes[this.#at++] = value >>> 8;
    bytes[this.#at++] = value;
  }

  #room(lengthBytes: number): void {
    const needed = this.#at + lengthBytes;
    if (needed <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(needed, 2 * this.#bytes.length));
    larger.set(this.#bytes.subarray(0, this.#at));
    this.#bytes = larger;
  }
}
