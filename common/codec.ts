/**
 * The one canonical encoding of everything that is hashed, signed, sent or stored: dag-cbor, by small typed codecs.
 *
 * Structures are encoded as arrays in field order: compact, and no key order to get wrong. Decoding is strict: bytes
 * that are not exactly their own canonical encoding are refused, so one value has one encoding and one hash.
 * What must not go in here: knowledge of any particular message.
 */
import * as dagCbor from '@ipld/dag-cbor';
import { CborReader, Malformed } from './cbor-reader.ts';
import { accept, InvariantError, reject, type Verdict } from './errors.ts';

/** A value that dag-cbor can carry. Floats and big integers are not among them on purpose. */
export type Cbor = null | boolean | number | string | Uint8Array | readonly Cbor[];

export interface Codec<T> {
  /** To the plain value that dag-cbor writes. Throws `InvariantError` if `value` breaks its own bounds: our own bug. */
  toCbor(value: T): Cbor;
  /** The next item of untrusted bytes. Throws `Malformed`, which `decode` turns into a verdict. */
  read(input: CborReader): T;
}

export type TypeOf<C> = C extends Codec<infer T> ? T : never;

/** Encodes `value`. Throws `InvariantError` when it is out of its codec's bounds. */
export function encode<T>(codec: Codec<T>, value: T): Uint8Array {
  return dagCbor.encode(codec.toCbor(value));
}

/**
 * Decodes untrusted bytes strictly: what is accepted is exactly what `encode` gives for the value. Work and memory are
 * bounded by what the structure may hold, not by what the bytes claim.
 * @param maxBytes the largest encoding that is looked at
 * @returns the value, or `TOO_LARGE`, `MALFORMED` (wrong shape or out of bounds), `NOT_CANONICAL`
 */
export function decode<T>(codec: Codec<T>, bytes: Uint8Array, maxBytes: number): Verdict<T> {
  if (bytes.length > maxBytes) {
    return reject('TOO_LARGE', `${bytes.length} bytes, of which at most ${maxBytes} are accepted`);
  }
  try {
    return accept(readAll(codec, bytes));
  } catch (error) {
    if (error instanceof Malformed) return reject(error.code, `${error.path.join('.') || 'value'}: ${error.message}`);
    throw error;
  }
}

/** Decodes bytes that this node wrote itself. Throws `InvariantError` where they are not what was written. */
export function decodeTrusted<T>(codec: Codec<T>, bytes: Uint8Array, what: string): T {
  try {
    return readAll(codec, bytes);
  } catch (cause) {
    throw new InvariantError(`stored ${what} cannot be decoded`, { cause });
  }
}

function readAll<T>(codec: Codec<T>, bytes: Uint8Array): T {
  const input = new CborReader(bytes);
  const value = codec.read(input);
  input.end();
  return value;
}

function fail(expected: string): never {
  throw new Malformed(`expected ${expected}`);
}

/** Notes on the way out of a structure which part of it was wrong. */
function within(error: unknown, part: string): unknown {
  if (error instanceof Malformed) error.path.unshift(part);
  return error;
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
    read: (input) => input.bytes(min, max, expected),
  };
}

/** An integer from 0 to `max` (at most 2^53 - 1). */
export function uint(max: number = Number.MAX_SAFE_INTEGER): Codec<number> {
  const expected = `an integer 0 to ${max}`;
  return {
    toCbor(value) {
      checked(Number.isSafeInteger(value) && value >= 0 && value <= max, `${value} as ${expected}`);
      // No -0: it would be written as a float.
      return value + 0;
    },
    read(input) {
      const value = input.uint(expected);
      return value <= max ? value : fail(expected);
    },
  };
}

export const bool: Codec<boolean> = {
  toCbor: (value) => value,
  read: (input) => input.bool(),
};

/** Text of 1 to `maxLength` UTF-16 units that matches `pattern` (anchored by the caller) and is well-formed. */
export function text(maxLength: number, pattern?: RegExp): Codec<string> {
  const fits = (v: string): boolean =>
    v.length >= 1 && v.length <= maxLength && v.isWellFormed() && (pattern?.test(v) ?? true);
  const expected = `text of 1 to ${maxLength} characters${pattern ? ` like ${pattern}` : ''}`;
  return {
    toCbor(value) {
      checked(fits(value), `a text that is not ${expected}`);
      return value;
    },
    read(input) {
      // A UTF-16 unit takes at most 3 bytes of UTF-8.
      const value = input.text(3 * maxLength, expected);
      return fits(value) ? value : fail(expected);
    },
  };
}

/** One of a fixed set of words. */
export function oneOf<const W extends readonly string[]>(words: W): Codec<W[number]> {
  const known: ReadonlySet<string> = new Set(words);
  const longest = Math.max(...words.map((word) => word.length));
  const expected = `one of ${words.join(', ')}`;
  return {
    toCbor(value) {
      checked(known.has(value), `the word ${value}`);
      return value;
    },
    read(input) {
      const value = input.text(longest, expected);
      return known.has(value) ? value : fail(expected);
    },
  };
}

/** `null` or a value. */
export function nullable<T>(item: Codec<T>): Codec<T | null> {
  return {
    toCbor: (value) => (value === null ? null : item.toCbor(value)),
    read: (input) => (input.takeNull() ? null : item.read(input)),
  };
}

/** A list of `min` to `max` items. */
export function list<T>(item: Codec<T>, max: number, min = 0): Codec<readonly T[]> {
  const expected = `${min} to ${max} items`;
  return {
    toCbor(value) {
      checked(value.length >= min && value.length <= max, `${value.length} items, not ${expected}`);
      return value.map((v) => item.toCbor(v));
    },
    read(input) {
      const length = input.array(min, max, expected);
      const items: T[] = [];
      try {
        while (items.length < length) items.push(item.read(input));
      } catch (error) {
        throw within(error, `${items.length}`);
      }
      return items;
    },
  };
}

type StructOf<F> = { readonly [K in keyof F]: TypeOf<F[K]> };

/** A structure, encoded as the array of its fields in the order in which they are written down here. */
export function struct<F extends Record<string, Codec<unknown>>>(fields: F): Codec<StructOf<F>> {
  const entries: readonly (readonly [string, Codec<unknown>])[] = Object.entries(fields);
  const expected = `${entries.length} fields`;
  return {
    toCbor: (value) => entries.map(([name, codec]) => codec.toCbor((value as Record<string, unknown>)[name])),
    read(input) {
      input.array(entries.length, entries.length, expected);
      const result: Record<string, unknown> = {};
      let at = 0;
      try {
        for (; at < entries.length; at += 1) {
          const [name, codec] = entries[at] as readonly [string, Codec<unknown>];
          result[name] = codec.read(input);
        }
      } catch (error) {
        throw within(error, entries[at]?.[0] ?? '');
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
  const longest = Math.max(...[...known.keys()].map((kind) => kind.length));
  const expected = `one of ${[...known.keys()].join(', ')}`;
  return {
    toCbor(value) {
      const codec = known.get(value.kind);
      checked(codec !== undefined, `the variant ${value.kind}`);
      return [value.kind, (codec as Codec<unknown>).toCbor(value)];
    },
    read(input) {
      input.array(2, 2, '[variant, fields]');
      const kind = input.text(longest, expected);
      const codec = known.get(kind);
      if (codec === undefined) fail(expected);
      try {
        return { kind, ...(codec.read(input) as object) } as UnionOf<V>;
      } catch (error) {
        throw within(error, `<${kind}>`);
      }
    },
  };
}

/** For recursive structures: at most 32 levels are read. Bounds of its own are set by whoever gives it a meaning. */
export function lazy<T>(get: () => Codec<T>): Codec<T> {
  return { toCbor: (value) => get().toCbor(value), read: (input) => input.nested(() => get().read(input)) };
}
