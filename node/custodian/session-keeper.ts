/**
 * The custodian's part in custody sessions: from the state as it is proven to what it wants to be said next, and the secrets
 * that come of it (docs/custody-protocol.md, section 12). It speaks through its node, which can keep its word back and
 * cannot change it.
 *
 * DANGER, in this order: a secret is on disk before what follows from it leaves; a share is handed on only to a set that the
 * operator has confirmed; a dealing is checked before the own part of it is opened; what is no longer needed is erased only
 * once the state proves it.
 */
import { bytesToBigint, bytesToHex, equalBytes } from '../../common/bytes.ts';
import { type CurvePoint, encodePoint, encodeScalar, GENERATOR } from '../../common/crypto/curve.ts';
import { deal, proveEncryptionKey } from '../../common/crypto/custody/dealing.ts';
import { proveShare } from '../../common/crypto/custody/shared-key.ts';
import { generatePrivateKey, type RandomBytes, type Sm2Signer } from '../../common/crypto/sm2.ts';
import { accept, EmrError, reject, type Verdict } from '../../common/errors.ts';
import { custodyAnnounceHash } from '../../common/protocol/custody.ts';
import type { Hash, OrgId } from '../../common/protocol/primitives.ts';
import type { CustodyStep } from '../../common/protocol/release.ts';
import type { ProvenCustody, ProvenEpoch, ProvenSession } from './judge-session.ts';
import type { SealedStore } from '../../common/native/custody-store.ts';
import { SessionDealings } from './session-dealings.ts';
import { waits } from './waits.ts';

export interface SessionKeeperOptions {
  readonly orgId: OrgId;
  readonly signer: Sm2Signer;
  readonly random: RandomBytes;
  readonly store: SealedStore;
  /** Sets that the operator has confirmed, `custodySetHash` in hex with 0x. @throws EmrError where that cannot be read */
  confirmedSets(): Promise<ReadonlySet<string>>;
}

export interface SessionAnswer {
  readonly steps: readonly CustodyStep[];
  readonly waitsFor: string | null;
}

const NOTHING: SessionAnswer = { steps: [], waitsFor: null };
const said = (...steps: readonly CustodyStep[]): Verdict<SessionAnswer> => accept({ steps, waitsFor: null });
const waiting = (waitsFor: string): Verdict<SessionAnswer> => accept({ steps: [], waitsFor });

export class SessionKeeper {
  readonly #options: SessionKeeperOptions;
  readonly #dealings = new SessionDealings();
  /** The public share that a kept share was found to belong to, by session. Two at the most: the epoch's and the next. */
  readonly #matched = new Map<string, Uint8Array>();

  constructor(options: SessionKeeperOptions) {
    this.#options = options;
  }

  /**
   * One at a time: what is kept must not change under it.
   * @returns what to say next, or the code of what is wrong with the demand
   * @throws EmrError where what must be kept cannot be written
   */
  async answer(proven: ProvenCustody): Promise<Verdict<SessionAnswer>> {
    await this.#eraseWhatIsOver(proven);
    const { session, epoch } = proven;
    if (session === null) return accept({ ...NOTHING, waitsFor: this.#lackOfShare(epoch) });
    if (session.receiver !== null && !session.isNamed) return waiting(waits.otherCustodian(this.#options.orgId));
    switch (session.entry.phase) {
      case 'announce':
        return this.#announce(session);
      case 'deal':
        return this.#dealAndComplain(session, epoch);
      case 'confirm':
        return this.#confirm(session, epoch);
      case 'prepared':
        return this.#complaints(session, epoch);
    }
  }

  /**
   * The share that a session made, as a scalar.
   * @returns null where this custodian does not have the share that belongs to `X`
   */
  share(sessionId: Hash, X: CurvePoint): bigint | null {
    const kept = this.#options.store.get('share', sessionId);
    if (kept === undefined) return null;
    const x = bytesToBigint(kept.content);
    const id = bytesToHex(sessionId);
    const promised = encodePoint(X);
    const known = this.#matched.get(id);
    if (known !== undefined && equalBytes(known, promised)) return x;
    if (x === 0n || !GENERATOR.multiply(x).equals(X)) return null;
    this.#matched.set(id, promised);
    return x;
  }

  /** What belongs neither to the session that is open nor to the epoch that is active. */
  async #eraseWhatIsOver({ session, epoch }: ProvenCustody): Promise<void> {
    const { store } = this.#options;
    for (const kept of store.all()) {
      const isOpen = session !== null && equalBytes(kept.sessionId, session.entry.id);
      const isActive = kept.kind === 'share' && epoch !== null && equalBytes(kept.sessionId, epoch.entry.sessionId);
      if (isOpen || isActive) continue;
      this.#matched.delete(bytesToHex(kept.sessionId));
      await store.erase(kept);
    }
  }

  #lackOfShare(epoch: ProvenEpoch | null): string | null {
    if (epoch === null || epoch.own === null) return null;
    const X = epoch.holders[epoch.own - 1] as CurvePoint;
    return this.share(epoch.entry.sessionId, X) === null ? waits.newShares(epoch.entry.epoch) : null;
  }

  // ------------------------------------------------------------------------------------------------------ announce

  async #announce({ entry, session, receiver }: ProvenSession): Promise<Verdict<SessionAnswer>> {
    if (receiver === null || entry.keys[receiver - 1] !== null) return said();
    const { orgId, signer, random, store } = this.#options;
    const content = store.get('key', session.id)?.content ?? generatePrivateKey(random);
    await store.put({ kind: 'key', sessionId: session.id, epoch: entry.epoch, content });
    const p = bytesToBigint(content);
    const P = GENERATOR.multiply(p);
    const key = encodePoint(P);
    return said({
      kind: 'announce',
      key,
      proof: proveEncryptionKey(session, { index: receiver, P }, p, random),
      custodianKey: signer.publicKey,
      signature: signer.sign(custodyAnnounceHash(session.id, orgId, key)),
    });
  }

  /** The key of this session, if it is the one that stands on the chain. */
  #ownKey({ session, receiver, keys }: ProvenSession): bigint | null {
    const kept = this.#options.store.get('key', session.id);
    const announced = receiver === null ? undefined : keys?.[receiver - 1];
    if (kept === undefined || announced === undefined) return null;
    const p = bytesToBigint(kept.content);
    return GENERATOR.multiply(p).equals(announced.P) ? p : null;
  }

  // ---------------------------------------------------------------------------------------------------------- deal

  async #dealAndComplain(proven: ProvenSession, epoch: ProvenEpoch | null): Promise<Verdict<SessionAnswer>> {
    const dealt = await this.#deal(proven, epoch);
    if (!dealt.ok) return dealt;
    const complaints = await this.#complaints(proven, epoch);
    if (!complaints.ok) return complaints;
    const { steps, waitsFor } = dealt.value;
    return accept({ steps: [...steps, ...complaints.value.steps], waitsFor: waitsFor ?? complaints.value.waitsFor });
  }

  async #deal(proven: ProvenSession, epoch: ProvenEpoch | null): Promise<Verdict<SessionAnswer>> {
    const { entry, session, dealer, keys, setHash } = proven;
    if (dealer === null || keys === null || entry.dealt.includes(dealer)) return said();
    const { store, random } = this.#options;
    const kept = store.get('dealing', session.id);
    if (kept !== undefined) return said({ kind: 'deal', dealing: kept.content });
    let secret: bigint | null = null;
    if (epoch !== null) {
      // Whoever holds shares hands them on; that somebody joins is for people to see and to want, not for the chain alone.
      const confirmed = await this.#confirmedSets();
      if (!confirmed.ok) return confirmed;
      if (!confirmed.value.has(setHash)) return waiting(waits.confirmation(setHash, entry, epoch.entry));
      secret = this.share(epoch.entry.sessionId, epoch.holders[dealer - 1] as CurvePoint);
      if (secret === null) return waiting(waits.newShares(epoch.entry.epoch));
    }
    const dealing = deal(session, dealer, secret, keys, random);
    await store.put({ kind: 'dealing', sessionId: session.id, epoch: entry.epoch, content: dealing });
    return said({ kind: 'deal', dealing });
  }

  /** What a person has mistyped must not end the process. */
  async #confirmedSets(): Promise<Verdict<ReadonlySet<string>>> {
    try {
      return accept(await this.#options.confirmedSets());
    } catch (error) {
      if (error instanceof EmrError) return reject(error.code, error.message);
      throw error;
    }
  }

  // ------------------------------------------------------------------------------------------ complain and confirm

  async #complaints(proven: ProvenSession, epoch: ProvenEpoch | null): Promise<Verdict<SessionAnswer>> {
    if (proven.receiver === null || proven.dealings.size === 0) return said();
    const p = this.#ownKey(proven);
    if (p === null) return waiting(waits.otherKey(this.#options.orgId));
    const opened = this.#dealings.open(proven, epoch, p);
    return opened.ok ? said(...opened.value.complaints(p, this.#options.random)) : opened;
  }

  async #confirm(proven: ProvenSession, epoch: ProvenEpoch | null): Promise<Verdict<SessionAnswer>> {
    const { entry, session, receiver } = proven;
    if (receiver === null) return said();
    const p = this.#ownKey(proven);
    if (p === null) return waiting(waits.otherKey(this.#options.orgId));
    const { store, random } = this.#options;
    const opened = this.#dealings.open(proven, epoch, p);
    if (!opened.ok) return opened;
    const complaints = opened.value.complaints(p, random);
    if (complaints.length > 0) return said(...complaints);
    const made = opened.value.share();
    if (!made.ok) return made;
    const { x, X, own } = made.value;
    await store.put({ kind: 'share', sessionId: session.id, epoch: entry.epoch, content: encodeScalar(x) });
    if (entry.confirmed.includes(receiver)) return said();
    return said({ kind: 'confirm', proof: proveShare(session, receiver, X, own, x, random) });
  }
}
