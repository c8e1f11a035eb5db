/**
 * What a header must fulfil before its transactions are executed, as a list of small checks. The consensus core makes
 * some of them for proposals, too; a block from sync has seen no core, and both get the whole list here.
 */
import { equalBytes } from '../../common/bytes.ts';
import { accept, reject, type Verdict } from '../../common/errors.ts';
import { type BlockHeader, txRootOf } from '../../common/protocol/block.ts';
import type { TimeMs } from '../../common/protocol/primitives.ts';
import { leaderOf, leaderOrder } from '../../consensus/leader-order.ts';
import type { ProposedBlock } from '../../consensus/messages.ts';
import type { ExecutionHead } from './execution-head.ts';

interface Checked {
  readonly proposal: ProposedBlock;
  readonly header: BlockHeader;
  readonly head: ExecutionHead;
  readonly chainId: Uint8Array;
  /** This node's clock for a fresh proposal; null for re-proposals and certified blocks, whose time has passed. */
  readonly nowMs: TimeMs | null;
}

const OK = accept(undefined);

const CHECKS: readonly ((checked: Checked) => Verdict)[] = [
  ({ header, chainId }) =>
    equalBytes(header.chainId, chainId) ? OK : reject('WRONG_CHAIN', 'the block is of another chain'),
  ({ header, head }) =>
    header.height === head.height + 1
      ? OK
      : reject('WRONG_HEIGHT', `block ${header.height} after block ${head.height}`),
  ({ header, head }) =>
    equalBytes(header.parentHash, head.hash)
      ? OK
      : reject('WRONG_PARENT', 'the block has another parent than the head'),
  ({ header, head }) =>
    equalBytes(header.validatorsHash, head.header.nextValidatorsHash)
      ? OK
      : reject('WRONG_VALIDATOR_SET', 'the block names another validator set'),
  ({ header, head }) =>
    header.timestampMs > head.header.timestampMs ? OK : reject('WRONG_TIME', "block time is not after the parent's"),
  ({ header, head, nowMs }) =>
    nowMs === null || Math.abs(header.timestampMs - nowMs) <= head.params.maxClockDriftMs
      ? OK
      : reject('CLOCK_DRIFT', `block time is ${header.timestampMs - nowMs} ms from this node's clock`),
  ({ header, head }) => {
    const order = leaderOrder(header.height, head.validators.length, head.leaders);
    const leader = head.validators[leaderOf(order, header.view)];
    return leader !== undefined && equalBytes(leader.address, header.proposer)
      ? OK
      : reject('WRONG_PROPOSER', 'the proposer does not lead the view');
  },
  ({ proposal, header }) =>
    proposal.block.sidecars.length === proposal.block.txs.length &&
    equalBytes(txRootOf(proposal.block.txs), header.txRoot)
      ? OK
      : reject('WRONG_BODY', 'the transactions are not those of the header'),
];

/** The first check that fails. */
export function checkHeader(
  proposal: ProposedBlock,
  head: ExecutionHead,
  chainId: Uint8Array,
  nowMs: TimeMs | null,
): Verdict {
  const checked: Checked = { proposal, header: proposal.header, head, chainId, nowMs };
  for (const check of CHECKS) {
    const verdict = check(checked);
    if (!verdict.ok) return verdict;
  }
  return OK;
}
