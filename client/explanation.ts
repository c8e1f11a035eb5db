/** A request's policy tree with who has approved and what is missing, as lines: the node's explanation, for reading only. */
import type { ResultOf } from '../rpc/methods.ts';
import { thresholdWords } from './policy-text.ts';
import { clean } from './text.ts';

type Explanation = ResultOf<'acl_getRequest'>['explanation'];
type Node = Explanation['tree'];
type Slot = Extract<Node, { kind: 'slot' }>['slot'];

const MARKS = { open: '[ ]', filled: '[x]', denied: '[-]', impossible: '[!]' } as const;
const SAID = {
  open: '',
  filled: '  approved by ',
  denied: '  denied by ',
  impossible: '  nobody can any more',
} as const;

function scopeWords(scope: Extract<Slot, { kind: 'role' }>['scope']): string {
  switch (scope.kind) {
    case 'writer':
      return ' of the writing hospital';
    case 'requester':
      return " of the requester's organisation";
    case 'named':
      return ` of ${clean(scope.orgId)}`;
    case 'any':
      return ' of any organisation';
  }
}

function slotWords(slot: Slot): string {
  switch (slot.kind) {
    case 'owner':
      return 'the owner (the patient)';
    case 'attending':
      return 'an attending physician of the owner';
    case 'role': {
      const department = slot.department === null ? '' : `, department ${clean(slot.department)}`;
      return `${clean(slot.role)}${scopeWords(slot.scope)}${department}`;
    }
    case 'person':
      return `the person ${clean(slot.account)}`;
  }
}

function lines(node: Node, indent: string): string[] {
  if (node.kind === 'threshold') {
    const done = node.satisfied ? 'satisfied' : 'not yet';
    return [
      `${indent}${thresholdWords(node.k, node.of.length)} ${done}`,
      ...node.of.flatMap((child) => lines(child, `${indent}  `)),
    ];
  }
  const by = node.by === null ? SAID[node.state].trimEnd() : `${SAID[node.state]}${clean(node.by)}`;
  const org = node.orgId === null || node.by === null ? '' : ` of ${clean(node.orgId)}`;
  return [`${indent}${MARKS[node.state]} ${slotWords(node.slot)}${node.state === 'open' ? '' : by}${org}`];
}

export function explanationLines({ tree, idle, missing }: Explanation): string[] {
  return [
    ...lines(tree, '  '),
    ...idle.map((account) => `  approved and fills no slot: ${clean(account)}`),
    ...(missing === null ? [] : [`  waits for: ${clean(missing.message)} (${clean(missing.code)})`]),
  ];
}
