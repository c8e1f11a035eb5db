// The blob store over files: the contract, and what only files have.

import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';
import type { Test } from 'tap';
import { CHUNK_SIZE_BYTES, dagLimitsFor } from '../../common/unixfs-layout.ts';
import type { BlobStore } from '../../node/ipfs/blob-store.ts';
import { FileBlockstore } from '../../node/ipfs/file-blockstore.ts';
import { openEmbeddedStore } from '../../node/ipfs/open.ts';
import { createBlobIndex } from '../../node/storage/blob-index.ts';
import type { KeyValueStore } from '../../node/storage/key-value-store.ts';
import { openLevelStore } from '../../node/storage/level-store.ts';
import { blobStoreContract } from './ipfs-contract.ts';
import type { Subject } from './ipfs-contract.ts';
import { collect, digestOf, fileOf, flipBit, peerWith } from './ipfs-files.ts';
import { MemoryIndex } from './ipfs-memory-index.ts';

const CHUNK = CHUNK_SIZE_BYTES;

// Hundreds of synced writes: seconds on a good disk, more on a busy one.
t.setTimeout(120_000);

async function fileSubject(t: Test): Promise<Subject> {
  const dir = join(t.testdir(), 'ipfs');
  return {
    blocks: await FileBlockstore.open(dir),
    reopen: () => FileBlockstore.open(dir),
    damage: (cid) => flipBit(pathOf(dir, cid.multihash.digest)),
  };
}

t.test('contract', (t) => {
  blobStoreContract(t, fileSubject);
  t.end();
});

function pathOf(dir: string, digest: Uint8Array): string {
  const name = Buffer.from(digest).toString('hex');
  return join(dir, 'blocks', name.slice(0, 2), name);
}

t.test('damaged files are noticed, set aside and fetched again', async (t) => {
  const dir = t.testdir();
  const store = await openEmbeddedStore({ dir, index: new MemoryIndex() });
  t.teardown(() => store.close());
  const sizeBytes = 3 * CHUNK;
  const { peer, summary, blocks } = await peerWith(fileOf(sizeBytes));
  await store.add(fileOf(sizeBytes));

  await flipBit(pathOf(dir, blocks[0]!.cid.multihash.digest));
  await truncate(pathOf(dir, blocks[1]!.cid.multihash.digest), 5);
  t.notOk(await store.has(summary.cid), 'a wrong length is seen without reading');
  await t.rejects(collect(store.cat(summary.cid)), { code: 'BLOCK_CORRUPT' });
  t.ok((await readdir(join(dir, 'damaged'))).length > 0, 'kept for whoever looks into it');

  t.match(await store.fetchDag(summary.cid, dagLimitsFor(sizeBytes), peer.get), { ok: true });
  t.ok(await store.has(summary.cid));
  t.equal(await digestOf(store.cat(summary.cid)), await digestOf(fileOf(sizeBytes)));
});

t.test('a start sweeps away what was being written, and files are for their owner only', async (t) => {
  const dir = t.testdir({ writing: { abcdef: 'half a block' } });
  const store = await openEmbeddedStore({ dir, index: new MemoryIndex() });
  t.teardown(() => store.close());
  t.same(await readdir(join(dir, 'writing')), []);
  const { cid } = await store.add(fileOf(10));
  t.same(await readdir(join(dir, 'writing')), []);
  const path = pathOf(dir, cid.multihash.digest);
  t.equal((await stat(path)).mode & 0o777, 0o600);
});

t.test("on the node's own database, through a restart", async (t) => {
  const dir = t.testdir();
  const open = async (): Promise<{ store: BlobStore; kv: KeyValueStore }> => {
    const kv = await openLevelStore(join(dir, 'db'));
    return { kv, store: await openEmbeddedStore({ dir: join(dir, 'ipfs'), index: createBlobIndex(kv) }) };
  };
  const before = await open();
  const size = 5 * CHUNK + 3;
  const { cid } = await before.store.add(fileOf(size));
  await before.store.pin(cid);
  const { peer, summary } = await peerWith(fileOf(size, 2));
  const nobody = async (): Promise<Uint8Array> => Promise.reject(new Error('nobody is there'));
  let asked = 0;
  await t.rejects(
    before.store.fetchDag(summary.cid, dagLimitsFor(size), (block, signal) =>
      ++asked > 3 ? nobody() : peer.get(block, signal),
    ),
    /nobody is there/,
  );
  const usage = before.store.usage();
  await before.store.close();
  await before.kv.close();

  const after = await open();
  t.same(after.store.usage(), usage);
  t.match(await after.store.stat(cid), { state: 'pinned', sizeBytes: size });
  t.equal(await digestOf(after.store.cat(cid)), await digestOf(fileOf(size)));
  t.match(await after.store.fetchDag(summary.cid, dagLimitsFor(size), peer.get), { ok: true });
  t.ok(peer.asked.length <= summary.blockCount + 3, 'what was there was not asked for again');
  t.ok(await after.store.remove(summary.cid));
  t.ok(await after.store.remove(cid));
  t.same(after.store.usage(), { blobCount: 0, stagedBytes: 0, pinnedBytes: 0, openBytes: 0 });
  t.same(await createBlobIndex(after.kv).list('', 10), [], 'nothing is left in the database');
  await after.store.close();
  await after.kv.close();
});

t.test('a disk that refuses', async (t) => {
  const dir = t.testdir({ blocked: 'a file, not a folder' });
  await t.rejects(openEmbeddedStore({ dir: join(dir, 'blocked'), index: new MemoryIndex() }), { code: 'IPFS_FAILED' });
});

const noProc = existsSync('/proc/self/status') ? false : 'this system has no /proc';

t.test('memory does not grow with the file', { skip: noProc }, async (t) => {
  const child = fileURLToPath(new URL('ipfs-memory-child.ts', import.meta.url));
  const sizeMib = 512;
  const { stdout } = await promisify(execFile)(process.execPath, [child, t.testdir(), String(sizeMib)], {
    // Not the test runner's hooks, which have threads and memory of their own.
    env: { ...process.env, NODE_OPTIONS: '--max-semi-space-size=8', MALLOC_ARENA_MAX: '2' },
  });
  const grownMib = Number(stdout);
  t.comment(`${sizeMib} MiB through computeCid, add, fetch and cat: ${grownMib} MiB of memory`);
  t.ok(grownMib > 0 && grownMib < sizeMib / 2, 'some blocks in flight and what the collector leaves, not the file');
});
