/**
 * A running network under loads: one process sends, this one signs what it sends, and reads what the nodes' processes have
 * taken. At the end all nodes must have the same state.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Devnet } from '../../../scripts/devnet/devnet.ts';
import { waitFor } from '../../../scripts/devnet/processes.ts';
import { RpcClient } from '../../../client/index.ts';
import type { LoadAnswer, LoadOrder } from '../load-process.ts';
import { writeLoad } from './load-file.ts';
import type { RunResult } from './load-run.ts';
import type { CpuProfile } from './stages.ts';
import { PROFILE_FILE, PROFILE_SIGNAL } from './profile-file.ts';
import { cpuMsOf, memoryMiBOf, THREADS, threadsCpuMsOf, type ThreadUse } from './process-usage.ts';
import { type Origin, signed, type SignedBytes } from './transactions.ts';
import type { Planned } from './one-signature.ts';

const PROFILED_NODE = join(import.meta.dirname, '..', 'profiled-node.ts');
const LOAD_PROCESS = join(import.meta.dirname, '..', 'load-process.ts');
/** What is signed now must be in a block by then. */
const VALIDITY_MS = 540_000;
/** Poisson arrivals may be more than their mean. */
const SPARE = 1.1;
const SPARE_MIN = 50;

export interface Loaded extends RunResult {
  readonly ratePerSecond: number;
  /** Of each validator for each transaction that was committed, microseconds. */
  readonly cpuUsPerTx: number;
  /** Of a validator's processor time, what which threads took. */
  readonly threads: readonly { readonly use: ThreadUse; readonly share: number }[];
  /** Of all validators, in cores: 2 is all of a machine of two. */
  readonly validatorCores: number;
  /** Of the load, in cores. */
  readonly loadCores: number;
  /** The most that a validator has had so far, and what it has now. */
  readonly peakMiB: number;
  readonly memoryMiB: number;
}

export class LoadedNetwork {
  readonly #devnet: Devnet;
  readonly #chainId: Uint8Array;
  readonly #nodes: number;
  #runs = 0;
  #sent = 0;

  constructor(devnet: Devnet, chainId: Uint8Array) {
    this.#devnet = devnet;
    this.#chainId = chainId;
    this.#nodes = devnet.hospitals.length;
  }

  /**
   * Nodes alone: custodians have no part in this.
   * @param profiled starts the first as one that can be profiled
   */
  async start(profiled = false): Promise<void> {
    const orgs = this.#devnet.hospitals.map(({ orgId }) => orgId);
    orgs.forEach((orgId, index) => this.#devnet.startNode(orgId, profiled && index === 0 ? PROFILED_NODE : undefined));
    await this.#devnet.waitReady(orgs);
  }

  /** Samples the first node while `work` runs. It must have been started for that. */
  async profiled(work: () => Promise<unknown>): Promise<CpuProfile> {
    const [first] = this.#devnet.hospitals;
    const pid = this.#devnet.pids().get(first?.orgId ?? '') ?? 0;
    process.kill(pid, PROFILE_SIGNAL);
    // Nothing was done: both signals would come as one.
    if ((await work()) === null) throw new Error('too little is prepared to be profiled');
    process.kill(pid, PROFILE_SIGNAL);
    const file = join(first?.dir ?? '', PROFILE_FILE);
    await waitFor('the profile is not written', [], () => Promise.resolve(existsSync(file)), 30_000);
    return JSON.parse(readFileSync(file, 'utf8')) as CpuProfile;
  }

  /**
   * @param calls runs take from it one after the other
   * @param begun right before the first is sent: all are signed by then
   * @returns null where it has too few left
   */
  async run(
    calls: Iterator<Planned>,
    ratePerSecond: number,
    seconds: number,
    begun: () => void = () => {},
  ): Promise<Loaded | null> {
    this.#runs += 1;
    const file = join(this.#devnet.dir, `load-${this.#runs}`);
    const count = Math.ceil(ratePerSecond * seconds * SPARE + SPARE_MIN);
    const written = writeLoad(file, this.#sign(calls, count));
    if (written < count) return null;
    const origins = this.#devnet.hospitals.map(({ rpcUrl }) => rpcUrl);
    const pids = [...this.#devnet.pids().values()];
    const order: LoadOrder = { origins, file, ratePerSecond, seconds, seed: this.#runs };
    let before: number[] = [];
    let threadsBefore: ReadonlyMap<ThreadUse, number>[] = [];
    let startMs = 0;
    const { result, cpuMs } = await runLoad(order, () => {
      before = pids.map(cpuMsOf);
      threadsBefore = pids.map(threadsCpuMsOf);
      startMs = performance.now();
      begun();
    });
    const wallMs = performance.now() - startMs;
    const usedMs = pids.map((pid, index) => cpuMsOf(pid) - (before[index] as number));
    const total = usedMs.reduce((sum, ms) => sum + ms, 0);
    const memory = pids.map(memoryMiBOf);
    const threadsAfter = pids.map(threadsCpuMsOf);
    const threads = THREADS.map((use) => {
      const ofAll = threadsAfter.map((after, index) => (after.get(use) ?? 0) - (threadsBefore[index]?.get(use) ?? 0));
      return { use, share: ofAll.reduce((sum, ms) => sum + ms, 0) / total };
    });
    return {
      ...result,
      ratePerSecond,
      threads,
      cpuUsPerTx: (total * 1_000) / pids.length / (result.accepted - result.lost),
      validatorCores: total / wallMs,
      loadCores: cpuMs / wallMs,
      peakMiB: Math.max(...memory.map(({ peak }) => peak)),
      memoryMiB: Math.max(...memory.map(({ now }) => now)),
    };
  }

  *#sign(calls: Iterator<Planned>, count: number) {
    const origin: Origin = { chainId: this.#chainId, validUntilMs: Date.now() + VALIDITY_MS };
    for (let n = 0; n < count; n += 1) {
      const next = calls.next();
      if (next.done === true) return;
      const { by, call, sidecar = null, node } = next.value;
      const made: SignedBytes = signed(origin, by, call, sidecar);
      yield { ...made, node: node ?? this.#sent++ % this.#nodes };
    }
  }

  /** @throws Error unless all nodes have one head and an empty pool */
  async agree(): Promise<{ readonly height: number; readonly stateRoot: string }> {
    const rpcs = this.#devnet.hospitals.map(({ rpcUrl }) => new RpcClient(rpcUrl));
    const deadlineMs = performance.now() + 20_000;
    for (;;) {
      const heads = await Promise.all(rpcs.map((rpc) => rpc.call('chain_getHeader', { height: 'latest' })));
      const pools = await Promise.all(rpcs.map((rpc) => rpc.call('tx_poolStatus', {})));
      const [head] = heads;
      if (
        head !== undefined &&
        heads.every(({ hash }) => hash === head.hash) &&
        pools.every((p) => p.transactions === 0)
      )
        return { height: head.header.height, stateRoot: head.header.stateRoot };
      if (performance.now() > deadlineMs) throw new Error('the nodes do not come to one state');
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async stop(): Promise<void> {
    await this.#devnet.stop();
  }
}

type LoadMessage =
  | { readonly kind: 'ready' }
  | { readonly kind: 'done'; readonly answer: LoadAnswer }
  | { readonly kind: 'failed'; readonly message: string };

/** @param begun when everything is connected, right before the first transaction */
async function runLoad(order: LoadOrder, begun: () => void): Promise<LoadAnswer> {
  const child: ChildProcess = fork(LOAD_PROCESS, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  try {
    return await new Promise<LoadAnswer>((resolve, reject) => {
      child.on('message', (message: LoadMessage) => {
        if (message.kind === 'ready') begun();
        else if (message.kind === 'done') resolve(message.answer);
        else reject(new Error(message.message));
      });
      child.once('exit', (code) => reject(new Error(`the load process ended with ${code}`)));
      child.send(order);
    });
  } finally {
    child.kill();
  }
}
