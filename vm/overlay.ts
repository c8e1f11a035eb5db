/**
 * The state as one block sees it: what was committed, and over it what the block has written so far. A transaction's
 * writes are journalled, so that one that fails leaves nothing. Values are decoded once and encoded once per block.
 *
 * What must not go in: any rule. Values that it gives are shared and never changed in place.
 */
import { compareBytes } from '../common/bytes.ts';
import { type Codec, decodeTrusted, encode } from '../common/codec.ts';
import { assert } from '../common/errors.ts';
import { prefixRange } from '../common/protocol/state-entries.ts';
import type { StateReader, StateWrite } from './types.ts';

interface Slot {
  readonly key: Uint8Array;
  /** undefined: there is no such entry. */
  readonly value: unknown;
  /** Null for a deleted or absent entry. */
  readonly codec: Codec<unknown> | null;
  readonly written: boolean;
  /** Whether the committed state has the key; null if that was not looked at. */
  readonly inBase: boolean | null;
}

/** The first entries of the committed state under a prefix, in order of their keys. */
interface Listed {
  readonly limit: number;
  readonly entries: readonly { readonly text: string; readonly value: unknown }[];
}

/**
 * Namespaces whose entries are listed while transactions run, and how many bytes of their keys name the parent. Keys
 * written under one parent are kept together: listing looks at them alone, not at the whole block's writes.
 */
const PARENT_BYTES: Readonly<Record<number, number>> = { 0x03: 1, 0x07: 1, 0x0b: 21, 0x13: 21, 0x42: 33, 0x71: 33 };

// Latin-1: one character per byte, so that the order of strings is the order of bytes. `apply`, since it takes a third of
// the time of a spread, and this runs for every entry that a rule touches. Keys have some 60 bytes.
const textOf = (key: Uint8Array): string => Reflect.apply(String.fromCharCode, null, key) as string;

export class Overlay {
  readonly base: StateReader;
  /** Bounded by what a block's transactions touch: each touches a bounded number of entries. */
  readonly #slots = new Map<string, Slot>();
  readonly #children = new Map<string, Set<string>>();
  /** Lists of the committed state, which stays as it is while a block runs; by prefix. Bounded as `#slots` is. */
  readonly #listed = new Map<string, Listed>();
  #journal: { readonly text: string; readonly before: Slot | undefined }[] = [];

  constructor(base: StateReader) {
    this.base = base;
  }

  get<T>(codec: Codec<T>, key: Uint8Array): T | undefined {
    const text = textOf(key);
    const known = this.#slots.get(text);
    if (known !== undefined) return known.value as T | undefined;
    const bytes = this.base.get(key);
    const value = bytes === undefined ? undefined : decodeTrusted(codec, bytes, 'state entry');
    this.#slots.set(text, {
      key,
      value,
      codec: bytes === undefined ? null : codec,
      written: false,
      inBase: bytes !== undefined,
    });
    return value;
  }

  /** As `get`, where the entry's absence would be a bug of ours. */
  must<T>(codec: Codec<T>, key: Uint8Array, what: string): T {
    const value = this.get(codec, key);
    assert(value !== undefined, `the state has no ${what}`);
    return value;
  }

  put<T>(codec: Codec<T>, key: Uint8Array, value: T): void {
    this.#set({ key, value, codec, written: true, inBase: null });
  }

  /** @param inBase true where the caller knows that the committed state has the key */
  delete(key: Uint8Array, inBase: true | null = null): void {
    this.#set({ key, value: undefined, codec: null, written: true, inBase });
  }

  #set(slot: Slot): void {
    const text = textOf(slot.key);
    const before = this.#slots.get(text);
    this.#journal.push({ text, before });
    this.#slots.set(text, before === undefined ? slot : { ...slot, inBase: before.inBase });
    const parentBytes = PARENT_BYTES[slot.key[0] as number];
    if (parentBytes === undefined) return;
    const parent = text.slice(0, parentBytes);
    const children = this.#children.get(parent);
    if (children === undefined) this.#children.set(parent, new Set([text]));
    else children.add(text);
  }

  /** Entries under `prefix` in order of their keys, this block's own included, at most `limit`. */
  list<T>(codec: Codec<T>, prefix: Uint8Array, limit: number): T[] {
    const parentBytes = PARENT_BYTES[prefix[0] as number];
    assert(parentBytes !== undefined && prefix.length >= parentBytes, 'this namespace is not listed during a block');
    const prefixText = textOf(prefix);
    const children = this.#children.get(prefixText.slice(0, parentBytes));
    const committed = this.#listCommitted(codec, prefix, prefixText, limit + (children?.size ?? 0));
    if (children === undefined) return committed.slice(0, limit).map(({ value }) => value as T);
    const found = new Map<string, T>();
    for (const { text, value } of committed) found.set(text, value as T);
    for (const text of children) {
      const slot = this.#slots.get(text);
      if (slot === undefined || !slot.written || !text.startsWith(prefixText)) continue;
      if (slot.value === undefined) found.delete(text);
      else found.set(text, slot.value as T);
    }
    const sorted = [...found].sort(([a], [b]) => (a < b ? -1 : 1));
    return sorted.slice(0, limit).map(([, value]) => value);
  }

  /** At least the first `limit` of them, or all. */
  #listCommitted(codec: Codec<unknown>, prefix: Uint8Array, prefixText: string, limit: number): Listed['entries'] {
    const known = this.#listed.get(prefixText);
    if (known !== undefined && (limit <= known.limit || known.entries.length < known.limit)) return known.entries;
    const entries = Array.from(this.base.range({ ...prefixRange(prefix), limit }), ({ key, value }) => ({
      text: textOf(key),
      value: decodeTrusted(codec, value, 'state entry'),
    }));
    this.#listed.set(prefixText, { limit, entries });
    return entries;
  }

  /** Ends a transaction that succeeded. */
  commit(): void {
    this.#journal = [];
  }

  /** Ends a transaction that failed: nothing of it stays. */
  rollback(): void {
    for (let i = this.#journal.length - 1; i >= 0; i -= 1) {
      const { text, before } = this.#journal[i] as { text: string; before: Slot | undefined };
      if (before === undefined) this.#slots.delete(text);
      else this.#slots.set(text, before);
    }
    this.#journal = [];
  }

  /** Everything written, sorted by key. Entries that came and went within the block are left out. */
  writes(): StateWrite[] {
    const writes: StateWrite[] = [];
    for (const { key, value, codec, written, inBase } of this.#slots.values()) {
      if (!written) continue;
      if (codec !== null) writes.push({ key, value: encode(codec, value) });
      else if (inBase ?? this.base.get(key) !== undefined) writes.push({ key, value: null });
    }
    return writes.sort((a, b) => compareBytes(a.key, b.key));
  }
}
