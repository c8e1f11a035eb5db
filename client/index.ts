/** The client as a library. The command line is built on nothing else. */
export { ChainView, type ProvenEntry } from './chain-view.ts';
export { ClientError, describeFailure, type Failure, remedyOf } from './errors.ts';
export { Home, openHome } from './home.ts';
export * from './keys.ts';
export { type FirstContact, meetNode, type PinnedNode, pinNode } from './network.ts';
export { authorizer, createReaderToken } from './reader-token.ts';
export { DEFAULT_RPC_URL, RpcClient } from './rpc-client.ts';
export { type Committed, execute, type Sender, signTransaction, submit } from './transactions.ts';
