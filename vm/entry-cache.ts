/**
 * A committed state as the rules read it: entries and listings decoded once, and kept for the blocks that follow. What it
 * gives is always what decoding the committed bytes gives: a node that has an entry in memory and one that has just
 * started must not differ. That is why a block's own values are not taken over, only the bytes that it committed.
 *
 * What must not go in: values of blocks that are not committed. What it gives is shared and never changed in place.
 */
import { type Codec, decodeTrusted } from '../common/codec.ts';
import { prefixRange } from '../common/protocol/state-entries.ts';
import type { StateReader, StateWrite } from './types.ts';

/** Memory of each of the two generations of entries, and of each of the two of listings. */
const ENTRY_BYTES = 16 * 1024 * 1024;
const LISTING_BYTES = 4 * 1024 * 1024;
/** What an entry takes beside its value: its key as text, its place in the map, its object. */
const KNOWN_BYTES = 250;
/** A decoded value takes some so many times its encoding: fields of 20 to 64 bytes are objects of their own. */
const DECODED_FACTOR = 8;

/**
 * Namespaces whose entries are listed while transactions run, and how many bytes of their keys name the parent. Keys
 * under one parent are kept together: a write under it touches its listings alone.
 */
const PARENT_BYTES: Readonly<Record<number, number>> = { 0x03: 1, 0x07: 1, 0x0b: 21, 0x13: 21, 0x42: 33, 0x71: 33 };

/**
 * Latin-1: one character per byte, so that the order of strings is the order of bytes. `apply`, since it takes a third of
 * the time of a spread, and this runs for every entry that a rule touches. Keys have some 60 bytes.
 */
export const textOf = (key: Uint8Array): string => Reflect.apply(String.fromCharCode, null, key) as string;

/** The part of a key or prefix that names its parent; undefined where nothing is listed, or a prefix is too short. */
export function parentOf(text: string): string | undefined {
  const parentBytes = PARENT_BYTES[text.charCodeAt(0)];
  return parentBytes === undefined || text.length < parentBytes ? undefined : text.slice(0, parentBytes);
}

type Known = { readonly sizeBytes: number } & (
  | { readonly kind: 'absent' }
  | { readonly kind: 'encoded'; readonly bytes: Uint8Array }
  | { readonly kind: 'decoded'; readonly codec: Codec<unknown>; readonly value: unknown }
);

const ABSENT: Known = { kind: 'absent', sizeBytes: KNOWN_BYTES };

/** The first entries under a prefix, in order of their keys. */
interface Listing {
  readonly sizeBytes: number;
  readonly codec: Codec<unknown>;
  readonly limit: number;
  readonly entries: readonly { readonly text: string; readonly value: unknown }[];
}

/** All listings under one parent, by prefix. */
interface Listings {
  readonly sizeBytes: number;
  readonly byPrefix: ReadonlyMap<string, Listing>;
}

/** Two generations: what was not used while one filled goes with the next. */
class Generations<T extends { readonly sizeBytes: number }> {
  readonly #limitBytes: number;
  #young = new Map<string, T>();
  #old = new Map<string, T>();
  #youngBytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get(text: string): T | undefined {
    const young = this.#young.get(text);
    if (young !== undefined) return young;
    const old = this.#old.get(text);
    if (old !== undefined) this.set(text, old);
    return old;
  }

  has(text: string): boolean {
    return this.#young.has(text) || this.#old.has(text);
  }

  set(text: string, value: T): void {
    if (this.#youngBytes >= this.#limitBytes) {
      this.#old = this.#young;
      this.#young = new Map();
      this.#youngBytes = 0;
    }
    this.#youngBytes += value.sizeBytes - (this.#young.get(text)?.sizeBytes ?? 0);
    this.#young.set(text, value);
  }

  delete(text: string): void {
    this.#youngBytes -= this.#young.get(text)?.sizeBytes ?? 0;
    this.#young.delete(text);
    this.#old.delete(text);
  }
}

export class EntryCache implements StateReader {
  readonly #reader: StateReader;
  #entries = new Generations<Known>(ENTRY_BYTES);
  #listings = new Generations<Listings>(LISTING_BYTES);

  /**
   * @param reader the state, which stays as it is
   * @param from the state before the last block, and all that this block wrote: what that has in memory comes over, and it
   * begins anew
   */
  constructor(reader: StateReader, from?: { readonly before: EntryCache; readonly writes: readonly StateWrite[] }) {
    this.#reader = reader;
    if (from === undefined) return;
    const { before, writes } = from;
    this.#entries = before.#entries;
    this.#listings = before.#listings;
    before.#entries = new Generations(ENTRY_BYTES);
    before.#listings = new Generations(LISTING_BYTES);
    for (const write of writes) this.#write(write);
  }

  #write({ key, value }: StateWrite): void {
    const text = textOf(key);
    const parent = parentOf(text);
    if (parent !== undefined) this.#listings.delete(parent);
    // What nobody has read so far, such as audit entries, does not come into memory by being written.
    if (!this.#entries.has(text)) return;
    const known: Known =
      value === null ? ABSENT : { kind: 'encoded', bytes: value, sizeBytes: KNOWN_BYTES + value.length };
    this.#entries.set(text, known);
  }

  get(key: Uint8Array): Uint8Array | undefined {
    return this.#reader.get(key);
  }

  range(query: Parameters<StateReader['range']>[0]): ReturnType<StateReader['range']> {
    return this.#reader.range(query);
  }

  /**
   * The decoded entry, or undefined where there is none.
   * @param text `textOf(key)`
   * @throws InvariantError where the state's bytes are not of this codec
   */
  entry<T>(codec: Codec<T>, key: Uint8Array, text: string): T | undefined {
    const known = this.#entries.get(text);
    if (known?.kind === 'absent') return undefined;
    if (known?.kind === 'decoded' && known.codec === codec) return known.value as T;
    const bytes = known?.kind === 'encoded' ? known.bytes : this.#reader.get(key);
    if (bytes === undefined) {
      this.#entries.set(text, ABSENT);
      return undefined;
    }
    const value = decodeTrusted(codec, bytes, 'state entry');
    this.#entries.set(text, { kind: 'decoded', codec, value, sizeBytes: KNOWN_BYTES + DECODED_FACTOR * bytes.length });
    return value;
  }

  /** Whether there is such an entry. @param text `textOf(key)` */
  has(key: Uint8Array, text: string): boolean {
    const known = this.#entries.get(text);
    return known === undefined ? this.#reader.get(key) !== undefined : known.kind !== 'absent';
  }

  /**
   * At least the first `limit` entries under `prefix` in order of their keys, or all; with the text of their keys.
   * @param prefixText `textOf(prefix)`
   * @param parent `parentOf(prefixText)`
   * @throws InvariantError where the state's bytes are not of this codec
   */
  list(
    codec: Codec<unknown>,
    prefix: Uint8Array,
    prefixText: string,
    parent: string,
    limit: number,
  ): Listing['entries'] {
    const siblings = this.#listings.get(parent);
    const known = siblings?.byPrefix.get(prefixText);
    const suffices = known !== undefined && (limit <= known.limit || known.entries.length < known.limit);
    if (suffices && known.codec === codec) return known.entries;
    let sizeBytes = KNOWN_BYTES;
    const entries = Array.from(this.#reader.range({ ...prefixRange(prefix), limit }), ({ key, value }) => {
      sizeBytes += KNOWN_BYTES + DECODED_FACTOR * value.length;
      return { text: textOf(key), value: decodeTrusted(codec, value, 'state entry') };
    });
    const others = (siblings?.sizeBytes ?? 0) - (known?.sizeBytes ?? 0);
    const byPrefix = new Map(siblings?.byPrefix).set(prefixText, { sizeBytes, codec, limit, entries });
    this.#listings.set(parent, { sizeBytes: others + sizeBytes, byPrefix });
    return entries;
  }
}
