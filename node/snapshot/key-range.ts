/** Dividing the key space among those who are asked for it. Only where pieces end is decided here; proofs say what is in them. */
import { compareBytes, concatBytes, readU32be, u32be } from '../../common/bytes.ts';
import { MAX_STATE_KEY_BYTES } from '../../common/protocol/state-tree.ts';
import type { KeyRange } from './wire.ts';

/** Bytes beyond what both ends have in common that a middle is looked for in. */
const LOOKED_AT_BYTES = 4;

function wordAt(key: Uint8Array | null, at: number): number {
  if (key === null) return 0xffff_ffff;
  const padded = new Uint8Array(LOOKED_AT_BYTES);
  padded.set(key.subarray(at, at + LOOKED_AT_BYTES));
  return readU32be(padded, 0) as number;
}

function sharedBytes(a: Uint8Array, b: Uint8Array): number {
  const differs = a.findIndex((byte, index) => byte !== b[index]);
  return differs === -1 ? a.length : differs;
}

/** A key about in the middle of a range; null where the ends are too near to each other. */
export function middleOf({ gte, lt }: KeyRange): Uint8Array | null {
  const shared = lt === null ? 0 : sharedBytes(gte, lt);
  if (shared + LOOKED_AT_BYTES > MAX_STATE_KEY_BYTES) return null;
  const [low, high] = [wordAt(gte, shared), wordAt(lt, shared)];
  const middle = low + Math.floor((high - low) / 2);
  return middle <= low ? null : concatBytes(gte.subarray(0, shared), u32be(middle));
}

/** Whether a range that begins where `whole` does and ends at `lt` is some of it. */
export function endsWithin(whole: KeyRange, lt: Uint8Array | null): boolean {
  if (lt === null) return whole.lt === null;
  if (compareBytes(whole.gte, lt) >= 0) return false;
  return whole.lt === null || compareBytes(lt, whole.lt) <= 0;
}
