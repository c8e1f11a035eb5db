/**
 * Byte strings: hex, joining, comparing, fixed-width integers, UTF-8.
 *
 * Isomorphic and pure: `Uint8Array` only, never `Buffer`. What comes from outside (hex of a request, a length on the
 * wire) is read by functions that answer `undefined`; functions that throw are for values this program made itself.
 * No encodings of protocol objects here: those belong to the canonical codec.
 */

import { assert } from './errors.ts';

const HEX_PAIRS: readonly string[] = Array.from({ length: 256 }, (_, value) => value.toString(16).padStart(2, '0'));

const EMPTY = new Uint8Array(0);

/** Lower-case hex without prefix. */
export function bytesToHex(bytes: Uint8Array): string {
  let text = '';
  for (let index = 0; index < bytes.length; index++) text += HEX_PAIRS[bytes[index] as number] as string;
  return text;
}

/** Lower-case hex with the prefix `0x`: the form of the RPC. */
export function bytesToHex0x(bytes: Uint8Array): string {
  return `0x${bytesToHex(bytes)}`;
}

/** One lower-case hex digit, or -1. Upper case is refused: one value has one text. */
function hexDigit(charCode: number): number {
  if (charCode >= 0x30 && charCode <= 0x39) return charCode - 0x30;
  if (charCode >= 0x61 && charCode <= 0x66) return charCode - 0x61 + 10;
  return -1;
}

function parseHexFrom(text: string, start: number, byteLength: number | undefined): Uint8Array | undefined {
  const digits = text.length - start;
  if (digits < 0 || digits % 2 !== 0) return undefined;
  if (byteLength !== undefined && digits !== byteLength * 2) return undefined;
  if (digits === 0) return EMPTY;
  const bytes = new Uint8Array(digits / 2);
  for (let index = 0; index < bytes.length; index++) {
    const high = hexDigit(text.charCodeAt(start + 2 * index));
    const low = hexDigit(text.charCodeAt(start + 2 * index + 1));
    if (high < 0 || low < 0) return undefined;
    bytes[index] = (high << 4) | low;
  }
  return bytes;
}

/**
 * Untrusted bare hex, strict: lower case, whole bytes, no prefix.
 * @param byteLength the only length accepted, in bytes; any when absent (then bound `text` before the call)
 * @returns the bytes, or undefined
 */
export function parseHex(text: string, byteLength?: number): Uint8Array | undefined {
  return parseHexFrom(text, 0, byteLength);
}

/** As `parseHex`, for the `0x`-prefixed form, which it demands. */
export function parseHex0x(text: string, byteLength?: number): Uint8Array | undefined {
  if (!text.startsWith('0x')) return undefined;
  return parseHexFrom(text, 2, byteLength);
}

/** Hex that this program holds itself (constants, its own output), with or without `0x`. Throws `InvariantError`. */
export function hexToBytes(text: string): Uint8Array {
  const bytes = parseHexFrom(text, text.startsWith('0x') ? 2 : 0, undefined);
  assert(bytes !== undefined, 'hexToBytes: not lower-case hex');
  return bytes;
}

/** Joins into one new array. */
export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const joined = new Uint8Array(length);
  let offset = 0;
  for (const part of parts) {
    joined.set(part, offset);
    offset += part.length;
  }
  return joined;
}

/** Equality of public data: stops at the first difference. */
export function equalBytes(left: Uint8Array, right: Uint8Array): boolean {
  if (left.length !== right.length) return false;
  for (let index = 0; index < left.length; index++) {
    if (left[index] !== right[index]) return false;
  }
  return true;
}

/**
 * Equality of authentication tags and other secrets: the time depends on the length alone, as far as a JIT allows.
 * Lengths are public.
 */
export function equalBytesConstantTime(left: Uint8Array, right: Uint8Array): boolean {
  if (left.length !== right.length) return false;
  let difference = 0;
  for (let index = 0; index < left.length; index++) difference |= (left[index] as number) ^ (right[index] as number);
  return difference === 0;
}

/** Lexicographic order of unsigned bytes, a prefix first: negative, 0 or positive. Never use the locale for this. */
export function compareBytes(left: Uint8Array, right: Uint8Array): number {
  const shared = Math.min(left.length, right.length);
  for (let index = 0; index < shared; index++) {
    const difference = (left[index] as number) - (right[index] as number);
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
}

const TWO_32 = 0x1_0000_0000;

/** 2 bytes, big-endian. */
export function u16be(value: number): Uint8Array {
  assert(Number.isInteger(value) && value >= 0 && value <= 0xffff, 'u16be: out of range');
  return Uint8Array.of(value >>> 8, value & 0xff);
}

/** 4 bytes, big-endian. */
export function u32be(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  writeU32be(bytes, 0, value);
  return bytes;
}

/** 8 bytes, big-endian, of a safe integer (at most 2^53 - 1). */
export function u64be(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  writeU64be(bytes, 0, value);
  return bytes;
}

/** A safe integer of at least 0, in 8 bytes. */
export function writeU64be(target: Uint8Array, offset: number, value: number): void {
  assert(Number.isSafeInteger(value) && value >= 0, 'writeU64be: not a safe non-negative integer');
  writeU32be(target, offset, Math.floor(value / TWO_32));
  writeU32be(target, offset + 4, value % TWO_32);
}

export function writeU32be(target: Uint8Array, offset: number, value: number): void {
  assert(Number.isInteger(value) && value >= 0 && value < TWO_32, 'writeU32be: out of range');
  assert(offset >= 0 && offset + 4 <= target.length, 'writeU32be: outside the array');
  target[offset] = value >>> 24;
  target[offset + 1] = value >>> 16;
  target[offset + 2] = value >>> 8;
  target[offset + 3] = value;
}

/** Unsigned 16 bits at `offset`, or undefined when the array is too short. */
export function readU16be(bytes: Uint8Array, offset: number): number | undefined {
  if (offset < 0 || offset + 2 > bytes.length) return undefined;
  return ((bytes[offset] as number) << 8) | (bytes[offset + 1] as number);
}

/** Unsigned 32 bits at `offset`, or undefined when the array is too short. */
export function readU32be(bytes: Uint8Array, offset: number): number | undefined {
  if (offset < 0 || offset + 4 > bytes.length) return undefined;
  const high = ((bytes[offset] as number) << 24) | ((bytes[offset + 1] as number) << 16);
  return (high | ((bytes[offset + 2] as number) << 8) | (bytes[offset + 3] as number)) >>> 0;
}

/** Unsigned 64 bits at `offset`, or undefined when the array is too short or the value is no safe integer. */
export function readU64be(bytes: Uint8Array, offset: number): number | undefined {
  const high = readU32be(bytes, offset);
  const low = readU32be(bytes, offset + 4);
  if (high === undefined || low === undefined || high > 0x1f_ffff) return undefined;
  return high * TWO_32 + low;
}

const encoder = new TextEncoder();
// fatal: replacement characters would let two byte strings share one text; ignoreBOM: a BOM is content, not decoration.
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** UTF-8. Refuses lone surrogates (which `TextEncoder` would replace silently): they have no UTF-8. */
export function utf8(text: string): Uint8Array {
  assert(text.isWellFormed(), 'utf8: lone surrogate');
  return encoder.encode(text);
}

/** Untrusted UTF-8, strict: the text, or undefined when the bytes are malformed. */
export function parseUtf8(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

/** Unsigned big-endian integer of any length. */
export function bytesToBigint(bytes: Uint8Array): bigint {
  return bytes.length === 0 ? 0n : BigInt(`0x${bytesToHex(bytes)}`);
}

/** Unsigned big-endian, exactly `byteLength` bytes. Throws `InvariantError` when the value does not fit. */
export function bigintToBytes(value: bigint, byteLength: number): Uint8Array {
  const text = value.toString(16);
  assert(value >= 0n && text.length <= byteLength * 2, 'bigintToBytes: does not fit');
  return hexToBytes(text.padStart(byteLength * 2, '0'));
}
