/**
 * What a rule sees while it executes: the state, block time, parameters, who acts; and how it reports what happened.
 */
import { accept, type Verdict } from '../common/errors.ts';
import type { ChainParams } from '../common/protocol/chain-params.ts';
import type { Address, Hash, Height, OrgId, TimeMs } from '../common/protocol/primitives.ts';
import type { Event } from '../common/protocol/receipt.ts';
import {
  type AccountEntry,
  auditEntry,
  counterEntry,
  type RequestEntry,
  stateKey,
} from '../common/protocol/state-entries.ts';
import type { Sidecar } from '../common/protocol/transaction.ts';
import type { Membership } from './members.ts';
import type { Overlay } from './overlay.ts';

export const OK: Verdict = accept(undefined);

/** A transaction, or block time itself (then without sender and hash). */
export interface Context {
  readonly state: Overlay;
  readonly chainId: Hash;
  readonly height: Height;
  /** Block time: the only time there is. */
  readonly now: TimeMs;
  readonly params: ChainParams;
  readonly sender: AccountEntry | null;
  /** The node whose call this is. */
  readonly node: Membership | null;
  readonly txHash: Hash | null;
  readonly events: Event[];
  /** Counts the audit entries of the block, so that each has its own key. */
  readonly audit: { next: number };
}

export interface TxContext extends Context {
  readonly sender: AccountEntry;
  readonly txHash: Hash;
  /** Position in the block. */
  readonly txIndex: number;
  readonly sidecar: Sidecar | null;
}

/** A call of a node, known by its validator's or observer's key. */
export interface NodeContext extends Context {
  readonly node: Membership;
  readonly txHash: Hash;
}

export interface EventFields {
  readonly subject?: Address;
  readonly orgId?: OrgId;
  readonly recordId?: Hash;
  readonly requestHash?: Hash;
  readonly objectId?: Hash;
  readonly detail?: string | null;
}

/** Reports an event; what concerns a record also goes into that record's audit trail. */
export function emit(ctx: Context, type: string, fields: EventFields): void {
  const event: Event = {
    type,
    actor: ctx.sender?.id ?? ctx.node?.member.address ?? null,
    subject: fields.subject ?? null,
    orgId: fields.orgId ?? ctx.sender?.orgId ?? ctx.node?.member.orgId ?? null,
    recordId: fields.recordId ?? null,
    requestHash: fields.requestHash ?? null,
    objectId: fields.objectId ?? null,
    detail: fields.detail ?? null,
  };
  ctx.events.push(event);
  if (event.recordId === null) return;
  ctx.state.put(auditEntry, stateKey.audit(event.recordId, ctx.height, ctx.audit.next), {
    timestampMs: ctx.now,
    txHash: ctx.txHash,
    event,
  });
  ctx.audit.next += 1;
}

/** What events about a request have in common. */
export const accessFields = (of: RequestEntry, detail: string | null): EventFields => ({
  subject: of.owner,
  recordId: of.request.recordId,
  requestHash: of.hash,
  objectId: of.policyRef,
  detail,
});

/** Adds to a counter of the state; the entry goes when it reaches 0. */
export function count(state: Overlay, key: Uint8Array, change: number): void {
  const value = (state.get(counterEntry, key)?.value ?? 0) + change;
  if (value === 0) state.delete(key);
  else state.put(counterEntry, key, { value });
}

export const counted = (state: Overlay, key: Uint8Array): number => state.get(counterEntry, key)?.value ?? 0;
