/**
 * What this node says on chain in its own name, by its own key and by itself: that it is in step, once a vote has made it
 * a candidate, and that a validator signed two votes which exclude each other, once it has seen it.
 */
import { randomBytes } from 'node:crypto';
import { encode } from '../../common/codec.ts';
import type { Sm2Signer } from '../../common/crypto/sm2.ts';
import type { Hash } from '../../common/protocol/primitives.ts';
import { txSigningHash } from '../../common/protocol/signing.ts';
import { stateKey } from '../../common/protocol/state-entries.ts';
import {
  type CallOf,
  type NodeCall,
  signedTransaction,
  transactionBody,
  txHash,
} from '../../common/protocol/transaction.ts';
import type { Clock } from '../clock.ts';
import type { Executor } from '../execution/executor.ts';
import type { Evidence, EvidenceBox } from '../host/evidence.ts';
import type { Log } from '../log.ts';
import type { Mempool } from '../mempool/mempool.ts';

/** What has not come into a block by then is said anew, about the head of that time. */
const VALID_MS = 15_000;
const LOOK_MS = 1_000;

/** The chain has it already, or will never take it. */
const SETTLED: ReadonlySet<string> = new Set([
  'EVIDENCE_KNOWN',
  'TOO_MUCH_EVIDENCE',
  'EVIDENCE_NOT_OF_VALIDATOR',
  'EVIDENCE_NOT_CONFLICTING',
]);

export interface NodeVoicePorts {
  readonly chainId: Hash;
  readonly clock: Clock;
  readonly log: Log;
  readonly signer: Sm2Signer;
  readonly executor: Pick<Executor, 'head' | 'state'>;
  readonly mempool: Pick<Mempool, 'submit' | 'status'>;
  readonly evidence: EvidenceBox;
  isSyncing(): boolean;
  isMember(): boolean;
  /** A bug of ours, or a failed disk: the node stops. */
  failed(error: unknown): void;
}

export class NodeVoice {
  readonly #ports: NodeVoicePorts;
  /** Hash of the last Ready, while it may still come into a block. */
  #ready: Hash | null = null;
  /** By the evidence that it carries; bounded by the box. */
  readonly #brought = new Map<Evidence, Hash>();
  #speaking: Promise<void> | null = null;
  #again = false;
  #stopped = false;
  #cancel: () => void = () => {};

  constructor(ports: NodeVoicePorts) {
    this.#ports = ports;
  }

  start(): void {
    this.#ports.evidence.onEvidence(() => this.look());
    this.#tick();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancel();
    await this.#speaking;
  }

  #tick(): void {
    this.look();
    this.#cancel = this.#ports.clock.after(LOOK_MS, () => this.#tick());
  }

  /** After each block, and from time to time: what was lost on the way is said again. One look at a time. */
  look(): void {
    if (this.#stopped) return;
    this.#again = true;
    this.#speaking ??= this.#speak()
      .catch((error: unknown) => this.#ports.failed(error))
      .finally(() => (this.#speaking = null));
  }

  async #speak(): Promise<void> {
    while (this.#again && !this.#stopped) {
      this.#again = false;
      if (!this.#ports.isMember()) return;
      await this.#sayReady();
      const pending = this.#ports.evidence.pending();
      for (const evidence of pending) await this.#bring(evidence);
      for (const known of this.#brought.keys()) if (!pending.includes(known)) this.#brought.delete(known);
    }
  }

  async #sayReady(): Promise<void> {
    const { executor, signer, log } = this.#ports;
    if (executor.state.reader.get(stateKey.candidate(signer.address)) === undefined) {
      this.#ready = null;
      return;
    }
    if (this.#ports.isSyncing() || this.#waits(this.#ready)) return;
    const { height, header } = executor.head;
    this.#ready = await this.#submit({ kind: 'node.ready', height, stateRoot: header.stateRoot });
    if (this.#ready !== null) log.info({ height }, 'a candidate by vote: told the chain that this node is in step');
  }

  async #bring(evidence: Evidence): Promise<void> {
    const { executor, evidence: box, log } = this.#ports;
    const { equivocation, validator } = evidence;
    const { vote, height, view, first, second } = equivocation;
    const settle = (): void => {
      this.#brought.delete(evidence);
      box.settle(evidence);
    };
    if (executor.state.reader.get(stateKey.evidence(validator.address, height, vote)) !== undefined) return settle();
    if (this.#waits(this.#brought.get(evidence) ?? null)) return;
    const call: CallOf<'node.evidence'> = {
      kind: 'node.evidence',
      publicKey: validator.publicKey,
      vote,
      height,
      view,
      first,
      second,
    };
    const hash = await this.#submit(call, settle);
    if (hash === null) return;
    this.#brought.set(evidence, hash);
    log.warn({ orgId: validator.orgId, height, vote }, 'brought two conflicting votes of a validator onto the chain');
  }

  #waits(hash: Hash | null): boolean {
    return hash !== null && this.#ports.mempool.status(hash).kind === 'pending';
  }

  /** @returns null where the pool did not take it; @param settled called where no later try could change that */
  async #submit(call: NodeCall, settled: () => void = () => {}): Promise<Hash | null> {
    const { mempool, log } = this.#ports;
    const bytes = this.#sign(call);
    const verdict = await mempool.submit({ bytes, sidecar: null });
    if (verdict.ok) return txHash(bytes);
    if (SETTLED.has(verdict.code)) settled();
    else log.debug({ kind: call.kind, code: verdict.code }, 'what this node has to say was not taken; it tries again');
    return null;
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
