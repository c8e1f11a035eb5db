/**
 * Commands that are programs of their own: a node, a custodian, a development network. The client knows only where
 * they lie; it starts them with the same Node, the same terminal and the same environment, and ends as they end.
 */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { join } from 'node:path';

const REPOSITORY = join(import.meta.dirname, '..', '..');

const PROGRAMS = {
  node: ['node', 'main.ts'],
  custodian: ['node', 'custodian', 'main.ts'],
  init: ['node', 'init', 'main.ts'],
  devnet: ['scripts', 'devnet', 'main.ts'],
} as const;

/**
 * Objects that live shortly need no 128 MiB, which is what V8 takes for them on a 64-bit machine under load; and the
 * sooner they are looked through, the sooner the buffers of a transfer are let go.
 */
const NODE_FLAGS = ['--max-semi-space-size=8'];

/**
 * glibc keeps an arena of memory for each of some dozen threads, and buffers of a MiB that one of them frees fragment
 * them all: 40 MB of a node that copies a gigabyte of ciphertext. Other systems do not read it.
 */
const ALLOCATOR = { MALLOC_ARENA_MAX: '2' };

/**
 * Runs a program to its end. Signals go to it: both stop together.
 * @returns its exit code; 128 and the signal's number when a signal ended it
 */
export function runProgram(name: keyof typeof PROGRAMS, args: readonly string[]): Promise<number> {
  const child = spawn(process.execPath, [...NODE_FLAGS, join(REPOSITORY, ...PROGRAMS[name]), ...args], {
    stdio: 'inherit',
    env: { ...ALLOCATOR, ...process.env },
  });
  const forward = (signal: NodeJS.Signals): void => void child.kill(signal);
  process.on('SIGTERM', forward);
  // The terminal sends an interrupt to both; we only have to outlive the child.
  const ignore = (): void => undefined;
  process.on('SIGINT', ignore);
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      process.off('SIGTERM', forward);
      process.off('SIGINT', ignore);
      resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal]));
    });
  });
}
