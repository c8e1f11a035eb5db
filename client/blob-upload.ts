/**
 * Ciphertext to a node, in parts: each stays in memory until the node has said that it has it, so that a broken connection
 * costs a part at the most. What the node makes of it is for others to check.
 */
import type { IncomingMessage } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { assert } from '../common/errors.ts';
import { answerTo, broken, dial, type Progress, readAnswer, refusal } from './blob-http.ts';
import { ClientError } from './errors.ts';
import { isWorthRepeating, type RpcClient } from './rpc-client.ts';

/** One is sent while the next is filled: twice this in memory. Large enough that waiting for answers costs little. */
const PART_BYTES = 4 * 1024 * 1024;
/** Attempts in a row after which the node has not one byte more. The pauses between add up to 15 s. */
const MAX_FRUITLESS_ATTEMPTS = 6;
/** Before the first attempt to go on; each further one waits twice as long. */
const FIRST_PAUSE_MS = 500;
const UPLOAD_PATH = /^\/blob\/uploads\/[0-9a-f]{1,64}$/;

/** What the node says about an upload. To be compared with what was computed here. */
export interface UploadAnswer {
  readonly cid: string;
  readonly sizeBytes: number;
  /** 0x-hex. */
  readonly dataDigest: string;
}

/** The same bytes in pieces of PART_BYTES, the last one excepted. Each has memory of its own. */
async function* inParts(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let part = new Uint8Array(PART_BYTES);
  let filled = 0;
  for await (let piece of source) {
    while (piece.length > 0) {
      const taken = piece.subarray(0, PART_BYTES - filled);
      part.set(taken, filled);
      filled += taken.length;
      piece = piece.subarray(taken.length);
      if (filled < PART_BYTES) continue;
      yield part;
      part = new Uint8Array(PART_BYTES);
      filled = 0;
    }
  }
  if (filled > 0) yield part.subarray(0, filled);
}

/**
 * Sends exactly `sizeBytes` bytes, at least one, and goes on through broken connections.
 * @throws ClientError with the node's reason (UPLOAD_UNKNOWN when it lost what it had), TRANSFER_BROKEN, RESPONSE_INVALID;
 *   what `source` throws
 */
export async function uploadBlob(
  rpc: RpcClient,
  source: AsyncIterable<Uint8Array>,
  sizeBytes: number,
  progress?: Progress,
): Promise<UploadAnswer> {
  const parts = inParts(source);
  const following = (): Promise<IteratorResult<Uint8Array, void>> => {
    const next = parts.next();
    // Whoever waits for it reports its failure, which may come before anybody waits.
    next.catch(() => undefined);
    return next;
  };
  let next = following();
  let upload: Upload | undefined;
  try {
    upload = await Upload.open(rpc, sizeBytes);
    let answer: UploadAnswer | null = null;
    for (let part = await next; part.done !== true; part = await next) {
      next = following();
      answer = await upload.send(part.value);
      progress?.(upload.sentBytes, sizeBytes);
    }
    assert(answer !== null && upload.sentBytes === sizeBytes, 'uploadBlob: the source has another size than was said');
    return answer;
  } catch (error) {
    // A node that did not answer would not answer to this either.
    if (!isBroken(error)) await upload?.giveUp();
    throw error;
  } finally {
    await parts.return(undefined);
  }
}

class Upload {
  readonly #rpc: RpcClient;
  readonly #path: string;
  #sentBytes = 0;

  private constructor(rpc: RpcClient, path: string) {
    this.#rpc = rpc;
    this.#path = path;
  }

  static async open(rpc: RpcClient, sizeBytes: number): Promise<Upload> {
    return asking(rpc, '/blob', 'POST', { 'upload-length': sizeBytes }, null, async ({ headers }) => {
      const { location = '' } = headers;
      if (!UPLOAD_PATH.test(location)) throw answerInvalid();
      return new Upload(rpc, location);
    });
  }

  /** Bytes that the node has acknowledged. */
  get sentBytes(): number {
    return this.#sentBytes;
  }

  /** Sends the part that follows what was sent. @returns the answer to the whole upload after its last byte, else null */
  async send(part: Uint8Array): Promise<UploadAnswer | null> {
    const start = this.#sentBytes;
    let fruitless = 0;
    for (;;) {
      try {
        if (fruitless > 0) {
          const offset = await this.#offset();
          if (offset < start || offset > start + part.length) throw answerInvalid();
          if (offset > this.#sentBytes) fruitless = 0;
          this.#sentBytes = offset;
        }
        return await this.#append(part.subarray(this.#sentBytes - start));
      } catch (error) {
        fruitless += 1;
        if (!(isBroken(error) || isWorthRepeating(error)) || fruitless >= MAX_FRUITLESS_ATTEMPTS) throw error;
        await delay(FIRST_PAUSE_MS * 2 ** (fruitless - 1));
      }
    }
  }

  /** Not vital: the node forgets an upload that stands still. */
  async giveUp(): Promise<void> {
    await asking(this.#rpc, this.#path, 'DELETE', {}, null, async () => undefined).catch(() => undefined);
  }

  /** Where the node wants to go on. GET, since a refusal in answer to HEAD could not say why. */
  #offset(): Promise<number> {
    return asking(this.#rpc, this.#path, 'GET', {}, null, async ({ headers }) => {
      const offset = headers['upload-offset'];
      if (typeof offset !== 'string' || !/^\d{1,15}$/.test(offset)) throw answerInvalid();
      return Number(offset);
    });
  }

  #append(bytes: Uint8Array): Promise<UploadAnswer | null> {
    const headers = { 'content-type': 'application/octet-stream', 'upload-offset': this.#sentBytes };
    return asking(this.#rpc, this.#path, 'PATCH', headers, bytes, async (message) => {
      const answer = message.statusCode === 201 ? uploadAnswer(await readAnswer(message)) : null;
      this.#sentBytes += bytes.length;
      return answer;
    });
  }
}

/**
 * One request, and what `read` makes of its answer if that is no refusal.
 * @throws ClientError with the node's reason, TRANSFER_BROKEN; what `read` throws
 */
async function asking<T>(
  rpc: RpcClient,
  path: string,
  method: string,
  headers: Record<string, string | number>,
  body: Uint8Array | null,
  read: (message: IncomingMessage) => Promise<T>,
): Promise<T> {
  const request = dial(rpc, path, method, { ...headers, 'content-length': body?.length ?? 0 });
  try {
    const answered = answerTo(request);
    request.end(body);
    const message = await answered;
    if (message.statusCode !== 201 && message.statusCode !== 204) throw await refusal(message);
    const result = await read(message);
    // Read to its end, the connection serves the next request.
    message.resume();
    return result;
  } catch (error) {
    request.destroy();
    throw error instanceof ClientError ? error : broken('upload', rpc.origin, error);
  }
}

const isBroken = (error: unknown): boolean => error instanceof ClientError && error.code === 'TRANSFER_BROKEN';

const answerInvalid = (): ClientError =>
  new ClientError('RESPONSE_INVALID', "The node's answer to the upload is none.", 'Use another node (--rpc URL).');

function uploadAnswer(body: unknown): UploadAnswer {
  const { cid, sizeBytes, dataDigest } = (body ?? {}) as Partial<UploadAnswer>;
  if (typeof cid !== 'string' || typeof sizeBytes !== 'number' || typeof dataDigest !== 'string') throw answerInvalid();
  return { cid, sizeBytes, dataDigest };
}
