/**
 * The one canonical encoding of everything that is hashed, signed, sent or stored: dag-cbor, by small typed codecs.
 *
 * Structures are encoded as arrays in field order: compact, and no key order to get wrong. Decoding is strict: bytes
 * that are not exactly their own canonical encoding are refused, so one value has one encoding and one hash.
 * What must not go in here: knowledge of any particular message.
 */
import { CborReader, Malformed, Words } from './cbor-reader.ts';
import { CborWriter } from './cbor-writer.ts';
import { accept, InvariantError, reject, type Verdict } from './errors.ts';

export interface Codec<T> {
  /** Writes one item. Throws `InvariantError` if `value` breaks its own bounds: our own bug. */
  write(value: T, output: CborWriter): void;
  /** The next item of untrusted bytes. Throws `Malformed`, which `decode` turns into a verdict. */
  read(input: CborReader): T;
}

/** Of a structure: what is read can be put into an object that has something already. */
interface Fields {
  readInto(input: CborReader, into: Record<string, unknown>): void;
}

export type TypeOf<C> = C extends Codec<infer T> ? T : never;

/** Encodes `value`. Throws `InvariantError` when it is out of its codec's bounds. */
export function encode<T>(codec: Codec<T>, value: T): Uint8Array {
  writer.clear();
  codec.write(value, writer);
  return writer.take();
}

/** One for all: to write is synchronous, and no codec encodes anything by itself. */
const writer = new CborWriter();

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

function refuse(what: string): never {
  throw new InvariantError(`refusing to encode ${what}`);
}

/** Exactly `length` bytes. */
export function bytes(length: number): Codec<Uint8Array> {
  return boundedBytes(length, length);
}

/** Between `min` and `max` bytes. */
export function boundedBytes(min: number, max: number): Codec<Uint8Array> {
  const expected = min === max ? `${min} bytes` : `${min} to ${max} bytes`;
  return {
    write(value, output) {
      if (!(value instanceof Uint8Array) || value.length < min || value.length > max) {
        refuse(`${(value as Uint8Array | undefined)?.length} bytes, not ${expected}`);
      }
      output.bytes(value);
    },
    read: (input) => input.bytes(min, max, expected),
  };
}

/** An integer from 0 to `max` (at most 2^53 - 1). */
export function uint(max: number = Number.MAX_SAFE_INTEGER): Codec<number> {
  const expected = `an integer 0 to ${max}`;
  return {
    write(value, output) {
      if (!Number.isSafeInteger(value) || value < 0 || value > max) refuse(`${value} as ${expected}`);
      output.uint(value);
    },
    read(input) {
      const value = input.uint(expected);
      return value <= max ? value : fail(expected);
    },
  };
}

export const bool: Codec<boolean> = {
  write: (value, output) => output.bool(value),
  read: (input) => input.bool(),
};

/** Text of 1 to `maxLength` UTF-16 units that matches `pattern` (anchored by the caller) and is well-formed. */
export function text(maxLength: number, pattern?: RegExp): Codec<string> {
  const fits = (v: string): boolean =>
    v.length >= 1 && v.length <= maxLength && v.isWellFormed() && (pattern?.test(v) ?? true);
  const expected = `text of 1 to ${maxLength} characters${pattern ? ` like ${pattern}` : ''}`;
  return {
    write(value, output) {
      if (!fits(value)) refuse(`a text that is not ${expected}`);
      output.text(value);
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
  const known = new Words(words);
  const expected = `one of ${words.join(', ')}`;
  return {
    write(value, output) {
      if (!words.includes(value)) refuse(`the word ${value}`);
      output.text(value);
    },
    read: (input) => words[input.word(known, expected)] as W[number],
  };
}

/** `null` or a value. */
export function nullable<T>(item: Codec<T>): Codec<T | null> {
  return {
    write: (value, output) => (value === null ? output.null() : item.write(value, output)),
    read: (input) => (input.takeNull() ? null : item.read(input)),
  };
}

/** A list of `min` to `max` items. */
export function list<T>(item: Codec<T>, max: number, min = 0): Codec<readonly T[]> {
  const expected = `${min} to ${max} items`;
  return {
    write(value, output) {
      if (value.length < min || value.length > max) refuse(`${value.length} items, not ${expected}`);
      output.array(value.length);
      for (const each of value) item.write(each, output);
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
  const names: readonly string[] = Object.keys(fields);
  const codecs: readonly Codec<unknown>[] = Object.values(fields);
  const { length } = names;
  const expected = `${length} fields`;
  const codec: Codec<StructOf<F>> & Fields = {
    write(value, output) {
      output.array(length);
      for (let at = 0; at < length; at += 1) {
        (codecs[at] as Codec<unknown>).write((value as Record<string, unknown>)[names[at] as string], output);
      }
    },
    read(input) {
      const result: Record<string, unknown> = {};
      codec.readInto(input, result);
      return result as StructOf<F>;
    },
    readInto(input, into) {
      input.array(length, length, expected);
      let at = 0;
      try {
        for (; at < length; at += 1) into[names[at] as string] = (codecs[at] as Codec<unknown>).read(input);
      } catch (error) {
        throw within(error, names[at] ?? '');
      }
    },
  };
  return codec;
}

type Variants = Record<string, Codec<unknown>>;
type UnionOf<V> = { [K in keyof V & string]: { readonly kind: K } & TypeOf<V[K]> }[keyof V & string];

/** A tagged union of structures, encoded as `[tag, structure]`; in TypeScript the structure's fields beside `kind`. */
export function union<V extends Variants>(variants: V): Codec<UnionOf<V>> {
  const kinds = Object.keys(variants);
  const codecs = Object.values(variants) as (Codec<unknown> & Partial<Fields>)[];
  const known = new Words(kinds);
  const expected = `one of ${kinds.join(', ')}`;
  return {
    write(value, output) {
      const codec = codecs[kinds.indexOf(value.kind)] ?? refuse(`the variant ${value.kind}`);
      output.array(2);
      output.text(value.kind);
      codec.write(value, output);
    },
    read(input) {
      input.array(2, 2, '[variant, fields]');
      const index = input.word(known, expected);
      const [kind, codec] = [kinds[index] as string, codecs[index] as Codec<unknown> & Partial<Fields>];
      try {
        if (codec.readInto === undefined) return { kind, ...(codec.read(input) as object) } as UnionOf<V>;
        const result: Record<string, unknown> = { kind };
        codec.readInto(input, result);
        return result as UnionOf<V>;
      } catch (error) {
        throw within(error, `<${kind}>`);
      }
    },
  };
}

/** For recursive structures: at most 32 levels are read. Bounds of its own are set by whoever gives it a meaning. */
export function lazy<T>(get: () => Codec<T>): Codec<T> {
  return {
    write: (value, output) => get().write(value, output),
    read: (input) => input.nested(() => get().read(input)),
  };
}
