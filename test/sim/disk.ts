/**
 * A simulated disk under one node: synced batches, each there whole or not at all, which is what the store's checksummed log
 * gives. It forgets what was not synced, is slow, full, torn at its end, or rotten, as the seed has it.
 */
import { bytesToHex } from '../../common/bytes.ts';
import type { ProposedBlock } from '../../consensus/messages.ts';
import { bodiesOf, type SafetyRecord } from '../../consensus/safety-record.ts';
import { type StoredBlock, txKey } from './toy-chain.ts';
import type { World } from './world.ts';

/** One synced batch: a record with at most one body, or a committed block. */
export type Batch =
  | { readonly kind: 'record'; readonly record: SafetyRecord; readonly block: ProposedBlock | null }
  | { readonly kind: 'block'; readonly stored: StoredBlock };

/** What a backup of the data folder holds. */
export interface DiskImage {
  readonly chain: readonly StoredBlock[];
  readonly record: SafetyRecord | null;
  readonly bodies: ReadonlyMap<string, ProposedBlock>;
}

const EMPTY: DiskImage = { chain: [], record: null, bodies: new Map() };

export class SimDisk {
  /** What is there after a power cut: index i is height i + 1. */
  readonly chain: StoredBlock[] = [];
  record: SafetyRecord | null = null;
  bodies = new Map<string, ProposedBlock>();
  /** Keys of all transactions in `chain`. */
  readonly txs = new Set<string>();
  /** How long a sync takes, at most. */
  syncMs = 2;
  /** Writes fail until then. */
  fullUntilMs = 0;
  /** A sector that was written went bad: found by its checksum when the node opens its store. */
  isRotten = false;
  /** Of unsynced batches that a power cut met: how many were torn, lost, or whole after all. */
  readonly cuts = { torn: 0, lost: 0, whole: 0 };
  #unsynced: Batch | null = null;
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  /** @returns when the batch will be durable, in milliseconds from now; null when the disk is full */
  begin(batch: Batch): number | null {
    if (this.#world.nowMs < this.fullUntilMs) return null;
    this.#unsynced = batch;
    return this.#world.prng.between(0, this.syncMs);
  }

  /** The batch that was begun is durable. */
  synced(): void {
    const batch = this.#unsynced;
    this.#unsynced = null;
    if (batch !== null) this.#apply(batch);
  }

  /**
   * Power is gone. Of a batch under way nothing reached the disk, or a part, which its checksum betrays and recovery
   * drops; or all of it, though nobody was told.
   */
  cut(): void {
    const { prng } = this.#world;
    if (this.#unsynced === null) return;
    const fate = prng.pick(['torn', 'lost', 'whole', 'whole'] as const);
    this.cuts[fate] += 1;
    if (fate === 'whole') this.#apply(this.#unsynced);
    this.#unsynced = null;
  }

  /** A new, empty disk in place of a rotten one. */
  replace(): void {
    this.putBack(EMPTY);
  }

  image(): DiskImage {
    return { chain: [...this.chain], record: this.record, bodies: new Map(this.bodies) };
  }

  /** The folder is put back from a backup, or from that of another process. */
  putBack({ chain, record, bodies }: DiskImage): void {
    this.chain.splice(0, this.chain.length, ...chain);
    this.txs.clear();
    for (const { block } of chain) for (const tx of block.block.txs) this.txs.add(txKey(tx));
    this.record = record;
    this.bodies = new Map(bodies);
    this.isRotten = false;
    this.#unsynced = null;
  }

  #apply(batch: Batch): void {
    if (batch.kind === 'block') {
      this.chain.push(batch.stored);
      for (const tx of batch.stored.block.block.txs) this.txs.add(txKey(tx));
      return;
    }
    const { record, block } = batch;
    if (block !== null) this.bodies.set(bytesToHex(block.hash), block);
    const needed = new Set(bodiesOf(record).map(bytesToHex));
    for (const hash of this.bodies.keys()) if (!needed.has(hash)) this.bodies.delete(hash);
    this.record = record;
  }
}
