/**
 * Amendments: a policy gets a new document, under its old reference, when those have approved whom its present document
 * names as its admin rule. Records and their keys stay as they are.
 *
 * An admin rule is about no record and no request: its slots `owner`, `attending` and of the requester's organisation
 * are filled by nobody, `writer` is the policy's organisation, and approvals always come from two organisations.
 */
import { equalBytes } from '../common/bytes.ts';
import { accept, assert, type Verdict } from '../common/errors.ts';
import type { PolicyDocument } from '../common/protocol/policy.ts';
import type { Address, Hash } from '../common/protocol/primitives.ts';
import {
  type AmendmentEntry,
  amendmentEntry,
  type DecisionEntry,
  emptyEntry,
  openAmendmentEntry,
  type PolicyEntry,
  policyEntry,
  stateKey,
} from '../common/protocol/state-entries.ts';
import { type Amendment, amendmentIdOf, type CallOf } from '../common/protocol/transaction.ts';
import { type Deciding, decisionOfPerson, prospects, seatApprovals } from './access-case.ts';
import { compileTree } from './approval-tree.ts';
import { refuse } from './codes.ts';
import { type Context, emit, OK, type TxContext } from './context.ts';
import { APPROVED, decisionOf, denySlot, joinApproval } from './decisions.ts';
import { eligibility } from './eligibility.ts';
import { accountOf } from './organisations.ts';
import { weakensOwners } from './owner-protection.ts';
import { checkDocument, policyOf } from './policies.ts';
import { requireAdmin } from './roles.ts';

type Decisions = Pick<AmendmentEntry, 'createdMs' | 'decisions'>;

/** As it is kept: everybody reads amendments, and whose accounts belong to one person is the organisations' matter. */
const kept = (ctx: TxContext, said: Parameters<typeof decisionOf>[1]): DecisionEntry => ({
  ...decisionOf(ctx, said),
  personTag: null,
});

/** What is decided by the policy's present admin rule. */
function caseOf(
  { state, now, params }: Context,
  policy: PolicyEntry,
  { createdMs, decisions: said }: Decisions,
): Deciding {
  const decisions = said.map((one) => ({ ...one, personTag: accountOf(state, one.account)?.personTag ?? null }));
  const request = {
    owner: null,
    recordOrg: policy.document.orgId,
    requesterOrg: null,
    requesterTag: null,
    requester: null,
    createdMs,
  };
  return { tree: compileTree(policy.document.adminRule), decisions, on: { state, now, params, request } };
}

/** What stays for the life of a policy: who holds keys was settled when records were sealed. */
const isSamePolicy = (a: PolicyDocument, b: PolicyDocument): boolean =>
  equalBytes(a.nonce, b.nonce) &&
  a.orgId === b.orgId &&
  a.custodian === b.custodian &&
  a.patientWrap === b.patientWrap &&
  a.recovery === b.recovery;

function checkAmendment(ctx: TxContext, policy: PolicyEntry, { version, document }: Amendment): Verdict {
  if (version !== policy.version + 1) return refuse('VERSION_NOT_NEXT', `${policy.version + 1}`);
  if (!isSamePolicy(policy.document, document)) return refuse('POLICY_PART_FIXED');
  const sound = checkDocument(ctx.state, document);
  if (!sound.ok) return sound;
  return weakensOwners(policy.document, document) ? refuse('POLICY_WEAKENS_OWNER') : OK;
}

/** Who could fill a slot of the admin rule, and the administrators of the policy's organisation. */
function checkProposer(ctx: TxContext, policy: PolicyEntry): Verdict {
  const fresh = caseOf(ctx, policy, { createdMs: ctx.now, decisions: [] });
  const { mask, reason } = eligibility(fresh.on, fresh.tree, ctx.sender);
  if (mask === 0 && !requireAdmin(ctx, policy.document.orgId).ok) return refuse(reason);
  return prospects(fresh).satisfiable ? OK : refuse('POLICY_NOT_AMENDABLE');
}

const isOutdated = (policy: PolicyEntry, { amendment }: AmendmentEntry): boolean =>
  amendment.version !== policy.version + 1;

/**
 * One open amendment for each organisation and policy: nobody keeps another organisation from proposing.
 * @returns the one before, which is over and only not concluded yet
 */
function checkRoom(ctx: TxContext, policy: PolicyEntry): Verdict<AmendmentEntry | null> {
  const open = ctx.state.get(openAmendmentEntry, stateKey.openAmendment(policy.ref, ctx.sender.orgId));
  if (open === undefined) return accept(null);
  const before = amendmentOf(ctx, open.id);
  return isOutdated(policy, before) || ctx.now >= before.closesMs ? accept(before) : refuse('AMENDMENT_OPEN');
}

export function proposeAmendment(ctx: TxContext, call: CallOf<'policy.propose'>): Verdict {
  const { state, sender, now } = ctx;
  const { amendment } = call;
  const policy = policyOf(state, amendment.policyRef);
  if (policy === undefined) return refuse('POLICY_UNKNOWN');
  const id = amendmentIdOf(ctx.chainId, sender.id, call.nonce, amendment);
  if (state.get(amendmentEntry, stateKey.amendment(id)) !== undefined) return refuse('AMENDMENT_EXISTS');
  const proposer = checkProposer(ctx, policy);
  if (!proposer.ok) return proposer;
  // Before the documents are compared, which takes some 25 ms at worst.
  const room = checkRoom(ctx, policy);
  if (!room.ok) return room;
  const sound = checkAmendment(ctx, policy, amendment);
  if (!sound.ok) return sound;
  if (room.value !== null) timeOut(ctx, policy, room.value);
  const closesMs = now + ctx.params.governanceTtlMs;
  state.put(amendmentEntry, stateKey.amendment(id), {
    id,
    amendment,
    proposer: sender.id,
    proposerOrg: sender.orgId,
    status: 'open',
    createdMs: now,
    closesMs,
    statusMs: now,
    statusHeight: ctx.height,
    statusBy: null,
    decisions: [],
  });
  state.put(openAmendmentEntry, stateKey.openAmendment(policy.ref, sender.orgId), { id });
  state.put(emptyEntry, stateKey.deadline(closesMs, 'amendment', id), {});
  emit(ctx, 'policy.propose', { objectId: id });
  return OK;
}

interface Open {
  readonly entry: AmendmentEntry;
  readonly policy: PolicyEntry;
  readonly on: Deciding;
}

/** The amendment, if it can still take effect. */
function openAmendment(ctx: TxContext, id: Hash): Verdict<Open> {
  const entry = ctx.state.get(amendmentEntry, stateKey.amendment(id));
  if (entry === undefined) return refuse('AMENDMENT_UNKNOWN');
  const policy = policyOf(ctx.state, entry.amendment.policyRef);
  assert(policy !== undefined, 'an amendment has a policy');
  if (entry.status === 'outdated') return refuse('AMENDMENT_OUTDATED');
  if (entry.status !== 'open') return refuse('AMENDMENT_CLOSED', entry.status);
  if (isOutdated(policy, entry)) return refuse('AMENDMENT_OUTDATED');
  if (ctx.now >= entry.closesMs) return refuse('AMENDMENT_CLOSED', 'expired');
  return accept({ entry, policy, on: caseOf(ctx, policy, entry) });
}

/** As `openAmendment`, for somebody who has not decided on it yet. */
function undecided(ctx: TxContext, id: Hash): Verdict<Open> {
  const open = openAmendment(ctx, id);
  if (!open.ok || decisionOfPerson(open.value.on, ctx.sender) === undefined) return open;
  return refuse('ALREADY_DECIDED');
}

export function approveAmendment(ctx: TxContext, call: CallOf<'policy.approve'>): Verdict {
  const open = undecided(ctx, call.amendmentId);
  if (!open.ok) return open;
  const { entry, policy, on } = open.value;
  const approvals = joinApproval(ctx, on);
  if (!approvals.ok) return approvals;
  const approved = { ...entry, decisions: [...entry.decisions, kept(ctx, APPROVED)] };
  emit(ctx, 'policy.approve', { objectId: entry.id });
  if (seatApprovals(on, approvals.value).satisfied) bringIntoEffect(ctx, policy, approved);
  else ctx.state.put(amendmentEntry, stateKey.amendment(entry.id), approved);
  return OK;
}

/** The old document stays, under its version: requests and grants name the rule by which they were made. */
function bringIntoEffect(ctx: TxContext, policy: PolicyEntry, { id, amendment, ...rest }: AmendmentEntry): void {
  const { version, document } = amendment;
  ctx.state.put(policyEntry, stateKey.policyVersion(policy.ref, policy.version), policy);
  ctx.state.put(policyEntry, stateKey.policy(policy.ref), {
    ...policy,
    version,
    document,
    sinceMs: ctx.now,
    amendmentId: id,
  });
  conclude(ctx, { id, amendment, ...rest }, 'effective', ctx.sender.id);
  emit(ctx, 'policy.amended', { objectId: policy.ref });
}

/** A rejection takes out a slot, as the denial of a request does. Who proposed it, or administers there, takes it back. */
export function rejectAmendment(ctx: TxContext, call: CallOf<'policy.reject'>): Verdict {
  const open = openAmendment(ctx, call.amendmentId);
  if (!open.ok) return open;
  const { entry, policy, on } = open.value;
  if (equalBytes(ctx.sender.id, entry.proposer) || requireAdmin(ctx, entry.proposerOrg).ok) {
    emit(ctx, 'policy.reject', { objectId: entry.id });
    conclude(ctx, entry, 'rejected', ctx.sender.id);
    return OK;
  }
  if (decisionOfPerson(on, ctx.sender) !== undefined) return refuse('ALREADY_DECIDED');
  const slot = denySlot(ctx, on);
  if (!slot.ok) return slot;
  const said = kept(ctx, { approve: false, reason: null, slot: slot.value });
  const rejected = { ...entry, decisions: [...entry.decisions, said] };
  emit(ctx, 'policy.reject', { objectId: entry.id });
  if (prospects(caseOf(ctx, policy, rejected)).satisfiable) {
    ctx.state.put(amendmentEntry, stateKey.amendment(entry.id), rejected);
  } else conclude(ctx, rejected, 'rejected', ctx.sender.id);
  return OK;
}

const ENDED = {
  effective: null,
  rejected: 'policy.rejected',
  expired: 'policy.expired',
  outdated: 'policy.outdated',
} as const;

function conclude(ctx: Context, entry: AmendmentEntry, status: keyof typeof ENDED, by: Address | null): void {
  const { id, closesMs, proposerOrg, amendment } = entry;
  ctx.state.delete(stateKey.deadline(closesMs, 'amendment', id));
  ctx.state.delete(stateKey.openAmendment(amendment.policyRef, proposerOrg));
  const ended = { status, statusMs: ctx.now, statusHeight: ctx.height, statusBy: by };
  ctx.state.put(amendmentEntry, stateKey.amendment(id), { ...entry, ...ended });
  const event = ENDED[status];
  if (event !== null) emit(ctx, event, { objectId: id });
}

const amendmentOf = (ctx: Context, id: Hash): AmendmentEntry =>
  ctx.state.must(amendmentEntry, stateKey.amendment(id), 'amendment that is open');

/** What is outdated or past its time ends so. */
const timeOut = (ctx: Context, policy: PolicyEntry, entry: AmendmentEntry): void =>
  conclude(ctx, entry, isOutdated(policy, entry) ? 'outdated' : 'expired', null);

export function expireAmendment(ctx: Context, id: Hash): void {
  const entry = amendmentOf(ctx, id);
  timeOut(
    ctx,
    ctx.state.must(policyEntry, stateKey.policy(entry.amendment.policyRef), 'policy of an amendment'),
    entry,
  );
}
