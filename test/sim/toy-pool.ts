/** The transactions that wait at a simulated node, and the real judge of leaders that leave them out. */
import { bytesToHex } from '../../common/bytes.ts';
import type { ProposedBlock } from '../../consensus/messages.ts';
import { type FairnessLimits, FairnessWatch, type Offer } from '../../node/host/fairness.ts';
import { txKey } from './toy-chain.ts';
import type { World } from './world.ts';

export const MAX_BLOCK_TXS = 8;

export class ToyPool {
  readonly #waiting = new Map<string, { readonly tx: Uint8Array; readonly receivedMs: number }>();
  readonly #world: World;
  readonly #limits: FairnessLimits;
  #fairness: FairnessWatch;

  /** @param maxWatched how many leaders are held for censors at a time */
  constructor(world: World, maxWatched: number) {
    this.#world = world;
    this.#limits = { roomTxs: MAX_BLOCK_TXS, maxBlockBytes: 1, urgentPerBlock: 1, maxWatched };
    this.#fairness = this.#newFairness();
  }

  get size(): number {
    return this.#waiting.size;
  }

  /** In the order in which they came. */
  get txs(): readonly Uint8Array[] {
    return [...this.#waiting.values()].map(({ tx }) => tx);
  }

  has(tx: Uint8Array): boolean {
    return this.#waiting.has(txKey(tx));
  }

  add(tx: Uint8Array): void {
    this.#waiting.set(txKey(tx), { tx, receivedMs: this.#world.nowMs });
  }

  /** The process ended. */
  clear(): void {
    this.#waiting.clear();
    this.#fairness = this.#newFairness();
  }

  committed({ hash, block }: ProposedBlock): void {
    for (const tx of block.txs) this.#waiting.delete(txKey(tx));
    this.#fairness.committed(bytesToHex(hash), this.#limits, this.#world.nowMs);
  }

  /** Whether the leader of a fresh proposal leaves something out again. */
  isLeftOutBy({ hash, header, block }: ProposedBlock): boolean {
    const offer: Offer = {
      proposer: bytesToHex(header.proposer),
      keys: new Set(block.txs.map(txKey)),
      sizeBytes: 0,
      hasNormal: true,
      urgentOfAccount: new Map(),
    };
    return this.#fairness.proposed(bytesToHex(hash), offer, this.#limits, this.#world.nowMs);
  }

  #newFairness(): FairnessWatch {
    const room = {
      overdue: (beforeMs: number) =>
        [...this.#waiting]
          .filter(([, { receivedMs }]) => receivedMs < beforeMs)
          .map(([key]) => ({ key, account: key, priority: 'normal' as const, sizeBytes: 0 })),
      executes: () => true,
    };
    return new FairnessWatch(room, this.#world.nowMs);
  }
}
