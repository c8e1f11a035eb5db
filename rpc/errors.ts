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
    meaning: 'The chain, or an upload, moved on meanwhile; ask again.',
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

/**
 * `data.reason` where the RPC itself says more than the error's name. Besides these, `reason` is the name of the error, or
 * the code of whoever refused: the rules of the chain for TX_INVALID, the blob store, an operation that failed.
 */
export const REASONS = {
  NOT_JSON: 'the body is not JSON',
  JSON_TOO_DEEP: 'the JSON is nested deeper than any call needs',
  BODY_TOO_LARGE: 'the body is larger than this node takes',
  WRONG_CONTENT_TYPE: 'calls are application/json',
  WRONG_CONTENT_LENGTH: 'the body is not as long as it says',
  NOT_HTTP: 'what came is no HTTP request',
  EMPTY_BATCH: 'a batch holds at least one call',
  BATCH_TOO_LARGE: 'a batch holds at most 50 calls',
  BATCH_RESPONSE_TOO_LARGE: 'the answers so far are as large as they may get; the rest was not run',
  NO_SUCH_ROUTE: 'there is nothing at this address',
  WEBSOCKET: 'the address is for WebSockets, and the handshake is none',
  WEBSOCKET_ONLY: 'the method or the address needs a WebSocket',
  DISABLED_BY_OPERATOR: 'the operator of this node has turned the method off',
  BAD_CURSOR: 'the cursor is not one that this node gave for this question since it started',
  EMPTY_RANGE: 'the range ends before it begins',
  FILTER_REQUIRED: 'the topic needs a filter',
  RANGE_NOT_SATISFIABLE: 'the range is outside of the ciphertext',
  HEIGHT_AHEAD: 'the height is not there yet',
  STATE_NOT_KEPT: 'the state is judged at the last block only',
  STATE_MOVED: 'blocks came faster than the answer could be put together',
  HOST_NOT_ALLOWED: 'the node is not known under that name',
  ORIGIN_NOT_ALLOWED: 'pages of that origin may not call',
  METRICS_CLOSED: 'metrics are not open on this interface',
  TOKEN_REQUIRED: 'the call needs the token of an enrolled account',
  TOKEN_MALFORMED: 'the token cannot be read',
  TOKEN_WRONG_NETWORK: 'the token is for another network or chain',
  TOKEN_WRONG_NODE: 'the token is for another node',
  TOKEN_WRONG_ORIGIN: 'the token is for another address than the one that was dialled',
  TOKEN_EXPIRED: 'the token has ended',
  TOKEN_TOO_LONG: 'the token ends more than 15 minutes from now',
  TOKEN_BAD_SIGNATURE: 'the signature of the token does not verify',
  ACCOUNT_UNKNOWN: 'the key of the token belongs to no account',
  ACCOUNT_SUSPENDED: 'the account is suspended',
  ORG_SUSPENDED: 'the organisation of the account is suspended',
  KEY_NOT_CURRENT: 'the token is not signed by the current key of the account',
  OUT_OF_SCOPE: 'it is not for this account',
  PROOF_SHOWS_OTHERS: 'the proof would show keys of others',
  NOT_GRANTED: 'the request is no active grant',
  NOT_STAFF: 'only staff and machines of an organisation upload',
  TOO_MANY_CALLS: 'more calls than this address or account may make',
  TOO_MANY_WAITERS: 'too many calls wait for a block',
  TOO_MANY_SOCKETS: 'as many WebSockets are open as are served',
  TOO_MANY_SUBSCRIPTIONS: 'the WebSocket has as many subscriptions as it may',
  UPLOAD_UNKNOWN: 'the account has no such upload at this node, or has it no longer',
  UPLOAD_OFFSET_WRONG: 'the upload goes on at another byte, which the header upload-offset of the answer names',
  UPLOAD_HEADER_INVALID: 'a header that counts bytes is missing, or no number',
  TOO_MANY_TRANSFERS: 'as many uploads and downloads run as may',
} as const;

export type Reason = keyof typeof REASONS;

/** Answers the call with one of the table's errors. `code` of the base class is the reason: a stable word. */
export class RpcError extends EmrError {
  readonly rpc: RpcErrorName;

  /** @param reason the name of the error where there is nothing to add */
  constructor(rpc: RpcErrorName, message: string, reason: Reason | RpcErrorName = rpc) {
    super(reason, message);
    this.name = 'RpcError';
    this.rpc = rpc;
  }

  /** With the code and the sentence of whoever refused. */
  static of(rpc: RpcErrorName, { code, message }: { readonly code: string; readonly message: string }): RpcError {
    return new RpcError(rpc, message, code as Reason);
  }
}

export const notFound = (what: string, reason: Reason | RpcErrorName = 'NOT_FOUND'): RpcError =>
  new RpcError('NOT_FOUND', what, reason);

export const outOfScope = (what: string): RpcError =>
  new RpcError('FORBIDDEN', `${what} is out of the scope of the account that asks.`, 'OUT_OF_SCOPE');

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
