/**
 * Names and meaning of everything that /metrics shows, in one registry for each node. Most values are read from the
 * parts of the node when somebody asks; only what happens in an instant is counted as it happens.
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import { bytesToHex } from '../../common/bytes.ts';
import type { Phase, Report } from '../../consensus/types.ts';
import type { Alarms } from '../alarms/alarm-watch.ts';
import { STALLS, WARNINGS } from '../alarms/codes.ts';
import type { ValidatorSeen } from '../host/observations.ts';
import type { VerifierCounts } from '../verification/verifier.ts';
import type { WriteMeasure } from './measured-store.ts';

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** Where pulled values come from. */
export interface MetricSources {
  readonly height: () => number;
  readonly view: () => number;
  readonly blockIntervalMs: () => number | null;
  readonly alarms: () => Alarms;
  /** Null where no disk is watched. */
  readonly diskFreeBytes: () => number | null;
  readonly isValidator: () => boolean;
  readonly validators: () => readonly ValidatorSeen[];
  readonly syncLag: () => number;
  readonly mempool: () => {
    readonly size: number;
    readonly bytes: number;
    readonly rejections: ReadonlyMap<string, number>;
  };
  readonly verifier: () => VerifierCounts;
  readonly peers: () => { readonly connected: number; readonly members: number };
  readonly network: () => ReadonlyMap<string, number>;
}

export class NodeMetrics {
  readonly registry = new Registry();
  readonly #viewChanges: Counter<'reason'>;
  readonly #phaseSeconds: Histogram<'phase'>;
  readonly #refused: Counter<'code'>;
  readonly #evidence: Counter<'vote'>;
  readonly #commitSeconds: Histogram;
  readonly #blockTransactions: Histogram;
  readonly #writeSeconds: Histogram<'sync'>;
  readonly #writeBytes: Counter;
  readonly #rpcSeconds: Histogram<'method'>;
  readonly #rpcRequests: Counter<'method' | 'status' | 'code'>;
  readonly #rpcConnections: Gauge;
  #phase: { readonly phase: Phase; readonly sinceMs: number } | null = null;

  constructor() {
    const registers = [this.registry];
    this.#viewChanges = new Counter({
      name: 'emrchain_consensus_view_changes_total',
      help: 'Views entered after the first of a height, by reason',
      labelNames: ['reason'],
      registers,
    });
    this.#phaseSeconds = new Histogram({
      name: 'emrchain_consensus_phase_seconds',
      help: 'Time spent in each phase of consensus',
      labelNames: ['phase'],
      buckets: SECONDS,
      registers,
    });
    this.#refused = new Counter({
      name: 'emrchain_consensus_refused_messages_total',
      help: 'Consensus messages that were not accepted, by code',
      labelNames: ['code'],
      registers,
    });
    this.#evidence = new Counter({
      name: 'emrchain_consensus_evidence_total',
      help: 'Pairs of conflicting votes that one validator signed, by kind of vote',
      labelNames: ['vote'],
      registers,
    });
    this.#commitSeconds = new Histogram({
      name: 'emrchain_transaction_commit_seconds',
      help: 'From the arrival of a transaction in the pool of this node to its durable block',
      buckets: SECONDS,
      registers,
    });
    this.#blockTransactions = new Histogram({
      name: 'emrchain_block_transactions',
      help: 'Transactions in a block',
      buckets: [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000],
      registers,
    });
    this.#writeSeconds = new Histogram({
      name: 'emrchain_database_write_seconds',
      help: 'Writes of the database, those with sync up to the disk',
      labelNames: ['sync'],
      buckets: SECONDS,
      registers,
    });
    this.#writeBytes = new Counter({
      name: 'emrchain_database_written_bytes_total',
      help: 'Keys and values given to the database',
      registers,
    });
    this.#rpcSeconds = new Histogram({
      name: 'emrchain_rpc_seconds',
      help: 'Time to answer a call',
      labelNames: ['method'],
      buckets: SECONDS,
      registers,
    });
    this.#rpcRequests = new Counter({
      name: 'emrchain_rpc_requests_total',
      help: 'Calls answered',
      labelNames: ['method', 'status', 'code'],
      registers,
    });
    this.#rpcConnections = new Gauge({
      name: 'emrchain_rpc_connections',
      help: 'Open WebSocket connections',
      registers,
    });
  }

  /** Reads these whenever the metrics are asked for. Event loop and garbage collection are the process's own. */
  pull(sources: MetricSources, options: { readonly processMetrics: boolean }): void {
    if (options.processMetrics) collectDefaultMetrics({ register: this.registry });
    this.#pullConsensus(sources);
    this.#pullAlarms(sources);
    this.#gauge('emrchain_disk_free_bytes', 'Room under the data folder; NaN where nobody watches it', () => {
      return sources.diskFreeBytes() ?? Number.NaN;
    });
    this.#gauge('emrchain_sync_lag_blocks', 'Blocks that others claim and this node lacks', sources.syncLag);
    this.#gauge('emrchain_mempool_transactions', 'Transactions that wait for a block', () => sources.mempool().size);
    this.#gauge('emrchain_mempool_bytes', 'Bytes of transactions that wait', () => sources.mempool().bytes);
    this.#counters(
      'emrchain_mempool_rejections_total',
      'Transactions refused or dropped',
      'code',
      () => sources.mempool().rejections,
    );
    this.#gauge('emrchain_peers_connected', 'Members that are connected', () => sources.peers().connected);
    this.#gauge('emrchain_peers_members', 'Members beside this node', () => sources.peers().members);
    this.#counters(
      'emrchain_network_total',
      'Bytes, drops and refusals by protocol and topic',
      'counter',
      sources.network,
    );
    this.#counters(
      'emrchain_verification_total',
      'Signatures verified, those of them by other threads, and milliseconds of the event loop spent on the rest',
      'what',
      () => {
        const { verified, byWorkers, busyMs } = sources.verifier();
        return new Map([
          ['signatures', verified],
          ['by_workers', byWorkers],
          ['milliseconds', Math.floor(busyMs)],
        ]);
      },
    );
    this.#gauge('emrchain_verification_queue', 'Signatures that wait to be verified', () => sources.verifier().waiting);
  }

  report(report: Report, nowMs: number): void {
    switch (report.kind) {
      case 'enteredView':
        this.#viewChanges.inc({ reason: report.reason });
        return;
      case 'phase':
        if (this.#phase?.phase === report.phase) return;
        if (this.#phase !== null) {
          this.#phaseSeconds.observe({ phase: this.#phase.phase }, (nowMs - this.#phase.sinceMs) / 1_000);
        }
        this.#phase = { phase: report.phase, sinceMs: nowMs };
        return;
      case 'refused':
        this.refused(report.code);
        return;
      case 'evidence':
        this.#evidence.inc({ vote: report.equivocation.vote });
        return;
      case 'keyInUse':
        this.refused('KEY_IN_USE');
    }
  }

  refused(code: string): void {
    this.#refused.inc({ code });
  }

  committed(block: { readonly transactions: number; readonly waitedMs: readonly number[] }): void {
    this.#blockTransactions.observe(block.transactions);
    for (const waitedMs of block.waitedMs) this.#commitSeconds.observe(waitedMs / 1_000);
  }

  wrote(write: WriteMeasure): void {
    this.#writeSeconds.observe({ sync: String(write.sync) }, write.durationMs / 1_000);
    this.#writeBytes.inc(write.sizeBytes);
  }

  rpcCall(call: {
    readonly method: string;
    readonly status: string;
    readonly code: number;
    readonly durationMs: number;
  }): void {
    this.#rpcSeconds.observe({ method: call.method }, call.durationMs / 1_000);
    this.#rpcRequests.inc({ method: call.method, status: call.status, code: String(call.code) });
  }

  rpcConnections(open: number): void {
    this.#rpcConnections.set(open);
  }

  #pullConsensus(sources: MetricSources): void {
    this.#gauge('emrchain_consensus_height', 'Height of the last durable block', sources.height);
    this.#gauge('emrchain_consensus_view', 'View of the height that is being decided', sources.view);
    this.#gauge('emrchain_consensus_missing_validators', 'Validators that the stall names; 0 without one', () => {
      return sources.alarms().stall?.missing.length ?? 0;
    });
    this.#gauge('emrchain_consensus_is_validator', '1 where this node is in the set of the next height', () => {
      return sources.isValidator() ? 1 : 0;
    });
    const interval = (): number => (sources.blockIntervalMs() ?? 0) / 1_000;
    this.#gauge('emrchain_consensus_block_interval_seconds', 'Between the last two blocks', interval);
    const registers = [this.registry];
    new Gauge({
      name: 'emrchain_consensus_last_signed_height',
      help: 'Last height whose certificate, as stored here, has the signature of the validator',
      labelNames: ['validator'],
      registers,
      collect() {
        this.reset();
        for (const { address, lastSignedHeight } of sources.validators()) {
          this.set({ validator: bytesToHex(address) }, lastSignedHeight ?? 0);
        }
      },
    });
  }

  /** One series for each code, 0 or 1: a rule can wait for one that was never raised. */
  #pullAlarms(sources: MetricSources): void {
    const registers = [this.registry];
    new Gauge({
      name: 'emrchain_stalled',
      help: 'Whether the node says that it is stalled, by reason (docs/runbook.md)',
      labelNames: ['reason'],
      registers,
      collect() {
        const { stall } = sources.alarms();
        for (const reason of Object.keys(STALLS)) this.set({ reason }, stall?.code === reason ? 1 : 0);
      },
    });
    new Gauge({
      name: 'emrchain_warning',
      help: 'Whether the node warns, by code (docs/runbook.md)',
      labelNames: ['code'],
      registers,
      collect() {
        const raised = new Set(sources.alarms().warnings.map(({ code }) => code));
        for (const code of Object.keys(WARNINGS)) this.set({ code }, raised.has(code) ? 1 : 0);
      },
    });
    new Gauge({
      name: 'emrchain_validator_missing',
      help: 'Whether the stall or a warning names the validator, by organisation',
      labelNames: ['org'],
      registers,
      collect() {
        this.reset();
        const { stall, warnings } = sources.alarms();
        for (const alarm of [...(stall === null ? [] : [stall]), ...warnings]) {
          for (const { orgId } of alarm.missing) this.set({ org: orgId }, 1);
        }
      },
    });
  }

  #gauge(name: string, help: string, read: () => number): void {
    new Gauge({
      name,
      help,
      registers: [this.registry],
      collect() {
        this.set(read());
      },
    });
  }

  /** Totals that another part of the node counts, one for each value of the label. */
  #counters(name: string, help: string, label: string, read: () => ReadonlyMap<string, number>): void {
    new Counter({
      name,
      help,
      labelNames: [label],
      registers: [this.registry],
      collect() {
        this.reset();
        for (const [value, total] of read()) this.inc({ [label]: value }, total);
      },
    });
  }
}
