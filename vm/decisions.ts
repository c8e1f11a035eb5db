/**
 * Approvals and denials. One person decides once, finally, by one signed transaction that names the hash of the whole
 * request. The block in which the rule is satisfied is the grant.
 */
import { equalBytes } from '../common/bytes.ts';
import { accept, type Verdict } from '../common/errors.ts';
import { type DecisionEntry, decisionEntry, stateKey } from '../common/protocol/state-entries.ts';
import type { Hash } from '../common/protocol/primitives.ts';
import type { CallOf } from '../common/protocol/transaction.ts';
import {
  type AccessCase,
  type Approval,
  approvalsOf,
  caseOfRequest,
  type Deciding,
  decisionOfPerson,
  deniedSlots,
  evaluate,
  type Evaluation,
  findCase,
  isPolicyChanged,
  prospects,
  seatApprovals,
} from './access-case.ts';
import { closePending, openGrant } from './access-status.ts';
import { refuse } from './codes.ts';
import { accessFields, emit, OK, type TxContext } from './context.ts';
import { eligibility, isRequester, requesterStillEntitled } from './eligibility.ts';
import { MAX_APPROVALS_PER_REQUEST } from './limits.ts';

/** The request, if it is open for a decision of this person. */
function openCase(ctx: TxContext, hash: Hash): Verdict<AccessCase> {
  const on = findCase(ctx, hash);
  if (on === undefined) return refuse('REQUEST_UNKNOWN');
  // Whether the sweep has come by or not: the same state of affairs has one code.
  if (on.request.statusReason === 'POLICY_CHANGED') return refuse('POLICY_CHANGED');
  if (on.request.status === 'expired') return refuse('REQUEST_EXPIRED');
  if (on.request.status !== 'pending') return refuse('NOT_PENDING', on.request.status);
  if (isPolicyChanged(on)) return refuse('POLICY_CHANGED');
  if (ctx.now >= on.request.pendingUntilMs) return refuse('REQUEST_EXPIRED');
  if (isRequester(on.on.request, ctx.sender)) return refuse('REQUESTER_CANNOT_APPROVE');
  if (decisionOfPerson(on, ctx.sender) !== undefined) return refuse('ALREADY_DECIDED');
  return accept(on);
}

type Said = Pick<DecisionEntry, 'approve' | 'reason' | 'slot'>;
export const APPROVED: Said = { approve: true, reason: null, slot: null };

/** The sender's decision, as it is kept. */
export const decisionOf = ({ sender, now, height }: TxContext, said: Said): DecisionEntry => ({
  account: sender.id,
  orgId: sender.orgId,
  personTag: sender.personTag,
  atMs: now,
  height,
  ...said,
});

export function decide(ctx: TxContext, hash: Hash, said: Said): void {
  ctx.state.put(decisionEntry, stateKey.decision(hash, ctx.sender.id), decisionOf(ctx, said));
}

function bitCount(mask: number): number {
  let bits = 0;
  for (let rest = mask; rest !== 0; rest &= rest - 1) bits += 1;
  return bits;
}

/**
 * Whether one more approval could matter. Persons of one organisation who can fill the same slots are interchangeable,
 * and no more of them can be seated than there are such slots. So a crowd of approvals cannot keep others out.
 */
function checkNeeded(ctx: TxContext, approvals: readonly Approval[], mask: number): Verdict {
  const alike = approvals.filter((a) => a.mask === mask && a.account.orgId === ctx.sender.orgId).length;
  if (alike >= bitCount(mask)) return refuse('APPROVAL_NOT_NEEDED');
  return approvals.length < MAX_APPROVALS_PER_REQUEST
    ? OK
    : refuse('TOO_MANY_DECISIONS', `${MAX_APPROVALS_PER_REQUEST}`);
}

/** The approvals with the sender's, if that could matter. */
export function joinApproval(ctx: TxContext, on: Deciding): Verdict<readonly Approval[]> {
  const { mask, reason } = eligibility(on.on, on.tree, ctx.sender);
  if (mask === 0) return refuse(reason);
  const standing = mask & ~deniedSlots(on);
  if (standing === 0) return refuse('SLOT_ALREADY_DENIED');
  const before = approvalsOf(on);
  const needed = checkNeeded(ctx, before, standing);
  return needed.ok ? accept([...before, { account: ctx.sender, mask: standing }]) : needed;
}

export function approve(ctx: TxContext, call: CallOf<'access.approve'>): Verdict {
  const open = openCase(ctx, call.requestHash);
  if (!open.ok) return open;
  const on = open.value;
  const requester = requesterStillEntitled(on.on, on.rule, on.request);
  if (!requester.ok) return requester;
  const approvals = joinApproval(ctx, on);
  if (!approvals.ok) return approvals;
  decide(ctx, call.requestHash, APPROVED);
  emit(ctx, 'access.approve', accessFields(on.request, on.request.request.purpose));
  grantIfSatisfied(ctx, on, seatApprovals(on, approvals.value));
  return OK;
}

/** The grant, if the approvals satisfy the rule: recorded with whose approval filled which slot. */
export function grantIfSatisfied(ctx: TxContext, on: AccessCase, { satisfied, seats, approvals }: Evaluation): void {
  if (!satisfied) return;
  const filled = seats.flatMap((seat, slot) => {
    const approval = approvals[seat];
    return approval === undefined ? [] : [{ slot, account: approval.account.id, orgId: approval.account.orgId }];
  });
  openGrant(ctx, on.request, filled, ctx.sender.id);
  emit(ctx, 'access.granted', accessFields(on.request, on.request.request.purpose));
}

/**
 * The slot that a denial takes out: of those the person could fill and nobody denied before, one that names this person
 * before others, one without an approval before others, then the first.
 */
function deniedSlot(on: Deciding, mask: number): number | null {
  const { seats } = evaluate(on);
  let best: { slot: number; rank: number } | null = null;
  for (let slot = 0; slot < on.tree.slots.length; slot += 1) {
    if ((mask & (1 << slot)) === 0) continue;
    const rank = (on.tree.slots[slot]?.kind === 'person' ? 2 : 0) + ((seats[slot] ?? -1) < 0 ? 1 : 0);
    if (best === null || rank > best.rank) best = { slot, rank };
  }
  return best?.slot ?? null;
}

/** The slot that a denial of the sender takes out. */
export function denySlot(ctx: TxContext, on: Deciding): Verdict<number> {
  const { mask, reason } = eligibility(on.on, on.tree, ctx.sender);
  if (mask === 0) return refuse(reason);
  const slot = deniedSlot(on, mask & ~deniedSlots(on));
  return slot === null ? refuse('SLOT_ALREADY_DENIED') : accept(slot);
}

export function deny(ctx: TxContext, call: CallOf<'access.deny'>): Verdict {
  const open = openCase(ctx, call.requestHash);
  if (!open.ok) return open;
  const on = open.value;
  const owner = equalBytes(ctx.sender.id, on.request.owner);
  let slot: number | null = null;
  if (!owner) {
    const denied = denySlot(ctx, on);
    if (!denied.ok) return denied;
    slot = denied.value;
  }
  decide(ctx, call.requestHash, { approve: false, reason: call.reason, slot });
  emit(ctx, 'access.deny', accessFields(on.request, call.reason));
  if (owner || !prospects(caseOfRequest(ctx, on.request)).satisfiable) {
    closePending(ctx, on.request, 'denied', { by: ctx.sender.id, reason: call.reason });
    emit(ctx, 'access.denied', accessFields(on.request, call.reason));
  }
  return OK;
}
