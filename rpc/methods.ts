/**
 * The one table of methods: name, parameters, result. It yields the validators of requests, the OpenRPC document, and
 * the types that handlers and clients are compiled against. A method that is not here does not exist.
 */
import { aclMethods, govMethods } from './methods/access.ts';
import { chainMethods } from './methods/chain.ts';
import { custodyStatusMethods } from './methods/custody.ts';
import { consensusMethods, netMethods, nodeMethods } from './methods/node.ts';
import { blobMethods, custodyMethods, emrMethods, stateMethods } from './methods/records.ts';
import type { MethodDefinition } from './methods/shapes.ts';
import { rpcMethods, subMethods } from './methods/subscriptions.ts';
import { txMethods } from './methods/tx.ts';
import type { ObjectOf, Static } from './schema.ts';

export const METHODS = {
  ...nodeMethods,
  ...chainMethods,
  ...txMethods,
  ...consensusMethods,
  ...stateMethods,
  ...emrMethods,
  ...aclMethods,
  ...custodyMethods,
  ...custodyStatusMethods,
  ...govMethods,
  ...netMethods,
  ...blobMethods,
  ...subMethods,
  ...rpcMethods,
} as const satisfies Readonly<Record<string, MethodDefinition>>;

export type MethodName = keyof typeof METHODS;
export type ParamsOf<M extends MethodName> = ObjectOf<(typeof METHODS)[M]['params']>;
export type ResultOf<M extends MethodName> = Static<(typeof METHODS)[M]['result']>;

export const METHOD_NAMES = Object.keys(METHODS) as readonly MethodName[];

export function isMethodName(name: string): name is MethodName {
  return Object.hasOwn(METHODS, name);
}

export type { MethodDefinition } from './methods/shapes.ts';
export type { SubscriptionEvents, SubscriptionNotification, Topic } from './methods/subscriptions.ts';
export type { Hex } from './schema.ts';
