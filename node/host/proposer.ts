/** Builds the block that this node proposes as leader: what the pool offers, within bounds of bytes, number and time. */
import type { Address, Height, TimeMs, View } from '../../common/protocol/primitives.ts';
import type { ProposedBlock } from '../../consensus/messages.ts';
import type { Clock } from '../clock.ts';
import type { Executor } from '../execution/executor.ts';
import type { Mempool } from '../mempool/mempool.ts';
import type { DueWatch } from './due.ts';

/**
 * A block holds at most about this much execution: every replica executes it before it votes. In processor time: a
 * machine that is short of it would else make small blocks, whose own cost then takes what is left.
 */
const EXECUTION_BUDGET_MS = 30;
/**
 * Where more waits, a block takes a share of it: a block costs each replica some 10 ms whatever is in it, and while many wait
 * nobody is served sooner by small ones. At most so much of the time that a leader has before it is replaced.
 */
const BACKLOG_SHARE = 1 / 4;
const VIEW_SHARE = 1 / 8;
/** However slow the machine seems for a moment, a block takes at least so many transactions. */
export const MIN_CANDIDATES = 64;
/** First guess for one transaction, with its part of the state's hashing. */
const FIRST_ESTIMATE_MS = 0.15;
/** Weight of the last block in the estimate. */
const SMOOTHING = 0.2;
/** When all that was tried fails, the next in the pool are tried, this many times before the answer is "nothing". */
const MAX_ATTEMPTS = 4;

export interface ProposerPorts {
  readonly clock: Clock;
  readonly executor: Executor;
  readonly mempool: Mempool;
  readonly due: DueWatch;
  readonly address: Address;
  /** Processor time that this thread has used, in milliseconds. */
  processorMs(): number;
}

export class Proposer {
  readonly #ports: ProposerPorts;
  #msPerTx = FIRST_ESTIMATE_MS;

  constructor(ports: ProposerPorts) {
    this.#ports = ports;
  }

  /** @returns null when nothing was due after all, or when the head has moved meanwhile */
  async propose(at: {
    readonly height: Height;
    readonly view: View;
    readonly minTimestampMs: TimeMs;
  }): Promise<ProposedBlock | null> {
    const { clock, executor, mempool, due, address } = this.#ports;
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt += 1) {
      if (executor.head.height + 1 !== at.height) return null;
      const timestampMs = Math.max(at.minTimestampMs, clock.nowMs());
      const stateIsDue = due.stateIsDue(timestampMs);
      const { maxBlockTxs, maxBlockBytes, viewTimeoutMs } = executor.head.params;
      const limit = this.#limit(mempool.size, viewTimeoutMs * VIEW_SHARE);
      const candidates = mempool.candidates(Math.min(maxBlockTxs, limit), maxBlockBytes);
      if (candidates.length === 0 && !stateIsDue) return null;
      const startedMs = this.#ports.processorMs();
      const built = await executor.build({ view: at.view, proposer: address, timestampMs, candidates });
      this.#learn(candidates.length, this.#ports.processorMs() - startedMs);
      mempool.reject(built.rejected);
      if (built.included > 0 || stateIsDue) return built.proposal;
    }
    return null;
  }

  /** @param mostMs of execution */
  #limit(waiting: number, mostMs: number): number {
    const shareMs = Math.min(mostMs, waiting * this.#msPerTx * BACKLOG_SHARE);
    const budgetMs = Math.max(EXECUTION_BUDGET_MS, shareMs);
    return Math.max(MIN_CANDIDATES, Math.floor(budgetMs / this.#msPerTx));
  }

  #learn(txs: number, tookMs: number): void {
    // Small blocks measure the fixed cost, not that of a transaction.
    if (txs < 16) return;
    this.#msPerTx += SMOOTHING * (tookMs / txs - this.#msPerTx);
  }
}
