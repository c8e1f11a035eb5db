/**
 * The folder of one person: keys, request keys, the chains and nodes that were met before. Everything in it is private
 * (folders 0700, files 0600) and written whole or not at all. What the files mean is said where they are used.
 */
import { mkdir, readdir } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseUtf8, utf8 } from '../common/bytes.ts';
import { EmrError } from '../common/errors.ts';
import { readSecretFile, writeSecretFile } from '../common/native/secret-file.ts';
import { ClientError } from './errors.ts';

export const HOME_VARIABLE = 'EMRCHAIN_HOME';

/** The state files of a home are small: a larger one is not ours. */
const MAX_STATE_FILE_BYTES = 4 * 1024 * 1024;

export type HomeFolder = 'keys' | 'requests' | 'chains' | 'downloads' | 'offers' | 'recovery';

export class Home {
  readonly path: string;

  constructor(path: string) {
    this.path = resolve(path);
  }

  file(folder: HomeFolder, name: string): string {
    return join(this.path, folder, name);
  }

  /** Path of a file directly in the home. */
  top(name: string): string {
    return join(this.path, name);
  }

  /** Makes the folder if it is not there. */
  async ensure(folder: HomeFolder): Promise<string> {
    await mkdir(this.path, { recursive: true, mode: 0o700 });
    const path = join(this.path, folder);
    await mkdir(path, { recursive: true, mode: 0o700 });
    return path;
  }

  /** Names in a folder in the order of their characters; none when it is not there. */
  async list(folder: HomeFolder): Promise<readonly string[]> {
    try {
      return (await readdir(join(this.path, folder))).filter((name) => !name.startsWith('.')).sort();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw error;
    }
  }
}

/** The home that the command line, the environment or the system names. */
export function openHome(given: string | undefined, environment: NodeJS.ProcessEnv = process.env): Home {
  const fromEnvironment = environment[HOME_VARIABLE];
  const chosen = given ?? (fromEnvironment === '' ? undefined : fromEnvironment);
  return new Home(chosen ?? join(homedir(), '.emrchain'));
}

/** Contents of a small private file, or undefined when it is not there. */
export async function readPrivate(path: string, maxBytes = MAX_STATE_FILE_BYTES): Promise<Uint8Array | undefined> {
  try {
    return await readSecretFile(path, maxBytes);
  } catch (error) {
    if (error instanceof EmrError && error.code === 'SECRET_FILE_NOT_FOUND') return undefined;
    throw error;
  }
}

/** A private JSON file as what it holds, unchecked; undefined when it is not there. @throws ClientError HOME_FILE_DAMAGED */
export async function readPrivateJson(path: string): Promise<unknown> {
  const bytes = await readPrivate(path);
  if (bytes === undefined) return undefined;
  try {
    return JSON.parse(parseUtf8(bytes) ?? '');
  } catch (cause) {
    throw new ClientError(
      'HOME_FILE_DAMAGED',
      `${path} is not JSON.`,
      'Restore it from a copy, or move it away: it is made anew where that is possible.',
      { path },
      { cause },
    );
  }
}

export async function writePrivateJson(path: string, value: unknown): Promise<void> {
  await writeSecretFile(path, utf8(`${JSON.stringify(value, null, 2)}\n`), true);
}
