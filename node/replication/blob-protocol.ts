/**
 * What nodes say to each other about ciphertext: give me a block, I hold it now, who holds it. The wire form of the
 * `blob` request protocol; what may be served is decided by the service.
 */
import { decode, encode, list, struct, type TypeOf, union } from '../../common/codec.ts';
import { EmrError } from '../../common/errors.ts';
import { boundedBytes } from '../../common/codec.ts';
import { cidBytes, hash32 } from '../../common/protocol/primitives.ts';
import { MAX_BLOCK_SIZE_BYTES } from '../../common/unixfs-layout.ts';
import type { Network } from '../network/types.ts';
import { type BlobName, storedReceipt, type StoredReceipt } from './blob-records.ts';

export const blobCall = union({
  /** The answer is one frame: the block's bytes. */
  block: struct({ cid: boundedBytes(36, 36) }),
  /** The sender holds this blob; the answer is an empty frame. */
  held: struct({ cid: cidBytes, dataDigest: hash32, receipt: storedReceipt }),
  /** The answer is one frame: the receipts that the asked one knows. */
  receipts: struct({ cid: cidBytes, dataDigest: hash32 }),
});
export type BlobCall = TypeOf<typeof blobCall>;
export const MAX_BLOB_CALL_BYTES = 512;

export const receiptFrame = list(storedReceipt, 31);
const MAX_RECEIPT_FRAME_BYTES = 8 * 1024;

const IDLE_TIMEOUT_MS = 10_000;

async function askOne(
  network: Network,
  peerId: string,
  call: BlobCall,
  maxFrameBytes: number,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const options = { maxFrames: 1, maxFrameBytes, idleTimeoutMs: IDLE_TIMEOUT_MS, signal };
  let answer: Uint8Array | undefined;
  // To the end of the answer, so that the stream closes in order and is not reset.
  for await (const frame of network.request(peerId, 'blob', encode(blobCall, call), options)) answer = frame;
  if (answer === undefined) throw new EmrError('PEER_PROTOCOL', 'the peer answered nothing');
  return answer;
}

/** @throws EmrError PEER_*; PEER_REFUSED with BLOCK_NOT_FOUND where the peer has no such block */
export const askForBlock = (
  network: Network,
  peerId: string,
  cid: Uint8Array,
  signal: AbortSignal,
): Promise<Uint8Array> => askOne(network, peerId, { kind: 'block', cid }, MAX_BLOCK_SIZE_BYTES, signal);

export async function tellHeld(
  network: Network,
  peerId: string,
  { cid, dataDigest }: BlobName,
  receipt: StoredReceipt,
  signal: AbortSignal,
): Promise<void> {
  await askOne(network, peerId, { kind: 'held', cid, dataDigest, receipt }, 16, signal);
}

export async function askForReceipts(
  network: Network,
  peerId: string,
  { cid, dataDigest }: BlobName,
  signal: AbortSignal,
): Promise<readonly StoredReceipt[]> {
  const frame = await askOne(network, peerId, { kind: 'receipts', cid, dataDigest }, MAX_RECEIPT_FRAME_BYTES, signal);
  const receipts = decode(receiptFrame, frame, MAX_RECEIPT_FRAME_BYTES);
  if (!receipts.ok) throw new EmrError('PEER_PROTOCOL', 'the peer answered with receipts that cannot be read');
  return receipts.value;
}
