/**
 * The one place where a block becomes the head: durable first, then the executor, then everybody who listens. The host
 * calls it for blocks that consensus decided and for blocks that came with a certificate; nobody else does.
 */
import { equalBytes } from '../../common/bytes.ts';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { accept, assert, EmrError, InvariantError, reject, type Verdict } from '../../common/errors.ts';
import { type Certificate, verifyCertificate } from '../../common/protocol/block.ts';
import type { Height } from '../../common/protocol/primitives.ts';
import { proposedBlock, type ProposedBlock } from '../../consensus/messages.ts';
import { type ExecutedBlock, type ExecutionRun, type Executor, stateChangeOf } from '../execution/executor.ts';
import type { ChainStore, CommittedBlock, RestoredBlock } from '../storage/chain-store.ts';
import type { TransactionChecker } from '../verification/transaction-checker.ts';
import type { Verifier } from '../verification/verifier.ts';
import type { CertifiedBlock } from './wire.ts';

/** What a peer can get wrong under a true certificate: bytes that the header does not bind in themselves. */
const BODY_FAULTS: ReadonlySet<string> = new Set([
  'WRONG_BODY',
  'MALFORMED',
  'NOT_CANONICAL',
  'TOO_LARGE',
  'SIDECAR_MISMATCH',
  'SIDECAR_UNEXPECTED',
]);

/** Execution of blocks from sync gives way to what consensus has waiting after this long. */
const RUN_SLICE_MS = 50;

/** What became of the first of some certified blocks. */
export interface Applied {
  /** Those that are new, in order; they are the chain's last now. */
  readonly committed: readonly CommittedBlock[];
  /** How many of the blocks were looked at. The rest were not, for want of time or because of the verdict. */
  readonly taken: number;
  /** About the last one that was looked at: the first thing that is wrong with it. */
  readonly verdict: Verdict;
}

export class Ledger {
  readonly #store: ChainStore;
  readonly #executor: Executor;
  readonly #checker: TransactionChecker;
  readonly #verifier: Verifier;
  readonly #listeners = new Set<(committed: CommittedBlock) => void>();

  constructor(store: ChainStore, executor: Executor, checker: TransactionChecker, verifier: Verifier) {
    this.#store = store;
    this.#executor = executor;
    this.#checker = checker;
    this.#verifier = verifier;
  }

  /** Called after each block, in order, once its whole batch is on disk and the executor has moved. */
  onCommitted(listener: (committed: CommittedBlock) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Executes the blocks that the store has and its last state does not: what was in memory when the process ended. Nobody is
   * told of them, as of no other block from before the start.
   * @returns how many
   * @throws EmrError DATA_CORRUPT when one is missing, or does not lead to what its header says
   */
  async resume(): Promise<number> {
    const from = this.#executor.head.height;
    const head = this.#store.head.header.height;
    for (let height = from + 1; height <= head; height += 1) {
      const block = await this.#store.blockAt(height);
      const opened = block === null ? reject('MISSING', 'it is not there') : proposedBlock(block);
      const executed = opened.ok ? await this.#executeAgain(opened.value) : opened;
      if (!executed.ok) throw damaged(height, executed.message);
      this.#store.recall(height, stateChangeOf(executed.value));
      this.#executor.advance(executed.value);
    }
    return head - from;
  }

  /**
   * A block that consensus decided. The core had it executed before it voted; after a restart that is done again.
   * @returns false when the block is stored already
   */
  async commitDecided(proposal: ProposedBlock, certificate: Certificate): Promise<CommittedBlock | null> {
    if (proposal.header.height <= this.#executor.head.height) return null;
    const known = this.#executor.executed(proposal.hash);
    const executed = known === undefined ? await this.#executeAgain(proposal) : accept(known);
    assert(executed.ok, `a decided block cannot be executed: ${executed.ok ? '' : executed.code}`);
    return this.#commit(executed.value, certificate);
  }

  /**
   * Blocks that came with their certificates, in order, from whomever: each verified against the set of the state before
   * it, executed, and held against every root. What is good of them becomes the head together, in one synced batch.
   * Takes as many as fit into a slice of time, at least one, so that consensus gets its turn between two calls.
   * @throws InvariantError when a quorum certified what this node computes differently
   */
  async applyCertified(blocks: readonly CertifiedBlock[]): Promise<Applied> {
    const run = this.#executor.run();
    const committed: CommittedBlock[] = [];
    const executed: ExecutedBlock[] = [];
    let verdict: Verdict = accept(undefined);
    let taken = 0;
    const endMs = performance.now() + RUN_SLICE_MS;
    for (const certified of blocks) {
      if (taken > 0) {
        if (performance.now() >= endMs) break;
        await nextTurn();
      }
      taken += 1;
      const next = this.#execute(run, certified);
      if (!next.ok) {
        verdict = next;
        break;
      }
      if (next.value === null) continue;
      executed.push(next.value);
      committed.push(this.#executor.toCommit(next.value, certified.certificate));
    }
    await this.#commitAll(executed, committed);
    return { committed, taken, verdict };
  }

  /** @returns null when the block is stored already; HEIGHT_GAP when blocks before it are missing */
  #execute(run: ExecutionRun, certified: CertifiedBlock): Verdict<ExecutedBlock | null> {
    const { head } = run;
    const opened = proposedBlock(certified.block);
    if (!opened.ok) return opened;
    const proposal = opened.value;
    const { header, hash } = proposal;
    if (header.height <= head.height) return accept(null);
    if (header.height > head.height + 1)
      return reject('HEIGHT_GAP', `block ${header.height} after block ${head.height}`);
    if (!equalBytes(header.chainId, this.#store.chainId)) return reject('WRONG_CHAIN', 'the block is of another chain');
    const { engine } = this.#verifier;
    const proven = verifyCertificate(header, hash, certified.certificate, head.validators, engine);
    if (!proven.ok) return proven;
    const txs = this.#checker.decodeCertified(proposal.block);
    const executed = txs.ok ? run.execute(proposal, txs.value) : txs;
    if (executed.ok || BODY_FAULTS.has(executed.code)) return executed;
    throw new InvariantError(
      `a quorum certified block ${header.height}, which this node cannot reproduce (${executed.code}: ${executed.message})`,
    );
  }

  /** The head comes from a snapshot. Nobody is told of a block: there is none after the last one. */
  async adopt(restored: RestoredBlock): Promise<void> {
    await this.#store.adopt(restored);
    this.#executor.reopen(this.#store);
  }

  async #executeAgain(proposal: ProposedBlock): Promise<Verdict<ExecutedBlock>> {
    const txs = this.#checker.decodeCertified(proposal.block);
    return txs.ok ? this.#executor.execute(proposal, txs.value, CERTIFIED) : txs;
  }

  async #commit(executed: ExecutedBlock, certificate: Certificate): Promise<CommittedBlock> {
    const committed = this.#executor.toCommit(executed, certificate);
    await this.#commitAll([executed], [committed]);
    return committed;
  }

  async #commitAll(executed: readonly ExecutedBlock[], committed: readonly CommittedBlock[]): Promise<void> {
    if (committed.length === 0) return;
    await this.#store.commitBlocks(committed);
    executed.forEach((block, index) => {
      this.#executor.advance(block);
      for (const listener of this.#listeners) listener(committed[index] as CommittedBlock);
    });
  }
}

const damaged = (height: Height, why: string): EmrError =>
  new EmrError(
    'DATA_CORRUPT',
    `Block ${height} in the data directory cannot be executed again (${why}). Check the disk, move the directory away, and start again: the node fetches the chain anew from its peers.`,
    { height },
  );

/** Time has passed for certified blocks, and their sidecars may have been erased. */
const CERTIFIED = { nowMs: null, certified: true } as const;
