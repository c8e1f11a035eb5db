/**
 * One person of the story: a client process for every act, with a keystore of its own, talking to its own hospital only.
 */
import { spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { hexToBytes, utf8 } from '../../common/bytes.ts';
import { H } from '../../common/crypto/hash.ts';
import { EmrError } from '../../common/errors.ts';
import { type AdminKey, childEnvironment, type Hospital } from './devnet.ts';

const COMMAND_LINE = join(import.meta.dirname, '..', '..', 'client', 'cli', 'main.ts');
/** Longer than any command waits by itself. */
const COMMAND_MS = 60_000;
const MAX_OUTPUT_BYTES = 4 * 1024 * 1024;

/** What a command answered with `--json`. */
export type Answer = Readonly<Record<string, unknown>>;

export class Actor {
  readonly name: string;
  readonly home: string;
  readonly #networkDir: string;
  #rpcUrl: string | null = null;

  private constructor(networkDir: string, name: string) {
    this.name = name;
    this.home = join(networkDir, 'people', name);
    this.#networkDir = networkDir;
  }

  /** A person with a fresh key under the devnet's passphrase. */
  static async newcomer(networkDir: string, name: string): Promise<Actor> {
    const actor = new Actor(networkDir, name);
    await mkdir(actor.home, { recursive: true, mode: 0o700 });
    await actor.run('keys', 'new', name);
    return actor;
  }

  /** Stands for the licence number that a registrar would turn into a token. */
  get personTag(): string {
    return `0x${Buffer.from(H('devnet-person', utf8(this.name))).toString('hex')}`;
  }

  /** For the genesis, before there is any chain. */
  async adminKey(): Promise<AdminKey> {
    const shown = await this.run('keys', 'show', this.name);
    return { publicKey: hexToBytes(String(shown['publicKey'])), personTag: hexToBytes(this.personTag) };
  }

  at(hospital: Hospital): this {
    this.#rpcUrl = hospital.rpcUrl;
    return this;
  }

  file(name: string): string {
    return join(this.home, name);
  }

  /** Runs `emrchain …` as this person. @throws EmrError with the command's own code */
  async run(...args: readonly string[]): Promise<Answer> {
    const { code, stdout, stderr } = await this.#spawn(args);
    if (code === 0) return JSON.parse(stdout || '{}') as Answer;
    const said = parseError(stderr);
    throw new EmrError(said.code, `emrchain ${args.join(' ')}: ${said.message}`, { exitCode: code });
  }

  /** Runs a command that must be refused with this code; answers the sentence. */
  async refused(expected: string, ...args: readonly string[]): Promise<string> {
    const { code, stderr } = await this.#spawn(args);
    const said = parseError(stderr);
    if (code === 0) throw new EmrError('NOT_REFUSED', `emrchain ${args.join(' ')} succeeded; ${expected} was expected`);
    if (said.code !== expected) {
      throw new EmrError(
        'REFUSED_OTHERWISE',
        `emrchain ${args.join(' ')}: ${said.code} (${said.message}); ${expected} was expected`,
      );
    }
    return `${said.code}: ${said.message}`;
  }

  #spawn(args: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> {
    const global = ['--json', '--home', this.home, '--as', this.name];
    if (this.#rpcUrl !== null) global.push('--rpc', this.#rpcUrl);
    const child = spawn(process.execPath, [COMMAND_LINE, ...global, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: COMMAND_MS,
      env: childEnvironment(this.#networkDir),
    });
    const output = { stdout: '', stderr: '' };
    for (const stream of ['stdout', 'stderr'] as const) {
      child[stream].setEncoding('utf8');
      child[stream].on('data', (text: string) => {
        if (output[stream].length < MAX_OUTPUT_BYTES) output[stream] += text;
      });
    }
    return new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code) => resolve({ code: code ?? 1, ...output }));
    });
  }
}

function parseError(stderr: string): { code: string; message: string } {
  for (const line of stderr.trim().split('\n').reverse()) {
    try {
      const { error } = JSON.parse(line) as { error?: { code: string; message: string } };
      if (error !== undefined) return error;
    } catch {
      // Not the line with the error.
    }
  }
  return { code: 'UNREADABLE', message: stderr.trim().slice(-400) };
}
