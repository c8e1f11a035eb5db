/** Executing transactions: for a leader that builds a block, a replica that checks one, a caller who only asks. */
import { accept, reject, type Verdict } from '../common/errors.ts';
import type { ChainParams } from '../common/protocol/chain-params.ts';
import type { Event, Receipt } from '../common/protocol/receipt.ts';
import { paramsEntry, stateKey } from '../common/protocol/state-entries.ts';
import { executeCall, executeNodeCall } from './calls.ts';
import { rememberRoot } from './candidacies.ts';
import { refuse } from './codes.ts';
import type { Context } from './context.ts';
import { passDeadlines } from './deadlines.ts';
import { checkEnvelope } from './envelope.ts';
import { MAX_CAPSULES_PER_BLOCK } from './limits.ts';
import { Overlay } from './overlay.ts';
import { pruneReplays, remember } from './replay.ts';
import { checkSidecar } from './sidecars.ts';
import type {
  BlockContext,
  BlockExecution,
  BuiltBlock,
  CheckedTransaction,
  SimulationResult,
  StateReader,
} from './types.ts';

/** One block in the making. */
interface Making {
  readonly block: BlockContext;
  readonly state: Overlay;
  /** As they are after what block time brought about. */
  readonly params: ChainParams;
  readonly audit: { next: number };
  /** What block time caused. */
  readonly timeEvents: readonly Event[];
  readonly receipts: Receipt[];
  sizeBytes: number;
  /** Keys that are sealed: one of each such record, two where it is sealed for recovery as well. */
  capsules: number;
}

function capsulesOf({ tx }: CheckedTransaction): number {
  const { call } = tx.body;
  if (call.kind !== 'record.create' && call.kind !== 'record.addVersion') return 0;
  const { capsule } = call.content;
  if (capsule.kind !== 'threshold') return 0;
  return capsule.recovery === null ? 1 : 2;
}

const paramsOf = (state: Overlay): ChainParams => state.must(paramsEntry, stateKey.params(), 'parameters');

function begin(reader: StateReader, block: BlockContext): Making {
  const state = new Overlay(reader);
  const audit = { next: 0 };
  const timeEvents: Event[] = [];
  const { chainId, height, timestampMs: now } = block;
  const ctx: Context = {
    state,
    chainId,
    height,
    now,
    params: paramsOf(state),
    sender: null,
    node: null,
    txHash: null,
    events: timeEvents,
    audit,
  };
  passDeadlines(ctx);
  rememberRoot(ctx, block.parentStateRoot);
  state.commit();
  return { block, state, params: paramsOf(state), audit, timeEvents, receipts: [], sizeBytes: 0, capsules: 0 };
}

type Executed = Verdict<{ readonly events: readonly Event[]; readonly sizeBytes: number }>;

/** Executes one transaction; what it wrote is in the journal until the caller commits it or rolls it back. */
function executeOne(making: Making, { tx, sidecar }: CheckedTransaction): Executed {
  const { block, state, params, audit } = making;
  const where = { state, chainId: block.chainId, now: block.timestampMs, params };
  const { call } = tx.body;
  const from = checkEnvelope(where, tx);
  if (!from.ok) return from;
  const beside = checkSidecar(call, sidecar, block.certified === true);
  if (!beside.ok) return beside;
  const events: Event[] = [];
  const common = { ...where, height: block.height, txHash: tx.hash, events, audit };
  const txIndex = making.receipts.length;
  const verdict =
    from.value.sender === null
      ? executeNodeCall({ ...common, ...from.value }, from.value.call)
      : executeCall({ ...common, ...from.value, txIndex, sidecar }, from.value.call);
  if (!verdict.ok) return verdict;
  remember(state, tx.body);
  return accept({ events, sizeBytes: tx.bytes.length + beside.value });
}

/** Executes one transaction and keeps it if it succeeds and fits; else nothing of it stays. */
function include(making: Making, checked: CheckedTransaction): Executed {
  const { state, audit, params, receipts } = making;
  const capsules = making.capsules + capsulesOf(checked);
  // Before it is executed: what costs is the check of the capsule.
  if (capsules > MAX_CAPSULES_PER_BLOCK) return refuse('BLOCK_TOO_LARGE');
  const auditBefore = audit.next;
  const executed = executeOne(making, checked);
  const fits =
    executed.ok &&
    receipts.length < params.maxBlockTxs &&
    making.sizeBytes + executed.value.sizeBytes <= params.maxBlockBytes;
  if (fits) {
    state.commit();
    making.sizeBytes += executed.value.sizeBytes;
    making.capsules = capsules;
    receipts.push({ index: receipts.length, txHash: checked.tx.hash, events: executed.value.events });
    return executed;
  }
  state.rollback();
  audit.next = auditBefore;
  return executed.ok ? refuse('BLOCK_TOO_LARGE') : executed;
}

function end({ state, block, receipts, timeEvents }: Making): BlockExecution {
  pruneReplays(state, block.timestampMs, receipts.length);
  return {
    writes: state.writes(),
    receipts: [...receipts, { index: receipts.length, txHash: null, events: timeEvents }],
  };
}

/**
 * Executes candidates in their order and leaves out what fails. Ends at the first that does not fit any more: the rest
 * are in neither list and may come with the next block.
 * @param candidates as many as the caller wants looked at; obligations discharged
 */
export function buildBlock(
  reader: StateReader,
  block: BlockContext,
  candidates: readonly CheckedTransaction[],
): BuiltBlock {
  const making = begin(reader, block);
  const included: CheckedTransaction[] = [];
  const rejected: { tx: CheckedTransaction; code: string; message: string }[] = [];
  for (const tx of candidates) {
    const verdict = include(making, tx);
    if (verdict.ok) {
      included.push(tx);
    } else if (verdict.code === 'BLOCK_TOO_LARGE' && included.length > 0) {
      break;
    } else {
      rejected.push({ tx, code: verdict.code, message: verdict.message });
    }
  }
  return { ...end(making), included, rejected };
}

/**
 * Executes a proposed or certified block; one failing transaction refuses the block, with that transaction's code.
 * @param block `certified` for blocks from sync, whose sidecars may have been erased
 */
export function executeBlock(
  reader: StateReader,
  block: BlockContext,
  txs: readonly CheckedTransaction[],
): Verdict<BlockExecution> {
  const making = begin(reader, block);
  for (const [index, tx] of txs.entries()) {
    const verdict = include(making, tx);
    if (!verdict.ok) return reject(verdict.code, `transaction ${index}: ${verdict.message}`);
  }
  return accept(end(making));
}

/**
 * Transactions tried on one state, each as if it were alone in the next block; nothing of them stays. What they read is
 * decoded once for all of them, and kept as long as this is: whoever tries many begins anew now and then.
 */
export class Trial {
  readonly #making: Making;

  constructor(reader: StateReader, block: BlockContext) {
    this.#making = begin(reader, block);
  }

  execute(tx: CheckedTransaction): SimulationResult {
    const { state, audit, params } = this.#making;
    const auditBefore = audit.next;
    const executed = executeOne(this.#making, tx);
    state.rollback();
    audit.next = auditBefore;
    if (!executed.ok) return executed;
    return executed.value.sizeBytes <= params.maxBlockBytes ? accept(executed.value.events) : refuse('BLOCK_TOO_LARGE');
  }

  /** What every transaction must fulfil, whatever it calls: version, chain, time, replay, key, standing of its sender. */
  checkEnvelope({ tx }: CheckedTransaction): Verdict {
    const { block, state, params } = this.#making;
    const from = checkEnvelope({ state, chainId: block.chainId, now: block.timestampMs, params }, tx);
    return from.ok ? accept(undefined) : from;
  }
}

/** One transaction as the next block would execute it; nothing is kept. */
export const simulate = (reader: StateReader, block: BlockContext, tx: CheckedTransaction): SimulationResult =>
  new Trial(reader, block).execute(tx);
