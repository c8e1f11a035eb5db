/**
 * What a ciphertext looks like in IPFS: the one UnixFS layout of the consortium, and the shape that it prescribes for
 * a file of a given size. Clients declare that shape, the chain compares it, nodes hold every fetched block to it.
 *
 * The layout: CIDv1, sha2-256, chunks of 1 MiB in raw leaves, balanced tree of at most 174 children. A file of at most
 * one chunk is its leaf. So the byte size alone decides the number of blocks, the depth and the size of every inner
 * node, and `ipfs add --cid-version=1 --hash=sha2-256 --chunker=size-1048576 --raw-leaves --max-file-links=174` gives
 * the same CID.
 *
 * Pure arithmetic: no hashing, no I/O, no encoder. Changing a constant changes every CID: it needs a new layout beside
 * this one, never an edit.
 */

import { CID } from 'multiformats/cid';
import { accept, assert, reject } from './errors.ts';
import type { Verdict } from './errors.ts';

/** Bytes in every leaf but the last. 1 MiB: under bitswap's 2 MiB limit, and 1 GB is some 1,000 blocks. */
export const CHUNK_SIZE_BYTES = 1_048_576;

/** Most links in one inner node: the default that go-ipfs and js-ipfs have shared since 2015. */
export const MAX_CHILDREN = 174;

/** Levels of links between root and leaf. Two reach 31 GB; records are at most some 1 GB. */
export const MAX_DEPTH = 2;

/** The largest file that the layout can hold, in bytes. Policy (what a record may have) is lower and not set here. */
export const MAX_BLOB_SIZE_BYTES = CHUNK_SIZE_BYTES * MAX_CHILDREN ** MAX_DEPTH;

/** No honest block comes near it; whoever receives a block may stop reading here. The limit of IPFS itself. */
export const MAX_BLOCK_SIZE_BYTES = 2 * 1_048_576;

export const RAW_CODEC = 0x55;
export const DAG_PB_CODEC = 0x70;
const SHA2_256 = 0x12;
const DIGEST_BYTES = 32;
/** A CIDv1 of sha2-256: version, codec, hash function, digest length, digest. */
const CID_BYTES = 4 + DIGEST_BYTES;
/** Multibase letter `b` and 36 bytes in base32 without padding. */
const CID_TEXT_LENGTH = 59;

/** Exact figures of the DAG of a file. */
export interface DagShape {
  /** Bytes of the file. */
  readonly sizeBytes: number;
  /** Bytes of all blocks together, inner nodes included. */
  readonly dagSizeBytes: number;
  /** Blocks, counted by place in the tree: a leaf that occurs twice counts twice. */
  readonly blockCount: number;
  /** Levels of links from root to leaf: 0 when the file is one leaf. */
  readonly depth: number;
}

/** What a fetch may cost at most. */
export interface DagLimits {
  readonly maxSizeBytes: number;
  readonly maxBlocks: number;
  readonly maxDepth: number;
}

/** One inner node: the sizes of its children, all full but perhaps the last, and its own encoded length. */
export interface NodeShape {
  readonly childCount: number;
  /** File bytes and DAG bytes under every child but the last. */
  readonly fullChild: { readonly sizeBytes: number; readonly dagSizeBytes: number };
  readonly lastChild: { readonly sizeBytes: number; readonly dagSizeBytes: number };
  /** Bytes of the node's own block. */
  readonly blockSizeBytes: number;
}

/** True when `sizeBytes` is a size that the layout can hold: ask before the functions below, which demand it. */
export function isBlobSize(sizeBytes: number): boolean {
  return Number.isSafeInteger(sizeBytes) && sizeBytes >= 0 && sizeBytes <= MAX_BLOB_SIZE_BYTES;
}

/** File bytes under a full subtree of `level` levels (0: a leaf). */
function capacityBytes(level: number): number {
  return CHUNK_SIZE_BYTES * MAX_CHILDREN ** level;
}

/** Bytes of `value` as a protobuf varint. Division, not shifts: sizes exceed 32 bits. */
function varintBytes(value: number): number {
  let length = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) length++;
  return length;
}

/** Encoded bytes of one length-prefixed field with a one-byte tag. */
function fieldBytes(contentBytes: number): number {
  return 1 + varintBytes(contentBytes) + contentBytes;
}

/** Encoded bytes of one PBLink field: hash, empty name, cumulative size. */
function linkBytes(childDagSizeBytes: number): number {
  return fieldBytes(fieldBytes(CID_BYTES) + fieldBytes(0) + 1 + varintBytes(childDagSizeBytes));
}

/**
 * The inner node at `level` (1: its children are leaves) over `sizeBytes` of file.
 * @param sizeBytes more than 0 and at most what `level` levels hold
 */
export function nodeShape(level: number, sizeBytes: number): NodeShape {
  assert(Number.isSafeInteger(level) && level >= 1 && level <= MAX_DEPTH, 'nodeShape: level out of range');
  assert(Number.isSafeInteger(sizeBytes) && sizeBytes > 0 && sizeBytes <= capacityBytes(level), 'nodeShape: size');
  const childCapacity = capacityBytes(level - 1);
  const childCount = Math.ceil(sizeBytes / childCapacity);
  const fullCount = childCount - 1;
  const lastSize = sizeBytes - fullCount * childCapacity;
  const fullDag = subtree(level - 1, childCapacity).dagSizeBytes;
  const lastDag = subtree(level - 1, lastSize).dagSizeBytes;
  // UnixFS message: type (2 bytes), file size, then one unpacked block size per child.
  const unixfsBytes =
    2 + 1 + varintBytes(sizeBytes) + fullCount * (1 + varintBytes(childCapacity)) + 1 + varintBytes(lastSize);
  return {
    childCount,
    fullChild: { sizeBytes: childCapacity, dagSizeBytes: fullDag },
    lastChild: { sizeBytes: lastSize, dagSizeBytes: lastDag },
    blockSizeBytes: fullCount * linkBytes(fullDag) + linkBytes(lastDag) + fieldBytes(unixfsBytes),
  };
}

function subtree(level: number, sizeBytes: number): { dagSizeBytes: number; blockCount: number } {
  if (level === 0) return { dagSizeBytes: sizeBytes, blockCount: 1 };
  const { childCount, fullChild, lastChild, blockSizeBytes } = nodeShape(level, sizeBytes);
  const fullCount = childCount - 1;
  return {
    dagSizeBytes: blockSizeBytes + fullCount * fullChild.dagSizeBytes + lastChild.dagSizeBytes,
    blockCount:
      1 +
      fullCount * subtree(level - 1, fullChild.sizeBytes).blockCount +
      subtree(level - 1, lastChild.sizeBytes).blockCount,
  };
}

/**
 * The DAG of a file of `sizeBytes` bytes: the same on every machine, exact to the byte.
 * @param sizeBytes checked with `isBlobSize` first when it comes from outside; anything else is a bug here
 */
export function dagShape(sizeBytes: number): DagShape {
  assert(isBlobSize(sizeBytes), 'dagShape: not a size that the layout can hold');
  let depth = 0;
  while (capacityBytes(depth) < sizeBytes) depth++;
  const { dagSizeBytes, blockCount } = subtree(depth, sizeBytes);
  return { sizeBytes, dagSizeBytes, blockCount, depth };
}

/** Limits that admit exactly the files of at most `sizeBytes` bytes. Same precondition as `dagShape`. */
export function dagLimitsFor(sizeBytes: number): DagLimits {
  const { blockCount, depth } = dagShape(sizeBytes);
  return { maxSizeBytes: sizeBytes, maxBlocks: blockCount, maxDepth: depth };
}

/**
 * A CID is a blob's when the layout could have made it: version 1, raw or dag-pb, sha2-256. Refuses identity CIDs
 * (their "hash" is the content itself, so they would carry data past every limit) and every weaker hash function.
 */
export function checkBlobCid(cid: CID): Verdict<CID> {
  if (cid.version !== 1) return reject('CID_UNSUPPORTED', 'only CID version 1 is used');
  if (cid.code !== RAW_CODEC && cid.code !== DAG_PB_CODEC) {
    return reject('CID_UNSUPPORTED', 'only the codecs raw and dag-pb are used');
  }
  if (cid.multihash.code !== SHA2_256 || cid.multihash.digest.length !== DIGEST_BYTES) {
    return reject('CID_UNSUPPORTED', 'only the hash function sha2-256 with 32 bytes is used');
  }
  return accept(cid);
}

/** Untrusted text. Only the canonical form is taken, base32 in lower case, so that one blob has one name. */
export function parseBlobCid(text: string): Verdict<CID> {
  if (text.length !== CID_TEXT_LENGTH) return reject('CID_MALFORMED', `a CID here has ${CID_TEXT_LENGTH} characters`);
  let cid: CID;
  try {
    cid = CID.parse(text);
  } catch {
    return reject('CID_MALFORMED', 'not a CID');
  }
  if (cid.toString() !== text) return reject('CID_MALFORMED', 'not the canonical text of this CID');
  return checkBlobCid(cid);
}
