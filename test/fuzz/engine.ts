/**
 * Gives a decoder valid and damaged inputs and holds it to what every decoder of ours promises: a verdict or a
 * documented error and nothing else, within a time and an amount of memory that the size of the input allows, and
 * what it accepts is the only encoding of its value. Repeatable by its seed.
 */
import { setFlagsFromString, getHeapStatistics } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { bytesToHex, equalBytes } from '../../common/bytes.ts';
import { EmrError } from '../../common/errors.ts';
import { Prng } from '../sim/prng.ts';
import { type Form, mutate } from './mutate.ts';

/** What a decoder made of an input. `again`: what it accepted, encoded; null where there is no encoder. */
export type Outcome =
  { readonly ok: true; readonly again: Uint8Array | null } | { readonly ok: false; readonly code: string };

export interface Target {
  readonly name: string;
  readonly form: Form;
  /** Of one input in microseconds, roughly: slow decoders get fewer. */
  readonly costUs?: number;
  /** Where a sample is of the right form and what it says may still be refused. */
  readonly mayRefuseSamples?: boolean;
  /** A valid input. */
  sample(random: Prng): Uint8Array;
  /**
   * Decodes as the node does. May throw `EmrError`s, whose codes then are its verdict.
   * @param random for what else the decoder is asked, such as how a stream is cut into pieces
   */
  decode(bytes: Uint8Array, random: Prng): Outcome | Promise<Outcome>;
}

/** For one input: what is slower (garbage was collected, perhaps) is tried again, and the quickest time counts. */
const BASE_MS = 60;
const MS_PER_KIB = 2;
const TRIES = 4;
/** Memory taken while one input is decoded, beyond a multiple of its size: decoded structures are larger than bytes. */
const BASE_BYTES = 24 * 1024 * 1024;
const BYTES_PER_BYTE = 400;
/** What may be left after a batch, once garbage is collected: caches of engines, compiled code. */
const LEFT_BYTES = 24 * 1024 * 1024;
/** Below this number of inputs what is left says nothing; collecting twice takes longer than they do. */
const INPUTS_WORTH_COLLECTING = 2_000;
const VALID_PER_MILLE = 60;

setFlagsFromString('--expose-gc');
const collectNow = runInNewContext('gc') as () => void;
/** Twice: the memory of buffers is given back a moment after they were found dead. */
async function collect(): Promise<void> {
  collectNow();
  await new Promise<void>((resolve) => void setImmediate(resolve));
  collectNow();
}

export interface Finding {
  readonly target: string;
  readonly seed: number;
  readonly index: number;
  readonly problem: string;
  readonly input: string;
}

export interface TargetReport {
  readonly target: string;
  readonly inputs: number;
  readonly accepted: number;
  /** How many were refused with each code. */
  readonly codes: ReadonlyMap<string, number>;
  readonly slowestMs: number;
  readonly mostBytes: number;
  readonly leftBytes: number;
  readonly seconds: number;
  readonly findings: readonly Finding[];
}

const MAX_FINDINGS = 5;
/** Of this thread's processor time, where Node can say it (from 23.9 on): other processes do not count then. */
const usedMs = (): number => {
  if (typeof process.threadCpuUsage !== 'function') return performance.now();
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
};
const usedBytes = (): number => {
  const { used_heap_size: heap, external_memory: external } = getHeapStatistics();
  return heap + external;
};

/** @param others samples of all decoders, to splice with */
export async function fuzz(
  target: Target,
  inputs: number,
  seed: number,
  others: readonly Uint8Array[],
): Promise<TargetReport> {
  const random = new Prng(seed ^ hashOf(target.name));
  const codes = new Map<string, number>();
  const findings: Finding[] = [];
  let [accepted, slowestMs, mostBytes, done] = [0, 0, 0, 0];
  const startedMs = performance.now();
  const collects = inputs >= INPUTS_WORTH_COLLECTING;
  if (collects) await collect();
  const before = usedBytes();
  for (; done < inputs && findings.length < MAX_FINDINGS; done += 1) {
    // A stream of its own for each input: one can be made again without those before it.
    const own = new Prng(random.uint32());
    // A plain array of its own: the slices of a Buffer share its memory.
    const sample = new Uint8Array(target.sample(own));
    const isValid = done === 0 || own.chance(VALID_PER_MILLE);
    const bytes = isValid ? sample : mutate(target.form, sample, own.pick(others), own);
    const chance = own.uint32();
    const report = (problem: string): void =>
      void findings.push({ target: target.name, seed, index: done, problem, input: shown(bytes) });
    const heap = usedBytes();
    const outcome = await timed(target, bytes, chance, report);
    const taken = usedBytes() - heap;
    if (outcome === null) continue;
    slowestMs = Math.max(slowestMs, outcome.ms);
    mostBytes = Math.max(mostBytes, taken);
    if (outcome.ms > BASE_MS + (bytes.length / 1024) * MS_PER_KIB) {
      report(`took ${outcome.ms.toFixed(0)} ms for ${bytes.length} bytes`);
    }
    if (taken > BASE_BYTES + bytes.length * BYTES_PER_BYTE) report(`took ${taken} bytes for ${bytes.length} bytes`);
    const { result } = outcome;
    if (!result.ok) {
      codes.set(result.code, (codes.get(result.code) ?? 0) + 1);
      if (isValid && target.mayRefuseSamples !== true) report(`refused a valid input: ${result.code}`);
      continue;
    }
    accepted += 1;
    if (result.again !== null && !equalBytes(result.again, bytes)) {
      report(`accepted bytes that are not what it encodes: ${shown(result.again)}`);
    }
  }
  if (collects) await collect();
  const leftBytes = collects ? Math.max(0, usedBytes() - before) : 0;
  const seconds = (performance.now() - startedMs) / 1_000;
  if (leftBytes > LEFT_BYTES) {
    const problem = `${leftBytes} bytes are left after ${done} inputs`;
    findings.push({ target: target.name, seed, index: done, problem, input: '' });
  }
  return { target: target.name, inputs: done, accepted, codes, slowestMs, mostBytes, leftBytes, seconds, findings };
}

async function timed(
  target: Target,
  bytes: Uint8Array,
  chance: number,
  report: (problem: string) => void,
): Promise<{ readonly result: Outcome; readonly ms: number } | null> {
  const copy = bytes.slice();
  let ms = Infinity;
  let result: Outcome | null = null;
  const allowed = BASE_MS + (bytes.length / 1024) * MS_PER_KIB;
  for (let tries = 0; tries < TRIES && ms > allowed; tries += 1) {
    const startMs = usedMs();
    try {
      const answered = target.decode(bytes, new Prng(chance));
      result = answered instanceof Promise ? await answered : answered;
    } catch (error) {
      if (!(error instanceof EmrError)) {
        report(`threw ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
        return null;
      }
      result = { ok: false, code: error.code };
    }
    ms = Math.min(ms, usedMs() - startMs);
  }
  if (!equalBytes(copy, bytes)) report('changed its input');
  if (result !== null && !result.ok && !/^[A-Z][A-Z0-9_]{2,63}$/.test(result.code))
    report(`a code like ${result.code}`);
  return result === null ? null : { result, ms };
}

const shown = (bytes: Uint8Array): string =>
  bytes.length > 600 ? `${bytesToHex(bytes.subarray(0, 600))}… (${bytes.length} bytes)` : bytesToHex(bytes);

function hashOf(text: string): number {
  let hash = 0;
  for (const character of text) hash = (Math.imul(hash, 31) + (character.codePointAt(0) ?? 0)) | 0;
  return hash;
}
