/**
 * The state as one block sees it: what was committed, and over it what the block has written so far. A transaction's
 * writes are journalled, so that one that fails leaves nothing. Values are encoded once per block.
 *
 * What must not go in: any rule. Values that it gives are shared and never changed in place.
 */
import { compareBytes } from '../common/bytes.ts';
import { type Codec, encode } from '../common/codec.ts';
import { assert } from '../common/errors.ts';
import { EntryCache, parentOf, textOf } from './entry-cache.ts';
import type { StateReader, StateWrite } from './types.ts';

interface Slot {
  readonly key: Uint8Array;
  /** undefined: there is no such entry any more. */
  readonly value: unknown;
  /** Null for a deleted entry. */
  readonly codec: Codec<unknown> | null;
  /** Whether the committed state is known to have the key. */
  readonly inBase: boolean;
}

export class Overlay {
  readonly base: EntryCache;
  /** What was written. Bounded by what a block's transactions touch: each touches a bounded number of entries. */
  readonly #slots = new Map<string, Slot>();
  /** Keys that were written under each parent, those included whose transaction failed. Listing looks at them alone. */
  readonly #children = new Map<string, Set<string>>();
  #journal: { readonly text: string; readonly before: Slot | undefined }[] = [];

  /** @param base a plain reader is read through a memory that ends with this block */
  constructor(base: StateReader) {
    this.base = base instanceof EntryCache ? base : new EntryCache(base);
  }

  get<T>(codec: Codec<T>, key: Uint8Array): T | undefined {
    const text = textOf(key);
    const written = this.#slots.get(text);
    return written === undefined ? this.base.entry(codec, key, text) : (written.value as T | undefined);
  }

  /** As `get`, where the entry's absence would be a bug of ours. */
  must<T>(codec: Codec<T>, key: Uint8Array, what: string): T {
    const value = this.get(codec, key);
    assert(value !== undefined, `the state has no ${what}`);
    return value;
  }

  put<T>(codec: Codec<T>, key: Uint8Array, value: T): void {
    this.#set({ key, value, codec, inBase: false });
  }

  /** @param inBase true where the caller knows that the committed state has the key */
  delete(key: Uint8Array, inBase = false): void {
    this.#set({ key, value: undefined, codec: null, inBase });
  }

  #set(slot: Slot): void {
    const text = textOf(slot.key);
    const before = this.#slots.get(text);
    this.#journal.push({ text, before });
    this.#slots.set(text, slot);
    const parent = parentOf(text);
    if (parent === undefined) return;
    const children = this.#children.get(parent);
    if (children === undefined) this.#children.set(parent, new Set([text]));
    else children.add(text);
  }

  /** Entries under `prefix` in order of their keys, this block's own included, at most `limit`. */
  list<T>(codec: Codec<T>, prefix: Uint8Array, limit: number): T[] {
    const prefixText = textOf(prefix);
    const parent = parentOf(prefixText);
    assert(parent !== undefined, 'this namespace is not listed during a block');
    const children = this.#children.get(parent);
    const committed = this.base.list(codec, prefix, prefixText, parent, limit + (children?.size ?? 0));
    if (children === undefined) return committed.slice(0, limit).map(({ value }) => value as T);
    const found = new Map<string, T>();
    for (const { text, value } of committed) found.set(text, value as T);
    for (const text of children) {
      const slot = this.#slots.get(text);
      if (slot === undefined || !text.startsWith(prefixText)) continue;
      if (slot.value === undefined) found.delete(text);
      else found.set(text, slot.value as T);
    }
    const sorted = [...found].sort(([a], [b]) => (a < b ? -1 : 1));
    return sorted.slice(0, limit).map(([, value]) => value);
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
    for (const [text, { key, value, codec, inBase }] of this.#slots) {
      if (codec !== null) writes.push({ key, value: encode(codec, value) });
      else if (inBase || this.base.has(key, text)) writes.push({ key, value: null });
    }
    return writes.sort((a, b) => compareBytes(a.key, b.key));
  }
}
