/**
 * The JSON form of protocol structures: the same fields under the same names, bytes as 0x-prefixed lower-case hex.
 * Nothing is renamed or added here; what a method adds, it adds itself.
 */
import { bytesToHex0x } from '../common/bytes.ts';
import type { Hex } from './schema.ts';

/** The type of `toJson(value)`. */
export type JsonOf<T> = T extends Uint8Array
  ? Hex
  : T extends readonly (infer Item)[]
    ? readonly JsonOf<Item>[]
    : T extends object
      ? { readonly [K in keyof T]: JsonOf<T[K]> }
      : T;

export function toHex(bytes: Uint8Array): Hex {
  return bytesToHex0x(bytes) as Hex;
}

/** Depth is bounded by the codecs that made `value`. */
export function toJson<T>(value: T): JsonOf<T> {
  return plain(value) as JsonOf<T>;
}

function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return toHex(value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, plain(field)]));
}
