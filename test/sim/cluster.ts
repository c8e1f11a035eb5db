/** A consortium of simulated nodes under one clock, with what scenarios do to them. */
import type { ConsensusParams } from '../../consensus/types.ts';
import { Checkers } from './checkers.ts';
import { SimNode, type Surroundings } from './node.ts';
import { type SetChange, setChangeTx, SPARE_MEMBERS, toyTx } from './toy-chain.ts';
import { type ToyConsortium, toyConsortium } from './toy-crypto.ts';
import { World } from './world.ts';

const consortia = new Map<number, ToyConsortium>();

/** Beside what the seed decides. */
export interface ClusterOptions {
  /** Nodes beside the founders' that follow the chain and may be voted in. */
  readonly spares?: number;
  readonly params?: ConsensusParams;
  readonly demotionBlocks?: number;
}

export class Cluster implements Surroundings {
  readonly world: World;
  readonly consortium: ToyConsortium;
  readonly checkers: Checkers;
  readonly nodes: readonly SimNode[];
  readonly params: ConsensusParams;
  readonly demotionBlocks: number;
  /** How long a node that ended by itself stays down, at most; null means that the scenario starts it again. */
  downtimeMs: number | null = null;
  /** Further processes with the key of one of the nodes: they hear and say what that node may hear and say. */
  readonly twins: SimNode[] = [];
  #txs = 0;

  constructor(seed: number, validatorCount: number, options: ClusterOptions = {}) {
    this.world = new World(seed);
    this.consortium = consortia.get(validatorCount) ?? toyConsortium(validatorCount);
    consortia.set(validatorCount, this.consortium);
    this.checkers = new Checkers(this.consortium);
    this.params = options.params ?? { viewTimeoutMs: 200, viewTimeoutCapMs: 1_600 };
    this.demotionBlocks = options.demotionBlocks ?? 16;
    const members = validatorCount + Math.min(options.spares ?? 0, SPARE_MEMBERS);
    this.nodes = Array.from({ length: members }, (_, member) => new SimNode(this, member));
  }

  /** All but further processes: those are a scenario's business. */
  startAll(): void {
    for (const node of this.nodes) if (!node.isUp) node.start();
  }

  node(member: number): SimNode {
    const node = this.nodes[member];
    if (node === undefined) throw new Error(`no node ${member}`);
    return node;
  }

  get honest(): readonly SimNode[] {
    return this.nodes.filter((n) => n.behaviour === null);
  }

  processesOf(member: number): readonly SimNode[] {
    const node = this.node(member);
    return this.twins.length === 0 ? [node] : [node, ...this.twins.filter((t) => t.member === member)];
  }

  /** A second process with the key of `member`. */
  addTwin(member: number): SimNode {
    const twin = new SimNode(this, member, this.nodes.length + this.twins.length);
    this.twins.push(twin);
    return twin;
  }

  crashed(node: SimNode): void {
    node.crash();
    if (this.downtimeMs === null) return;
    this.world.after(this.world.prng.between(1, this.downtimeMs), () => {
      if (!node.isUp) node.start();
    });
  }

  newTx(): Uint8Array {
    this.#txs += 1;
    return toyTx(this.#txs);
  }

  newSetChange(change: SetChange): Uint8Array {
    this.#txs += 1;
    return setChangeTx(change, this.#txs);
  }

  /** Gives a transaction to every node that is up, as gossip would. */
  submit(tx: Uint8Array): void {
    for (const node of [...this.nodes, ...this.twins]) {
      this.world.after(this.world.prng.between(0, 20), () => node.submit(tx));
    }
  }

  /** Lowest and highest committed height among honest nodes. */
  heights(): { readonly low: number; readonly high: number } {
    const heights = this.honest.map((n) => n.disk.chain.length);
    return { low: Math.min(...heights), high: Math.max(...heights) };
  }
}
