/**
 * Signed transactions in a file, in the order in which they are sent: for each, the node's number, its hash, and the bytes
 * of transaction and sidecar.
 */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { concatBytes, readU32be, u32be } from '../../../common/bytes.ts';
import type { SignedBytes } from './transactions.ts';

export interface LoadEntry extends SignedBytes {
  /** Index of the node that it is given to. */
  readonly node: number;
}

const HEAD_BYTES = 4 + 32 + 4 + 4;
const NONE = new Uint8Array(0);
const FLUSH_ENTRIES = 1_000;

/** @returns how many were written */
export function writeLoad(path: string, entries: Iterable<LoadEntry>): number {
  const file = openSync(path, 'w', 0o600);
  let parts: Uint8Array[] = [];
  let count = 0;
  const flush = (): void => {
    writeSync(file, concatBytes(...parts));
    parts = [];
  };
  try {
    for (const { node, hash, bytes, sidecar } of entries) {
      const beside = sidecar ?? NONE;
      parts.push(u32be(node), hash, u32be(bytes.length), u32be(beside.length), bytes, beside);
      count += 1;
      if (count % FLUSH_ENTRIES === 0) flush();
    }
    flush();
    return count;
  } finally {
    closeSync(file);
  }
}

export function readLoad(path: string): LoadEntry[] {
  const file = new Uint8Array(readFileSync(path));
  const entries: LoadEntry[] = [];
  for (let at = 0; at < file.length;) {
    const node = readU32be(file, at) ?? 0;
    const hash = file.subarray(at + 4, at + 36);
    const length = readU32be(file, at + 36) ?? 0;
    const beside = readU32be(file, at + 40) ?? 0;
    const bytes = file.subarray(at + HEAD_BYTES, at + HEAD_BYTES + length);
    at += HEAD_BYTES + length + beside;
    entries.push({ node, hash, bytes, sidecar: beside === 0 ? null : file.subarray(at - beside, at) });
  }
  return entries;
}
