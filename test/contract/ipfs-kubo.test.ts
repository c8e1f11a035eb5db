// The blob store over a real Kubo daemon: the contract, and what only a daemon has: its own CIDs, pins, cleaning and
// ways to be open to the world.

import t from 'tap';
import { computeCid } from '../../common/native/unixfs-cid.ts';
import { CHUNK_SIZE_BYTES, MAX_CHILDREN } from '../../common/unixfs-layout.ts';
import { KuboBlockstore } from '../../node/ipfs/kubo-blockstore.ts';
import { KuboRpc } from '../../node/ipfs/kubo-rpc.ts';
import { openKuboStore } from '../../node/ipfs/open.ts';
import { blobStoreContract } from './ipfs-contract.ts';
import { collect, fileOf, flipBit, leaf } from './ipfs-files.ts';
import { KUBO_BINARY, KUBO_SKIPPED, startKubo } from './ipfs-kubo-daemon.ts';
import { MemoryIndex } from './ipfs-memory-index.ts';

const CHUNK = CHUNK_SIZE_BYTES;

// A daemon to start, files of hundreds of MiB to pass through it.
t.setTimeout(120_000);
const skip = KUBO_BINARY === undefined ? { skip: KUBO_SKIPPED } : {};
const binary = KUBO_BINARY ?? '';

/** The command line's words for our layout. */
const ADD = ['add', '--quieter', '--cid-version=1', '--hash=sha2-256', '--raw-leaves', '--max-file-links=174'];
const ADD_IN_OUR_LAYOUT = [...ADD, `--chunker=size-${CHUNK}`];

t.test('a daemon that is closed', skip, async (t) => {
  const kubo = await startKubo(binary, t.testdir(), { closed: true });
  t.teardown(() => kubo.stop());
  const rpc = await KuboRpc.to({ url: kubo.url });

  await t.test('contract', async (t) => {
    blobStoreContract(t, async () => ({
      blocks: new KuboBlockstore(rpc),
      reopen: async () => new KuboBlockstore(rpc),
      damage: (cid) => flipBit(kubo.pathOf(cid)),
    }));
  });

  await t.test('gives every file the CID that we compute', async (t) => {
    for (const size of [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5, MAX_CHILDREN * CHUNK + 1]) {
      const theirs = (await kubo.ipfs([...ADD_IN_OUR_LAYOUT, '--only-hash'], fileOf(size, 50))).toString().trim();
      t.equal(theirs, (await computeCid(fileOf(size, 50))).cid.toString(), `${size} bytes`);
    }
  });

  await t.test('reads what we stored, and keeps it when it cleans up', async (t) => {
    const { store, report } = await openKuboStore({ kubo: { url: kubo.url }, index: new MemoryIndex() });
    t.teardown(() => store.close());
    t.same(report.findings, []);
    t.match(report.warnings, [/not synced/], 'the default datastore may lose files with the power');
    const size = 2 * CHUNK + 9;
    const { cid } = await store.add(fileOf(size, 51));
    await kubo.ipfs(['repo', 'gc', '--quiet']);
    t.ok(await store.has(cid), 'staged is protected already');
    t.ok((await kubo.ipfs(['cat', cid.toString()])).equals(await collect(fileOf(size, 51))));

    t.ok(await store.remove(cid));
    await t.rejects(kubo.ipfs(['cat', '--offline', cid.toString()]), 'gone from the daemon too');
  });

  await t.test("leaves the hospital's own pins alone", async (t) => {
    const { store } = await openKuboStore({ kubo: { url: kubo.url }, index: new MemoryIndex() });
    t.teardown(() => store.close());
    const size = CHUNK + 3;
    const theirs = (await kubo.ipfs(ADD_IN_OUR_LAYOUT, fileOf(size, 52))).toString().trim();
    const { cid } = await store.add(fileOf(size, 52));
    t.equal(cid.toString(), theirs);
    await store.pin(cid);
    t.ok(await store.remove(cid));
    t.notOk(await store.has(cid));
    t.ok((await kubo.ipfs(['cat', '--offline', theirs])).equals(await collect(fileOf(size, 52))), 'still theirs');
    t.match((await kubo.ipfs(['pin', 'ls', '--type=recursive'])).toString(), theirs);
    t.equal(await store.getBlock(cid), undefined, 'and nobody gets it from us');
  });

  await t.test('an aborted call, and a daemon that has ended', async (t) => {
    const blocks = new KuboBlockstore(rpc);
    const { cid, bytes } = leaf(Buffer.from('late'));
    await t.rejects(blocks.put(cid, bytes, AbortSignal.abort(new Error('too late'))), /too late/);
    await kubo.stop();
    await t.rejects(blocks.get(cid), { code: 'IPFS_UNAVAILABLE' });
    await t.rejects(blocks.put(cid, bytes), { code: 'IPFS_UNAVAILABLE' });
    await t.rejects(openKuboStore({ kubo: { url: kubo.url }, index: new MemoryIndex() }), { code: 'IPFS_UNAVAILABLE' });
  });
});

t.test('a daemon that is open to the world is refused unless the operator insists', skip, async (t) => {
  const kubo = await startKubo(binary, t.testdir(), { closed: false });
  t.teardown(() => kubo.stop());
  const options = { kubo: { url: kubo.url }, index: new MemoryIndex() };
  await t.rejects(openKuboStore(options), {
    code: 'KUBO_OPEN_TO_WORLD',
    detail: { findings: 'BOOTSTRAP_NOT_EMPTY,ROUTING_ON,TELEMETRY_ON,NO_PRIVATE_NETWORK' },
  });
  const { store, report } = await openKuboStore({ ...options, acceptOpenDaemon: true });
  t.equal(report.findings.length, 4);
  const { cid } = await store.add(fileOf(10, 53));
  t.ok(await store.has(cid));
  await store.close();
});
