/**
 * Seating persons on slots: one person fills one slot, whatever roles that person has. So whether a rule is satisfied is
 * a matching and not a count, and with thresholds inside the tree and the rule of two organisations the largest
 * matching need not be the right one. This decides it exactly.
 *
 * Dynamic programming over sets of slots: after each person, for each set of slots that can be filled, from which
 * organisations it can be. At most 24 persons * 2^12 sets * 12 slots; for a usual rule of three slots, some hundred steps.
 */
import { assert } from '../common/errors.ts';
import { type ApprovalTree, satisfies } from './approval-tree.ts';

/** Somebody who approves. */
export interface Candidate {
  /** Slots that this person may fill, as a mask. */
  readonly mask: number;
  /** Organisation, counted from 0: only equality matters. */
  readonly org: number;
}

export interface Seating {
  /** The tree is satisfied, by the owner among others or by persons of two organisations. */
  readonly satisfied: boolean;
  /** The tree would be satisfied, but without the owner and by persons of one organisation alone. */
  readonly oneOrganisation: boolean;
  /** For each slot the candidate who fills it, or -1: of the best seatings one, always the same. */
  readonly seats: readonly number[];
}

/** How a set of slots can be filled: by persons of organisation j alone (bit j), by several, or it is the empty set. */
const EMPTY = 1 << 30;
const SEVERAL = 1 << 29;
const MAX_ORGS = 28;

/** The ways to fill a set when a person of `org` joins those of `ways`. */
function join(ways: number, org: number): number {
  const own = 1 << org;
  const others = ways & ~(EMPTY | own);
  return ((ways & (EMPTY | own)) !== 0 ? own : 0) | (others !== 0 ? SEVERAL : 0);
}

/** After each candidate, the ways to fill each set of slots. `layers[0]` is before the first. */
function fill(size: number, candidates: readonly Candidate[]): Int32Array[] {
  const first = new Int32Array(size);
  first[0] = EMPTY;
  const layers = [first];
  for (const { mask, org } of candidates) {
    assert(org >= 0 && org < MAX_ORGS, 'organisations of one matching are few');
    const before = layers[layers.length - 1] as Int32Array;
    const after = before.slice();
    for (let set = 0; set < size; set += 1) {
      const ways = before[set] as number;
      if (ways === 0) continue;
      const joined = join(ways, org);
      for (let free = mask & ~set; free !== 0; free &= free - 1) {
        const grown = set | (free & -free);
        after[grown] = (after[grown] as number) | joined;
      }
    }
    layers.push(after);
  }
  return layers;
}

function bitCount(mask: number): number {
  let bits = 0;
  for (let rest = mask; rest !== 0; rest &= rest - 1) bits += 1;
  return bits;
}

/** Walks back through the layers: who sits where, in one seating that fills `set` in one of the given ways. */
function seatsOf(
  layers: readonly Int32Array[],
  candidates: readonly Candidate[],
  slots: number,
  set: number,
  ways: number,
): number[] {
  const seats = new Array<number>(slots).fill(-1);
  let left = set;
  let way = ways & -ways;
  for (let person = candidates.length - 1; person >= 0; person -= 1) {
    const before = layers[person] as Int32Array;
    if (((before[left] as number) & way) !== 0) continue;
    const { mask, org } = candidates[person] as Candidate;
    const own = 1 << org;
    const from = way === SEVERAL ? ~(EMPTY | own) : EMPTY | own;
    let seat = -1;
    for (let slot = 0; slot < slots && seat < 0; slot += 1) {
      const bit = 1 << slot;
      if ((mask & left & bit) === 0) continue;
      const reach = (before[left & ~bit] as number) & from;
      if (reach === 0) continue;
      seat = slot;
      left &= ~bit;
      way = reach & -reach;
    }
    assert(seat >= 0, 'a seating can be traced back');
    seats[seat] = person;
  }
  return seats;
}

/**
 * Seats the candidates as well as possible: satisfied before satisfied by one organisation before not, then as many
 * seated as possible, then the lowest slots, then the earliest candidates.
 * @param candidates distinct persons, at most 28 organisations among them
 */
export function seat(tree: ApprovalTree, candidates: readonly Candidate[]): Seating {
  const size = 1 << tree.slots.length;
  const layers = fill(size, candidates);
  const last = layers[layers.length - 1] as Int32Array;
  let best = { rank: -1, set: 0, ways: EMPTY };
  for (let set = 0; set < size; set += 1) {
    const ways = last[set] as number;
    if (ways === 0) continue;
    const whole = satisfies(tree.root, set);
    const owner = (set & tree.ownerSlots) !== 0;
    const spans = whole && (owner || (ways & SEVERAL) !== 0);
    const rank = (spans ? 200 : whole ? 100 : 0) + bitCount(set);
    if (rank > best.rank) best = { rank, set, ways: spans && !owner ? SEVERAL : ways };
  }
  return {
    satisfied: best.rank >= 200,
    oneOrganisation: best.rank >= 100 && best.rank < 200,
    seats: seatsOf(layers, candidates, tree.slots.length, best.set, best.ways),
  };
}
