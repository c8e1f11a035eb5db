import t from 'tap';
import type { ApprovalNode } from '../../common/protocol/policy.ts';
import { type ApprovalTree, checkTree, compileTree, satisfies } from '../../vm/approval-tree.ts';
import { type Candidate, seat } from '../../vm/matching.ts';
import { possibility } from '../../vm/satisfiability.ts';
import { all, attending, by, owner, some } from './vm-world.ts';

/** A small deterministic generator: the same cases in every run. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** A random tree of at most `slots` leaves; the first leaf may be the owner. */
function randomTree(random: (below: number) => number, slots: number, depth = 0): ApprovalNode {
  if (slots === 1 || depth === 3 || random(4) === 0) return random(5) === 0 ? owner : attending;
  const width = 1 + random(Math.min(slots, 4));
  const of: ApprovalNode[] = [];
  let left = slots;
  for (let i = 0; i < width && left > 0; i += 1) {
    const share = i === width - 1 ? left : 1 + random(Math.max(1, left - (width - i - 1)));
    of.push(randomTree(random, Math.min(share, left), depth + 1));
    left -= share;
  }
  return some(1 + random(of.length), ...of);
}

/** Every way to put candidates on slots, one by one. */
function bruteForce(tree: ApprovalTree, candidates: readonly Candidate[]): { satisfied: boolean; whole: boolean } {
  const found = { satisfied: false, whole: false };
  const place = (index: number, set: number, orgs: ReadonlySet<number>): void => {
    if (satisfies(tree.root, set)) {
      found.whole = true;
      if ((set & tree.ownerSlots) !== 0 || orgs.size >= 2) found.satisfied = true;
    }
    const candidate = candidates[index];
    if (candidate === undefined || found.satisfied) return;
    place(index + 1, set, orgs);
    for (let slot = 0; slot < tree.slots.length; slot += 1) {
      const bit = 1 << slot;
      if ((candidate.mask & bit) !== 0 && (set & bit) === 0)
        place(index + 1, set | bit, new Set([...orgs, candidate.org]));
    }
  };
  place(0, 0, new Set());
  return found;
}

t.test('seating decides exactly what trying everything decides', async (t) => {
  const random = generator(7);
  let satisfied = 0;
  let oneOrganisation = 0;
  for (let round = 0; round < 3_000; round += 1) {
    const tree = compileTree(randomTree(random, 1 + random(6)));
    const size = 1 << tree.slots.length;
    const candidates = Array.from({ length: random(6) }, () => ({ mask: random(size), org: random(3) }));
    const truth = bruteForce(tree, candidates);
    const result = seat(tree, candidates);
    if (truth.satisfied !== result.satisfied) t.fail(`round ${round}: satisfied`);
    if ((truth.whole && !truth.satisfied) !== result.oneOrganisation) t.fail(`round ${round}: one organisation`);
    const people = result.seats.filter((person) => person >= 0);
    if (new Set(people).size !== people.length) t.fail(`round ${round}: one person on two slots`);
    result.seats.forEach((person, slot) => {
      if (person >= 0 && (candidates[person]!.mask & (1 << slot)) === 0) t.fail(`round ${round}: wrong seat`);
    });
    const filled = result.seats.reduce((set, person, slot) => (person >= 0 ? set | (1 << slot) : set), 0);
    const orgs = new Set(people.map((person) => candidates[person]!.org));
    const shown = satisfies(tree.root, filled) && ((filled & tree.ownerSlots) !== 0 || orgs.size >= 2);
    if (shown !== result.satisfied) t.fail(`round ${round}: the seats do not show it`);
    if (result.satisfied) satisfied += 1;
    if (result.oneOrganisation) oneOrganisation += 1;
  }
  t.ok(satisfied > 300 && oneOrganisation > 100, `both outcomes were met: ${satisfied}, ${oneOrganisation}`);
});

t.test('a matching and not a count', async (t) => {
  const physician = by('physician');
  const head = by('department_head');
  const tree = compileTree(all(physician, head));
  t.equal(seat(tree, [{ mask: 0b11, org: 0 }]).satisfied, false, 'one person in two roles fills one slot');
  t.equal(
    seat(tree, [
      { mask: 0b01, org: 0 },
      { mask: 0b01, org: 1 },
    ]).satisfied,
    false,
    'two physicians are no head',
  );
  t.equal(
    seat(tree, [
      { mask: 0b11, org: 0 },
      { mask: 0b01, org: 1 },
    ]).satisfied,
    true,
    'who can do both makes room',
  );
  t.match(
    seat(tree, [
      { mask: 0b01, org: 0 },
      { mask: 0b10, org: 0 },
    ]),
    { satisfied: false, oneOrganisation: true },
  );
  const withOwner = compileTree(all(owner, physician));
  t.equal(
    seat(withOwner, [
      { mask: 0b01, org: 0 },
      { mask: 0b10, org: 0 },
    ]).satisfied,
    true,
    'the owner needs no second organisation',
  );
});

t.test('twelve slots and two dozen approvals are decided in bounded work', async (t) => {
  const tree = compileTree(some(11, ...Array.from({ length: 12 }, () => attending)));
  const crowd = Array.from({ length: 24 }, (_, i) => ({ mask: i % 2 === 0 ? 0xfff : 0x3ff, org: i % 24 }));
  t.equal(seat(tree, crowd).satisfied, true);
  t.equal(seat(tree, crowd.slice(0, 10)).satisfied, false);
  t.same(seat(tree, crowd).seats, seat(tree, crowd).seats, 'and always in the same way');
});

t.test('shape of trees', async (t) => {
  const code = (node: ApprovalNode): string | null => {
    const verdict = checkTree(node);
    return verdict.ok ? null : verdict.code;
  };
  t.equal(code(some(1, some(1, some(1, some(1, owner))))), null);
  t.equal(code(some(1, some(1, some(1, some(1, some(1, owner)))))), 'POLICY_TOO_DEEP');
  t.equal(code(some(1, ...Array.from({ length: 12 }, () => owner))), null);
  t.equal(code(all(all(owner, owner), ...Array.from({ length: 11 }, () => owner))), 'POLICY_TOO_WIDE');
  t.equal(code(some(0, owner)), 'POLICY_BAD_THRESHOLD');
  t.equal(code(some(2, owner)), 'POLICY_BAD_THRESHOLD');
});

t.test('whether a rule could ever be satisfied', async (t) => {
  const could = (node: ApprovalNode, more: Partial<Parameters<typeof possibility>[1]> = {}): boolean =>
    possibility(compileTree(node), {
      denied: 0,
      owner: true,
      recordOrg: 'hospital-a',
      requesterOrg: 'hospital-b',
      named: () => ({ person: 'x', org: 'hospital-a' }),
      ...more,
    }).satisfiable;
  t.equal(could(owner), true);
  t.equal(could(all(owner, owner)), false, 'the owner is one person');
  t.equal(could(owner, { owner: false }), false);
  t.equal(could(by('physician', 'writer')), false, 'one organisation alone');
  t.equal(could(all(by('physician', 'writer'), by('department_head', 'writer'))), false);
  t.equal(could(all(by('physician', 'writer'), by('department_head', 'requester'))), true);
  const sameHospital = { requesterOrg: 'hospital-a' };
  t.equal(could(all(by('physician', 'writer'), by('department_head', 'requester')), sameHospital), false);
  t.equal(could(some(2, by('ethics_board'), by('ethics_board'), by('ethics_board'))), true);
  t.equal(could(some(2, by('ethics_board'), by('ethics_board'), by('ethics_board')), { denied: 0b011 }), false);
  t.equal(could(all(owner, { kind: 'person', account: new Uint8Array(20) }), { named: () => null }), false);
});
