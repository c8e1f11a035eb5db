/** One hospital's custodian on a stage: its own program, another one in its place, or none. */
import { rename, rm, cp } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import type { Hospital } from '../../../scripts/devnet/devnet.ts';
import { lastLines, type Service, startService } from '../../../scripts/devnet/processes.ts';
import { until } from '../until.ts';
import type { CustodianProgram } from './scenario.ts';

const E2E = join(import.meta.dirname, '..');
const PROGRAMS: Readonly<Record<Exclude<CustodianProgram, 'none'>, string>> = {
  own: join(E2E, '..', '..', 'node', 'custodian', 'main.ts'),
  'cheating dealer': join(E2E, 'cheating-dealer.ts'),
  'superseded share': join(E2E, 'superseded-custodian.ts'),
};
/** As `emrchain init` has them, and where a copy of the second goes. */
const SOCKET = 'custodian.sock';
const SHARES = 'custody';
const KEPT = 'custody-before';

export class StageCustodian {
  readonly #name: string;
  readonly #dir: string;
  readonly #env: NodeJS.ProcessEnv;
  #service: Service | null = null;

  constructor({ orgId, dir }: Hospital, env: NodeJS.ProcessEnv) {
    this.#name = `the custodian of ${orgId}`;
    this.#dir = dir;
    this.#env = env;
  }

  get isRunning(): boolean {
    return this.#service !== null && this.#service.exitCode() === null;
  }

  /** In place of what ran before, which gets no time to end; waits until it takes connections. */
  async run(program: CustodianProgram): Promise<void> {
    await this.kill();
    if (program === 'none') return;
    const log = join(this.#dir, 'custodian.log');
    const service = startService(this.#name, PROGRAMS[program], ['--dir', this.#dir], log, this.#env);
    this.#service = service;
    await until(`${this.#name} listens`, () => {
      if (service.exitCode() !== null) throw new Error(`${this.#name} ended:\n${lastLines(log)}`);
      return isListening(join(this.#dir, SOCKET));
    });
  }

  async kill(): Promise<void> {
    this.end();
    await this.#service?.ended;
    this.#service = null;
  }

  /** At once, for who cannot wait. */
  end(): void {
    if (this.isRunning) this.#service?.kill('SIGKILL');
  }

  /** A copy of the sealed folder, as it would lie in a backup. */
  async keepShares(): Promise<void> {
    await rm(join(this.#dir, KEPT), { recursive: true, force: true });
    await cp(join(this.#dir, SHARES), join(this.#dir, KEPT), { recursive: true });
  }

  /** Ends the process; the kept folder comes into use, and the one in use is kept. */
  async swapShares(): Promise<void> {
    await this.kill();
    const [used, kept, aside] = [SHARES, KEPT, `${SHARES}-aside`].map((name) => join(this.#dir, name)) as [
      string,
      string,
      string,
    ];
    await rename(used, aside);
    await rename(kept, used);
    await rename(aside, kept);
  }
}

function isListening(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => resolve(true));
    socket.on('error', () => resolve(false)).on('connect', () => socket.destroy());
  });
}
