/**
 * Whose nodes belong to the network: observers come in by vote, an observer becomes its organisation's validator by
 * another vote and by showing on chain that it is in step, and members leave or change their keys by vote. The header of
 * the block that changes the set names the new one; the next block is the first that it certifies.
 *
 * What must not go in: the votes themselves (governance.ts).
 */
import { compareBytes, equalBytes } from '../common/bytes.ts';
import { isPublicKey } from '../common/crypto/curve.ts';
import { sm2Address } from '../common/crypto/sm2.ts';
import { assert, type Verdict } from '../common/errors.ts';
import type { NodeCard } from '../common/protocol/member.ts';
import { type Address, MAX_OBSERVERS, MAX_VALIDATORS, type OrgId } from '../common/protocol/primitives.ts';
import {
  candidateEntry,
  counterEntry,
  diallingEntry,
  observerEntry,
  peerEntry,
  stateKey,
  statePrefix,
  tenureEntry,
  validatorsEntry,
} from '../common/protocol/state-entries.ts';
import type { Proposal } from '../common/protocol/transaction.ts';
import {
  MIN_VALIDATORS,
  quorumSize,
  sortedValidatorSet,
  type Validator,
  type ValidatorSet,
} from '../common/protocol/validator-set.ts';
import { refuse } from './codes.ts';
import { type Context, count, OK } from './context.ts';
import { epochOf } from './custody/session.ts';
import { claimKey, unusedKey } from './keys.ts';
import { membershipOf, validatorsOf } from './members.ts';
import { organisationOf } from './organisations.ts';
import type { Overlay } from './overlay.ts';

export type MembershipProposal = Extract<
  Proposal,
  {
    readonly kind: 'admitObserver' | 'addValidator' | 'removeValidator' | 'removeObserver' | 'rotateMember';
  }
>;
type ProposalOf<K extends MembershipProposal['kind']> = Extract<MembershipProposal, { readonly kind: K }>;

/** As many organisations of a set as its quorum takes must be active, or no vote could ever undo anything. */
export function canGovern(state: Overlay, set: ValidatorSet, without?: OrgId): boolean {
  const voters = set.filter(({ orgId }) => orgId !== without && organisationOf(state, orgId)?.status === 'active');
  return voters.length >= quorumSize(set.length);
}

// ------------------------------------------------------------------------------------------------------- judging

/** @param proposerOrg whose administrator asks: only an organisation itself changes the key of its validator */
export function checkMembership(ctx: Context, proposal: MembershipProposal, proposerOrg: OrgId): Verdict {
  switch (proposal.kind) {
    case 'admitObserver':
      return checkAdmission(ctx, proposal.card);
    case 'addValidator':
      return checkPromotion(ctx, proposal);
    case 'removeValidator':
      return checkRemoval(ctx, proposal.orgId);
    case 'removeObserver':
      return observerOf(ctx, proposal) === undefined ? refuse('OBSERVER_UNKNOWN') : OK;
    case 'rotateMember':
      return checkRotation(ctx, proposal, proposerOrg);
  }
}

function observerOf(
  { state }: Context,
  of: { readonly orgId: OrgId; readonly address: Address },
): Validator | undefined {
  const found = state.get(observerEntry, stateKey.observer(of.address));
  return found?.orgId === of.orgId ? found : undefined;
}

/** Key and peer id must be free, unless they are those of `replaced`. */
function checkCard({ state }: Context, card: NodeCard, replaced: Validator | null): Verdict {
  const org = organisationOf(state, card.orgId);
  if (org === undefined) return refuse('ORG_UNKNOWN', card.orgId);
  if (org.status !== 'active') return refuse('ORG_NOT_ACTIVE', card.orgId);
  if (!isPublicKey(card.publicKey)) return refuse('BAD_KEY');
  const keeps = replaced !== null && equalBytes(replaced.publicKey, card.publicKey);
  const key = unusedKey(state, card.publicKey);
  if (!keeps && !key.ok) return key;
  const peer = state.get(peerEntry, stateKey.peer(card.peerId));
  if (peer !== undefined && (replaced === null || !equalBytes(peer.address, replaced.address))) {
    return refuse('PEER_ID_ALREADY_USED');
  }
  const own = card.addresses.every((address) => address.endsWith(`/p2p/${card.peerId}`));
  return own ? OK : refuse('BAD_MEMBER_ADDRESS');
}

function checkAdmission(ctx: Context, card: NodeCard): Verdict {
  const checked = checkCard(ctx, card, null);
  if (!checked.ok) return checked;
  const observers = ctx.state.list(observerEntry, statePrefix.observers(), MAX_OBSERVERS);
  return observers.length < MAX_OBSERVERS ? OK : refuse('TOO_MANY_OBSERVERS', `${MAX_OBSERVERS}`);
}

/** Judged when proposed, when the delay is over, and once more when the candidate is ready. */
export function checkPromotion(
  ctx: Context,
  { orgId, address }: { readonly orgId: OrgId; readonly address: Address },
): Verdict {
  const { state } = ctx;
  const observer = observerOf(ctx, { orgId, address });
  if (observer === undefined) return refuse('OBSERVER_UNKNOWN', orgId);
  const org = organisationOf(state, orgId);
  if (org?.status !== 'active') return refuse('ORG_NOT_ACTIVE', orgId);
  if (epochOf(state) !== undefined && org.custodianKey === null) return refuse('CUSTODIAN_REQUIRED', orgId);
  const set = validatorsOf(state);
  if (set.some((v) => v.orgId === orgId)) return refuse('ORG_HAS_VALIDATOR', orgId);
  if (set.length >= MAX_VALIDATORS) return refuse('TOO_MANY_VALIDATORS', `${MAX_VALIDATORS}`);
  return canGovern(state, [...set, observer]) ? OK : refuse('GOVERNANCE_WOULD_STALL');
}

function checkRemoval({ state }: Context, orgId: OrgId): Verdict {
  const set = validatorsOf(state);
  const left = set.filter((v) => v.orgId !== orgId);
  if (left.length === set.length) return refuse('VALIDATOR_UNKNOWN', orgId);
  if (left.length < MIN_VALIDATORS) return refuse('SET_TOO_SMALL', `${left.length}`);
  return canGovern(state, left) ? OK : refuse('GOVERNANCE_WOULD_STALL');
}

function checkRotation(ctx: Context, { address, card }: ProposalOf<'rotateMember'>, proposerOrg: OrgId): Verdict {
  const found = membershipOf(ctx.state, address);
  if (found === undefined || found.member.orgId !== card.orgId) return refuse('MEMBER_UNKNOWN', card.orgId);
  // Or a quorum could put a key of its own in the place of another's.
  if (found.role === 'validator' && proposerOrg !== card.orgId) return refuse('NOT_YOUR_ORGANISATION', card.orgId);
  if (ctx.state.get(candidateEntry, stateKey.candidate(address)) !== undefined) return refuse('CANDIDACY_OPEN');
  return checkCard(ctx, card, found.member);
}

// -------------------------------------------------------------------------------------------------------- effects

/** What a vote brings about at once. `addValidator` only opens a candidacy (candidacies.ts). */
export function applyMembership(ctx: Context, proposal: Exclude<MembershipProposal, ProposalOf<'addValidator'>>): void {
  const { state } = ctx;
  switch (proposal.kind) {
    case 'admitObserver': {
      const { card } = proposal;
      const member = memberOf(card);
      claimKey(state, member.address, 'observer', null);
      state.put(observerEntry, stateKey.observer(member.address), member);
      return enter(ctx, member, card);
    }
    case 'removeValidator': {
      const set = validatorsOf(state);
      const leaving = set.find((v) => v.orgId === proposal.orgId);
      assert(leaving !== undefined, 'a validator that leaves was one');
      setValidators(
        ctx,
        set.filter((v) => v !== leaving),
      );
      return leave(ctx, leaving);
    }
    case 'removeObserver': {
      const leaving = observerOf(ctx, proposal);
      assert(leaving !== undefined, 'an observer that leaves was one');
      state.delete(stateKey.observer(leaving.address));
      return leave(ctx, leaving);
    }
    case 'rotateMember':
      return rotate(ctx, proposal);
  }
}

/** Of a candidate that is ready. */
export function promote(ctx: Context, address: Address): void {
  const observer = ctx.state.must(observerEntry, stateKey.observer(address), 'observer that is promoted');
  ctx.state.delete(stateKey.observer(address));
  claimKey(ctx.state, address, 'validator', null);
  setValidators(ctx, [...validatorsOf(ctx.state), observer]);
}

function rotate(ctx: Context, { address, card }: ProposalOf<'rotateMember'>): void {
  const { state } = ctx;
  const found = membershipOf(state, address);
  assert(found !== undefined, 'a member that changes its key is one');
  const { member: before, role } = found;
  const after = memberOf(card);
  leave(ctx, before);
  if (role === 'observer') {
    state.delete(stateKey.observer(before.address));
    state.put(observerEntry, stateKey.observer(after.address), after);
  } else {
    setValidators(
      ctx,
      validatorsOf(state).map((v) => (v === before ? after : v)),
    );
  }
  claimKey(state, after.address, role, null);
  enter(ctx, after, card);
}

const memberOf = ({ orgId, publicKey, peerId }: NodeCard): Validator => ({
  orgId,
  publicKey,
  address: sm2Address(publicKey),
  peerId,
});

function enter(ctx: Context, member: Validator, card: NodeCard): void {
  const { state } = ctx;
  state.put(peerEntry, stateKey.peer(member.peerId), { address: member.address });
  if (card.addresses.length > 0) {
    state.put(diallingEntry, stateKey.dialling(member.address), { addresses: card.addresses });
  }
  changed(ctx);
}

/** The key stays in the index of used keys: who was voted out comes back with another. */
function leave(ctx: Context, member: Validator): void {
  ctx.state.delete(stateKey.peer(member.peerId));
  ctx.state.delete(stateKey.dialling(member.address));
  changed(ctx);
}

const changed = ({ state }: Context): void => count(state, stateKey.membership(), 1);

/** Certifies from the next height on. */
function setValidators(ctx: Context, members: ValidatorSet): void {
  const { state, height } = ctx;
  const before = validatorsOf(state);
  const after = sortedValidatorSet(members);
  const without = (set: ValidatorSet, other: ValidatorSet): Validator[] =>
    set.filter((v) => !other.some((o) => compareBytes(o.address, v.address) === 0));
  for (const { address } of without(before, after)) {
    const tenure = state.must(tenureEntry, stateKey.tenure(address), 'tenure of a validator');
    state.put(tenureEntry, stateKey.tenure(address), { ...tenure, untilHeight: height });
  }
  for (const { address, orgId } of without(after, before)) {
    state.put(tenureEntry, stateKey.tenure(address), { orgId, fromHeight: height + 1, untilHeight: null });
  }
  state.put(validatorsEntry, stateKey.validators(), after);
  changed(ctx);
}

/** The members of the genesis. */
export function foundMembership(state: Overlay, validators: ValidatorSet, observers: readonly Validator[]): void {
  state.put(validatorsEntry, stateKey.validators(), sortedValidatorSet(validators));
  for (const { address, orgId } of validators) {
    claimKey(state, address, 'validator', null);
    // The first height that anybody certifies; the genesis is known by its hash.
    state.put(tenureEntry, stateKey.tenure(address), { orgId, fromHeight: 1, untilHeight: null });
  }
  for (const observer of observers) {
    claimKey(state, observer.address, 'observer', null);
    state.put(observerEntry, stateKey.observer(observer.address), observer);
  }
  for (const { peerId, address } of [...validators, ...observers]) {
    state.put(peerEntry, stateKey.peer(peerId), { address });
  }
  state.put(counterEntry, stateKey.membership(), { value: 1 });
}
