/** Calls that this node makes in its own name: signed by its own key, and submitted to its own pool like anybody's. */
import { randomBytes } from 'node:crypto';
import { encode } from '../../common/codec.ts';
import type { Sm2Signer } from '../../common/crypto/sm2.ts';
import { accept, type Verdict } from '../../common/errors.ts';
import type { Hash } from '../../common/protocol/primitives.ts';
import { txSigningHash } from '../../common/protocol/signing.ts';
import { type NodeCall, signedTransaction, transactionBody, txHash } from '../../common/protocol/transaction.ts';
import type { Clock } from '../clock.ts';
import type { Executor } from '../execution/executor.ts';
import type { Mempool } from '../mempool/mempool.ts';

/** What has not come into a block by then is said anew, about the head of that time. */
const VALID_MS = 15_000;

export interface OwnCallsPorts {
  readonly chainId: Hash;
  readonly clock: Clock;
  readonly signer: Sm2Signer;
  readonly executor: Pick<Executor, 'head'>;
  readonly mempool: Pick<Mempool, 'submit' | 'status'>;
}

export class OwnCalls {
  readonly #ports: OwnCallsPorts;

  constructor(ports: OwnCallsPorts) {
    this.#ports = ports;
  }

  /** @returns the transaction's hash, or why the pool did not take it */
  async submit(call: NodeCall): Promise<Verdict<Hash>> {
    const bytes = this.#sign(call);
    const verdict = await this.#ports.mempool.submit({ bytes, sidecar: null });
    return verdict.ok ? accept(txHash(bytes)) : verdict;
  }

  /** Whether a call that was submitted may still come into a block. */
  waits(hash: Hash | null): boolean {
    return hash !== null && this.#ports.mempool.status(hash).kind === 'pending';
  }

  #sign(call: NodeCall): Uint8Array {
    const { chainId, signer, clock, executor } = this.#ports;
    const body = encode(transactionBody, {
      version: 1,
      chainId,
      account: signer.address,
      nonce: new Uint8Array(randomBytes(16)),
      validUntilMs: clock.nowMs() + Math.min(VALID_MS, executor.head.params.txValidityMs),
      call,
    });
    const signature = signer.sign(txSigningHash(chainId, body));
    return encode(signedTransaction, { body, publicKey: signer.publicKey, signature });
  }
}
