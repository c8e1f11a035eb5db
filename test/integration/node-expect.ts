/** Small expectations that several tests of the node share. */
import type { Verdict } from '../../common/errors.ts';

/** The code of a verdict that must be a refusal. */
export function mustFail(verdict: Verdict<unknown>): string {
  return verdict.ok ? 'accepted' : verdict.code;
}

/** A copy with one bit the other way; bit 0 is the highest of the first byte. */
export function flipBit(bytes: Uint8Array, bit: number): Uint8Array {
  const copy = bytes.slice();
  const at = Math.floor(bit / 8);
  copy[at] = (copy[at] as number) ^ (0x80 >>> (bit % 8));
  return copy;
}
