/**
 * Signatures in memory that two threads share: what is to be verified, one behind the other, and a byte for each verdict.
 * Who may write when is the business of those who exchange messages about it.
 */
import { readU32be, writeU32be } from '../../common/bytes.ts';
import { PUBLIC_KEY_BYTES } from '../../common/crypto/curve.ts';
import { SIGNATURE_BYTES, type Sm2Verification } from '../../common/crypto/sm2.ts';
import { assert } from '../../common/errors.ts';

/** Signatures of one batch: a few milliseconds of work, many times what handing it over costs. */
export const MAX_BATCH_ITEMS = 64;
/** The largest transaction has 16 KiB, and most have 300 bytes. */
export const BATCH_BYTES = 128 * 1024;

const ITEMS_AT = MAX_BATCH_ITEMS;
const LENGTH_BYTES = 4;
const HEAD_BYTES = LENGTH_BYTES + PUBLIC_KEY_BYTES + SIGNATURE_BYTES;

/** @returns how many of the items are written, from the first on: as many as fit */
export function writeItems(memory: Uint8Array, items: readonly Sm2Verification[]): number {
  let at = ITEMS_AT;
  let count = 0;
  for (const { publicKey, signature, message } of items) {
    const isUsual = publicKey.length === PUBLIC_KEY_BYTES && signature.length === SIGNATURE_BYTES;
    if (!isUsual || count === MAX_BATCH_ITEMS || at + HEAD_BYTES + message.length > memory.length) break;
    writeU32be(memory, at, message.length);
    memory.set(publicKey, at + LENGTH_BYTES);
    memory.set(signature, at + LENGTH_BYTES + PUBLIC_KEY_BYTES);
    memory.set(message, at + HEAD_BYTES);
    at += HEAD_BYTES + message.length;
    count += 1;
  }
  return count;
}

/** Views into the memory. */
export function readItems(memory: Uint8Array, count: number): Sm2Verification[] {
  let at = ITEMS_AT;
  return Array.from({ length: count }, () => {
    const length = readU32be(memory, at);
    assert(length !== undefined && at + HEAD_BYTES + length <= memory.length, 'a shared batch is not whole');
    const keyAt = at + LENGTH_BYTES;
    const signatureAt = keyAt + PUBLIC_KEY_BYTES;
    at += HEAD_BYTES + length;
    return {
      publicKey: memory.subarray(keyAt, signatureAt),
      signature: memory.subarray(signatureAt, at - length),
      message: memory.subarray(at - length, at),
    };
  });
}

export function writeVerdicts(memory: Uint8Array, verdicts: readonly boolean[]): void {
  verdicts.forEach((valid, index) => {
    memory[index] = valid ? 1 : 0;
  });
}

export function readVerdicts(memory: Uint8Array, count: number): boolean[] {
  return Array.from(memory.subarray(0, count), (verdict) => verdict === 1);
}
