/**
 * Owns the state: builds blocks on the committed head, executes those of others, and keeps the results as overlays by
 * block hash until one of them is committed and the rest are dropped. Its methods are asynchronous, so that it can move
 * to a thread of its own; today it works on the caller's. No clock and no signatures in here.
 */
import { equalBytes } from '../../common/bytes.ts';
import { accept, assert, EmrError, InvariantError, reject, type Verdict } from '../../common/errors.ts';
import { type BlockHeader, blockHash, type Certificate, encodeHeader, txRootOf } from '../../common/protocol/block.ts';
import type { Address, Hash, Height, TimeMs, View } from '../../common/protocol/primitives.ts';
import { encodeReceipt, type Receipt, receiptsRootOf } from '../../common/protocol/receipt.ts';
import { stateKey, validatorsEntry } from '../../common/protocol/state-entries.ts';
import { encodeSidecar } from '../../common/protocol/transaction.ts';
import { type ValidatorSet, validatorSetHash } from '../../common/protocol/validator-set.ts';
import { decodeTrusted } from '../../common/codec.ts';
import { nextLeaderHistory } from '../../consensus/leader-order.ts';
import type { ProposedBlock } from '../../consensus/messages.ts';
import { buildBlock, EntryCache, executeBlock, Trial } from '../../vm/index.ts';
import {
  type AppliedWrites,
  applyWrites,
  decodeRoot,
  encodeRoot,
  nodeKey,
  type NodeReader,
  stateReader,
  type TreeRoot,
} from '../../vm/state-tree/index.ts';
import type { BlockExecution, CheckedTransaction, SimulationResult, StateReader, StateWrite } from '../../vm/types.ts';
import { hashKey } from '../verification/hash-key.ts';
import type { ChainStore, CommittedBlock } from '../storage/chain-store.ts';
import type { StateChange } from '../storage/recent-states.ts';
import { type ExecutionHead, readExecutionHead } from './execution-head.ts';
import { checkHeader } from './header-checks.ts';
import { NewNodes, NodeCache } from './node-cache.ts';

/** Proposals of one height that are kept executed: one for each of the last views, each of some MiB at most. */
const MAX_OVERLAYS = 8;
/** Transactions that are tried on the head with what the first of them read, for so long: block time goes on meanwhile. */
const MAX_TRIED = 1_000;
const TRIAL_MS = 20;

/** What executing a block gave; thrown away unless the block is committed. */
export interface ExecutedBlock {
  readonly proposal: ProposedBlock;
  readonly receipts: readonly Receipt[];
  readonly encodedReceipts: readonly Uint8Array[];
  readonly txHashes: readonly Hash[];
  readonly writes: readonly StateWrite[];
  readonly applied: AppliedWrites;
  /** What the head is once this block is. */
  readonly after: ExecutionHead;
}

export interface BuildRequest {
  readonly view: View;
  readonly proposer: Address;
  readonly timestampMs: TimeMs;
  /** In the order in which they shall execute. */
  readonly candidates: readonly CheckedTransaction[];
}

export interface BuiltProposal {
  readonly proposal: ProposedBlock;
  readonly included: number;
  readonly rejected: readonly { readonly tx: CheckedTransaction; readonly code: string; readonly message: string }[];
}

/** One committed state, to read and to prove from. */
export interface StateView {
  readonly height: Height;
  readonly hash: Hash;
  readonly timestampMs: TimeMs;
  readonly root: TreeRoot;
  readonly nodes: NodeReader;
  readonly reader: StateReader;
}

export type KeepsState = (after: ExecutionHead) => boolean;

/** What a block is executed on. */
interface Base {
  readonly chainId: Hash;
  readonly head: ExecutionHead;
  readonly nodes: NodeReader;
  readonly reader: StateReader;
}

export class Executor {
  readonly #chainId: Hash;
  readonly #keepsState: KeepsState;
  readonly #nodes: NodeCache;
  #head: ExecutionHead;
  #reader: StateReader;
  /** What the rules have read of the head. Callers from outside read past it: what they ask for is not what comes again. */
  #entries: EntryCache;
  readonly #overlays = new Map<string, ExecutedBlock>();
  #trial: { readonly on: Trial; readonly timestampMs: TimeMs; tried: number } | null = null;

  private constructor(chainId: Hash, nodes: NodeCache, head: ExecutionHead, keepsState: KeepsState) {
    this.#chainId = chainId;
    this.#keepsState = keepsState;
    this.#nodes = nodes;
    this.#head = head;
    this.#reader = stateReader(nodes, head.root);
    this.#entries = new EntryCache(this.#reader);
  }

  /**
   * Opens the last state of the store: that of its head, or of one of the few blocks before it, which are to be executed then.
   * @param keepsState says after which blocks the state goes to disk with its block, whatever is in memory
   * @throws EmrError DATA_CORRUPT when the state is not what the head's header says
   */
  static open(store: ChainStore, keepsState: KeepsState = () => false): Executor {
    const nodes = new NodeCache((name) => store.stateNode(name));
    return new Executor(store.chainId, nodes, loadHead(store, nodes), keepsState);
  }

  /** The store has taken over a head from elsewhere. @throws EmrError DATA_CORRUPT */
  reopen(store: ChainStore): void {
    this.#head = loadHead(store, this.#nodes);
    this.#reader = stateReader(this.#nodes, this.#head.root);
    this.#entries = new EntryCache(this.#reader);
    this.#overlays.clear();
    this.#trial = null;
  }

  get head(): ExecutionHead {
    return this.#head;
  }

  /** The committed state. Stays readable after later commits, until it is pruned. */
  get state(): StateView {
    const { height, hash, header, root } = this.#head;
    return { height, hash, timestampMs: header.timestampMs, root, nodes: this.#nodes, reader: this.#reader };
  }

  /** Builds a block on the head and keeps it executed. Candidates that fail are left out, with the reason. */
  async build(request: BuildRequest): Promise<BuiltProposal> {
    const head = this.#head;
    const height = head.height + 1;
    const { timestampMs, view, proposer } = request;
    const context = { chainId: this.#chainId, height, timestampMs, parentStateRoot: head.header.stateRoot };
    const built = buildBlock(this.#entries, context, request.candidates);
    const txs = built.included.map(({ tx }) => tx.bytes);
    const sidecars = built.included.map(({ sidecar }) => (sidecar === null ? null : encodeSidecar(sidecar)));
    const result = applied(this.#base, built, height);
    const header: BlockHeader = {
      chainId: this.#chainId,
      height,
      view,
      parentHash: head.hash,
      timestampMs,
      proposer,
      txRoot: txRootOf(txs),
      receiptsRoot: receiptsRootOf(result.encodedReceipts),
      stateRoot: result.applied.rootHash,
      validatorsHash: head.header.nextValidatorsHash,
      nextValidatorsHash: result.nextValidatorsHash,
    };
    const headerBytes = encodeHeader(header);
    const proposal: ProposedBlock = {
      hash: blockHash(headerBytes),
      header,
      block: { header: headerBytes, txs, sidecars },
    };
    const txHashes = built.included.map(({ tx }) => tx.hash);
    this.#keep(executedOn(this.#base, proposal, txHashes, result));
    return { proposal, included: built.included.length, rejected: built.rejected };
  }

  /**
   * Executes a block of somebody else on the head and holds every root against its header.
   * @param txs the block's transactions, decoded; their obligations discharged, or the block certified
   * @param how `fresh`: this node's clock, which a new proposal must be near; `certified`: from sync
   * @returns the code of the first check that fails; WRONG_RECEIPTS, WRONG_STATE, WRONG_NEXT_VALIDATORS after execution
   */
  async execute(
    proposal: ProposedBlock,
    txs: readonly CheckedTransaction[],
    how: { readonly nowMs: TimeMs | null; readonly certified: boolean },
  ): Promise<Verdict<ExecutedBlock>> {
    const checked = checkHeader(proposal, this.#head, this.#chainId, how.nowMs);
    if (!checked.ok) return checked;
    const known = this.#overlays.get(hashKey(proposal.hash));
    // Sidecars are not under the hash: a body that lacks some is executed for itself.
    if (known !== undefined && sameSidecars(known.proposal, proposal)) return accept(known);
    const executed = executeOn(this.#base, proposal, txs, how.certified);
    if (executed.ok) this.#keep(executed.value);
    return executed;
  }

  /** Begins a run of certified blocks on the head. */
  run(): ExecutionRun {
    return new ExecutionRun(this.#base);
  }

  /** The kept result for a block on the head. */
  executed(hash: Hash): ExecutedBlock | undefined {
    return this.#overlays.get(hashKey(hash));
  }

  /** What is to be stored for an executed block, before `advance`. */
  toCommit(executed: ExecutedBlock, certificate: Certificate): CommittedBlock {
    const { proposal } = executed;
    return {
      hash: proposal.hash,
      header: proposal.header,
      block: proposal.block,
      certificate,
      receipts: executed.encodedReceipts,
      txHashes: executed.txHashes,
      nextValidators: executed.after.validators,
      leaders: executed.after.leaders,
      state: stateChangeOf(executed),
      keepsState: this.#keepsState(executed.after),
    };
  }

  /** Makes an executed block the head. It must be durable. */
  advance(executed: ExecutedBlock): ExecutionHead {
    const { header } = executed.proposal;
    assert(equalBytes(header.parentHash, this.#head.hash), 'the head advances to a block on it');
    const { after } = executed;
    this.#nodes.add(header.height, executed.applied.newNodes);
    this.#head = after;
    this.#reader = stateReader(this.#nodes, after.root);
    this.#entries = new EntryCache(this.#reader, { before: this.#entries, writes: executed.writes });
    this.#overlays.clear();
    this.#trial = null;
    return after;
  }

  /** One transaction on the head; nothing is kept. */
  simulate(tx: CheckedTransaction, nowMs: TimeMs): SimulationResult {
    return this.#trialAt(nowMs).execute(tx);
  }

  /** What can be said of a transaction on the head without executing it: time, replay, key and standing of its sender. */
  checkEnvelope(tx: CheckedTransaction, nowMs: TimeMs): Verdict {
    return this.#trialAt(nowMs).checkEnvelope(tx);
  }

  #trialAt(nowMs: TimeMs): Trial {
    const { height, header } = this.#head;
    const timestampMs = Math.max(header.timestampMs + 1, nowMs);
    const ageMs = this.#trial === null ? -1 : timestampMs - this.#trial.timestampMs;
    if (this.#trial === null || ageMs < 0 || ageMs > TRIAL_MS || this.#trial.tried >= MAX_TRIED) {
      const { stateRoot: parentStateRoot } = header;
      const context = { chainId: this.#chainId, height: height + 1, timestampMs, parentStateRoot };
      this.#trial = { on: new Trial(this.#entries, context), timestampMs, tried: 0 };
    }
    this.#trial.tried += 1;
    return this.#trial.on;
  }

  get #base(): Base {
    return { chainId: this.#chainId, head: this.#head, nodes: this.#nodes, reader: this.#entries };
  }

  #keep(executed: ExecutedBlock): void {
    this.#overlays.set(hashKey(executed.proposal.hash), executed);
    if (this.#overlays.size <= MAX_OVERLAYS) return;
    const oldest = this.#overlays.keys().next();
    if (!oldest.done) this.#overlays.delete(oldest.value);
  }
}

/** What an executed block changes in the state, as the store takes it. */
export function stateChangeOf({ applied: { root, newNodes, staleNodes } }: ExecutedBlock): StateChange {
  return { root: encodeRoot(root), newNodes, staleNodes: staleNodes.map(nodeKey) };
}

function loadHead(store: ChainStore, nodes: NodeReader): ExecutionHead {
  const { header, hash } = store.stateHead;
  try {
    const stored = store.stateRootAt(header.height);
    assert(stored !== null, 'the head has no state');
    const root = decodeRoot(stored);
    return readExecutionHead({ header, hash, root, leaders: store.leaderHistory() }, stateReader(nodes, root));
  } catch (cause) {
    if (!(cause instanceof InvariantError)) throw cause;
    throw new EmrError(
      'DATA_CORRUPT',
      `The state of block ${header.height} is damaged: ${cause.message}. Check the disk, move the data directory away, and start again: the node fetches the chain anew from its peers.`,
      { height: header.height },
      { cause },
    );
  }
}

/**
 * Certified blocks that are executed one on the other, ahead of the head: nobody sees them before all of them are durable
 * and the executor has advanced by each. Thrown away when that fails. Bounded by its caller. Its first block reads through
 * what the executor has in memory of the head, those after it each for itself.
 */
export class ExecutionRun {
  #base: Base;
  readonly #added: NewNodes;

  /** Use `Executor.run`. */
  constructor(base: Base) {
    this.#added = new NewNodes(base.nodes);
    this.#base = { ...base, nodes: this.#added };
  }

  /** The last block of the run, or the head that it began on. */
  get head(): ExecutionHead {
    return this.#base.head;
  }

  /** As `Executor.execute`, on the last block of the run. */
  execute(proposal: ProposedBlock, txs: readonly CheckedTransaction[]): Verdict<ExecutedBlock> {
    const { chainId, nodes } = this.#base;
    const checked = checkHeader(proposal, this.#base.head, chainId, null);
    const executed = checked.ok ? executeOn(this.#base, proposal, txs, true) : checked;
    if (!executed.ok) return executed;
    const { after, applied: writes } = executed.value;
    this.#added.add(after.height, writes.newNodes);
    this.#base = { chainId, head: after, nodes, reader: stateReader(nodes, after.root) };
    return executed;
  }
}

/** What executing changed, before it is known for which header. */
type Result = Pick<ExecutedBlock, 'receipts' | 'encodedReceipts' | 'writes' | 'applied'> & {
  readonly nextValidatorsHash: Hash;
};

/** Executes a block whose header was checked, and holds every root against it. */
function executeOn(
  base: Base,
  proposal: ProposedBlock,
  txs: readonly CheckedTransaction[],
  certified: boolean,
): Verdict<ExecutedBlock> {
  const { header } = proposal;
  const { height, timestampMs } = header;
  const { chainId, head } = base;
  const context = { chainId, height, timestampMs, parentStateRoot: head.header.stateRoot, certified };
  const execution = executeBlock(base.reader, context, txs);
  if (!execution.ok) return execution;
  const result = applied(base, execution.value, height);
  if (!equalBytes(receiptsRootOf(result.encodedReceipts), header.receiptsRoot)) {
    return reject('WRONG_RECEIPTS', 'the receipts are not those of the header');
  }
  if (!equalBytes(result.applied.rootHash, header.stateRoot)) {
    return reject('WRONG_STATE', 'the state after the block is not that of the header');
  }
  if (!equalBytes(result.nextValidatorsHash, header.nextValidatorsHash)) {
    return reject('WRONG_NEXT_VALIDATORS', 'the next validator set is not that of the header');
  }
  const txHashes = txs.map(({ tx }) => tx.hash);
  return accept(executedOn(base, proposal, txHashes, result));
}

function applied({ head, nodes }: Base, { receipts, writes }: BlockExecution, height: Height): Result {
  const changed = validatorsAfter(writes);
  return {
    receipts,
    encodedReceipts: receipts.map(encodeReceipt),
    nextValidatorsHash: changed === undefined ? head.header.nextValidatorsHash : validatorSetHash(changed),
    writes,
    applied: applyWrites(nodes, head.root, writes, height),
  };
}

function executedOn(
  { head, nodes }: Base,
  proposal: ProposedBlock,
  txHashes: readonly Hash[],
  { receipts, encodedReceipts, writes, applied: change }: Result,
): ExecutedBlock {
  const { header, hash } = proposal;
  const { root, newNodes } = change;
  const reader = stateReader(new NewNodes(nodes).add(header.height, newNodes), root);
  const next = readExecutionHead({ header, hash, root, leaders: head.leaders }, reader);
  const leaders = nextLeaderHistory(head.leaders, header, head.validators, next.params.leaderDemotionBlocks);
  return { proposal, receipts, encodedReceipts, txHashes, writes, applied: change, after: { ...next, leaders } };
}

function validatorsAfter(writes: readonly StateWrite[]): ValidatorSet | undefined {
  const key = stateKey.validators();
  const write = writes.find((w) => equalBytes(w.key, key));
  if (write === undefined) return undefined;
  assert(write.value !== null, 'the validator set was deleted');
  return decodeTrusted(validatorsEntry, write.value, 'validator set');
}

function sameSidecars(a: ProposedBlock, b: ProposedBlock): boolean {
  return a.block.sidecars.every(
    (sidecar, index) => (sidecar === null) === ((b.block.sidecars[index] ?? null) === null),
  );
}
