/** Proofs against a state root, and everything that the node has stored: a disk may hand out anything. */
import { compareBytes, equalBytes, utf8 } from '../../common/bytes.ts';
import { H } from '../../common/crypto/hash.ts';
import { InvariantError } from '../../common/errors.ts';
import { verifyProof, verifyRange } from '../../common/protocol/state-proof.ts';
import { Executor } from '../../node/execution/executor.ts';
import { genesisBlock } from '../../node/execution/genesis-block.ts';
import { openChainStore } from '../../node/storage/chain-store.ts';
import type { KeyValueStore } from '../../node/storage/key-value-store.ts';
import { storageKey } from '../../node/storage/keyspace.ts';
import { openSafetyStore } from '../../node/storage/safety-store.ts';
import {
  applyWrites,
  EMPTY,
  get,
  iterate,
  nodeKey,
  type NodeReader,
  proveKey,
  proveRange,
  rootHashOf,
} from '../../vm/state-tree/index.ts';
import { keyOf, OUTER, outerAt, pageBit, pageChild, refAt, takeApart, valueOf } from '../../vm/state-tree/node.ts';
import type { Outcome } from './engine.ts';
import { chain } from './sample-chain.ts';
import { type FunctionTarget, net, verdict } from './parts.ts';

// -------------------------------------------------------------------------------------------------------- proofs

const nodes = new Map<string, Uint8Array>();
const nameOf = (key: Uint8Array): string => Buffer.from(key).toString('hex');
const reader: NodeReader = { getNode: (ref) => nodes.get(nameOf(nodeKey(ref))) };
const KEYS = Array.from({ length: 60 }, (_, index) => H('fuzz-key', Uint8Array.of(index)).slice(0, 4 + (index % 28)));
const writes = KEYS.toSorted(compareBytes).map((key) => ({ key, value: H('value', key) }));
const applied = applyWrites(reader, EMPTY, writes, 1);
for (const { key, bytes } of applied.newNodes) nodes.set(nameOf(key), bytes);
const { root } = applied;
const rootHash = rootHashOf(root);
const PRESENT = KEYS[7] as Uint8Array;
const ABSENT = utf8('absent');
const RANGE = { gte: Uint8Array.of(0x20), lt: Uint8Array.of(0x90) };

const proofTargets: readonly FunctionTarget[] = [
  {
    name: 'proof of a key',
    covers: [],
    form: 'bytes',
    costUs: 60,
    sample: () => proveKey(reader, root, PRESENT),
    decode(bytes) {
      const key = PRESENT;
      const proven = verifyProof(rootHash, key, bytes);
      // Whatever is accepted is true: the tree says the same.
      if (proven.ok) {
        const value = get(reader, root, key);
        const isTrue = proven.value.present && value !== undefined && equalBytes(proven.value.value, value);
        if (!isTrue) throw new Error('a proof of something that is not so was accepted');
      }
      return verdict(proven);
    },
  },
  {
    name: 'proof that a key is absent',
    covers: [],
    form: 'bytes',
    costUs: 60,
    sample: () => proveKey(reader, root, ABSENT),
    decode(bytes) {
      const proven = verifyProof(rootHash, ABSENT, bytes);
      if (proven.ok && proven.value.present) throw new Error('a key that is absent was proven');
      return verdict(proven);
    },
  },
  {
    name: 'proof of a range',
    covers: [],
    form: 'bytes',
    costUs: 200,
    sample: () => proveRange(reader, root, RANGE, 1_000).proof,
    decode(bytes) {
      const proven = verifyRange(rootHash, RANGE, bytes);
      if (proven.ok) {
        const known = [...iterate(reader, root, { ...RANGE, limit: 1_000 })];
        const isTrue =
          known.length === proven.value.length &&
          known.every(({ key, value }, at) => {
            const entry = proven.value[at];
            return entry !== undefined && equalBytes(entry.key, key) && equalBytes(entry.value, value);
          });
        if (!isTrue) throw new Error('a proof of entries that the range does not have was accepted');
      }
      return verdict(proven);
    },
  },
];

// --------------------------------------------------------------------------------------------------------- stored

/** The database with one value changed. */
function changed(key: Uint8Array, value: Uint8Array): KeyValueStore {
  const kv = chain.disk.open();
  return {
    ...kv,
    getSync: (asked) => (equalBytes(asked, key) ? value : kv.getSync(asked)),
    get: async (asked) => (equalBytes(asked, key) ? value : kv.get(asked)),
    async scan(range) {
      const found = await kv.scan(range);
      return found.map((entry) => (equalBytes(entry.key, key) ? { key, value } : entry));
    },
  };
}

/** Everything that a node reads when it starts, and what it is asked for later. */
async function readAll(kv: KeyValueStore): Promise<void> {
  const store = await openChainStore(kv, net.genesis, () => genesisBlock(net.genesis));
  const executor = Executor.open(store);
  for (let height = 0; height <= store.head.header.height && height <= 3; height += 1) {
    store.headerAt(height);
    store.certificateAt(height);
    await store.blockAt(height);
    await store.receiptsAt(height);
  }
  store.heightOf(store.head.hash);
  store.locateTx(chain.txHash);
  store.validatorSet(executor.head.header.nextValidatorsHash);
  store.leaderHistory();
  const safety = await openSafetyStore(kv);
  safety.bodies();
}

/** Our own disk is trusted to hand out what was written, so that anything else may stop the node: loudly, by these. */
async function judged(key: Uint8Array, value: Uint8Array): Promise<Outcome> {
  try {
    await readAll(changed(key, value));
    return { ok: true, again: null };
  } catch (error) {
    if (error instanceof InvariantError) return { ok: false, code: 'INVARIANT' };
    throw error;
  }
}

const last = chain.committed[2] as (typeof chain.committed)[number];
const STORED: Readonly<Record<string, Uint8Array>> = {
  format: storageKey.meta('format'),
  'chain id': storageKey.meta('chainId'),
  head: storageKey.meta('head'),
  leaders: storageKey.meta('leaders'),
  header: storageKey.header(3),
  body: storageKey.body(3),
  certificate: storageKey.certificate(3),
  receipts: storageKey.receipts(3),
  'height by hash': storageKey.heightByHash(last.hash),
  'transaction index': storageKey.txIndex(chain.txHash),
  'validator set': storageKey.validatorSet(last.header.nextValidatorsHash),
  'state root': storageKey.stateRoot(3),
  'safety record': storageKey.safetyRecord(),
  'voted block': storageKey.votedBlock(last.hash),
};

const COVERS: Readonly<Record<string, readonly string[]>> = {
  leaders: ['leaderHistory'],
  body: ['body'],
  receipts: ['encodedReceipts'],
  'transaction index': ['txLocation'],
  'state root': ['decodeRoot'],
};

const storedTargets: readonly FunctionTarget[] = Object.entries(STORED).map(([name, key]) => {
  const value = chain.disk.open().getSync(key);
  if (value === undefined) throw new Error(`the chain has no ${name}`);
  return {
    name: `stored ${name}`,
    covers: COVERS[name] ?? [],
    form: 'cbor',
    costUs: 1_500,
    sample: () => value,
    decode: (bytes) => judged(key, bytes),
  };
});

const asInvariant = (read: () => void): Outcome => {
  try {
    read();
    return { ok: true, again: null };
  } catch (error) {
    if (error instanceof InvariantError) return { ok: false, code: 'INVARIANT' };
    throw error;
  }
};

const treeTargets: readonly FunctionTarget[] = [
  {
    name: 'stored state node, under its checksum',
    covers: [],
    form: 'bytes',
    costUs: 60,
    sample: (random) => random.pick([...nodes.values()]),
    decode(bytes, random) {
      const name = random.pick([...nodes.keys()]);
      const damaged: NodeReader = {
        getNode: (ref) => (nameOf(nodeKey(ref)) === name ? bytes : nodes.get(nameOf(nodeKey(ref)))),
      };
      return asInvariant(() => {
        for (const key of KEYS.slice(0, 5)) get(damaged, root, key);
      });
    },
    mayRefuseSamples: true,
  },
  {
    name: 'stored state node, whatever its checksum',
    covers: [],
    form: 'bytes',
    sample: (random) => random.pick([...nodes.values()]),
    decode: (bytes) =>
      asInvariant(() => {
        const node = takeApart(bytes);
        if (node.kind === 'leaf') return void [keyOf(node), valueOf(node)];
        for (let index = 0; index < node.count; index += 1) {
          pageBit(node, index);
          for (const direction of [0, 1] as const) {
            const child = pageChild(node, index, direction);
            if ((child & OUTER) !== 0) refAt(node.bytes, outerAt(node, child));
          }
        }
      }),
  },
];

export const stateTargets: readonly FunctionTarget[] = [...proofTargets, ...storedTargets, ...treeTargets];
