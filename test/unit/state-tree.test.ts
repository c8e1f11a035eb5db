import { readFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { bytesToHex, compareBytes, concatBytes, equalBytes, hexToBytes, utf8 } from '../../common/bytes.ts';
import { H } from '../../common/crypto/hash.ts';
import { sm3 } from '../../common/crypto/sm3.ts';
import { InvariantError } from '../../common/errors.ts';
import {
  KEY_PROOF,
  KEY_PROOF_FORMAT,
  MAX_KEY_PROOF_BYTES,
  MAX_RANGE_PROOF_BYTES,
  RANGE_NODE,
  RANGE_PROOF_FORMAT,
  verifyProof,
  verifyRange,
} from '../../common/protocol/state-proof.ts';
import {
  criticalBit,
  EMPTY_STATE_ROOT,
  innerHash,
  keyBit,
  leafHash,
  leafHashOf,
  MAX_STATE_DEPTH,
  MAX_STATE_VALUE_BYTES,
  type StateEntry,
  type StateRange,
} from '../../common/protocol/state-tree.ts';
import {
  type AppliedWrites,
  applyWrites,
  auditTree,
  decodeRoot,
  EMPTY,
  encodeRoot,
  get,
  iterate,
  type NodeReader,
  nodeKey,
  type NodeRef,
  proveKey,
  proveRange,
  rootHashOf,
  stateReader,
  type TreeRoot,
} from '../../vm/state-tree/index.ts';
import { hashNodes } from '../../vm/state-tree/hash-nodes.ts';
import { encodeLeaf, encodePage, encodeRef, OUTER, sealPage } from '../../vm/state-tree/node.ts';
import { Slab } from '../../vm/state-tree/slab.ts';
import { childOf, expand, hashOf, type Inner, type Leaf, setChild, stubOf } from '../../vm/state-tree/tree.ts';
import type { StateWrite } from '../../vm/types.ts';

/** Numbers that look random and are the same for a seed in every run (mulberry32). */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

type Random = ReturnType<typeof random>;
type KeyMaker = (next: Random) => Uint8Array;

const KEYS: Readonly<Record<string, KeyMaker>> = {
  'keys like ours: a namespace and a hash': (next) =>
    concatBytes(Uint8Array.of(0x30 + next(3)), sm3(utf8(`${next(400)}`))),
  'keys that begin with each other': (next) => Uint8Array.from({ length: 1 + next(6) }, () => (next(2) ? 0xff : 0)),
  'keys that differ late': (next) => {
    const key = new Uint8Array(120 + next(9));
    key[next(key.length)] = 1 << next(8);
    return key;
  },
  'any keys': (next) => Uint8Array.from({ length: 1 + next(4) }, () => next(256)),
};

/** The tree of a store with some of its leaves opened, and no hash of what is open. */
function unhashed(store: Store, next: Random): Leaf | Inner {
  const open = (node: Leaf | Inner): Leaf | Inner => {
    node.hash = null;
    if (node.kind === 'leaf') return node;
    for (const side of [0, 1] as const) {
      // What is left as it stands in the page has its hash there.
      if (next(4) === 0) continue;
      const child = childOf(node, side);
      setChild(node, side, open(child.kind === 'stub' ? expand(store, child, node.bit) : child));
    }
    return node;
  };
  return open(expand(store, stubOf(store.root!), -1));
}

/** One chain's state as a node keeps it: nodes by their storage key, and what the entries should be. */
class Store implements NodeReader {
  readonly nodes = new Map<string, Uint8Array>();
  readonly model = new Map<string, Uint8Array>();
  root: TreeRoot = EMPTY;
  version = 0;
  readonly #prune: boolean;

  constructor(prune = true) {
    this.#prune = prune;
  }

  getNode(ref: NodeRef): Uint8Array | undefined {
    return this.nodes.get(bytesToHex(nodeKey(ref)));
  }

  commit(writes: readonly StateWrite[]): AppliedWrites['staleNodes'] {
    this.version += 1;
    const applied = applyWrites(this, this.root, sorted(writes), this.version);
    for (const { key, bytes } of applied.newNodes) this.nodes.set(bytesToHex(key), bytes);
    if (this.#prune) for (const ref of applied.staleNodes) this.nodes.delete(bytesToHex(nodeKey(ref)));
    this.root = applied.root;
    for (const { key, value } of writes) {
      if (value === null) this.model.delete(bytesToHex(key));
      else this.model.set(bytesToHex(key), value);
    }
    return applied.staleNodes;
  }

  get rootHash(): Uint8Array {
    return rootHashOf(this.root);
  }

  entries(): StateEntry[] {
    return [...this.model].map(([key, value]) => ({ key: hexToBytes(key), value })).sort(byKey);
  }
}

const byKey = (left: { key: Uint8Array }, right: { key: Uint8Array }) => compareBytes(left.key, right.key);

function sorted(writes: readonly StateWrite[]): StateWrite[] {
  return [...writes].sort(byKey);
}

function randomWrites(next: Random, makeKey: KeyMaker, count: number): StateWrite[] {
  const writes = new Map<string, StateWrite>();
  for (let index = 0; index < count; index++) {
    const key = makeKey(next);
    const value = next(3) === 0 ? null : Uint8Array.from({ length: next(40) }, () => next(256));
    writes.set(bytesToHex(key), { key, value });
  }
  return [...writes.values()];
}

const put = (key: Uint8Array, value: string): StateWrite => ({ key, value: utf8(value) });

function within(entries: readonly StateEntry[], { gte, lt }: StateRange): StateEntry[] {
  return entries.filter(({ key }) => compareBytes(key, gte) >= 0 && (lt === null || compareBytes(key, lt) < 0));
}

const ALL: StateRange = { gte: new Uint8Array(0), lt: null };
const shown = (entries: Iterable<StateEntry>) =>
  [...entries].map(({ key, value }) => `${bytesToHex(key)}=${bytesToHex(value)}`);

/** The root by its definition: no pages, no versions, no changes; bits as text. */
function definedRoot(entries: readonly StateEntry[]): Uint8Array {
  const bits = (key: Uint8Array) => [...key].map((byte) => `1${byte.toString(2).padStart(8, '0')}`).join('') + '0';
  const build = (items: readonly { bits: string; entry: StateEntry }[], from: number): Uint8Array => {
    const [first] = items;
    if (items.length === 1) return H('state-leaf', first!.entry.key, sm3(first!.entry.value));
    let bit = from;
    while (items.every((item) => item.bits[bit] === first!.bits[bit])) bit++;
    const left = build(
      items.filter((item) => item.bits[bit] === '0'),
      bit + 1,
    );
    const right = build(
      items.filter((item) => item.bits[bit] === '1'),
      bit + 1,
    );
    return H('state-inner', Uint8Array.of(bit >> 8, bit & 255), left, right);
  };
  if (entries.length === 0) return H('state-empty');
  return build(
    entries.map((entry) => ({ bits: bits(entry.key), entry })),
    0,
  );
}

/** A tree with the greatest depth: a key for each bit at which it can differ from the first one. */
function deepestKeys(): Uint8Array[] {
  const keys = [new Uint8Array(128)];
  for (let length = 1; length < 128; length++) keys.push(new Uint8Array(length));
  for (let bit = 0; bit < 1024; bit++) {
    const key = new Uint8Array(128);
    key[bit >> 3] = 0x80 >> (bit & 7);
    keys.push(key);
  }
  return keys;
}

function filled(seed: number, makeKey: KeyMaker, count: number): Store {
  const store = new Store();
  const next = random(seed);
  store.commit(randomWrites(next, makeKey, count));
  return store;
}

t.test('bits of keys', async (t) => {
  const next = random(1);
  for (let round = 0; round < 2000; round++) {
    const makeKey = KEYS[Object.keys(KEYS)[next(4)]!]!;
    const [left, right] = [makeKey(next), makeKey(next)];
    const bit = criticalBit(left, right);
    if (bit === -1) {
      if (!equalBytes(left, right)) t.fail('different keys without a critical bit');
      continue;
    }
    if (Math.sign(compareBytes(left, right)) !== keyBit(left, bit) - keyBit(right, bit))
      t.fail('order of bits is not that of bytes');
    for (let before = 0; before < bit; before++) {
      if (keyBit(left, before) !== keyBit(right, before)) t.fail('an earlier bit differs');
    }
  }
  t.equal(criticalBit(utf8('a'), utf8('ab')), 9, 'where the shorter ends');
  t.same(
    [0, 1, 8, 9, 10, 500].map((bit) => keyBit(Uint8Array.of(0x81), bit)),
    [1, 1, 1, 0, 0, 0],
  );
  t.same(
    innerHash(300, sm3(utf8('l')), sm3(utf8('r'))),
    H('state-inner', Uint8Array.of(1, 44), sm3(utf8('l')), sm3(utf8('r'))),
  );
});

t.test('roots', async (t) => {
  t.test('known answers', async (t) => {
    const file = new URL('../vectors/state-tree/roots.json', import.meta.url);
    const { cases } = JSON.parse(readFileSync(file, 'utf8')) as {
      cases: { name: string; entries: [string, string][]; root: string }[];
    };
    t.ok(cases.length >= 8);
    for (const { name, entries, root } of cases) {
      const store = new Store();
      store.commit(entries.map(([key, value]) => ({ key: hexToBytes(key), value: hexToBytes(value) })));
      t.equal(bytesToHex(store.rootHash), root, name);
    }
  });

  t.test('depend on the entries alone', async (t) => {
    for (const [name, makeKey] of Object.entries(KEYS)) {
      const next = random(7);
      const writes = randomWrites(next, makeKey, 200).filter(({ value }) => value !== null);
      const once = new Store();
      once.commit(writes);
      const many = new Store();
      for (const write of [...writes].sort(() => next(3) - 1)) many.commit([write]);
      const detour = new Store();
      detour.commit(randomWrites(next, makeKey, 300));
      const others = detour.entries().map(({ key }) => ({ key, value: null }));
      detour.commit(writes);
      const wanted = new Set(writes.map(({ key }) => bytesToHex(key)));
      detour.commit(others.filter(({ key }) => !wanted.has(bytesToHex(key))));
      t.same(many.rootHash, once.rootHash, `one by one: ${name}`);
      t.same(detour.rootHash, once.rootHash, `by a detour: ${name}`);
      t.same(once.rootHash, definedRoot(once.entries()), `by definition: ${name}`);
      t.equal(auditTree(many, many.root).bytes, auditTree(once, once.root).bytes, `pages alike: ${name}`);
    }
  });
});

t.test('a sorted map', async (t) => {
  for (const [name, makeKey] of Object.entries(KEYS)) {
    t.test(name, async (t) => {
      for (let seed = 1; seed <= 4; seed++) {
        const next = random(seed);
        const store = new Store();
        for (let block = 0; block < 25; block++) {
          store.commit(randomWrites(next, makeKey, 1 + next(40)));
          const entries = store.entries();
          const used = new Set<string>();
          const audit = auditTree(store, store.root, (ref) => used.add(bytesToHex(nodeKey(ref))));
          if (audit.entries !== entries.length) t.fail('number of entries');
          if (used.size !== store.nodes.size) t.fail('a stale node was not reported, or a used one was');
          if (!equalBytes(store.rootHash, definedRoot(entries))) t.fail('root');
          checkReads(t, store, entries, next, makeKey);
        }
        t.pass(`seed ${seed}`);
      }
    });
  }

  function checkReads(t: Test, store: Store, entries: StateEntry[], next: Random, makeKey: KeyMaker): void {
    for (const { key, value } of entries) {
      const found = get(store, store.root, key);
      if (found === undefined || !equalBytes(found, value)) t.fail('value');
    }
    for (let round = 0; round < 10; round++) {
      const key = makeKey(next);
      if ((get(store, store.root, key) !== undefined) !== store.model.has(bytesToHex(key))) t.fail('presence');
      const range = { gte: next(5) ? makeKey(next) : ALL.gte, lt: next(5) ? makeKey(next) : null };
      const limit = next(3) ? 1000 : next(5);
      const expected = within(entries, range);
      const up = shown(iterate(store, store.root, { ...range, limit }));
      const down = shown(iterate(store, store.root, { ...range, limit, reverse: true }));
      if (up.join() !== shown(expected.slice(0, limit)).join()) t.fail('ascending');
      if (down.join() !== shown(expected.reverse().slice(0, limit)).join()) t.fail('descending');
    }
  }

  t.test('down to nothing, and up again', async (t) => {
    const store = filled(3, KEYS['any keys']!, 100);
    const before = store.rootHash;
    const entries = store.entries();
    for (const { key } of entries) store.commit([{ key, value: null }]);
    t.equal(store.root, EMPTY);
    t.same(store.rootHash, EMPTY_STATE_ROOT);
    t.equal(store.nodes.size, 0, 'all nodes were stale');
    t.same([...iterate(store, store.root, { ...ALL, limit: 5 })], []);
    t.equal(get(store, store.root, utf8('a')), undefined);
    store.commit(entries);
    t.same(store.rootHash, before);
    store.commit(entries.map(({ key }) => ({ key, value: null })));
    t.equal(store.root, EMPTY, 'in one batch as well');
  });

  t.test('values of every size', async (t) => {
    const store = new Store();
    const largest = new Uint8Array(MAX_STATE_VALUE_BYTES).fill(7);
    store.commit([put(utf8('none'), ''), { key: utf8('most'), value: largest }]);
    t.same(get(store, store.root, utf8('none')), new Uint8Array(0), 'an empty value is there');
    t.same(get(store, store.root, utf8('most')), largest);
    t.equal(get(store, store.root, utf8('non')), undefined);
  });

  t.test('the view that the vm reads', async (t) => {
    const store = new Store();
    store.commit(['a', 'b', 'c'].map((key) => put(utf8(key), key)));
    const reader = stateReader(store, store.root);
    t.same(reader.get(utf8('b')), utf8('b'));
    t.same(
      [...reader.range({ gte: utf8('b'), lt: utf8('z'), limit: 9 })].map(({ key }) => key),
      [utf8('b'), utf8('c')],
    );
  });
});

t.test('versions', async (t) => {
  t.test('older roots stay readable until what is stale is deleted', async (t) => {
    const store = new Store(false);
    const next = random(11);
    const history: { root: TreeRoot; entries: string[]; stale: AppliedWrites['staleNodes'] }[] = [];
    for (let block = 0; block < 12; block++) {
      const stale = store.commit(randomWrites(next, KEYS['any keys']!, 30));
      history.push({ root: store.root, entries: shown(store.entries()), stale });
    }
    for (const { root, entries } of history) t.same(shown(iterate(store, root, { ...ALL, limit: 1e6 })), entries);
    for (const [index, { stale }] of history.entries()) {
      for (const ref of stale) store.nodes.delete(bytesToHex(nodeKey(ref)));
      const kept = history.slice(index);
      if (
        kept.some(({ root, entries }) => shown(iterate(store, root, { ...ALL, limit: 1e6 })).join() !== entries.join())
      ) {
        t.fail('deleting what a version made stale hurt that version or a later one');
      }
    }
    t.equal(store.nodes.size, auditTree(store, store.root).nodes, 'nothing is left over');
  });

  t.test('results can be thrown away', async (t) => {
    const store = filled(5, KEYS['any keys']!, 50);
    const before = shown(store.entries());
    const writes = sorted([put(utf8('x'), '1'), put(utf8('y'), '2')]);
    const first = applyWrites(store, store.root, writes, 9);
    const second = applyWrites(store, store.root, writes, 9);
    t.same(first, second, 'same input, same names and bytes');
    t.same(shown(iterate(store, store.root, { ...ALL, limit: 1e6 })), before);
  });

  t.test('what changes nothing makes nothing', async (t) => {
    const store = filled(5, KEYS['any keys']!, 50);
    const writes = [...store.entries().slice(0, 5), { key: utf8('not there'), value: null }];
    const applied = applyWrites(store, store.root, sorted(writes), 9);
    t.same([applied.root, applied.newNodes, applied.staleNodes], [store.root, [], []]);
  });

  t.test('nodes hashed together have the hashes that they have one by one', async (t) => {
    for (const [name, makeKey] of Object.entries(KEYS)) {
      const store = filled(11, makeKey, 300);
      const next = random(12);
      for (let round = 0; round < 20; round += 1) {
        const tree = unhashed(store, next);
        t.same(hashOf(unhashed(store, next)), store.rootHash, name);
        hashNodes(tree);
        t.not(tree.hash, null, name);
        t.same(hashOf(tree), store.rootHash, name);
        store.commit(randomWrites(next, makeKey, 1 + next(60)));
      }
    }
  });

  t.test('a value of any length is hashed as by itself', async (t) => {
    const lengths = [0, 1, 54, 55, 56, 63, 64, 119, 120, 5_000, MAX_STATE_VALUE_BYTES];
    const writes = lengths.map((length, index) => ({
      key: Uint8Array.of(index + 1),
      value: new Uint8Array(length).fill(7),
    }));
    for (const write of writes) {
      const { rootHash } = applyWrites(new Store(), EMPTY, [write], 1);
      t.same(rootHash, leafHash(write.key, write.value), `${write.value.length} bytes`);
    }
    for (const length of [59, 60, 61, 123, 124, 128]) {
      const key = new Uint8Array(length).fill(9);
      t.same(
        applyWrites(new Store(), EMPTY, [{ key, value: key }], 1).rootHash,
        leafHash(key, key),
        `key of ${length}`,
      );
    }
  });

  t.test('roots and names are stored in order', async (t) => {
    const { root } = filled(6, KEYS['any keys']!, 20);
    t.same(decodeRoot(encodeRoot(root)), root);
    t.equal(decodeRoot(encodeRoot(EMPTY)), EMPTY);
    t.throws(() => decodeRoot(new Uint8Array(41)), InvariantError);
    const names = [
      [0, 0],
      [0, 1],
      [1, 0],
      [2 ** 32, 5],
      [2 ** 40 + 1, 0],
      [2 ** 48 - 1, 2 ** 32 - 1],
    ] as const;
    const keys = names.map(([version, sequence]) => nodeKey({ version, sequence }));
    t.same([...keys].reverse().sort(compareBytes), keys);
    t.throws(() => nodeKey({ version: 2 ** 48, sequence: 0 }), InvariantError);
  });
});

t.test('misuse and damage stop the node', async (t) => {
  t.test('writes that break the rules', async (t) => {
    const store = filled(2, KEYS['any keys']!, 10);
    const apply =
      (writes: StateWrite[], version = 5) =>
      () =>
        applyWrites(store, store.root, writes, version);
    t.throws(apply([put(utf8('b'), ''), put(utf8('a'), '')]), InvariantError, 'unsorted');
    t.throws(apply([put(utf8('a'), ''), put(utf8('a'), '')]), InvariantError, 'twice');
    t.throws(apply([put(new Uint8Array(0), '')]), InvariantError, 'empty key');
    t.throws(apply([put(new Uint8Array(129), '')]), InvariantError, 'long key');
    t.throws(
      apply([{ key: utf8('a'), value: new Uint8Array(MAX_STATE_VALUE_BYTES + 1) }]),
      InvariantError,
      'long value',
    );
    t.throws(apply([put(utf8('a'), '')], 1), InvariantError, 'a version that is there already');
    t.throws(() => get(store, store.root, new Uint8Array(0)), InvariantError);
  });

  t.test('any byte of any node', async (t) => {
    const store = filled(2, KEYS['keys like ours: a namespace and a hash']!, 30);
    let unseen = 0;
    for (const [name, bytes] of store.nodes) {
      for (let at = 0; at < bytes.length; at++) {
        const damaged = bytes.slice();
        damaged[at] = damaged[at]! ^ (1 << (at % 8));
        store.nodes.set(name, damaged);
        if (!refuses(() => [...iterate(store, store.root, { ...ALL, limit: 100 })])) unseen++;
      }
      for (const cut of [
        bytes.slice(0, -1),
        bytes.slice(0, 5),
        new Uint8Array(0),
        concatBytes(bytes, Uint8Array.of(0)),
      ]) {
        store.nodes.set(name, cut);
        if (!refuses(() => [...iterate(store, store.root, { ...ALL, limit: 100 })])) unseen++;
      }
      store.nodes.set(name, bytes);
    }
    t.equal(unseen, 0);
  });

  t.test('missing and exchanged nodes', async (t) => {
    const store = filled(2, KEYS['keys like ours: a namespace and a hash']!, 30);
    const key = store.entries()[7]!.key;
    const names = [...store.nodes.keys()];
    for (const [index, name] of names.entries()) {
      const bytes = store.nodes.get(name)!;
      for (const other of [undefined, store.nodes.get(names[(index + 1) % names.length]!)!]) {
        if (other === undefined) store.nodes.delete(name);
        else store.nodes.set(name, other);
        const reads = [
          () => [...iterate(store, store.root, { ...ALL, limit: 100 })],
          () => auditTree(store, store.root),
        ];
        if (!reads.every(refuses)) t.fail('not seen');
      }
      store.nodes.set(name, bytes);
    }
    store.nodes.clear();
    for (const call of [get, proveKey])
      t.throws(() => call(store, store.root, key), { name: 'InvariantError', message: /missing/ });
    t.throws(() => applyWrites(store, store.root, [{ key, value: null }], 5), {
      name: 'InvariantError',
      message: /missing/,
    });
  });

  t.test('a page that leads to itself, under a right checksum', async (t) => {
    const ref = { version: 1, sequence: 0, hash: sm3(utf8('page')) };
    const slot = { bytes: encodeRef(ref), at: 0 };
    const page = encodePage([{ bit: 7, left: OUTER, right: OUTER | 1 }], [slot, slot], new Slab());
    sealPage(page, slot);
    const reader: NodeReader = { getNode: () => page };
    const reads = [
      () => get(reader, ref, utf8('a')),
      () => [...iterate(reader, ref, { ...ALL, limit: 1 })],
      () => [...iterate(reader, ref, { gte: utf8('a'), lt: null, limit: 1, reverse: true })],
      () => applyWrites(reader, ref, [put(utf8('a'), '')], 2),
    ];
    for (const read of reads) t.throws(read, { name: 'InvariantError', message: /bits out of order/ });
  });

  t.test('a wrong value under a right checksum makes no proof', async (t) => {
    const store = new Store();
    store.commit([put(utf8('a'), 'right')]);
    const [name] = [...store.nodes.keys()];
    store.nodes.set(name!, encodeLeaf(utf8('a'), utf8('wrong'), { bytes: encodeRoot(store.root), at: 0 }, new Slab()));
    t.throws(() => proveKey(store, store.root, utf8('a')), { name: 'InvariantError', message: /hash/ });
    t.throws(() => proveRange(store, store.root, ALL, 5), InvariantError);
    t.throws(() => auditTree(store, store.root), InvariantError);
  });

  function refuses(read: () => unknown): boolean {
    try {
      read();
      return false;
    } catch (error) {
      if (error instanceof InvariantError) return true;
      throw error;
    }
  }
});

t.test('known answers for proofs', async (t) => {
  const file = new URL('../vectors/state-tree/proofs.json', import.meta.url);
  const vectors = JSON.parse(readFileSync(file, 'utf8')) as {
    entries: Record<string, [string, string][]>;
    keys: { entries: string; key: string; present: boolean; proof: string }[];
    ranges: { entries: string; gte: string; lt: string | null; keys: string[]; proof: string }[];
  };
  const stores = new Map(
    Object.entries(vectors.entries).map(([name, entries]) => {
      const store = new Store();
      store.commit(entries.map(([key, value]) => ({ key: hexToBytes(key), value: hexToBytes(value) })));
      return [name, store];
    }),
  );
  for (const { entries, key: hex, present, proof } of vectors.keys) {
    const [store, key] = [stores.get(entries)!, hexToBytes(hex)];
    t.equal(bytesToHex(proveKey(store, store.root, key)), proof, `${entries}: ${hex}`);
    const verdict = verifyProof(store.rootHash, key, hexToBytes(proof));
    t.equal(verdict.ok && verdict.value.present, present);
  }
  for (const { entries, gte, lt, keys, proof } of vectors.ranges) {
    const store = stores.get(entries)!;
    const range = { gte: hexToBytes(gte), lt: lt === null ? null : hexToBytes(lt) };
    t.equal(bytesToHex(proveRange(store, store.root, range, 100).proof), proof, `${entries}: ${gte} to ${lt}`);
    const verdict = verifyRange(store.rootHash, range, hexToBytes(proof));
    t.same(verdict.ok && verdict.value.map(({ key }) => bytesToHex(key)), keys);
  }
  t.ok(vectors.keys.length >= 10 && vectors.ranges.length >= 15);
});

t.test('what is no tree is refused, whoever vouches for its root', async (t) => {
  const [a, b, c] = [utf8('a'), utf8('b'), utf8('c')];
  const entry = (key: Uint8Array) => concatBytes(Uint8Array.of(RANGE_NODE.entry, 1), key, new Uint8Array(4));
  const inner = (bit: number, left: Uint8Array, right: Uint8Array) =>
    concatBytes(Uint8Array.of(RANGE_NODE.inner, 0, bit), left, right);
  const hash = (key: Uint8Array) => leafHash(key, new Uint8Array(0));
  const verify = (root: Uint8Array, node: Uint8Array) =>
    verifyRange(root, ALL, concatBytes(Uint8Array.of(RANGE_PROOF_FORMAT), node));
  // 'a', 'b' and 'c' end in 01, 10 and 11: bit 7 parts a from the others, bit 8 those from each other.
  const sound = innerHash(7, hash(a), innerHash(8, hash(b), hash(c)));
  t.ok(verify(sound, inner(7, entry(a), inner(8, entry(b), entry(c)))).ok);
  const wrong = [
    ['a bit tested too late', innerHash(8, hash(b), hash(a)), inner(8, entry(b), entry(a))],
    ['a bit tested too early', innerHash(6, hash(b), hash(c)), inner(6, entry(b), entry(c))],
    ['keys that part before', innerHash(8, hash(utf8('`')), hash(c)), inner(8, entry(utf8('`')), entry(c))],
    ['sides exchanged', innerHash(8, hash(c), hash(b)), inner(8, entry(c), entry(b))],
    ['the same key twice', innerHash(8, hash(c), hash(c)), inner(8, entry(c), entry(c))],
    [
      'bits that do not grow',
      innerHash(8, innerHash(7, hash(a), hash(b)), hash(c)),
      inner(8, inner(7, entry(a), entry(b)), entry(c)),
    ],
    ['bit 0, which no two keys differ in', innerHash(0, hash(a), hash(b)), inner(0, entry(a), entry(b))],
  ] as const;
  for (const [name, root, node] of wrong) t.match(verify(root, node), { code: 'STATE_PROOF_MALFORMED' }, name);

  const step = (bit: number, sibling: Uint8Array) => concatBytes(Uint8Array.of(0, bit), sibling);
  const proof = (...steps: Uint8Array[]) =>
    concatBytes(Uint8Array.of(KEY_PROOF_FORMAT, KEY_PROOF.present, 0, steps.length), ...steps, new Uint8Array(4));
  t.ok(verifyProof(sound, c, proof(step(7, hash(a)), step(8, hash(b)))).ok);
  for (const [upper, lower] of [
    [8, 7],
    [8, 8],
    [0, 8],
  ] as const) {
    const root = innerHash(upper, hash(a), innerHash(lower, hash(b), hash(c)));
    const verdict = verifyProof(root, c, proof(step(upper, hash(a)), step(lower, hash(b))));
    t.match(verdict, { code: 'STATE_PROOF_MALFORMED' }, `bits ${upper}, ${lower}`);
  }
});

t.test('proofs about one key', async (t) => {
  t.test('every key, and keys that are not there', async (t) => {
    for (const [name, makeKey] of Object.entries(KEYS)) {
      const store = filled(21, makeKey, 150);
      const next = random(22);
      for (const { key, value } of store.entries()) {
        const verdict = verifyProof(store.rootHash, key, proveKey(store, store.root, key));
        if (!verdict.ok || !verdict.value.present || !equalBytes(verdict.value.value, value)) t.fail('not proven');
      }
      for (let round = 0; round < 200; round++) {
        const key = makeKey(next);
        const verdict = verifyProof(store.rootHash, key, proveKey(store, store.root, key));
        if (!verdict.ok || verdict.value.present !== store.model.has(bytesToHex(key))) t.fail('not proven');
      }
      t.pass(name);
    }
  });

  t.test('the empty state, and a single entry', async (t) => {
    const store = new Store();
    const key = utf8('k');
    const empty = proveKey(store, store.root, key);
    t.same(verifyProof(store.rootHash, key, empty), { ok: true, value: { present: false } });
    store.commit([put(key, 'v')]);
    t.match(verifyProof(store.rootHash, key, empty), { ok: false, code: 'STATE_PROOF_MISMATCH' });
    t.same(verifyProof(store.rootHash, key, proveKey(store, store.root, key)), {
      ok: true,
      value: { present: true, value: utf8('v') },
    });
    t.same(verifyProof(store.rootHash, utf8('l'), proveKey(store, store.root, utf8('l'))), {
      ok: true,
      value: { present: false },
    });
  });

  t.test('any changed byte is refused', async (t) => {
    const store = filled(23, KEYS['keys that begin with each other']!, 60);
    const absent = Uint8Array.of(0, 0xff, 0x17);
    for (const key of [store.entries()[9]!.key, absent]) {
      const proof = proveKey(store, store.root, key);
      t.ok(verifyProof(store.rootHash, key, proof).ok);
      t.equal(
        accepted(proof, (changed) => verifyProof(store.rootHash, key, changed).ok),
        0,
      );
    }
  });

  t.test('proves nothing else', async (t) => {
    const store = filled(24, KEYS['any keys']!, 60);
    const entries = store.entries();
    const { key } = entries[5]!;
    const present = proveKey(store, store.root, key);
    const absent = proveKey(store, store.root, Uint8Array.of(1, 2, 3, 4, 5));
    for (const entry of entries) {
      const verdict = verifyProof(store.rootHash, entry.key, absent);
      if (verdict.ok) t.fail('a key that is there was proven absent');
      if (entry.key !== key && verifyProof(store.rootHash, entry.key, present).ok) t.fail('a proof of another key');
    }
    t.match(verifyProof(EMPTY_STATE_ROOT, key, present), { code: 'STATE_PROOF_MISMATCH' });
    t.match(verifyProof(store.rootHash, new Uint8Array(0), present), { code: 'STATE_KEY_INVALID' });
    t.match(verifyProof(store.rootHash, key, new Uint8Array(0)), { code: 'STATE_PROOF_MALFORMED' });
    t.match(verifyProof(store.rootHash, key, new Uint8Array(MAX_KEY_PROOF_BYTES + 1)), {
      code: 'STATE_PROOF_TOO_LARGE',
    });
    t.match(verifyProof(store.rootHash, key, proveRange(store, store.root, ALL, 500).proof), {
      code: 'STATE_PROOF_MALFORMED',
    });
  });

  t.test('an inner node is never taken for a leaf, nor a leaf for an inner node', async (t) => {
    const [left, right] = [leafHash(utf8('a'), utf8('1')), leafHash(utf8('b'), utf8('2'))];
    const root = innerHash(7, left, right);
    t.notSame(root, leafHashOf(concatBytes(Uint8Array.of(0, 7), left), right));
    t.notSame(EMPTY_STATE_ROOT, sm3(new Uint8Array(0)));
  });
});

t.test('proofs of ranges', async (t) => {
  t.test('any range of any tree', async (t) => {
    for (const [name, makeKey] of Object.entries(KEYS)) {
      const next = random(31);
      for (const count of [1, 2, 5, 120]) {
        const store = filled(32 + count, makeKey, count);
        const entries = store.entries();
        for (let round = 0; round < 150; round++) {
          const range = randomRange(next, makeKey, entries);
          if (range.lt !== null && compareBytes(range.gte, range.lt) >= 0) continue;
          const proven = proveRange(store, store.root, range, 1000);
          const verdict = verifyRange(store.rootHash, range, proven.proof);
          if (!verdict.ok) t.fail(verdict.message);
          else if (shown(verdict.value).join() !== shown(within(entries, range)).join()) t.fail('other entries');
        }
      }
      t.pass(name);
    }
  });

  t.test('in pieces, each of them complete', async (t) => {
    const store = filled(33, KEYS['any keys']!, 200);
    const collected: StateEntry[] = [];
    let from = ALL.gte;
    for (let piece = 0; piece < 100; piece++) {
      const { proof, gte, lt } = proveRange(store, store.root, { gte: from, lt: null }, 7);
      const verdict = verifyRange(store.rootHash, { gte, lt }, proof);
      if (verdict.ok) collected.push(...verdict.value);
      if (lt === null) break;
      from = lt;
    }
    t.same(shown(collected), shown(store.entries()));
  });

  t.test('large values cut a range short', async (t) => {
    const store = new Store();
    const value = new Uint8Array(MAX_STATE_VALUE_BYTES);
    store.commit(Array.from({ length: 40 }, (_, index) => ({ key: Uint8Array.of(index), value })));
    const { proof, gte, lt } = proveRange(store, store.root, ALL, 1000);
    t.ok(proof.length < MAX_RANGE_PROOF_BYTES);
    const verdict = verifyRange(store.rootHash, { gte, lt }, proof);
    t.ok(verdict.ok && verdict.value.length === lt?.[0] && verdict.value.length > 20);
  });

  t.test('the empty state, and bounds', async (t) => {
    const store = new Store();
    const { proof } = proveRange(store, store.root, ALL, 5);
    t.same(verifyRange(store.rootHash, ALL, proof), { ok: true, value: [] });
    t.match(verifyRange(sm3(proof), ALL, proof), { code: 'STATE_PROOF_MISMATCH' });
    const [a, b] = [utf8('a'), utf8('b')];
    for (const range of [
      { gte: b, lt: a },
      { gte: a, lt: a },
      { gte: a, lt: new Uint8Array(0) },
      { gte: new Uint8Array(129), lt: null },
    ]) {
      t.match(verifyRange(store.rootHash, range, proof), { code: 'STATE_RANGE_INVALID' });
      t.throws(() => proveRange(store, store.root, range, 5), InvariantError);
    }
    t.match(verifyRange(store.rootHash, ALL, new Uint8Array(MAX_RANGE_PROOF_BYTES + 1)), {
      code: 'STATE_PROOF_TOO_LARGE',
    });
    t.match(verifyRange(store.rootHash, ALL, new Uint8Array(0)), { code: 'STATE_PROOF_MALFORMED' });
  });

  t.test('any changed byte is refused', async (t) => {
    const store = filled(34, KEYS['keys that begin with each other']!, 40);
    const [first, , third] = store.entries().slice(6);
    const range = { gte: first!.key, lt: third!.key };
    const { proof } = proveRange(store, store.root, range, 100);
    t.ok(verifyRange(store.rootHash, range, proof).ok);
    t.equal(
      accepted(proof, (changed) => verifyRange(store.rootHash, range, changed).ok),
      0,
    );
  });

  t.test('hiding any part of it is refused', async (t) => {
    for (const [name, makeKey] of Object.entries(KEYS)) {
      const store = filled(35, makeKey, 60);
      const entries = store.entries();
      const next = random(36);
      let forged = 0;
      for (let round = 0; round < 20; round++) {
        const range = randomRange(next, makeKey, entries);
        if (range.lt !== null && compareBytes(range.gte, range.lt) >= 0) continue;
        const tree = parse(proveRange(store, store.root, range, 1000).proof);
        for (const forgery of forgeries(tree)) {
          const verdict = verifyRange(store.rootHash, range, concatBytes(Uint8Array.of(RANGE_PROOF_FORMAT), forgery));
          if (verdict.ok) t.fail('accepted');
          else if (verdict.code !== 'STATE_PROOF_INCOMPLETE' && verdict.code !== 'STATE_PROOF_MALFORMED')
            t.fail(verdict.code);
          forged++;
        }
      }
      t.ok(forged > 100, name);
    }
  });

  t.test('a proof of one range proves no other, unless it is the same proof', async (t) => {
    const makeKey = KEYS['keys that begin with each other']!;
    const store = filled(37, makeKey, 40);
    const entries = store.entries();
    const next = random(38);
    const ranges = Array.from({ length: 60 }, () => randomRange(next, makeKey, entries)).filter(
      ({ gte, lt }) => lt === null || compareBytes(gte, lt) < 0,
    );
    const proofs = ranges.map((range) => proveRange(store, store.root, range, 1000).proof);
    for (const [asked, range] of ranges.entries()) {
      for (const proof of proofs) {
        if (verifyRange(store.rootHash, range, proof).ok !== equalBytes(proof, proofs[asked]!)) t.fail('not canonical');
      }
    }
    t.ok(ranges.length > 20);
  });

  /** Bounds that are keys, beginnings of keys, the ends of the ranges of those beginnings, or anything. */
  function randomRange(next: Random, makeKey: KeyMaker, entries: readonly StateEntry[]): StateRange {
    const bound = () => {
      if (next(3) === 0 || entries.length === 0) return makeKey(next);
      const { key } = entries[next(entries.length)]!;
      const start = key.slice(0, 1 + next(key.length));
      if (next(2) === 0 && start.at(-1)! < 0xff) start[start.length - 1]! += 1;
      return start;
    };
    return { gte: next(6) ? bound() : ALL.gte, lt: next(6) ? bound() : null };
  }

  type Parsed = {
    bytes: Uint8Array;
    hash: Uint8Array;
    end: number;
    children: [Parsed, Parsed] | null;
    hidden: boolean;
  };

  /** Reads a sound proof, from its second byte on. */
  function parse(proof: Uint8Array, at = 1): Parsed {
    const node = (hash: Uint8Array, end: number, children: [Parsed, Parsed] | null = null): Parsed => {
      return { bytes: proof.slice(at, end), hash, end, children, hidden: proof[at] === RANGE_NODE.hidden };
    };
    if (proof[at] === RANGE_NODE.hidden) return node(proof.slice(at + 1, at + 33), at + 33);
    if (proof[at] === RANGE_NODE.inner) {
      const left = parse(proof, at + 3);
      const right = parse(proof, left.end);
      return node(innerHash(proof[at + 1]! * 256 + proof[at + 2]!, left.hash, right.hash), right.end, [left, right]);
    }
    const keyEnd = at + 2 + proof[at + 1]!;
    const key = proof.slice(at + 2, keyEnd);
    if (proof[at] === RANGE_NODE.outside) return node(leafHashOf(key, proof.slice(keyEnd, keyEnd + 32)), keyEnd + 32);
    const end = keyEnd + 4 + new DataView(proof.buffer, proof.byteOffset).getUint32(keyEnd);
    return node(leafHash(key, proof.slice(keyEnd + 4, end)), end);
  }

  /** The same tree with the same root, one subtree of it hidden or one of its entries without its value. */
  function* forgeries(node: Parsed): Generator<Uint8Array> {
    if (!node.hidden) yield concatBytes(Uint8Array.of(RANGE_NODE.hidden), node.hash);
    if (node.bytes[0] === RANGE_NODE.entry) {
      const keyEnd = 2 + node.bytes[1]!;
      yield concatBytes(
        Uint8Array.of(RANGE_NODE.outside),
        node.bytes.slice(1, keyEnd),
        sm3(node.bytes.slice(keyEnd + 4)),
      );
    }
    if (node.children === null) return;
    const [left, right] = node.children;
    const start = node.bytes.slice(0, 3);
    for (const changed of forgeries(left)) yield concatBytes(start, changed, right.bytes);
    for (const changed of forgeries(right)) yield concatBytes(start, left.bytes, changed);
  }
});

t.test('the deepest tree there is', async (t) => {
  const keys = deepestKeys();
  const store = new Store();
  store.commit(keys.map((key, index) => put(key, `${index}`)));
  t.same(store.rootHash, definedRoot(store.entries()));
  t.equal(keys.length, MAX_STATE_DEPTH + 1);
  const [bottom] = keys;
  const proof = proveKey(store, store.root, bottom!);
  t.equal(proof.length, 2 + 2 + 34 * MAX_STATE_DEPTH + 4 + 1, 'a step for each level');
  t.ok(verifyProof(store.rootHash, bottom!, proof).ok);
  const absent = new Uint8Array(128);
  absent[127] = 3;
  t.same(verifyProof(store.rootHash, absent, proveKey(store, store.root, absent)), {
    ok: true,
    value: { present: false },
  });
  const all = proveRange(store, store.root, ALL, 10_000);
  const verdict = verifyRange(store.rootHash, ALL, all.proof);
  t.equal(verdict.ok && verdict.value.length, keys.length);
  for (const [index, key] of keys.entries()) {
    if (!equalBytes(get(store, store.root, key)!, utf8(`${index}`))) t.fail('value');
  }
  store.commit([put(bottom!, 'changed')]);
  store.commit(keys.slice(1).map((key) => ({ key, value: null })));
  t.same(store.rootHash, leafHash(bottom!, utf8('changed')), 'one leaf is left');
  t.equal(store.nodes.size, 1);
});

/** How many of the proofs that differ from a sound one in a few bits, or in length, are accepted. */
function accepted(proof: Uint8Array, verify: (changed: Uint8Array) => boolean): number {
  let count = 0;
  for (let at = 0; at < proof.length; at++) {
    for (const mask of [0x01, 0x80, 0xff, 0x03]) {
      const changed = proof.slice();
      changed[at] = changed[at]! ^ mask;
      if (verify(changed)) count++;
    }
    if (verify(proof.slice(0, at))) count++;
    if (verify(concatBytes(proof.slice(0, at), proof.slice(at + 1)))) count++;
  }
  if (verify(concatBytes(proof, Uint8Array.of(0)))) count++;
  return count;
}
