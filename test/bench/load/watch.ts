/** What the nodes of a network say of themselves while a load runs, at regular intervals. */
import type { Devnet } from '../../../scripts/devnet/devnet.ts';
import { memoryMiBOf } from './process-usage.ts';

export interface Sample {
  /** Since the watch began. */
  readonly atMs: number;
  /** Since the node started. */
  readonly committed: number;
  readonly pool: number;
  /** Of the nodes the most; since the sample before. */
  readonly lagP99Ms: number;
  readonly lagMaxMs: number;
  /** Of the nodes the most, MiB. */
  readonly anonymousMiB: number;
  readonly residentMiB: number;
  /** Of the first of them: used of the heap of JavaScript, and buffers beside it. */
  readonly heapMiB: number;
  readonly buffersMiB: number;
}

const MIB = 1024 * 1024;

/** @returns what ends it and gives the samples */
export function watch(devnet: Devnet, everyMs: number): () => Promise<readonly Sample[]> {
  const samples: Sample[] = [];
  const startMs = performance.now();
  let last = take();
  const timer = setInterval(() => {
    last = last.then(take);
    last.catch(() => clearInterval(timer));
  }, everyMs);

  async function take(): Promise<void> {
    const nodes = await Promise.all(devnet.hospitals.map(({ rpcUrl }) => metricsOf(rpcUrl)));
    const most = (name: string): number => Math.max(...nodes.map((node) => node.get(name) ?? Number.NaN));
    const memory = [...devnet.pids().values()].map(memoryMiBOf);
    samples.push({
      atMs: performance.now() - startMs,
      committed: nodes[0]?.get('emrchain_block_transactions_sum') ?? Number.NaN,
      pool: most('emrchain_mempool_transactions'),
      lagP99Ms: most('nodejs_eventloop_lag_p99_seconds') * 1_000,
      lagMaxMs: most('nodejs_eventloop_lag_max_seconds') * 1_000,
      anonymousMiB: Math.max(...memory.map(({ anonymous }) => anonymous)),
      residentMiB: Math.max(...memory.map(({ now }) => now)),
      heapMiB: (nodes[0]?.get('nodejs_heap_size_used_bytes') ?? Number.NaN) / MIB,
      buffersMiB: (nodes[0]?.get('nodejs_external_memory_bytes') ?? Number.NaN) / MIB,
    });
  }

  return async () => {
    clearInterval(timer);
    await last;
    return samples;
  };
}

/** Those without labels. */
async function metricsOf(rpcUrl: string): Promise<ReadonlyMap<string, number>> {
  const answer = await fetch(`${rpcUrl}/metrics`);
  if (!answer.ok) throw new Error(`${rpcUrl}/metrics answers ${answer.status}`);
  const lines = (await answer.text()).matchAll(/^(\w+) (\S+)$/gmu);
  return new Map(Array.from(lines, ([, name = '', value]) => [name, Number(value)] as const));
}
