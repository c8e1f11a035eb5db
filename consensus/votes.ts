/**
 * The Prepare and Commit votes of one height: each signer counted once, the first vote for a view kept, a second one
 * with another digest handed back as evidence. Bounded for each signer, so that nobody crowds out anybody else.
 */
import { equalBytes } from '../common/bytes.ts';
import type { Hash, Signature, View } from '../common/protocol/primitives.ts';
import type { VoteSignature } from './messages.ts';

/** Proposals and Prepares for views up to this far ahead are kept: messages overtake the new-view they belong to. */
export const VIEW_WINDOW = 4;
/**
 * Of one signer and kind, votes of at most this many views are kept; the lowest view goes first [P7]. Who signs for
 * invented views loses votes of its own by it and nobody else's; an honest one goes through views one after the other.
 */
const MAX_VIEWS_PER_SIGNER = 8;

export interface StoredVote {
  readonly digest: Hash;
  readonly signature: Signature;
}

export interface QuorumOfVotes {
  readonly view: View;
  readonly digest: Hash;
  /** In ascending order of the validator's index. */
  readonly signatures: readonly VoteSignature[];
}

type VotesByView = Map<View, StoredVote>;

/** Votes of one kind at one height. */
export class VoteBook {
  readonly #bySigner: VotesByView[];
  readonly #quorum: number;

  constructor(validatorCount: number, quorum: number) {
    this.#bySigner = Array.from({ length: validatorCount }, () => new Map<View, StoredVote>());
    this.#quorum = quorum;
  }

  /** @returns the earlier vote that this one contradicts, if there is one; it stays the one that counts [E1] */
  add(validator: number, view: View, digest: Hash, signature: Signature): StoredVote | null {
    const votes = this.#bySigner[validator] as VotesByView;
    const known = votes.get(view);
    if (known !== undefined) return equalBytes(known.digest, digest) ? null : known;
    votes.set(view, { digest, signature });
    if (votes.size > MAX_VIEWS_PER_SIGNER) votes.delete(Math.min(...votes.keys()));
    return null;
  }

  has(validator: number, view: View): boolean {
    return (this.#bySigner[validator] as VotesByView).has(view);
  }

  /** The signers of `digest` in `view`, whether or not they are enough. */
  signersOf(view: View, digest: Hash): readonly VoteSignature[] {
    const signatures: VoteSignature[] = [];
    this.#bySigner.forEach((votes, validator) => {
      const vote = votes.get(view);
      if (vote !== undefined && equalBytes(vote.digest, digest))
        signatures.push({ validator, signature: vote.signature });
    });
    return signatures;
  }

  /** A quorum of distinct signers for `digest` in `view`. */
  quorumFor(view: View, digest: Hash): QuorumOfVotes | null {
    const signatures = this.signersOf(view, digest);
    return signatures.length >= this.#quorum ? { view, digest, signatures } : null;
  }

  /** Forgets the views below `view`. */
  dropBelow(view: View): void {
    for (const votes of this.#bySigner) {
      for (const stored of votes.keys()) if (stored < view) votes.delete(stored);
    }
  }
}
