/**
 * The last step of a new validator: once its vote has taken effect, it has `readyTtlMs` to show that it is in step. It
 * does so by a transaction of its own node that names a recent height and the state root after it, which only who has
 * executed the chain knows. Judged by the chain alone, never by what some node has heard: a candidate that is down, or
 * behind, stays an observer, and the quorum does not grow by a vote that nobody gives.
 *
 * Once a custody epoch is active, it comes in together with the next one, in which its custodian holds a share.
 */
import { equalBytes } from '../common/bytes.ts';
import type { Verdict } from '../common/errors.ts';
import type { Hash } from '../common/protocol/primitives.ts';
import {
  type CandidateEntry,
  candidateEntry,
  emptyEntry,
  type ProposalEntry,
  READY_WINDOW_BLOCKS,
  recentRootsEntry,
  stateKey,
} from '../common/protocol/state-entries.ts';
import type { CallOf, Proposal } from '../common/protocol/transaction.ts';
import { refuse } from './codes.ts';
import { type Context, count, counted, emit, type NodeContext, OK } from './context.ts';
import { abandonHandover, activate, followSet, preparedHandover, serveCandidates } from './custody/handover.ts';
import { checkPromotion, promote } from './membership.ts';
import { concludeProposal } from './proposals.ts';

type AddValidator = Extract<Proposal, { readonly kind: 'addValidator' }>;

/** Called when the public delay of its proposal is over. @returns until when the candidate has time */
export function openCandidacy(ctx: Context, { id }: ProposalEntry, { orgId, address }: AddValidator): void {
  const { state } = ctx;
  const untilMs = ctx.now + ctx.params.readyTtlMs;
  const candidate = { orgId, proposalId: id, sinceHeight: ctx.height, untilMs };
  state.put(candidateEntry, stateKey.candidate(address), candidate);
  state.put(emptyEntry, stateKey.deadline(untilMs, 'candidacy', id), {});
  count(state, stateKey.openCandidacies(), 1);
  serveCandidates(ctx);
}

function closeCandidacy({ state }: Context, address: Uint8Array, { untilMs, proposalId }: CandidateEntry): void {
  state.delete(stateKey.candidate(address));
  state.delete(stateKey.deadline(untilMs, 'candidacy', proposalId));
  count(state, stateKey.openCandidacies(), -1);
  if (counted(state, stateKey.openCandidacies()) === 0) state.delete(stateKey.recentRoots());
}

/** Time is up: the observer stays one. */
export function expireCandidacy(ctx: Context, proposal: ProposalEntry & { readonly proposal: AddValidator }): void {
  const { address } = proposal.proposal;
  const candidate = ctx.state.must(candidateEntry, stateKey.candidate(address), 'candidate of a deadline');
  closeCandidacy(ctx, address, candidate);
  concludeProposal(ctx, proposal, 'failed', 'CANDIDATE_NOT_READY');
  abandonHandover(ctx, proposal.id, 'CANDIDATE_NOT_READY');
  serveCandidates(ctx);
}

/**
 * Keeps the roots that a candidate can name. Called at the start of each block, since only then the root after the block
 * before it is known; costs one look at a counter while no candidacy is open.
 * @param parentRoot state root of the block before this one
 */
export function rememberRoot({ state, height }: Context, parentRoot: Hash): void {
  if (counted(state, stateKey.openCandidacies()) === 0) return;
  const kept = state.get(recentRootsEntry, stateKey.recentRoots());
  const roots = [...(kept?.roots ?? []), parentRoot].slice(-READY_WINDOW_BLOCKS);
  state.put(recentRootsEntry, stateKey.recentRoots(), { fromHeight: height - roots.length, roots });
}

function isInStep({ state }: Context, { height, stateRoot }: CallOf<'node.ready'>): Verdict {
  const kept = state.get(recentRootsEntry, stateKey.recentRoots());
  const root = kept?.roots[height - kept.fromHeight];
  if (root === undefined) return refuse('READY_NOT_RECENT', `${height}`);
  return equalBytes(root, stateRoot) ? OK : refuse('READY_WRONG_STATE', `${height}`);
}

/** The candidate's word. From the next height on it is a validator. */
export function ready(ctx: NodeContext, call: CallOf<'node.ready'>): Verdict {
  const { address, orgId } = ctx.node.member;
  const candidate = ctx.state.get(candidateEntry, stateKey.candidate(address));
  if (candidate === undefined) return refuse('NOT_A_CANDIDATE', orgId);
  const inStep = isInStep(ctx, call);
  if (!inStep.ok) return inStep;
  const possible = checkPromotion(ctx, { orgId, address });
  if (!possible.ok) return possible;
  const handover = preparedHandover(ctx, candidate.proposalId);
  if (!handover.ok) return handover;
  closeCandidacy(ctx, address, candidate);
  promote(ctx, address);
  emit(ctx, 'node.ready', { objectId: candidate.proposalId });
  concludeProposal(ctx, candidate.proposalId, 'effective', null);
  if (handover.value === null) followSet(ctx);
  else activate(ctx, handover.value);
  serveCandidates(ctx);
  return OK;
}
