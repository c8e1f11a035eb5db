/**
 * The life of a request: pending -> granted | denied | expired | cancelled; granted -> revoked | ended. Every change
 * goes through here, so that deadlines, counters and the list of active grants always agree with the status.
 */
import { custodyDemandEntry } from '../common/protocol/custody.ts';
import type { Address, Hash, TimeMs } from '../common/protocol/primitives.ts';
import { grantEntry, type RequestEntry, requestEntry, emptyEntry, stateKey } from '../common/protocol/state-entries.ts';
import { type Context, count } from './context.ts';
import { personOf } from './persons.ts';

const requesterOf = (request: RequestEntry): Uint8Array =>
  personOf({ id: request.request.requester, personTag: request.requesterTag });

export const isPending = (request: RequestEntry, now: TimeMs): boolean =>
  request.status === 'pending' && now < request.pendingUntilMs;

/** By time too: that the sweep of deadlines comes late changes nothing. */
export const isActiveGrant = (request: RequestEntry, now: TimeMs): boolean =>
  request.status === 'granted' && now < request.request.notAfterMs;

export function openRequest(ctx: Context, request: RequestEntry): void {
  ctx.state.put(requestEntry, stateKey.request(request.hash), request);
  ctx.state.put(emptyEntry, stateKey.deadline(request.pendingUntilMs, 'request', request.hash), {});
  count(ctx.state, stateKey.openRequests(requesterOf(request)), 1);
}

function leavePending(ctx: Context, request: RequestEntry): void {
  ctx.state.delete(stateKey.deadline(request.pendingUntilMs, 'request', request.hash));
  count(ctx.state, stateKey.openRequests(requesterOf(request)), -1);
}

export interface Change {
  readonly by: Address | null;
  readonly reason: string | null;
}

function changed(ctx: Context, request: RequestEntry, status: RequestEntry['status'], change: Change): RequestEntry {
  return {
    ...request,
    status,
    statusHeight: ctx.height,
    statusMs: ctx.now,
    statusBy: change.by,
    statusReason: change.reason,
  };
}

export function closePending(
  ctx: Context,
  request: RequestEntry,
  status: 'denied' | 'expired' | 'cancelled',
  change: Change,
): void {
  leavePending(ctx, request);
  ctx.state.put(requestEntry, stateKey.request(request.hash), changed(ctx, request, status, change));
}

export function openGrant(ctx: Context, request: RequestEntry, filled: RequestEntry['filled'], by: Address): void {
  leavePending(ctx, request);
  const { recordId, requester, purpose, version, notAfterMs } = request.request;
  const granted = { ...changed(ctx, request, 'granted', { by, reason: null }), filled };
  ctx.state.put(requestEntry, stateKey.request(request.hash), granted);
  ctx.state.put(grantEntry, stateKey.grant(recordId, requester, request.hash), { purpose, version, notAfterMs });
  ctx.state.put(emptyEntry, stateKey.deadline(notAfterMs, 'grant', request.hash), {});
  count(ctx.state, stateKey.activeGrants(), 1);
}

/** Shares that were posted on the chain for a grant go with it. */
function dropDemand({ state }: Context, hash: Hash): void {
  const demand = state.get(custodyDemandEntry, stateKey.custodyDemand(hash));
  if (demand === undefined) return;
  state.delete(stateKey.deadline(demand.untilMs, 'custodyDemand', hash));
  state.delete(stateKey.custodyDemand(hash));
}

export function closeGrant(ctx: Context, request: RequestEntry, status: 'revoked' | 'ended', change: Change): void {
  const { recordId, requester, notAfterMs } = request.request;
  ctx.state.put(requestEntry, stateKey.request(request.hash), changed(ctx, request, status, change));
  ctx.state.delete(stateKey.grant(recordId, requester, request.hash));
  ctx.state.delete(stateKey.deadline(notAfterMs, 'grant', request.hash));
  dropDemand(ctx, request.hash);
  count(ctx.state, stateKey.activeGrants(), -1);
}
