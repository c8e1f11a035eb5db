import { cp, readdir, truncate, writeFile } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import { bytesToHex, u64be } from '../../common/bytes.ts';
import { encodeHeader } from '../../common/protocol/block.ts';
import type { SafetyRecord } from '../../consensus/safety-record.ts';
import { Executor } from '../../node/execution/executor.ts';
import { genesisBlock } from '../../node/execution/genesis-block.ts';
import { createBlobIndex } from '../../node/storage/blob-index.ts';
import { type ChainStore, openChainStore } from '../../node/storage/chain-store.ts';
import type { KeyValueStore } from '../../node/storage/key-value-store.ts';
import { storageKey } from '../../node/storage/keyspace.ts';
import { openLevelStore } from '../../node/storage/level-store.ts';
import { openSafetyStore } from '../../node/storage/safety-store.ts';
import { SimulatedDisk } from '../crash/simulated-disk.ts';
import { consortium, enrolPatient } from '../integration/node-consortium.ts';
import { checkedOf, commitOne } from '../integration/node-chain.ts';

const net = consortium();
const openChain = (kv: KeyValueStore, of = net): Promise<ChainStore> =>
  openChainStore(kv, of.genesis, () => genesisBlock(of.genesis));

t.test('opening a data directory', (t) => {
  t.test('refuses the data of another chain', async (t) => {
    const disk = new SimulatedDisk();
    await openChain(disk.open());
    await t.rejects(openChain(disk.open(), consortium({ salt: 2 })), { code: 'DATA_WRONG_CHAIN' });
  });

  t.test('refuses the data of a newer version', async (t) => {
    const disk = new SimulatedDisk();
    const kv = disk.open();
    await openChain(kv);
    await kv.write([{ type: 'put', key: storageKey.meta('format'), value: u64be(99) }], { sync: true });
    await t.rejects(openChain(disk.open()), { code: 'DATA_NEWER_FORMAT', detail: { found: 99 } });
  });

  t.test('refuses what another process has open', async (t) => {
    const dir = t.testdir({});
    const kv = await openLevelStore(dir);
    await t.rejects(openLevelStore(dir), { code: 'DATA_LOCKED' });
    await kv.close();
  });

  t.test('says that a file where a directory should be is no database', async (t) => {
    const dir = t.testdir({ file: 'x' });
    await t.rejects(openLevelStore(`${dir}/file/data`), { code: 'STORAGE_FAILED' });
  });

  t.test('refuses a database whose manifest is damaged', async (t) => {
    const dir = t.testdir({});
    const kv = await openLevelStore(`${dir}/db`);
    await openChain(kv);
    await kv.close();
    const manifest = (await readdir(`${dir}/db`)).find((name) => name.startsWith('MANIFEST')) as string;
    await cp(`${dir}/db`, `${dir}/torn`, { recursive: true });
    await truncate(`${dir}/torn/${manifest}`, 10);
    await t.rejects(openLevelStore(`${dir}/torn`), { code: 'DATA_CORRUPT' });
    await writeFile(`${dir}/db/CURRENT`, 'MANIFEST-999999\n');
    await t.rejects(openLevelStore(`${dir}/db`), { code: 'DATA_CORRUPT' });
  });

  for (const [what, keyOf] of [
    ['the parent of the head', () => storageKey.header(1)],
    ['the certificate of the head', () => storageKey.certificate(2)],
    ['the state root of the head', () => storageKey.stateRoot(2)],
  ] as const) {
    t.test(`refuses a chain without ${what}`, async (t) => {
      const disk = new SimulatedDisk();
      const kv = disk.open();
      const store = await openChain(kv);
      const executor = Executor.open(store);
      await commitOne(net, store, executor, [enrolPatient(net)]);
      await commitOne(net, store, executor, [enrolPatient(net)]);
      await kv.write([{ type: 'del', key: keyOf() }], { sync: true });
      await t.rejects(openChain(disk.open()), { code: 'DATA_CORRUPT' });
    });
  }

  t.test('refuses a state that is not the one of the head', async (t) => {
    const disk = new SimulatedDisk();
    const kv = disk.open();
    const store = await openChain(kv);
    await commitOne(net, store, Executor.open(store), [enrolPatient(net)]);
    const before = store.stateRootAt(0) as Uint8Array;
    await kv.write([{ type: 'put', key: storageKey.stateRoot(1), value: before }], { sync: true });
    const reopened = await openChain(disk.open());
    t.throws(() => Executor.open(reopened), { code: 'DATA_CORRUPT' });
  });
  t.end();
});

t.test('a committed block', (t) => {
  t.test('is there with everything that belongs to it, for those who reopen, too', async (t) => {
    const disk = new SimulatedDisk();
    const store = await openChain(disk.open());
    const executor = Executor.open(store);
    const [first, second] = [enrolPatient(net), enrolPatient(net)];
    const committed = await commitOne(net, store, executor, [first, second]);
    const reopened = await openChain(disk.open());
    for (const chain of [store, reopened]) {
      t.equal(chain.head.header.height, 1);
      t.same(chain.head.hash, committed.hash);
      t.same(await chain.blockAt(1), committed.block);
      t.same(chain.certificateAt(1), committed.certificate);
      t.same(await chain.encodedReceiptsAt(1), committed.receipts);
      t.equal(chain.heightOf(committed.hash), 1);
      t.same(chain.locateTx(first.hash), { height: 1, index: 0 });
      t.same(chain.locateTx(second.hash), { height: 1, index: 1 });
      t.same(chain.validatorSet(chain.head.header.validatorsHash), net.genesis.validators);
      t.equal(await chain.blockAt(2), null);
    }
    t.same(encodeHeader(Executor.open(reopened).head.header), encodeHeader(executor.head.header));
  });

  t.test('loses an erased sidecar and nothing else', async (t) => {
    const disk = new SimulatedDisk();
    const kv = disk.open();
    const store = await openChain(kv);
    const committed = await commitOne(net, store, Executor.open(store), [enrolPatient(net)]);
    await kv.write([{ type: 'put', key: storageKey.sidecar(1, 0), value: Uint8Array.of(1, 2) }], { sync: true });
    t.same((await store.blockAt(1))?.sidecars, [Uint8Array.of(1, 2)]);
    t.equal(await store.eraseSidecar(1, 0), true);
    t.equal(await store.eraseSidecar(1, 0), false);
    disk.crash();
    t.same(await (await openChain(disk.open())).blockAt(1), committed.block);
  });

  t.test('is refused loudly by a full disk, wholly absent afterwards', async (t) => {
    const disk = new SimulatedDisk();
    const store = await openChain(disk.open());
    const executor = Executor.open(store);
    await commitOne(net, store, executor, [enrolPatient(net)]);
    disk.fault = () => 'fails';
    await t.rejects(commitOne(net, store, executor, [enrolPatient(net)]), { code: 'STORAGE_FAILED' });
    t.throws(() => store.certificateAt(1), { code: 'STORAGE_FAILED' }, 'and the store stays failed');
    disk.fault = () => 'none';
    disk.crash();
    t.equal((await openChain(disk.open())).head.header.height, 1);
  });
  t.end();
});

t.test('safety records', (t) => {
  const digest = (byte: number) => new Uint8Array(32).fill(byte);
  const record = (over: Partial<SafetyRecord> = {}): SafetyRecord => ({
    height: 1,
    view: 0,
    votes: [],
    prepared: null,
    abstainThrough: 0,
    ...over,
  });

  t.test('are there after a crash, with the bodies that they name', async (t) => {
    const disk = new SimulatedDisk();
    const kv = disk.open();
    const store = await openChain(kv);
    const executor = Executor.open(store);
    const built = await executor.build({
      view: 0,
      proposer: (net.genesis.validators[1] as { address: Uint8Array }).address,
      timestampMs: net.genesis.timeMs + 1,
      candidates: await checkedOf(net, [enrolPatient(net)]),
    });
    const safety = await openSafetyStore(kv);
    const promised = record({ votes: [{ vote: 'prepare', view: 0, digest: built.proposal.hash }] });
    await safety.persist(promised, built.proposal);
    disk.crash();
    const reopened = await openSafetyStore(disk.open());
    t.same(reopened.record, promised);
    t.same(reopened.bodies(), [built.proposal]);
    await reopened.persist(record({ height: 2 }), null);
    t.same((await openSafetyStore(disk.open())).bodies(), [], 'bodies go with the records that named them');
  });

  t.test('never take a promise back', async (t) => {
    const safety = await openSafetyStore(new SimulatedDisk().open());
    await safety.persist(record({ votes: [{ vote: 'commit', view: 0, digest: digest(1) }] }), null);
    const second = record({ votes: [{ vote: 'commit', view: 0, digest: digest(2) }] });
    await t.rejects(safety.persist(second, null), /RECORD_DOUBLE_VOTE/);
    await t.rejects(safety.persist(record(), null), /RECORD_VOTE_LOST/);
  });

  t.test('are durable before the call returns, and not before that', async (t) => {
    const disk = new SimulatedDisk();
    const safety = await openSafetyStore(disk.open());
    disk.fault = () => 'diesUnsynced';
    let returned = false;
    void safety.persist(record(), null).then(() => (returned = true));
    await setImmediate();
    t.equal(returned, false);
    disk.fault = () => 'none';
    disk.crash();
    t.equal((await openSafetyStore(disk.open())).record, null);
  });
  t.end();
});

t.test('the blob index keeps to its own prefix', async (t) => {
  const kv = new SimulatedDisk().open();
  await openChain(kv);
  const index = createBlobIndex(kv);
  await index.write(['b/1', 'a/2', 'a/1', 'a/10'].map((key) => ({ kind: 'put', key, value: Uint8Array.of(1) })));
  t.same(
    (await index.list('a/', 10)).map((e) => e.key),
    ['a/1', 'a/10', 'a/2'],
  );
  t.same(
    (await index.list('a/', 1, 'a/1')).map((e) => e.key),
    ['a/10'],
  );
  t.same(
    (await index.list('a/', 10, 'A')).map((e) => e.key),
    ['a/1', 'a/10', 'a/2'],
  );
  t.same(
    (await index.list('', 10)).map((e) => e.key),
    ['a/1', 'a/10', 'a/2', 'b/1'],
  );
  await index.write([{ kind: 'del', key: 'a/2' }]);
  t.equal(await index.get('a/2'), undefined);
  t.equal(bytesToHex((await index.get('b/1')) ?? new Uint8Array()), '01');
});
