/** Policies: checked for shape, for what they name, and for being satisfiable at all. How they change: amendments.ts. */
import type { Verdict } from '../common/errors.ts';
import type { ApprovalNode, PolicyDocument, PolicyRule } from '../common/protocol/policy.ts';
import { policyRefOf } from '../common/protocol/policy.ts';
import { type PolicyEntry, policyEntry, stateKey } from '../common/protocol/state-entries.ts';
import type { Hash } from '../common/protocol/primitives.ts';
import type { CallOf } from '../common/protocol/transaction.ts';
import { equalBytes } from '../common/bytes.ts';
import { checkTree, compileTree } from './approval-tree.ts';
import { refuse } from './codes.ts';
import { emit, OK, type TxContext } from './context.ts';
import { accountOf, organisationOf } from './organisations.ts';
import type { Overlay } from './overlay.ts';
import { requireAdmin } from './roles.ts';
import { possibility, someone } from './satisfiability.ts';

export const policyOf = (state: Overlay, ref: Hash): PolicyEntry | undefined =>
  state.get(policyEntry, stateKey.policy(ref));

/** The tree's shape, and that everybody whom it names exists. */
function checkApprovals(state: Overlay, node: ApprovalNode): Verdict {
  const shape = checkTree(node);
  if (!shape.ok) return shape;
  for (const slot of compileTree(node).slots) {
    if (slot.kind === 'person' && accountOf(state, slot.account) === undefined) return refuse('POLICY_UNKNOWN_PERSON');
    if (slot.kind !== 'role') continue;
    if (slot.role === 'patient') return refuse('POLICY_BAD_SLOT');
    if (slot.scope.kind === 'named' && organisationOf(state, slot.scope.orgId) === undefined) {
      return refuse('POLICY_UNKNOWN_ORGANISATION', slot.scope.orgId);
    }
  }
  return OK;
}

/** Whether anybody could satisfy it, with the owner or without. */
export const isSatisfiable = (approvals: ApprovalNode, owner: boolean): boolean =>
  possibility(compileTree(approvals), {
    denied: 0,
    owner,
    recordOrg: ' writer',
    requesterOrg: ' requester',
    named: someone,
  }).satisfiable;

function checkRule(state: Overlay, rule: PolicyRule): Verdict {
  if (rule.maxDurationMs === 0) return refuse('POLICY_BAD_DURATION');
  for (const { scope } of rule.requesters) {
    if (scope.kind === 'named' && organisationOf(state, scope.orgId) === undefined) {
      return refuse('POLICY_UNKNOWN_ORGANISATION', scope.orgId);
    }
  }
  const approvals = checkApprovals(state, rule.approvals);
  if (!approvals.ok) return approvals;
  return isSatisfiable(rule.approvals, true) ? OK : refuse('POLICY_UNSATISFIABLE');
}

/** What every version of a policy must be. */
export function checkDocument(state: Overlay, document: PolicyDocument): Verdict {
  if (!document.custodian && !document.patientWrap) return refuse('POLICY_NO_WRAP');
  if (document.recovery && !document.custodian) return refuse('POLICY_RECOVERY_ALONE');
  for (const rule of document.rules) {
    const verdict = checkRule(state, rule);
    if (!verdict.ok) return verdict;
  }
  return checkApprovals(state, document.adminRule);
}

export function createPolicy(ctx: TxContext, call: CallOf<'policy.create'>): Verdict {
  const { document } = call;
  const admin = requireAdmin(ctx, document.orgId);
  if (!admin.ok) return admin;
  const ref = policyRefOf(document);
  if (policyOf(ctx.state, ref) !== undefined) return refuse('POLICY_EXISTS');
  const sound = checkDocument(ctx.state, document);
  if (!sound.ok) return sound;
  ctx.state.put(policyEntry, stateKey.policy(ref), {
    ref,
    version: 1,
    document,
    createdBy: ctx.sender.id,
    createdMs: ctx.now,
    sinceMs: ctx.now,
    amendmentId: null,
  });
  emit(ctx, 'policy.create', { objectId: ref });
  return OK;
}

export const ruleCovers = (rule: PolicyRule, categoryToken: Uint8Array): boolean =>
  rule.categories === null || rule.categories.some((category) => equalBytes(category, categoryToken));

export const policyCovers = (document: PolicyDocument, categoryToken: Uint8Array): boolean =>
  document.rules.some((rule) => ruleCovers(rule, categoryToken));
