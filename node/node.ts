/**
 * One node from its parts: what is opened, in which order it starts and stops, and who is told what. Configuration
 * files, keystores, the RPC server and the process itself are main's business.
 *
 * Crash-only: a stop is a courtesy to peers and to the log, never needed for what is on disk.
 */
import type { Sm2Engine, Sm2Signer } from '../common/crypto/sm2.ts';
import { EmrError } from '../common/errors.ts';
import type { Genesis } from '../common/protocol/genesis.ts';
import { sortedValidatorSet } from '../common/protocol/validator-set.ts';
import type { Hash } from '../common/protocol/primitives.ts';
import { equalBytes } from '../common/bytes.ts';
import { AlarmWatch, type DiskProbe } from './alarms/alarm-watch.ts';
import { SlowestWrite } from './alarms/slowest-write.ts';
import { type Clock, systemClock } from './clock.ts';
import { CustodyNotes } from './custody/custody-notes.ts';
import { Executor } from './execution/executor.ts';
import { genesisBlock } from './execution/genesis-block.ts';
import { BlockServer } from './host/block-server.ts';
import { DueWatch } from './host/due.ts';
import { EvidenceBox } from './host/evidence.ts';
import { Host } from './host/host.ts';
import { Ledger } from './host/ledger.ts';
import { Observations } from './host/observations.ts';
import { ProposalCheck } from './host/proposal-check.ts';
import { Proposer } from './host/proposer.ts';
import { Syncer } from './host/syncer.ts';
import { encodeHeadNotice } from './host/wire.ts';
import { type Log, silentLog } from './log.ts';
import { TransactionGossip } from './mempool/gossip.ts';
import { Mempool } from './mempool/mempool.ts';
import type { PoolLimits } from './mempool/pool.ts';
import { measuredStore } from './metrics/measured-store.ts';
import { NodeMetrics } from './metrics/metrics.ts';
import { MemberWatch } from './membership/members.ts';
import { NodeVoice } from './membership/node-voice.ts';
import { OwnCalls } from './membership/own-calls.ts';
import type { Network } from './network/types.ts';
import { RestoreStore } from './snapshot/restore-store.ts';
import { isRegularSnapshot } from './snapshot/snapshot-heights.ts';
import { SnapshotKeeper, type SnapshotSettings } from './snapshot/snapshot-keeper.ts';
import { SnapshotRestorer } from './snapshot/snapshot-restorer.ts';
import { SnapshotServer } from './snapshot/snapshot-server.ts';
import { TrustChain } from './snapshot/trust-chain.ts';
import { type ChainStore, type CommittedBlock, openChainStore } from './storage/chain-store.ts';
import type { KeyValueStore } from './storage/key-value-store.ts';
import { MAX_UNWRITTEN_BLOCKS } from './storage/recent-states.ts';
import { openSafetyStore, type SafetyStore } from './storage/safety-store.ts';
import { openStateHistory, type StateHistory } from './storage/state-history.ts';
import { StatePruner } from './storage/state-pruner.ts';
import { TransactionChecker } from './verification/transaction-checker.ts';
import { Verifier } from './verification/verifier.ts';

export interface NodeOptions {
  readonly genesis: Genesis;
  /** The node's database, open; the node closes it when it stops. */
  readonly kv: KeyValueStore;
  /** The validator's or observer's SM2 key. */
  readonly signer: Sm2Signer;
  readonly engine: Sm2Engine;
  /** Not started yet. */
  readonly network: Network;
  readonly mempool: PoolLimits;
  /** Peer ids to fetch blocks from while the members that this node knows are not there. */
  readonly bootstrap?: readonly string[];
  /** How many states below the head are kept; null keeps all. Default: all. */
  readonly keepStates?: number | null;
  /** Which snapshots this node keeps for others, and from which height on it begins with one itself. Default: none. */
  readonly snapshots?: SnapshotSettings & { readonly joinFromBlocks: number };
  /** Threads that verify signatures where many wait; `auto`: by the processors of the machine. Default: none. */
  readonly verificationWorkers?: 'auto' | number;
  readonly clock?: Clock;
  readonly log?: Log;
  /** The disk under the data folder, to warn before it is full. Nobody watches it without. */
  readonly disk?: DiskProbe;
  /** Adds event loop, memory and garbage collection of the process to the metrics. Default true. */
  readonly processMetrics?: boolean;
  /** An invariant broke, or the disk failed. The node has stopped itself; the process should end, with an error. */
  readonly onFatal: (error: unknown) => void;
}

/** A running node's parts, for those who serve it to others. */
export interface EmrNode {
  readonly chainId: Hash;
  readonly genesis: Genesis;
  readonly signer: Sm2Signer;
  readonly network: Network;
  readonly store: ChainStore;
  readonly history: StateHistory;
  readonly snapshots: SnapshotKeeper;
  readonly safety: SafetyStore;
  readonly executor: Executor;
  readonly mempool: Mempool;
  readonly verifier: Verifier;
  readonly host: Host;
  readonly syncer: Syncer;
  readonly due: DueWatch;
  readonly observations: Observations;
  /** Proofs of double votes that are not on the chain yet. */
  readonly evidence: EvidenceBox;
  /** Who the members are. */
  readonly membership: MemberWatch;
  /** What this node says on chain in its own name. */
  readonly calls: OwnCalls;
  /** What is known of the own custodian; whoever talks to it notes it here. */
  readonly custody: CustodyNotes;
  readonly alarms: AlarmWatch;
  readonly metrics: NodeMetrics;
  readonly clock: Clock;
  start(): Promise<void>;
  /** Graceful and idempotent. */
  stop(): Promise<void>;
  /** Called after each durable block, in order. */
  onCommitted(listener: (block: CommittedBlock) => void): () => void;
}

/**
 * Opens what is on disk and puts the parts together; nothing runs yet.
 * @throws EmrError DATA_WRONG_CHAIN, DATA_NEWER_FORMAT, DATA_CORRUPT, STORAGE_FAILED, BAD_GENESIS
 */
export async function createNode(options: NodeOptions): Promise<EmrNode> {
  const { genesis, signer, network } = options;
  const clock = options.clock ?? systemClock;
  const log = options.log ?? silentLog;
  const metrics = new NodeMetrics();
  const slowest = new SlowestWrite(clock);
  const kv = measuredStore(options.kv, (write) => {
    metrics.wrote(write);
    if (write.sync) slowest.note(write.durationMs);
  });
  const keepStates = options.keepStates ?? null;
  const stateEvery = keepStates === null ? 1 : MAX_UNWRITTEN_BLOCKS;
  const store = await openChainStore(kv, genesis, () => genesisBlock(genesis), stateEvery);
  const safety = await openSafetyStore(kv);
  const history = await openStateHistory(kv, store.readers);
  const snapshotSettings = options.snapshots ?? { everyBlocks: 0, keep: 1, joinFromBlocks: 0 };
  const executor = Executor.open(
    store,
    // A snapshot that is asked for begins at a state that is on disk: there always is a late one.
    (head) => isRegularSnapshot(head, snapshotSettings.everyBlocks) || isRegularSnapshot(head, MAX_UNWRITTEN_BLOCKS),
  );
  const { chainId } = store;
  const verifier = new Verifier(options.engine, {
    workers: options.verificationWorkers ?? 0,
    onWorkerFailed: (reason) =>
      log.warn(
        { code: 'VERIFY_WORKER_FAILED', reason },
        'a thread that verifies signatures is gone; the main one does its work',
      ),
  });
  const checker = new TransactionChecker(chainId, verifier);
  const ledger = new Ledger(store, executor, checker, verifier);
  const resumed = await ledger.resume();
  if (resumed > 0) log.info({ blocks: resumed }, 'executed blocks whose state was not on disk');
  const observations = new Observations(clock.nowMs());
  const evidence = new EvidenceBox();
  const blocks = new BlockServer({ network, store, safety });

  const mempool: Mempool = new Mempool({
    clock,
    limits: options.mempool,
    checker,
    simulate: (tx, nowMs) => executor.simulate(tx, nowMs),
    checkEnvelope: (tx, nowMs) => executor.checkEnvelope(tx, nowMs),
    locate: (hash) => store.locateTx(hash),
    spread: (tx) => gossip.spread(tx),
  });
  const due: DueWatch = new DueWatch({
    clock,
    poolSize: () => mempool.size,
    head: () => executor.head,
    onChange: (isDue) => host.setDue(isDue),
  });
  mempool.onChange(() => due.update());
  const validatorPeers = (): string[] =>
    executor.head.validators.filter((v) => !equalBytes(v.address, signer.address)).map((v) => v.peerId);
  const gossip: TransactionGossip = new TransactionGossip(mempool, { clock, network, validatorPeers });
  const proposer = new Proposer({
    clock,
    executor,
    mempool,
    due,
    address: signer.address,
    processorMs: threadProcessorMs,
  });
  const proposals = new ProposalCheck({ clock, log, checker, executor, mempool });
  const snapshotServer = new SnapshotServer({ network, store, history, clock, monotonicMs: () => performance.now() });
  const snapshots = new SnapshotKeeper({
    settings: snapshotSettings,
    history,
    head: () => executor.head,
    hasState: (height) => store.stateRootAt(height) !== null,
    storeHead: () => store.storeState(executor.head),
    isInUse: (height) => snapshotServer.isInUse(height),
    changed: (height) => {
      log.info({ height }, 'keeping a snapshot');
      pruner.kick();
    },
    failed: (error) => fail(error),
  });
  const founders = sortedValidatorSet(genesis.validators);
  const restorer = new SnapshotRestorer({
    clock,
    log,
    network,
    checker,
    trust: new TrustChain(chainId, founders, verifier.engine),
    founders,
    store,
    restoring: new RestoreStore(kv),
    fromBlocks: snapshotSettings.joinFromBlocks,
    adopt: async (restored) => {
      await host.adopt(restored);
      history.restored(restored.committed.header.height);
      watch.committed();
      if (snapshotSettings.everyBlocks > 0) await snapshots.create(restored.committed.header.height);
    },
  });
  const syncer: Syncer = new Syncer({
    chainId,
    clock,
    log,
    network,
    headHeight: () => executor.head.height,
    isValidator: () => host.isValidator,
    apply: (certified) => host.apply(certified),
    restorer,
    failed: (error) => fail(error),
  });
  const host: Host = new Host({
    chainId,
    clock,
    log,
    network,
    signer,
    verifier,
    executor,
    safety,
    ledger,
    mempool,
    due,
    proposer,
    proposals,
    blocks,
    syncer,
    observations,
    onReport: (report) => metrics.report(report, clock.nowMs()),
    onEvidence: (found) => evidence.add(found),
    onRefused: (code) => metrics.refused(code),
    onCommitted: (block, waitedMs) => metrics.committed({ transactions: block.txHashes.length, waitedMs }),
    onFatal: (error) => fail(error),
  });

  const pruner = new StatePruner({
    history,
    keepBlocks: keepStates,
    headHeight: () => store.stateHeight,
    failed: (error) => fail(error),
  });

  const watch: MemberWatch = new MemberWatch({
    clock,
    log,
    network,
    self: signer.address,
    bootstrap: options.bootstrap ?? [],
    state: () => executor.state.reader,
  });
  const calls = new OwnCalls({ chainId, clock, signer, executor, mempool });
  const voice = new NodeVoice({
    clock,
    log,
    address: signer.address,
    executor,
    calls,
    evidence,
    isSyncing: () => syncer.syncing,
    isMember: () => watch.isMember,
    failed: (error) => fail(error),
  });
  const custody = new CustodyNotes();
  const alarms: AlarmWatch = new AlarmWatch({
    clock,
    log,
    disk: options.disk ?? null,
    facts: () => {
      const { height, header, validators, leaders, params } = executor.head;
      const { viewTimeoutMs, maxClockDriftMs } = params;
      return {
        self: signer.address,
        head: { height, timestampMs: header.timestampMs, validators, leaders, viewTimeoutMs, maxClockDriftMs },
        isMember: watch.isMember,
        peers: network.peers(),
        seen: observations,
        sync: { syncing: syncer.syncing, sourcePeerId: syncer.sourcePeerId, highest: syncer.highestClaimed },
        pool: { size: mempool.size, bytes: mempool.bytes, limits: mempool.limits },
        slowestSyncMs: slowest.durationMs,
        custodyConcern: custody.concern,
      };
    },
  });
  ledger.onCommitted((block) => {
    const { header } = block;
    watch.committed();
    announceHead(block, watch.hasObservers, host, network);
    voice.look();
    snapshots.committed();
    pruner.kick();
    log.debug({ height: header.height, view: header.view, transactions: block.txHashes.length }, 'committed a block');
  });
  metrics.pull(
    {
      height: () => executor.head.height,
      view: () => observations.phase.view,
      blockIntervalMs: () => observations.blockIntervalMs,
      alarms: () => alarms.look(),
      diskFreeBytes: () => alarms.diskFreeBytes,
      isValidator: () => host.isValidator,
      validators: () => observations.validators(),
      syncLag: () => syncer.highestClaimed - executor.head.height,
      mempool: () => ({ size: mempool.size, bytes: mempool.bytes, rejections: mempool.rejections }),
      verifier: () => verifier.counts(),
      peers: () => {
        const peers = network.peers();
        return { connected: peers.filter((peer) => peer.connected).length, members: peers.length };
      },
      network: () => network.counters(),
    },
    { processMetrics: options.processMetrics ?? true },
  );

  let failed = false;
  let stopping: Promise<void> | null = null;
  const stop = (): Promise<void> => {
    stopping ??= (async () => {
      alarms.stop();
      due.stop();
      gossip.stop();
      mempool.stop();
      watch.stop();
      await Promise.all([syncer.stop(), host.stop(), pruner.stop(), snapshots.stop(), voice.stop()]);
      await Promise.all([network.stop(), verifier.stop()]);
      // A courtesy: without it, the next start executes some blocks again. After a fault nothing in memory is to be relied on.
      if (!failed) await store.storeState(executor.head).catch(() => undefined);
      await kv.close();
      log.info({ height: executor.head.height }, 'stopped');
    })();
    return stopping;
  };
  const fail = (error: unknown): void => {
    if (failed) return;
    failed = true;
    const code = error instanceof EmrError ? error.code : 'INVARIANT';
    log.error({ code, err: error }, 'the node cannot go on and stops');
    // Whatever stopping runs into now, the first error is the one to show.
    void stop()
      .catch(() => undefined)
      .then(() => options.onFatal(error));
  };

  return {
    chainId,
    genesis,
    signer,
    network,
    store,
    history,
    snapshots,
    safety,
    executor,
    mempool,
    verifier,
    host,
    syncer,
    due,
    observations,
    evidence,
    membership: watch,
    calls,
    custody,
    alarms,
    metrics,
    clock,
    stop,
    onCommitted: (listener) => ledger.onCommitted(listener),
    async start() {
      watch.start();
      blocks.start();
      snapshotServer.start();
      gossip.start();
      await network.start();
      await host.start();
      mempool.start();
      syncer.start();
      alarms.start();
      voice.start();
      log.info({ height: executor.head.height, peerId: network.peerId, validator: host.isValidator }, 'started');
    },
  };
}

/** Of this thread; of the process where Node does not tell them apart (before 23.9). */
function threadProcessorMs(): number {
  const { user, system } = (process.threadCpuUsage ?? process.cpuUsage)();
  return (user + system) / 1_000;
}

/** Observers hear of blocks from one validator at each height; who misses that looks again by itself. */
function announceHead(block: CommittedBlock, hasObservers: boolean, host: Host, network: Network): void {
  const { header, hash } = block;
  if (!hasObservers || host.index !== header.height % host.head.validators.length) return;
  network.publish('heads', encodeHeadNotice({ height: header.height, hash }));
}
