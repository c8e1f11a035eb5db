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
import type { Overlay } from './overlay.ts';
import type { Context } from './context.ts';
import { personKey, samePerson } from './persons.ts';
import { OWNER, type Possibility, possibility, type Prospect } from './satisfiability.ts';

/** A tree and what has been decided on it: of a request, or of an amendment of a policy. */
export interface Deciding {
  readonly tree: ApprovalTree;
  /** In the order of their time, at the same time of their accounts. */
  readonly decisions: readonly DecisionEntry[];
  readonly on: Judging;
}

export interface AccessCase extends Deciding {
  readonly request: RequestEntry;
  /** The policy at its newest version; the rule is that of the version which the request names. */
  readonly policy: PolicyEntry;
  readonly rule: PolicyRule;
}

/** A request is for one version of a policy: once there is another, nothing grants it any more. */
export const isPolicyChanged = ({ policy, request }: AccessCase): boolean =>
  policy.version !== request.request.policyVersion;

/** The policy as it was at the version that a request names. */
function policyAt(state: Overlay, policy: PolicyEntry, version: number): PolicyEntry {
  if (policy.version === version) return policy;
  return state.must(policyEntry, stateKey.policyVersion(policy.ref, version), 'version of a policy');
}

type Where = Pick<Context, 'state' | 'now' | 'params'>;

/** Every slot can be denied once; beside these the owner's denial and the approvals. */
const MAX_DECISIONS = MAX_APPROVALS_PER_REQUEST + 12 + 1;

export function caseOfRequest(where: Where, request: RequestEntry): AccessCase {
  const { state, now, params } = where;
  const policy = state.must(policyEntry, stateKey.policy(request.policyRef), 'policy of a request');
  const rule = policyAt(state, policy, request.request.policyVersion).document.rules[request.request.ruleIndex];
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
export const deniedSlots = ({ decisions }: Deciding): number =>
  decisions.reduce((mask, { slot }) => (slot === null ? mask : mask | (1 << slot)), 0);

export const decisionOfPerson = ({ decisions }: Deciding, account: AccountEntry): DecisionEntry | undefined =>
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
export function approvalsOf(on: Deciding): readonly Approval[] {
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
export function seatApprovals(on: Deciding, approvals: readonly Approval[]): Evaluation {
  const orgs = new Map<OrgId, number>();
  const candidates = approvals.map(({ account, mask }): Candidate => {
    if (!orgs.has(account.orgId)) orgs.set(account.orgId, orgs.size);
    return { mask, org: orgs.get(account.orgId) as number };
  });
  return { ...seat(on.tree, candidates), approvals };
}

/** Who fills which slot as of now. */
export const evaluate = (on: Deciding): Evaluation => seatApprovals(on, approvalsOf(on));

/** Slots that mean somebody of one request, as a mask: where there is none, nobody fills them. */
const relativeSlots = ({ slots }: ApprovalTree): number =>
  slots.reduce((mask, slot, index) => {
    const relative = slot.kind === 'attending' || (slot.kind === 'role' && slot.scope.kind === 'requester');
    return relative ? mask | (1 << index) : mask;
  }, 0);

/** Whether the rule can still be satisfied, by those who may yet come and those who have approved. */
export function prospects(on: Deciding): Possibility {
  const { state, request } = on.on;
  const { owner: ownerId, requesterOrg } = request;
  const owner = ownerId === null ? null : accountOf(state, ownerId);
  assert(owner !== undefined, "a record's owner has an account");
  const prospect: Prospect = {
    denied: deniedSlots(on) | (requesterOrg === null ? relativeSlots(on.tree) : 0),
    owner: owner !== null && !isCustodialHere(owner, requesterOrg),
    recordOrg: request.recordOrg,
    requesterOrg: requesterOrg ?? ' nobody',
    named: (id) => {
      const account = accountOf(state, id);
      if (account === undefined || isCustodialHere(account, requesterOrg)) return null;
      if (isRequester(request, account) || decisionOfPerson(on, account)?.approve === false) return null;
      // By the same name as the owner slot's stand-in: one person, who fills one of these slots.
      const person = ownerId !== null && equalBytes(id, ownerId) ? OWNER : personKey(account);
      return { person, org: account.orgId };
    },
  };
  return possibility(on.tree, prospect);
}
