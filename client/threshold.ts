/**
 * From the masked shares of several holders to a record's key (custody protocol, section 12.4). Pure: no node is asked here.
 *
 * The key check of the record decides. Shares are tried first and judged only where they do not open the record, so that
 * who is honest costs nothing; then each is checked against its holder, and what is false is named and left out.
 */
import { type CurvePoint, decodePoint, rawToPoint } from '../common/crypto/curve.ts';
import { type Capsule, type CapsuleLabel, openCapsule, parseCapsule } from '../common/crypto/custody/capsule.ts';
import {
  checkReleaseShare,
  combineShares,
  type Holder,
  type KeyUse,
  parseReleaseShare,
  type ReleaseShare,
  unmask,
} from '../common/crypto/custody/release-share.ts';
import { requirePrivateKey } from '../common/crypto/sm2.ts';
import { accept, reject, type Verdict } from '../common/errors.ts';
import { capsuleBytesOf, type CustodyEpochEntry, type SealedCapsule } from '../common/protocol/custody.ts';
import type { RecoveryKeyEntry } from '../common/protocol/recovery-key.ts';
import { hexOf } from './hex.ts';

/** The custodians' key, or the recovery key of officers: whose shares open a record, and how many of them. */
export interface ReleasingKey {
  readonly use: KeyUse;
  /** Epoch of the custody key, version of the recovery key. */
  readonly epoch: number;
  readonly threshold: number;
  /** In order of index: a custodian by its organisation, an officer by the account in hex; and X_i, 33 bytes. */
  readonly holders: readonly { readonly name: string; readonly share: Uint8Array }[];
}

export const custodyKey = ({
  epoch,
  threshold,
  holders,
}: Pick<CustodyEpochEntry, 'epoch' | 'threshold' | 'holders'>): ReleasingKey => ({
  use: 'custody',
  epoch,
  threshold,
  holders: holders.map(({ orgId, share }) => ({ name: orgId, share })),
});

export const recoveryKey = ({ version, threshold, holders }: RecoveryKeyEntry): ReleasingKey => ({
  use: 'recovery',
  epoch: version,
  threshold,
  holders: holders.map(({ account, share }) => ({ name: hexOf(account), share })),
});

/** What the shares are for: all of it proven, none of it from whoever shows the shares. */
export interface SealedRecord {
  readonly chainId: Uint8Array;
  /** Hash of the granted request. */
  readonly grantId: Uint8Array;
  /** Q of the request, 64 bytes. */
  readonly requesterKey: Uint8Array;
  readonly sealedUnder: ReleasingKey;
  readonly capsule: SealedCapsule;
  /** C, whose hash the record names. */
  readonly c: Uint8Array;
  readonly label: CapsuleLabel;
}

export interface OfferedShare {
  /** Name of its holder. */
  readonly holder: string;
  /** 164 untrusted bytes. */
  readonly share: Uint8Array;
}

/** A share that is not its holder's for this grant, and why. */
export interface RejectedShare {
  readonly holder: string;
  readonly code: string;
  readonly message: string;
}

export type Opening = (
  | {
      readonly kind: 'opened';
      /** 32 bytes. Erased by the caller. */
      readonly key: Uint8Array;
    }
  /** Fewer good shares than it takes. */
  | { readonly kind: 'tooFew' }
  /** Enough good shares, and they open another key than the record promises: the writer's doing. */
  | { readonly kind: 'wrongKey' }
) & {
  /** Whose shares are good, or opened the record. */
  readonly by: readonly string[];
  /** Where the first trial opened the record, nobody was judged but by form. */
  readonly rejected: readonly RejectedShare[];
};

interface Candidate extends OfferedShare {
  readonly place: Holder;
  readonly parsed: ReleaseShare;
}

/** The holder's index and public share, by what is proven. */
function placeOf({ holders }: ReleasingKey, holder: string): Holder | undefined {
  const at = holders.findIndex(({ name }) => name === holder);
  const X = decodePoint(holders[at]?.share ?? new Uint8Array(0));
  return X && { index: at + 1, X };
}

function candidateOf(key: ReleasingKey, offered: OfferedShare): Verdict<Candidate> {
  const place = placeOf(key, offered.holder);
  if (place === undefined) return reject('SHARE_WRONG_HOLDER', 'it holds no share of the key');
  const parsed = parseReleaseShare(offered.share);
  if (!parsed.ok) return parsed;
  if (parsed.value.index !== place.index) return reject('SHARE_WRONG_HOLDER', 'the share is of another holder');
  return accept({ ...offered, place, parsed: parsed.value });
}

/** One opening: the points that it works on, and what was found false on the way. */
class Trial {
  readonly rejected: RejectedShare[] = [];
  readonly #record: SealedRecord;
  readonly #X: CurvePoint;
  readonly #Q: CurvePoint;
  readonly #capsule: Capsule;
  readonly #q: bigint;

  constructor(record: SealedRecord, X: CurvePoint, Q: CurvePoint, capsule: Capsule, q: bigint) {
    this.#record = record;
    this.#X = X;
    this.#Q = Q;
    this.#capsule = capsule;
    this.#q = q;
  }

  /** Untrusted shares that may be what they say: one of each holder, in the order in which they came. */
  candidates(offered: readonly OfferedShare[]): readonly Candidate[] {
    const found = new Map<string, Candidate>();
    for (const one of offered) {
      if (found.has(one.holder)) continue;
      const candidate = candidateOf(this.#record.sealedUnder, one);
      if (candidate.ok) found.set(one.holder, candidate.value);
      else this.#reject(one.holder, candidate);
    }
    return [...found.values()];
  }

  /** Those whose proof holds for this grant, epoch, capsule and key. */
  proven(candidates: readonly Candidate[]): readonly Candidate[] {
    const { chainId, grantId, sealedUnder } = this.#record;
    const { use, epoch } = sealedUnder;
    const context = { use, chainId, grantId, epoch, U: this.#capsule.U, Q: this.#Q };
    return candidates.filter(({ holder, share, place }) => {
      const checked = checkReleaseShare(share, context, place);
      if (!checked.ok) this.#reject(holder, checked);
      return checked.ok;
    });
  }

  open(chosen: readonly Candidate[]): Verdict<Uint8Array> {
    const W = unmask(combineShares(chosen.map(({ parsed }) => parsed)), this.#q);
    return openCapsule(this.#capsule, W, this.#X, this.#record.label);
  }

  #reject(holder: string, { code, message }: { readonly code: string; readonly message: string }): void {
    this.rejected.push({ holder, code, message });
  }
}

/** CAPSULE_MALFORMED where the chain holds something that is none: no honest quorum certified that. */
function trialOf(record: SealedRecord, requestKey: Uint8Array): Verdict<Trial> {
  const capsule = parseCapsule(capsuleBytesOf(record.capsule, record.c));
  if (!capsule.ok) return capsule;
  const [X, Q] = [decodePoint(record.capsule.key), rawToPoint(record.requesterKey)];
  if (X === undefined || Q === undefined) return reject('CAPSULE_MALFORMED', 'a key is not a point of the curve');
  return accept(new Trial(record, X, Q, capsule.value, requirePrivateKey(requestKey)));
}

const namesOf = (candidates: readonly Candidate[]): readonly string[] => candidates.map(({ holder }) => holder);

/**
 * @param offered of any holders, in the order in which they are to be tried; one holder's second share is passed over
 * @param requestKey private key of the request, 32 bytes
 * @returns CAPSULE_MALFORMED as a verdict; everything else is an outcome
 */
export function openWithShares(
  record: SealedRecord,
  offered: readonly OfferedShare[],
  requestKey: Uint8Array,
): Verdict<Opening> {
  const made = trialOf(record, requestKey);
  if (!made.ok) return made;
  const trial = made.value;
  const { rejected } = trial;
  const { threshold } = record.sealedUnder;
  const enough = (of: readonly Candidate[]): readonly Candidate[] | undefined =>
    of.length < threshold ? undefined : of.slice(0, threshold);

  const candidates = trial.candidates(offered);
  const first = enough(candidates);
  const key = first && trial.open(first);
  if (first && key?.ok) return accept({ kind: 'opened', key: key.value, by: namesOf(first), rejected });

  const good = trial.proven(candidates);
  const chosen = enough(good);
  if (chosen === undefined) return accept({ kind: 'tooFew', by: namesOf(good), rejected });
  const second = trial.open(chosen);
  return second.ok
    ? accept({ kind: 'opened', key: second.value, by: namesOf(chosen), rejected })
    : accept({ kind: 'wrongKey', by: namesOf(chosen), rejected });
}
