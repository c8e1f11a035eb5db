/**
 * One WebSocket: calls in, answers and subscriptions out, each bounded. A socket that does not take what it asked for is
 * dropped; one that asks faster than it is answered is not read from.
 */
import type { WebSocket } from 'ws';
import { bytesToHex } from '../common/bytes.ts';
import type { Caller, Session } from './auth.ts';
import { RPC_ERRORS, RpcError } from './errors.ts';
import { toHex } from './json.ts';
import { parseJson } from './json-text.ts';
import { type JsonRpc, orphanFailure } from './json-rpc.ts';
import type { ParamsOf, ResultOf, SubscriptionNotification } from './methods.ts';
import type { RateLimiter } from './rate-limiter.ts';
import { Scope } from './scope.ts';
import type { Service, SocketSession } from './service.ts';
import { openSubscription, type Outlet, type Subscription } from './subscriptions.ts';

/** WebSocket close codes: "try again later", and what was sent cannot be read. */
const CLOSE_SLOW = 1013;
const CLOSE_UNREADABLE = 1003;
/** A socket that does not finish closing is cut. */
const CLOSE_GRACE_MS = 2_000;

export interface SocketOptions {
  readonly id: string;
  readonly address: string;
  /** Origins under which the connection may have been dialled. */
  readonly origins: readonly string[];
  /** From the Authorization header; null without one. */
  readonly session: Session | null;
}

export class SocketConnection implements Outlet {
  readonly #service: Service;
  readonly #rpc: JsonRpc;
  readonly #limiter: RateLimiter;
  readonly #socket: WebSocket;
  readonly #options: SocketOptions;
  readonly #abort = new AbortController();
  readonly #subscriptions = new Map<string, Subscription>();
  #session: Session | null;
  #running = 0;
  #messages = 0;
  #alive = true;
  #dropped = false;

  constructor(service: Service, rpc: JsonRpc, limiter: RateLimiter, socket: WebSocket, options: SocketOptions) {
    this.#service = service;
    this.#rpc = rpc;
    this.#limiter = limiter;
    this.#socket = socket;
    this.#options = options;
    this.#session = options.session;
    socket.on('message', (data: Buffer, isBinary: boolean) => this.#receive(data, isBinary));
    socket.on('pong', () => {
      this.#alive = true;
    });
    socket.on('close', () => this.#close());
    // 'close' follows; without a listener the error would end the process.
    socket.on('error', () => {});
  }

  get address(): string {
    return this.#options.address;
  }

  /** A block was committed, or a transaction dropped. */
  wake(): void {
    for (const subscription of this.#subscriptions.values()) subscription.wake();
  }

  /** Once every ping interval: whoever has not answered the last one is gone. */
  ping(): void {
    if (!this.#alive && !this.#socket.isPaused) return this.#socket.terminate();
    this.#alive = false;
    this.#socket.ping();
  }

  /** The server stops. */
  stop(): void {
    this.#socket.close(1001, 'STOPPING');
    setTimeout(() => this.#socket.terminate(), CLOSE_GRACE_MS).unref();
  }

  #close(): void {
    this.#abort.abort();
    for (const subscription of this.#subscriptions.values()) subscription.end();
    this.#subscriptions.clear();
  }

  #receive(data: Buffer, isBinary: boolean): void {
    if (isBinary) return this.#socket.close(CLOSE_UNREADABLE, 'TEXT_ONLY');
    const { maxConcurrentCalls } = this.#service.config.limits;
    this.#running += 1;
    if (this.#running >= maxConcurrentCalls) this.#socket.pause();
    this.#answer(data.toString('utf8'))
      .catch((error: unknown) => {
        this.#service.ports.log.error({ err: error }, 'socket call failed');
        this.#socket.terminate();
      })
      .finally(() => {
        this.#running -= 1;
        if (this.#running < maxConcurrentCalls && this.#socket.isPaused) this.#socket.resume();
      });
  }

  async #answer(text: string): Promise<void> {
    this.#messages += 1;
    const requestId = `${this.#options.id}-${this.#messages}`;
    const body = parseJson(text, this.#service.config.limits.maxJsonDepth);
    if (!body.ok) {
      await this.#write(orphanFailure('PARSE_ERROR', body.message, body.code, requestId));
      return;
    }
    const { caller, refusal } = await this.#caller();
    const scope = new Scope(caller, this.#service.facts, this.#service.reads);
    const started: Subscription[] = [];
    const socket = this.#sessionOf(started);
    const call = { requestId, caller, scope, signal: this.#abort.signal, socket };
    const admit = (): void => {
      this.#limiter.take(`address ${this.#options.address}`);
      if (caller.account !== null) this.#limiter.take(`account ${bytesToHex(caller.account.id)}`);
    };
    const response = await this.#rpc.handle(body.value, call, admit);
    if (response !== undefined) await this.#write(response);
    // Only now: a caller does not know what to do with events of a subscription whose id it has not been told.
    for (const subscription of started) this.#start(subscription);
    // A token that has ended is forgotten with its first use: the connection goes on without one.
    if (refusal !== null) this.#session = null;
  }

  async #caller(): Promise<{ caller: Caller; refusal: RpcError | null }> {
    const { authenticator } = this.#service;
    if (this.#session === null) return { caller: authenticator.anonymous(), refusal: null };
    const verdict = await authenticator.caller(this.#session);
    if (verdict.ok) return { caller: verdict.value, refusal: null };
    return { caller: authenticator.anonymous(), refusal: RpcError.of('FORBIDDEN', verdict) };
  }

  async scope(): Promise<Scope> {
    const { caller, refusal } = await this.#caller();
    if (refusal !== null) throw refusal;
    return new Scope(caller, this.#service.facts, this.#service.reads);
  }

  /** What the calls of one message may do to this socket. `started` takes the subscriptions that they open. */
  #sessionOf(started: Subscription[]): SocketSession {
    return {
      authenticate: (params) => this.#authenticate(params),
      subscribe: (params) => this.#subscribe(params, started),
      unsubscribe: ({ subscription }) => {
        this.#subscriptions.get(subscription)?.end();
        return { ended: this.#subscriptions.delete(subscription) };
      },
    };
  }

  async #authenticate({ token }: ParamsOf<'sub_authenticate'>): Promise<ResultOf<'sub_authenticate'>> {
    const { authenticator } = this.#service;
    const session = authenticator.session(token, this.#options.origins);
    if (!session.ok) throw RpcError.of('FORBIDDEN', session);
    const caller = await authenticator.caller(session.value);
    if (!caller.ok) throw RpcError.of('FORBIDDEN', caller);
    const { account, notAfterMs } = caller.value;
    if (account === null || notAfterMs === null) {
      throw new RpcError('FORBIDDEN', 'The token names no account.', 'ACCOUNT_UNKNOWN');
    }
    this.#session = session.value;
    return { account: toHex(account.id), notAfterMs };
  }

  async #subscribe(params: ParamsOf<'sub_subscribe'>, started: Subscription[]): Promise<ResultOf<'sub_subscribe'>> {
    const { maxSubscriptionsPerSocket } = this.#service.config.limits;
    const scope = await this.scope();
    if (this.#subscriptions.size + started.length >= maxSubscriptionsPerSocket) {
      throw new RpcError(
        'RATE_LIMITED',
        `A socket has at most ${maxSubscriptionsPerSocket} subscriptions.`,
        'TOO_MANY_SUBSCRIPTIONS',
      );
    }
    const id = bytesToHex(crypto.getRandomValues(new Uint8Array(8)));
    started.push(openSubscription(this.#service, this, scope, id, params));
    return { subscription: id };
  }

  #start(subscription: Subscription): void {
    if (this.#abort.signal.aborted) return subscription.end();
    this.#subscriptions.set(subscription.id, subscription);
    subscription.wake();
  }

  remove(subscription: string): void {
    this.#subscriptions.delete(subscription);
  }

  send(notification: SubscriptionNotification): Promise<boolean> {
    return this.#write({ jsonrpc: '2.0', ...notification });
  }

  /** Resolves when the socket has taken it: true, or false where the socket is gone or was dropped. */
  #write(message: unknown): Promise<boolean> {
    if (this.#dropped || this.#socket.readyState !== this.#socket.OPEN) return Promise.resolve(false);
    const { maxSocketBufferBytes, slowConsumerMs } = this.#service.config.limits;
    if (this.#socket.bufferedAmount > maxSocketBufferBytes) {
      this.#drop();
      return Promise.resolve(false);
    }
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#drop(), slowConsumerMs);
      this.#socket.send(JSON.stringify(message), (error) => {
        clearTimeout(timer);
        resolve(error === undefined || error === null);
      });
    });
  }

  /** The reason goes out when the other side reads again, or not at all. */
  #drop(): void {
    if (this.#dropped) return;
    this.#dropped = true;
    const { ports, config } = this.#service;
    const { code } = RPC_ERRORS.SLOW_CONSUMER;
    for (const subscription of this.#subscriptions.keys()) {
      const params = { subscription, code, reason: 'SLOW_CONSUMER' };
      this.#socket.send(JSON.stringify({ jsonrpc: '2.0', method: 'sub_end', params }));
    }
    this.#socket.close(CLOSE_SLOW, 'SLOW_CONSUMER');
    // As long again as it had, to take what it asked for and why no more comes.
    setTimeout(() => this.#socket.terminate(), config.limits.slowConsumerMs).unref();
    ports.metrics.rpcCall({ method: 'sub_event', status: 'error', code, durationMs: config.limits.slowConsumerMs });
  }
}
