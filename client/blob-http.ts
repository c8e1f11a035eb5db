/**
 * Requests to a node that move ciphertext: dialled with the reader's token, answers bounded, refusals and breaks as errors
 * of ours.
 */
import { type ClientRequest, type IncomingMessage, request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { ClientError } from './errors.ts';
import { nodeError, type RpcClient } from './rpc-client.ts';
import { clean } from './text.ts';

/** Without a byte for this long, a transfer has broken off. A node needs some time after the last byte to sync a disk. */
const IDLE_TIMEOUT_MS = 120_000;
/** Answers beside the ciphertext itself are small JSON. */
const MAX_ANSWER_BYTES = 64 * 1024;

export type Progress = (doneBytes: number, totalBytes: number) => void;

export function dial(
  rpc: RpcClient,
  path: string,
  method: string,
  headers: Record<string, string | number>,
): ClientRequest {
  const url = new URL(`${rpc.base}${path}`);
  const authorization = rpc.authorization();
  const send = url.protocol === 'https:' ? httpsRequest : httpRequest;
  return send(url, {
    method,
    headers: { ...headers, ...(authorization === null ? {} : { authorization }) },
    timeout: IDLE_TIMEOUT_MS,
  });
}

/** Rejects when the connection breaks, or stands still, before the head of an answer. */
export function answerTo(request: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    request.once('response', resolve);
    request.once('error', reject);
    request.once('timeout', () => request.destroy(new Error('no byte for two minutes')));
  });
}

export const broken = (what: string, origin: string, cause: unknown): ClientError =>
  new ClientError(
    'TRANSFER_BROKEN',
    `The ${what} broke off${cause instanceof Error ? `: ${clean(cause.message)}` : ''}.`,
    `Run the command again; emrchain node status shows whether the node at ${origin} is well.`,
    {},
    { cause },
  );

/** The JSON of a small answer; undefined where it is none. */
export async function readAnswer(message: IncomingMessage): Promise<unknown> {
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
export async function refusal(message: IncomingMessage): Promise<ClientError> {
  const body = (await readAnswer(message)) as { error?: unknown } | undefined;
  return nodeError(body?.error ?? body, message.statusCode ?? 0);
}
