/**
 * What a replica checks before it votes for a proposal: signatures and execution, and, of fresh ones, whether their
 * leader leaves out what waits. Reads pool and executor, changes nothing; the host turns the findings into inputs.
 */
import { bytesToHex } from '../../common/bytes.ts';
import { accept, type Verdict } from '../../common/errors.ts';
import { faultTolerance, type ValidatorSet } from '../../common/protocol/validator-set.ts';
import type { ProposedBlock } from '../../consensus/messages.ts';
import { priorityOf } from '../../vm/index.ts';
import type { CheckedTransaction } from '../../vm/types.ts';
import type { Clock } from '../clock.ts';
import type { Executor } from '../execution/executor.ts';
import type { Log } from '../log.ts';
import type { Mempool } from '../mempool/mempool.ts';
import { URGENT_PER_BLOCK } from '../mempool/pool.ts';
import type { CommittedBlock } from '../storage/chain-store.ts';
import { hashKey } from '../verification/hash-key.ts';
import type { TransactionChecker } from '../verification/transaction-checker.ts';
import { type FairnessLimits, FairnessWatch, MAX_JUDGED, type Offer } from './fairness.ts';
import { MIN_CANDIDATES } from './proposer.ts';

export interface ProposalCheckPorts {
  readonly clock: Clock;
  readonly log: Log;
  readonly checker: TransactionChecker;
  readonly executor: Executor;
  readonly mempool: Mempool;
}

export class ProposalCheck {
  readonly #ports: ProposalCheckPorts;
  readonly #fairness: FairnessWatch;

  constructor(ports: ProposalCheckPorts) {
    this.#ports = ports;
    const { mempool, clock } = ports;
    this.#fairness = new FairnessWatch(
      {
        overdue: (beforeMs) => mempool.overdue(beforeMs, MAX_JUDGED),
        executes: ({ key }) => mempool.executes(key),
      },
      clock.nowMs(),
    );
  }

  /**
   * @param fresh asks for the clock's check too; only of a fresh proposal its leader chose the content
   * @returns `leavesOut` where its leader is found to leave out again what waits
   */
  async check(
    block: ProposedBlock,
    fresh: boolean,
  ): Promise<{ readonly verdict: Verdict; readonly leavesOut: boolean }> {
    const { checker, executor, clock, log } = this.#ports;
    const txs = await checker.checkProposed(block.block);
    const nowMs = fresh ? clock.nowMs() : null;
    const executed = txs.ok ? await executor.execute(block, txs.value, { nowMs, certified: false }) : txs;
    const { height, proposer } = block.header;
    if (!executed.ok) log.warn({ height, code: executed.code }, 'refused a proposed block');
    const verdict = executed.ok ? accept(undefined) : executed;
    if (!fresh || !txs.ok || !executed.ok) return { verdict, leavesOut: false };
    const offer = offerOf(block, txs.value);
    const { validators } = executor.head;
    const leavesOut = this.#fairness.proposed(hashKey(block.hash), offer, this.#limits(validators), clock.nowMs());
    if (leavesOut) log.warn({ height, proposer: bytesToHex(proposer) }, 'a leader leaves out again what waits');
    return { verdict, leavesOut };
  }

  /** A block is the head, and its transactions have left the pool. */
  committed({ hash, header }: CommittedBlock, validators: ValidatorSet): void {
    const { clock, log } = this.#ports;
    const found = this.#fairness.committed(hashKey(hash), this.#limits(validators), clock.nowMs());
    if (found === null) return;
    log.warn({ height: header.height, proposer: found }, 'a leader left out a transaction that waits and had room');
  }

  #limits(validators: ValidatorSet): FairnessLimits {
    const { maxBlockTxs, maxBlockBytes } = this.#ports.executor.head.params;
    return {
      roomTxs: Math.min(MIN_CANDIDATES, maxBlockTxs),
      maxBlockBytes,
      urgentPerBlock: URGENT_PER_BLOCK,
      maxWatched: faultTolerance(validators.length),
    };
  }
}

function offerOf({ header, block }: ProposedBlock, txs: readonly CheckedTransaction[]): Offer {
  const urgentOfAccount = new Map<string, number>();
  let hasNormal = false;
  for (const { tx } of txs) {
    if (priorityOf(tx.body.call) === 'normal') hasNormal = true;
    else {
      const account = hashKey(tx.body.account);
      urgentOfAccount.set(account, (urgentOfAccount.get(account) ?? 0) + 1);
    }
  }
  const sizeBytes = [...block.txs, ...block.sidecars].reduce((sum, bytes) => sum + (bytes?.length ?? 0), 0);
  const keys = new Set(txs.map(({ tx }) => hashKey(tx.hash)));
  return { proposer: bytesToHex(header.proposer), keys, sizeBytes, hasNormal, urgentOfAccount };
}
