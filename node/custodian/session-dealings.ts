/**
 * The stored dealings of a session as a receiver sees them: each checked, its own part opened once; complaints about false
 * ones; and the share that the qualified ones add up to.
 */
import { bytesToHex, equalBytes } from '../../common/bytes.ts';
import { type CurvePoint, encodePoint } from '../../common/crypto/curve.ts';
import {
  checkDealing,
  complain,
  type Dealing,
  type EncryptionKey,
  openDealing,
} from '../../common/crypto/custody/dealing.ts';
import { countedDealings, generatedKey, resharedKey, secretShare } from '../../common/crypto/custody/shared-key.ts';
import type { RandomBytes } from '../../common/crypto/sm2.ts';
import { accept, assert, reject, type Verdict } from '../../common/errors.ts';
import type { CustodyStep } from '../../common/protocol/release.ts';
import type { ProvenEpoch, ProvenSession } from './judge-session.ts';

interface Opened {
  readonly bytes: Uint8Array;
  readonly dealing: Dealing;
  /** Null where the dealer cheated. */
  readonly subShare: bigint | null;
}

export class SessionDealings {
  #session = '';
  /** By dealer, of one session: checking and opening one takes some 15 ms. */
  readonly #opened = new Map<number, Opened>();

  /**
   * Checks and opens what was shown.
   * @param p this receiver's key of the session
   * @returns CUSTODY_INCONSISTENT where the chain stored what is no dealing: then nothing of it is opened
   */
  open(proven: ProvenSession, epoch: ProvenEpoch | null, p: bigint): Verdict<OpenedDealings> {
    const { session, dealings, keys, receiver } = proven;
    const id = bytesToHex(session.id);
    if (id !== this.#session) this.#opened.clear();
    this.#session = id;
    const own = receiver === null ? undefined : keys?.[receiver - 1];
    assert(own !== undefined, 'who opens dealings is a receiver whose key is announced');
    for (const [dealer, bytes] of dealings) {
      const before = this.#opened.get(dealer);
      if (before !== undefined && equalBytes(before.bytes, bytes)) continue;
      const promised = epoch === null ? null : (epoch.holders[dealer - 1] ?? null);
      const checked = checkDealing(session, bytes, promised);
      const isStrange = epoch !== null && promised === null;
      if (!checked.ok || isStrange || checked.value.dealer !== dealer)
        return reject('CUSTODY_INCONSISTENT', `the dealing that is stored of dealer ${dealer} is none`);
      const part = openDealing(session, checked.value, own, p);
      this.#opened.set(dealer, { bytes, dealing: checked.value, subShare: part.ok ? part.value : null });
    }
    return accept(new OpenedDealings(proven, epoch, own, this.#opened));
  }
}

export class OpenedDealings {
  readonly #proven: ProvenSession;
  readonly #epoch: ProvenEpoch | null;
  readonly #own: EncryptionKey;
  readonly #opened: ReadonlyMap<number, Opened>;

  constructor(
    proven: ProvenSession,
    epoch: ProvenEpoch | null,
    own: EncryptionKey,
    opened: ReadonlyMap<number, Opened>,
  ) {
    this.#proven = proven;
    this.#epoch = epoch;
    this.#own = own;
    this.#opened = opened;
  }

  /** Dealers that were not disqualified, ascending. */
  get #qualified(): readonly number[] {
    const { dealt, disqualified } = this.#proven.entry;
    return dealt.filter((dealer) => !disqualified.includes(dealer));
  }

  /** About every dealer that sent a false part and was not disqualified yet. */
  complaints(p: bigint, random: RandomBytes): readonly CustodyStep[] {
    return this.#qualified.flatMap((dealer) => {
      const found = this.#opened.get(dealer);
      if (found === undefined || found.subShare !== null) return [];
      const complaint = complain(this.#proven.session, found.dealing, this.#own, p, random);
      return [{ kind: 'complain' as const, complaint }];
    });
  }

  /**
   * The own share, of the result that stands on the chain.
   * @returns CUSTODY_INCOMPLETE where a dealing that counts was not shown, CUSTODY_INCONSISTENT where the chain's result is
   *   not what the dealings add up to
   */
  share(): Verdict<{ readonly x: bigint; readonly X: CurvePoint; readonly own: CurvePoint }> {
    const { session, entry } = this.#proven;
    const shown = this.#qualified.flatMap((dealer) => this.#opened.get(dealer) ?? []);
    if (shown.length < this.#qualified.length) return reject('CUSTODY_INCOMPLETE', 'a qualified dealing was not shown');
    const dealings = shown.map(({ dealing }) => dealing);
    const epoch = this.#epoch;
    const key =
      epoch === null ? generatedKey(session, dealings) : resharedKey(session, dealings, epoch.entry.threshold, epoch.X);
    if (!key.ok) return key;
    const { X, holders } = key.value;
    const { result } = entry;
    const isResult =
      result !== null &&
      equalBytes(result.key, encodePoint(X)) &&
      result.shares.length === holders.length &&
      holders.every((holder, k) => equalBytes(result.shares[k] as Uint8Array, encodePoint(holder)));
    if (!isResult) return reject('CUSTODY_INCONSISTENT', 'the result on the chain is not what the dealings add up to');
    const counted = epoch === null ? dealings : countedDealings(dealings, epoch.entry.threshold);
    const subShares = shown.slice(0, counted.length).map(({ subShare }) => {
      assert(subShare !== null, 'complaints come before shares');
      return subShare;
    });
    const own = holders[this.#own.index - 1] as CurvePoint;
    const dealers = counted.map(({ dealer }) => dealer);
    const x = secretShare(dealers, subShares, epoch === null ? 'sum' : 'interpolate', own);
    return accept({ x, X, own });
  }
}
