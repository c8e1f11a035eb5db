/**
 * A policy's approval tree, compiled: its leaves are slots 0..n-1 in the tree's order, a set of filled slots is a bit
 * mask. Whether people can be seated on the slots is in matching.ts, who may sit where in eligibility.ts.
 */
import { accept, type Verdict } from '../common/errors.ts';
import { type ApprovalNode, MAX_POLICY_DEPTH, MAX_POLICY_SLOTS } from '../common/protocol/policy.ts';
import { refuse } from './codes.ts';

export type Slot = Exclude<ApprovalNode, { readonly kind: 'threshold' }>;

type Compiled =
  | { readonly kind: 'slot'; readonly bit: number }
  | { readonly kind: 'threshold'; readonly k: number; readonly of: readonly Compiled[] };

export interface ApprovalTree {
  readonly slots: readonly Slot[];
  /** Slots of kind `owner`, as a mask. */
  readonly ownerSlots: number;
  readonly root: Compiled;
}

/** Checks the bounds that the codec cannot: depth, number of slots, thresholds. */
export function checkTree(node: ApprovalNode): Verdict {
  let slots = 0;
  const visit = (at: ApprovalNode, depth: number): Verdict => {
    if (at.kind !== 'threshold') {
      slots += 1;
      return slots <= MAX_POLICY_SLOTS
        ? accept(undefined)
        : refuse('POLICY_TOO_WIDE', `${MAX_POLICY_SLOTS} at the most`);
    }
    if (depth >= MAX_POLICY_DEPTH) return refuse('POLICY_TOO_DEEP', `${MAX_POLICY_DEPTH} at the most`);
    if (at.k < 1 || at.k > at.of.length) return refuse('POLICY_BAD_THRESHOLD', `${at.k} of ${at.of.length}`);
    for (const child of at.of) {
      const verdict = visit(child, depth + 1);
      if (!verdict.ok) return verdict;
    }
    return accept(undefined);
  };
  return visit(node, 0);
}

/** Compiles a tree that `checkTree` accepted. */
export function compileTree(node: ApprovalNode): ApprovalTree {
  const slots: Slot[] = [];
  let ownerSlots = 0;
  const compile = (at: ApprovalNode): Compiled => {
    if (at.kind === 'threshold') return { kind: 'threshold', k: at.k, of: at.of.map(compile) };
    const bit = 1 << slots.length;
    if (at.kind === 'owner') ownerSlots |= bit;
    slots.push(at);
    return { kind: 'slot', bit };
  };
  const root = compile(node);
  return { slots, ownerSlots, root };
}

/** Whether filling these slots satisfies the tree. Monotone: more slots never satisfy less. */
export function satisfies(node: Compiled, filled: number): boolean {
  if (node.kind === 'slot') return (filled & node.bit) !== 0;
  let reached = 0;
  for (const child of node.of) {
    if (satisfies(child, filled)) reached += 1;
    if (reached === node.k) return true;
  }
  return false;
}
