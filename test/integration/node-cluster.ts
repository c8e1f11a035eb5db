/** Nodes of one consortium in one process: real storage, execution, consensus and mempool over the in-memory network. */
import type { Sm2Signer } from '../../common/crypto/sm2.ts';
import { createWasmEngine } from '../../common/crypto/sm2-engine/engine.ts';
import type { EmrNode, NodeOptions } from '../../node/node.ts';
import { createNode } from '../../node/node.ts';
import type { Network } from '../../node/network/types.ts';
import type { KeyValueStore } from '../../node/storage/key-value-store.ts';
import { Leap, MortalClock } from './node-clock.ts';
import type { Consortium, Hospital, TestTransaction } from './node-consortium.ts';
import { MemoryHub } from './node-memory-network.ts';

const engine = createWasmEngine();

export interface RunningNode {
  readonly node: EmrNode;
  /** What made it stop by itself. */
  readonly fatal: unknown[];
  /** Ends it as kill -9 does: nothing is flushed, no timer fires, no peer is told. */
  kill(): void;
}

export class Cluster {
  readonly net: Consortium;
  readonly hub = new MemoryHub();
  /** The time of all nodes. */
  readonly leap = new Leap();
  /** By index of the validator set; undefined where none runs. */
  readonly running: (RunningNode | undefined)[];
  /** For nodes that are started from now on. */
  options: Pick<NodeOptions, 'keepStates' | 'snapshots' | 'log' | 'disk'> = { keepStates: 512 };
  /** How far the clocks of nodes that are started from now on are ahead. */
  skewMs = 0;

  constructor(net: Consortium) {
    this.net = net;
    this.running = net.hospitals.map(() => undefined);
  }

  /** Starts validator `index` on a database, on the in-memory network unless another is given. */
  async start(index: number, kv: KeyValueStore, network?: Network): Promise<EmrNode> {
    return this.#start(index, this.net.hospitals[index] as Hospital, {
      kv,
      ...(network === undefined ? {} : { network }),
    });
  }

  /** Starts a node that the genesis need not name. @returns its place among the running ones */
  async startAs(
    node: { readonly validator: Sm2Signer; readonly peerId: string },
    kv: KeyValueStore,
    bootstrap: readonly string[] = [],
  ): Promise<number> {
    const index = this.running.push(undefined) - 1;
    await this.#start(index, node, { kv, bootstrap });
    return index;
  }

  async #start(
    index: number,
    { validator, peerId }: { readonly validator: Sm2Signer; readonly peerId: string },
    options: { readonly kv: KeyValueStore; readonly network?: Network; readonly bootstrap?: readonly string[] },
  ): Promise<EmrNode> {
    const { kv, network, bootstrap = [] } = options;
    const clock = new MortalClock(this.leap, this.skewMs);
    const memory = network === undefined ? this.hub.join(peerId) : null;
    const fatal: unknown[] = [];
    const node = await createNode({
      genesis: this.net.genesis,
      kv,
      signer: validator,
      engine,
      network: network ?? (memory as Network),
      mempool: { maxTransactions: 5_000, maxBytes: 16 * 1024 * 1024 },
      ...this.options,
      bootstrap,
      clock,
      processMetrics: false,
      onFatal: (error) => fatal.push(error),
    });
    const kill = (): void => {
      clock.kill();
      if (memory !== null) memory.running = false;
      this.running[index] = undefined;
    };
    this.running[index] = { node, fatal, kill };
    await node.start();
    return node;
  }

  /** Node `index`, which must run. */
  node(index: number): EmrNode {
    const running = this.running[index];
    if (running === undefined) throw new Error(`node ${index} does not run`);
    return running.node;
  }

  nodes(): EmrNode[] {
    return this.running.flatMap((running) => (running === undefined ? [] : [running.node]));
  }

  /** Errors that made nodes stop by themselves. */
  fatal(): unknown[] {
    return this.running.flatMap((running) => running?.fatal ?? []);
  }

  async stop(): Promise<void> {
    await Promise.all(this.nodes().map((node) => node.stop()));
  }

  /** Waits until all running nodes have committed all these transactions, and know it in all their parts. */
  async committed(txs: readonly TestTransaction[], deadlineMs = 20_000): Promise<void> {
    const has = (node: EmrNode, tx: TestTransaction): boolean => {
      // The database shows a block a moment before the node goes on with it.
      const found = node.store.locateTx(tx.hash);
      return found !== null && node.host.head.height >= found.height;
    };
    await until(
      () => this.nodes().every((node) => txs.every((tx) => has(node, tx))),
      deadlineMs,
      () => this.describe(),
    );
  }

  /** Waits until all running nodes have the same head. */
  async level(deadlineMs = 20_000): Promise<void> {
    const heights = (): number[] => this.nodes().map((node) => node.host.head.height);
    await until(
      () => new Set(heights()).size === 1,
      deadlineMs,
      () => this.describe(),
    );
  }

  describe(): string {
    const lines = this.running.map((running, index) => {
      if (running === undefined) return `${index}: down`;
      const { node, fatal } = running;
      const { phase, view, height, missing } = node.observations.phase;
      return `${index}: head ${node.executor.head.height}, pool ${node.mempool.size}, deciding ${height}/${view} ${phase}, missing ${missing.join()}${fatal.length > 0 ? `, fatal ${String(fatal[0])}` : ''}`;
    });
    return lines.join('\n');
  }
}

/** Waits for a condition, looking again after everything that is ready now has run. */
export async function until(condition: () => boolean, deadlineMs: number, describe: () => string): Promise<void> {
  const endMs = Date.now() + deadlineMs;
  while (!condition()) {
    if (Date.now() > endMs) throw new Error(`not within ${deadlineMs} ms:\n${describe()}`);
    await new Promise<void>((resolve) => {
      setTimeout(resolve, 5);
    });
  }
}
