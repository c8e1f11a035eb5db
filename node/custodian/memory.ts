/**
 * What the custodian remembers over a restart: the newest height that it has seen proven, in a file of its own. Without
 * it, restarting the custodian would be a way to show it a state from before a revocation.
 */
import { parseUtf8, utf8 } from '../../common/bytes.ts';
import { EmrError } from '../../common/errors.ts';
import { readSecretFile, writeSecretFile } from '../../common/native/secret-file.ts';

export interface CustodianMemory {
  readonly seenHeight: number;
  /** Resolves once this height, or a higher one, is durable. */
  remember(height: number): Promise<void>;
}

const MAX_MEMORY_BYTES = 32;

/** @throws EmrError CUSTODIAN_MEMORY when the file holds no height, and those of secret files */
export async function openMemory(path: string): Promise<CustodianMemory> {
  const found = await readSecretFile(path, MAX_MEMORY_BYTES).catch((error: unknown) => {
    if (error instanceof EmrError && error.code === 'SECRET_FILE_NOT_FOUND') return utf8('0');
    throw error;
  });
  const text = parseUtf8(found) ?? '';
  let seenHeight = Number(text);
  // An empty file is what a crash of the machine, or an attacker, leaves: it must not count as height 0.
  if (!/^(0|[1-9][0-9]{0,15})\n?$/.test(text) || !Number.isSafeInteger(seenHeight)) {
    throw new EmrError(
      'CUSTODIAN_MEMORY',
      `${path} does not hold a height; restore it, or write the chain's current height into it`,
    );
  }
  let durable = seenHeight;
  let writing = Promise.resolve();
  return {
    get seenHeight() {
      return seenHeight;
    },
    remember(height) {
      seenHeight = Math.max(seenHeight, height);
      // One write for all heights that came while another was under way. After a failure all of them fail.
      writing = writing.then(async () => {
        if (durable >= height) return;
        const latest = seenHeight;
        await writeSecretFile(path, utf8(String(latest)), true);
        durable = latest;
      });
      return writing;
    },
  };
}
