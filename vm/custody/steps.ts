/**
 * What custodians say in a custody session, each through the node of its organisation: the key that its parts are
 * encrypted to, a dealing, a complaint, that it has its share. Everything is checked here, by public data alone.
 */
import { equalBytes } from '../../common/bytes.ts';
import { decodePublicPoint } from '../../common/crypto/public-arithmetic.ts';
import { checkDealing, checkEncryptionKey, judge, parseComplaint } from '../../common/crypto/custody/dealing.ts';
import { checkShareProof } from '../../common/crypto/custody/shared-key.ts';
import { accept, type Verdict } from '../../common/errors.ts';
import { custodyDealingEntry, type CustodySessionEntry, NOBODYS_KEY } from '../../common/protocol/custody.ts';
import type { Hash } from '../../common/protocol/primitives.ts';
import { candidateEntry, stateKey } from '../../common/protocol/state-entries.ts';
import type { CallOf } from '../../common/protocol/transaction.ts';
import { refuse } from '../codes.ts';
import { emit, type NodeContext, OK } from '../context.ts';
import { advance, disqualify } from './outcome.ts';
import {
  dealersOf,
  dealingOf,
  encryptionKey,
  formulaSession,
  receiverIndex,
  requireEpoch,
  saveSession,
  sessionOf,
  storedPoint,
} from './session.ts';

const ascending = (indices: readonly number[], one: number): readonly number[] =>
  [...indices, one].sort((a, b) => a - b);

/** Which node an organisation's custodian speaks by: its validator, or the observer that is about to be one. */
function speaks({ state, node }: NodeContext): boolean {
  return node.role === 'validator' || state.get(candidateEntry, stateKey.candidate(node.member.address)) !== undefined;
}

function openNow({ state }: NodeContext, id: Hash): Verdict<CustodySessionEntry> {
  const session = sessionOf(state);
  return session !== undefined && equalBytes(session.id, id) ? accept(session) : refuse('CUSTODY_SESSION_UNKNOWN');
}

interface Speaking {
  readonly session: CustodySessionEntry;
  /** Index of the receiver. */
  readonly index: number;
}

/** The session in one of these phases, and the receiver that the node speaks for. */
function asReceiver(ctx: NodeContext, id: Hash, phases: readonly CustodySessionEntry['phase'][]): Verdict<Speaking> {
  const session = openNow(ctx, id);
  if (!session.ok) return session;
  const { orgId } = ctx.node.member;
  const index = receiverIndex(session.value, orgId);
  if (index === 0 || !speaks(ctx)) return refuse('CUSTODY_NOT_RECEIVER', orgId);
  if (!phases.includes(session.value.phase)) return refuse('CUSTODY_WRONG_PHASE', session.value.phase);
  return accept({ session: session.value, index });
}

/** That `custodianKey` signed it is an obligation. */
export function announceKey(ctx: NodeContext, call: CallOf<'node.custodyAnnounce'>): Verdict {
  const speaking = asReceiver(ctx, call.sessionId, ['announce']);
  if (!speaking.ok) return speaking;
  const { session, index } = speaking.value;
  const receiver = session.receivers[index - 1];
  if (call.orgId !== receiver?.orgId || !equalBytes(receiver.custodianKey, call.custodianKey)) {
    return refuse('CUSTODIAN_KEY_WRONG', ctx.node.member.orgId);
  }
  if (session.keys[index - 1] !== null) return refuse('CUSTODY_SAID_ALREADY');
  const P = decodePublicPoint(call.key);
  if (P === undefined || !checkEncryptionKey(formulaSession(session), { index, P }, call.proof)) {
    return refuse('BAD_CUSTODY_PROOF');
  }
  emit(ctx, 'node.custodyAnnounce', { objectId: session.id });
  advance(ctx, { ...session, keys: session.keys.map((key, k) => (k === index - 1 ? call.key : key)) });
  return OK;
}

/** Index of the dealer that the node speaks for; 0 where its organisation deals nothing. */
const dealerIndex = (ctx: NodeContext, session: CustodySessionEntry): number =>
  speaks(ctx) ? dealersOf(ctx.state, session).indexOf(ctx.node.member.orgId) + 1 : 0;

export function giveDealing(ctx: NodeContext, call: CallOf<'node.custodyDeal'>): Verdict {
  const open = openNow(ctx, call.sessionId);
  if (!open.ok) return open;
  const session = open.value;
  const dealer = dealerIndex(ctx, session);
  if (dealer === 0) return refuse('CUSTODY_NOT_DEALER', ctx.node.member.orgId);
  if (session.phase !== 'deal') return refuse('CUSTODY_WRONG_PHASE', session.phase);
  if (session.dealt.includes(dealer)) return refuse('CUSTODY_SAID_ALREADY');
  const promised = session.kind === 'genesis' ? null : storedPoint(requireEpoch(ctx.state).holders[dealer - 1]?.share);
  const checked = checkDealing(formulaSession(session), call.dealing, promised);
  if (!checked.ok) return refuse('BAD_DEALING', checked.message);
  if (checked.value.dealer !== dealer) return refuse('BAD_DEALING', `its dealer has the index ${dealer}`);
  ctx.state.put(custodyDealingEntry, stateKey.custodyDealing(session.id, dealer), { dealing: call.dealing });
  emit(ctx, 'node.custodyDeal', { objectId: session.id });
  advance(ctx, { ...session, dealt: ascending(session.dealt, dealer) });
  return OK;
}

/** Heard until the epoch is active. Who has accused falsely once is not heard again: no custodian of ours ever does. */
export function hearComplaint(ctx: NodeContext, call: CallOf<'node.custodyComplain'>): Verdict {
  const speaking = asReceiver(ctx, call.sessionId, ['deal', 'confirm', 'prepared']);
  if (!speaking.ok) return speaking;
  const { session, index } = speaking.value;
  const dealer = parseComplaint(call.complaint)?.dealer ?? 0;
  if (!session.dealt.includes(dealer)) return refuse('BAD_COMPLAINT', 'there is no such dealing');
  if (session.disqualified.includes(dealer) || session.falseAccusers.includes(index)) {
    return refuse('CUSTODY_SAID_ALREADY');
  }
  const dealing = dealingOf(ctx.state, session, dealer);
  const judged = judge(formulaSession(session), dealing, encryptionKey(session, index), call.complaint);
  if (!judged.ok) return refuse('BAD_COMPLAINT', judged.message);
  emit(ctx, 'node.custodyComplain', { objectId: session.id, detail: judged.value });
  if (judged.value === 'dealer') disqualify(ctx, session, dealer);
  else saveSession(ctx, { ...session, falseAccusers: ascending(session.falseAccusers, index) });
  return OK;
}

export function confirmShare(ctx: NodeContext, call: CallOf<'node.custodyConfirm'>): Verdict {
  const speaking = asReceiver(ctx, call.sessionId, ['confirm']);
  if (!speaking.ok) return speaking;
  const { session, index } = speaking.value;
  if (session.confirmed.includes(index)) return refuse('CUSTODY_SAID_ALREADY');
  const { result, keys } = session;
  const isAbsent = equalBytes(keys[index - 1] ?? NOBODYS_KEY, NOBODYS_KEY);
  const X = storedPoint(result?.key);
  const share = storedPoint(result?.shares[index - 1]);
  if (isAbsent || !checkShareProof(formulaSession(session), index, X, share, call.proof)) {
    return refuse('BAD_CUSTODY_PROOF');
  }
  emit(ctx, 'node.custodyConfirm', { objectId: session.id });
  advance(ctx, { ...session, confirmed: ascending(session.confirmed, index) });
  return OK;
}
