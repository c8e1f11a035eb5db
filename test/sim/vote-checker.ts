/**
 * What the votes of honest validators alone already show, before anybody has committed: a block is **settled** at a height
 * once so many honest Commits for it were signed in one view that the faulty can complete the quorum whenever they
 * like. From then on no honest Prepare may be for another block in a later view. In one view, no two blocks may have so many
 * honest Prepares. Somebody might have seen what nobody has told yet: that is why this looks at votes and not at blocks.
 */
import { quorumSize } from '../../common/protocol/validator-set.ts';

export interface CastBallot {
  readonly member: number;
  readonly kind: 'prepare' | 'commit';
  readonly height: number;
  readonly view: number;
  /** In hex. */
  readonly digest: string;
}

/** The set at the vote's height: how many there are, and how many of them are faulty. */
export interface Electorate {
  readonly count: number;
  readonly faulty: number;
}

interface HeightVotes {
  /** `view/digest` -> members. */
  readonly prepares: Map<string, Set<number>>;
  readonly commits: Map<string, Set<number>>;
  readonly settled: { readonly view: number; readonly digest: string }[];
}

export class VoteChecker {
  readonly #heights = new Map<number, HeightVotes>();

  /** @returns what is wrong with this vote, or null */
  note({ member, kind, height, view, digest }: CastBallot, { count, faulty }: Electorate): string | null {
    const votes = this.#at(height);
    const book = kind === 'prepare' ? votes.prepares : votes.commits;
    const key = `${view}/${digest}`;
    const signers = book.get(key) ?? new Set<number>();
    book.set(key, signers.add(member));
    if (kind === 'prepare') {
      const broken = votes.settled.find((s) => s.view < view && s.digest !== digest);
      if (broken !== undefined)
        return `height ${height}: a Prepare in view ${view} against what view ${broken.view} settled`;
    }
    if (signers.size < quorumSize(count) - faulty) return null;
    if (kind === 'prepare') {
      const rival = [...votes.prepares].find(
        ([other, by]) => other !== key && other.startsWith(`${view}/`) && by.size >= quorumSize(count) - faulty,
      );
      return rival === undefined ? null : `height ${height}: two blocks prepared in view ${view}`;
    }
    votes.settled.push({ view, digest });
    for (const other of votes.prepares.keys()) {
      const [otherView, otherDigest] = other.split('/');
      if (Number(otherView) > view && otherDigest !== digest)
        return `height ${height}: a Prepare in view ${otherView} against what view ${view} settled`;
    }
    return null;
  }

  #at(height: number): HeightVotes {
    const known = this.#heights.get(height);
    if (known !== undefined) return known;
    const fresh: HeightVotes = { prepares: new Map(), commits: new Map(), settled: [] };
    this.#heights.set(height, fresh);
    this.#heights.delete(height - 8);
    return fresh;
  }
}
