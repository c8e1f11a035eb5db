/**
 * Which sets of organisations the operator of a hospital has confirmed, in the file DIR/custody-confirmed: a hash of
 * `custodySetHash` a line, in hex. The custodian hands its share on to no other set; the command line adds lines.
 */
import { join } from 'node:path';
import { bytesToHex0x, parseHex, parseHex0x, parseUtf8, utf8 } from '../bytes.ts';
import { EmrError } from '../errors.ts';
import { type Hash, HASH_BYTES } from '../protocol/primitives.ts';
import { readSecretFile, writeSecretFile } from './secret-file.ts';

/** Some thousand sets. */
const MAX_CONFIRMED_BYTES = 64 * 1024;

export const confirmedFile = (dir: string): string => join(dir, 'custody-confirmed');

/**
 * @returns the hashes, in lower-case hex with 0x; none where there is no file
 * @throws EmrError CUSTODY_CONFIRMED_INVALID, and those of secret files: who else can write there could confirm
 */
export async function readConfirmedSets(dir: string): Promise<ReadonlySet<string>> {
  const path = confirmedFile(dir);
  const found = await readSecretFile(path, MAX_CONFIRMED_BYTES).catch((error: unknown) => {
    if (error instanceof EmrError && error.code === 'SECRET_FILE_NOT_FOUND') return new Uint8Array(0);
    throw error;
  });
  const lines = (parseUtf8(found) ?? '?').split('\n').map((line) => line.trim());
  const hashes = lines.filter((line) => line !== '').map((line) => parseHashText(line));
  if (hashes.includes(undefined)) {
    throw new EmrError(
      'CUSTODY_CONFIRMED_INVALID',
      `${path} has a line that is no hash of 64 hexadecimal digits; correct it, or remove the file and confirm again.`,
      { path },
    );
  }
  return new Set(hashes.map((hash) => bytesToHex0x(hash as Hash)));
}

/** Adds a set. @throws EmrError as above */
export async function confirmSet(dir: string, setHash: Hash): Promise<void> {
  const known = new Set(await readConfirmedSets(dir)).add(bytesToHex0x(setHash));
  await writeSecretFile(confirmedFile(dir), utf8([...known, ''].join('\n')), true);
}

const parseHashText = (text: string): Hash | undefined =>
  text.startsWith('0x') ? parseHex0x(text, HASH_BYTES) : parseHex(text, HASH_BYTES);
