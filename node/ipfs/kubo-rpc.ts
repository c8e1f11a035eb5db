/**
 * Calls to a Kubo daemon's RPC API with a deadline, and its failures in our own codes. The daemon is the hospital's,
 * not ours: what it answers is checked by the callers, what it refuses is told to the operator.
 */

import type { KuboRPCClient } from 'kubo-rpc-client';
import { EmrError } from '../../common/errors.ts';
import { raceAbort } from '../../common/native/race-abort.ts';

export interface KuboAddress {
  /** Base URL of the RPC API, such as `http://127.0.0.1:5001`. Never reachable from outside the hospital's machines. */
  readonly url: string;
  /** Value of the Authorization header, where the daemon's `API.Authorizations` asks for one. */
  readonly authorization?: string;
  /** How long one call may take, in ms. Default 30,000: a block of 1 MiB on a busy disk. */
  readonly timeoutMs?: number;
}

const DEFAULT_TIMEOUT_MS = 30_000;

/** Options that Kubo takes and the client passes on, but does not declare. */
export interface KuboCall {
  readonly signal: AbortSignal;
  /** Never ask the daemon's own peers: blocks move between hospitals over this node's network only. */
  readonly offline: true;
}

export class KuboRpc {
  readonly #client: KuboRPCClient;
  readonly #timeoutMs: number;
  /** Host and port, for messages: the URL itself might carry a password. */
  readonly host: string;

  private constructor(client: KuboRPCClient, address: KuboAddress) {
    this.#client = client;
    this.#timeoutMs = address.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    this.host = new URL(address.url).host;
  }

  /** Makes the client; nothing is sent yet. */
  static async to(address: KuboAddress): Promise<KuboRpc> {
    // Loaded here alone: it costs 50 MB and 0.3 s, which nodes without Kubo need not pay.
    const { create } = await import('kubo-rpc-client');
    const headers = address.authorization === undefined ? {} : { authorization: address.authorization };
    return new KuboRpc(create({ url: address.url, headers }), address);
  }

  /**
   * Runs one call.
   * @param timeoutMs for calls that may take longer than most
   * @throws EmrError IPFS_UNAVAILABLE (no answer: worth trying again), IPFS_FAILED (it said no); the signal's reason
   */
  async call<T>(
    work: (client: KuboRPCClient, call: KuboCall) => Promise<T>,
    outer?: AbortSignal,
    timeoutMs = this.#timeoutMs,
  ): Promise<T> {
    outer?.throwIfAborted();
    // A timer that is cleared: AbortSignal.timeout would keep each call, and the block it sent, until it fires.
    const deadline = new AbortController();
    const timer = setTimeout(() => deadline.abort(), timeoutMs);
    const signal = outer === undefined ? deadline.signal : AbortSignal.any([outer, deadline.signal]);
    try {
      return await raceAbort(work(this.#client, { signal, offline: true }), signal);
    } catch (error) {
      outer?.throwIfAborted();
      if (deadline.signal.aborted) throw this.#unavailable(`no answer within ${timeoutMs} ms`, error);
      throw this.#translate(error);
    } finally {
      clearTimeout(timer);
    }
  }

  #unavailable(reason: string, cause: unknown): EmrError {
    return new EmrError(
      'IPFS_UNAVAILABLE',
      `The Kubo daemon at ${this.host} is not available (${reason}): start it, or correct its address.`,
      { host: this.host, reason },
      { cause },
    );
  }

  #translate(error: unknown): EmrError {
    if (error instanceof EmrError) return error;
    const status = httpStatus(error);
    if (status === undefined) return this.#unavailable(networkReason(error), error);
    if (status === 401 || status === 403) {
      return this.#unavailable(`it refuses our authorization, HTTP ${status}`, error);
    }
    const reason = error instanceof Error ? error.message.slice(0, 300) : 'unknown';
    return new EmrError(
      'IPFS_FAILED',
      `The Kubo daemon at ${this.host} could not do it: ${reason}`,
      { host: this.host, status, reason },
      { cause: error },
    );
  }
}

/** The HTTP status of an answer that the daemon gave, or undefined when there was no answer. */
function httpStatus(error: unknown): number | undefined {
  if (!(error instanceof Error) || !('response' in error)) return undefined;
  const { response } = error;
  return response instanceof Response ? response.status : undefined;
}

function networkReason(error: unknown): string {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  if (cause instanceof Error && 'code' in cause) return String(cause.code);
  return cause instanceof Error ? cause.message.slice(0, 300) : 'unknown';
}

/** The daemon does not have the block. Its API has no code for that, only these words, with status 500. */
export function saysNotFound(error: unknown): boolean {
  return (
    error instanceof EmrError &&
    error.code === 'IPFS_FAILED' &&
    /not found locally|could not find/.test(String(error.detail['reason']))
  );
}
