/**
 * What this node says on chain in its own name, by its own key and by itself: that it is in step, once a vote has made it
 * a candidate, and that a validator signed two votes which exclude each other, once it has seen it.
 */
import type { Address, Hash } from '../../common/protocol/primitives.ts';
import { stateKey } from '../../common/protocol/state-entries.ts';
import type { CallOf, NodeCall } from '../../common/protocol/transaction.ts';
import type { Clock } from '../clock.ts';
import type { Executor } from '../execution/executor.ts';
import type { Evidence, EvidenceBox } from '../host/evidence.ts';
import type { Log } from '../log.ts';
import type { OwnCalls } from './own-calls.ts';
import { SingleLook } from './single-look.ts';

/** The chain has it already, or will never take it. */
const SETTLED: ReadonlySet<string> = new Set([
  'EVIDENCE_KNOWN',
  'TOO_MUCH_EVIDENCE',
  'EVIDENCE_NOT_OF_VALIDATOR',
  'EVIDENCE_NOT_CONFLICTING',
]);

export interface NodeVoicePorts {
  readonly clock: Clock;
  readonly log: Log;
  /** Of this node's own SM2 key. */
  readonly address: Address;
  readonly executor: Pick<Executor, 'head' | 'state'>;
  readonly calls: OwnCalls;
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
  readonly #looks: SingleLook;

  constructor(ports: NodeVoicePorts) {
    this.#ports = ports;
    this.#looks = new SingleLook(
      ports.clock,
      () => this.#speak(),
      (error) => ports.failed(error),
    );
  }

  start(): void {
    this.#ports.evidence.onEvidence(() => this.look());
    this.#looks.start();
  }

  stop(): Promise<void> {
    return this.#looks.stop();
  }

  /** After each block, and from time to time: what was lost on the way is said again. */
  look(): void {
    this.#looks.look();
  }

  async #speak(): Promise<void> {
    if (!this.#ports.isMember()) return;
    await this.#sayReady();
    const pending = this.#ports.evidence.pending();
    for (const evidence of pending) await this.#bring(evidence);
    for (const known of this.#brought.keys()) if (!pending.includes(known)) this.#brought.delete(known);
  }

  async #sayReady(): Promise<void> {
    const { executor, address, calls, log } = this.#ports;
    if (executor.state.reader.get(stateKey.candidate(address)) === undefined) {
      this.#ready = null;
      return;
    }
    if (this.#ports.isSyncing() || calls.waits(this.#ready)) return;
    const { height, header } = executor.head;
    this.#ready = await this.#submit({ kind: 'node.ready', height, stateRoot: header.stateRoot });
    if (this.#ready !== null) log.info({ height }, 'a candidate by vote: told the chain that this node is in step');
  }

  async #bring(evidence: Evidence): Promise<void> {
    const { executor, calls, evidence: box, log } = this.#ports;
    const { equivocation, validator } = evidence;
    const { vote, height, view, first, second } = equivocation;
    const settle = (): void => {
      this.#brought.delete(evidence);
      box.settle(evidence);
    };
    if (executor.state.reader.get(stateKey.evidence(validator.address, height, vote)) !== undefined) return settle();
    if (calls.waits(this.#brought.get(evidence) ?? null)) return;
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

  /** @returns null where the pool did not take it; @param settled called where no later try could change that */
  async #submit(call: NodeCall, settled: () => void = () => {}): Promise<Hash | null> {
    const said = await this.#ports.calls.submit(call);
    if (said.ok) return said.value;
    if (SETTLED.has(said.code)) settled();
    else
      this.#ports.log.debug(
        { kind: call.kind, code: said.code },
        'what this node has to say was not taken; it tries again',
      );
    return null;
  }
}
