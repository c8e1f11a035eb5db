/** What the host is given: the parts that it drives, and whom it tells. */
import type { Sm2Signer } from '../../common/crypto/sm2.ts';
import type { Hash } from '../../common/protocol/primitives.ts';
import type { Report } from '../../consensus/types.ts';
import type { Clock } from '../clock.ts';
import type { Executor } from '../execution/executor.ts';
import type { Log } from '../log.ts';
import type { Mempool } from '../mempool/mempool.ts';
import type { Network } from '../network/types.ts';
import type { CommittedBlock } from '../storage/chain-store.ts';
import type { SafetyStore } from '../storage/safety-store.ts';
import type { Verifier } from '../verification/verifier.ts';
import type { BlockServer } from './block-server.ts';
import type { DueWatch } from './due.ts';
import type { Evidence } from './evidence.ts';
import type { Ledger } from './ledger.ts';
import type { Observations } from './observations.ts';
import type { ProposalCheck } from './proposal-check.ts';
import type { Proposer } from './proposer.ts';
import type { Syncer } from './syncer.ts';

export interface HostPorts {
  readonly chainId: Hash;
  readonly clock: Clock;
  readonly log: Log;
  readonly network: Pick<Network, 'sendDirect' | 'onDirect'>;
  readonly signer: Sm2Signer;
  readonly verifier: Verifier;
  readonly executor: Executor;
  readonly safety: SafetyStore;
  readonly ledger: Ledger;
  readonly mempool: Mempool;
  readonly due: DueWatch;
  readonly proposer: Proposer;
  readonly proposals: ProposalCheck;
  readonly blocks: BlockServer;
  readonly syncer: Syncer;
  readonly observations: Observations;
  /** For metrics. */
  onReport(report: Report): void;
  /** A validator signed two votes that conflict: once for each validator, kind of vote and height. */
  onEvidence(evidence: Evidence): void;
  onRefused(code: string): void;
  /** For metrics; `waitedMs` of its transactions that were in the pool. */
  onCommitted(block: CommittedBlock, waitedMs: readonly number[]): void;
  /** An invariant broke, or the disk failed: the node must stop. Called once. */
  onFatal(error: unknown): void;
}
