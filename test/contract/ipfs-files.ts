/** Files and DAGs for the suites of the blob store: honest ones of any size, and ones that no honest writer makes. */

import { createHash } from 'node:crypto';
import { chmod, readFile, writeFile } from 'node:fs/promises';
import * as dagPb from '@ipld/dag-pb';
import { UnixFS } from 'ipfs-unixfs';
import { CID } from 'multiformats/cid';
import { create as createDigest } from 'multiformats/hashes/digest';
import { importBlob } from '../../common/native/unixfs-cid.ts';
import type { BlobSummary } from '../../common/native/unixfs-cid.ts';
import { CHUNK_SIZE_BYTES, DAG_PB_CODEC, RAW_CODEC } from '../../common/unixfs-layout.ts';
import type { GetBlockFromPeer } from '../../node/ipfs/blob-store.ts';

const PIECE_BYTES = 65_536;

/** `sizeBytes` bytes in pieces of 64 KiB that all differ, so that no two chunks of a file are the same block. */
export async function* fileOf(sizeBytes: number, seed = 1): AsyncGenerator<Uint8Array> {
  for (let offset = 0; offset < sizeBytes; offset += PIECE_BYTES) {
    const piece = Buffer.alloc(PIECE_BYTES, seed);
    piece.writeDoubleBE(seed, 0);
    piece.writeDoubleBE(offset, 8);
    yield piece.subarray(0, Math.min(PIECE_BYTES, sizeBytes - offset));
  }
}

/** A large file of few blocks: seven distinct chunks over and over, so that it costs little and order still shows. */
export async function* repetitiveFile(sizeBytes: number, seed = 1): AsyncGenerator<Uint8Array> {
  const period = 7 * CHUNK_SIZE_BYTES;
  for (let offset = 0; offset < sizeBytes; offset += period) yield* fileOf(Math.min(period, sizeBytes - offset), seed);
}

export async function collect(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of source) pieces.push(piece);
  return Buffer.concat(pieces);
}

/** SM3 of a stream, without keeping it. */
export async function digestOf(source: AsyncIterable<Uint8Array>): Promise<string> {
  const hash = createHash('sm3');
  for await (const piece of source) hash.update(piece);
  return hash.digest('hex');
}

export function cidOf(bytes: Uint8Array, codec: number): CID {
  return CID.createV1(codec, createDigest(0x12, createHash('sha256').update(bytes).digest()));
}

export interface Block {
  readonly cid: CID;
  readonly bytes: Uint8Array;
}

/** Blocks that some peer has. */
export class PeerBlocks {
  readonly #blocks = new Map<string, Uint8Array>();
  /** CIDs in the order in which they were asked for. */
  readonly asked: string[] = [];

  put({ cid, bytes }: Block): CID {
    this.#blocks.set(cid.toString(), bytes);
    return cid;
  }

  /** Puts bytes in the place of what a CID names. */
  lie(cid: CID, bytes: Uint8Array): void {
    this.#blocks.set(cid.toString(), bytes);
  }

  readonly get: GetBlockFromPeer = async (cid) => {
    this.asked.push(cid.toString());
    const bytes = this.#blocks.get(cid.toString());
    if (bytes === undefined) throw new Error('the peer has no such block');
    return bytes;
  };
}

/** A peer that has one file of honest making. */
export async function peerWith(
  source: AsyncIterable<Uint8Array>,
): Promise<{ peer: PeerBlocks; summary: BlobSummary; blocks: Block[] }> {
  const peer = new PeerBlocks();
  const blocks: Block[] = [];
  const summary = await importBlob(source, async (cid, bytes) => {
    const block = { cid, bytes: Uint8Array.from(bytes) };
    peer.put(block);
    blocks.push(block);
  });
  return { peer, summary, blocks };
}

export interface Child {
  readonly cid: CID;
  /** File bytes that the parent claims for it. */
  readonly size: number | bigint;
  /** Cumulative size that the link claims. */
  readonly tsize: number;
}

export function leaf(bytes: Uint8Array): Block {
  return { cid: cidOf(bytes, RAW_CODEC), bytes };
}

/** A node with whatever claims the test wants. */
export function node(
  children: readonly Child[],
  options: { type?: 'file' | 'directory'; data?: Uint8Array; name?: string } = {},
): Block {
  const unixfs = new UnixFS({
    type: options.type ?? 'file',
    blockSizes: children.map(({ size }) => BigInt(size)),
    ...(options.data === undefined ? {} : { data: options.data }),
  });
  const bytes = dagPb.encode({
    Data: unixfs.marshal(),
    Links: children.map(({ cid, tsize }) => ({ Name: options.name ?? '', Tsize: tsize, Hash: cid })),
  });
  return { cid: cidOf(bytes, DAG_PB_CODEC), bytes };
}

/** Link to an honest leaf. */
export function linkTo({ cid, bytes }: Block): Child {
  return { cid, size: bytes.length, tsize: bytes.length };
}

/** Changes one bit of a file. */
export async function flipBit(path: string): Promise<void> {
  const bytes = await readFile(path);
  bytes[0] = (bytes[0] ?? 0) ^ 1;
  await chmod(path, 0o600);
  await writeFile(path, bytes);
}
