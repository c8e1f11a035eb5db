/**
 * Walking a blob that is stored here: its leaves in order, whether all are there, a range of its bytes.
 *
 * Not done with ipfs-unixfs-exporter: it reads ahead of its consumer without limit, so one slow reader of a 1 GB file
 * would hold the file in memory. Here the layout is known, so the way to any byte is arithmetic.
 */

import type { CID } from 'multiformats/cid';
import { EmrError, assert } from '../../common/errors.ts';
import { nodeShape } from '../../common/unixfs-layout.ts';
import type { DagShape } from '../../common/unixfs-layout.ts';
import { checkNode } from './dag-node.ts';

/** Leaves read ahead of the consumer: hides the latency of a disk or of Kubo's API for 4 MiB of memory. */
const READ_AHEAD = 4;

/** Leaves looked at in parallel when a blob is checked for being whole; no content is read. */
const LOOK_AHEAD = 8;

export interface Leaf {
  readonly cid: CID;
  /** Where in the file it begins. */
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

/** Gives a checked block, or undefined when it is absent. */
export type ReadBlock = (cid: CID) => Promise<Uint8Array | undefined>;

/** Half-open range of file bytes. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

export function incomplete(cid: CID): EmrError {
  return new EmrError('BLOB_INCOMPLETE', 'A block of this file is missing here; fetch it from another hospital.', {
    block: cid.toString(),
  });
}

/**
 * The leaves of a stored blob that touch `range`, in order, reading nodes only on the way.
 * @throws EmrError BLOB_INCOMPLETE when a node is absent
 */
export async function* leavesOf(
  root: CID,
  shape: DagShape,
  readBlock: ReadBlock,
  range: ByteRange = { start: 0, end: shape.sizeBytes },
): AsyncGenerator<Leaf> {
  yield* subtreeLeaves({ cid: root, offsetBytes: 0, sizeBytes: shape.sizeBytes }, shape.depth, readBlock, range);
}

async function* subtreeLeaves(
  place: Leaf,
  level: number,
  readBlock: ReadBlock,
  range: ByteRange,
): AsyncGenerator<Leaf> {
  if (level === 0) {
    yield place;
    return;
  }
  const bytes = await readBlock(place.cid);
  if (bytes === undefined) throw incomplete(place.cid);
  const children = checkNode(bytes, level, place.sizeBytes);
  // Checked before it was stored, and its hash just now: a different answer is a bug here, not a bad block.
  assert(children.ok, 'a stored node no longer fits the layout');
  const { childCount, fullChild, lastChild } = nodeShape(level, place.sizeBytes);
  let offsetBytes = place.offsetBytes;
  for (const [index, cid] of children.value.entries()) {
    const sizeBytes = index === childCount - 1 ? lastChild.sizeBytes : fullChild.sizeBytes;
    if (offsetBytes + sizeBytes > range.start && offsetBytes < range.end) {
      yield* subtreeLeaves({ cid, offsetBytes, sizeBytes }, level - 1, readBlock, range);
    }
    offsetBytes += sizeBytes;
  }
}

/** Every block is there and has its right length. Nodes are read and checked, leaves only looked at. */
export async function isWhole(
  root: CID,
  shape: DagShape,
  readBlock: ReadBlock,
  sizeOf: (cid: CID) => Promise<number | undefined>,
): Promise<boolean> {
  const looking: Promise<boolean>[] = [];
  const look = async (leaf: Leaf): Promise<boolean> => (await sizeOf(leaf.cid)) === leaf.sizeBytes;
  const settled = async (): Promise<boolean> => (await Promise.all(looking.splice(0))).every((there) => there);
  try {
    for await (const leaf of leavesOf(root, shape, readBlock)) {
      if (looking.push(look(leaf)) >= LOOK_AHEAD && !(await settled())) return false;
    }
    return await settled();
  } catch (error) {
    await Promise.allSettled(looking);
    if (error instanceof EmrError && (error.code === 'BLOB_INCOMPLETE' || error.code === 'BLOCK_CORRUPT')) return false;
    throw error;
  }
}

/** The bytes of `range`, leaf by leaf, with a bounded read-ahead. */
export async function* readRange(
  root: CID,
  shape: DagShape,
  readBlock: ReadBlock,
  range: ByteRange,
): AsyncGenerator<Uint8Array> {
  if (range.start >= range.end) return;
  const ahead: Promise<Uint8Array>[] = [];
  const read = async (leaf: Leaf): Promise<Uint8Array> => {
    const bytes = await readBlock(leaf.cid);
    if (bytes === undefined || bytes.length !== leaf.sizeBytes) throw incomplete(leaf.cid);
    const from = Math.max(range.start - leaf.offsetBytes, 0);
    const to = Math.min(range.end - leaf.offsetBytes, leaf.sizeBytes);
    return bytes.subarray(from, to);
  };
  for await (const leaf of leavesOf(root, shape, readBlock, range)) {
    const reading = read(leaf);
    reading.catch(() => {}); // reported when its turn comes, or moot when the consumer stopped before
    ahead.push(reading);
    if (ahead.length >= READ_AHEAD) yield (await ahead.shift()) as Uint8Array;
  }
  while (ahead.length > 0) yield (await ahead.shift()) as Uint8Array;
}
