/**
 * Holds the custodian key of one hospital and re-encrypts record keys to requesters whose grant is proven.
 *
 * It knows no database and no network. What it remembers on disk is the newest height that it has seen proven, so that
 * a restart cannot be used to show it a state from before a revocation.
 */
import { keyCheckOf, wrapPlaintext, WRAP_PLAINTEXT_BYTES } from '../../common/protocol/record.ts';
import { bytesToHex, equalBytes } from '../../common/bytes.ts';
import { isPublicKey } from '../../common/crypto/curve.ts';
import { sm2Decrypt, sm2Encrypt } from '../../common/crypto/sm2-encrypt.ts';
import type { RandomBytes, Sm2Engine, Sm2Signer } from '../../common/crypto/sm2.ts';
import { accept, reject, type Verdict } from '../../common/errors.ts';
import type { TrustedSet, VerifiedHeader } from '../../common/protocol/light.ts';
import type { OrgId, TimeMs } from '../../common/protocol/primitives.ts';
import { refusal, type ReleaseAnswer, type ReleaseDemand } from '../../common/protocol/release.ts';
import { releaseSigningHash } from '../../common/protocol/signing.ts';
import { type Judgement, judgeDemand, judgeHead, rolledBack, type SeenHeads } from './judge.ts';
import type { CustodianMemory } from './memory.ts';

/** Answers are idempotent: the same grant gets the same bytes while they are in here, some 300 bytes each. */
const MAX_CACHED_ANSWERS = 4_096;
/** Judging a demand costs some 2 ms: a certificate, when the head is a new one, and five proofs. */
const MAX_DEMANDS_PER_SECOND = 200;
/** Each answer that is not in the cache costs some 10 ms of curve arithmetic; a hospital's readers need far fewer. */
const MAX_ANSWERS_PER_SECOND = 50;

export interface CustodianOptions {
  readonly orgId: OrgId;
  readonly trusted: TrustedSet;
  /** 32 bytes; never leaves this process. */
  readonly privateKey: Uint8Array;
  readonly signer: Sm2Signer;
  readonly engine: Sm2Engine;
  readonly random: RandomBytes;
  readonly memory: CustodianMemory;
  nowMs(): TimeMs;
}

/** So many in each second of the custodian's clock. */
class RateLimit {
  readonly #perSecond: number;
  #windowStartMs = 0;
  #inWindow = 0;

  constructor(perSecond: number) {
    this.#perSecond = perSecond;
  }

  admits(nowMs: TimeMs): boolean {
    if (nowMs - this.#windowStartMs >= 1000 || nowMs < this.#windowStartMs) {
      this.#windowStartMs = nowMs;
      this.#inWindow = 0;
    }
    this.#inWindow += 1;
    return this.#inWindow <= this.#perSecond;
  }
}

const RATE_LIMITED = reject('RATE_LIMITED', 'too many demands; try again in a second');

export class Custodian {
  readonly #options: CustodianOptions;
  readonly #answers = new Map<string, ReleaseAnswer>();
  readonly #demandRate = new RateLimit(MAX_DEMANDS_PER_SECOND);
  readonly #answerRate = new RateLimit(MAX_ANSWERS_PER_SECOND);
  #trusted: TrustedSet;
  #last: SeenHeads['last'] = null;

  constructor(options: CustodianOptions) {
    this.#options = options;
    this.#trusted = options.trusted;
  }

  /** Never throws for anything in the demand. Throws `EmrError` only when its own memory cannot be written. */
  async answer(demand: ReleaseDemand): Promise<ReleaseAnswer> {
    const { orgId, memory } = this.#options;
    const nowMs = this.#options.nowMs();
    if (!this.#demandRate.admits(nowMs)) return refusal(orgId, RATE_LIMITED);
    const head = await this.#head(demand);
    if (!head.ok) return refusal(orgId, head);
    // Others may have shown a later state while this one was written down.
    const { seenHeight } = memory;
    if (head.value.header.height < seenHeight) return refusal(orgId, rolledBack(head.value, seenHeight));
    const judged = judgeDemand(demand, head.value, { orgId, nowMs });
    if (!judged.ok) return refusal(orgId, judged);
    const grant = bytesToHex(demand.grantId);
    const before = this.#answers.get(grant);
    if (before !== undefined) return before;
    if (!this.#answerRate.admits(nowMs)) return refusal(orgId, RATE_LIMITED);
    const released = this.#release(judged.value, demand.grantId);
    if (!released.ok) return refusal(orgId, released);
    if (this.#answers.size >= MAX_CACHED_ANSWERS) this.#answers.delete(this.#answers.keys().next().value as string);
    this.#answers.set(grant, released.value);
    return released.value;
  }

  /** A head that is verified counts from now on, whatever becomes of the demand that it came with. */
  async #head(demand: ReleaseDemand): Promise<Verdict<VerifiedHeader>> {
    const { engine, memory } = this.#options;
    const seen = { trusted: this.#trusted, seenHeight: memory.seenHeight, last: this.#last };
    const head = judgeHead(demand.head, seen, engine);
    if (!head.ok) return head;
    this.#trusted = head.value.trusted;
    this.#last = { bytes: demand.head.head.header, head: head.value };
    await memory.remember(head.value.header.height);
    return head;
  }

  #release({ request, record, wrap }: Judgement, grantId: Uint8Array): Verdict<ReleaseAnswer> {
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
      const signature = signer.sign(releaseSigningHash(this.#trusted.chainId, grantId, orgId, wrapped));
      return accept({ kind: 'released', orgId, wrapped, custodianKey: signer.publicKey, signature });
    } finally {
      meant.fill(0);
      opened.value.fill(0);
    }
  }
}
