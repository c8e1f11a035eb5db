/** How a proposal ends; what becomes of it before is in governance.ts and candidacies.ts. */
import type { Hash } from '../common/protocol/primitives.ts';
import { type ProposalEntry, proposalEntry, stateKey } from '../common/protocol/state-entries.ts';
import { type Context, count, emit } from './context.ts';

/** @param reason code of what stood against it; null unless it failed */
export function concludeProposal(
  ctx: Context,
  of: ProposalEntry | Hash,
  status: 'rejected' | 'expired' | 'effective' | 'failed',
  reason: string | null,
): void {
  const proposal = of instanceof Uint8Array ? proposalOf(ctx, of) : of;
  ctx.state.delete(stateKey.deadline(proposal.closesMs, 'proposal', proposal.id));
  ctx.state.put(proposalEntry, stateKey.proposal(proposal.id), { ...proposal, status, reason });
  count(ctx.state, stateKey.openProposals(proposal.proposerOrg), -1);
  emit(ctx, `gov.${status}`, { objectId: proposal.id, detail: proposal.proposal.kind });
}

export const proposalOf = (ctx: Context, id: Hash): ProposalEntry =>
  ctx.state.must(proposalEntry, stateKey.proposal(id), 'proposal of a deadline');
