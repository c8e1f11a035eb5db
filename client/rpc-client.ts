/**
 * JSON-RPC over HTTP with types from the one table of methods. Answers are bounded, checked against the schema, and
 * mapped to errors that say what to do. Only reads are repeated when the network fails: whoever submits decides itself.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { MethodName, ParamsOf, ResultOf } from '../rpc/methods.ts';
import { ClientError, remedyOf } from './errors.ts';
import { clean } from './text.ts';

export const DEFAULT_RPC_URL = 'http://127.0.0.1:8545';
export const RPC_VARIABLE = 'EMRCHAIN_RPC';

/** The largest honest answer is a proof of a range: 4 MiB, in hex twice that. */
export const MAX_RESPONSE_BYTES = 12 * 1024 * 1024;
/** For one attempt, unless the call itself waits. */
export const DEFAULT_CALL_TIMEOUT_MS = 20_000;
/** Waits before the second, third and fourth attempt of a read. */
const RETRY_DELAYS_MS = [100, 400, 1_200];

/** Reads that are repeated when the answer was lost or says that another moment is better. */
const NOT_REPEATED: ReadonlySet<MethodName> = new Set<MethodName>(['tx_submit', 'custody_getShare']);
/** Errors of the node after which the same read may succeed at once. */
const WORTH_REPEATING: ReadonlySet<number> = new Set([-32008, -32006]);

export interface RpcClientOptions {
  /** Gives the reader's token for the `Authorization` header, or null to come without. */
  readonly authorize?: () => string | null;
  readonly fetch?: typeof fetch;
  readonly timeoutMs?: number;
}

export interface CallOptions {
  /** Longest time for one attempt, in milliseconds; more than the method itself may take. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** Checks what a person gave as the node's address. @throws ClientError RPC_URL_INVALID */
export function parseRpcUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const plain =
    url !== undefined &&
    (url.protocol === 'http:' || url.protocol === 'https:') &&
    url.username === '' &&
    url.password === '' &&
    url.search === '' &&
    url.hash === '';
  if (!plain) {
    throw new ClientError(
      'RPC_URL_INVALID',
      `"${clean(text)}" is not the address of a node.`,
      `Give scheme, host and port, such as ${DEFAULT_RPC_URL}.`,
    );
  }
  return url;
}

export class RpcClient {
  /** As given, without a slash at the end. */
  readonly base: string;
  /** `scheme://host:port` as it is dialled: tokens are bound to it. */
  readonly origin: string;
  readonly #authorize: () => string | null;
  readonly #fetch: typeof fetch;
  readonly #timeoutMs: number;
  #nextId = 1;

  constructor(url: string, options: RpcClientOptions = {}) {
    const parsed = parseRpcUrl(url);
    this.origin = parsed.origin;
    // The address with the path of the calls is what nodes print, and means the same.
    this.base = `${parsed.origin}${parsed.pathname.replace(/(?:\/rpc)?\/*$/, '')}`;
    this.#authorize = options.authorize ?? (() => null);
    this.#fetch = options.fetch ?? fetch;
    this.#timeoutMs = options.timeoutMs ?? DEFAULT_CALL_TIMEOUT_MS;
  }

  /** The same node with another identity of the caller. */
  as(authorize: () => string | null): RpcClient {
    return new RpcClient(this.base, { authorize, fetch: this.#fetch, timeoutMs: this.#timeoutMs });
  }

  authorization(): string | null {
    return this.#authorize();
  }

  /**
   * @returns the checked result
   * @throws ClientError with the node's reason as code; NODE_UNREACHABLE, NODE_TIMEOUT, RESPONSE_INVALID,
   *   RESPONSE_TOO_LARGE of its own
   */
  async call<M extends MethodName>(method: M, params: ParamsOf<M>, options: CallOptions = {}): Promise<ResultOf<M>> {
    const attempts = NOT_REPEATED.has(method) ? 0 : RETRY_DELAYS_MS.length;
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.#once(method, params, options);
      } catch (error) {
        const waitMs = RETRY_DELAYS_MS[attempt];
        if (attempt >= attempts || waitMs === undefined || !isWorthRepeating(error)) throw error;
        await delay(waitMs, undefined, options.signal === undefined ? {} : { signal: options.signal });
      }
    }
  }

  async #once<M extends MethodName>(method: M, params: ParamsOf<M>, options: CallOptions): Promise<ResultOf<M>> {
    const id = this.#nextId++;
    const token = this.#authorize();
    const timeout = AbortSignal.timeout(options.timeoutMs ?? this.#timeoutMs);
    const signal = options.signal === undefined ? timeout : AbortSignal.any([timeout, options.signal]);
    let status: number;
    let text: string;
    try {
      const response = await this.#fetch(`${this.base}/rpc`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...(token === null ? {} : { authorization: token }) },
        body: JSON.stringify({ jsonrpc: '2.0', id, method, params }),
        redirect: 'error',
        signal,
      });
      status = response.status;
      text = await readBounded(response);
    } catch (cause) {
      throw this.#transportError(cause, options.signal);
    }
    const { checkResult } = await import('./response-schema.ts');
    return checkResult(method, readAnswer(text, status, id));
  }

  #transportError(cause: unknown, signal: AbortSignal | undefined): unknown {
    if (cause instanceof ClientError) return cause;
    if (signal?.aborted === true) return signal.reason;
    if (cause instanceof Error && cause.name === 'TimeoutError') {
      return new ClientError(
        'NODE_TIMEOUT',
        `The node at ${this.origin} did not answer in time.`,
        'Try again; emrchain node status shows whether it commits blocks.',
        { origin: this.origin },
        { cause },
      );
    }
    const inner = (cause as { cause?: { code?: unknown } } | null)?.cause?.code;
    const detail = typeof inner === 'string' ? ` (${clean(inner)})` : '';
    return new ClientError(
      'NODE_UNREACHABLE',
      `No node answers at ${this.origin}${detail}.`,
      'Start the node, or name another one with --rpc URL or EMRCHAIN_RPC.',
      { origin: this.origin },
      { cause },
    );
  }
}

/** Whether another moment may be enough for the same question. */
export function isWorthRepeating(error: unknown): boolean {
  if (!(error instanceof ClientError)) return false;
  if (error.code === 'NODE_UNREACHABLE' || error.code === 'NODE_TIMEOUT') return error.code === 'NODE_UNREACHABLE';
  return WORTH_REPEATING.has(Number(error.detail['rpcCode']));
}

/** The body as text, refused as soon as it is longer than any honest answer. */
export async function readBounded(response: Response, maxBytes = MAX_RESPONSE_BYTES): Promise<string> {
  if (response.body === null) return '';
  const decoder = new TextDecoder();
  let text = '';
  let bytes = 0;
  for await (const piece of response.body as unknown as AsyncIterable<Uint8Array>) {
    bytes += piece.length;
    if (bytes > maxBytes) {
      throw new ClientError(
        'RESPONSE_TOO_LARGE',
        `The node's answer is longer than ${maxBytes} bytes.`,
        'Use another node (--rpc URL), and tell the operator of this one.',
      );
    }
    text += decoder.decode(piece, { stream: true });
  }
  return text + decoder.decode();
}

const notOurs = (status: number): ClientError =>
  new ClientError(
    'RESPONSE_INVALID',
    `What answers there is no emrchain node: HTTP status ${status}, and no JSON-RPC answer to our call.`,
    'Check the address: --rpc URL.',
    { status },
  );

/** The result in a response to call `id`. Throws what the node's error says. */
export function readAnswer(text: string, status: number, id: number): unknown {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    throw notOurs(status);
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body)) throw notOurs(status);
  const { jsonrpc, id: answered, result, error } = body as Readonly<Record<string, unknown>>;
  if (jsonrpc !== '2.0') throw notOurs(status);
  if (error !== undefined) throw nodeError(error, status);
  if (answered !== id || result === undefined) throw notOurs(status);
  return result;
}

const REASON = /^[A-Z][A-Z0-9_]{0,63}$/;

/** Untrusted `error` member as an error of ours. */
export function nodeError(error: unknown, status: number): ClientError {
  const { code, message, data } = (typeof error === 'object' && error !== null ? error : {}) as Record<string, unknown>;
  const { reason, requestId } = (typeof data === 'object' && data !== null ? data : {}) as Record<string, unknown>;
  const name = typeof reason === 'string' && REASON.test(reason) ? reason : 'NODE_ERROR';
  const said = typeof message === 'string' ? sentence(clean(message)) : `HTTP status ${status}.`;
  const rpcCode = typeof code === 'number' && Number.isSafeInteger(code) ? code : 0;
  return new ClientError(
    name,
    said,
    remedyOf(name, FAMILY[rpcCode] ?? 'The node refused the call; its operator has the log.'),
    {
      rpcCode,
      requestId: typeof requestId === 'string' ? clean(requestId).slice(0, 64) : '',
    },
  );
}

/** Remedies by the family of the error, where the reason has none of its own. */
const FAMILY: Readonly<Record<number, string>> = {
  [-32603]: "The node failed: its operator finds the cause in the node's log. Try another node (--rpc URL).",
  [-32000]: 'The node is not ready: emrchain node status says why; then try again.',
  [-32001]: 'Check the id: the listings show what is in your scope.',
  [-32003]: 'The chain refused the transaction for this reason; nothing was changed.',
  [-32005]: 'It may still be committed: emrchain chain tx HASH says so.',
  [-32007]: 'Ask with an account that may see this: --as KEYNAME.',
};

function sentence(text: string): string {
  if (text === '') return 'The node gave no reason.';
  // The name of a method stays as it is.
  const upper = /^\S*_/.test(text) ? text : `${text[0]?.toUpperCase() ?? ''}${text.slice(1)}`;
  return /[.!?…]$/.test(upper) ? upper : `${upper}.`;
}
