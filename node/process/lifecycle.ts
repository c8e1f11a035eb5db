/**
 * The life of the node's process: its start, its signals, and its end. run.ts puts the node itself together.
 */
import { flushCompileCache } from 'node:module';
import { constants } from 'node:os';
import { parseArgs } from 'node:util';
import type { Logger } from 'pino';
import { EmrError } from '../../common/errors.ts';
import { type Ending, endingOfRun, endingOfStart, EXIT } from './exit-codes.ts';
import { openNodeKeys, readNodePassphrase } from './keys.ts';
import type { RunningNode } from './run.ts';
import { readSettings } from './settings.ts';

/** A graceful stop takes some tens of milliseconds; what hangs longer is left, and nothing is lost by that. */
const STOP_MS = 4_500;
const USAGE = 'usage: node node/main.ts --dir DIR';

class NodeProcess {
  readonly #startedMs = Date.now();
  #log: Logger | null = null;
  #running: RunningNode | null = null;
  #stopping = false;

  watch(): void {
    // What nobody caught is a bug; what it has left half done, only a new start puts right.
    process.on('uncaughtException', (error) => this.fatal(error));
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => this.#told(signal));
    if (process.platform !== 'win32') process.on('SIGUSR2', () => void this.#keepSnapshot());
  }

  async start(args: readonly string[]): Promise<void> {
    const settings = await readSettings(folderOf(args));
    const { pino } = await import('pino');
    const log = pino({ level: settings.config.log.level, base: null, formatters: { level: (level) => ({ level }) } });
    this.#log = log;
    // Before the rest is loaded: deriving a key takes 128 MiB for a moment, which would come on top of everything.
    const keys = await openNodeKeys(settings.config.keys, await readNodePassphrase());
    const [{ runNode }, { version }] = await Promise.all([import('./run.ts'), import('./version.ts')]);
    // Otherwise written at the end of the process, which `kill -9` does not let it reach.
    flushCompileCache();
    log.info({ version, nodejs: process.version, pid: process.pid, dir: settings.dir }, 'starting');
    const onFatal = (error: unknown): void => this.fatal(error);
    const running = await runNode({ settings, keys, version, startedMs: this.#startedMs, log, onFatal });
    this.#running = running;
  }

  couldNotStart(error: unknown): void {
    this.#end(endingOfStart(error), error, 'the node cannot start');
  }

  fatal(error: unknown): void {
    // Somebody's work that the closing of the database cut off.
    if (this.#stopping && error instanceof EmrError && error.code === 'STORAGE_CLOSED') return;
    this.#end(endingOfRun(error), error, 'the node stops at once');
  }

  #end({ exitCode, code, message }: Ending, error: unknown, what: string): never {
    this.#log?.fatal({ code, exitCode, err: error }, what);
    process.stderr.write(`error ${code}: ${message}\n`);
    process.exit(exitCode);
  }

  #told(signal: 'SIGINT' | 'SIGTERM'): void {
    if (this.#stopping) process.exit(128 + constants.signals[signal]);
    this.#stopping = true;
    // Nobody relies on it yet, and whatever is half done on disk is made for that.
    if (this.#running === null) process.exit(EXIT.stopped);
    this.#log?.info({ signal }, 'told to stop; once more to stop at once');
    setTimeout(() => {
      this.#log?.warn({}, 'stopping takes too long and is cut off; nothing that was committed is lost');
      process.exit(EXIT.stopped);
    }, STOP_MS).unref();
    void this.#stop(this.#running);
  }

  /** An operator wants the present state to be kept for a newcomer. */
  async #keepSnapshot(): Promise<void> {
    try {
      const height = await this.#running?.keepSnapshot();
      if (typeof height === 'number') this.#log?.info({ height }, 'the snapshot that was asked for is there');
      else this.#log?.warn({}, 'no snapshot can be kept yet: the chain is too short, or the node is starting');
    } catch (error) {
      if (!this.#stopping) this.fatal(error);
    }
  }

  async #stop(running: RunningNode): Promise<void> {
    try {
      await running.stop();
    } catch (error) {
      return this.fatal(error);
    }
    process.exit(EXIT.stopped);
  }
}

function folderOf(args: readonly string[]): string {
  try {
    const { dir } = parseArgs({ args: [...args], options: { dir: { type: 'string' } } }).values;
    if (dir !== undefined && dir !== '') return dir;
  } catch (cause) {
    throw new EmrError('USAGE', `${(cause as Error).message}\n${USAGE}`, {}, { cause });
  }
  throw new EmrError('USAGE', USAGE);
}

/** Runs until the process ends. @param args of the command line: `--dir DIR` */
export async function runProcess(args: readonly string[]): Promise<void> {
  const node = new NodeProcess();
  node.watch();
  await node.start(args).catch((error: unknown) => node.couldNotStart(error));
}
