/**
 * A chain with a past that was not ordered by consensus: blocks are built by the node's own executor, certified with the
 * validators' keys, and stored as any block is. What it leaves is what a network would have left; only the time is saved.
 */
import {
  type BlockHeader,
  blockHash,
  type Certificate,
  encodeHeader,
  txRootOf,
} from '../../../common/protocol/block.ts';
import { receiptsRootOf } from '../../../common/protocol/receipt.ts';
import type { Sm2Signer } from '../../../common/crypto/sm2.ts';
import { voteSigningHash } from '../../../common/protocol/signing.ts';
import type { Genesis } from '../../../common/protocol/genesis.ts';
import { quorumSize } from '../../../common/protocol/validator-set.ts';
import { leaderOf, leaderOrder } from '../../../consensus/leader-order.ts';
import type { ProposedBlock } from '../../../consensus/messages.ts';
import { type ExecutedBlock, Executor } from '../../../node/execution/executor.ts';
import { genesisBlock } from '../../../node/execution/genesis-block.ts';
import { type ChainStore, openChainStore } from '../../../node/storage/chain-store.ts';
import type { KeyValueStore } from '../../../node/storage/key-value-store.ts';
import { MAX_UNWRITTEN_BLOCKS } from '../../../node/storage/recent-states.ts';
import { applyWrites, encodeRoot, nodeKey } from '../../../vm/state-tree/index.ts';
import type { CheckedTransaction, StateWrite } from '../../../vm/types.ts';

export class PreparedChain {
  readonly store: ChainStore;
  readonly executor: Executor;
  readonly #signers: readonly Sm2Signer[];

  private constructor(store: ChainStore, executor: Executor, signers: readonly Sm2Signer[]) {
    this.store = store;
    this.executor = executor;
    this.#signers = signers;
  }

  /** @param validators keys in the order of the genesis' set */
  static async open(kv: KeyValueStore, genesis: Genesis, validators: readonly Sm2Signer[]): Promise<PreparedChain> {
    const store = await openChainStore(kv, genesis, () => genesisBlock(genesis), MAX_UNWRITTEN_BLOCKS);
    return new PreparedChain(store, Executor.open(store), validators.slice(0, quorumSize(validators.length)));
  }

  /** Leaves the database as a node that was stopped does. */
  async close(): Promise<void> {
    await this.store.storeState(this.executor.head);
  }

  get timestampMs(): number {
    return this.executor.head.header.timestampMs;
  }

  /** Blocks with all of them, as full as blocks may be. @throws Error when one does not execute */
  async commit(txs: readonly CheckedTransaction[]): Promise<void> {
    for (let done = 0; done < txs.length;) {
      const { maxBlockTxs } = this.executor.head.params;
      done += await this.#block(txs.slice(done, done + maxBlockTxs));
    }
  }

  async #block(candidates: readonly CheckedTransaction[]): Promise<number> {
    const { head } = this.executor;
    const leader = leaderOf(leaderOrder(head.height + 1, head.validators.length, head.leaders), 0);
    const proposer = (head.validators[leader] as (typeof head.validators)[number]).address;
    const built = await this.executor.build({ view: 0, proposer, timestampMs: this.timestampMs + 1, candidates });
    const [rejected] = built.rejected;
    if (rejected !== undefined) throw new Error(`${rejected.code}: ${rejected.message}`);
    const executed = this.executor.executed(built.proposal.hash) as ExecutedBlock;
    await this.store.commitBlock(this.executor.toCommit(executed, this.#certificate(built.proposal)));
    this.executor.advance(executed);
    return built.included;
  }

  /**
   * Entries that no transaction wrote, in a block without any: for states that are too large to be executed into being.
   * What is read of them later is the same; a node that executed this block would come to another root.
   * @param writes strictly ascending keys
   */
  async implant(writes: readonly StateWrite[]): Promise<void> {
    const { executor, store } = this;
    const { head, state } = executor;
    const height = head.height + 1;
    const written = applyWrites(state.nodes, head.root, writes, height);
    const header: BlockHeader = {
      ...head.header,
      height,
      view: 0,
      parentHash: head.hash,
      timestampMs: this.timestampMs + 1,
      txRoot: txRootOf([]),
      receiptsRoot: receiptsRootOf([]),
      stateRoot: written.rootHash,
      validatorsHash: head.header.nextValidatorsHash,
    };
    const headerBytes = encodeHeader(header);
    const block = { header: headerBytes, txs: [], sidecars: [] };
    const hash = blockHash(headerBytes);
    const { root, newNodes, staleNodes } = written;
    await store.commitBlock({
      hash,
      header,
      block,
      certificate: this.#certificate({ hash, header, block }),
      receipts: [],
      txHashes: [],
      nextValidators: head.validators,
      leaders: head.leaders,
      state: { root: encodeRoot(root), newNodes, staleNodes: staleNodes.map(nodeKey) },
      keepsState: true,
    });
    executor.reopen(store);
  }

  #certificate({ header, hash }: ProposedBlock): Certificate {
    const message = voteSigningHash(header.chainId, 'commit', header.height, 0, hash);
    const signatures = this.#signers.map((signer, validator) => ({ validator, signature: signer.sign(message) }));
    return { height: header.height, view: 0, blockHash: hash, signatures };
  }
}
