/**
 * JSON-RPC 2.0 over any transport: reads requests strictly, checks parameters against the table's schemas, runs handlers,
 * and turns whatever they throw into the table's errors.
 */
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';
import { EmrError, InvariantError } from '../common/errors.ts';
import type { ErrorBody, RpcErrorName } from './errors.ts';
import { errorBody, RpcError } from './errors.ts';
import { isMethodName, type MethodDefinition, type MethodName, METHODS } from './methods.ts';
import type { RpcLimits } from './config.ts';
import type { MetricsPort, LogPort } from './ports.ts';
import { object } from './schema.ts';
import type { Call, Handlers } from './service.ts';

type Id = string | number;

export type Response =
  | { readonly jsonrpc: '2.0'; readonly id: Id; readonly result: unknown }
  | { readonly jsonrpc: '2.0'; readonly id: Id | null; readonly error: ErrorBody };

interface Request {
  /** Undefined: a notification, which is not answered. */
  readonly id: Id | undefined;
  readonly method: string;
  readonly params: unknown;
}

/** Longest id that is echoed. */
const MAX_ID_CHARACTERS = 128;

export interface Dispatcher {
  readonly handlers: Handlers;
  readonly disabled: ReadonlySet<MethodName>;
  readonly limits: RpcLimits;
  readonly metrics: MetricsPort;
  readonly log: LogPort;
  nowMs(): number;
}

/** Bounds what one caller does; throws RpcError RATE_LIMITED. Asked once for each call. */
export type Admission = () => void;

export class JsonRpc {
  readonly #dispatcher: Dispatcher;
  /** Schemas are the program's own (a test holds them to their meta-schema): checking them costs a fifth of a start. */
  readonly #ajv = new Ajv({
    allErrors: false,
    coerceTypes: false,
    useDefaults: false,
    strict: true,
    meta: false,
    validateSchema: false,
  });
  /** Compiled when a method is called first. */
  readonly #validators = new Map<MethodName, ValidateFunction>();

  constructor(dispatcher: Dispatcher) {
    this.#dispatcher = dispatcher;
  }

  /**
   * Answers one parsed body: a request, or a batch of them.
   * @returns undefined when there is nothing to answer, since all were notifications
   */
  async handle(body: unknown, call: Call, admit: Admission): Promise<Response | readonly Response[] | undefined> {
    if (!Array.isArray(body)) return this.#single(body, call, admit);
    const { maxBatch } = this.#dispatcher.limits;
    if (body.length === 0) return failure(null, 'INVALID_REQUEST', 'The batch is empty.', 'EMPTY_BATCH', call);
    if (body.length > maxBatch) {
      return failure(null, 'INVALID_REQUEST', `A batch has at most ${maxBatch} requests.`, 'BATCH_TOO_LARGE', call);
    }
    return this.#batch(body, call, admit);
  }

  /** Some at a time; once the answers are as large as they may get, the rest is not run. */
  async #batch(requests: readonly unknown[], call: Call, admit: Admission): Promise<readonly Response[] | undefined> {
    const { maxConcurrentCalls, maxBatchResponseBytes } = this.#dispatcher.limits;
    const responses: Response[] = [];
    let bytes = 0;
    for (let first = 0; first < requests.length; first += maxConcurrentCalls) {
      const some = requests.slice(first, first + maxConcurrentCalls);
      if (bytes > maxBatchResponseBytes) {
        responses.push(...some.map((request) => tooMuch(request, call)));
        continue;
      }
      for (const answer of await Promise.all(some.map((request) => this.#single(request, call, admit)))) {
        if (answer === undefined) continue;
        responses.push(answer);
        bytes += JSON.stringify(answer).length;
      }
    }
    return responses.length === 0 ? undefined : responses;
  }

  async #single(body: unknown, call: Call, admit: Admission): Promise<Response | undefined> {
    const request = readRequest(body);
    if (request === undefined) {
      return failure(
        idOf(body),
        'INVALID_REQUEST',
        'Not a JSON-RPC 2.0 request with a text or integer id.',
        'INVALID_REQUEST',
        call,
      );
    }
    const startMs = this.#dispatcher.nowMs();
    const outcome = await this.#run(request, call, admit);
    const failed = 'error' in outcome;
    this.#dispatcher.metrics.rpcCall({
      method: isMethodName(request.method) ? request.method : 'unknown',
      status: failed ? 'error' : 'ok',
      code: failed ? outcome.error.code : 0,
      durationMs: this.#dispatcher.nowMs() - startMs,
    });
    return request.id === undefined ? undefined : { jsonrpc: '2.0', id: request.id, ...outcome };
  }

  async #run(
    { method, params }: Request,
    call: Call,
    admit: Admission,
  ): Promise<{ result: unknown } | { error: ErrorBody }> {
    try {
      admit();
      if (!isMethodName(method)) throw new RpcError('METHOD_NOT_FOUND', `There is no method ${method.slice(0, 64)}.`);
      this.#permit(method, call);
      const checked = this.#check(method, params);
      // The table ties each name to its handler and parameters; the compiler cannot follow that through a union.
      const handler = this.#dispatcher.handlers[method] as (params: unknown, call: Call) => unknown;
      return { result: await handler(checked, call) };
    } catch (error) {
      return { error: this.describe(error, method, call.requestId) };
    }
  }

  #permit(method: MethodName, call: Call): void {
    const { access, transport }: MethodDefinition = METHODS[method];
    if (this.#dispatcher.disabled.has(method)) {
      throw new RpcError(
        'METHOD_DISABLED',
        `The operator of this node has turned ${method} off.`,
        'DISABLED_BY_OPERATOR',
      );
    }
    if (transport === 'websocket' && call.socket === null) {
      throw new RpcError('METHOD_DISABLED', `${method} needs a WebSocket: connect to /ws.`, 'WEBSOCKET_ONLY');
    }
    if (access === 'member' && !call.caller.reads) {
      throw new RpcError('FORBIDDEN', `${method} needs the token of an enrolled account.`, 'TOKEN_REQUIRED');
    }
    if (access === 'account' && call.caller.account === null) {
      throw new RpcError('FORBIDDEN', `${method} needs the token of the account that it is for.`, 'TOKEN_REQUIRED');
    }
  }

  #check(method: MethodName, params: unknown): object {
    const names = Object.keys(METHODS[method].params);
    const named: object = Array.isArray(params) ? namedParams(names, params) : (params ?? {});
    const validate = this.#validatorOf(method);
    if (!validate(named)) throw new RpcError('INVALID_PARAMS', explain(validate.errors?.[0]));
    return named;
  }

  #validatorOf(method: MethodName): ValidateFunction {
    let validate = this.#validators.get(method);
    if (validate === undefined) {
      const { params }: MethodDefinition = METHODS[method];
      validate = this.#ajv.compile(object(params).json);
      this.#validators.set(method, validate);
    }
    return validate;
  }

  /** Whatever was thrown, as an error of the table. A broken invariant also stops the process. */
  describe(error: unknown, method: string, requestId: string): ErrorBody {
    if (error instanceof RpcError) return errorBody(error.rpc, error.message, error.code, requestId);
    this.#dispatcher.log.error(
      { err: error, method: isMethodName(method) ? method : 'unknown', requestId },
      'call failed',
    );
    if (error instanceof InvariantError) {
      setImmediate(() => {
        throw error;
      });
    }
    if (error instanceof EmrError) {
      const name: RpcErrorName = UNAVAILABLE.has(error.code) ? 'NOT_READY' : 'INTERNAL';
      return errorBody(name, name === 'NOT_READY' ? error.message : INTERNAL_MESSAGE, error.code, requestId);
    }
    return errorBody('INTERNAL', INTERNAL_MESSAGE, 'INTERNAL', requestId);
  }
}

/** The cause may hold paths or states: it is in the log only. */
const INTERNAL_MESSAGE = 'The node failed to answer; its log has the cause under the request id.';

/** Codes of failed operations that another moment can mend. */
const UNAVAILABLE: ReadonlySet<string> = new Set([
  'NOT_READY',
  'STOPPING',
  'PEER_UNAVAILABLE',
  'PEER_TIMEOUT',
  'BLOB_BUSY',
  'BLOB_UNAVAILABLE',
  'IPFS_BUSY',
  'CUSTODIAN_UNAVAILABLE',
]);

function failure(id: Id | null, name: RpcErrorName, message: string, reason: string, call: Call): Response {
  return { jsonrpc: '2.0', id, error: errorBody(name, message, reason, call.requestId) };
}

function tooMuch(request: unknown, call: Call): Response {
  const message = 'The answers to this batch are too large; ask in smaller ones.';
  return failure(idOf(request), 'RATE_LIMITED', message, 'BATCH_RESPONSE_TOO_LARGE', call);
}

/** A response that is not to any request. */
export const orphanFailure = (name: RpcErrorName, message: string, reason: string, requestId: string): Response => ({
  jsonrpc: '2.0',
  id: null,
  error: errorBody(name, message, reason, requestId),
});

function isId(value: unknown): value is Id {
  return typeof value === 'string' ? value.length <= MAX_ID_CHARACTERS : Number.isSafeInteger(value);
}

function idOf(body: unknown): Id | null {
  const id = isPlainObject(body) ? body['id'] : null;
  return isId(id) ? id : null;
}

function isPlainObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Section 4 of the specification; ids are text or safe integers (null and fractions are not worth their ambiguity). */
function readRequest(body: unknown): Request | undefined {
  if (!isPlainObject(body) || body['jsonrpc'] !== '2.0') return undefined;
  const { id, method, params } = body;
  if (typeof method !== 'string') return undefined;
  if (Object.hasOwn(body, 'id') && !isId(id)) return undefined;
  if (params !== undefined && !Array.isArray(params) && !isPlainObject(params)) return undefined;
  return { id: isId(id) ? id : undefined, method, params };
}

/** In the order of the table. `null` stands for an optional parameter that is left out. */
function namedParams(names: readonly string[], values: readonly unknown[]): object {
  if (values.length > names.length) {
    throw new RpcError('INVALID_PARAMS', `At most ${names.length} parameters: ${names.join(', ') || 'none'}.`);
  }
  const given = values.map((value, index): [string, unknown] => [names[index] ?? '', value]);
  return Object.fromEntries(given.filter(([, value]) => value !== null));
}

function explain(error: ErrorObject | undefined): string {
  if (error === undefined) return 'The parameters do not fit.';
  const at = error.instancePath === '' ? 'params' : `params${error.instancePath.replaceAll('/', '.')}`;
  const name =
    error.keyword === 'additionalProperties' ? ` (${String(error.params['additionalProperty']).slice(0, 64)})` : '';
  return `${at} ${error.message ?? 'does not fit'}${name}.`;
}
