/**
 * What the custodian keeps of custody sessions over a restart, one sealed file each: the key that its parts of dealings are
 * encrypted to, its own dealing, its share. Whatever is kept is on disk before anything that follows from it leaves.
 *
 * DANGER: a file that does not open is never written over or passed over. It may hold the only copy of a share.
 */
import { mkdir, open, readdir, rename, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { bytesToHex, equalBytes, parseHex } from '../bytes.ts';
import { EmrError } from '../errors.ts';
import { readSecretFile, writeSecretFile } from './secret-file.ts';
import { syncDirectory } from './sync-directory.ts';
import { type Hash, HASH_BYTES } from '../protocol/primitives.ts';
import type { Seal } from './custody-seal.ts';

export type KeptKind = 'key' | 'dealing' | 'share';

export interface Kept {
  readonly kind: KeptKind;
  readonly sessionId: Hash;
  readonly epoch: number;
  readonly content: Uint8Array;
}

/** A share that is in use and three files of a session that is open; the rest is left over from failed sessions. */
const MAX_SEALED_FILES = 64;
/** The longest dealing has 1,816 bytes, and its seal 69. */
const MAX_SEALED_BYTES = 2 * 1024;
const NAME = /^(key|dealing|share)-([0-9a-f]{64})\.sealed$/;
/** Cut off while it was written (`secret-file.ts`), or while it was erased: nobody needs it. */
const LEFTOVER = /\.(partial|erased)$/;

const nameOf = (kind: KeptKind, sessionId: Hash): string => `${kind}-${bytesToHex(sessionId)}.sealed`;

export class SealedStore {
  readonly #dir: string;
  readonly #seal: Seal;
  readonly #kept: Map<string, Kept>;

  private constructor(dir: string, seal: Seal, kept: Map<string, Kept>) {
    this.#dir = dir;
    this.#seal = seal;
    this.#kept = kept;
  }

  /**
   * Opens every file of the folder, which is made where there is none.
   * @throws EmrError CUSTODY_SEAL_BROKEN, CUSTODY_STORE_FOREIGN, CUSTODY_STORE_IO, and those of secret files
   */
  static async open(dir: string, seal: Seal): Promise<SealedStore> {
    const kept = new Map<string, Kept>();
    const names = await mkdir(dir, { recursive: true, mode: 0o700 })
      .then(() => readdir(dir))
      .catch((cause: unknown) => {
        throw new EmrError('CUSTODY_STORE_IO', `Cannot use the folder ${dir}.`, { path: dir }, { cause });
      });
    if (names.length > MAX_SEALED_FILES) throw foreign(dir, `holds more than ${MAX_SEALED_FILES} files`);
    for (const name of names) {
      if (LEFTOVER.test(name)) await unlink(join(dir, name));
      else kept.set(name, await openFile(dir, name, seal));
    }
    return new SealedStore(dir, seal, kept);
  }

  get(kind: KeptKind, sessionId: Hash): Kept | undefined {
    return this.#kept.get(nameOf(kind, sessionId));
  }

  all(): readonly Kept[] {
    return [...this.#kept.values()];
  }

  /** Resolves once it is durable; the same content costs nothing. @throws EmrError those of secret files */
  async put(kept: Kept): Promise<void> {
    const name = nameOf(kept.kind, kept.sessionId);
    const before = this.#kept.get(name);
    if (before !== undefined && equalBytes(before.content, kept.content)) return;
    await writeSecretFile(join(this.#dir, name), this.#seal.seal(kept, kept.content), true);
    this.#kept.set(name, kept);
  }

  /**
   * Takes a file out of use, writes over it and removes it. That no copy is left cannot be promised: a file system or a
   * flash disk may keep what was written over.
   */
  async erase({ kind, sessionId, content }: Kept): Promise<void> {
    const name = nameOf(kind, sessionId);
    const [from, to] = [join(this.#dir, name), join(this.#dir, `${name}.erased`)];
    try {
      await rename(from, to);
      const file = await open(to, 'r+');
      try {
        await file.writeFile(new Uint8Array((await file.stat()).size));
        await file.sync();
      } finally {
        await file.close();
      }
      await unlink(to);
      await syncDirectory(this.#dir);
    } catch (cause) {
      throw new EmrError('CUSTODY_STORE_IO', `Cannot erase ${from}.`, { path: from }, { cause });
    }
    this.#kept.delete(name);
    content.fill(0);
  }
}

/**
 * One file alone, without touching another: a custodian may be running over this folder.
 * @throws EmrError CUSTODY_SEAL_BROKEN, and those of secret files
 */
export const readKept = (dir: string, seal: Seal, kind: KeptKind, sessionId: Hash): Promise<Kept> =>
  openFile(dir, nameOf(kind, sessionId), seal);

/**
 * Puts a file where there is none; the folder is made where it is missing. The custodian sees it at its next start.
 * @throws EmrError SECRET_FILE_EXISTS, CUSTODY_STORE_IO, and those of secret files
 */
export async function addKept(dir: string, seal: Seal, kept: Kept): Promise<void> {
  try {
    await mkdir(dir, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new EmrError('CUSTODY_STORE_IO', `Cannot use the folder ${dir}.`, { path: dir }, { cause });
  }
  await writeSecretFile(join(dir, nameOf(kept.kind, kept.sessionId)), seal.seal(kept, kept.content), false);
}

async function openFile(dir: string, name: string, seal: Seal): Promise<Kept> {
  const [, kind, id] = NAME.exec(name) ?? [];
  const sessionId = id === undefined ? undefined : parseHex(id, HASH_BYTES);
  if (kind === undefined || sessionId === undefined) throw foreign(dir, `holds ${name}, which is no custodian's`);
  const path = join(dir, name);
  const opened = seal.open(kind, sessionId, await readSecretFile(path, MAX_SEALED_BYTES));
  if (!opened.ok) {
    throw new EmrError(
      opened.code,
      `${path}: ${opened.message}. Put it back from a backup of this folder. Without one, move it away: this hospital then has no share until the members vote for new ones (emrchain gov propose refresh-custody).`,
      { path },
    );
  }
  return { kind: kind as KeptKind, sessionId, ...opened.value };
}

const foreign = (dir: string, what: string): EmrError =>
  new EmrError('CUSTODY_STORE_FOREIGN', `${dir} ${what}; move away what does not belong there.`, { path: dir });
