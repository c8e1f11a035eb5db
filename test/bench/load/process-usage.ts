/** What processes have taken: from /proc, so on Linux alone; elsewhere NaN, and tables show a dash. */
import { readFileSync } from 'node:fs';

/** Of times in /proc: 100 a second on every Linux that Node runs on. */
const TICK_MS = 10;
const UTIME = 11;
const STIME = 12;

/** Processor time of a process so far, in milliseconds. */
export function cpuMsOf(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name, in brackets, may hold anything; fields are counted from behind it.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[UTIME]) + Number(fields[STIME])) * TICK_MS;
  } catch {
    return Number.NaN;
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
