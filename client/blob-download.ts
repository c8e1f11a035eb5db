/**
 * Ciphertext from a node: a stream with a known size, never held in memory, resumed where it broke off. What is in it is
 * for others to check: nothing here trusts a byte or a figure of the node.
 */
import { constants } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { answerTo, broken, dial, type Progress, refusal } from './blob-http.ts';
import { ClientError } from './errors.ts';
import type { RpcClient } from './rpc-client.ts';

/** Attempts of a download in a row that bring not one byte. */
const MAX_FRUITLESS_ATTEMPTS = 3;
const RESUME_PAUSE_MS = 500;

function counting(total: number, start: number, progress: Progress | undefined): Transform {
  let done = start;
  return new Transform({
    highWaterMark: 1024 * 1024,
    transform(piece: Uint8Array, _encoding, next) {
      done += piece.length;
      progress?.(done, total);
      next(null, piece);
    },
  });
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch {
    return 0;
  }
}

/**
 * Fetches a blob into `path`, from where an earlier attempt broke off, and goes on through broken connections.
 * The file then holds `sizeBytes` bytes, which the caller must verify.
 * @throws ClientError with the node's reason, TRANSFER_BROKEN
 */
export async function downloadBlob(
  rpc: RpcClient,
  cid: string,
  sizeBytes: number,
  path: string,
  progress?: Progress,
): Promise<void> {
  let fruitless = 0;
  for (;;) {
    const start = await sizeOf(path);
    if (start >= sizeBytes) return;
    try {
      await fetchFrom(rpc, cid, start, sizeBytes, path, progress);
    } catch (error) {
      if (error instanceof ClientError && error.code !== 'TRANSFER_BROKEN' && error.code !== 'BLOB_UNAVAILABLE')
        throw error;
      fruitless = (await sizeOf(path)) > start ? 0 : fruitless + 1;
      if (fruitless >= MAX_FRUITLESS_ATTEMPTS) throw error;
      await delay(RESUME_PAUSE_MS * fruitless);
    }
  }
}

async function fetchFrom(
  rpc: RpcClient,
  cid: string,
  start: number,
  sizeBytes: number,
  path: string,
  progress: Progress | undefined,
): Promise<void> {
  const request = dial(rpc, `/blob/${cid}`, 'GET', { range: `bytes=${start}-${sizeBytes - 1}` });
  try {
    const answered = answerTo(request);
    request.end();
    const message = await answered;
    if (message.statusCode !== 206 && !(message.statusCode === 200 && start === 0)) throw await refusal(message);
    let left = sizeBytes - start;
    // A node that sends more than was asked for is cut off, not written to the disk.
    const bounded = new Transform({
      transform(piece: Uint8Array, _encoding, next) {
        left -= piece.length;
        if (left < 0) next(new Error('more bytes than asked for'));
        else next(null, piece);
      },
    });
    // At its place, not at the end: two commands that fetch the same blob then write the same bytes.
    const file = await open(path, constants.O_WRONLY | constants.O_CREAT, 0o600);
    await pipeline(message, bounded, counting(sizeBytes, start, progress), file.createWriteStream({ start }));
    if (left > 0) throw new Error('fewer bytes than promised');
  } catch (error) {
    throw error instanceof ClientError ? error : broken('download', rpc.origin, error);
  } finally {
    request.destroy();
  }
}
