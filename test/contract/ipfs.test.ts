// The blob store over files: the contract, and what only files have.

import { execFile } from 'node:child_process';
import { readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';
import type { Test } from 'tap';
import { CHUNK_SIZE_BYTES, dagLimitsFor } from '../../common/unixfs-layout.ts';
import { FileBlockstore } from '../../node/ipfs/file-blockstore.ts';
import { openEmbeddedStore } from '../../node/ipfs/open.ts';
import { blobStoreContract } from './ipfs-contract.ts';
import type { Subject } from './ipfs-contract.ts';
import { collect, digestOf, fileOf, peerWith } from './ipfs-files.ts';
import { MemoryIndex } from './ipfs-memory-index.ts';

const CHUNK = CHUNK_SIZE_BYTES;

async function fileSubject(t: Test): Promise<Subject> {
  const dir = join(t.testdir(), 'ipfs');
  return { blocks: await FileBlockstore.open(dir), reopen: () => FileBlockstore.open(dir) };
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

  const flipped = pathOf(dir, blocks[0]!.cid.multihash.digest);
  const bytes = await readFile(flipped);
  bytes[100] = bytes[100]! ^ 1;
  await writeFile(flipped, bytes);
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

t.test('a disk that refuses', async (t) => {
  const dir = t.testdir({ blocked: 'a file, not a folder' });
  await t.rejects(openEmbeddedStore({ dir: join(dir, 'blocked'), index: new MemoryIndex() }), { code: 'IPFS_FAILED' });
});

t.test('memory does not grow with the file', async (t) => {
  const child = fileURLToPath(new URL('ipfs-memory-child.ts', import.meta.url));
  const sizeMib = 256;
  const { stdout } = await promisify(execFile)(process.execPath, [child, t.testdir(), String(sizeMib)]);
  const grownMib = Number(stdout);
  t.comment(`${sizeMib} MiB through computeCid, add, fetch and cat: ${grownMib} MiB of memory`);
  t.ok(grownMib > 0 && grownMib < 180, 'some blocks in flight and what the collector leaves, not the file');
});
