/** A chain of many small blocks on a real database, made without consensus and copied for each node that begins with it. */
import { cp } from 'node:fs/promises';
import { Executor } from '../../node/execution/executor.ts';
import { genesisBlock } from '../../node/execution/genesis-block.ts';
import { openChainStore } from '../../node/storage/chain-store.ts';
import type { KeyValueStore } from '../../node/storage/key-value-store.ts';
import { openLevelStore } from '../../node/storage/level-store.ts';
import { commitOne } from './node-chain.ts';
import { type Consortium, enrolPatient } from './node-consortium.ts';

export class LongChain {
  readonly #dir: string;

  private constructor(dir: string) {
    this.#dir = dir;
  }

  /** Makes `blocks` blocks of 1 to `maxTxs` transactions in a folder below `dir`. */
  static async make(
    net: Consortium,
    dir: string,
    blocks: number,
    maxTxs = 3,
    onBlock: (height: number) => void = () => {},
  ): Promise<LongChain> {
    const kv = await openLevelStore(`${dir}/made`);
    const store = await openChainStore(kv, net.genesis, () => genesisBlock(net.genesis));
    const executor = Executor.open(store);
    for (let height = 1; height <= blocks; height += 1) {
      const txs = Array.from({ length: 1 + (height % maxTxs) }, (_, i) => enrolPatient(net, (height + i) % 4));
      await commitOne(net, store, executor, txs);
      onBlock(height);
    }
    await kv.close();
    return new LongChain(dir);
  }

  /** A database of its own with the whole chain. */
  async open(name: string): Promise<KeyValueStore> {
    await cp(`${this.#dir}/made`, `${this.#dir}/${name}`, { recursive: true });
    return openLevelStore(`${this.#dir}/${name}`);
  }
}
