/**
 * The one canonical encoding of everything that is hashed, signed, sent or stored: dag-cbor, by small typed codecs.
 *
 * Structures are encoded as arrays in field order: compact, and no key order to get wrong. Decoding is strict: bytes
 * that are not exactly their own canonical encoding are refused, so one value has one encoding and one hash.
 * What must not go in here: knowledge of any particular message.
 */
import * as dagCbor from '@ipld/dag-cbor';
import { accept, InvariantError, reject, type Verdict } from './errors.ts';

/** A value that dag-cbor can carry. Floats and big integers are not among them on purpose. */
export type Cbor = null | boolean | number | string | Uint8Array | readonly Cbor[];

export interface Codec<T> {
  /** To the plain value that dag-cbor writes. Throws `InvariantError` if `value` breaks its own bounds: our own bug. */
  toCbor(value: T): Cbor;
  /** From untrusted plain value. Throws `Malformed`, which `decode` turns into a verdict. */
  fromCbor(value: unknown, path: string): T;
}

export type TypeOf<C> = C extends Codec<infer T> ? T : never;

class Malformed extends Error {}

function fail(path: string, expected: string): never {
  throw new Malformed(`${path || 'value'}: expected ${expected}`);
}

/** Encodes `value`. Throws `InvariantError` when it is out of its codec's bounds. */
export function encode<T>(codec: Codec<T>, value: T): Uint8Array {
  return dagCbor.encode(codec.toCbor(value));
}

/**
 * Decodes untrusted bytes strictly.
 * @param maxBytes the largest encoding that is looked at
 * @returns the value, or `TOO_LARGE`, `MALFORMED` (wrong shape or out of bounds), `NOT_CANONICAL`
 */
export function decode<T>(codec: Codec<T>, bytes: Uint8Array, maxBytes: number): Verdict<T> {
  if (bytes.length > maxBytes) {
    return reject('TOO_LARGE', `${bytes.length} bytes, of which at most ${maxBytes} are accepted`);
  }
  let plain: unknown;
  try {
    plain = dagCbor.decode(bytes);
  } catch {
    return reject('MALFORMED', 'not dag-cbor');
  }
  try {
    const value = codec.fromCbor(plain, '');
    return sameBytes(dagCbor.encode(codec.toCbor(value)), bytes)
      ? accept(value)
      : reject('NOT_CANONICAL', 'the bytes are not the canonical encoding of their value');
  } catch (error) {
    if (error instanceof Malformed) return reject('MALFORMED', error.message);
    if (error instanceof RangeError) return reject('MALFORMED', 'nested too deeply');
    throw error;
  }
}

/** Decodes bytes that this node wrote itself. Throws `InvariantError` where they are not what was written. */
export function decodeTrusted<T>(codec: Codec<T>, bytes: Uint8Array, what: string): T {
  try {
    return codec.fromCbor(dagCbor.decode(bytes), what);
  } catch (cause) {
    throw new InvariantError(`stored ${what} cannot be decoded`, { cause });
  }
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i += 1) if (a[i] !== b[i]) return false;
  return true;
}

function checked(condition: boolean, what: string): void {
  if (!condition) throw new InvariantError(`refusing to encode ${what}`);
}

/** Exactly `length` bytes. */
export function bytes(length: number): Codec<Uint8Array> {
  return boundedBytes(length, length);
}

/** Between `min` and `max` bytes. */
export function boundedBytes(min: number, max: number): Codec<Uint8Array> {
  const fits = (v: Uint8Array) => v.length >= min && v.length <= max;
  const expected = min === max ? `${min} bytes` : `${min} to ${max} bytes`;
  return {
    toCbor(value) {
      checked(value instanceof Uint8Array && fits(value), `${value?.length} bytes, not ${expected}`);
      return value;
    },
    fromCbor: (value, path) => (value instanceof Uint8Array && fits(value) ? value : fail(path, expected)),
  };
}

/** An integer from 0 to `max` (at most 2^53 - 1). */
export function uint(max: number = Number.MAX_SAFE_INTEGER): Codec<number> {
  const fits = (v: unknown): v is number => typeof v === 'number' && Number.isSafeInteger(v) && v >= 0 && v <= max;
  return {
    toCbor(value) {
      checked(fits(value), `${value} as an integer from 0 to ${max}`);
      return value;
    },
    fromCbor: (value, path) => (fits(value) && !Object.is(value, -0) ? value : fail(path, `an integer 0 to ${max}`)),
  };
}

export const bool: Codec<boolean> = {
  toCbor: (value) => value,
  fromCbor: (value, path) => (typeof value === 'boolean' ? value : fail(path, 'a boolean')),
};

/** Text of 1 to `maxLength` UTF-16 units that matches `pattern` (anchored by the caller) and is well-formed. */
export function text(maxLength: number, pattern?: RegExp): Codec<string> {
  const fits = (v: unknown): v is string =>
    typeof v === 'string' && v.length >= 1 && v.length <= maxLength && v.isWellFormed() && (pattern?.test(v) ?? true);
  const expected = `text of 1 to ${maxLength} characters${pattern ? ` like ${pattern}` : ''}`;
  return {
    toCbor(value) {
      checked(fits(value), `a text that is not ${expected}`);
      return value;
    },
    fromCbor: (value, path) => (fits(value) ? value : fail(path, expected)),
  };
}

/** One of a fixed set of words. */
export function oneOf<const W extends readonly string[]>(words: W): Codec<W[number]> {
  const known: ReadonlySet<string> = new Set(words);
  return {
    toCbor(value) {
      checked(known.has(value), `the word ${value}`);
      return value;
    },
    fromCbor: (value, path) =>
      typeof value === 'string' && known.has(value) ? value : fail(path, `one of ${words.join(', ')}`),
  };
}

/** `null` or a value. */
export function nullable<T>(item: Codec<T>): Codec<T | null> {
  return {
    toCbor: (value) => (value === null ? null : item.toCbor(value)),
    fromCbor: (value, path) => (value === null ? null : item.fromCbor(value, path)),
  };
}

/** A list of `min` to `max` items. */
export function list<T>(item: Codec<T>, max: number, min = 0): Codec<readonly T[]> {
  return {
    toCbor(value) {
      checked(value.length >= min && value.length <= max, `${value.length} items, not ${min} to ${max}`);
      return value.map((v) => item.toCbor(v));
    },
    fromCbor(value, path) {
      if (!Array.isArray(value) || value.length < min || value.length > max) fail(path, `${min} to ${max} items`);
      return (value as readonly unknown[]).map((v, i) => item.fromCbor(v, `${path}[${i}]`));
    },
  };
}

type StructOf<F> = { readonly [K in keyof F]: TypeOf<F[K]> };

/** A structure, encoded as the array of its fields in the order in which they are written down here. */
export function struct<F extends Record<string, Codec<unknown>>>(fields: F): Codec<StructOf<F>> {
  const entries: readonly (readonly [string, Codec<unknown>])[] = Object.entries(fields);
  return {
    toCbor: (value) => entries.map(([name, codec]) => codec.toCbor((value as Record<string, unknown>)[name])),
    fromCbor(value, path) {
      if (!Array.isArray(value) || value.length !== entries.length) fail(path, `${entries.length} fields`);
      const result: Record<string, unknown> = {};
      for (let i = 0; i < entries.length; i += 1) {
        const [name, codec] = entries[i] as readonly [string, Codec<unknown>];
        result[name] = codec.fromCbor(value[i], path === '' ? name : `${path}.${name}`);
      }
      return result as StructOf<F>;
    },
  };
}

type Variants = Record<string, Codec<unknown>>;
type UnionOf<V> = { [K in keyof V & string]: { readonly kind: K } & TypeOf<V[K]> }[keyof V & string];

/** A tagged union of structures, encoded as `[tag, structure]`; in TypeScript the structure's fields beside `kind`. */
export function union<V extends Variants>(variants: V): Codec<UnionOf<V>> {
  const known = new Map<string, Codec<unknown>>(Object.entries(variants));
  return {
    toCbor(value) {
      const codec = known.get(value.kind);
      checked(codec !== undefined, `the variant ${value.kind}`);
      return [value.kind, (codec as Codec<unknown>).toCbor(value)];
    },
    fromCbor(value, path) {
      if (!Array.isArray(value) || value.length !== 2) fail(path, '[variant, fields]');
      const [kind, fields] = value as readonly unknown[];
      const codec = typeof kind === 'string' ? known.get(kind) : undefined;
      if (codec === undefined) fail(path, `a known variant, not one of ${known.size} kinds`);
      return { kind, ...(codec.fromCbor(fields, `${path}<${String(kind)}>`) as object) } as UnionOf<V>;
    },
  };
}

/** For recursive structures. `depth` bounds are the caller's: dag-cbor's own nesting is bounded by the byte limit. */
export function lazy<T>(get: () => Codec<T>): Codec<T> {
  return { toCbor: (value) => get().toCbor(value), fromCbor: (value, path) => get().fromCbor(value, path) };
}
