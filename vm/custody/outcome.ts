/**
 * What becomes of a custody session: from phase to phase by what has been said in it, never by a clock of anybody's, up
 * to the epoch that it makes (custody protocol, sections 12.1 and 12.2). A session never ends for lateness: it waits.
 */
import { equalBytes } from '../../common/bytes.ts';
import { encodePoint } from '../../common/crypto/curve.ts';
import { generatedKey, resharedKey, type SharedKey } from '../../common/crypto/custody/shared-key.ts';
import { assert, type Verdict } from '../../common/errors.ts';
import { type CustodySessionEntry, NOBODYS_KEY } from '../../common/protocol/custody.ts';
import type { Hash } from '../../common/protocol/primitives.ts';
import { type Context, emit } from '../context.ts';
import { CUSTODY_DEAL_MS } from '../limits.ts';
import { fulfilHandover } from './handover.ts';
import {
  dealersNeeded,
  dealersOf,
  dealingOf,
  formulaSession,
  replaceSession,
  requireEpoch,
  saveSession,
  sessionOf,
  storedPoint,
  withDeadline,
} from './session.ts';

/** Of the receivers, those that are there: absent ones were given a key that nobody knows. */
const present = ({ keys }: CustodySessionEntry): number =>
  keys.filter((key) => key !== null && !equalBytes(key, NOBODYS_KEY)).length;

const qualifiedOf = ({ dealt, disqualified }: CustodySessionEntry): readonly number[] =>
  dealt.filter((dealer) => !disqualified.includes(dealer));

/** Stores the session and moves it on as far as what has been said carries it. */
export function advance(ctx: Context, session: CustodySessionEntry): void {
  switch (session.phase) {
    case 'announce':
      return advanceAnnounce(ctx, session);
    case 'deal':
      return advanceDeal(ctx, session, false);
    case 'confirm':
      return advanceConfirm(ctx, session);
    case 'prepared':
      return saveSession(ctx, session);
  }
}

/** A vote lets one phase go on without those that are missing, and is used up by that. */
function advanceAnnounce(ctx: Context, session: CustodySessionEntry): void {
  const isComplete = present(session) === session.receivers.length;
  if (!isComplete && !(session.override && present(session) >= session.threshold)) return saveSession(ctx, session);
  const keys = session.keys.map((key) => key ?? NOBODYS_KEY);
  const override = session.override && isComplete;
  startDealing(ctx, { ...session, keys, override });
}

function startDealing(ctx: Context, session: CustodySessionEntry): void {
  saveSession(ctx, withDeadline(ctx, { ...session, phase: 'deal' }, ctx.now + CUSTODY_DEAL_MS));
  emit(ctx, 'custody.dealing', { objectId: session.id });
}

/** @param isLate the deadline has passed: who has not dealt is not waited for, if there are enough without */
function advanceDeal(ctx: Context, session: CustodySessionEntry, isLate: boolean): void {
  const dealers = dealersOf(ctx.state, session).length;
  const needed = dealersNeeded(ctx.state, session);
  if (dealers - session.disqualified.length < needed) return replaceSession(ctx, session, 'TOO_FEW_DEALERS');
  const enough = qualifiedOf(session).length >= needed;
  if (enough && (isLate || session.dealt.length === dealers)) return finalise(ctx, session);
  saveSession(ctx, isLate ? withDeadline(ctx, session, ctx.now + CUSTODY_DEAL_MS) : session);
}

export function passDealDeadline(ctx: Context, id: Hash): void {
  const session = sessionOf(ctx.state);
  // Something before it in this block closed the session, or moved it on.
  if (session === undefined || !equalBytes(session.id, id) || session.deadlineMs === null) return;
  if (session.deadlineMs <= ctx.now) advanceDeal(ctx, session, true);
}

function sharedKeyOf({ state }: Context, session: CustodySessionEntry): Verdict<SharedKey> {
  const dealings = qualifiedOf(session).map((dealer) => dealingOf(state, session, dealer));
  if (session.kind === 'genesis') return generatedKey(formulaSession(session), dealings);
  const { threshold, key } = requireEpoch(state);
  return resharedKey(formulaSession(session), dealings, threshold, storedPoint(key));
}

/** What the qualified dealings add up to is the same for everybody; whoever had confirmed another sum confirms again. */
function finalise(ctx: Context, session: CustodySessionEntry): void {
  const shared = sharedKeyOf(ctx, session);
  // A receiver that deals last can bring about that its own public share is O: then once more, with other dealings.
  if (!shared.ok) return replaceSession(ctx, session, shared.code);
  const { X, holders } = shared.value;
  const result = { key: encodePoint(X), shares: holders.map(encodePoint) };
  saveSession(ctx, withDeadline(ctx, { ...session, phase: 'confirm', result, confirmed: [] }, null));
  emit(ctx, 'custody.confirming', { objectId: session.id });
}

function advanceConfirm(ctx: Context, session: CustodySessionEntry): void {
  const { confirmed, override, threshold } = session;
  const isComplete = confirmed.length === present(session) || (override && confirmed.length >= threshold);
  if (!isComplete) return saveSession(ctx, session);
  fulfilHandover(ctx, session);
}

/** Whether the phase is one that a vote can let go on. */
export const waitsForReceivers = ({ phase }: CustodySessionEntry): boolean =>
  phase === 'announce' || phase === 'confirm';

/** By vote: the phase that waits for receivers goes on without those that are missing, once a threshold is there. */
export function overrideSession(ctx: Context): void {
  const session = sessionOf(ctx.state);
  assert(session !== undefined, 'a vote about a session is judged before it takes effect');
  emit(ctx, 'custody.overridden', { objectId: session.id });
  advance(ctx, { ...session, override: true });
}

/** A complaint has proven this dealer false: the key is made without it. */
export function disqualify(ctx: Context, session: CustodySessionEntry, dealer: number): void {
  const disqualified = [...session.disqualified, dealer].sort((a, b) => a - b);
  const without: CustodySessionEntry = { ...session, disqualified, result: null, confirmed: [] };
  const orgId = dealersOf(ctx.state, session)[dealer - 1];
  emit(ctx, 'custody.disqualified', { objectId: session.id, ...(orgId !== undefined && { orgId }) });
  if (session.phase === 'deal') return advanceDeal(ctx, without, false);
  // As if the deadline passed once more: with enough dealers at once, else those that were late have another chance.
  advanceDeal(ctx, { ...without, phase: 'deal' }, true);
}
