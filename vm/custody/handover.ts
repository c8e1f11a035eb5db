/**
 * Custody and membership: who holds shares is who validates, and both change at one height. While no epoch is active,
 * membership goes its own way, and the session for the first key follows it. Once one is, a new validator or the leaving
 * of one waits until the custodians of the set that will be have their shares.
 */
import { equalBytes } from '../../common/bytes.ts';
import { accept, assert, type Verdict } from '../../common/errors.ts';
import {
  type CustodyEpochEntry,
  custodyEpochEntry,
  type CustodyReceivers,
  type CustodySessionEntry,
} from '../../common/protocol/custody.ts';
import { type Hash, MAX_OBSERVERS, type OrgId } from '../../common/protocol/primitives.ts';
import {
  candidateEntry,
  emptyEntry,
  observerEntry,
  type ProposalEntry,
  stateKey,
  statePrefix,
} from '../../common/protocol/state-entries.ts';
import type { Proposal } from '../../common/protocol/transaction.ts';
import { refuse } from '../codes.ts';
import { type Context, emit } from '../context.ts';
import { applyMembership, checkMembership, checkPromotion } from '../membership.ts';
import { CUSTODY_REFRESH_MS, CUSTODY_REFRESH_RETRY_MS } from '../limits.ts';
import { validatorsOf } from '../members.ts';
import { concludeProposal, proposalOf } from '../proposals.ts';
import {
  announceOpening,
  closeSession,
  epochOf,
  openSession,
  receiversOf,
  removeSession,
  replaceSession,
  requireEpoch,
  saveSession,
  sessionOf,
} from './session.ts';

/** A change of the set that is due while shares are on their way waits for its turn. */
export const waitsForCustody = ({ state }: Context, { kind }: Proposal): boolean =>
  (kind === 'addValidator' || kind === 'removeValidator') &&
  epochOf(state) !== undefined &&
  sessionOf(state) !== undefined;

/** Whether a change of the set takes new shares first. */
export const hasHandovers = ({ state }: Context): boolean => epochOf(state) !== undefined;

/** The set has changed while no epoch is active: the first key is made by those who hold it then. */
export function followSet(ctx: Context): void {
  const { state } = ctx;
  if (epochOf(state) !== undefined) return;
  const receivers = receiversOf(state, validatorsOf(state));
  const session = sessionOf(state);
  if (session !== undefined) replaceSession(ctx, session, 'SET_CHANGED', receivers);
  else if (receivers !== null) announceOpening(ctx, openSession(ctx, { receivers, proposalId: null }));
}

/** New shares for the same holders. */
export function openRefresh(ctx: Context, { id }: ProposalEntry): void {
  announceOpening(ctx, openSession(ctx, { ...holdersNow(ctx), proposalId: id }));
}

/** New shares for the set without one, who may deal once more; it leaves when the others have them. */
export function openRemoval(ctx: Context, { id }: ProposalEntry, leaving: OrgId): void {
  const left = validatorsOf(ctx.state).filter(({ orgId }) => orgId !== leaving);
  const receivers = receiversOf(ctx.state, left);
  assert(receivers !== null, 'every holder of an epoch runs a custodian');
  announceOpening(ctx, openSession(ctx, { receivers, proposalId: id }));
}

/** Opens the session of the next candidate that has none: of those from before the first epoch there may be several. */
export function serveCandidates(ctx: Context): void {
  const { state } = ctx;
  if (epochOf(state) === undefined || sessionOf(state) !== undefined) return;
  for (const { proposalId } of state.list(candidateEntry, statePrefix.candidates(), MAX_OBSERVERS)) {
    const { proposal } = proposalOf(ctx, proposalId);
    assert(proposal.kind === 'addValidator', 'who becomes a validator is voted on');
    const observer = state.get(observerEntry, stateKey.observer(proposal.address));
    if (observer === undefined || !checkPromotion(ctx, proposal).ok) continue;
    const receivers = receiversOf(state, [...validatorsOf(state), observer]);
    if (receivers === null) continue;
    return announceOpening(ctx, openSession(ctx, { receivers, proposalId }));
  }
}

/** Nothing comes of the vote: what its custodians have done for it is void. */
export function abandonHandover(ctx: Context, proposalId: Hash, reason: string): void {
  const session = sessionOf(ctx.state);
  if (session === undefined || session.proposalId === null || !equalBytes(session.proposalId, proposalId)) return;
  closeSession(ctx, session, reason);
}

/** Of a candidate's vote: the session whose receivers all have their shares; null while no epoch is active. */
export function preparedHandover({ state }: Context, proposalId: Hash): Verdict<CustodySessionEntry | null> {
  if (epochOf(state) === undefined) return accept(null);
  const session = sessionOf(state);
  const isIts = session !== undefined && session.proposalId !== null && equalBytes(session.proposalId, proposalId);
  return isIts && session.phase === 'prepared' ? accept(session) : refuse('CUSTODY_NOT_PREPARED');
}

/** From the next transaction on, the session's receivers are the holders. */
export function activate(ctx: Context, session: CustodySessionEntry): void {
  const { result } = session;
  assert(result !== null, 'who has confirmed has confirmed a result');
  const before = epochOf(ctx.state);
  if (before !== undefined) forgetRefresh(ctx, before);
  planRefresh(ctx, {
    epoch: session.epoch,
    sessionId: session.id,
    key: result.key,
    threshold: session.threshold,
    holders: session.receivers.map(({ orgId }, k) => ({ orgId, share: result.shares[k] as Uint8Array })),
    sinceHeight: ctx.height,
    sinceMs: ctx.now,
    refreshMs: ctx.now + CUSTODY_REFRESH_MS,
  });
  removeSession(ctx, session);
  emit(ctx, 'custody.active', { objectId: session.id, detail: session.kind });
}

/** All receivers have their shares: what the session is for takes effect, or waits for the candidate's word. */
export function fulfilHandover(ctx: Context, session: CustodySessionEntry): void {
  const vote = session.proposalId === null ? null : proposalOf(ctx, session.proposalId);
  if (vote?.proposal.kind === 'addValidator') {
    saveSession(ctx, { ...session, phase: 'prepared' });
    return emit(ctx, 'custody.prepared', { objectId: session.id });
  }
  if (vote?.proposal.kind === 'removeValidator') {
    const possible = checkMembership(ctx, vote.proposal, vote.proposerOrg);
    if (!possible.ok) {
      closeSession(ctx, session, possible.code);
      concludeProposal(ctx, vote, 'failed', possible.code);
      return serveCandidates(ctx);
    }
    applyMembership(ctx, vote.proposal);
  }
  activate(ctx, session);
  if (vote !== null) concludeProposal(ctx, vote, 'effective', null);
  serveCandidates(ctx);
}

// ------------------------------------------------------------------------------------------------------- on schedule

function forgetRefresh({ state }: Context, { refreshMs, sessionId }: CustodyEpochEntry): void {
  state.delete(stateKey.deadline(refreshMs, 'custodyRefresh', sessionId));
}

function planRefresh({ state }: Context, epoch: CustodyEpochEntry): void {
  state.put(custodyEpochEntry, stateKey.custodyEpoch(), epoch);
  state.put(emptyEntry, stateKey.deadline(epoch.refreshMs, 'custodyRefresh', epoch.sessionId), {});
}

/** Nobody voted for it: the age of the epoch did. */
const isScheduled = ({ kind, proposalId }: CustodySessionEntry): boolean => kind === 'reshare' && proposalId === null;

/**
 * The epoch is old: new shares for its holders. Its custodians have a day for it; then it gives way to whatever else waits
 * for a session, and is tried again a day later. A session of a vote goes first.
 */
export function passRefresh(ctx: Context): void {
  const epoch = requireEpoch(ctx.state);
  forgetRefresh(ctx, epoch);
  planRefresh(ctx, { ...epoch, refreshMs: ctx.now + CUSTODY_REFRESH_RETRY_MS });
  const session = sessionOf(ctx.state);
  if (session === undefined) return announceOpening(ctx, openSession(ctx, { ...holdersNow(ctx), proposalId: null }));
  if (!isScheduled(session)) return;
  closeSession(ctx, session, 'CUSTODY_NOT_PREPARED');
  serveCandidates(ctx);
}

function holdersNow({ state }: Context): { readonly receivers: CustodyReceivers } {
  const receivers = receiversOf(state, validatorsOf(state));
  assert(receivers !== null, 'every holder of an epoch runs a custodian');
  return { receivers };
}
