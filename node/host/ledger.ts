/**
 * The one place where a block becomes the head: durable first, then the executor, then everybody who listens. The host
 * calls it for blocks that consensus decided and for blocks that came with a certificate; nobody else does.
 */
import { equalBytes } from '../../common/bytes.ts';
import { accept, assert, InvariantError, reject, type Verdict } from '../../common/errors.ts';
import { type Certificate, verifyCertificate } from '../../common/protocol/block.ts';
import { proposedBlock, type ProposedBlock } from '../../consensus/messages.ts';
import type { ExecutedBlock, Executor } from '../execution/executor.ts';
import type { ChainStore, CommittedBlock } from '../storage/chain-store.ts';
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
   * A block that consensus decided. The core had it executed before it voted; after a restart that is done again.
   * @returns false when the block is stored already
   */
  async commitDecided(proposal: ProposedBlock, certificate: Certificate): Promise<CommittedBlock | null> {
    if (proposal.header.height <= this.#executor.head.height) return null;
    const executed = this.#executor.executed(proposal.hash) ?? (await this.#executeAgain(proposal));
    return this.#commit(executed, certificate);
  }

  /**
   * A block that came with its certificate, from whomever: verified against the set of this node's own state, executed,
   * and held against every root.
   * @returns null when the block is stored already; HEIGHT_GAP when blocks before it are missing; else the first thing
   *   that is wrong with it
   * @throws InvariantError when a quorum certified what this node computes differently
   */
  async applyCertified(certified: CertifiedBlock): Promise<Verdict<CommittedBlock | null>> {
    const { head } = this.#executor;
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
    const executed = txs.ok ? await this.#executor.execute(proposal, txs.value, CERTIFIED) : txs;
    if (executed.ok) return accept(await this.#commit(executed.value, certified.certificate));
    if (BODY_FAULTS.has(executed.code)) return executed;
    throw new InvariantError(
      `a quorum certified block ${header.height}, which this node cannot reproduce (${executed.code}: ${executed.message})`,
    );
  }

  async #executeAgain(proposal: ProposedBlock): Promise<ExecutedBlock> {
    const txs = this.#checker.decodeCertified(proposal.block);
    const executed = txs.ok ? await this.#executor.execute(proposal, txs.value, CERTIFIED) : txs;
    assert(executed.ok, `a decided block cannot be executed: ${executed.ok ? '' : executed.code}`);
    return executed.value;
  }

  async #commit(executed: ExecutedBlock, certificate: Certificate): Promise<CommittedBlock> {
    const committed = this.#executor.toCommit(executed, certificate);
    await this.#store.commitBlock(committed);
    this.#executor.advance(executed);
    for (const listener of this.#listeners) listener(committed);
    return committed;
  }
}

/** Time has passed for certified blocks, and their sidecars may have been erased. */
const CERTIFIED = { nowMs: null, certified: true } as const;
