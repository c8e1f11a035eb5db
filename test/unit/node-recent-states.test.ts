import t from 'tap';
import { bytesToHex, u64be } from '../../common/bytes.ts';
import { createWasmEngine } from '../../common/crypto/sm2-engine/engine.ts';
import type { Height } from '../../common/protocol/primitives.ts';
import { Executor, type KeepsState } from '../../node/execution/executor.ts';
import { genesisBlock } from '../../node/execution/genesis-block.ts';
import { Ledger } from '../../node/host/ledger.ts';
import { type ChainStore, type CommittedBlock, openChainStore } from '../../node/storage/chain-store.ts';
import type { KeyValueStore } from '../../node/storage/key-value-store.ts';
import { storageKey, storageRange } from '../../node/storage/keyspace.ts';
import { MAX_UNWRITTEN_BYTES, RecentStates } from '../../node/storage/recent-states.ts';
import { openStateHistory } from '../../node/storage/state-history.ts';
import { StateReaders } from '../../node/storage/state-readers.ts';
import { TransactionChecker } from '../../node/verification/transaction-checker.ts';
import { Verifier } from '../../node/verification/verifier.ts';
import { auditTree, decodeRoot, nodeKey } from '../../vm/state-tree/index.ts';
import { SimulatedDisk } from '../crash/simulated-disk.ts';
import { buildNext, certify, commitOne } from '../integration/node-chain.ts';
import { consortium, enrolPatient } from '../integration/node-consortium.ts';

const net = consortium();
const verifier = new Verifier(createWasmEngine());

interface Chain {
  readonly kv: KeyValueStore;
  readonly store: ChainStore;
  readonly executor: Executor;
  readonly ledger: Ledger;
}

async function open(disk: SimulatedDisk, stateEvery: number, keepsState?: KeepsState): Promise<Chain> {
  const kv = disk.open();
  const store = await openChainStore(kv, net.genesis, () => genesisBlock(net.genesis), stateEvery);
  const executor = Executor.open(store, keepsState);
  const ledger = new Ledger(store, executor, new TransactionChecker(store.chainId, verifier), verifier);
  return { kv, store, executor, ledger };
}

const grow = async ({ store, executor }: Chain, blocks: number): Promise<void> => {
  for (let block = 0; block < blocks; block += 1) await commitOne(net, store, executor, [enrolPatient(net)]);
};

const storedHeights = ({ store }: Chain, to: Height): Height[] =>
  Array.from({ length: to + 1 }, (_, height) => height).filter((height) => store.stateRootAt(height) !== null);

/** Names of the nodes in the database, and of those that these of its states use. */
async function nodesOf({ kv, store }: Chain, heights: readonly Height[]) {
  const used = new Set<string>();
  for (const height of heights) {
    const root = decodeRoot(store.stateRootAt(height) as Uint8Array);
    const onDisk = { getNode: (ref: Parameters<typeof nodeKey>[0]) => kv.getSync(storageKey.stateNode(nodeKey(ref))) };
    auditTree(onDisk, root, (ref) => used.add(bytesToHex(nodeKey(ref))));
  }
  const stored = await kv.scan({ ...storageRange.stateNodesBefore(2 ** 40), limit: 100_000 });
  return { used: [...used].sort(), stored: stored.map(({ key }) => bytesToHex(key.subarray(1))).sort() };
}

t.test('whenever the process ends, the chain is opened with the state of its head', async (t) => {
  const disk = new SimulatedDisk();
  const chain = await open(disk, 4);
  for (let height = 1; height <= 13; height += 1) {
    await grow(chain, 1);
    const again = await open(disk, 4);
    t.equal(again.store.head.header.height, height);
    t.equal(again.executor.head.height, height - (height % 4));
    t.equal(await again.ledger.resume(), height % 4);
    t.same(again.executor.head, chain.executor.head);
    const { nodes, root } = again.executor.state;
    auditTree(nodes, root);
    t.same(root, chain.executor.state.root);
  }
  const again = await open(disk, 4);
  await again.ledger.resume();
  await grow(again, 3);
  t.same(storedHeights(again, 16), [0, 4, 8, 12, 16], 'it counts on from where it was');
});

t.test('what the disk has are the nodes of the states that it has, and no other', async (t) => {
  const chain = await open(new SimulatedDisk(), 5);
  await grow(chain, 17);
  const { used, stored } = await nodesOf(chain, storedHeights(chain, 17));
  t.same(storedHeights(chain, 17), [0, 5, 10, 15]);
  t.same(stored, used);
  const history = await openStateHistory(chain.kv, chain.store.readers);
  while (await history.step(15));
  t.same(storedHeights(chain, 17), [15]);
  const left = await nodesOf(chain, [15]);
  t.same(left.stored, left.used);
  await grow(chain, 1);
  auditTree(chain.executor.state.nodes, chain.executor.state.root);
});

t.test('with the state of each block on disk or of few, the states are the same', async (t) => {
  const [each, few] = [await open(new SimulatedDisk(), 1), await open(new SimulatedDisk(), 32)];
  for (let block = 0; block < 6; block += 1) {
    const txs = [enrolPatient(net), enrolPatient(net)];
    const { header } = await commitOne(net, each.store, each.executor, txs);
    await commitOne(net, few.store, few.executor, txs);
    t.same(few.executor.head.header.stateRoot, header.stateRoot);
  }
  await few.store.storeState(few.executor.head);
  t.same(few.store.stateRootAt(6), each.store.stateRootAt(6));
  t.same((await nodesOf(few, [6])).used, (await nodesOf(each, [6])).used);
  t.equal(few.store.stateHeight, 6);
});

t.test('a state goes to disk where it is asked for, in the midst of a batch of blocks too', async (t) => {
  const source = await open(new SimulatedDisk(), 1);
  const disk = new SimulatedDisk();
  const chain = await open(disk, 100, ({ height }) => height === 2 || height === 5);
  const run = chain.executor.run();
  const committed: CommittedBlock[] = [];
  for (let block = 0; block < 7; block += 1) {
    const proposal = await buildNext(net, source.executor, [enrolPatient(net)]);
    const certificate = certify(net, proposal);
    const own = source.executor.executed(proposal.hash);
    if (own === undefined) throw new Error('not executed');
    await source.store.commitBlock(source.executor.toCommit(own, certificate));
    source.executor.advance(own);
    const checker = new TransactionChecker(net.chainId, verifier);
    const txs = checker.decodeCertified(proposal.block);
    const executed = txs.ok ? run.execute(proposal, txs.value) : txs;
    if (!executed.ok) throw new Error(executed.code);
    committed.push(chain.executor.toCommit(executed.value, certificate));
  }
  await chain.store.commitBlocks(committed);
  t.same(storedHeights(chain, 7), [0, 2, 5]);
  const { used, stored } = await nodesOf(chain, [0, 2, 5]);
  t.same(stored, used);
  const again = await open(disk, 100);
  t.equal(await again.ledger.resume(), 2);
  t.same(again.executor.head.header, source.executor.head.header);
});

t.test('a state that is being read in the midst of others stays readable when they are on disk', async (t) => {
  const chain = await open(new SimulatedDisk(), 4);
  const history = await openStateHistory(chain.kv, chain.store.readers);
  await grow(chain, 2);
  const { root } = chain.executor.state;
  const onDisk = { getNode: (ref: Parameters<typeof nodeKey>[0]) => chain.store.stateNode(nodeKey(ref)) };
  const end = history.reading(2) as () => void;
  await grow(chain, 11);
  auditTree(onDisk, root);
  end();
  await grow(chain, 4);
  t.throws(() => auditTree(onDisk, root), /is missing/u, 'nobody reads it any more');
  auditTree(onDisk, chain.executor.state.root);
});

t.test('nodes are found while they are being written', async (t) => {
  const disk = new SimulatedDisk();
  const chain = await open(disk, 2);
  await grow(chain, 1);
  const seen: boolean[] = [];
  disk.fault = () => {
    const { root } = chain.executor.state;
    auditTree({ getNode: (ref) => chain.store.stateNode(nodeKey(ref)) }, root);
    seen.push(true);
    return 'none';
  };
  await grow(chain, 1);
  t.same(seen, [true]);
});

t.test('blocks that cannot be executed again are a damaged disk', async (t) => {
  for (const damage of ['missing', 'other'] as const) {
    const disk = new SimulatedDisk();
    const chain = await open(disk, 4);
    await grow(chain, 3);
    const key = storageKey.body(2);
    const other = chain.kv.getSync(storageKey.body(1)) as Uint8Array;
    await chain.kv.write([damage === 'missing' ? { type: 'del', key } : { type: 'put', key, value: other }], {
      sync: true,
    });
    const again = await open(disk, 4);
    await t.rejects(again.ledger.resume(), { code: 'DATA_CORRUPT', detail: { height: 2 } }, damage);
  }
});

t.test('a database from when each state was on disk is taken over', async (t) => {
  const disk = new SimulatedDisk();
  const chain = await open(disk, 1);
  await grow(chain, 3);
  await chain.kv.write(
    [
      { type: 'put', key: storageKey.meta('format'), value: u64be(2) },
      { type: 'del', key: storageKey.meta('stateHead') },
    ],
    { sync: true },
  );
  const again = await open(disk, 4);
  t.equal(await again.ledger.resume(), 0);
  t.equal(again.executor.head.height, 3);
  await grow(again, 2);
  const third = await open(disk, 4);
  t.equal(await third.ledger.resume(), 2);
  t.same(third.executor.head, again.executor.head);
});

t.test('nodes that wait for the disk are bounded by their bytes', (t) => {
  const recent = new RecentStates(new StateReaders(), 0, 1_000);
  const piece = MAX_UNWRITTEN_BYTES / 4;
  for (let height = 1; height <= 4; height += 1) {
    t.equal(recent.isDue, false);
    const key = new Uint8Array(10);
    recent.add(height, {
      root: new Uint8Array(42),
      newNodes: [{ key, bytes: new Uint8Array(piece) }],
      staleNodes: [],
    });
  }
  t.equal(recent.isDue, true);
  const writes: { type: string }[] = [];
  recent.writesTo(writes as never);
  t.equal(recent.isDue, false);
  t.equal(writes.length, 5, 'four nodes and a root');
  t.throws(() => recent.add(6, { root: new Uint8Array(42), newNodes: [], staleNodes: [] }), /one after the other/u);
  t.end();
});
