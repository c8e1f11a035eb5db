/**
 * A disk in memory that forgets at a crash what was not synced, as LevelDB's log on a real one does: the log survives up
 * to its last synced write, and of the unsynced writes after it any number of the first ones, each whole or not at all.
 */
import { setImmediate } from 'node:timers/promises';
import { compareBytes } from '../../common/bytes.ts';
import { EmrError } from '../../common/errors.ts';
import type { Entry, KeyValueStore, ScanRange, Write } from '../../node/storage/key-value-store.ts';

interface Logged {
  readonly writes: readonly Write[];
  readonly sync: boolean;
}

/** What happens at a write: `dies` leaves its caller waiting for ever, as a process that was killed does. */
export type Fault = 'none' | 'diesBefore' | 'diesUnsynced' | 'diesAfter' | 'fails';

const nameOf = (key: Uint8Array): string => Buffer.from(key).toString('latin1');

export class SimulatedDisk {
  #log: Logged[] = [];
  #generation = 0;
  /** Decides the fate of each write, by its number since the disk was made. */
  fault: (write: { readonly number: number; readonly sync: boolean; readonly keys: readonly Uint8Array[] }) => Fault =
    () => 'none';
  #writes = 0;
  onDeath: () => void = () => {};

  get writeCount(): number {
    return this.#writes;
  }

  /**
   * Cuts the power: stores that are open are dead from now on.
   * @param surviving how many of the writes after the last synced one reached the platter all the same
   */
  crash(surviving = 0): void {
    this.#generation += 1;
    const synced = this.#log.findLastIndex((entry) => entry.sync) + 1;
    this.#log = this.#log.slice(0, synced + surviving);
  }

  /** Number of writes that a crash now could lose. */
  get unsynced(): number {
    return this.#log.length - 1 - this.#log.findLastIndex((entry) => entry.sync);
  }

  open(): KeyValueStore {
    const generation = this.#generation;
    const map = new Map<string, Uint8Array>();
    for (const { writes } of this.#log) apply(map, writes);
    let failure: EmrError | undefined;
    let closed = false;
    const usable = (): void => {
      if (failure !== undefined) throw failure;
      if (closed || generation !== this.#generation) throw new EmrError('STORAGE_CLOSED', 'The database was closed.');
    };
    const never = new Promise<never>(() => {});
    const get = (key: Uint8Array): Uint8Array | undefined => {
      usable();
      return map.get(nameOf(key))?.slice();
    };
    return {
      getSync: get,
      get: async (key) => get(key),
      async scan({ gte, lt, limit, reverse = false }: ScanRange) {
        usable();
        const found: Entry[] = [];
        for (const [name, value] of map) {
          const key = new Uint8Array(Buffer.from(name, 'latin1'));
          if (compareBytes(key, gte) >= 0 && compareBytes(key, lt) < 0) found.push({ key, value: value.slice() });
        }
        found.sort((a, b) => compareBytes(a.key, b.key) * (reverse ? -1 : 1));
        return found.slice(0, limit);
      },
      write: async (writes, { sync }) => {
        usable();
        this.#writes += 1;
        const copied = writes.map((w) =>
          w.type === 'put' ? { ...w, key: w.key.slice(), value: w.value.slice() } : { ...w, key: w.key.slice() },
        );
        const fault = this.fault({ number: this.#writes, sync, keys: copied.map((w) => w.key) });
        if (fault === 'fails') {
          failure = new EmrError('STORAGE_FAILED', 'The simulated disk is full.');
          throw failure;
        }
        if (fault === 'diesUnsynced') this.#log.push({ writes: copied, sync: false });
        if (fault === 'diesAfter' || fault === 'none') this.#log.push({ writes: copied, sync });
        if (fault !== 'none') {
          this.onDeath();
          return never;
        }
        // Answers come later, never within the call: what must wait for them must really wait.
        await setImmediate();
        if (generation !== this.#generation) return never;
        apply(map, copied);
      },
      async close() {
        closed = true;
      },
    };
  }
}

function apply(map: Map<string, Uint8Array>, writes: readonly Write[]): void {
  for (const write of writes) {
    if (write.type === 'put') map.set(nameOf(write.key), write.value);
    else map.delete(nameOf(write.key));
  }
}
