/**
 * What the operator decides about the RPC. The node fills it from its configuration file; files are read there.
 */
import type { MethodName } from './methods.ts';

export interface RpcConfig {
  /** Interface to bind. */
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
  /** Lets anybody who reaches the port read ledger metadata without a token. For demonstrations on loopback. */
  readonly openReads: boolean;
  /** Lets anybody who reaches the port read /metrics; else it answers only while the server is bound to loopback. */
  readonly openMetrics: boolean;
  /** PEM; null serves without TLS, for loopback or behind a proxy that adds it. */
  readonly tls: { readonly cert: string | Buffer; readonly key: string | Buffer } | null;
  /** Origins (`scheme://host:port`) of web pages of other servers that may call. */
  readonly allowedOrigins: readonly string[];
  /**
   * Origins under which clients reach this node by a name or through a proxy. Without them only `localhost` and IP
   * addresses are taken as Host: a name that an attacker's DNS points here is refused.
   */
  readonly publicOrigins: readonly string[];
  readonly disabledMethods: readonly MethodName[];
  readonly limits: RpcLimits;
}

/** Every figure bounds memory or time that a caller can take; docs/limits.md lists them. */
export interface RpcLimits {
  /** Calls of one address, and of one account, each minute; a sixth of it at once. A batch counts each of its calls. */
  readonly requestsPerMinute: number;
  /** A request of /rpc, or one message on a WebSocket. A transaction is at most 16 KiB, in hex twice that. */
  readonly maxBodyBytes: number;
  /** Nesting of JSON: parameters are flat. */
  readonly maxJsonDepth: number;
  readonly maxBatch: number;
  /** Calls of a batch, or of a WebSocket, that run at a time. */
  readonly maxConcurrentCalls: number;
  /** The answers to one batch; the largest single answer is a page of receipts. */
  readonly maxBatchResponseBytes: number;
  /** Time to send the body of a call. */
  readonly bodyTimeoutMs: number;
  /** Time without a byte after which a transfer or connection ends. */
  readonly idleTimeoutMs: number;
  readonly maxConnections: number;
  readonly maxSockets: number;
  readonly maxSocketsPerAddress: number;
  readonly maxSubscriptionsPerSocket: number;
  /** Bytes that wait for a socket; beyond them, or when nothing drains for `slowConsumerMs`, it is dropped. */
  readonly maxSocketBufferBytes: number;
  readonly slowConsumerMs: number;
  readonly pingIntervalMs: number;
  /** Calls of tx_submit that wait for their block. */
  readonly maxCommitWaiters: number;
  /** Uploads and downloads at a time, of one account and of all. */
  readonly maxTransfersPerAccount: number;
  readonly maxTransfers: number;
  /** Time without a byte after which an upload ends that could go on: more than a client needs to see that it broke. */
  readonly uploadIdleTimeoutMs: number;
}

export const DEFAULT_RPC_LIMITS: RpcLimits = {
  requestsPerMinute: 6_000,
  maxBodyBytes: 1024 * 1024,
  maxJsonDepth: 16,
  maxBatch: 50,
  maxConcurrentCalls: 8,
  maxBatchResponseBytes: 32 * 1024 * 1024,
  bodyTimeoutMs: 15_000,
  idleTimeoutMs: 60_000,
  maxConnections: 1_000,
  maxSockets: 256,
  maxSocketsPerAddress: 64,
  maxSubscriptionsPerSocket: 16,
  maxSocketBufferBytes: 4 * 1024 * 1024,
  slowConsumerMs: 10_000,
  pingIntervalMs: 30_000,
  maxCommitWaiters: 2_000,
  maxTransfersPerAccount: 8,
  maxTransfers: 64,
  uploadIdleTimeoutMs: 180_000,
};

/** Loopback, closed reads, no names. */
export const DEFAULT_RPC_CONFIG: RpcConfig = {
  host: '127.0.0.1',
  port: 8545,
  openReads: false,
  openMetrics: false,
  tls: null,
  allowedOrigins: [],
  publicOrigins: [],
  disabledMethods: [],
  limits: DEFAULT_RPC_LIMITS,
};
