/**
 * The custody session and the custody epoch as the state has them: who receives, who deals, opening and closing. What
 * moves a session on is in outcome.ts, what custodians say in it in steps.ts.
 */
import type { CurvePoint } from '../../common/crypto/curve.ts';
import { decodePublicPoint } from '../../common/crypto/public-arithmetic.ts';
import { type Dealing, type EncryptionKey, type Session, storedDealing } from '../../common/crypto/custody/dealing.ts';
import { assert } from '../../common/errors.ts';
import {
  custodyDealingEntry,
  type CustodyEpochEntry,
  custodyEpochEntry,
  type CustodyReceivers,
  type CustodySessionEntry,
  custodySessionEntry,
  custodySessionIdOf,
  custodySetHash,
  custodyThreshold,
} from '../../common/protocol/custody.ts';
import type { Hash, OrgId } from '../../common/protocol/primitives.ts';
import { emptyEntry, stateKey } from '../../common/protocol/state-entries.ts';
import { sortedValidatorSet, type ValidatorSet } from '../../common/protocol/validator-set.ts';
import { type Context, emit } from '../context.ts';
import { organisationOf } from '../organisations.ts';
import type { Overlay } from '../overlay.ts';

/** What opening a session takes: the genesis has no more. */
export type Place = Pick<Context, 'state' | 'chainId' | 'height' | 'now'>;

export const epochOf = (state: Overlay): CustodyEpochEntry | undefined =>
  state.get(custodyEpochEntry, stateKey.custodyEpoch());

export const sessionOf = (state: Overlay): CustodySessionEntry | undefined =>
  state.get(custodySessionEntry, stateKey.custodySession());

export const saveSession = ({ state }: Place, session: CustodySessionEntry): void =>
  state.put(custodySessionEntry, stateKey.custodySession(), session);

/** The custodians of a set, in the order of its indices; null where an organisation of it runs none. */
export function receiversOf(state: Overlay, set: ValidatorSet): CustodyReceivers | null {
  const receivers: { orgId: OrgId; custodianKey: Uint8Array }[] = [];
  for (const { orgId } of sortedValidatorSet(set)) {
    const custodianKey = organisationOf(state, orgId)?.custodianKey ?? null;
    if (custodianKey === null) return null;
    receivers.push({ orgId, custodianKey });
  }
  return receivers;
}

interface Opening {
  readonly receivers: CustodyReceivers;
  /** The vote that waits for it. */
  readonly proposalId: Hash | null;
}

/** The first key where no epoch is active, new shares of it where one is. There must be no session. */
export function openSession(place: Place, { receivers, proposalId }: Opening): CustodySessionEntry {
  const { state, chainId, height, now } = place;
  assert(sessionOf(state) === undefined, 'one custody session at a time');
  const before = epochOf(state);
  const kind = before === undefined ? 'genesis' : 'reshare';
  const epoch = (before?.epoch ?? 0) + 1;
  const setHash = custodySetHash(receivers);
  const session: CustodySessionEntry = {
    id: custodySessionIdOf({ chainId, kind, epoch, setHash, height, proposalId }),
    kind,
    epoch,
    phase: 'announce',
    threshold: custodyThreshold(receivers.length),
    receivers,
    keys: receivers.map(() => null),
    dealt: [],
    disqualified: [],
    falseAccusers: [],
    result: null,
    confirmed: [],
    override: false,
    openedHeight: height,
    openedMs: now,
    deadlineMs: null,
    proposalId,
  };
  saveSession(place, session);
  return session;
}

export function announceOpening(ctx: Context, { id, kind }: CustodySessionEntry): void {
  emit(ctx, 'custody.opened', { objectId: id, detail: kind });
}

/** Dealings go with it: what they were for is in the epoch, or void. */
export function removeSession({ state }: Place, session: CustodySessionEntry): void {
  for (const dealer of session.dealt) state.delete(stateKey.custodyDealing(session.id, dealer));
  if (session.deadlineMs !== null) state.delete(stateKey.deadline(session.deadlineMs, 'custodyDeal', session.id));
  state.delete(stateKey.custodySession());
}

/** @param reason code of why it comes to nothing */
export function closeSession(ctx: Context, session: CustodySessionEntry, reason: string): void {
  removeSession(ctx, session);
  emit(ctx, 'custody.closed', { objectId: session.id, detail: reason });
}

/** Another attempt for the same set, or for a new one, under an id of its own. */
export function replaceSession(
  ctx: Context,
  session: CustodySessionEntry,
  reason: string,
  receivers: CustodyReceivers | null = session.receivers,
): void {
  closeSession(ctx, session, reason);
  if (receivers === null) return;
  announceOpening(ctx, openSession(ctx, { receivers, proposalId: session.proposalId }));
}

/** With the deadline that phase `deal` has, in place of the one that it had. */
export function withDeadline(
  { state }: Place,
  session: CustodySessionEntry,
  deadlineMs: number | null,
): CustodySessionEntry {
  if (session.deadlineMs !== null) state.delete(stateKey.deadline(session.deadlineMs, 'custodyDeal', session.id));
  if (deadlineMs !== null) state.put(emptyEntry, stateKey.deadline(deadlineMs, 'custodyDeal', session.id), {});
  return { ...session, deadlineMs };
}

// ----------------------------------------------------------------------------------------------- as formulas see it

export const formulaSession = ({ id, receivers, threshold }: CustodySessionEntry): Session => ({
  id,
  n: receivers.length,
  t: threshold,
});

/** Index from 1 on; 0 where the organisation receives nothing. */
export const receiverIndex = ({ receivers }: CustodySessionEntry, org: OrgId): number =>
  receivers.findIndex(({ orgId }) => orgId === org) + 1;

/** Who deals: the receivers of a first key themselves, or the holders of the epoch that is handed on. */
export function dealersOf(state: Overlay, session: CustodySessionEntry): readonly OrgId[] {
  if (session.kind === 'genesis') return session.receivers.map(({ orgId }) => orgId);
  return requireEpoch(state).holders.map(({ orgId }) => orgId);
}

/** How many dealers it takes. */
export const dealersNeeded = (state: Overlay, session: CustodySessionEntry): number =>
  session.kind === 'genesis' ? session.threshold : requireEpoch(state).threshold;

export function requireEpoch(state: Overlay): CustodyEpochEntry {
  const epoch = epochOf(state);
  assert(epoch !== undefined, 'shares are handed on by the holders of an epoch');
  return epoch;
}

/** A point that was checked before it was stored. */
export function storedPoint(bytes: Uint8Array | null | undefined): CurvePoint {
  const point = bytes instanceof Uint8Array ? decodePublicPoint(bytes) : undefined;
  assert(point !== undefined, 'a stored point was checked');
  return point;
}

export const encryptionKey = ({ keys }: CustodySessionEntry, index: number): EncryptionKey => ({
  index,
  P: storedPoint(keys[index - 1]),
});

export function dealingOf(state: Overlay, session: CustodySessionEntry, dealer: number): Dealing {
  const { dealing } = state.must(custodyDealingEntry, stateKey.custodyDealing(session.id, dealer), 'dealing');
  return storedDealing(formulaSession(session), dealing);
}
