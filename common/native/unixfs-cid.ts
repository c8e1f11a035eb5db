/**
 * From a stream of bytes to its CID, with or without keeping the blocks: one path for the client, which must not
 * believe what its node says, and for the node, which stores. Constant memory, whatever the size.
 *
 * The DAG is built by ipfs-unixfs-importer with every parameter of `unixfs-layout.ts` set explicitly, so that a new
 * default of the library cannot change a CID. No storage and no network here.
 */

import { createHash } from 'node:crypto';
import { importer } from 'ipfs-unixfs-importer';
import { fixedSize } from 'ipfs-unixfs-importer/chunker';
import { balanced } from 'ipfs-unixfs-importer/layout';
import type { CID } from 'multiformats/cid';
import { EmrError, assert } from '../errors.ts';
import { CHUNK_SIZE_BYTES, MAX_BLOB_SIZE_BYTES, MAX_CHILDREN, dagShape } from '../unixfs-layout.ts';
import type { DagShape } from '../unixfs-layout.ts';
import { untilAborted } from './race-abort.ts';

/** Blocks hashed and written at the same time: enough to hide a disk's latency, few enough for 4 MiB of memory. */
const BLOCKS_IN_FLIGHT = 4;

/** A file as IPFS and the chain see it. */
export interface BlobSummary extends DagShape {
  readonly cid: CID;
  /** SM3 of the file's bytes, 32 bytes: what stands beside the CID on chain. */
  readonly dataDigest: Uint8Array;
}

export interface ImportOptions {
  /** Refuse a longer stream with BLOB_TOO_LARGE as soon as it is longer. Default: the layout's own maximum. */
  readonly maxSizeBytes?: number;
  readonly signal?: AbortSignal;
}

/** Where finished blocks go, children before parents. May be called for several blocks at a time. */
export type BlockSink = (cid: CID, bytes: Uint8Array) => Promise<void>;

/**
 * Builds the DAG of `source` and hands each block to `sink`.
 * @param source chunks of any length; their memory must not be reused by the producer afterwards
 * @returns exact figures of the DAG
 * @throws EmrError BLOB_TOO_LARGE; the signal's reason; whatever source or sink throws
 */
export async function importBlob(
  source: AsyncIterable<Uint8Array>,
  sink: BlockSink,
  options: ImportOptions = {},
): Promise<BlobSummary> {
  const maxSizeBytes = Math.min(options.maxSizeBytes ?? MAX_BLOB_SIZE_BYTES, MAX_BLOB_SIZE_BYTES);
  const hash = createHash('sm3');
  let sizeBytes = 0;
  let blockCount = 0;
  let dagSizeBytes = 0;

  async function* measured(): AsyncGenerator<Uint8Array> {
    for await (const bytes of untilAborted(source, options.signal)) {
      sizeBytes += bytes.length;
      if (sizeBytes > maxSizeBytes) {
        throw new EmrError('BLOB_TOO_LARGE', `The stream is longer than the ${maxSizeBytes} bytes allowed.`, {
          maxSizeBytes,
        });
      }
      hash.update(bytes);
      yield bytes;
    }
  }
  const blocks = {
    async put(cid: CID, bytes: Uint8Array): Promise<CID> {
      blockCount++;
      dagSizeBytes += bytes.length;
      await sink(cid, bytes);
      return cid;
    },
  };

  let root: CID | undefined;
  for await (const entry of importer([{ content: measured() }], blocks, {
    cidVersion: 1,
    rawLeaves: true,
    leafType: 'file',
    reduceSingleLeafToSelf: true,
    wrapWithDirectory: false,
    chunker: fixedSize({ chunkSize: CHUNK_SIZE_BYTES }),
    layout: balanced({ maxChildrenPerNode: MAX_CHILDREN }),
    fileImportConcurrency: 1,
    blockWriteConcurrency: BLOCKS_IN_FLIGHT,
  })) {
    root = entry.cid;
  }
  assert(root !== undefined, 'the importer gave no root');
  options.signal?.throwIfAborted();
  const shape = dagShape(sizeBytes);
  assert(
    shape.blockCount === blockCount && shape.dagSizeBytes === dagSizeBytes,
    'the importer built another layout than unixfs-layout.ts prescribes',
  );
  return { ...shape, cid: root, dataDigest: new Uint8Array(hash.digest()) };
}

/** The CID, digest and figures of `source`, keeping nothing. Parameters and errors as `importBlob`. */
export function computeCid(source: AsyncIterable<Uint8Array>, options: ImportOptions = {}): Promise<BlobSummary> {
  return importBlob(source, async () => {}, options);
}
