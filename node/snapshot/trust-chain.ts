/**
 * The validator sets from the genesis on, each handed over to by the one before. It only grows by what is proven, so it can
 * be fed by anybody.
 */
import { equalBytes } from '../../common/bytes.ts';
import type { Sm2Engine } from '../../common/crypto/sm2.ts';
import { decode } from '../../common/codec.ts';
import { accept, reject, type Verdict } from '../../common/errors.ts';
import { blockHeader, MAX_HEADER_BYTES } from '../../common/protocol/block.ts';
import {
  type CertifiedHeader,
  type Handover,
  type TrustedSet,
  verifyHandover,
  verifyHeader,
  type VerifiedHeader,
} from '../../common/protocol/light.ts';
import type { Hash, Height } from '../../common/protocol/primitives.ts';
import type { ValidatorSet } from '../../common/protocol/validator-set.ts';
import { MAX_TRUST_STEPS } from './restore-store.ts';

export class TrustChain {
  readonly #engine: Sm2Engine;
  /** Ascending by height. */
  readonly #steps: { readonly trusted: TrustedSet; readonly by: Handover | null }[];

  constructor(chainId: Hash, founders: ValidatorSet, engine: Sm2Engine) {
    this.#engine = engine;
    this.#steps = [{ trusted: { chainId, fromHeight: 1, validators: founders }, by: null }];
  }

  /** The first height whose handover is not known yet. */
  get next(): Height {
    return this.#last.fromHeight;
  }

  get #last(): TrustedSet {
    return (this.#steps.at(-1) as { readonly trusted: TrustedSet }).trusted;
  }

  extend(by: Handover): Verdict {
    const header = decode(blockHeader, by.at.header, MAX_HEADER_BYTES);
    if (!header.ok) return header;
    if (equalBytes(header.value.validatorsHash, header.value.nextValidatorsHash)) {
      return reject('NO_HANDOVER', 'the header hands over to the set that it has');
    }
    if (this.#steps.length > MAX_TRUST_STEPS) return reject('TOO_MANY_HANDOVERS', 'more handovers than any chain has');
    const trusted = verifyHandover(this.#last, by, this.#engine);
    if (trusted.ok) this.#steps.push({ trusted: trusted.value, by });
    return trusted.ok ? accept(undefined) : trusted;
  }

  /** Checks a certified header against the set of its height, as far as handovers are known. */
  verify(proof: CertifiedHeader, height: Height): Verdict<VerifiedHeader> {
    const step = this.#steps.findLast(({ trusted }) => trusted.fromHeight <= height);
    if (step === undefined) return reject('HEADER_TOO_OLD', 'block 0 is known by its hash');
    return verifyHeader(step.trusted, proof, this.#engine);
  }

  /** The handovers before a height. */
  before(height: Height): Handover[] {
    return this.#steps.flatMap(({ trusted, by }) => (by !== null && trusted.fromHeight <= height ? [by] : []));
  }
}
