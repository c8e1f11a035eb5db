/** What may happen to a grant: revocation, and the owner's delivery of the key. Its end is a deadline. */
import { equalBytes } from '../common/bytes.ts';
import type { Verdict } from '../common/errors.ts';
import { deliveryEntry, requestEntry, type RequestEntry, stateKey } from '../common/protocol/state-entries.ts';
import type { CallOf } from '../common/protocol/transaction.ts';
import { closeGrant, isActiveGrant } from './access-status.ts';
import { refuse } from './codes.ts';
import { accessFields, emit, OK, type TxContext } from './context.ts';
import { accountOf } from './organisations.ts';
import { samePerson } from './persons.ts';
import { holdsRole } from './roles.ts';

/**
 * Owner, requester, everybody whose approval filled a slot (by any account of that person), and administrators or
 * medical affairs of the writing hospital: revoking only takes away, so many may.
 */
function mayRevoke(ctx: TxContext, request: RequestEntry): boolean {
  const { sender, state } = ctx;
  if (equalBytes(sender.id, request.owner) || equalBytes(sender.id, request.request.requester)) return true;
  for (const { account: id } of request.filled) {
    const approver = accountOf(state, id);
    if (approver !== undefined && samePerson(approver, sender)) return true;
  }
  return sender.orgId === request.recordOrg && holdsRole(state, sender, ['org_admin', 'medical_affairs'], ctx.now).ok;
}

export function revoke(ctx: TxContext, call: CallOf<'access.revoke'>): Verdict {
  const request = ctx.state.get(requestEntry, stateKey.request(call.requestHash));
  if (request === undefined) return refuse('REQUEST_UNKNOWN');
  if (!isActiveGrant(request, ctx.now)) return refuse('NOT_GRANTED', request.status);
  if (!mayRevoke(ctx, request)) return refuse('NOT_ALLOWED_TO_REVOKE');
  closeGrant(ctx, request, 'revoked', { by: ctx.sender.id, reason: call.reason });
  emit(ctx, 'access.revoke', accessFields(request, call.reason));
  return OK;
}

/** A later delivery replaces an earlier one, which may have been to the wrong bytes. */
export function deliver(ctx: TxContext, call: CallOf<'access.deliver'>): Verdict {
  const request = ctx.state.get(requestEntry, stateKey.request(call.requestHash));
  if (request === undefined) return refuse('REQUEST_UNKNOWN');
  if (!equalBytes(ctx.sender.id, request.owner)) return refuse('NOT_THE_OWNER');
  if (!isActiveGrant(request, ctx.now)) return refuse('NOT_GRANTED', request.status);
  ctx.state.put(deliveryEntry, stateKey.delivery(call.requestHash), {
    sidecarHash: call.sidecarHash,
    height: ctx.height,
    txIndex: ctx.txIndex,
  });
  emit(ctx, 'access.deliver', accessFields(request, null));
  return OK;
}
