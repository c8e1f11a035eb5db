/**
 * The last blocks in memory, for those who are told of a block and read it next: replication, subscribers, whoever waits for
 * a transaction. While a node catches up they are some blocks behind.
 */
import type { Height } from '../../common/protocol/primitives.ts';
import type { CommittedBlock } from '../storage/chain-store.ts';

/** As many as sync commits at a time. */
const MAX_BLOCKS = 64;
const MAX_BYTES = 8 * 1024 * 1024;

/** What is read of a block; of its state nodes there are many times as many bytes. */
type Recent = Pick<CommittedBlock, 'block' | 'receipts'>;

const sizeOf = ({ block, receipts }: Recent): number =>
  [...block.txs, ...block.sidecars, ...receipts].reduce((sum, bytes) => sum + (bytes?.length ?? 0), 0);

export class RecentBlocks {
  /** In the order of their heights. */
  readonly #blocks = new Map<Height, Recent & { readonly sizeBytes: number }>();
  #bytes = 0;

  note(committed: CommittedBlock): void {
    const { block, receipts } = committed;
    const sizeBytes = sizeOf(committed);
    this.#blocks.set(committed.header.height, { block, receipts, sizeBytes });
    this.#bytes += sizeBytes;
    for (const [height, oldest] of this.#blocks) {
      if (this.#blocks.size <= MAX_BLOCKS && this.#bytes <= MAX_BYTES) return;
      this.#blocks.delete(height);
      this.#bytes -= oldest.sizeBytes;
    }
  }

  at(height: Height): Recent | null {
    return this.#blocks.get(height) ?? null;
  }
}
