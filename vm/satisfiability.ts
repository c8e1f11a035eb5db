/**
 * Whether a rule could be satisfied at all: by whoever may still come. Judged with stand-ins, one for each person who is
 * not named and one for each who is, by the same matching that decides real approvals.
 */
import { bytesToHex } from '../common/bytes.ts';
import type { OrgScope } from '../common/protocol/policy.ts';
import type { ApprovalTree } from './approval-tree.ts';
import { type Candidate, seat } from './matching.ts';

/** What is known of the request; before there is one, `owner` is true and organisations are only names. */
export interface Prospect {
  /** Slots that a denial has taken out, as a mask. */
  readonly denied: number;
  /** The owner may still fill the owner slot. */
  readonly owner: boolean;
  readonly recordOrg: string;
  readonly requesterOrg: string;
  /** Who a person slot names: a key of that person and the organisation, or null if that person is out. */
  readonly named: (account: Uint8Array) => { readonly person: string; readonly org: string } | null;
}

/** Stand-in of the owner. */
export const OWNER = 'owner';

function scopeOrg(scope: OrgScope, prospect: Prospect, slot: number): string {
  switch (scope.kind) {
    case 'writer':
      return prospect.recordOrg;
    case 'requester':
      return prospect.requesterOrg;
    case 'named':
      return scope.orgId;
    case 'any':
      // No organisation id has a space: somebody of any organisation, which may be one of its own.
      return `any ${slot}`;
  }
}

/** Stand-ins by person. */
function standIns(tree: ApprovalTree, prospect: Prospect): Map<string, { mask: number; org: string }> {
  const people = new Map<string, { mask: number; org: string }>();
  const add = (person: string, org: string, slot: number): void => {
    const known = people.get(person);
    people.set(person, { mask: (known?.mask ?? 0) | (1 << slot), org: known?.org ?? org });
  };
  tree.slots.forEach((slot, index) => {
    if ((prospect.denied & (1 << index)) !== 0) return;
    if (slot.kind === 'owner') {
      if (prospect.owner) add(OWNER, prospect.recordOrg, index);
    } else if (slot.kind === 'person') {
      const named = prospect.named(slot.account);
      if (named !== null) add(named.person, named.org, index);
    } else if (slot.kind === 'role') {
      add(`slot ${index}`, scopeOrg(slot.scope, prospect, index), index);
    } else {
      add(`slot ${index}`, `any ${index}`, index);
    }
  });
  return people;
}

export interface Possibility {
  readonly satisfiable: boolean;
  /** Slots that somebody may still fill, as a mask. */
  readonly open: number;
}

export function possibility(tree: ApprovalTree, prospect: Prospect): Possibility {
  const people = standIns(tree, prospect);
  const orgs = new Map<string, number>();
  let open = 0;
  const candidates: Candidate[] = [];
  for (const { mask, org } of people.values()) {
    if (!orgs.has(org)) orgs.set(org, orgs.size);
    candidates.push({ mask, org: orgs.get(org) as number });
    open |= mask;
  }
  return { satisfiable: seat(tree, candidates).satisfied, open };
}

/** Stand-in for a person of whom nothing is known but the account. */
export const someone = (account: Uint8Array): { person: string; org: string } => ({
  person: bytesToHex(account),
  org: `any ${bytesToHex(account)}`,
});
