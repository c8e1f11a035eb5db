/**
 * A small builder of JSON Schemas that carry their TypeScript type: one declaration gives the validator of a request,
 * the OpenRPC document and the types that client and server are compiled against. Knows no method.
 */

export type JsonSchema = { readonly [keyword: string]: unknown };

declare const typeTag: unique symbol;

/** `json` is JSON Schema draft 7, the one of OpenRPC. The type exists for the compiler alone. */
export interface Schema<T> {
  readonly json: JsonSchema;
  readonly [typeTag]?: T;
}

/** A property that may be left out. */
export interface OptionalSchema<T> extends Schema<T> {
  readonly optional: true;
}

export type Static<S> = S extends Schema<infer T> ? T : never;

export type Properties = Readonly<Record<string, Schema<unknown>>>;

type OptionalKeys<P> = { [K in keyof P]: P[K] extends { readonly optional: true } ? K : never }[keyof P];

type Flat<T> = { readonly [K in keyof T]: T[K] };

/** Optional properties may be absent or undefined: JSON.stringify leaves both out. */
export type ObjectOf<P> = Flat<
  { readonly [K in Exclude<keyof P, OptionalKeys<P>>]: Static<P[K]> } & {
    readonly [K in OptionalKeys<P>]?: Static<P[K]> | undefined;
  }
>;

/** Bytes as 0x-prefixed lower-case hex. */
export type Hex = `0x${string}`;

const schema = <T>(json: JsonSchema): Schema<T> => ({ json });

export function isOptional(value: Schema<unknown>): boolean {
  return 'optional' in value;
}

export function describe<S extends Schema<unknown>>(description: string, value: S): S {
  return { ...value, json: { ...value.json, description } };
}

export function optional<T>(value: Schema<T>): OptionalSchema<T> {
  return { json: value.json, optional: true };
}

/** Exactly `byteLength` bytes. */
export function hex(byteLength: number, description?: string): Schema<Hex> {
  return schema({
    type: 'string',
    pattern: `^0x[0-9a-f]{${byteLength * 2}}$`,
    ...(description === undefined ? {} : { description }),
  });
}

/** From `min` to `max` bytes. */
export function hexUpTo(maxBytes: number, minBytes = 0): Schema<Hex> {
  // One length check and one linear pattern: a counted repetition of tens of thousands would be compiled as such.
  return schema({
    type: 'string',
    minLength: 2 + 2 * minBytes,
    maxLength: 2 + 2 * maxBytes,
    pattern: '^0x(?:[0-9a-f]{2})*$',
  });
}

/** An integer from `min` to `max`; JSON numbers such as 1.0 are the integer 1, 1.5 is refused. */
export function integer(min = 0, max: number = Number.MAX_SAFE_INTEGER): Schema<number> {
  return schema({ type: 'integer', minimum: min, maximum: max });
}

export const bool: Schema<boolean> = schema({ type: 'boolean' });

/** Text of a request: `maxLength` bounds it in UTF-16 units. */
export function text(maxLength: number, pattern?: string): Schema<string> {
  return schema({ type: 'string', maxLength, ...(pattern === undefined ? {} : { pattern }) });
}

export function words<const W extends readonly string[]>(all: W): Schema<W[number]> {
  return schema({ type: 'string', enum: all });
}

export function nullable<T>(value: Schema<T>): Schema<T | null> {
  return schema({ anyOf: [value.json, { type: 'null' }] });
}

export function list<T>(item: Schema<T>, maxItems?: number): Schema<readonly T[]> {
  return schema({ type: 'array', items: item.json, ...(maxItems === undefined ? {} : { maxItems }) });
}

/** Values by free key. */
export function record<T>(item: Schema<T>): Schema<Readonly<Record<string, T>>> {
  return schema({ type: 'object', additionalProperties: item.json });
}

/** No property beside the ones named. */
export function object<const P extends Properties>(properties: P): Schema<ObjectOf<P>> {
  const names = Object.keys(properties);
  return schema({
    type: 'object',
    additionalProperties: false,
    required: names.filter((name) => !isOptional(properties[name] as Schema<unknown>)),
    properties: Object.fromEntries(names.map((name) => [name, (properties[name] as Schema<unknown>).json])),
  });
}

/** One of several shapes. */
export function either<A, B>(first: Schema<A>, second: Schema<B>): Schema<A | B> {
  return schema({ anyOf: [first.json, second.json] });
}

/**
 * A protocol structure in its JSON form (json.ts). Its type is that of common/protocol, whose codec has checked it; the
 * schema only says that it is an object with these properties.
 */
export function structure<T>(name: string, required: readonly string[]): Schema<T> {
  const properties = Object.fromEntries(required.map((property) => [property, {}]));
  return schema({ type: 'object', title: name, required, properties });
}
