/** A cache of entries whose values nobody can change unseen: objects are frozen, bytes held against what they were at first. */
import { bytesToHex } from '../../common/bytes.ts';
import type { Codec } from '../../common/codec.ts';
import { assert } from '../../common/errors.ts';
import { EntryCache } from '../../vm/index.ts';

const seen = new WeakMap<Uint8Array, string>();

function freeze(value: unknown): void {
  if (typeof value !== 'object' || value === null) return;
  if (value instanceof Uint8Array) {
    const hex = bytesToHex(value);
    assert((seen.get(value) ?? hex) === hex, 'bytes of a shared value were changed in place');
    seen.set(value, hex);
    return;
  }
  Object.freeze(value);
  Object.values(value).forEach(freeze);
}

export class FrozenEntries extends EntryCache {
  override entry<T>(codec: Codec<T>, key: Uint8Array, text: string): T | undefined {
    const value = super.entry(codec, key, text);
    freeze(value);
    return value;
  }

  override list(...asked: Parameters<EntryCache['list']>): ReturnType<EntryCache['list']> {
    const entries = super.list(...asked);
    freeze(entries);
    return entries;
  }
}
