/**
 * Typed reads of the authenticated state over the port: several queries, one height, values decoded.
 * Knows keys and codecs, nothing of scopes.
 */
import { type Codec, decodeTrusted } from '../common/codec.ts';
import { assert } from '../common/errors.ts';
import { prefixRange } from '../common/protocol/state-entries.ts';
import { toHex } from './json.ts';
import type { ChainPosition, StateAnswer, StatePort, StateQuery } from './ports.ts';
import type { Hex } from './schema.ts';

/** A query together with how its answer is read. */
export interface TypedQuery<R> {
  readonly query: StateQuery;
  read(answer: StateAnswer): R;
}

export interface Entry<T> {
  readonly key: Uint8Array;
  readonly value: T;
}

export interface Listed<T> {
  readonly entries: readonly Entry<T>[];
  readonly more: boolean;
  readonly proof: Uint8Array | null;
}

export interface Proven<T> {
  readonly value: T | null;
  readonly proof: Uint8Array | null;
}

/** The entry at `key`, null if there is none. */
export function get<T>(codec: Codec<T>, key: Uint8Array): TypedQuery<T | null> {
  const proven = getProven(codec, key, false);
  return { query: proven.query, read: (answer) => proven.read(answer).value };
}

/** As `get`, with the proof if `prove`. */
export function getProven<T>(codec: Codec<T>, key: Uint8Array, prove: boolean): TypedQuery<Proven<T>> {
  return {
    query: { kind: 'get', key, prove },
    read(answer) {
      assert(answer.kind === 'get', 'the state answers what it was asked');
      const { value, proof } = answer;
      return { value: value === null ? null : decodeTrusted(codec, value, 'state entry'), proof };
    },
  };
}

export interface ListOptions {
  /** Entries at most, 1 to 1,000. */
  readonly limit: number;
  /** Begin behind this key. */
  readonly after?: Uint8Array | null;
  readonly prove?: boolean;
}

/** Entries whose key begins with `prefix`, ascending. */
export function list<T>(codec: Codec<T>, prefix: Uint8Array, options: ListOptions): TypedQuery<Listed<T>> {
  const range = prefixRange(prefix);
  const gte = options.after ? successor(options.after) : range.gte;
  return {
    query: { kind: 'range', gte, lt: range.lt, limit: options.limit, prove: options.prove ?? false },
    read(answer) {
      assert(answer.kind === 'range', 'the state answers what it was asked');
      const entries = answer.entries.map(({ key, value }) => ({
        key,
        value: decodeTrusted(codec, value, 'state entry'),
      }));
      return { entries, more: answer.more, proof: answer.proof };
    },
  };
}

/** The first key behind `key`. */
function successor(key: Uint8Array): Uint8Array {
  const next = new Uint8Array(key.length + 1);
  next.set(key);
  return next;
}

type Results<Q> = { readonly [K in keyof Q]: Q[K] extends TypedQuery<infer R> ? R : never };

export interface At {
  readonly atHeight: number;
  readonly atHash: Hex;
}

export const atOf = (position: ChainPosition): At => ({ atHeight: position.height, atHash: toHex(position.hash) });

export class StateReads {
  readonly #port: StatePort;

  constructor(port: StatePort) {
    this.#port = port;
  }

  /** All answers stand at the same block. */
  async read<const Q extends readonly TypedQuery<unknown>[]>(
    ...queries: Q
  ): Promise<{ readonly at: ChainPosition; readonly results: Results<Q> }> {
    const { at, answers } = await this.#port.read(queries.map(({ query }) => query));
    assert(answers.length === queries.length, 'the state answers every query');
    const results = queries.map((query, index) => query.read(answers[index] as StateAnswer));
    return { at, results: results as unknown as Results<Q> };
  }
}
