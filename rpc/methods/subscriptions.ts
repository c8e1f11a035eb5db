/** rpc.* and sub_*: discovery, and what a WebSocket adds. */
import type { BlockHeader } from '../../common/protocol/block.ts';
import type { Event } from '../../common/protocol/receipt.ts';
import type { JsonOf } from '../json.ts';
import * as s from '../schema.ts';
import { height, method } from './shapes.ts';

export const TOPICS = ['newBlocks', 'newHeaders', 'txStatus', 'aclEvents', 'emrEvents'] as const;
export type Topic = (typeof TOPICS)[number];

const filter = s.object({
  /** `txStatus`: the transaction, required there. */
  hash: s.optional(s.hex(32)),
  /** `aclEvents`, `emrEvents`: only of this record, request or account. */
  recordId: s.optional(s.hex(32)),
  requestHash: s.optional(s.hex(32)),
  account: s.optional(s.hex(20)),
});

export const rpcMethods = {
  'rpc.discover': method({
    summary: 'This document.',
    access: 'public',
    params: {},
    result: s.structure<Readonly<Record<string, unknown>>>('OpenRPC', ['openrpc', 'methods']),
  }),
};

export const subMethods = {
  sub_subscribe: method({
    summary:
      'Starts a subscription. With `fromHeight` it first gives what happened from that height on; ' +
      'a consumer that does not keep up is dropped with SLOW_CONSUMER and resumes from the last height it saw.',
    access: 'public',
    transport: 'websocket',
    params: { topic: s.words(TOPICS), filter: s.optional(filter), fromHeight: s.optional(height) },
    result: s.object({ subscription: s.text(32) }),
  }),
  sub_unsubscribe: method({
    summary: 'Ends a subscription.',
    access: 'public',
    transport: 'websocket',
    params: { subscription: s.text(32) },
    result: s.object({ ended: s.bool }),
  }),
  sub_authenticate: method({
    summary: "Presents a reader's token on an open connection: browsers cannot set a header on a WebSocket.",
    access: 'public',
    transport: 'websocket',
    params: { token: s.text(1024, '^[A-Za-z0-9_-]+$') },
    result: s.object({ account: s.hex(20), notAfterMs: s.integer() }),
  }),
};

/** `params.event` of the notification `sub_event`, by topic. `params` = {subscription, topic, event}. */
export interface SubscriptionEvents {
  readonly newHeaders: { readonly height: number; readonly hash: s.Hex; readonly header: JsonOf<BlockHeader> };
  readonly newBlocks: {
    readonly height: number;
    readonly hash: s.Hex;
    readonly header: JsonOf<BlockHeader>;
    readonly txHashes: readonly s.Hex[];
  };
  readonly txStatus:
    | { readonly hash: s.Hex; readonly status: 'unknown' | 'pending' }
    | { readonly hash: s.Hex; readonly status: 'committed'; readonly height: number; readonly index: number }
    | { readonly hash: s.Hex; readonly status: 'dropped'; readonly code: string; readonly message: string };
  readonly aclEvents: LedgerEvent;
  readonly emrEvents: LedgerEvent;
}

export interface LedgerEvent {
  readonly height: number;
  readonly timestampMs: number;
  readonly txHash: s.Hex | null;
  readonly event: JsonOf<Event>;
}

/** The notifications that a WebSocket sends. After `sub_end` nothing more comes for that subscription. */
export type SubscriptionNotification =
  | {
      readonly [T in Topic]: {
        readonly method: 'sub_event';
        readonly params: { readonly subscription: string; readonly topic: T; readonly event: SubscriptionEvents[T] };
      };
    }[Topic]
  | {
      readonly method: 'sub_end';
      readonly params: { readonly subscription: string; readonly code: number; readonly reason: string };
    };
