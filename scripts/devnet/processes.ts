/**
 * Child processes of a development network: started with their output in a log file, waited for, ended by their own id.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { openSync, closeSync, readFileSync } from 'node:fs';
import { randomInt } from 'node:crypto';
import { createServer, type Server } from 'node:net';
import { EmrError } from '../../common/errors.ts';

/** How long a process gets to end by itself before it is killed. */
const STOP_MS = 5_000;
/** Lines of a log that are shown when a process ended unasked. */
const LAST_LINES = 8;

export interface Service {
  readonly name: string;
  readonly logFile: string;
  readonly pid: number;
  /** Null while it runs. */
  exitCode(): number | null;
  kill(signal: NodeJS.Signals): void;
  /** Resolves when it has ended. */
  readonly ended: Promise<void>;
}

/**
 * Objects that live shortly need no 128 MiB, which is what V8 takes for them on a 64-bit machine under load; and the
 * sooner they are looked through, the sooner the buffers of a transfer are let go.
 */
const NODE_FLAGS = ['--max-semi-space-size=8'];

/** Starts a script of this repository with the Node that runs this one. */
export function startService(
  name: string,
  script: string,
  args: readonly string[],
  logFile: string,
  env: NodeJS.ProcessEnv,
): Service {
  const log = openSync(logFile, 'a', 0o600);
  let child: ChildProcess;
  try {
    child = spawn(process.execPath, [...NODE_FLAGS, script, ...args], { stdio: ['ignore', log, log], env });
  } finally {
    closeSync(log);
  }
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });
  return {
    name,
    logFile,
    pid: child.pid ?? -1,
    exitCode: () => (child.exitCode === null && child.signalCode === null ? null : (child.exitCode ?? 128)),
    kill: (signal) => void child.kill(signal),
    ended,
  };
}

/** Asks to end, waits, and kills what does not. */
export async function stopService(service: Service): Promise<void> {
  if (service.exitCode() !== null) return;
  service.kill('SIGTERM');
  const timer = setTimeout(() => service.kill('SIGKILL'), STOP_MS);
  await service.ended;
  clearTimeout(timer);
}

/** Waits until `ready` says so. @throws EmrError DEVNET_NOT_READY when a service ends or time is over */
export async function waitFor(
  what: string,
  services: readonly Service[],
  ready: () => Promise<boolean>,
  deadlineMs: number,
): Promise<void> {
  const end = performance.now() + deadlineMs;
  while (!(await ready())) {
    const dead = services.find((s) => s.exitCode() !== null);
    if (dead !== undefined) {
      throw new EmrError(
        'DEVNET_NOT_READY',
        `${dead.name} ended with code ${dead.exitCode()}:\n${lastLines(dead.logFile)}`,
      );
    }
    if (performance.now() > end) {
      const logs = services.map((s) => s.logFile).join(', ');
      throw new EmrError(
        'DEVNET_NOT_READY',
        `${what}: not within ${deadlineMs / 1000} s; the logs may say why: ${logs}`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export function lastLines(logFile: string): string {
  const lines = readFileSync(logFile, 'utf8').trimEnd().split('\n');
  return lines.slice(-LAST_LINES).join('\n');
}

/**
 * Below what systems take for outgoing connections (from 32,768 on Linux): a port from there may be taken by one before it is
 * listened on, or while its node is restarted.
 */
const PORTS = { from: 10_000, to: 32_768 };
/** Of a machine with thousands of busy ports. */
const MAX_PORT_ATTEMPTS = 1_000;

/**
 * Ports of 127.0.0.1 that are free now. All are held until all are known, so that they differ.
 * @throws EmrError PORT_IN_USE where hardly any is free
 */
export async function freePorts(count: number): Promise<readonly number[]> {
  const held = new Map<number, Server>();
  try {
    for (let attempt = 0; held.size < count; attempt += 1) {
      if (attempt === MAX_PORT_ATTEMPTS) throw new EmrError('PORT_IN_USE', 'no free ports of 127.0.0.1 were found');
      const port = randomInt(PORTS.from, PORTS.to);
      const server = held.has(port) ? null : await holding(port).catch(() => null);
      if (server !== null) held.set(port, server);
    }
    return [...held.keys()];
  } finally {
    await Promise.all([...held.values()].map((server) => new Promise((resolve) => server.close(resolve))));
  }
}

/** A server that listens there. Rejects when something else does. */
function holding(port: number): Promise<Server> {
  const server = createServer();
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve(server));
  });
}

/** @throws EmrError PORT_IN_USE */
export async function requireFreePort(port: number): Promise<void> {
  const server = await holding(port).catch((cause: unknown) => {
    const message = `port ${port} of 127.0.0.1 is taken; stop what uses it, or choose --rpc-port`;
    throw new EmrError('PORT_IN_USE', message, { port }, { cause });
  });
  await new Promise((resolve) => server.close(resolve));
}
