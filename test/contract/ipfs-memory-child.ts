// A process of its own for `ipfs.test.ts`: passes a file through every streaming path of the store and prints, in MiB,
// by how much that raised the most memory it ever had. Arguments: folder, size of the file in MiB.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { computeCid } from '../../common/native/unixfs-cid.ts';
import { dagLimitsFor } from '../../common/unixfs-layout.ts';
import { openEmbeddedStore } from '../../node/ipfs/open.ts';
import { digestOf, fileOf } from './ipfs-files.ts';
import { MemoryIndex } from './ipfs-memory-index.ts';

const dir = String(process.argv[2]);
const sizeBytes = Number(process.argv[3]) * 1_048_576;
// Of this program alone: what getrusage tells begins with the peak of the process that started it.
const peakMib = (): number => Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) / 1_024;

const before = peakMib();
const { cid } = await computeCid(fileOf(sizeBytes));
const writer = await openEmbeddedStore({ dir: join(dir, 'writer'), index: new MemoryIndex() });
await writer.add(fileOf(sizeBytes));
const replica = await openEmbeddedStore({ dir: join(dir, 'replica'), index: new MemoryIndex() });
const fetched = await replica.fetchDag(cid, dagLimitsFor(sizeBytes), async (block) => {
  const bytes = await writer.getBlock(block);
  if (bytes === undefined) throw new Error('the writer lacks a block');
  return bytes;
});
if (!fetched.ok) throw new Error(fetched.message);
await replica.pin(cid);
await digestOf(replica.cat(cid));
console.log(Math.round(peakMib() - before));
