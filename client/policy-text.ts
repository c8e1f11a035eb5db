/** Policies, approval trees and who has approved, as lines for people. */
import type { ApprovalNode, OrgScope, PolicyDocument, PolicyRule } from '../common/protocol/policy.ts';
import { hexOf } from './hex.ts';
import { duration } from './text.ts';

function scopeWords(scope: OrgScope): string {
  switch (scope.kind) {
    case 'writer':
      return ' of the writing hospital';
    case 'requester':
      return " of the requester's organisation";
    case 'named':
      return ` of ${scope.orgId}`;
    case 'any':
      return ' of any organisation';
  }
}

const departmentWords = (department: Uint8Array | null): string =>
  department === null ? '' : `, department ${hexOf(department)}`;

/** One slot in words. */
export function slotWords(node: Exclude<ApprovalNode, { readonly kind: 'threshold' }>): string {
  switch (node.kind) {
    case 'owner':
      return 'the owner (the patient)';
    case 'attending':
      return 'an attending physician of the owner';
    case 'role':
      return `${node.role}${scopeWords(node.scope)}${departmentWords(node.department)}`;
    case 'person':
      return `the person ${hexOf(node.account)}`;
  }
}

export function thresholdWords(k: number, of: number): string {
  if (k === of) return of === 1 ? 'this:' : 'all of:';
  return k === 1 ? 'one of:' : `at least ${k} of these ${of}:`;
}

/** The tree, two spaces deeper with each level. */
export function treeLines(node: ApprovalNode, indent = ''): string[] {
  if (node.kind !== 'threshold') return [`${indent}${slotWords(node)}`];
  return [
    `${indent}${thresholdWords(node.k, node.of.length)}`,
    ...node.of.flatMap((child) => treeLines(child, `${indent}  `)),
  ];
}

export function ruleLines(rule: PolicyRule, index: number): string[] {
  const requesters = rule.requesters.map((r) => `${r.role}${scopeWords(r.scope)}${departmentWords(r.department)}`);
  return [
    `rule ${index}: for ${rule.purposes.join(', ')}, at most ${duration(rule.maxDurationMs)}`,
    `  asked for by   ${requesters.join('; or ')}`,
    ...(rule.categories === null ? [] : [`  categories     ${rule.categories.map(hexOf).join(' ')}`]),
    '  approved by',
    ...treeLines(rule.approvals, '    '),
  ];
}

export function policyLines(document: PolicyDocument): string[] {
  const holders = [
    ...(document.patientWrap ? ['the patient'] : []),
    ...(document.custodian ? ['the custodians'] : []),
    ...(document.recovery ? ['the officers of the recovery key, should too many custodians fail'] : []),
  ];
  return [
    `keys are held by ${holders.join(' and ')}`,
    ...document.rules.flatMap(ruleLines),
    'changed by',
    ...treeLines(document.adminRule, '    '),
  ];
}

/**
 * The lines of the newer document, with those of the older one that are gone: `+` new, `-` gone, else unchanged. By the
 * longest common subsequence; documents have some hundred lines.
 */
export function differenceLines(before: PolicyDocument, after: PolicyDocument): string[] {
  const [old, now] = [policyLines(before), policyLines(after)];
  // common[i][j]: lines that old from i on and now from j on have in common.
  const common = Array.from({ length: old.length + 1 }, () => new Array<number>(now.length + 1).fill(0));
  const at = (i: number, j: number): number => common[i]?.[j] ?? 0;
  for (let i = old.length - 1; i >= 0; i -= 1) {
    const row = common[i] as number[];
    for (let j = now.length - 1; j >= 0; j -= 1) {
      row[j] = old[i] === now[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  const lines: string[] = [];
  let [i, j] = [0, 0];
  while (i < old.length || j < now.length) {
    if (i < old.length && j < now.length && old[i] === now[j]) {
      lines.push(`  ${old[i]}`);
      i += 1;
      j += 1;
    } else if (i < old.length && (j === now.length || at(i + 1, j) >= at(i, j + 1))) {
      lines.push(`- ${old[i]}`);
      i += 1;
    } else {
      lines.push(`+ ${now[j]}`);
      j += 1;
    }
  }
  return lines;
}
