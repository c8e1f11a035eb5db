/** A disk of a few MiB under one folder: a tmpfs, which takes root to mount. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import process from 'node:process';

const SIZE = '96m';
const PIECE = Buffer.alloc(256 * 1024);

/** Whether this process may mount. */
export const canMount = process.platform === 'linux' && process.getuid?.() === 0 && existsSync('/proc/mounts');

export class SmallDisk {
  readonly #dir: string;
  #mounted = false;

  constructor(dir: string) {
    this.#dir = dir;
  }

  get #ballast(): string {
    return join(this.#dir, 'ballast');
  }

  async mount(): Promise<void> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    const options = ['-t', 'tmpfs', '-o', `size=${SIZE},mode=700`, 'tmpfs', this.#dir];
    const { status, stderr } = spawnSync('mount', options, { encoding: 'utf8' });
    if (status !== 0) throw new Error(`mount: ${stderr}`);
    this.#mounted = true;
  }

  /** Writes until there is no room for a single byte. */
  async fill(): Promise<void> {
    if (!this.#mounted) throw new Error('this would fill a real disk');
    const file = await open(this.#ballast, 'a');
    try {
      for (let piece = PIECE; piece.length > 0;) {
        try {
          await file.write(piece);
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
          piece = piece.subarray(0, piece.length >> 1);
        }
      }
    } finally {
      await file.close();
    }
  }

  async free(): Promise<void> {
    await rm(this.#ballast);
  }

  unmount(): void {
    if (!this.#mounted) return;
    this.#mounted = false;
    spawnSync('umount', ['--lazy', this.#dir]);
  }
}
