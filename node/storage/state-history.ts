/**
 * Which old versions of the state the database keeps: all that it has from some height on, and those that are pinned below it.
 * Deletes the nodes that none of them uses, a bounded number at a time. What the latest state uses is never touched: a
 * node is deleted only once a later block has left it behind.
 */
import { readU16be, readU32be, readU64be, u64be } from '../../common/bytes.ts';
import { assert, EmrError } from '../../common/errors.ts';
import type { Height } from '../../common/protocol/primitives.ts';
import type { Entry, KeyValueStore, Write } from './key-value-store.ts';
import { heightOf, heldOf, storageKey, storageRange } from './keyspace.ts';
import type { StateReaders } from './state-readers.ts';

/** Names of state nodes, 10 bytes each: version and number. */
const NAME_BYTES = 10;
/** Nodes that one step looks at: some milliseconds of work, and one small batch. */
const MAX_STEP_NODES = 2_000;
/** Heights whose roots one step forgets. */
const MAX_STEP_HEIGHTS = 512;
/** Lists of stale nodes read at a time. */
const MAX_STEP_LISTS = 16;
/** Snapshots and the like: each holds nodes that would have gone. */
const MAX_PINS = 16;

const versionOf = (names: Uint8Array, at: number): Height =>
  (readU16be(names, at) as number) * 0x1_0000_0000 + (readU32be(names, at + 2) as number);

export class StateHistory {
  readonly #kv: KeyValueStore;
  /** Ascending. */
  #pins: readonly Height[];
  #prunedBelow: Height;
  readonly #readers: StateReaders;
  /** A crash can lose a deletion and keep a later one: whether lists may lie below what is pruned. */
  #mayHaveLeftovers = true;
  /** Whether nodes may be held by pins and readers that are gone: looked for at the start, and after each that goes. */
  #mayHold = true;
  /** Steps and pins one after the other. */
  #turn: Promise<unknown> = Promise.resolve();

  /** Use `openStateHistory`. */
  constructor(kv: KeyValueStore, readers: StateReaders, prunedBelow: Height, pins: readonly Height[]) {
    this.#kv = kv;
    this.#readers = readers;
    this.#prunedBelow = prunedBelow;
    this.#pins = pins;
  }

  /** No state from this height on has been pruned; below it, none but the pinned ones is left. */
  get prunedBelow(): Height {
    return this.#prunedBelow;
  }

  get pins(): readonly Height[] {
    return this.#pins;
  }

  /** Keeps a state while it is read: call the answer when that is over. Null when it is not there any more. */
  reading(height: Height): (() => void) | null {
    if (height < this.#prunedBelow && !this.#pins.includes(height)) return null;
    const end = this.#readers.begin(height);
    return () => {
      this.#mayHold = true;
      end();
    };
  }

  /** Keeps a state until it is released. False when it is not there any more. @throws EmrError TOO_MANY_PINS */
  pin(height: Height): Promise<boolean> {
    return this.#inTurn(async () => {
      if (this.#pins.includes(height)) return true;
      if (this.#kv.getSync(storageKey.stateRoot(height)) === undefined) return false;
      if (this.#pins.length >= MAX_PINS) {
        throw new EmrError('TOO_MANY_PINS', `No more than ${MAX_PINS} old states are kept; release one first.`);
      }
      await this.#kv.write([{ type: 'put', key: storageKey.statePin(height), value: new Uint8Array(0) }], {
        sync: true,
      });
      this.#pins = [...this.#pins, height].sort((a, b) => a - b);
      return true;
    });
  }

  /** Ends a pin. What it alone held goes with the next steps. */
  release(height: Height): Promise<void> {
    return this.#inTurn(async () => {
      if (!this.#pins.includes(height)) return;
      const writes: Write[] = [{ type: 'del', key: storageKey.statePin(height) }];
      if (height < this.#prunedBelow) writes.push({ type: 'del', key: storageKey.stateRoot(height) });
      await this.#kv.write(writes, { sync: false });
      this.#pins = this.#pins.filter((pin) => pin !== height);
      this.#mayHold = true;
    });
  }

  /** A state came from elsewhere: there is nothing below it. */
  restored(height: Height): void {
    this.#prunedBelow = height;
    this.#mayHaveLeftovers = true;
    this.#mayHold = true;
  }

  /**
   * One step towards keeping nothing below `keepFrom` but what is pinned or being read.
   * @param keepFrom at most the height of the head
   * @returns whether another step would find something to do
   */
  step(keepFrom: Height): Promise<boolean> {
    return this.#inTurn(async () => (await this.#freeHeld()) || (await this.#prune(keepFrom)));
  }

  /** What must stay below the heights that all stay. Ascending. */
  #kept(): readonly Height[] {
    return [...new Set([...this.#pins, ...this.#readers.heights])].sort((a, b) => a - b);
  }

  /** Nodes of pins that were released: deleted, or left to another pin that uses them too. */
  async #freeHeld(): Promise<boolean> {
    // Most blocks: nothing is scanned.
    if (!this.#mayHold) return false;
    // Before the scan: who goes meanwhile is looked for with the next step.
    this.#mayHold = false;
    const all = storageRange.stateHeld();
    const kept = this.#kept();
    // Lists lie in the order of their pins: look between each pin that is kept and the next.
    for (let index = 0; index <= kept.length; index += 1) {
      const [above, below] = [kept[index - 1], kept[index]];
      const gte = above === undefined ? all.gte : storageKey.stateHeld(above + 1, 0);
      const lt = below === undefined ? all.lt : storageKey.stateHeld(below, 0);
      const [first] = await this.#kv.scan({ gte, lt, limit: 1 });
      if (first === undefined) continue;
      const writes: Write[] = [];
      this.#retire(first, heldOf(first.key).stale, MAX_STEP_NODES, writes);
      await this.#kv.write(writes, { sync: false });
      this.#mayHold = true;
      return true;
    }
    return false;
  }

  async #prune(keepFrom: Height): Promise<boolean> {
    const from = this.#prunedBelow;
    const readers = this.#readers.heights.filter((height) => height >= from);
    const limit = Math.min(keepFrom, ...readers);
    if (limit <= from) return false;
    let until = Math.min(limit, from + MAX_STEP_HEIGHTS);
    // From here on nobody begins to read what may go.
    this.#prunedBelow = until;
    const range = storageRange.stale(this.#mayHaveLeftovers ? 0 : from, until);
    const lists = await this.#kv.scan({ ...range, limit: MAX_STEP_LISTS });
    const writes: Write[] = [];
    let budget = MAX_STEP_NODES;
    for (const [index, list] of lists.entries()) {
      const stale = heightOf(list.key);
      const done = this.#retire(list, stale, budget, writes);
      budget -= done;
      const isWhole = done * NAME_BYTES === list.value.length;
      // What was stale at a height is used by none of the roots from that height on: they may stay.
      if (!isWhole || index === MAX_STEP_LISTS - 1) until = Math.max(from, stale);
      if (!isWhole) break;
    }
    writes.push({ type: 'put', key: storageKey.meta('prunedBelow'), value: u64be(until) });
    const roots = await this.#kv.scan({ ...storageRange.stateRoots(from, until), limit: MAX_STEP_HEIGHTS });
    for (const { key } of roots) if (!this.#pins.includes(heightOf(key))) writes.push({ type: 'del', key });
    this.#prunedBelow = until;
    this.#mayHaveLeftovers &&= lists.some(({ key }) => heightOf(key) < from);
    await this.#kv.write(writes, { sync: false });
    return until < limit;
  }

  /**
   * Deletes up to `budget` of the nodes in a list, or moves them to the list of the highest pin that uses them: one from
   * the version that wrote the node on, and before the block that left it behind. The rest of the list stays.
   * @returns how many were dealt with
   */
  #retire({ key: listKey, value: names }: Entry, stale: Height, budget: number, writes: Write[]): number {
    assert(names.length % NAME_BYTES === 0, 'a stored list of state nodes has whole names');
    const count = Math.min(budget, names.length / NAME_BYTES);
    const held = new Map<Height, Uint8Array[]>();
    const kept = this.#kept();
    for (let index = 0; index < count; index += 1) {
      const at = index * NAME_BYTES;
      const name = names.subarray(at, at + NAME_BYTES);
      const version = versionOf(names, at);
      const pin = kept.findLast((height) => version <= height && height < stale);
      if (pin === undefined) writes.push({ type: 'del', key: storageKey.stateNode(name) });
      else if (held.get(pin)?.push(name) === undefined) held.set(pin, [name]);
    }
    for (const [pin, ofPin] of held) {
      const key = storageKey.stateHeld(pin, stale);
      const before = this.#kv.getSync(key) ?? new Uint8Array(0);
      writes.push({ type: 'put', key, value: joined(before, ofPin) });
    }
    const rest = names.subarray(count * NAME_BYTES);
    writes.push(rest.length === 0 ? { type: 'del', key: listKey } : { type: 'put', key: listKey, value: rest.slice() });
    return count;
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work, work);
    this.#turn = done.catch(() => undefined);
    return done;
  }
}

function joined(before: Uint8Array, names: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(before.length + names.length * NAME_BYTES);
  bytes.set(before);
  names.forEach((name, index) => bytes.set(name, before.length + index * NAME_BYTES));
  return bytes;
}

/**
 * Reads what is kept, and what is pinned.
 * @param readers those of the chain store
 */
export async function openStateHistory(kv: KeyValueStore, readers: StateReaders): Promise<StateHistory> {
  const stored = kv.getSync(storageKey.meta('prunedBelow'));
  const prunedBelow = stored === undefined ? 0 : (readU64be(stored, 0) ?? 0);
  const pins = await kv.scan({ ...storageRange.statePins(), limit: MAX_PINS + 1 });
  return new StateHistory(
    kv,
    readers,
    prunedBelow,
    pins.map(({ key }) => heightOf(key)),
  );
}
