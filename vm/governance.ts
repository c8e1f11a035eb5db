/**
 * Votes of the validators' organisations: one each, a quorum accepts, and an accepted proposal takes effect after a
 * public delay. A vote creates and suspends organisations, takes members in and out, sets parameters, and keys of last
 * resort; it fills no approval slot and changes no owner's policy.
 */
import { equalBytes } from '../common/bytes.ts';
import { isPublicKey } from '../common/crypto/curve.ts';
import { sm2Address } from '../common/crypto/sm2.ts';
import { assert, type Verdict } from '../common/errors.ts';
import type { Hash, OrgId } from '../common/protocol/primitives.ts';
import {
  emptyEntry,
  type OrganisationEntry,
  organisationEntry,
  paramsEntry,
  type ProposalEntry,
  proposalEntry,
  roleEntry,
  stateKey,
  statePrefix,
  voteEntry,
} from '../common/protocol/state-entries.ts';
import { firstAdminEnrolment } from '../common/protocol/statements.ts';
import { type CallOf, type Proposal, proposalIdOf } from '../common/protocol/transaction.ts';
import { quorumSize } from '../common/protocol/validator-set.ts';
import { createAccount } from './accounts.ts';
import { expireCandidacy, openCandidacy } from './candidacies.ts';
import { refuse } from './codes.ts';
import { type Context, count, counted, emit, OK, type TxContext } from './context.ts';
import {
  abandonHandover,
  followSet,
  hasHandovers,
  openRefresh,
  openRemoval,
  serveCandidates,
  waitsForCustody,
} from './custody/handover.ts';
import { overrideSession, waitsForReceivers } from './custody/outcome.ts';
import {
  checkEndingRecoveryKey,
  checkNewRecoveryKey,
  checkRecoveryProofs,
  endRecoveryKey,
  setRecoveryKey,
} from './custody/recovery-key.ts';
import { epochOf, sessionOf } from './custody/session.ts';
import { claimKey, unusedKey } from './keys.ts';
import { CUSTODY_DEAL_MS, MAX_PROPOSALS_PER_ORG } from './limits.ts';
import { applyMembership, canGovern, checkMembership } from './membership.ts';
import { validatorsOf } from './members.ts';
import { organisationOf } from './organisations.ts';
import { checkParamsChange } from './params.ts';
import { concludeProposal, proposalOf } from './proposals.ts';
import { requireAdmin } from './roles.ts';

type AddOrganisation = Extract<Proposal, { readonly kind: 'addOrganisation' }>;

function checkAddition({ state }: Context, proposal: AddOrganisation): Verdict {
  if (organisationOf(state, proposal.orgId) !== undefined) return refuse('ORG_EXISTS', proposal.orgId);
  const admin = unusedKey(state, proposal.admin.publicKey);
  if (!admin.ok) return admin;
  const { custodianKey } = proposal;
  if (custodianKey === null) return OK;
  // Nobody proves possession of a custodian key, so that it is a point must be checked here.
  if (!isPublicKey(custodianKey)) return refuse('BAD_KEY');
  if (equalBytes(custodianKey, proposal.admin.publicKey)) return refuse('KEY_ALREADY_USED');
  const custodian = unusedKey(state, custodianKey);
  return custodian.ok ? OK : custodian;
}

function checkSuspension({ state }: Context, orgId: string): Verdict {
  const target = organisationOf(state, orgId);
  if (target === undefined) return refuse('ORG_UNKNOWN', orgId);
  if (target.status !== 'active') return refuse('ORG_NOT_ACTIVE', orgId);
  const voters = validatorsOf(state);
  return canGovern(state, voters, orgId) || !voters.some((v) => v.orgId === orgId)
    ? OK
    : refuse('GOVERNANCE_WOULD_STALL');
}

function checkCustodyVote(
  { state }: Context,
  proposal: Extract<Proposal, { readonly kind: 'refreshCustody' | 'overrideCustody' }>,
): Verdict {
  const session = sessionOf(state);
  if (proposal.kind === 'overrideCustody') {
    if (session === undefined || !equalBytes(session.id, proposal.sessionId)) return refuse('CUSTODY_SESSION_UNKNOWN');
    return waitsForReceivers(session) ? OK : refuse('CUSTODY_WRONG_PHASE', session.phase);
  }
  if (epochOf(state) === undefined) return refuse('CUSTODY_NOT_ACTIVE');
  return session === undefined ? OK : refuse('CUSTODY_SESSION_OPEN');
}

/** Judged when proposed, and again when it takes effect: other votes may have come between. */
function checkProposal(ctx: Context, proposal: Proposal, proposerOrg: OrgId): Verdict {
  switch (proposal.kind) {
    case 'addOrganisation':
      return checkAddition(ctx, proposal);
    case 'suspendOrganisation':
      return checkSuspension(ctx, proposal.orgId);
    case 'reinstateOrganisation': {
      const target = organisationOf(ctx.state, proposal.orgId);
      if (target === undefined) return refuse('ORG_UNKNOWN', proposal.orgId);
      return target.status === 'suspended' ? OK : refuse('ORG_NOT_SUSPENDED', proposal.orgId);
    }
    case 'setParams':
      return checkParamsChange(ctx.params, proposal.params);
    case 'refreshCustody':
    case 'overrideCustody':
      return checkCustodyVote(ctx, proposal);
    case 'setRecoveryKey':
      return checkNewRecoveryKey(ctx, proposal);
    case 'endRecoveryKey':
      return checkEndingRecoveryKey(ctx, proposal.key);
    default:
      return checkMembership(ctx, proposal, proposerOrg);
  }
}

export function propose(ctx: TxContext, call: CallOf<'gov.propose'>): Verdict {
  const { state, sender } = ctx;
  const admin = requireAdmin(ctx, sender.orgId);
  if (!admin.ok) return admin;
  const voters = validatorsOf(state).map((v) => v.orgId);
  if (!voters.includes(sender.orgId)) return refuse('NOT_A_VOTER', sender.orgId);
  const id = proposalIdOf(ctx.chainId, sender.id, call.nonce, call.proposal);
  if (state.get(proposalEntry, stateKey.proposal(id)) !== undefined) return refuse('PROPOSAL_EXISTS');
  if (counted(state, stateKey.openProposals(sender.orgId)) >= MAX_PROPOSALS_PER_ORG) {
    return refuse('TOO_MANY_PROPOSALS', `${MAX_PROPOSALS_PER_ORG}`);
  }
  const sane = checkProposal(ctx, call.proposal, sender.orgId);
  if (!sane.ok) return sane;
  // Once: what the proofs are about does not change until it takes effect.
  const proven = call.proposal.kind === 'setRecoveryKey' ? checkRecoveryProofs(ctx, call.proposal) : OK;
  if (!proven.ok) return proven;
  const closesMs = ctx.now + ctx.params.governanceTtlMs;
  state.put(proposalEntry, stateKey.proposal(id), {
    id,
    proposal: call.proposal,
    proposer: sender.id,
    proposerOrg: sender.orgId,
    status: 'open',
    reason: null,
    createdMs: ctx.now,
    closesMs,
    delayMs: ctx.params.governanceDelayMs,
    effectiveMs: null,
    voters,
  });
  state.put(emptyEntry, stateKey.deadline(closesMs, 'proposal', id), {});
  count(state, stateKey.openProposals(sender.orgId), 1);
  emit(ctx, 'gov.propose', { objectId: id, detail: call.proposal.kind });
  return OK;
}

export function vote(ctx: TxContext, call: CallOf<'gov.vote'>): Verdict {
  const { state, sender } = ctx;
  const admin = requireAdmin(ctx, sender.orgId);
  if (!admin.ok) return admin;
  const proposal = state.get(proposalEntry, stateKey.proposal(call.proposalId));
  if (proposal === undefined) return refuse('PROPOSAL_UNKNOWN');
  // Who was voted out meanwhile has no say any more; who came in meanwhile has none yet.
  const stillVotes = validatorsOf(state).some(({ orgId }) => orgId === sender.orgId);
  if (!stillVotes || !proposal.voters.includes(sender.orgId)) return refuse('NOT_A_VOTER', sender.orgId);
  if (proposal.status !== 'open' || ctx.now >= proposal.closesMs) return refuse('PROPOSAL_CLOSED', proposal.status);
  const votes = state.list(voteEntry, statePrefix.votes(proposal.id), proposal.voters.length);
  if (votes.some((v) => v.orgId === sender.orgId)) return refuse('ALREADY_VOTED');
  const { personTag } = sender;
  // One person who administers two organisations has one voice.
  if (personTag !== null && votes.some((v) => v.personTag !== null && equalBytes(v.personTag, personTag))) {
    return refuse('PERSON_ALREADY_VOTED');
  }
  const given = { orgId: sender.orgId, account: sender.id, personTag, approve: call.approve, atMs: ctx.now };
  state.put(voteEntry, stateKey.vote(proposal.id, sender.orgId), given);
  emit(ctx, 'gov.vote', { objectId: proposal.id, detail: call.approve ? 'approve' : 'reject' });
  tally(ctx, proposal, [...votes, given]);
  return OK;
}

/** Accepts at a quorum of approvals, rejects once none can be reached. */
function tally(ctx: TxContext, proposal: ProposalEntry, votes: readonly { readonly approve: boolean }[]): void {
  const approvals = votes.filter((v) => v.approve).length;
  const rejections = votes.length - approvals;
  const quorum = quorumSize(proposal.voters.length);
  if (approvals >= quorum) accepted(ctx, proposal);
  else if (proposal.voters.length - rejections < quorum) concludeProposal(ctx, proposal, 'rejected', null);
}

function accepted(ctx: TxContext, proposal: ProposalEntry): void {
  const { state } = ctx;
  // The larger of the delays at opening and now: a vote that shortens the delay shortens it for those opened after.
  const effectiveMs = ctx.now + Math.max(proposal.delayMs, ctx.params.governanceDelayMs);
  state.delete(stateKey.deadline(proposal.closesMs, 'proposal', proposal.id));
  state.put(emptyEntry, stateKey.deadline(effectiveMs, 'activation', proposal.id), {});
  state.put(proposalEntry, stateKey.proposal(proposal.id), { ...proposal, status: 'accepted', effectiveMs });
  emit(ctx, 'gov.accepted', { objectId: proposal.id, detail: proposal.proposal.kind });
}

/** Nobody has decided on it in time, or custodians have not done in time what it takes. */
export function expireProposal(ctx: Context, id: Hash): void {
  if (proposalOf(ctx, id).status === 'open') return concludeProposal(ctx, id, 'expired', null);
  concludeProposal(ctx, id, 'failed', 'CUSTODY_NOT_PREPARED');
  abandonHandover(ctx, id, 'CUSTODY_NOT_PREPARED');
  serveCandidates(ctx);
}

/** Brings an accepted proposal into effect, or marks it failed where what it wanted is not possible any more. */
export function activateProposal(ctx: Context, id: Hash): void {
  const proposal = proposalOf(ctx, id);
  assert(proposal.status === 'accepted' && proposal.effectiveMs !== null, 'what takes effect was accepted');
  ctx.state.delete(stateKey.deadline(proposal.effectiveMs, 'activation', id));
  if (waitsForCustody(ctx, proposal.proposal)) return postpone(ctx, proposal);
  const possible = checkProposal(ctx, proposal.proposal, proposal.proposerOrg);
  if (!possible.ok) return concludeProposal(ctx, proposal, 'failed', possible.code);
  if (apply(ctx, proposal, proposal.proposal)) return concludeProposal(ctx, proposal, 'effective', null);
}

function postpone({ state, now }: Context, proposal: ProposalEntry): void {
  const effectiveMs = now + CUSTODY_DEAL_MS;
  state.put(emptyEntry, stateKey.deadline(effectiveMs, 'activation', proposal.id), {});
  state.put(proposalEntry, stateKey.proposal(proposal.id), { ...proposal, effectiveMs });
}

/** Decided, and not in effect yet: what is still to come is for others to bring. */
function awaitReady(ctx: Context, proposal: ProposalEntry): false {
  ctx.state.put(proposalEntry, stateKey.proposal(proposal.id), { ...proposal, status: 'awaitingReady' });
  emit(ctx, 'gov.awaitingReady', { objectId: proposal.id, detail: proposal.proposal.kind });
  return false;
}

export function failCandidacy(ctx: Context, id: Hash): void {
  const found = proposalOf(ctx, id);
  const { proposal } = found;
  assert(proposal.kind === 'addValidator', 'who becomes a validator is voted on');
  expireCandidacy(ctx, { ...found, proposal });
}

/** As `awaitReady`, and as long as a vote may take: whoever refuses new shares keeps other changes waiting no longer. */
function awaitHolders(ctx: Context, proposal: ProposalEntry): false {
  const closesMs = ctx.now + ctx.params.governanceTtlMs;
  ctx.state.put(emptyEntry, stateKey.deadline(closesMs, 'proposal', proposal.id), {});
  return awaitReady(ctx, { ...proposal, closesMs });
}

/** @returns whether it is in effect with that; else the proposal waits for a candidate or for custodians */
function apply(ctx: Context, of: ProposalEntry, proposal: Proposal): boolean {
  switch (proposal.kind) {
    case 'addOrganisation':
      addOrganisation(ctx, proposal, of.proposer);
      return true;
    case 'suspendOrganisation':
      setOrganisationStatus(ctx, proposal.orgId, 'suspended');
      return true;
    case 'reinstateOrganisation':
      setOrganisationStatus(ctx, proposal.orgId, 'active');
      return true;
    case 'setParams':
      ctx.state.put(paramsEntry, stateKey.params(), proposal.params);
      return true;
    case 'overrideCustody':
      overrideSession(ctx);
      return true;
    case 'setRecoveryKey':
      setRecoveryKey(ctx, of.id, proposal);
      return true;
    case 'endRecoveryKey':
      endRecoveryKey(ctx);
      return true;
    case 'refreshCustody':
      openRefresh(ctx, of);
      return awaitHolders(ctx, of);
    case 'addValidator':
      openCandidacy(ctx, of, proposal);
      return awaitReady(ctx, of);
    case 'removeValidator':
      return remove(ctx, of, proposal);
    default:
      applyMembership(ctx, proposal);
      return true;
  }
}

function remove(ctx: Context, of: ProposalEntry, proposal: Extract<Proposal, { kind: 'removeValidator' }>): boolean {
  if (hasHandovers(ctx)) {
    openRemoval(ctx, of, proposal.orgId);
    return awaitHolders(ctx, of);
  }
  applyMembership(ctx, proposal);
  followSet(ctx);
  return true;
}

function setOrganisationStatus({ state }: Context, orgId: string, status: OrganisationEntry['status']): void {
  const key = stateKey.organisation(orgId);
  state.put(organisationEntry, key, { ...state.must(organisationEntry, key, 'organisation'), status });
}

/** The first administrator's role never expires, as those of the genesis: who else could renew it? */
function addOrganisation(ctx: Context, proposal: AddOrganisation, proposer: Uint8Array): void {
  const { state, now } = ctx;
  const { orgId, name, custodianKey } = proposal;
  state.put(organisationEntry, stateKey.organisation(orgId), {
    orgId,
    name,
    status: 'active',
    custodianKey,
    sinceMs: now,
  });
  if (custodianKey !== null) claimKey(state, sm2Address(custodianKey), 'custodian', null);
  const admin = sm2Address(proposal.admin.publicKey);
  createAccount(state, admin, firstAdminEnrolment(proposal), { now, account: proposer });
  state.put(roleEntry, stateKey.role(admin, 'org_admin', orgId, null), {
    account: admin,
    role: 'org_admin',
    orgId,
    department: null,
    grantedMs: now,
    effectiveMs: now + ctx.params.roleCoolingMs,
    grantedBy: proposer,
    expiresAtMs: Number.MAX_SAFE_INTEGER,
  });
}
