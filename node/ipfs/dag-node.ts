/**
 * Judging one block that came from outside: are these the bytes that the CID names, and is this node exactly the one
 * that the layout prescribes for its place? Verdicts only: nothing here throws on what a peer or a record made up.
 *
 * A node is taken apart for its child CIDs alone. Everything else (sizes, cumulative sizes, names, order, encoding) is
 * recomputed from the layout and compared byte for byte, so there is no field left to lie in.
 */

import { hash } from 'node:crypto';
import * as dagPb from '@ipld/dag-pb';
import { UnixFS } from 'ipfs-unixfs';
import type { CID } from 'multiformats/cid';
import { accept, reject } from '../../common/errors.ts';
import type { Verdict } from '../../common/errors.ts';
import {
  CHUNK_SIZE_BYTES,
  DAG_PB_CODEC,
  MAX_BLOB_SIZE_BYTES,
  MAX_BLOCK_SIZE_BYTES,
  RAW_CODEC,
  checkBlobCid,
  dagShape,
  nodeShape,
} from '../../common/unixfs-layout.ts';
import type { DagLimits, DagShape } from '../../common/unixfs-layout.ts';

/** The largest honest node has 9 KB. Anything longer is refused before it is parsed. */
const MAX_NODE_SIZE_BYTES = 16_384;

function exceeds(message: string): { ok: false; code: string; message: string } {
  return reject('DAG_EXCEEDS_DECLARED', message);
}

function malformed(message: string): { ok: false; code: string; message: string } {
  return reject('DAG_MALFORMED', message);
}

/**
 * The bytes are the block that the CID names.
 * @returns the bytes; or CID_UNSUPPORTED, BLOCK_TOO_LARGE (over 2 MiB, not hashed), BLOCK_HASH_MISMATCH
 */
export function checkBlock(cid: CID, bytes: Uint8Array): Verdict<Uint8Array> {
  const named = checkBlobCid(cid);
  if (!named.ok) return named;
  if (bytes.length > MAX_BLOCK_SIZE_BYTES) {
    return reject('BLOCK_TOO_LARGE', `a block of ${bytes.length} bytes; at most ${MAX_BLOCK_SIZE_BYTES} are taken`);
  }
  const digest = hash('sha256', bytes, 'buffer');
  if (!digest.equals(cid.multihash.digest)) {
    return reject('BLOCK_HASH_MISMATCH', 'the bytes are not those of the block that was asked for');
  }
  return accept(bytes);
}

/** A leaf of `sizeBytes`. The block is already known to be what its CID names: a wrong length is the record's lie. */
export function checkLeaf(bytes: Uint8Array, sizeBytes: number): Verdict {
  if (bytes.length > sizeBytes) return exceeds('a leaf holds more bytes than its parent declared');
  if (bytes.length < sizeBytes) return malformed('a leaf holds fewer bytes than its parent declared');
  return accept(undefined);
}

interface ParsedNode {
  readonly children: readonly CID[];
  /** What the node claims to hold, in bytes: any number up to 2^64 times the number of children. */
  readonly claimedBytes: bigint;
}

function parseNode(bytes: Uint8Array): Verdict<ParsedNode> {
  if (bytes.length > MAX_NODE_SIZE_BYTES) return exceeds('a node has more links than the layout allows');
  try {
    const node = dagPb.decode(bytes);
    if (node.Data === undefined) return malformed('a node without UnixFS data');
    const { blockSizes } = UnixFS.unmarshal(node.Data);
    let claimedBytes = 0n;
    for (const size of blockSizes) claimedBytes += size;
    return accept({ children: node.Links.map((link) => link.Hash), claimedBytes });
  } catch {
    return malformed('a block that is no UnixFS node');
  }
}

/** The one encoding of the node at `level` over `sizeBytes` with these children. */
function encodeNode(children: readonly CID[], level: number, sizeBytes: number): Uint8Array {
  const shape = nodeShape(level, sizeBytes);
  const sizeOf = (index: number): NodeChild => (index === shape.childCount - 1 ? shape.lastChild : shape.fullChild);
  const unixfs = new UnixFS({
    type: 'file',
    blockSizes: children.map((_, index) => BigInt(sizeOf(index).sizeBytes)),
  });
  return dagPb.encode({
    Data: unixfs.marshal(),
    Links: children.map((child, index) => ({ Name: '', Tsize: sizeOf(index).dagSizeBytes, Hash: child })),
  });
}

type NodeChild = { readonly sizeBytes: number; readonly dagSizeBytes: number };

/**
 * An inner node in its place.
 * @param level 1 when its children are leaves
 * @param sizeBytes what its parent, or the root's own claim, says that it holds
 * @returns the CIDs of its children, in order; or DAG_EXCEEDS_DECLARED, DAG_MALFORMED
 */
export function checkNode(bytes: Uint8Array, level: number, sizeBytes: number): Verdict<readonly CID[]> {
  const parsed = parseNode(bytes);
  if (!parsed.ok) return parsed;
  const { children, claimedBytes } = parsed.value;
  const { childCount } = nodeShape(level, sizeBytes);
  if (claimedBytes > BigInt(sizeBytes)) return exceeds('a node claims more bytes than were declared for it');
  if (children.length > childCount) return exceeds('a node has more children than its size needs');
  if (children.length < childCount) return malformed('a node has fewer children than its size needs');
  for (const child of children) {
    if (!checkBlobCid(child).ok) return malformed('a link that is no sha2-256 CID of raw or dag-pb');
    if (level === 1 && child.code !== RAW_CODEC) return exceeds('a subtree where the declared depth ends');
    if (level > 1 && child.code !== DAG_PB_CODEC) return malformed('a leaf above the last level');
  }
  if (Buffer.compare(encodeNode(children, level, sizeBytes), bytes) !== 0) {
    return malformed('a node that is not encoded as the layout prescribes');
  }
  return accept(children);
}

/**
 * What a root block claims, checked against the limits and, for a node, against the layout: from here on the size,
 * number and place of every block below are known.
 */
export function checkRoot(cid: CID, bytes: Uint8Array, limits: DagLimits): Verdict<DagShape> {
  let claimedBytes = bytes.length;
  if (cid.code === DAG_PB_CODEC) {
    const parsed = parseNode(bytes);
    if (!parsed.ok) return parsed;
    if (parsed.value.claimedBytes > BigInt(MAX_BLOB_SIZE_BYTES)) return exceeds('the root claims an impossible size');
    claimedBytes = Number(parsed.value.claimedBytes);
    if (claimedBytes <= CHUNK_SIZE_BYTES && claimedBytes <= limits.maxSizeBytes) {
      return malformed('a root node over what fits in one leaf');
    }
  } else if (claimedBytes > CHUNK_SIZE_BYTES) {
    return exceeds('a leaf is longer than one chunk');
  }
  if (claimedBytes > limits.maxSizeBytes) return exceeds('the root claims more bytes than were declared');
  const shape = dagShape(claimedBytes);
  if (shape.blockCount > limits.maxBlocks) return exceeds('more blocks than were declared');
  if (shape.depth > limits.maxDepth) return exceeds('a deeper tree than was declared');
  if (shape.depth > 0) {
    const node = checkNode(bytes, shape.depth, claimedBytes);
    if (!node.ok) return node;
  }
  return accept(shape);
}
