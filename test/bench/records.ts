/**
 * npm run bench -- records: a record's bytes on their way, 1 KB to 256 MB (1 GB with --large): encrypted as a stream and stored
 * durably; read from the store, each block checked, decrypted, verified and written to a file. One process, no network.
 */
import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { decryptToFile, encryptStream } from '../../common/native/sm4-file.ts';
import type { BlobStore } from '../../node/ipfs/blob-store.ts';
import { openEmbeddedStore } from '../../node/ipfs/open.ts';
import { createBlobIndex } from '../../node/storage/blob-index.ts';
import { openLevelStore } from '../../node/storage/level-store.ts';
import { spread } from '../../scripts/bench/measure.ts';
import { inWorkFolder } from './load/work-folder.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const PIECE_BYTES = MIB;
const MEMORY_EVERY_MS = 20;
/** A size is repeated until it has moved so much, at least twice. */
const WORTH_BYTES = 64 * MIB;
const MAX_ROUNDS = 40;

const pieces = new Uint8Array(randomBytes(PIECE_BYTES));

/** Bytes of no meaning, and from no disk. */
async function* content(sizeBytes: number): AsyncGenerator<Uint8Array> {
  for (let left = sizeBytes; left > 0; left -= PIECE_BYTES) yield pieces.slice(0, Math.min(left, PIECE_BYTES));
}

interface Cost {
  readonly wallMs: number;
  readonly cpuMs: number;
  readonly peakMiB: number;
}

async function costOf(work: () => Promise<unknown>): Promise<Cost> {
  let peak = process.memoryUsage.rss();
  const timer = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage.rss());
  }, MEMORY_EVERY_MS);
  const cpu = process.cpuUsage();
  const fromMs = performance.now();
  try {
    await work();
  } finally {
    clearInterval(timer);
  }
  const { user, system } = process.cpuUsage(cpu);
  return { wallMs: performance.now() - fromMs, cpuMs: (user + system) / 1_000, peakMiB: peak / MIB };
}

async function measured(store: BlobStore, dir: string, sizeBytes: number): Promise<{ add: Cost; get: Cost }> {
  const binding = { recordId: new Uint8Array(randomBytes(32)), version: 1, sectionClass: 'imaging' };
  const key = new Uint8Array(randomBytes(32));
  const iv = new Uint8Array(randomBytes(12));
  const meta = { name: 'scan.dcm', contentType: 'application/dicom', sizeBytes };
  const encrypted = encryptStream(content(sizeBytes), { ...binding, key, iv, meta });
  let stored: Awaited<ReturnType<BlobStore['add']>> | undefined;
  const add = await costOf(async () => {
    stored = await store.add(encrypted);
  });
  if (stored === undefined) throw new Error('nothing was stored');
  const { cid, dataDigest, sizeBytes: blobBytes } = stored;
  const out = join(dir, 'out');
  const get = await costOf(async () => {
    const verdict = await decryptToFile(store.cat(cid), out, { ...binding, key, blobBytes, dataDigest });
    if (!verdict.ok) throw new Error(verdict.code);
  });
  await store.remove(cid);
  await rm(out);
  return { add, get };
}

function nameOf(sizeBytes: number): string {
  if (sizeBytes >= KIB * MIB) return `${sizeBytes / MIB / KIB} GiB`;
  return sizeBytes >= MIB ? `${sizeBytes / MIB} MiB` : `${sizeBytes / KIB} KiB`;
}

async function rowOf(store: BlobStore, dir: string, sizeBytes: number): Promise<(string | number)[]> {
  const rounds = Math.max(2, Math.min(MAX_ROUNDS, Math.floor(WORTH_BYTES / sizeBytes)));
  const costs: { add: Cost; get: Cost }[] = [];
  for (let round = 0; round < rounds; round += 1) costs.push(await measured(store, dir, sizeBytes));
  const median = (value: (cost: { add: Cost; get: Cost }) => number): number => spread(costs.map(value)).median;
  const rate = (ms: number): number => sizeBytes / MIB / (ms / 1_000);
  const [add, get] = [median((cost) => cost.add.wallMs), median((cost) => cost.get.wallMs)];
  return [
    nameOf(sizeBytes),
    add,
    rate(add),
    median((cost) => cost.add.cpuMs),
    get,
    rate(get),
    median((cost) => cost.get.cpuMs),
    Math.max(...costs.map((cost) => Math.max(cost.add.peakMiB, cost.get.peakMiB))),
  ];
}

const { values } = parseArgs({ options: { quick: { type: 'boolean' }, large: { type: 'boolean' } } });
const sizes = [KIB, 64 * KIB, MIB, 16 * MIB];
if (values.quick !== true) sizes.push(64 * MIB, 256 * MIB);
if (values.large === true) sizes.push(KIB * MIB);

await inWorkFolder(async (dir) => {
  const kv = await openLevelStore(join(dir, 'db'));
  const store = await openEmbeddedStore({ dir: join(dir, 'blobs'), index: createBlobIndex(kv) });
  await measured(store, dir, MIB);
  const rows: (string | number)[][] = [];
  for (const sizeBytes of sizes) rows.push(await rowOf(store, dir, sizeBytes));
  await store.close();
  await kv.close();
  const table = {
    title: 'A record encrypted and stored; read, decrypted, verified and written, medians',
    head: ['size', 'add ms', 'MiB/s', 'cpu ms', 'read ms', 'MiB/s', 'cpu ms', 'peak memory MiB'],
    rows,
  };
  process.stdout.write(JSON.stringify({ rows: [], ratios: [], tables: [table] }));
});
