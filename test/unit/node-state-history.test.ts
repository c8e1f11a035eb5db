import t, { type Test } from 'tap';
import { bytesToHex } from '../../common/bytes.ts';
import type { Height } from '../../common/protocol/primitives.ts';
import { Executor } from '../../node/execution/executor.ts';
import { genesisBlock } from '../../node/execution/genesis-block.ts';
import { type ChainStore, openChainStore } from '../../node/storage/chain-store.ts';
import type { KeyValueStore } from '../../node/storage/key-value-store.ts';
import { storageRange } from '../../node/storage/keyspace.ts';
import { openStateHistory, type StateHistory } from '../../node/storage/state-history.ts';
import { StatePruner } from '../../node/storage/state-pruner.ts';
import { auditTree, decodeRoot, nodeKey } from '../../vm/state-tree/index.ts';
import { SimulatedDisk } from '../crash/simulated-disk.ts';
import { commitOne } from '../integration/node-chain.ts';
import { until } from '../integration/node-cluster.ts';
import { consortium, enrolPatient } from '../integration/node-consortium.ts';

const net = consortium();

interface Chain {
  readonly disk: SimulatedDisk;
  readonly kv: KeyValueStore;
  readonly store: ChainStore;
  readonly executor: Executor;
  readonly history: StateHistory;
}

async function open(disk = new SimulatedDisk()): Promise<Chain> {
  const kv = disk.open();
  const store = await openChainStore(kv, net.genesis, () => genesisBlock(net.genesis));
  return { disk, kv, store, executor: Executor.open(store), history: await openStateHistory(kv, store.readers) };
}

async function grow({ store, executor }: Chain, blocks: number): Promise<void> {
  for (let block = 0; block < blocks; block += 1) await commitOne(net, store, executor, [enrolPatient(net)]);
}

async function pruneAll(history: StateHistory, keepFrom: Height): Promise<void> {
  for (let steps = 0; await history.step(keepFrom); steps += 1) if (steps > 1_000) throw new Error('it does not end');
}

/** Every state that should be there is there whole, and the database holds not one node more. */
async function checkKept(t: Test, { kv, store }: Chain, heights: readonly Height[], what: string): Promise<void> {
  const used = new Set<string>();
  for (const height of heights) {
    const root = store.stateRootAt(height);
    if (root === null) return void t.fail(`${what}: no state at ${height}`);
    auditTree({ getNode: (ref) => store.stateNode(nodeKey(ref)) }, decodeRoot(root), (ref) =>
      used.add(bytesToHex(nodeKey(ref))),
    );
  }
  const stored = await kv.scan({ ...storageRange.stateNodesBefore(2 ** 40), limit: 100_000 });
  t.equal(stored.length, used.size, `${what}: what is stored is what is used`);
}

const range = (from: Height, to: Height): Height[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);

t.test('pruning deletes exactly what no state that is kept uses', async (t) => {
  const chain = await open();
  await grow(chain, 5);
  // More than one step takes at a time.
  const many = Array.from({ length: 130 }, () => enrolPatient(net));
  await commitOne(net, chain.store, chain.executor, many);
  await commitOne(
    net,
    chain.store,
    chain.executor,
    Array.from(many, () => enrolPatient(net)),
  );
  await grow(chain, 5);
  await checkKept(t, chain, range(0, 12), 'all');
  await pruneAll(chain.history, 5);
  t.equal(chain.history.prunedBelow, 5);
  t.equal(chain.store.stateRootAt(4), null);
  await checkKept(t, chain, range(5, 12), 'from 5 on');
  await pruneAll(chain.history, 12);
  await checkKept(t, chain, [12], 'the head alone');
  t.equal(await chain.history.step(12), false);
});

t.test('what is pinned stays whole, and goes when it is released', async (t) => {
  const chain = await open();
  const { history } = chain;
  await grow(chain, 12);
  t.equal(await history.pin(3), true);
  t.equal(await history.pin(6), true);
  await pruneAll(history, 10);
  t.equal(await history.pin(5), false, 'it is not there any more');
  t.equal(history.reading(5), null);
  await checkKept(t, chain, [3, 6, 10, 11, 12], 'two pins');
  await history.release(6);
  await pruneAll(history, 10);
  await checkKept(t, chain, [3, 10, 11, 12], 'what both used is left to the other');
  const again = await open(chain.disk);
  t.same(again.history.pins, [3], 'pins survive a restart');
  await grow(again, 2);
  await pruneAll(again.history, 14);
  await checkKept(t, again, [3, 14], 'after a restart');
  await again.history.release(3);
  await pruneAll(again.history, 14);
  await checkKept(t, again, [14], 'none');
  t.equal(again.store.stateRootAt(3), null);
});

t.test('what is being read stays until it is not', async (t) => {
  const chain = await open();
  const { history } = chain;
  await grow(chain, 8);
  const end = history.reading(4) as () => void;
  await pruneAll(history, 8);
  t.equal(history.prunedBelow, 4);
  await checkKept(t, chain, range(4, 8), 'a reader');
  await history.pin(4);
  end();
  end();
  await pruneAll(history, 8);
  await checkKept(t, chain, [4, 8], 'a pin');
  const reader = history.reading(4) as () => void;
  const root = chain.store.stateRootAt(4) as Uint8Array;
  await history.release(4);
  await pruneAll(history, 8);
  auditTree({ getNode: (ref) => chain.store.stateNode(nodeKey(ref)) }, decodeRoot(root));
  reader();
  await pruneAll(history, 8);
  await checkKept(t, chain, [8], 'nobody');
});

t.test('pins are bounded, and made once', async (t) => {
  const chain = await open();
  await grow(chain, 17);
  for (let height = 1; height <= 16; height += 1) t.equal(await chain.history.pin(height), true);
  t.equal(await chain.history.pin(16), true);
  await t.rejects(chain.history.pin(17), { code: 'TOO_MANY_PINS' });
});

t.test('power lost at any write of pruning costs nothing that is kept', async (t) => {
  for (let lost = 1; lost <= 6; lost += 1) {
    const chain = await open();
    await grow(chain, 9);
    await chain.history.pin(2);
    const from = chain.disk.writeCount;
    chain.disk.fault = ({ number }) => (number === from + lost ? 'diesUnsynced' : 'none');
    const died = new Promise<boolean>((resolve) => (chain.disk.onDeath = () => resolve(true)));
    const prune = async (): Promise<boolean> => {
      for (let keepFrom = 2; keepFrom <= 7; keepFrom += 1) await pruneAll(chain.history, keepFrom);
      return false;
    };
    if (!(await Promise.race([died, prune()]))) break;
    // Any number of the unsynced writes may have reached the platter.
    chain.disk.crash(lost % 3);
    chain.disk.fault = () => 'none';
    const after = await open(chain.disk);
    await pruneAll(after.history, 7);
    await checkKept(t, after, [2, 7, 8, 9], `write ${lost}`);
  }
});

t.test('the pruner follows the head some heights at a time, and keeps all in archive mode', async (t) => {
  const chain = await open();
  const ports = {
    history: chain.history,
    headHeight: () => chain.store.head.header.height,
    failed: (error: unknown) => void t.fail(String(error)),
  };
  const archive = new StatePruner({ ...ports, keepBlocks: null });
  const pruner = new StatePruner({ ...ports, keepBlocks: 3 });
  const seen = new Set<Height>();
  for (let block = 0; block < 22; block += 1) {
    await grow(chain, 1);
    archive.kick();
    pruner.kick();
    seen.add(chain.history.prunedBelow);
  }
  await until(
    () => chain.history.prunedBelow === 16,
    10_000,
    () => `${chain.history.prunedBelow}`,
  );
  t.ok(
    [...seen].every((height) => height % 8 === 0),
    'most blocks prune nothing',
  );
  await pruner.stop();
  await checkKept(t, chain, range(16, 22), 'three below the head, and what is not worth a write yet');
  await grow(chain, 5);
  pruner.kick();
  t.equal(chain.history.prunedBelow, 16, 'a pruner that was stopped does nothing');
});
