/**
 * A request with what has been decided on it so far: the one reading that approvals, denials, grants and explanations
 * share, so that they cannot disagree.
 */
import { compareBytes, equalBytes } from '../common/bytes.ts';
import { assert } from '../common/errors.ts';
import type { PolicyRule } from '../common/protocol/policy.ts';
import type { Hash, OrgId } from '../common/protocol/primitives.ts';
import {
  type AccountEntry,
  type DecisionEntry,
  decisionEntry,
  type PolicyEntry,
  policyEntry,
  type RequestEntry,
  requestEntry,
  stateKey,
  statePrefix,
} from '../common/protocol/state-entries.ts';
import { type ApprovalTree, compileTree } from './approval-tree.ts';
import { eligibility, isCustodialHere, isRequester, type Judging } from './eligibility.ts';
import { MAX_APPROVALS_PER_REQUEST } from './limits.ts';
import { type Candidate, type Seating, seat } from './matching.ts';
import { accountOf } from './organisations.ts';
import type { Context } from './context.ts';
import { personKey, samePerson } from './persons.ts';
import { OWNER, type Possibility, possibility, type Prospect } from './satisfiability.ts';

export interface AccessCase {
  readonly request: RequestEntry;
  readonly policy: PolicyEntry;
  readonly rule: PolicyRule;
  readonly tree: ApprovalTree;
  /** In the order of their time, at the same time of their accounts. */
  readonly decisions: readonly DecisionEntry[];
  readonly on: Judging;
}

type Where = Pick<Context, 'state' | 'now' | 'params'>;

/** Every slot can be denied once; beside these the owner's denial and the approvals. */
const MAX_DECISIONS = MAX_APPROVALS_PER_REQUEST + 12 + 1;

export function caseOfRequest(where: Where, request: RequestEntry): AccessCase {
  const { state, now, params } = where;
  const policy = state.must(policyEntry, stateKey.policy(request.policyRef), 'policy of a request');
  const rule = policy.document.rules[request.request.ruleIndex];
  assert(rule !== undefined, 'the rule of a request exists');
  const decisions = state
    .list(decisionEntry, statePrefix.decisions(request.hash), MAX_DECISIONS)
    .sort((a, b) => a.atMs - b.atMs || compareBytes(a.account, b.account));
  const { owner, recordOrg, requesterOrg, requesterTag, createdMs } = request;
  const { requester } = request.request;
  return {
    request,
    policy,
    rule,
    tree: compileTree(rule.approvals),
    decisions,
    on: { state, now, params, request: { owner, recordOrg, requesterOrg, requesterTag, createdMs, requester } },
  };
}

export function findCase(where: Where, hash: Hash): AccessCase | undefined {
  const request = where.state.get(requestEntry, stateKey.request(hash));
  return request === undefined ? undefined : caseOfRequest(where, request);
}

/** Slots that denials have taken out, as a mask. */
export const deniedSlots = ({ decisions }: AccessCase): number =>
  decisions.reduce((mask, { slot }) => (slot === null ? mask : mask | (1 << slot)), 0);

export const decisionOfPerson = ({ decisions }: AccessCase, account: AccountEntry): DecisionEntry | undefined =>
  decisions.find((decision) => samePerson(account, { id: decision.account, personTag: decision.personTag }));

export interface Approval {
  readonly account: AccountEntry;
  /** Slots that this approval can fill now, as a mask; 0 once a role has lapsed or an account is suspended. */
  readonly mask: number;
}

export interface Evaluation extends Seating {
  readonly approvals: readonly Approval[];
}

/** Everybody who approved, judged anew as of now. */
export function approvalsOf(on: AccessCase): readonly Approval[] {
  const standing = ~deniedSlots(on);
  return on.decisions
    .filter(({ approve }) => approve)
    .map(({ account: id }) => {
      const account = accountOf(on.on.state, id);
      assert(account !== undefined, 'who decided has an account');
      return { account, mask: eligibility(on.on, on.tree, account).mask & standing };
    });
}

/** Who of these fills which slot. */
export function seatApprovals(on: AccessCase, approvals: readonly Approval[]): Evaluation {
  const orgs = new Map<OrgId, number>();
  const candidates = approvals.map(({ account, mask }): Candidate => {
    if (!orgs.has(account.orgId)) orgs.set(account.orgId, orgs.size);
    return { mask, org: orgs.get(account.orgId) as number };
  });
  return { ...seat(on.tree, candidates), approvals };
}

/** Who fills which slot as of now. */
export const evaluate = (on: AccessCase): Evaluation => seatApprovals(on, approvalsOf(on));

/** Whether the rule can still be satisfied, by those who may yet come and those who have approved. */
export function prospects(on: AccessCase): Possibility {
  const { state } = on.on;
  const owner = accountOf(state, on.request.owner);
  assert(owner !== undefined, "a record's owner has an account");
  const prospect: Prospect = {
    denied: deniedSlots(on),
    owner: !isCustodialHere(owner, on.request.requesterOrg),
    recordOrg: on.request.recordOrg,
    requesterOrg: on.request.requesterOrg,
    named: (id) => {
      const account = accountOf(state, id);
      if (account === undefined || isCustodialHere(account, on.request.requesterOrg)) return null;
      if (isRequester(on.on.request, account) || decisionOfPerson(on, account)?.approve === false) return null;
      // By the same name as the owner slot's stand-in: one person, who fills one of these slots.
      const person = equalBytes(id, on.request.owner) ? OWNER : personKey(account);
      return { person, org: account.orgId };
    },
  };
  return possibility(on.tree, prospect);
}
