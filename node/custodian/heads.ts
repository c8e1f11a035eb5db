/** What a custodian knows of the chain: the newest head that it has seen proven, and the validators that certify the next. */
import type { Sm2Engine } from '../../common/crypto/sm2.ts';
import { accept, type Verdict } from '../../common/errors.ts';
import type { LightProof, TrustedSet, VerifiedHeader } from '../../common/protocol/light.ts';
import { judgeHead, rolledBack, type SeenHeads } from './judge.ts';
import type { CustodianMemory } from './memory.ts';

export interface HeadsOptions {
  readonly trusted: TrustedSet;
  readonly engine: Sm2Engine;
  readonly memory: CustodianMemory;
  /** Block 0, made from the genesis document; null where later blocks were seen. */
  readonly genesis: SeenHeads['genesis'];
}

export class Heads {
  readonly #options: HeadsOptions;
  #trusted: TrustedSet;
  #last: SeenHeads['last'] = null;

  constructor(options: HeadsOptions) {
    this.#options = options;
    this.#trusted = options.trusted;
  }

  /** A head that is verified counts from now on, whatever becomes of the demand that it came with. */
  async prove(proof: LightProof): Promise<Verdict<VerifiedHeader>> {
    const { engine, memory, genesis } = this.#options;
    const seen = { trusted: this.#trusted, seenHeight: memory.seenHeight, last: this.#last, genesis };
    const head = judgeHead(proof, seen, engine);
    if (!head.ok) return head;
    this.#trusted = head.value.trusted;
    this.#last = { bytes: proof.head.header, head: head.value };
    await memory.remember(head.value.header.height);
    return this.current(head.value);
  }

  /** The same head, unless a later one was shown meanwhile. */
  current(head: VerifiedHeader): Verdict<VerifiedHeader> {
    const { seenHeight } = this.#options.memory;
    return head.header.height < seenHeight ? rolledBack(head, seenHeight) : accept(head);
  }
}
