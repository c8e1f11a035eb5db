/**
 * The one table of errors that a caller can see, and the error that handlers throw to answer with one of them.
 * docs/rpc.md shows the same table; a test holds the two together.
 */
import { EmrError } from '../common/errors.ts';

interface ErrorRow {
  readonly code: number;
  /** Whether the same call may succeed later without a change. */
  readonly retryable: boolean;
  /** Status where the error answers something else than a JSON-RPC call: health, blobs, explorer, a refused body. */
  readonly httpStatus: number;
  readonly meaning: string;
}

export const RPC_ERRORS = {
  PARSE_ERROR: {
    code: -32700,
    retryable: false,
    httpStatus: 400,
    meaning: 'The body is not JSON, or nested too deeply.',
  },
  INVALID_REQUEST: {
    code: -32600,
    retryable: false,
    httpStatus: 400,
    meaning: 'Not a JSON-RPC 2.0 request, or one that breaks a limit of its transport.',
  },
  METHOD_NOT_FOUND: { code: -32601, retryable: false, httpStatus: 404, meaning: 'There is no such method.' },
  INVALID_PARAMS: {
    code: -32602,
    retryable: false,
    httpStatus: 400,
    meaning: 'The parameters do not fit the schema of the method.',
  },
  INTERNAL: {
    code: -32603,
    retryable: true,
    httpStatus: 500,
    meaning: 'The node failed; its log has the cause under the request id.',
  },
  NOT_READY: {
    code: -32000,
    retryable: true,
    httpStatus: 503,
    meaning: 'The node cannot answer this now: it starts, stops, or lacks another member.',
  },
  NOT_FOUND: {
    code: -32001,
    retryable: false,
    httpStatus: 404,
    meaning: 'There is no such thing, or the caller may not know of it.',
  },
  PRUNED: { code: -32002, retryable: false, httpStatus: 410, meaning: 'It was there and is not kept any more.' },
  TX_INVALID: {
    code: -32003,
    retryable: false,
    httpStatus: 400,
    meaning: 'The transaction is refused; `reason` is the code of the rule that refused it.',
  },
  POOL_FULL: { code: -32004, retryable: true, httpStatus: 503, meaning: 'The pool takes no more transactions now.' },
  COMMIT_TIMEOUT: {
    code: -32005,
    retryable: true,
    httpStatus: 504,
    meaning: 'The transaction was accepted and is not committed yet; submitting it again is safe.',
  },
  RATE_LIMITED: {
    code: -32006,
    retryable: true,
    httpStatus: 429,
    meaning: 'More than the caller, or its address, may do at a time.',
  },
  FORBIDDEN: {
    code: -32007,
    retryable: false,
    httpStatus: 403,
    meaning: 'Without a valid token, or out of the scope of its account.',
  },
  CONFLICT: {
    code: -32008,
    retryable: true,
    httpStatus: 409,
    meaning: 'The chain moved while the answer was put together; ask again.',
  },
  SLOW_CONSUMER: {
    code: -32020,
    retryable: true,
    httpStatus: 503,
    meaning: 'The subscriber did not keep up; resume from the last height seen.',
  },
  METHOD_DISABLED: {
    code: -32604,
    retryable: false,
    httpStatus: 404,
    meaning: 'The method exists, and is not served here: it needs a WebSocket, or the operator turned it off.',
  },
} as const satisfies Readonly<Record<string, ErrorRow>>;

export type RpcErrorName = keyof typeof RPC_ERRORS;

/** Answers the call with one of the table's errors. `code` of the base class is the reason: a stable word. */
export class RpcError extends EmrError {
  readonly rpc: RpcErrorName;

  /** @param reason stable word for programs; the name of the error where there is nothing to add */
  constructor(rpc: RpcErrorName, message: string, reason: string = rpc) {
    super(reason, message);
    this.name = 'RpcError';
    this.rpc = rpc;
  }
}

export const notFound = (what: string, reason = 'NOT_FOUND'): RpcError => new RpcError('NOT_FOUND', what, reason);

export const outOfScope = (what: string): RpcError =>
  new RpcError('FORBIDDEN', `${what} is out of the scope of this account.`, 'OUT_OF_SCOPE');

/** The `error` member of a JSON-RPC response. */
export interface ErrorBody {
  readonly code: number;
  readonly message: string;
  readonly data: { readonly reason: string; readonly retryable: boolean; readonly requestId: string };
}

export function errorBody(rpc: RpcErrorName, message: string, reason: string, requestId: string): ErrorBody {
  const { code, retryable } = RPC_ERRORS[rpc];
  return { code, message, data: { reason, retryable, requestId } };
}
