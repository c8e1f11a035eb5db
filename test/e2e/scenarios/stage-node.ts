/** One hospital on a stage: its node's process and what is done to it, its disk and its custodian. */
import { cp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Hospital } from '../../../scripts/devnet/devnet.ts';
import { lastLines, type Service, startService, stopService } from '../../../scripts/devnet/processes.ts';
import type { HeadWatch } from './head-watch.ts';
import { SmallDisk } from './small-disk.ts';
import { StageCustodian } from './stage-custodian.ts';

const NODE_SCRIPT = join(import.meta.dirname, 'scenario-node.ts');
/** As `emrchain init` has it, and where a copy of it goes. */
const DATA = 'data';
const BACKUP = 'data-backup';

/** One hospital's node: a process, or none at the moment. */
export class StageNode {
  readonly index: number;
  readonly name: string;
  readonly hospital: Hospital;
  readonly watch: HeadWatch;
  readonly disk: SmallDisk;
  readonly custodian: StageCustodian;
  readonly #env: NodeJS.ProcessEnv;
  #service: Service | null = null;
  #frozen = false;

  constructor(index: number, hospital: Hospital, env: NodeJS.ProcessEnv, watch: HeadWatch) {
    this.index = index;
    this.name = hospital.orgId;
    this.hospital = hospital;
    this.disk = new SmallDisk(join(hospital.dir, DATA));
    this.custodian = new StageCustodian(hospital, env);
    this.watch = watch;
    this.#env = env;
  }

  get logFile(): string {
    return join(this.hospital.dir, 'node.log');
  }

  get isRunning(): boolean {
    return this.#service !== null && this.#service.exitCode() === null;
  }

  /** Code with which it ended by itself; null while it runs, or when it was told to end. */
  get exitCode(): number | null {
    return this.#service?.exitCode() ?? null;
  }

  /** Runs, and gets time of a processor. */
  get isActive(): boolean {
    return this.isRunning && !this.#frozen;
  }

  start(): void {
    if (this.isRunning) throw new Error(`${this.name} runs already`);
    const { dir } = this.hospital;
    this.#frozen = false;
    this.#service = startService(this.name, NODE_SCRIPT, ['--dir', dir], this.logFile, this.#env);
  }

  async kill(): Promise<void> {
    this.#service?.kill('SIGKILL');
    await this.#service?.ended;
    this.#service = null;
  }

  async stop(): Promise<void> {
    if (this.#service !== null) await stopService(this.#service);
    this.#service = null;
  }

  freeze(frozen: boolean): void {
    this.#frozen = frozen;
    this.#service?.kill(frozen ? 'SIGSTOP' : 'SIGCONT');
  }

  async backUp(): Promise<void> {
    const { dir } = this.hospital;
    await rm(join(dir, BACKUP), { recursive: true, force: true });
    await cp(join(dir, DATA), join(dir, BACKUP), { recursive: true });
  }

  async restore(): Promise<void> {
    const { dir } = this.hospital;
    await rm(join(dir, DATA), { recursive: true });
    await cp(join(dir, BACKUP), join(dir, DATA), { recursive: true });
  }

  /** At once, for who cannot wait: works on a frozen process as well. */
  end(): void {
    this.watch.close();
    this.custodian.end();
    if (this.isRunning) this.#service?.kill('SIGKILL');
  }

  /** @throws Error when it has ended, which nobody asked for */
  requireRunning(): void {
    if (this.#service === null || this.isRunning) return;
    throw new Error(`${this.name} ended with ${this.exitCode}:\n${lastLines(this.logFile)}`);
  }
}
