/**
 * Holds the custodian key of one hospital and re-encrypts record keys to requesters whose grant is proven.
 *
 * It knows no database and no network. What it remembers on disk is the newest height that it has seen proven, so that
 * a restart cannot be used to show it a state from before a revocation.
 */
import { keyCheckOf, wrapPlaintext, WRAP_PLAINTEXT_BYTES } from '../../common/protocol/record.ts';
import { bytesToHex, equalBytes } from '../../common/bytes.ts';
import { sm2Decrypt, sm2Encrypt } from '../../common/crypto/sm2-encrypt.ts';
import type { RandomBytes, Sm2Engine, Sm2Signer } from '../../common/crypto/sm2.ts';
import { accept, reject, type Verdict } from '../../common/errors.ts';
import type { TrustedSet } from '../../common/protocol/light.ts';
import type { OrgId, TimeMs } from '../../common/protocol/primitives.ts';
import type { ReleaseAnswer, ReleaseDemand } from '../../common/protocol/release.ts';
import { releaseSigningHash } from '../../common/protocol/signing.ts';
import { type Judgement, judgeDemand } from './judge.ts';

/** Answers are idempotent: the same grant gets the same bytes while they are in here, some 300 bytes each. */
const MAX_CACHED_ANSWERS = 4_096;
/** Each answer costs some 10 ms of curve arithmetic; a hospital's readers need far fewer. */
const MAX_ANSWERS_PER_SECOND = 50;

export interface CustodianMemory {
  readonly seenHeight: number;
  /** Resolves once the height is durable. */
  remember(height: number): Promise<void>;
}

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

export class Custodian {
  readonly #options: CustodianOptions;
  readonly #answers = new Map<string, ReleaseAnswer>();
  #trusted: TrustedSet;
  #windowStartMs = 0;
  #answeredInWindow = 0;

  constructor(options: CustodianOptions) {
    this.#options = options;
    this.#trusted = options.trusted;
  }

  /** Never throws for anything in the demand. Throws `EmrError` only when its own memory cannot be written. */
  async answer(demand: ReleaseDemand): Promise<ReleaseAnswer> {
    const { orgId, engine, memory } = this.#options;
    const nowMs = this.#options.nowMs();
    if (!this.#admit(nowMs)) return refusal(orgId, reject('RATE_LIMITED', 'too many demands; try again in a second'));
    const judged = judgeDemand(demand, { trusted: this.#trusted, seenHeight: memory.seenHeight, orgId, nowMs, engine });
    if (!judged.ok) return refusal(orgId, judged);
    this.#trusted = judged.value.at.trusted;
    await memory.remember(judged.value.at.header.height);
    const grant = bytesToHex(demand.grantId);
    const before = this.#answers.get(grant);
    if (before !== undefined) return before;
    const released = this.#release(judged.value, demand.grantId);
    if (!released.ok) return refusal(orgId, released);
    if (this.#answers.size >= MAX_CACHED_ANSWERS) this.#answers.delete(this.#answers.keys().next().value as string);
    this.#answers.set(grant, released.value);
    return released.value;
  }

  #admit(nowMs: TimeMs): boolean {
    if (nowMs - this.#windowStartMs >= 1000 || nowMs < this.#windowStartMs) {
      this.#windowStartMs = nowMs;
      this.#answeredInWindow = 0;
    }
    this.#answeredInWindow += 1;
    return this.#answeredInWindow <= MAX_ANSWERS_PER_SECOND;
  }

  #release({ request, record, wrap }: Judgement, grantId: Uint8Array): Verdict<ReleaseAnswer> {
    const { orgId, privateKey, signer, random } = this.#options;
    const opened = sm2Decrypt(privateKey, wrap);
    if (!opened.ok || opened.value.length !== WRAP_PLAINTEXT_BYTES) {
      return reject('WRAP_INVALID', "the writer's wrap cannot be opened with the custodian key");
    }
    const key = opened.value.subarray(0, 32);
    try {
      const { recordId, version } = record;
      const meant = wrapPlaintext(key, recordId, version);
      if (
        !equalBytes(meant, opened.value) ||
        !equalBytes(keyCheckOf(recordId, version, key), record.content.keyCheck)
      ) {
        return reject('WRAP_INVALID', "the writer's wrap holds the key of something else");
      }
      const wrapped = sm2Encrypt(request.request.requesterKey, opened.value, random);
      meant.fill(0);
      const signature = signer.sign(releaseSigningHash(this.#trusted.chainId, grantId, orgId, wrapped));
      return accept({ kind: 'released', orgId, wrapped, custodianKey: signer.publicKey, signature });
    } finally {
      opened.value.fill(0);
    }
  }
}

function refusal(orgId: OrgId, why: { readonly code: string; readonly message: string }): ReleaseAnswer {
  return { kind: 'refused', orgId, code: why.code, message: why.message.slice(0, 300) };
}
