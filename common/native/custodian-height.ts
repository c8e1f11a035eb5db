/** The newest height that a hospital's custodian has seen proven, in a file of its own: DIR/custodian-height. */
import { parseUtf8, utf8 } from '../bytes.ts';
import { EmrError } from '../errors.ts';
import { readSecretFile, writeSecretFile } from './secret-file.ts';

const MAX_MEMORY_BYTES = 32;

/**
 * @returns 0 where there is no file: a custodian that has seen nothing yet
 * @throws EmrError CUSTODIAN_MEMORY when the file holds no height, and those of secret files
 */
export async function readCustodianHeight(path: string): Promise<number> {
  const found = await readSecretFile(path, MAX_MEMORY_BYTES).catch((error: unknown) => {
    if (error instanceof EmrError && error.code === 'SECRET_FILE_NOT_FOUND') return utf8('0');
    throw error;
  });
  const text = parseUtf8(found) ?? '';
  const height = Number(text);
  // An empty file is what a crash of the machine, or an attacker, leaves: it must not count as height 0.
  if (/^(0|[1-9][0-9]{0,15})\n?$/.test(text) && Number.isSafeInteger(height)) return height;
  throw new EmrError(
    'CUSTODIAN_MEMORY',
    `${path} does not hold a height; restore it, or write the chain's current height into it`,
  );
}

/** Resolves once it is durable. @throws EmrError those of secret files */
export const writeCustodianHeight = (path: string, height: number): Promise<void> =>
  writeSecretFile(path, utf8(String(height)), true);
