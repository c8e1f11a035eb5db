/** A node whose processor time is sampled between two signals: `load/profile-file.ts`. Started in a node's place. */
import { renameSync, writeFileSync } from 'node:fs';
import { Session } from 'node:inspector/promises';
import { join } from 'node:path';
import { PROFILE_FILE, PROFILE_SIGNAL } from './load/profile-file.ts';

const SAMPLE_US = 500;

const file = join(process.argv[process.argv.indexOf('--dir') + 1] ?? '.', PROFILE_FILE);
const session = new Session();
session.connect();
await session.post('Profiler.enable');
await session.post('Profiler.setSamplingInterval', { interval: SAMPLE_US });

async function write(): Promise<void> {
  const { profile } = await session.post('Profiler.stop');
  // Whoever waits for it sees all of it or nothing.
  writeFileSync(`${file}.part`, JSON.stringify(profile));
  renameSync(`${file}.part`, file);
}

let running = false;
process.on(PROFILE_SIGNAL, () => {
  void (running ? write() : session.post('Profiler.start'));
  running = !running;
});

await import('../../node/main.ts');
