/** npm run bench -- state-tree: the authenticated tree over 100,000 entries in memory: reading, writing, proving, verifying. */
import { compareBytes, concatBytes, u32be } from '../../common/bytes.ts';
import { H } from '../../common/crypto/hash.ts';
import { verifyProof } from '../../common/protocol/state-proof.ts';
import {
  applyWrites,
  EMPTY,
  get,
  type NodeReader,
  nodeKey,
  proveKey,
  rootHashOf,
  type TreeRoot,
} from '../../vm/state-tree/index.ts';
import type { StateWrite } from '../../vm/types.ts';
import { type Case, interleaved } from '../../scripts/bench/measure.ts';

const ROUNDS = 20;
const ENTRIES = 100_000;
const VALUE = new Uint8Array(300).fill(7);
const READS = 500;

const nodes = new Map<string, Uint8Array>();
const named = (key: Uint8Array): string => Buffer.from(key).toString('latin1');
const reader: NodeReader = { getNode: (ref) => nodes.get(named(nodeKey(ref))) };

/** Under four kinds of entries, in no order within each. */
const keyOf = (index: number): Uint8Array =>
  concatBytes(Uint8Array.of(0x30 + (index % 4)), H('bench-state', u32be(index)));
const written = (indices: readonly number[], round: number): StateWrite[] =>
  indices
    .map((index) => ({ key: keyOf(index), value: concatBytes(u32be(round), VALUE) }))
    .sort((a, b) => compareBytes(a.key, b.key));

let root: TreeRoot = EMPTY;
let version = 0;
let entries = 0;

function commit(writes: readonly StateWrite[]): void {
  const applied = applyWrites(reader, root, writes, version);
  for (const { key, bytes } of applied.newNodes) nodes.set(named(key), bytes);
  for (const ref of applied.staleNodes) nodes.delete(named(nodeKey(ref)));
  root = applied.root;
  version += 1;
}

for (; entries < ENTRIES; entries += 10_000)
  commit(
    written(
      Array.from({ length: 10_000 }, (_, n) => entries + n),
      0,
    ),
  );

const anywhere = (): number => Math.floor(Math.random() * ENTRIES);
const some = (count: number): number[] => [...new Set(Array.from({ length: count }, anywhere))];
let writes: StateWrite[] = [];

/** What a block changes: a third is new, the rest is there. */
const changing = (count: number): Case => ({
  name: `a change, of ${count} in one block`,
  operations: count,
  prepare: () => {
    const fresh = Array.from({ length: Math.floor(count / 3) }, (_, n) => entries + n);
    entries += fresh.length;
    writes = written([...fresh, ...some(count - fresh.length)], version);
  },
  run: () => commit(writes),
});

const proofs = some(READS).map((index) => ({ key: keyOf(index), proof: proveKey(reader, root, keyOf(index)) }));
const provenRoot = rootHashOf(root);
const { rows } = await interleaved(
  [
    changing(10),
    changing(500),
    changing(2_500),
    {
      name: 'an entry read',
      operations: READS,
      run: () => {
        for (let n = 0; n < READS; n += 1) get(reader, root, keyOf(anywhere()));
      },
    },
    {
      name: 'an entry proven',
      operations: READS,
      run: () => {
        for (let n = 0; n < READS; n += 1) proveKey(reader, root, keyOf(anywhere()));
      },
    },
    {
      name: 'a proof verified',
      operations: proofs.length,
      run: () => {
        for (const { key, proof } of proofs) if (!verifyProof(provenRoot, key, proof).ok) throw new Error('no proof');
      },
    },
  ],
  ROUNDS,
);
process.stdout.write(JSON.stringify({ rows, ratios: [] }));
