/** What processes have taken: from /proc, so on Linux alone; elsewhere NaN, and tables show a dash. */
import { readdirSync, readFileSync } from 'node:fs';
import { THREAD_NAME } from '../../../node/verification/workers.ts';

/** Of times in /proc: 100 a second on every Linux that Node runs on. */
const TICK_MS = 10;
const UTIME = 11;
const STIME = 12;

/** Processor time of a process so far, in milliseconds. */
export function cpuMsOf(pid: number): number {
  return usageAt(`/proc/${pid}`)?.cpuMs ?? Number.NaN;
}

/** What threads of a node are for. */
export const THREADS = [
  'event loop',
  'signatures',
  'V8: garbage, compiling',
  'libuv: reads and writes',
  'LevelDB: compaction',
] as const;
export type ThreadUse = (typeof THREADS)[number];

/** Processor time so far of the threads that a process has now, in milliseconds. */
export function threadsCpuMsOf(pid: number): ReadonlyMap<ThreadUse, number> {
  const times = new Map<ThreadUse, number>();
  let pool = 0;
  // In the order in which they began.
  for (const thread of threadIdsOf(pid).toSorted((a, b) => Number(a) - Number(b))) {
    const usage = usageAt(`/proc/${pid}/task/${thread}`);
    if (usage === null) continue;
    const isPool = usage.name.startsWith(POOL_NAME);
    if (isPool) pool += 1;
    const use = isPool && pool > POOL_THREADS ? 'LevelDB: compaction' : useOf(usage.name, thread === `${pid}`);
    times.set(use, (times.get(use) ?? 0) + usage.cpuMs);
  }
  return times;
}

/** libuv's pool, which begins all at once. LevelDB's thread has the name of the thread that began it: one of these, or the main one. */
const POOL_NAME = 'libuv-worker';
const POOL_THREADS = 4;

/** By the names that Node gives. */
function useOf(name: string, isMain: boolean): ThreadUse {
  if (isMain) return 'event loop';
  if (name === THREAD_NAME) return 'signatures';
  if (name.startsWith('V8Worker')) return 'V8: garbage, compiling';
  return name.startsWith(POOL_NAME) ? 'libuv: reads and writes' : 'LevelDB: compaction';
}

function threadIdsOf(pid: number): readonly string[] {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch {
    return [];
  }
}

function usageAt(dir: string): { readonly name: string; readonly cpuMs: number } | null {
  try {
    const stat = readFileSync(`${dir}/stat`, 'utf8');
    // The name, in brackets, may hold anything; fields are counted from behind it.
    const nameEnd = stat.lastIndexOf(')');
    const fields = stat.slice(nameEnd + 2).split(' ');
    const cpuMs = (Number(fields[UTIME]) + Number(fields[STIME])) * TICK_MS;
    return { name: stat.slice(stat.indexOf('(') + 1, nameEnd), cpuMs };
  } catch {
    return null;
  }
}

export interface Memory {
  readonly now: number;
  /** The most it ever had. */
  readonly peak: number;
  /** Its own, without the pages of files, which the system takes back when it needs them. */
  readonly anonymous: number;
}

/** Memory of a process in MiB. */
export function memoryMiBOf(pid: number): Memory {
  const field = (text: string, name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'mu').exec(text)?.[1] ?? Number.NaN) / 1024;
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return { now: field(status, 'VmRSS'), peak: field(status, 'VmHWM'), anonymous: field(status, 'RssAnon') };
  } catch {
    return { now: Number.NaN, peak: Number.NaN, anonymous: Number.NaN };
  }
}
