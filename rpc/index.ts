/** What node/ takes from here. */
export { DEFAULT_RPC_CONFIG, DEFAULT_RPC_LIMITS, type RpcConfig } from './config.ts';
export type * from './ports.ts';
export { createRpcServer, type RpcServer } from './server.ts';
