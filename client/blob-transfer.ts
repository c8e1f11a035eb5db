/**
 * Ciphertext to a node and from a node: streams with a known size, never held in memory, resumed where they broke off.
 * What is in them is for others to check: nothing here trusts a byte or a figure of the node.
 */
import { constants } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { type ClientRequest, type IncomingMessage, request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { ClientError } from './errors.ts';
import { nodeError, type RpcClient } from './rpc-client.ts';
import { clean } from './text.ts';

/** Without a byte for this long, a transfer has broken off. A node needs some time after the last byte to sync a disk. */
const IDLE_TIMEOUT_MS = 120_000;
/** Answers beside the ciphertext itself are small JSON. */
const MAX_ANSWER_BYTES = 64 * 1024;
/** Attempts of a download in a row that bring not one byte. */
const MAX_FRUITLESS_ATTEMPTS = 3;
const RESUME_PAUSE_MS = 500;
/** Between a connection that broke while sending and the answer that may have come with it. */
const REFUSAL_GRACE_MS = 1_000;

export type Progress = (doneBytes: number, totalBytes: number) => void;

function dial(rpc: RpcClient, path: string, method: string, headers: Record<string, string | number>): ClientRequest {
  const url = new URL(`${rpc.base}${path}`);
  const authorization = rpc.authorization();
  const send = url.protocol === 'https:' ? httpsRequest : httpRequest;
  return send(url, {
    method,
    headers: { ...headers, ...(authorization === null ? {} : { authorization }) },
    timeout: IDLE_TIMEOUT_MS,
  });
}

function answerTo(request: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    request.once('response', resolve);
    request.once('error', reject);
    request.once('timeout', () => request.destroy(new Error('no byte for two minutes')));
  });
}

const broken = (what: string, origin: string, cause: unknown): ClientError =>
  new ClientError(
    'TRANSFER_BROKEN',
    `The ${what} broke off${cause instanceof Error ? `: ${clean(cause.message)}` : ''}.`,
    `Run the command again; emrchain node status shows whether the node at ${origin} is well.`,
    {},
    { cause },
  );

async function readAnswer(message: IncomingMessage): Promise<unknown> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of message) {
    bytes += (piece as Uint8Array).length;
    if (bytes > MAX_ANSWER_BYTES) break;
    pieces.push(piece as Uint8Array);
  }
  try {
    return JSON.parse(Buffer.concat(pieces).toString('utf8'));
  } catch {
    return undefined;
  }
}

/** The node's refusal of a transfer: its JSON-RPC error, wherever it lies in the body. */
async function refusal(message: IncomingMessage): Promise<ClientError> {
  const body = (await readAnswer(message)) as { error?: unknown } | undefined;
  return nodeError(body?.error ?? body, message.statusCode ?? 0);
}

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

/** What the node says about an upload. To be compared with what was computed here. */
export interface UploadAnswer {
  readonly cid: string;
  readonly sizeBytes: number;
  /** 0x-hex. */
  readonly dataDigest: string;
}

/**
 * Sends exactly `sizeBytes` bytes.
 * @throws ClientError with the node's reason, TRANSFER_BROKEN, RESPONSE_INVALID; what `source` throws
 */
export async function uploadBlob(
  rpc: RpcClient,
  source: AsyncIterable<Uint8Array>,
  sizeBytes: number,
  progress?: Progress,
): Promise<UploadAnswer> {
  const request = dial(rpc, '/blob', 'PUT', {
    'content-type': 'application/octet-stream',
    'content-length': sizeBytes,
  });
  const answered = answerTo(request);
  answered.catch(() => undefined);
  let sourceFailed: Error | undefined;
  async function* watched(): AsyncGenerator<Uint8Array> {
    try {
      yield* source;
    } catch (error) {
      sourceFailed = error instanceof Error ? error : new Error(String(error));
      throw error;
    }
  }
  const sent = pipeline(watched(), counting(sizeBytes, 0, progress), request);
  // A refusal may come before the last byte, and the connection break with it: the answer is worth a moment's wait.
  const broke = sent.then(
    () => answered,
    async (error: unknown) => {
      if (sourceFailed === undefined) await settledWithin(answered, REFUSAL_GRACE_MS);
      throw error;
    },
  );
  broke.catch(() => undefined);
  try {
    const message = await Promise.race([answered, broke]);
    if (message.statusCode !== 201) throw await refusal(message);
    const body = (await readAnswer(message)) as Partial<UploadAnswer> | undefined;
    if (typeof body?.cid !== 'string' || typeof body.sizeBytes !== 'number' || typeof body.dataDigest !== 'string') {
      throw new ClientError(
        'RESPONSE_INVALID',
        "The node's answer to the upload is none.",
        'Use another node (--rpc URL).',
      );
    }
    return { cid: body.cid, sizeBytes: body.sizeBytes, dataDigest: body.dataDigest };
  } catch (error) {
    if (sourceFailed !== undefined) throw sourceFailed;
    throw error instanceof ClientError ? error : broken('upload', rpc.origin, error);
  } finally {
    request.destroy();
    await sent.catch(() => undefined);
  }
}

/** Waits until the promise is settled, or the time is over. */
async function settledWithin(promise: Promise<unknown>, ms: number): Promise<void> {
  const over = new AbortController();
  const settled = promise.then(
    () => undefined,
    () => undefined,
  );
  await Promise.race([settled, delay(ms, undefined, { signal: over.signal }).catch(() => undefined)]);
  over.abort();
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
