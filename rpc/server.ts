/**
 * The server: one fastify instance for calls, sockets, ciphertext, health and the explorer. Transport only: limits, origins,
 * tokens in headers, errors in the form of JSON-RPC. What is answered is decided in handlers/.
 */
import websocket from '@fastify/websocket';
import fastify, { type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Socket } from 'node:net';
import { bytesToHex } from '../common/bytes.ts';
import { RPC_TOKEN_SCHEME } from '../common/protocol/rpc-token.ts';
import { Authenticator, type Caller, type Session } from './auth.ts';
import { blobRoutes } from './blobs.ts';
import { Blocks } from './blocks.ts';
import { CommitWaiters } from './commit-waiters.ts';
import type { RpcConfig } from './config.ts';
import { Cursors } from './cursors.ts';
import { RPC_ERRORS, RpcError, type RpcErrorName } from './errors.ts';
import { explorerRoutes } from './explorer/routes.ts';
import { Facts } from './facts.ts';
import { allHandlers } from './handlers/index.ts';
import { healthRoutes } from './health.ts';
import { JsonRpc, orphanFailure } from './json-rpc.ts';
import { parseJson } from './json-text.ts';
import { openRpcDocument } from './openrpc.ts';
import { type Dialled, OriginGuard } from './origin-guard.ts';
import type { RpcPorts } from './ports.ts';
import { RateLimiter } from './rate-limiter.ts';
import { Scope } from './scope.ts';
import type { Service } from './service.ts';
import { SocketConnection } from './socket.ts';
import { StateReads } from './state-reads.ts';

export interface RpcServer {
  /** Listens. @throws what listening throws, such as EADDRINUSE */
  start(): Promise<void>;
  /** Ends subscriptions, sockets and waiting calls, and closes. */
  stop(): Promise<void>;
  /** `http://127.0.0.1:8545` once it listens. */
  readonly address: string;
  /** For tests without sockets (`inject`). */
  readonly app: FastifyInstance;
}

declare module 'fastify' {
  interface FastifyRequest {
    dialled: Dialled | null;
  }
}

const RATE_LIMITED_ROUTES = /^\/(?:rpc|ws|blob|explorer|metrics|openrpc\.json)/;

export function createRpcServer(config: RpcConfig, ports: RpcPorts): RpcServer {
  const { limits } = config;
  const reads = new StateReads(ports.state);
  const disabled = new Set(config.disabledMethods);
  const waiters = new CommitWaiters(ports.chain, ports.transactions, limits.maxCommitWaiters);
  const service: Service = {
    config,
    ports,
    reads,
    facts: new Facts(reads),
    blocks: new Blocks(ports.chain),
    cursors: new Cursors(),
    waiters,
    authenticator: new Authenticator(ports, reads, config.openReads),
    openRpc: openRpcDocument(disabled),
  };
  const nowMs = (): number => performance.now();
  const rpc = new JsonRpc({
    handlers: allHandlers(service),
    disabled,
    limits,
    metrics: ports.metrics,
    log: ports.log,
    nowMs,
  });
  const limiter = new RateLimiter(limits.requestsPerMinute, nowMs);
  const guard = new OriginGuard({ ...config, tls: config.tls !== null });
  const app = createApp(config);
  const sockets = new Sockets(service, rpc, limiter);

  guardRoutes(app, guard, limiter);
  formErrors(app, rpc);
  const bearer = new BearerTokens(service.authenticator);
  healthRoutes(app, service);
  explorerRoutes(app);
  void app.register((scoped, _options, done) => {
    blobRoutes(scoped, service, (request) => bearer.require(request));
    done();
  });
  void app.register((scoped, _options, done) => {
    callRoute(scoped, { service, rpc, limiter, bearer });
    done();
  });
  void app.register(websocket, {
    options: { maxPayload: limits.maxBodyBytes, perMessageDeflate: false },
    // The default waits for every socket to say goodbye.
    preClose: (done: () => void) => {
      sockets.stop();
      done();
    },
  });
  void app.register((scoped, _options, done) => {
    sockets.route(scoped, bearer);
    done();
  });

  let address = '';
  return {
    app,
    get address() {
      return address;
    },
    async start() {
      sockets.start();
      app.server.maxConnections = limits.maxConnections;
      address = await app.listen({ host: config.host, port: config.port });
      ports.log.info({ address, openReads: config.openReads }, 'rpc listens');
    },
    async stop() {
      waiters.stop();
      sockets.stop();
      await app.close();
    },
  };
}

function createApp({ limits, tls }: RpcConfig): FastifyInstance {
  const options = {
    logger: false,
    bodyLimit: limits.maxBodyBytes,
    connectionTimeout: limits.idleTimeoutMs,
    keepAliveTimeout: limits.idleTimeoutMs,
    // An upload may take as long as it moves: bodies of calls and idle sockets have limits of their own.
    requestTimeout: 0,
    exposeHeadRoutes: false,
    forceCloseConnections: true,
    genReqId: () => bytesToHex(crypto.getRandomValues(new Uint8Array(6))),
    clientErrorHandler: answerMalformedHttp,
    // Addresses that the router cannot read: no hook has seen them, and none needs to.
    frameworkErrors: (_error: FastifyError, request: FastifyRequest, reply: FastifyReply) => {
      void reply.code(404).type('application/json').send(noSuchRoute(request.id));
    },
    routerOptions: { maxParamLength: 128 },
  } as const;
  // With TLS the instance has another type of server; nothing here depends on which.
  return tls === null ? fastify(options) : fastify({ ...options, https: tls });
}

/** What is no HTTP never reaches a route. */
function answerMalformedHttp(_error: Error, socket: Socket): void {
  if (!socket.writable) return void socket.destroy();
  const body = JSON.stringify(orphanFailure('INVALID_REQUEST', 'Not an HTTP request.', 'NOT_HTTP', 'none'));
  const length = Buffer.byteLength(body);
  socket.end(
    `HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: ${length}\r\n\r\n${body}`,
  );
}

/** Before anything else of a request is looked at: host, origin, rate; and the headers that every answer has. */
function guardRoutes(app: FastifyInstance, guard: OriginGuard, limiter: RateLimiter): void {
  app.decorateRequest('dialled', null);
  app.addHook('onRequest', async (request, reply) => {
    reply.headers({
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
      'referrer-policy': 'no-referrer',
      'cross-origin-resource-policy': 'same-origin',
      'cache-control': 'no-store',
    });
    // The HTTP server has let go of a connection that asked for an upgrade: one that is answered instead must be ended here.
    if (request.headers.upgrade !== undefined) {
      reply.header('connection', 'close');
      reply.raw.once('finish', () => request.raw.socket.destroySoon());
    }
    const dialled = guard.check(request.headers.host, request.headers.origin);
    if (!dialled.ok) throw RpcError.of('FORBIDDEN', dialled);
    request.dialled = dialled.value;
    if (dialled.value.allowOrigin !== null) allowOrigin(reply, dialled.value.allowOrigin);
    if (RATE_LIMITED_ROUTES.test(request.url)) limiter.take(`address ${request.ip}`);
  });
  app.options('*', (_request, reply) => reply.code(204).send());
}

function allowOrigin(reply: FastifyReply, origin: string): void {
  reply.headers({
    'access-control-allow-origin': origin,
    'access-control-allow-methods': 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS',
    'access-control-allow-headers': 'authorization, content-type, if-range, range, upload-length, upload-offset',
    'access-control-expose-headers':
      'accept-ranges, content-length, content-range, etag, location, upload-length, upload-offset',
    'access-control-max-age': '600',
    'cross-origin-resource-policy': 'cross-origin',
    vary: 'Origin',
  });
}

/** fastify's own error codes -> ours. What is not here is our own failure. */
const TRANSPORT_ERRORS: Readonly<
  Record<string, readonly [rpc: RpcErrorName, reason: string, status: number, message: string]>
> = {
  FST_ERR_CTP_BODY_TOO_LARGE: ['INVALID_REQUEST', 'BODY_TOO_LARGE', 413, 'The body is larger than this node takes.'],
  FST_ERR_CTP_INVALID_MEDIA_TYPE: ['INVALID_REQUEST', 'WRONG_CONTENT_TYPE', 415, 'Calls are application/json.'],
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: [
    'INVALID_REQUEST',
    'WRONG_CONTENT_LENGTH',
    400,
    'The body is not as long as it says.',
  ],
  FST_ERR_CTP_EMPTY_JSON_BODY: ['PARSE_ERROR', 'NOT_JSON', 400, 'The body is empty.'],
};

function formErrors(app: FastifyInstance, rpc: JsonRpc): void {
  app.setErrorHandler((error: FastifyError | RpcError, request, reply) => {
    const transport = error instanceof RpcError ? undefined : TRANSPORT_ERRORS[error.code];
    if (transport !== undefined) {
      const [name, reason, status, message] = transport;
      return reply
        .code(status)
        .type('application/json')
        .send(orphanFailure(name, message, reason, request.id));
    }
    const described = rpc.describe(error, 'http', request.id);
    const status = error.code === 'RANGE_NOT_SATISFIABLE' ? 416 : statusOf(described.code);
    return reply.code(status).type('application/json').send({ jsonrpc: '2.0', id: null, error: described });
  });
  app.setNotFoundHandler((request, reply) => reply.code(404).send(noSuchRoute(request.id)));
}

const noSuchRoute = (requestId: string): object =>
  orphanFailure('NOT_FOUND', 'There is nothing at this address.', 'NO_SUCH_ROUTE', requestId);

const STATUS_BY_CODE = new Map<number, number>(
  Object.values(RPC_ERRORS).map(({ code, httpStatus }) => [code, httpStatus]),
);
const statusOf = (code: number): number => STATUS_BY_CODE.get(code) ?? 500;

/** Readers' tokens in the Authorization header. */
class BearerTokens {
  readonly #authenticator: Authenticator;

  constructor(authenticator: Authenticator) {
    this.#authenticator = authenticator;
  }

  /** Null without a header. @throws RpcError FORBIDDEN */
  session(request: FastifyRequest): Session | null {
    const { authorization } = request.headers;
    if (authorization === undefined) return null;
    const [scheme, token, ...rest] = authorization.split(' ');
    if (scheme !== RPC_TOKEN_SCHEME || token === undefined || rest.length > 0) {
      throw new RpcError('FORBIDDEN', `Authorization must be "${RPC_TOKEN_SCHEME} <token>".`, 'TOKEN_MALFORMED');
    }
    const verdict = this.#authenticator.session(token, request.dialled?.origins ?? []);
    if (!verdict.ok) throw RpcError.of('FORBIDDEN', verdict);
    return verdict.value;
  }

  /** @throws RpcError FORBIDDEN for a token that does not hold; without one the caller is anonymous */
  async require(request: FastifyRequest): Promise<Caller> {
    const session = this.session(request);
    if (session === null) return this.#authenticator.anonymous();
    const verdict = await this.#authenticator.caller(session);
    if (!verdict.ok) throw RpcError.of('FORBIDDEN', verdict);
    return verdict.value;
  }
}

interface CallRoute {
  readonly service: Service;
  readonly rpc: JsonRpc;
  readonly limiter: RateLimiter;
  readonly bearer: BearerTokens;
}

function callRoute(app: FastifyInstance, { service, rpc, limiter, bearer }: CallRoute): void {
  const { limits } = service.config;
  app.removeAllContentTypeParsers();
  // As text: depth is checked before it is parsed. Another content type is refused, which also keeps out the cross-site
  // posts that browsers make without asking first.
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (_request, body, done) => done(null, body));
  app.post('/rpc', {
    onRequest: (request, reply, done) => {
      const timer = setTimeout(() => request.raw.destroy(), limits.bodyTimeoutMs);
      request.raw.once('end', () => clearTimeout(timer));
      reply.raw.once('close', () => clearTimeout(timer));
      done();
    },
    handler: answer,
  });

  async function answer(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const body = parseJson(request.body as string, limits.maxJsonDepth);
    if (!body.ok) throw RpcError.of('PARSE_ERROR', body);
    const { caller, refusal } = await admitted(request);
    const gone = new AbortController();
    reply.raw.once('close', () => gone.abort());
    const scope = new Scope(caller, service.facts, service.reads);
    // The request itself was counted when it came; a batch is as many calls as it holds.
    let counted = true;
    const admit = (): void => {
      if (!counted) limiter.take(`address ${request.ip}`);
      counted = false;
      if (refusal !== null) throw refusal;
      if (caller.account !== null) limiter.take(`account ${bytesToHex(caller.account.id)}`);
    };
    const call = { requestId: request.id, caller, scope, signal: gone.signal, socket: null };
    const response = await rpc.handle(body.value, call, admit);
    if (response === undefined) return reply.code(204).send();
    return reply.type('application/json').send(JSON.stringify(response));
  }

  /** A token that does not hold fails every call of the request, each under its own id. */
  async function admitted(request: FastifyRequest): Promise<{ caller: Caller; refusal: RpcError | null }> {
    try {
      return { caller: await bearer.require(request), refusal: null };
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      return { caller: service.authenticator.anonymous(), refusal: error };
    }
  }
}

/** All WebSockets: how many there may be, what wakes them, and that they are alive. */
class Sockets {
  readonly #service: Service;
  readonly #rpc: JsonRpc;
  readonly #limiter: RateLimiter;
  readonly #open = new Set<SocketConnection>();
  #stops: (() => void)[] = [];

  constructor(service: Service, rpc: JsonRpc, limiter: RateLimiter) {
    this.#service = service;
    this.#rpc = rpc;
    this.#limiter = limiter;
    const { chain, transactions } = service.ports;
    const wake = (): void => {
      for (const socket of this.#open) socket.wake();
    };
    this.#stops = [chain.onCommitted(wake), transactions.onDropped(wake)];
  }

  start(): void {
    const pings = setInterval(() => {
      for (const socket of this.#open) socket.ping();
    }, this.#service.config.limits.pingIntervalMs);
    pings.unref();
    this.#stops.push(() => clearInterval(pings));
  }

  stop(): void {
    for (const stop of this.#stops) stop();
    this.#stops = [];
    for (const socket of this.#open) socket.stop();
  }

  route(app: FastifyInstance, bearer: BearerTokens): void {
    const { limits } = this.#service.config;
    app.route({
      method: 'GET',
      url: '/ws',
      preHandler: async (request) => {
        const ofAddress = [...this.#open].filter(({ address }) => address === request.ip).length;
        if (this.#open.size >= limits.maxSockets || ofAddress >= limits.maxSocketsPerAddress) {
          throw new RpcError('RATE_LIMITED', 'This node has as many sockets open as it serves.', 'TOO_MANY_SOCKETS');
        }
        await bearer.require(request);
      },
      handler: (request) => {
        throw new RpcError(
          'INVALID_REQUEST',
          'This address is for WebSockets.',
          request.ws ? 'WEBSOCKET' : 'WEBSOCKET_ONLY',
        );
      },
      wsHandler: (socket, request) => {
        const connection = new SocketConnection(this.#service, this.#rpc, this.#limiter, socket, {
          id: request.id,
          address: request.ip,
          origins: request.dialled?.origins ?? [],
          session: bearer.session(request),
        });
        this.#open.add(connection);
        this.#service.ports.metrics.rpcConnections(this.#open.size);
        socket.on('close', () => {
          this.#open.delete(connection);
          this.#service.ports.metrics.rpcConnections(this.#open.size);
        });
      },
    });
  }
}
