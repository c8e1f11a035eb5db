/**
 * Small files that hold secrets: written whole or not at all, mode 0600, durable; refused at reading when anybody else
 * could have read them.
 */

import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { link, open, rename, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { EmrError } from '../errors.ts';
import { syncDirectory } from './sync-directory.ts';

function hasSystemCode(error: unknown, code: string): boolean {
  return error instanceof Error && (error as NodeJS.ErrnoException).code === code;
}

function describe(path: string, action: string, cause: unknown): EmrError {
  if (cause instanceof EmrError) return cause;
  if (hasSystemCode(cause, 'ENOENT')) {
    return new EmrError('SECRET_FILE_NOT_FOUND', `${path} does not exist.`, { path }, { cause });
  }
  if (hasSystemCode(cause, 'EEXIST')) {
    return new EmrError('SECRET_FILE_EXISTS', `${path} exists already and is not replaced.`, { path }, { cause });
  }
  return new EmrError('SECRET_FILE_IO', `Cannot ${action} ${path}.`, { path }, { cause });
}

/**
 * Writes through a temporary file of mode 0600 in the same folder, synced before it gets its name; then the folder.
 * @param replace false: an existing file stays as it is
 * @throws EmrError SECRET_FILE_EXISTS, SECRET_FILE_NOT_FOUND (the folder), SECRET_FILE_IO
 */
export async function writeSecretFile(path: string, content: Uint8Array, replace: boolean): Promise<void> {
  const partial = join(dirname(path), `.${basename(path).slice(0, 64)}.${randomBytes(8).toString('hex')}.partial`);
  try {
    const file = await open(partial, 'wx', 0o600);
    try {
      // The mode given to open is cut by the umask; this one is not.
      await file.chmod(0o600);
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    // A link, unlike a rename, fails when the name is taken.
    if (replace) await rename(partial, path);
    else await link(partial, path);
    await syncDirectory(dirname(path));
  } catch (cause) {
    throw describe(path, 'write', cause);
  } finally {
    // Gone already after a rename.
    await unlink(partial).catch(() => undefined);
  }
}

/**
 * @param maxBytes larger files are refused unread
 * @throws EmrError SECRET_FILE_NOT_FOUND, SECRET_FILE_PERMISSIONS (group or others have any right, or the owner is
 *   somebody else than this process or root), SECRET_FILE_INVALID (no regular file, too large), SECRET_FILE_IO
 */
export async function readSecretFile(path: string, maxBytes: number): Promise<Uint8Array> {
  try {
    // Not blocking: a named pipe in place of the file must not hang the start. Checks are made on what was opened.
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stat = await file.stat();
      const { size } = stat;
      if (stat.isFile()) checkOwner(path, stat.mode, stat.uid);
      if (!stat.isFile() || size > maxBytes) {
        throw new EmrError('SECRET_FILE_INVALID', `${path} is no regular file of at most ${maxBytes} bytes.`, { path });
      }
      const buffer = new Uint8Array(size);
      let filled = 0;
      while (filled < size) {
        const { bytesRead } = await file.read(buffer, filled, size - filled);
        if (bytesRead === 0) break;
        filled += bytesRead;
      }
      return buffer.subarray(0, filled);
    } finally {
      await file.close();
    }
  } catch (cause) {
    throw describe(path, 'read', cause);
  }
}

function checkOwner(path: string, mode: number, uid: number): void {
  // Windows has access lists in place of these bits; the folder's list is what protects there.
  if (process.platform === 'win32' || process.getuid === undefined) return;
  const rights = (mode & 0o777).toString(8).padStart(4, '0');
  if ((mode & 0o077) !== 0) {
    const message = `${path} has mode ${rights}: others may read it. Run: chmod 600 ${path}`;
    throw new EmrError('SECRET_FILE_PERMISSIONS', message, { path, mode: rights });
  }
  if (uid !== process.getuid() && uid !== 0) {
    throw new EmrError('SECRET_FILE_PERMISSIONS', `${path} belongs to another user.`, { path, uid });
  }
}
