/** Makes a rename durable: the name lives in the directory, which has a sync of its own. */

import { open } from 'node:fs/promises';

export async function syncDirectory(path: string): Promise<void> {
  // Windows has no such call and makes names durable by itself.
  if (process.platform === 'win32') return;
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
