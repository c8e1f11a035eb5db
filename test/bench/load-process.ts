/**
 * The load, in a process of its own: told by messages of its parent what to send when, and answers with what became of it.
 * Started by `network.ts`.
 */
import { Prng } from '../sim/prng.ts';
import { readLoad } from './load/load-file.ts';
import { LoadRun, type RunResult } from './load/load-run.ts';
import { NodeSocket } from './load/node-socket.ts';
import { arrivals } from './load/schedule.ts';

/** Of each node: a node answers few messages of one socket at a time. */
const SOCKETS = 4;

export interface LoadOrder {
  /** RPC addresses, by the number that the file has for each node. */
  readonly origins: readonly string[];
  /** With at least as many transactions as are due. */
  readonly file: string;
  /** Offsets at which they are due: Poisson, or given. */
  readonly ratePerSecond: number;
  readonly seconds: number;
  readonly seed: number;
}

export interface LoadAnswer {
  readonly result: RunResult;
  /** Of this process, for all of the run. */
  readonly cpuMs: number;
}

async function obey({ origins, file, ratePerSecond, seconds, seed }: LoadOrder): Promise<LoadAnswer> {
  const entries = readLoad(file);
  const due = arrivals(ratePerSecond, seconds, new Prng(seed)).subarray(0, entries.length);
  const sockets = await Promise.all(
    origins.map((origin) => Promise.all(Array.from({ length: SOCKETS }, () => NodeSocket.open(origin)))),
  );
  for (const [first] of sockets) await first?.subscribe();
  process.send?.({ kind: 'ready' });
  const cpu = process.cpuUsage();
  const result = await new LoadRun(sockets).run(entries, due, seconds);
  const { user, system } = process.cpuUsage(cpu);
  for (const socket of sockets.flat()) socket.close();
  return { result, cpuMs: (user + system) / 1_000 };
}

process.on('message', (order: LoadOrder) => {
  obey(order).then(
    (answer) => process.send?.({ kind: 'done', answer }),
    (error: unknown) => process.send?.({ kind: 'failed', message: String(error) }),
  );
});
process.on('disconnect', () => process.exit());
