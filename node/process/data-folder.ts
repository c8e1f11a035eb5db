/** The folder of the node's data: made for this user alone, and watched for room. */
import { mkdir, stat, statfs } from 'node:fs/promises';
import { EmrError } from '../../common/errors.ts';

/** @returns whether others may read it, where it was there before. @throws EmrError STORAGE_FAILED */
export async function prepareDataFolder(dir: string): Promise<{ readonly openToOthers: boolean }> {
  try {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const { mode } = await stat(dir);
    return { openToOthers: process.platform !== 'win32' && (mode & 0o077) !== 0 };
  } catch (cause) {
    throw new EmrError(
      'STORAGE_FAILED',
      `The data folder ${dir} cannot be made or read (${(cause as NodeJS.ErrnoException).code ?? String(cause)}). Check storage.dir in the configuration, and who owns the folder above it.`,
      { dir },
      { cause },
    );
  }
}

/** @returns bytes that this user may still write to the disk under `dir` */
export async function freeBytes(dir: string): Promise<number> {
  const { bavail, bsize } = await statfs(dir);
  return bavail * bsize;
}
