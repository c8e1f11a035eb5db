/** The command line as a process of its own, with the most memory that it ever took. */
import '../untraced.ts';
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { childEnvironment, type Devnet } from '../../scripts/devnet/devnet.ts';

const COMMAND_LINE = join(import.meta.dirname, '..', '..', 'client', 'cli', 'main.ts');
const SAMPLE_MS = 25;

/** Peak resident memory of a process so far, in bytes; 0 once it has ended. */
export async function peakBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;
}

export interface Ran {
  readonly answer: Readonly<Record<string, unknown>>;
  readonly peakBytes: number;
}

/** Runs `emrchain --json …`. @throws Error with what it said when it fails */
export async function emrchain(devnet: Devnet, args: readonly string[]): Promise<Ran> {
  const child = spawn(process.execPath, [COMMAND_LINE, '--json', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: childEnvironment(devnet.dir),
  });
  const endWithUs = (): void => void child.kill('SIGKILL');
  process.once('exit', endWithUs);
  const ended = new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve(code ?? 1));
  });
  const said = { out: '', err: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said.out += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said.err += text));
  let peak = 0;
  const sampling = setInterval(() => {
    void peakBytes(child.pid ?? 0).then((bytes) => (peak = Math.max(peak, bytes)));
  }, SAMPLE_MS);
  try {
    const code = await ended;
    if (code !== 0) throw new Error(`emrchain ${args.join(' ')} ended with ${code}: ${said.err.slice(-2_000)}`);
    return { answer: JSON.parse(said.out) as Ran['answer'], peakBytes: peak };
  } finally {
    clearInterval(sampling);
    process.off('exit', endWithUs);
  }
}
