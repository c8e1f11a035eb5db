/** What blocks of a load cost one process, without network and consensus: rules, state tree, and the database's batch. */
import { buildBlock } from '../../../vm/index.ts';
import { applyWrites } from '../../../vm/state-tree/index.ts';
import { spread } from '../../../scripts/bench/measure.ts';
import type { CheckedTransaction } from '../../../vm/types.ts';
import type { PreparedChain } from './prepared-chain.ts';

export interface BlockCosts {
  /** Medians over the blocks, processor time in microseconds for each transaction. */
  readonly rulesUs: number;
  readonly treeUs: number;
  /** Executing, certifying and storing it: the two before included once. */
  readonly wholeUs: number;
  /** Entries of the state that a transaction changes. */
  readonly writes: number;
}

const cpuUs = (before: NodeJS.CpuUsage): number => {
  const { user, system } = process.cpuUsage(before);
  return user + system;
};

/** Commits blocks of `size` transactions; the first ones warm up, and do not count. */
export async function blockCosts(
  chain: PreparedChain,
  txs: readonly CheckedTransaction[],
  size: number,
  warmUp: number,
): Promise<BlockCosts> {
  const rules: number[] = [];
  const tree: number[] = [];
  const whole: number[] = [];
  let writes = 0;
  for (let first = 0; first + size <= txs.length; first += size) {
    const block = txs.slice(first, first + size);
    const { head, state } = chain.executor;
    const height = head.height + 1;
    const context = {
      chainId: chain.store.chainId,
      height,
      timestampMs: chain.timestampMs + 1,
      parentStateRoot: head.header.stateRoot,
    };
    let before = process.cpuUsage();
    const built = buildBlock(state.reader, context, block);
    rules.push(cpuUs(before) / size);
    before = process.cpuUsage();
    applyWrites(state.nodes, head.root, built.writes, height);
    tree.push(cpuUs(before) / size);
    before = process.cpuUsage();
    await chain.commit(block);
    whole.push(cpuUs(before) / size);
    writes += built.writes.length / txs.length;
  }
  const median = (values: readonly number[]): number => spread(values.slice(warmUp)).median;
  return { rulesUs: median(rules), treeUs: median(tree), wholeUs: median(whole), writes };
}
