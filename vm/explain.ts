/**
 * Answers for people and for key custodians, from a state and a time alone: may this key be released, may this person
 * read, what is this request waiting for. Reads only; the same judgement as execution, and no second one.
 */
import { equalBytes } from '../common/bytes.ts';
import { decodeTrusted } from '../common/codec.ts';
import { accept, type Verdict } from '../common/errors.ts';
import type { Purpose } from '../common/protocol/policy.ts';
import type { Address, Hash, OrgId, TimeMs } from '../common/protocol/primitives.ts';
import {
  type DecisionEntry,
  grantEntry,
  paramsEntry,
  policyEntry,
  prefixRange,
  recordEntry,
  requestByRecordEntry,
  type RequestEntry,
  requestEntry,
  stateKey,
  statePrefix,
} from '../common/protocol/state-entries.ts';
import type { ApprovalNode } from '../common/protocol/policy.ts';
import { type AccessCase, caseOfRequest, deniedSlots, evaluate, isPolicyChanged, prospects } from './access-case.ts';
import { isActiveGrant, isPending } from './access-status.ts';
import type { Slot } from './approval-tree.ts';
import { refuse } from './codes.ts';
import { requesterStillEntitled } from './eligibility.ts';
import { MAX_CHECKED_GRANTS } from './limits.ts';
import { accountOf, isActive } from './organisations.ts';
import { Overlay } from './overlay.ts';
import type { StateReader } from './types.ts';

/** Why access is or is not given, and what a pending request waits for. Not rejections: nothing was asked to change. */
export const ANSWERS = {
  GRANTED: 'a grant allows it',
  NO_GRANT: 'nobody has granted this',
  WRONG_PURPOSE: 'there is a grant, for another purpose of use',
  WAITING: 'a request for it is pending',
  DENIED: 'the last request for it was denied',
  EXPIRED: 'the last request for it expired',
  CANCELLED: 'the last request for it was cancelled',
  REVOKED: 'the last grant of it was revoked',
  ENDED: 'the last grant of it has ended',
  POLICY_CHANGED: 'the policy changed after the last request for it: that request is granted no more',
  RECORD_UNKNOWN: 'there is no such record',
  SUBJECT_UNKNOWN: 'there is no such account',
  SUBJECT_SUSPENDED: 'the account or its organisation is suspended',
  APPROVALS_MISSING: 'more approvals are needed',
  APPROVALS_ONE_ORGANISATION: 'without the owner, the approvals must come from two organisations',
} as const;
export type AnswerCode = keyof typeof ANSWERS;

/**
 * Whether a key may be released for a request at a time: granted, not revoked, not over, its requester not suspended.
 * Custodians ask this of their own verified state, with block time and with their own clock.
 */
export function checkGrant(reader: StateReader, requestHash: Hash, atMs: TimeMs): Verdict<RequestEntry> {
  const state = new Overlay(reader);
  const request = state.get(requestEntry, stateKey.request(requestHash));
  if (request === undefined) return refuse('REQUEST_UNKNOWN');
  if (!isActiveGrant(request, atMs)) return refuse('NOT_GRANTED', request.status);
  const requester = accountOf(state, request.request.requester);
  return requester !== undefined && isActive(state, requester) ? accept(request) : refuse('REQUESTER_SUSPENDED');
}

export interface AccessQuestion {
  readonly subject: Address;
  readonly recordId: Hash;
  readonly purpose: Purpose;
  readonly atMs: TimeMs;
}

export interface AccessDecision {
  readonly decision: 'allow' | 'deny';
  readonly reason: AnswerCode;
  readonly message: string;
  /** The request that decides: the grant, or the last one that is not. */
  readonly requestHash: Hash | null;
  /** The version of the record that it is for. */
  readonly version: number | null;
  readonly notAfterMs: TimeMs | null;
}

interface Deciding {
  readonly hash: Hash;
  readonly version: number;
  readonly notAfterMs: TimeMs;
}

function answer(reason: AnswerCode, of: Deciding | null = null): AccessDecision {
  return {
    decision: reason === 'GRANTED' ? 'allow' : 'deny',
    reason,
    message: ANSWERS[reason],
    requestHash: of?.hash ?? null,
    version: of?.version ?? null,
    notAfterMs: of?.notAfterMs ?? null,
  };
}

/** Of the active grants of this person and record, the one that lasts longest for the purpose. */
function findGrant(reader: StateReader, asked: AccessQuestion): AccessDecision | null {
  const prefix = statePrefix.grantsOf(asked.recordId, asked.subject);
  let best: Deciding | null = null;
  let other = false;
  for (const { key, value } of reader.range({ ...prefixRange(prefix), limit: MAX_CHECKED_GRANTS })) {
    const { purpose, version, notAfterMs } = decodeTrusted(grantEntry, value, 'grant');
    if (asked.atMs >= notAfterMs) continue;
    if (purpose !== asked.purpose) other = true;
    else if (best === null || notAfterMs > best.notAfterMs) {
      best = { hash: key.slice(prefix.length), version, notAfterMs };
    }
  }
  if (best !== null) return answer('GRANTED', best);
  return other ? answer('WRONG_PURPOSE') : null;
}

const AFTER: Readonly<Record<RequestEntry['status'], AnswerCode>> = {
  pending: 'WAITING',
  granted: 'ENDED',
  denied: 'DENIED',
  expired: 'EXPIRED',
  cancelled: 'CANCELLED',
  revoked: 'REVOKED',
  ended: 'ENDED',
};

function outcomeOf(state: Overlay, request: RequestEntry, atMs: TimeMs): AnswerCode {
  if (request.statusReason === 'POLICY_CHANGED') return 'POLICY_CHANGED';
  if (request.status !== 'pending') return AFTER[request.status];
  if (!isPending(request, atMs)) return 'EXPIRED';
  const { version } = state.must(policyEntry, stateKey.policy(request.policyRef), 'policy of a request');
  return version === request.request.policyVersion ? 'WAITING' : 'POLICY_CHANGED';
}

/** What became of the last request; of the newest of the record's requests, those that are looked at. */
function lastRequest(reader: StateReader, state: Overlay, asked: AccessQuestion): AccessDecision {
  const range = {
    ...prefixRange(statePrefix.requestsOfRecord(asked.recordId)),
    limit: MAX_CHECKED_GRANTS,
    reverse: true,
  };
  for (const { value } of reader.range(range)) {
    const { hash, purpose, requester } = decodeTrusted(requestByRecordEntry, value, 'request of a record');
    if (purpose !== asked.purpose || !equalBytes(requester, asked.subject)) continue;
    const request = state.must(requestEntry, stateKey.request(hash), 'request of a record');
    return answer(outcomeOf(state, request, asked.atMs), {
      hash,
      version: request.request.version,
      notAfterMs: request.request.notAfterMs,
    });
  }
  return answer('NO_GRANT');
}

/** Whether the subject may read the record for the purpose at that time, and if not, what stands in the way. */
export function checkAccess(reader: StateReader, asked: AccessQuestion): AccessDecision {
  const state = new Overlay(reader);
  if (state.get(recordEntry, stateKey.record(asked.recordId)) === undefined) return answer('RECORD_UNKNOWN');
  const subject = accountOf(state, asked.subject);
  if (subject === undefined) return answer('SUBJECT_UNKNOWN');
  if (!isActive(state, subject)) return answer('SUBJECT_SUSPENDED');
  return findGrant(reader, asked) ?? lastRequest(reader, state, asked);
}

export type ExplainedNode =
  | {
      readonly kind: 'threshold';
      readonly k: number;
      readonly of: readonly ExplainedNode[];
      readonly satisfied: boolean;
    }
  | {
      readonly kind: 'slot';
      /** Leaves are counted from 0 in the tree's order. */
      readonly index: number;
      readonly slot: Slot;
      /** `impossible`: nobody can fill it any more, or ever could for this requester. */
      readonly state: 'open' | 'filled' | 'denied' | 'impossible';
      readonly satisfied: boolean;
      /** Who filled or denied it. */
      readonly by: Address | null;
      readonly orgId: OrgId | null;
    };

export interface RequestExplanation {
  readonly request: RequestEntry;
  /** As of the time asked for: also where the sweep of deadlines has not come by yet. */
  readonly status: RequestEntry['status'];
  readonly tree: ExplainedNode;
  readonly decisions: readonly DecisionEntry[];
  /** Who approved and fills no slot: another has it, or a role has lapsed. */
  readonly idle: readonly Address[];
  /** What a pending request waits for; null where it is decided. */
  readonly missing: { readonly code: string; readonly message: string } | null;
}

interface Seat {
  readonly account: Address;
  readonly orgId: OrgId;
}

function explainTree(on: AccessCase, filled: ReadonlyMap<number, Seat>, open: number): ExplainedNode {
  let next = 0;
  const explainSlot = (slot: Slot): ExplainedNode => {
    const index = next;
    next += 1;
    const denial = on.decisions.find((decision) => decision.slot === index);
    const by = filled.get(index) ?? denial ?? null;
    const free = (open & (1 << index)) !== 0 ? 'open' : 'impossible';
    const state = filled.has(index) ? 'filled' : denial !== undefined ? 'denied' : free;
    const satisfied = state === 'filled';
    return { kind: 'slot', index, slot, state, satisfied, by: by?.account ?? null, orgId: by?.orgId ?? null };
  };
  const explain = (node: ApprovalNode): ExplainedNode => {
    if (node.kind !== 'threshold') return explainSlot(node);
    const of = node.of.map(explain);
    return { kind: 'threshold', k: node.k, of, satisfied: of.filter((child) => child.satisfied).length >= node.k };
  };
  return explain(on.rule.approvals);
}

function statusAt(request: RequestEntry, atMs: TimeMs): RequestEntry['status'] {
  if (request.status === 'pending' && !isPending(request, atMs)) return 'expired';
  return request.status === 'granted' && !isActiveGrant(request, atMs) ? 'ended' : request.status;
}

/** The request's tree with who fills, denied or may still fill each slot, and what is missing; null if there is none. */
export function explainRequest(reader: StateReader, requestHash: Hash, atMs: TimeMs): RequestExplanation | null {
  const state = new Overlay(reader);
  const request = state.get(requestEntry, stateKey.request(requestHash));
  if (request === undefined) return null;
  const params = state.must(paramsEntry, stateKey.params(), 'parameters');
  // What is decided is shown as it stood when it was decided.
  const now = request.status === 'pending' ? atMs : Math.min(atMs, request.statusMs);
  const on = caseOfRequest({ state, now, params }, request);
  const { seats, approvals, oneOrganisation } = evaluate(on);
  const seated = seats.flatMap((seat, slot): [number, Seat][] => {
    const account = approvals[seat]?.account;
    return account === undefined ? [] : [[slot, { account: account.id, orgId: account.orgId }]];
  });
  const filled = new Map(request.filled.length > 0 ? request.filled.map((f) => [f.slot, f]) : seated);
  const seatedIds = [...filled.values()].map(({ account }) => account);
  const idle = approvals
    .map(({ account }) => account.id)
    .filter((id) => !seatedIds.some((other) => equalBytes(id, other)));
  const status = statusAt(request, atMs);
  return {
    request,
    status,
    tree: explainTree(on, filled, prospects(on).open & ~deniedSlots(on)),
    decisions: on.decisions,
    idle,
    missing: status === 'pending' ? missingOf(on, oneOrganisation) : null,
  };
}

function missingOf(on: AccessCase, oneOrganisation: boolean): { code: string; message: string } {
  if (isPolicyChanged(on)) return { code: 'POLICY_CHANGED', message: ANSWERS.POLICY_CHANGED };
  const requester = requesterStillEntitled(on.on, on.rule, on.request);
  if (!requester.ok) return { code: requester.code, message: requester.message };
  const code: AnswerCode = oneOrganisation ? 'APPROVALS_ONE_ORGANISATION' : 'APPROVALS_MISSING';
  return { code, message: ANSWERS[code] };
}
