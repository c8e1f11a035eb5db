/** What every handler works with, and what a call brings along. No transport here. */
import { hexToBytes } from '../common/bytes.ts';
import type { Authenticator, Caller } from './auth.ts';
import type { Blocks } from './blocks.ts';
import type { CommitWaiters } from './commit-waiters.ts';
import type { RpcConfig } from './config.ts';
import type { Cursors } from './cursors.ts';
import type { Facts } from './facts.ts';
import type { MethodName, ParamsOf, ResultOf } from './methods.ts';
import type { OpenRpcDocument } from './openrpc.ts';
import type { RpcPorts } from './ports.ts';
import type { Hex } from './schema.ts';
import type { Scope } from './scope.ts';
import { type At, atOf, type StateReads } from './state-reads.ts';

export interface Service {
  readonly config: RpcConfig;
  readonly ports: RpcPorts;
  readonly reads: StateReads;
  readonly facts: Facts;
  readonly blocks: Blocks;
  readonly cursors: Cursors;
  readonly waiters: CommitWaiters;
  readonly authenticator: Authenticator;
  readonly openRpc: OpenRpcDocument;
}

/** What a WebSocket adds to a call. */
export interface SocketSession {
  subscribe(params: ParamsOf<'sub_subscribe'>): Promise<ResultOf<'sub_subscribe'>>;
  unsubscribe(params: ParamsOf<'sub_unsubscribe'>): ResultOf<'sub_unsubscribe'>;
  authenticate(params: ParamsOf<'sub_authenticate'>): Promise<ResultOf<'sub_authenticate'>>;
}

export interface Call {
  readonly requestId: string;
  readonly caller: Caller;
  readonly scope: Scope;
  /** Ends when the caller is gone or the server stops. */
  readonly signal: AbortSignal;
  /** Null over HTTP. */
  readonly socket: SocketSession | null;
}

export type Handler<M extends MethodName> = (params: ParamsOf<M>, call: Call) => Promise<ResultOf<M>> | ResultOf<M>;

export type Handlers<M extends MethodName = MethodName> = { readonly [K in M]: Handler<K> };

/** The methods of some namespaces. */
export type MethodsOf<Namespace extends string> = Extract<MethodName, `${Namespace}_${string}`>;

/** Bytes of a parameter: the schema has checked its form and length. */
export const bytesOf = (value: Hex): Uint8Array => hexToBytes(value);

export const atHead = (service: Service): At => atOf(service.ports.chain.head());
