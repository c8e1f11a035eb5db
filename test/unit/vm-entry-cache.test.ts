import { isDeepStrictEqual } from 'node:util';
import t from 'tap';
import { bytesToHex, concatBytes, u32be } from '../../common/bytes.ts';
import { boundedBytes, bytes, type Codec, encode, struct, uint } from '../../common/codec.ts';
import { InvariantError } from '../../common/errors.ts';
import { EntryCache, type StateReader, type StateWrite } from '../../vm/index.ts';
import { textOf } from '../../vm/entry-cache.ts';
import { Overlay } from '../../vm/overlay.ts';
import { MemoryState } from './vm-world.ts';

const entry = struct({ value: uint(), about: boundedBytes(0, 400_000) });
type Entry = { readonly value: number; readonly about: Uint8Array };

/** A small deterministic generator: the same walks in every run. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** Counts how often the state itself is asked. */
class CountedState implements StateReader {
  readonly beneath = new MemoryState();
  asked = 0;

  get(key: Uint8Array): Uint8Array | undefined {
    this.asked += 1;
    return this.beneath.get(key);
  }

  range(query: Parameters<StateReader['range']>[0]): ReturnType<StateReader['range']> {
    this.asked += 1;
    return this.beneath.range(query);
  }
}

const PLAIN = 0x31;
/** Entries of these namespaces are listed; of the second, by 20 bytes more of their keys. */
const LISTED = 0x07;
const LISTED_BY_PARENT = 0x13;

function keyOf(n: number): Uint8Array {
  if (n < 12) return Uint8Array.of(PLAIN, n);
  if (n < 18) return Uint8Array.of(LISTED, n);
  const parent = new Uint8Array(20).fill(n % 3);
  return concatBytes(Uint8Array.of(LISTED_BY_PARENT), parent, Uint8Array.of(n % 2, n));
}
const KEYS = 36;

const PREFIXES = [
  Uint8Array.of(LISTED),
  ...[0, 1, 2].flatMap((parent) => {
    const all = concatBytes(Uint8Array.of(LISTED_BY_PARENT), new Uint8Array(20).fill(parent));
    return [all, concatBytes(all, Uint8Array.of(0)), concatBytes(all, Uint8Array.of(1))];
  }),
];

/** The state stated once more, as plainly as possible. */
type Model = Map<string, Entry>;

function listed(model: Model, prefix: Uint8Array, limit: number): Entry[] {
  const hex = bytesToHex(prefix);
  const keys = [...model.keys()].filter((key) => key.startsWith(hex)).sort();
  return keys.slice(0, limit).map((key) => model.get(key) as Entry);
}

type Random = (below: number) => number;

/** Fails the test where two values differ: thousands are compared. */
type Compare = (is: unknown, must: unknown, what: string) => void;

/** One transaction of reads and writes, a quarter of which fail in the end; holds all that it reads against the model. */
function transact(same: Compare, random: Random, state: Overlay, before: Model): Model {
  const model = new Map(before);
  for (let step = random(8); step >= 0; step -= 1) {
    const n = random(KEYS);
    const key = keyOf(n);
    const action = random(5);
    if (action === 0) {
      // Some are so large that half a dozen of them drive the others out of memory.
      const about = new Uint8Array(key[0] === PLAIN ? 400_000 : random(40)).fill(n);
      const value = { value: random(1_000), about };
      state.put(entry, key, value);
      model.set(bytesToHex(key), value);
    } else if (action === 1) {
      state.delete(key);
      model.delete(bytesToHex(key));
    } else if (action === 2) {
      const [prefix, limit] = [PREFIXES[random(PREFIXES.length)] as Uint8Array, 1 + random(6)];
      same(state.list(entry, prefix, limit), listed(model, prefix, limit), 'listing');
    } else {
      same(state.get(entry, key), model.get(bytesToHex(key)), 'entry');
    }
  }
  if (random(4) === 0) {
    state.rollback();
    return before;
  }
  state.commit();
  return model;
}

/** Holds what a block writes against the difference of two models. */
function checkWrites(same: Compare, writes: readonly StateWrite[], before: Model, after: Model): void {
  const written = new Map(writes.map(({ key, value }) => [bytesToHex(key), value]));
  for (const key of new Set([...before.keys(), ...after.keys(), ...written.keys()])) {
    const [was, is, write] = [before.get(key), after.get(key), written.get(key)];
    if (write === undefined) same(is, was, 'an entry that is not written');
    else if (is !== undefined) same(write, encode(entry, is), 'an entry that is written');
    else same([write, was === undefined], [null, false], 'an entry that is deleted');
  }
}

t.test('blocks over what is in memory, and over what is read anew, see and write the same', async (t) => {
  let compared = 0;
  const same: Compare = (is, must, what) => {
    compared += 1;
    if (!isDeepStrictEqual(is, must)) t.fail(`${what} differs`);
  };
  for (let seed = 1; seed <= 6; seed += 1) {
    const state = new MemoryState();
    let entries = new EntryCache(state);
    let model: Model = new Map();
    for (let height = 1; height <= 60; height += 1) {
      /** A proposal of this height: what it writes, and the state after it. */
      const propose = (base: StateReader, view: number): { writes: StateWrite[]; after: Model } => {
        const random = generator(seed * 10_000 + height * 10 + view);
        const overlay = new Overlay(base);
        let after = model;
        for (let txs = random(6); txs >= 0; txs -= 1) after = transact(same, random, overlay, after);
        return { writes: overlay.writes(), after };
      };
      // Two that read through one memory; and a third, which is committed and was not executed over it at every height.
      for (const view of [0, 1]) same(propose(entries, view).writes, propose(state, view).writes, 'a block');
      const { writes, after } = propose(state, 2);
      if (height % 3 > 0) same(propose(entries, 2).writes, writes, 'a block');
      checkWrites(same, writes, model, after);
      state.apply(writes);
      entries = new EntryCache(state, { before: entries, writes });
      model = after;
    }
  }
  t.ok(compared > 20_000, `${compared} comparisons`);
});

t.test('what was read of the state is read once, until it is written', async (t) => {
  const state = new CountedState();
  const value = { value: 1, about: new Uint8Array(20) };
  const [there, absent, fresh] = [keyOf(0), keyOf(1), keyOf(2)];
  state.beneath.apply([{ key: there, value: encode(entry, value) }]);
  const first = new EntryCache(state);
  const read = (entries: EntryCache, key: Uint8Array): unknown => entries.entry(entry, key, textOf(key));
  const given = read(first, there);
  t.strictSame(given, value);
  t.equal(read(first, there), given, 'the same object');
  t.equal(read(first, absent), undefined);
  t.equal(read(first, absent), undefined);
  t.equal(first.has(there, textOf(there)), true);
  t.equal(first.has(absent, textOf(absent)), false);
  t.equal(state.asked, 2);

  const put = { value: 2, about: new Uint8Array(3) };
  const writes = [absent, fresh].map((key) => ({ key, value: encode(entry, put) }));
  state.beneath.apply(writes);
  const second = new EntryCache(state, { before: first, writes });
  t.equal(read(second, there), given, 'what was not written stays');
  const decoded = read(second, absent);
  t.strictSame(decoded, put);
  t.not(decoded, put, 'what was written is decoded from its bytes');
  t.equal(state.asked, 2);
  t.strictSame(read(second, fresh), put);
  t.equal(state.asked, 3, 'what was never read does not come into memory by being written');
  read(first, there);
  t.equal(state.asked, 4, 'the state before has nothing in memory any more');

  state.beneath.apply([{ key: there, value: null }]);
  const third = new EntryCache(state, { before: second, writes: [{ key: there, value: null }] });
  t.equal(read(third, there), undefined);
  t.equal(state.asked, 4);
});

t.test('an entry is what the codec says that it is read with', async (t) => {
  const state = new MemoryState();
  const key = keyOf(0);
  state.apply([{ key, value: encode(struct({ value: uint() }), { value: 7 }) }]);
  const entries = new EntryCache(state);
  const as = <T>(codec: Codec<T>): T | undefined => entries.entry(codec, key, textOf(key));
  t.strictSame(as(struct({ value: uint() })), { value: 7 });
  t.strictSame(as(struct({ other: uint() })), { other: 7 });
  t.throws(() => as(struct({ value: bytes(20) })), InvariantError);
  t.throws(() => as(struct({ value: bytes(20) })), InvariantError, 'and again');
  const prefix = Uint8Array.of(LISTED);
  state.apply([{ key: keyOf(12), value: encode(struct({ value: uint() }), { value: 8 }) }]);
  const list = <T>(codec: Codec<T>): T[] => new Overlay(entries).list(codec, prefix, 5);
  t.strictSame(list(struct({ value: uint() })), [{ value: 8 }]);
  t.strictSame(list(struct({ other: uint() })), [{ other: 8 }]);
});

t.test('a listing is read once, until something under its parent is written', async (t) => {
  const state = new CountedState();
  const put = (n: number): StateWrite => ({
    key: keyOf(n),
    value: encode(entry, { value: n, about: new Uint8Array(0) }),
  });
  const first = [18, 24, 21, 27].map(put);
  state.beneath.apply(first);
  const parent = concatBytes(Uint8Array.of(LISTED_BY_PARENT), new Uint8Array(20));
  const other = concatBytes(Uint8Array.of(LISTED_BY_PARENT), new Uint8Array(20).fill(1));
  const list = (entries: EntryCache, prefix: Uint8Array, limit: number): number[] =>
    new Overlay(entries).list(entry, prefix, limit).map(({ value }) => value);
  const entries = new EntryCache(state);
  t.strictSame(list(entries, parent, 2), [18, 24]);
  t.strictSame(list(entries, parent, 1), [18]);
  t.strictSame(list(entries, other, 2), []);
  t.equal(state.asked, 2, 'fewer of them, and none, are known as well');
  t.strictSame(list(entries, parent, 3), [18, 24, 21]);
  t.strictSame(list(entries, parent, 9), [18, 24, 21, 27]);
  t.equal(state.asked, 4, 'more of them are not');
  const writes = [{ key: keyOf(24), value: null }, put(30)].sort((a, b) => Buffer.compare(a.key, b.key));
  state.beneath.apply(writes);
  const next = new EntryCache(state, { before: entries, writes });
  t.strictSame(list(next, parent, 9), [18, 30, 21, 27]);
  t.strictSame(list(next, other, 2), []);
  t.equal(state.asked, 5, 'what is under another parent stays');
});

t.test('a listing that is about to leave the memory goes with what is written under its parent', async (t) => {
  const state = new MemoryState();
  const prefixes = Array.from({ length: 40 }, (_, n) =>
    concatBytes(Uint8Array.of(LISTED_BY_PARENT), new Uint8Array(20).fill(n)),
  );
  const put = (n: number, value: number): StateWrite => ({
    key: concatBytes(prefixes[n] as Uint8Array, Uint8Array.of(0)),
    value: encode(entry, { value, about: new Uint8Array(30_000) }),
  });
  state.apply(prefixes.map((_, n) => put(n, 1)));
  let entries = new EntryCache(state);
  for (let n = 0; n < prefixes.length; n += 1) {
    const list = (): number[] =>
      new Overlay(entries).list(entry, prefixes[0] as Uint8Array, 2).map(({ value }) => value);
    t.strictSame(list(), [n + 1], `after ${n} others`);
    for (const other of prefixes.slice(1, n + 1)) new Overlay(entries).list(entry, other, 2);
    const writes = [put(0, n + 2)];
    state.apply(writes);
    entries = new EntryCache(state, { before: entries, writes });
  }
});

t.test('memory is bounded, and what is used again and again stays', async (t) => {
  const state = new CountedState();
  const about = new Uint8Array(100_000);
  const keys = Array.from({ length: 100 }, (_, n) => concatBytes(Uint8Array.of(PLAIN), u32be(n)));
  state.beneath.apply(keys.map((key, value) => ({ key, value: encode(entry, { value, about }) })));
  const entries = new EntryCache(state);
  const read = (n: number): Entry | undefined =>
    entries.entry(entry, keys[n] as Uint8Array, textOf(keys[n] as Uint8Array));
  for (let n = 0; n < keys.length; n += 1) {
    t.equal(read(n)?.value, n);
    t.equal(read(0)?.value, 0);
  }
  t.equal(state.asked, 100, 'the first one stayed');
  t.equal(read(1)?.value, 1);
  t.equal(state.asked, 101, 'the second one did not');
  t.equal(read(99)?.value, 99);
  t.equal(state.asked, 101, 'the last ones did');
});
