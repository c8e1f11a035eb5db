import t from 'tap';
import { flipBit, mustFail } from '../integration/node-expect.ts';
import { bytesToHex, compareBytes, equalBytes, hexToBytes, u32be } from '../../common/bytes.ts';
import { encode } from '../../common/codec.ts';
import { InvariantError } from '../../common/errors.ts';
import { sm3 } from '../../common/crypto/sm3.ts';
import { sm2Address } from '../../common/crypto/sm2.ts';
import { createWasmEngine } from '../../common/crypto/sm2-engine/engine.ts';
import { type BlockHeader, blockHash, type Certificate, encodeHeader, txRootOf } from '../../common/protocol/block.ts';
import { enrolmentPossessionHash } from '../../common/protocol/statements.ts';
import { type Call, signedTransaction } from '../../common/protocol/transaction.ts';
import type { ProposedBlock } from '../../consensus/messages.ts';
import { type ExecutedBlock, Executor } from '../../node/execution/executor.ts';
import { genesisBlock } from '../../node/execution/genesis-block.ts';
import { NewNodes, NodeCache } from '../../node/execution/node-cache.ts';
import { NodeTable } from '../../node/execution/node-table.ts';
import { type ChainStore, type CommittedBlock, openChainStore } from '../../node/storage/chain-store.ts';
import { TransactionChecker } from '../../node/verification/transaction-checker.ts';
import { Verifier } from '../../node/verification/verifier.ts';
import {
  applyWrites,
  EMPTY,
  encodeRoot,
  get,
  nodeKey,
  type NodeReader,
  type NodeRef,
  stateReader,
  type StoredNode,
  type TreeRoot,
} from '../../vm/state-tree/index.ts';
import type { StateReader } from '../../vm/types.ts';
import { SimulatedDisk } from '../crash/simulated-disk.ts';
import { buildNext, checkedOf, commitOne } from '../integration/node-chain.ts';
import {
  consortium,
  enrolPatient,
  type Hospital,
  signCall,
  signerFor,
  type TestTransaction,
} from '../integration/node-consortium.ts';

const net = consortium();
const { timeMs } = net.genesis;

async function open(): Promise<{ store: ChainStore; executor: Executor }> {
  const store = await openChainStore(new SimulatedDisk().open(), net.genesis, () => genesisBlock(net.genesis));
  return { store, executor: Executor.open(store) };
}

/** The same block under a header that a Byzantine leader changed. */
function withHeader(block: ProposedBlock, change: Partial<BlockHeader>): ProposedBlock {
  const header = { ...block.header, ...change };
  const bytes = encodeHeader(header);
  return { hash: blockHash(bytes), header, block: { ...block.block, header: bytes } };
}

const how = { nowMs: null, certified: false } as const;

t.test('two executors agree on a chain of blocks', async (t) => {
  const [leader, follower] = [await open(), await open()];
  for (let height = 1; height <= 4; height += 1) {
    const txs = [enrolPatient(net, height % 4), enrolPatient(net, (height + 1) % 4)];
    const committed = await commitOne(net, leader.store, leader.executor, txs);
    const proposal = { hash: committed.hash, header: committed.header, block: committed.block };
    const executed = await follower.executor.execute(proposal, await checkedOf(net, txs), how);
    if (!executed.ok) throw new Error(executed.message);
    await follower.store.commitBlock({
      ...committed,
      ...follower.executor.toCommit(executed.value, committed.certificate as never),
    });
    follower.executor.advance(executed.value);
  }
  t.same(follower.executor.head, leader.executor.head);
  t.equal(follower.executor.head.height, 4);
});

t.test('every field of a header that a leader could falsify is refused before a vote', async (t) => {
  const { executor } = await open();
  const other = await open();
  const tx = enrolPatient(net);
  const txs = await checkedOf(net, [tx]);
  const block = await buildNext(net, other.executor, [tx], timeMs + 5);
  const digest = new Uint8Array(32).fill(7);
  const forged: [string, Partial<BlockHeader>, string][] = [
    ['chainId', { chainId: digest }, 'WRONG_CHAIN'],
    ['height', { height: 2 }, 'WRONG_HEIGHT'],
    ['parentHash', { parentHash: digest }, 'WRONG_PARENT'],
    ['validatorsHash', { validatorsHash: digest }, 'WRONG_VALIDATOR_SET'],
    ['timestampMs', { timestampMs: timeMs }, 'WRONG_TIME'],
    ['view', { view: 1 }, 'WRONG_PROPOSER'],
    ['proposer', { proposer: (net.genesis.validators[3] as { address: Uint8Array }).address }, 'WRONG_PROPOSER'],
    ['txRoot', { txRoot: digest }, 'WRONG_BODY'],
    ['receiptsRoot', { receiptsRoot: digest }, 'WRONG_RECEIPTS'],
    ['stateRoot', { stateRoot: flipBit(block.header.stateRoot, 255) }, 'WRONG_STATE'],
    ['nextValidatorsHash', { nextValidatorsHash: digest }, 'WRONG_NEXT_VALIDATORS'],
  ];
  for (const [field, change, code] of forged) {
    t.equal(mustFail(await executor.execute(withHeader(block, change), txs, how)), code, field);
  }
  t.equal(executor.head.height, 0);
  t.ok((await executor.execute(block, txs, how)).ok, 'the true one is accepted afterwards');
});

t.test('the clock binds fresh proposals only', async (t) => {
  const { executor } = await open();
  const tx = enrolPatient(net);
  const block = await buildNext(net, (await open()).executor, [tx], timeMs + 5);
  const txs = await checkedOf(net, [tx]);
  const drift = net.genesis.params.maxClockDriftMs;
  const at = async (nowMs: number | null) => executor.execute(block, txs, { nowMs, certified: false });
  t.equal(mustFail(await at(timeMs + 5 + drift + 1)), 'CLOCK_DRIFT');
  t.equal(mustFail(await at(timeMs + 5 - drift - 1)), 'CLOCK_DRIFT');
  t.ok((await at(timeMs + 5 + drift)).ok);
  t.ok((await at(null)).ok);
});

t.test('a block with one transaction that fails is refused whole', async (t) => {
  const { executor } = await open();
  const [good, stranger] = [enrolPatient(net), enrolPatient(net, 1, { validUntilMs: timeMs - 1 })];
  const block = await buildNext(net, (await open()).executor, [good], timeMs + 5);
  const txs = [good.bytes, stranger.bytes];
  const forged = withHeader(
    { ...block, block: { ...block.block, txs, sidecars: [null, null] } },
    { txRoot: txRootOf(txs) },
  );
  t.equal(mustFail(await executor.execute(forged, await checkedOf(net, [good, stranger]), how)), 'TX_EXPIRED');
});

t.test('building leaves out what fails and says why', async (t) => {
  const { executor } = await open();
  const good = enrolPatient(net);
  const candidates = await checkedOf(net, [good, enrolPatient(net, 0, { validUntilMs: timeMs - 1 }), good]);
  const proposer = (net.genesis.validators[1] as { address: Uint8Array }).address;
  const built = await executor.build({ view: 0, proposer, timestampMs: timeMs + 1, candidates });
  t.equal(built.included, 1);
  t.same(
    built.rejected.map((r) => r.code),
    ['TX_EXPIRED', 'TX_REPLAYED'],
  );
});

t.test('results are kept for a few proposals only', async (t) => {
  const { executor } = await open();
  const hashes: Uint8Array[] = [];
  for (let n = 1; n <= 10; n += 1) hashes.push((await buildNext(net, executor, [], timeMs + n)).hash);
  t.same(
    hashes.map((hash) => executor.executed(hash) !== undefined),
    [false, false, ...Array.from({ length: 8 }, () => true)],
  );
});

t.test('what is in memory of the head is never that of another block', async (t) => {
  const [node, other] = [await open(), await open()];
  const { admin, orgId } = net.hospitals[1] as Hospital;
  const patient = signerFor('patient/in-memory');
  const account = sm2Address(patient.publicKey);
  const enrolment = {
    publicKey: patient.publicKey,
    orgId,
    kind: 'patient',
    personTag: null,
    custodial: false,
  } as const;
  const possession = patient.sign(enrolmentPossessionHash(net.chainId, enrolment));
  const sign = (call: Call): TestTransaction => signCall(net.chainId, admin, call);
  const enrol = (): TestTransaction => sign({ kind: 'account.enrol', enrolment, possession, countersignature: null });
  const suspend = (): TestTransaction => sign({ kind: 'account.suspend', account, reason: 'TEST' });
  const reinstate = (): TestTransaction => sign({ kind: 'account.reinstate', account });

  /** What enrolling, suspending and reinstating come to now: on this node, and on one that has just started on its state. */
  const answers = async (): Promise<(string | null)[]> => {
    const txs = await checkedOf(net, [enrol(), suspend(), reinstate()]);
    const of = (executor: Executor): (string | null)[] =>
      txs.map((tx) => {
        const verdict = executor.simulate(tx, executor.head.header.timestampMs + 1);
        return verdict.ok ? null : verdict.code;
      });
    const here = of(node.executor);
    t.same(here, of(Executor.open(node.store)));
    return here;
  };
  const take = async (block: CommittedBlock, executed: ExecutedBlock): Promise<void> => {
    await node.store.commitBlock(node.executor.toCommit(executed, block.certificate as Certificate));
    node.executor.advance(executed);
  };
  const [absent, active, suspended] = [
    [null, 'ACCOUNT_UNKNOWN', 'ACCOUNT_UNKNOWN'],
    ['KEY_ALREADY_USED', null, 'ACCOUNT_NOT_SUSPENDED'],
    ['KEY_ALREADY_USED', 'ACCOUNT_SUSPENDED', null],
  ];

  t.same(await answers(), absent);
  for (const [make, before, after] of [
    [enrol, absent, active],
    [suspend, active, suspended],
    [reinstate, suspended, active],
  ] as const) {
    await buildNext(net, node.executor, [make()]);
    t.same(await answers(), before, 'a block that this node has built changes nothing yet');
    const tx = make();
    const block = await commitOne(net, other.store, other.executor, [tx]);
    const executed = await node.executor.execute(block, await checkedOf(net, [tx]), how);
    if (!executed.ok) throw new Error(executed.message);
    t.same(await answers(), before, 'nor does one that it has executed');
    await take(block, executed.value);
    t.same(await answers(), after, 'until that one is committed');
  }

  const run = node.executor.run();
  const ahead: [CommittedBlock, ExecutedBlock][] = [];
  for (const tx of [suspend(), reinstate(), suspend()]) {
    const block = await commitOne(net, other.store, other.executor, [tx]);
    const executed = run.execute(block, await checkedOf(net, [tx]));
    if (!executed.ok) throw new Error(executed.message);
    ahead.push([block, executed.value]);
    t.same(await answers(), active, 'blocks from sync run ahead of the head');
  }
  for (const [index, [block, executed]] of ahead.entries()) {
    await take(block, executed);
    t.same(await answers(), index === 1 ? active : suspended);
  }
  node.executor.reopen(node.store);
  t.same(await answers(), suspended);
});

t.test('transactions are verified once', async (t) => {
  const verifier = new Verifier(createWasmEngine());
  const checker = new TransactionChecker(net.chainId, verifier);
  const txs = [enrolPatient(net), enrolPatient(net), enrolPatient(net)].map(({ bytes }) => ({ bytes, sidecar: null }));
  const block = { header: new Uint8Array(1), txs: txs.map((tx) => tx.bytes), sidecars: [null, null, null] };
  const pool = checker.checkMany(txs, 'pool');
  const proposed = checker.checkProposed(block);
  t.ok((await proposed).ok);
  t.ok((await pool).every((verdict) => verdict.ok));
  t.equal(verifier.counts().verified, 6, 'a signature and a possession for each, though two asked at once');
  t.ok((await checker.checkProposed(block)).ok);
  t.equal(verifier.counts().verified, 6);
});

t.test('untrusted transactions are refused with a code', async (t) => {
  const checker = new TransactionChecker(net.chainId, new Verifier(createWasmEngine()));
  const good = enrolPatient(net);
  const code = async (bytes: Uint8Array, sidecar: Uint8Array | null = null) =>
    mustFail(await checker.check({ bytes, sidecar }, 'pool'));
  t.equal(await code(new Uint8Array(20_000)), 'TOO_LARGE');
  t.equal(await code(Uint8Array.of(1, 2, 3)), 'MALFORMED');
  t.equal(await code(flipBit(good.bytes, good.bytes.length * 8 - 1)), 'BAD_SIGNATURE');
  t.equal(await code(good.bytes, Uint8Array.of(1)), 'SIDECAR_UNEXPECTED');
  const { admin } = net.hospitals[0] as Hospital;
  const stolen = encode(signedTransaction, {
    body: new Uint8Array(4),
    publicKey: admin.publicKey,
    signature: new Uint8Array(64),
  });
  t.equal(await code(stolen), 'MALFORMED');
  const deliver = signCall(net.chainId, admin, {
    kind: 'access.deliver',
    requestHash: new Uint8Array(32),
    sidecarHash: new Uint8Array(32),
  });
  t.equal(await code(deliver.bytes), 'SIDECAR_MISSING');
  t.equal(await code(deliver.bytes, Uint8Array.of(1)), 'SIDECAR_MISMATCH');
  const certified = { header: new Uint8Array(1), txs: [deliver.bytes], sidecars: [null] };
  t.ok(checker.decodeCertified(certified).ok, 'in a certified block the sidecar may have been erased');
});

t.test('urgent signatures overtake', async (t) => {
  const verifier = new Verifier(createWasmEngine());
  const key = (net.hospitals[0] as Hospital).admin.publicKey;
  const item = { publicKey: key, message: new Uint8Array(1), signature: new Uint8Array(64).fill(1) };
  const order: string[] = [];
  const pool = verifier.verify(
    Array.from({ length: 200 }, () => item),
    'pool',
  );
  const block = verifier.verify([item], 'block');
  const vote = verifier.verify([item], 'consensus');
  await Promise.all([
    pool.results.then(() => order.push('pool')),
    block.results.then(() => order.push('block')),
    vote.results.then(() => order.push('consensus')),
  ]);
  t.same(order, ['consensus', 'block', 'pool']);
  t.equal(verifier.counts().waiting, 0);
});

t.test('state nodes are checked when they come from the database, once', async (t) => {
  const entries = Array.from({ length: 200 }, (_, index) => ({ key: Uint8Array.of(7, index), value: u32be(index) }));
  const applied = applyWrites({ getNode: () => undefined }, EMPTY, entries, 1);
  const root = applied.root as NodeRef;
  const stored = new Map(applied.newNodes.map(({ key, bytes }) => [bytesToHex(key), bytes]));
  let loads = 0;
  const cache = new NodeCache((name) => {
    loads += 1;
    return stored.get(bytesToHex(name));
  });
  const read = (from: NodeReader) => entries.map(({ key }) => get(from, root, key));
  const values = entries.map(({ value }) => value);
  t.same(read(cache), values);
  t.equal(loads, stored.size, 'each node was loaded once');
  t.same(read(cache), values);
  t.equal(loads, stored.size, 'and none of them again');

  const damaged = new NodeCache((name) => {
    const bytes = stored.get(bytesToHex(name));
    return bytes === undefined ? undefined : flipBit(bytes, bytes.length * 8 - 1);
  });
  t.throws(() => get(damaged, root, entries[0]?.key as Uint8Array), InvariantError, 'a damaged node');
  t.throws(() => get(new NodeCache(() => undefined), root, Uint8Array.of(7)), InvariantError, 'a missing one');

  const committed = new NodeCache(() => undefined);
  committed.add(1, applied.newNodes);
  t.same(read(committed), values, 'what a block has just made need not be loaded');
  for (const { bytes } of applied.newNodes) bytes.fill(0);
  t.same(read(committed), values, 'nor its memory kept');
});

t.test('a state that is larger than the memory for its nodes is read again from the database', async (t) => {
  // 144 MB in one batch: more than is hashed together, and than two generations of the cache hold.
  const entries = Array.from({ length: 2_400 }, (_, index) => ({
    key: Uint8Array.of(index >> 8, index),
    value: new Uint8Array(60_000).fill(index),
  }));
  const applied = applyWrites({ getNode: () => undefined }, EMPTY, entries, 1);
  const stored = new Map(applied.newNodes.map(({ key, bytes }) => [bytesToHex(key), bytes]));
  let loads = 0;
  const cache = new NodeCache((name) => {
    loads += 1;
    return stored.get(bytesToHex(name));
  });
  const reader = stateReader(cache, applied.root);
  const top = () => cache.openNode({ bytes: encodeRoot(applied.root), at: 0 }).bytes;
  for (let round = 1; round <= 3; round += 1) {
    const before = top();
    const wrong = entries.filter(({ key, value }) => !equalBytes(reader.get(key) ?? new Uint8Array(0), value));
    t.equal(wrong.length, 0);
    t.ok(loads >= round * 2_000, 'what came first has made room');
    t.not(top(), before, 'what lives on holds nothing of what is gone');
  }
  const before = loads;
  reader.get(entries.at(-1)?.key as Uint8Array);
  t.equal(loads, before, 'what came last is still there');
});

t.test('a node is found under its own name alone, however large the numbers are', (t) => {
  const versions = [0, 1, 2, 3, 2 ** 26, 2 ** 27 - 1, 2 ** 27, 2 ** 31, 2 ** 32, 2 ** 32 + 1, 2 ** 48 - 1];
  const sequences = [0, 1, 2, 2 ** 26 - 1, 2 ** 26, 2 ** 26 + 1, 2 ** 27, 2 ** 31, 2 ** 32 - 2, 2 ** 32 - 1];
  const { stored, leaf } = namedLeaves();
  const refs = versions.flatMap((version) => sequences.map((sequence) => leaf(version, sequence)));
  let loads = 0;
  const cache = new NodeCache((name) => {
    loads += 1;
    return stored.get(bytesToHex(name));
  });
  cache.add(3, [{ key: nodeKey({ version: 3, sequence: 0 }), bytes: storedOf(stored, { version: 3, sequence: 0 }) }]);
  for (const order of [refs, refs.toReversed()]) {
    for (const ref of order) {
      const bytes = storedOf(stored, ref);
      t.same(openedFrom(cache, ref), bytes);
      t.same(cache.getNode(ref), bytes);
    }
    t.equal(loads, refs.length - 1, 'all but the one that was added are loaded once');
  }
  for (const ref of refs) {
    const absent = { ...ref, sequence: Math.abs(ref.sequence - 64) };
    t.equal(cache.getNode(absent), undefined);
    t.throws(() => openedFrom(cache, absent), InvariantError);
  }
  t.end();
});

t.test('the table of nodes is a map by name', (t) => {
  const table = new NodeTable();
  const model = new Map<string, StoredNode>();
  const bytes = new Uint8Array(1);
  const put = (version: number, sequence: number, at: number): void => {
    const node: StoredNode = { kind: 'leaf', bytes, at, end: at };
    table.set(version, sequence, node);
    model.set(`${version}/${sequence}`, node);
  };
  const names: [number, number][] = [];
  // Whole blocks; one of a hundred thousand; single ones of many; and those at the ends of what is a number.
  for (let n = 0; n < 6_000; n += 1) names.push([1 + Math.floor(n / 300), n % 300]);
  for (let n = 0; n < 2_000; n += 1) names.push([1_000, (n * 48_271) % 100_003]);
  for (let n = 0; n < 6_000; n += 1) names.push([(n * 69_621) % 1_000_003, (n * 16_807) % 4_001]);
  for (let n = 0; n < 500; n += 1) names.push([2 ** 27 - 250 + n, 2 ** 26 - 1 - (n % 9)], [n, 2 ** 26 - 250 + n]);
  names.push([0, 0], [2 ** 48 - 1, 2 ** 32 - 1]);
  for (const [index, [version, sequence]] of names.entries()) {
    put(version, sequence, index);
    // Some are put again.
    const [again, number] = names[(index * 31) % (index + 1)] as [number, number];
    if (index % 3 === 0) put(again, number, -index);
  }
  const wrong = names.flatMap(([version, sequence]) =>
    [sequence, sequence + 1, sequence ^ 8, sequence + 4_096].filter(
      (other) => table.get(version, other) !== model.get(`${version}/${other}`),
    ),
  );
  t.same(wrong, []);
  t.end();
});

t.test('nodes of whole blocks and single ones of many are as the database has them, over generations', (t) => {
  const { stored, leaf } = namedLeaves();
  const cache = new NodeCache((name) => stored.get(bytesToHex(name)));
  const refs: NodeRef[] = [];
  // 105 MB of blocks that differ in size: a generation ends within one.
  for (let version = 1; version <= 10; version += 1) {
    const own = Array.from({ length: 100 + version * 20 }, (_, sequence) => leaf(version, sequence, 50_000));
    cache.add(
      version,
      own.map((ref) => ({ key: nodeKey(ref), bytes: storedOf(stored, ref) })),
    );
    refs.push(...own);
    for (let sequence = 0; sequence < 20_000; sequence += 1_999) refs.push(leaf(version * 1_000, sequence, 100));
    const wrong = refs.filter((ref, index) => {
      const isRead = (index * 7 + version) % 5 === 0;
      return isRead && !equalBytes(openedFrom(cache, ref), storedOf(stored, ref));
    });
    t.equal(wrong.length, 0);
  }
  const wrong = refs.filter((ref) => !equalBytes(cache.getNode(ref) as Uint8Array, storedOf(stored, ref)));
  t.equal(wrong.length, 0);
  t.end();
});

/** A database of leaves, each of which holds its own name. */
function namedLeaves() {
  const stored = new Map<string, Uint8Array>();
  const leaf = (version: number, sequence: number, sizeBytes = 10): NodeRef => {
    const value = new Uint8Array(sizeBytes);
    value.set(nodeKey({ version, sequence }));
    const { root, newNodes } = applyWrites({ getNode: () => undefined }, EMPTY, [{ key: Uint8Array.of(1), value }], 1);
    stored.set(bytesToHex(nodeKey({ version, sequence })), newNodes[0]?.bytes.slice() as Uint8Array);
    return { version, sequence, hash: (root as NodeRef).hash };
  };
  return { stored, leaf };
}

const storedOf = (stored: ReadonlyMap<string, Uint8Array>, name: Omit<NodeRef, 'hash'>): Uint8Array =>
  stored.get(bytesToHex(nodeKey(name))) as Uint8Array;

function openedFrom(cache: NodeCache, ref: NodeRef): Uint8Array {
  const { bytes, at, end } = cache.openNode({ bytes: encodeRoot(ref), at: 0 });
  return bytes.slice(at, end);
}

t.test('a chain of blocks reads as a plain map does: not committed, committed, and from the database', async (t) => {
  const keyOf = (n: number) => sm3(u32be(n)).slice(0, 1 + (n % 20));
  const stored = new Map<string, Uint8Array>();
  const load = (name: Uint8Array) => stored.get(bytesToHex(name));
  const cache = new NodeCache(load);
  const model = new Map<string, Uint8Array>();
  // A space comes before all digits: texts are in the order of keys.
  const shown = (entries: Iterable<{ key: Uint8Array; value: Uint8Array }>) =>
    Array.from(entries, ({ key, value }) => `${bytesToHex(key)} ${bytesToHex(value)}`);
  let root: TreeRoot = EMPTY;
  for (let height = 1; height <= 30; height += 1) {
    const changes = new Map<string, Uint8Array | null>();
    for (let n = 0; n < 40; n += 1) {
      const isRemoved = (height + n) % 5 === 0;
      changes.set(bytesToHex(keyOf((height * 37 + n * 11) % 400)), isRemoved ? null : u32be(height * 100 + n));
    }
    for (const [text, value] of changes) {
      if (value === null) model.delete(text);
      else model.set(text, value);
    }
    const writes = [...changes.keys()]
      .sort()
      .map((text) => ({ key: hexToBytes(text), value: changes.get(text) ?? null }));
    const { root: next, newNodes } = applyWrites(cache, root, writes, height);
    const views: NodeReader[] = [new NewNodes(cache).add(height, newNodes)];
    for (const { key, bytes } of newNodes) stored.set(bytesToHex(key), bytes.slice());
    cache.add(height, newNodes);
    views.push(cache, new NodeCache(load), { getNode: (ref) => load(nodeKey(ref)) });
    const expected = [...model].map(([text, value]) => `${text} ${bytesToHex(value)}`).sort();
    for (const view of views) {
      const reader = stateReader(view, next);
      t.same(shown(allOf(reader)), expected);
      t.same(shown(allOf(reader, true)), expected.toReversed());
      const [gte, lt] = [keyOf(height), keyOf(height + 200)].sort(compareBytes) as [Uint8Array, Uint8Array];
      const within = expected.filter((line) => {
        const key = hexToBytes(line.split(' ')[0] as string);
        return compareBytes(key, gte) >= 0 && compareBytes(key, lt) < 0;
      });
      t.same(shown(reader.range({ gte, lt, limit: 50 })), within.slice(0, 50));
      const keys = Array.from({ length: 60 }, (_, n) => keyOf(n * 7));
      t.same(
        keys.map((key) => reader.get(key)),
        keys.map((key) => model.get(bytesToHex(key))),
      );
    }
    root = next;
  }

  function allOf(reader: StateReader, reverse = false): ReturnType<StateReader['range']> {
    return reader.range({ gte: new Uint8Array(0), lt: new Uint8Array(128).fill(255), limit: 1_000, reverse });
  }
});

t.test('two blocks of one height have different nodes of the same names', async (t) => {
  const none: NodeReader = { getNode: () => undefined };
  const first = applyWrites(none, EMPTY, [{ key: Uint8Array.of(1), value: Uint8Array.of(1) }], 1);
  const cache = new NodeCache(() => undefined);
  cache.add(1, first.newNodes);
  const proposals = [2, 3].map((value) => {
    const { root, newNodes } = applyWrites(
      cache,
      first.root,
      [{ key: Uint8Array.of(2), value: Uint8Array.of(value) }],
      2,
    );
    return { root, value, nodes: new NewNodes(cache).add(2, newNodes) };
  });
  for (const { root, value, nodes } of proposals) {
    t.same(get(nodes, root, Uint8Array.of(2)), Uint8Array.of(value));
    t.same(get(nodes, root, Uint8Array.of(1)), Uint8Array.of(1), 'what is beneath is seen');
    t.throws(() => get(cache, root, Uint8Array.of(2)), InvariantError, 'and nothing of it from beneath');
  }
});
