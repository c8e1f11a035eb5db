/**
 * What an amendment may not take from the owners of records, whoever approves it: a policy covers records of many
 * owners, and none of them is asked. So access without the owner's consent never becomes wider or easier than it was,
 * and owners' own access to their records never narrower or harder.
 */
import { equalBytes } from '../common/bytes.ts';
import type { ApprovalNode, OrgScope, PolicyDocument, PolicyRule } from '../common/protocol/policy.ts';
import { isSatisfiable } from './policies.ts';

type Requester = PolicyRule['requesters'][number];

const sameBytes = (a: Uint8Array | null, b: Uint8Array): boolean => a !== null && equalBytes(a, b);

const scopeWithin = (narrow: OrgScope, wide: OrgScope): boolean =>
  wide.kind === 'any' ||
  (narrow.kind === wide.kind && (narrow.kind !== 'named' || wide.kind !== 'named' || narrow.orgId === wide.orgId));

/** Everybody of `narrow` is among `wide`. */
const roleWithin = (narrow: Requester, wide: Requester): boolean =>
  narrow.role === wide.role &&
  scopeWithin(narrow.scope, wide.scope) &&
  (wide.department === null || sameBytes(narrow.department, wide.department));

/**
 * Whoever satisfies `strict` satisfies `loose`, slot by slot: the same slots or narrower ones in the same places, under
 * thresholds that are no lower. Trees of another shape are not compared: then the answer is no.
 */
function isAsStrict(strict: ApprovalNode, loose: ApprovalNode): boolean {
  if (strict.kind === 'threshold') {
    if (loose.kind !== 'threshold' || strict.of.length !== loose.of.length || strict.k < loose.k) return false;
    return strict.of.every((child, i) => isAsStrict(child, loose.of[i] as ApprovalNode));
  }
  if (strict.kind === 'role') return loose.kind === 'role' && roleWithin(strict, loose);
  if (strict.kind === 'person') return loose.kind === 'person' && equalBytes(strict.account, loose.account);
  return strict.kind === loose.kind;
}

/** Whatever the narrow rule lets these requesters have, one of the wide rules lets them have no harder. */
function isWithin(narrow: PolicyRule, requesters: readonly Requester[], wide: readonly PolicyRule[]): boolean {
  const easier = wide.filter(
    (rule) => rule.maxDurationMs >= narrow.maxDurationMs && isAsStrict(narrow.approvals, rule.approvals),
  );
  const covers = (rule: PolicyRule, category: Uint8Array | null): boolean =>
    rule.categories === null || (category !== null && rule.categories.some((one) => equalBytes(one, category)));
  return narrow.purposes.every((purpose) => {
    const allowing = easier.filter((rule) => rule.purposes.includes(purpose));
    return (narrow.categories ?? [null]).every((category) => {
      const allowed = allowing.filter((rule) => covers(rule, category)).flatMap((rule) => rule.requesters);
      return requesters.every((one) => allowed.some((other) => roleWithin(one, other)));
    });
  });
}

const needsOwner = ({ approvals }: PolicyRule): boolean => !isSatisfiable(approvals, false);
const byOwner = ({ requesters }: PolicyRule): readonly Requester[] =>
  requesters.filter(({ role }) => role === 'patient');

export function weakensOwners(before: PolicyDocument, after: PolicyDocument): boolean {
  const unasked = before.rules.filter((rule) => !needsOwner(rule));
  if (after.rules.some((rule) => !needsOwner(rule) && !isWithin(rule, rule.requesters, unasked))) return true;
  return before.rules.some((rule) => byOwner(rule).length > 0 && !isWithin(rule, byOwner(rule), after.rules));
}
