/**
 * Holds the custodian key of one hospital and its share of the custody key: re-encrypts record keys, or makes shares of them,
 * for requesters whose grant is proven, and takes its part in making and handing on the shared key.
 *
 * It knows no database and no network. What it remembers on disk is the newest height that it has seen proven, so that
 * a restart cannot be used to show it a state from before a revocation, and what belongs to custody sessions, sealed.
 */
import { bytesToHex, equalBytes } from '../../common/bytes.ts';
import { isPublicKey } from '../../common/crypto/curve.ts';
import { createReleaseShare } from '../../common/crypto/custody/release-share.ts';
import { sm2Decrypt, sm2Encrypt } from '../../common/crypto/sm2-encrypt.ts';
import type { RandomBytes, Sm2Signer } from '../../common/crypto/sm2.ts';
import { accept, reject, unreachable, type Verdict } from '../../common/errors.ts';
import { custodyShareHash } from '../../common/protocol/custody.ts';
import type { VerifiedHeader } from '../../common/protocol/light.ts';
import type { OrgId, TimeMs } from '../../common/protocol/primitives.ts';
import { keyCheckOf, wrapPlaintext, WRAP_PLAINTEXT_BYTES } from '../../common/protocol/record.ts';
import {
  type CustodianAnswer,
  type CustodianDemand,
  refusal,
  type ReleaseAnswer,
  type SessionDemand,
} from '../../common/protocol/release.ts';
import { releaseSigningHash } from '../../common/protocol/signing.ts';
import { Heads, type HeadsOptions } from './heads.ts';
import { judgeDemand, type Judgement, judgeShare, type ShareJudgement } from './judge.ts';
import { judgeSession } from './judge-session.ts';
import { RateLimit } from './rate-limit.ts';
import type { SealedStore } from '../../common/native/custody-store.ts';
import { SessionKeeper } from './session-keeper.ts';

/** Answers are idempotent: the same grant gets the same bytes while they are in here, some 300 bytes each. */
const MAX_CACHED_ANSWERS = 4_096;
/** Judging a demand costs some 2 ms: a certificate, when the head is a new one, and five proofs. */
const MAX_DEMANDS_PER_SECOND = 200;
/** Each answer that is not in the cache costs 10 to 20 ms of curve arithmetic; a hospital's readers need far fewer. */
const MAX_ANSWERS_PER_SECOND = 50;
/** A step of a session costs up to a second, once, with 31 dealings. Its node asks once a second and after each block. */
const MAX_SESSION_DEMANDS_PER_SECOND = 20;

export interface CustodianOptions extends HeadsOptions {
  readonly orgId: OrgId;
  /** 32 bytes; never leaves this process. */
  readonly privateKey: Uint8Array;
  readonly signer: Sm2Signer;
  readonly random: RandomBytes;
  readonly store: SealedStore;
  /** Sets that the operator has confirmed; see `SessionKeeperOptions`. */
  confirmedSets(): Promise<ReadonlySet<string>>;
  nowMs(): TimeMs;
}

const RATE_LIMITED = reject('RATE_LIMITED', 'too many demands; try again in a second');

export class Custodian {
  readonly #options: CustodianOptions;
  readonly #heads: Heads;
  readonly #sessions: SessionKeeper;
  readonly #answers = new Map<string, ReleaseAnswer>();
  readonly #demandRate = new RateLimit(MAX_DEMANDS_PER_SECOND);
  readonly #answerRate = new RateLimit(MAX_ANSWERS_PER_SECOND);
  readonly #sessionRate = new RateLimit(MAX_SESSION_DEMANDS_PER_SECOND);
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: CustodianOptions) {
    this.#options = options;
    this.#heads = new Heads(options);
    this.#sessions = new SessionKeeper(options);
  }

  /** Never throws for anything in the demand. Throws `EmrError` only when what it must remember cannot be written. */
  async answer(demand: CustodianDemand): Promise<CustodianAnswer> {
    const { orgId } = this.#options;
    const rate = demand.kind === 'session' ? this.#sessionRate : this.#demandRate;
    if (!rate.admits(this.#options.nowMs())) return refusal(orgId, RATE_LIMITED);
    const head = await this.#heads.prove(demand.head);
    if (!head.ok) return refusal(orgId, head);
    const answer = await this.#judged(demand, head.value);
    return answer.ok ? answer.value : refusal(orgId, answer);
  }

  #judged(demand: CustodianDemand, at: VerifiedHeader): Verdict<CustodianAnswer> | Promise<Verdict<CustodianAnswer>> {
    const { orgId } = this.#options;
    const about = { orgId, nowMs: this.#options.nowMs() };
    switch (demand.kind) {
      case 'release': {
        const judged = judgeDemand(demand, at, about);
        if (!judged.ok) return judged;
        return this.#once(`direct/${bytesToHex(demand.grantId)}`, () =>
          this.#release(judged.value, at, demand.grantId),
        );
      }
      case 'share': {
        const judged = judgeShare(demand, at, about);
        if (!judged.ok) return judged;
        const { sessionId, context } = judged.value;
        return this.#once(`${bytesToHex(sessionId)}/${bytesToHex(context.grantId)}`, () => this.#share(judged.value));
      }
      case 'session':
        return this.#inTurn(() => this.#step(demand, at));
      default:
        return unreachable(demand);
    }
  }

  /** The same answer while it is remembered; a new one as often as there is time for. */
  #once(key: string, make: () => Verdict<ReleaseAnswer>): Verdict<ReleaseAnswer> {
    const before = this.#answers.get(key);
    if (before !== undefined) return accept(before);
    if (!this.#answerRate.admits(this.#options.nowMs())) return RATE_LIMITED;
    const made = make();
    if (!made.ok) return made;
    if (this.#answers.size >= MAX_CACHED_ANSWERS) this.#answers.delete(this.#answers.keys().next().value as string);
    this.#answers.set(key, made.value);
    return made;
  }

  #share({ context, holder, sessionId }: ShareJudgement): Verdict<ReleaseAnswer> {
    const { orgId, signer, random } = this.#options;
    const x = this.#sessions.share(sessionId, holder.X);
    if (x === null) {
      return reject(
        'CUSTODY_NO_SHARE',
        `the custodian of ${orgId} has no share of epoch ${context.epoch}; its operator sees why`,
      );
    }
    const share = createReleaseShare(context, holder, x, random);
    const signature = signer.sign(custodyShareHash(context, orgId, share));
    return accept({ kind: 'share', orgId, share, custodianKey: signer.publicKey, signature });
  }

  /** Sessions are judged one at a time: each step writes, and the next one builds on what was written. */
  #inTurn<T>(step: () => Promise<T>): Promise<T> {
    const taken = this.#turn.then(step);
    this.#turn = taken.catch(() => undefined);
    return taken;
  }

  async #step(demand: SessionDemand, at: VerifiedHeader): Promise<Verdict<CustodianAnswer>> {
    const { orgId, signer } = this.#options;
    // Others may have shown a later state while this demand waited for its turn.
    const current = this.#heads.current(at);
    if (!current.ok) return current;
    const proven = judgeSession(demand, at, { orgId, custodianKey: signer.publicKey });
    if (!proven.ok) return proven;
    const next = await this.#sessions.answer(proven.value);
    return next.ok ? accept({ kind: 'steps', orgId, ...next.value }) : next;
  }

  #release({ request, record, wrap }: Judgement, at: VerifiedHeader, grantId: Uint8Array): Verdict<ReleaseAnswer> {
    const { orgId, privateKey, signer, random } = this.#options;
    const { requesterKey } = request.request;
    // The chain asked for a proof of possession; what no key is must not become an exception here all the same.
    if (!isPublicKey(requesterKey)) return reject('REQUEST_KEY_INVALID', "the request's key is no point of the curve");
    const opened = sm2Decrypt(privateKey, wrap);
    if (!opened.ok || opened.value.length !== WRAP_PLAINTEXT_BYTES) {
      return reject('WRAP_INVALID', "the writer's wrap cannot be opened with the custodian key");
    }
    const key = opened.value.subarray(0, 32);
    const { recordId, version } = record;
    const meant = wrapPlaintext(key, recordId, version);
    try {
      if (
        !equalBytes(meant, opened.value) ||
        !equalBytes(keyCheckOf(recordId, version, key), record.content.keyCheck)
      ) {
        return reject('WRAP_INVALID', "the writer's wrap holds the key of something else");
      }
      const wrapped = sm2Encrypt(requesterKey, opened.value, random);
      const signature = signer.sign(releaseSigningHash(at.header.chainId, grantId, orgId, wrapped));
      return accept({ kind: 'released', orgId, wrapped, custodianKey: signer.publicKey, signature });
    } finally {
      meant.fill(0);
      opened.value.fill(0);
    }
  }
}
