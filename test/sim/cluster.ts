/** A consortium of simulated nodes under one clock, with what scenarios do to them. */
import type { Certificate } from '../../common/protocol/block.ts';
import type { ConsensusParams } from '../../consensus/types.ts';
import { Checkers } from './checkers.ts';
import { SimNode, type Surroundings, type Weakness } from './node.ts';
import { toyTx } from './toy-chain.ts';
import { type ToyConsortium, toyConsortium } from './toy-crypto.ts';
import { World } from './world.ts';

const consortia = new Map<number, ToyConsortium>();

export class Cluster implements Surroundings {
  readonly world: World;
  readonly consortium: ToyConsortium;
  readonly checkers: Checkers;
  readonly nodes: readonly SimNode[];
  readonly params: ConsensusParams = { viewTimeoutMs: 200, viewTimeoutCapMs: 1_600 };
  readonly demotionBlocks = 16;
  weakness: Weakness | null = null;
  twin: SimNode | null = null;
  /** How long a node that ended by itself stays down; null means that the scenario starts it again. */
  downtimeMs: number | null = null;
  #txs = 0;

  constructor(seed: number, validatorCount: number) {
    this.world = new World(seed);
    this.consortium = consortia.get(validatorCount) ?? toyConsortium(validatorCount);
    consortia.set(validatorCount, this.consortium);
    this.checkers = new Checkers(this.consortium);
    this.nodes = this.consortium.validators.map((_, index) => new SimNode(this, index));
  }

  startAll(): void {
    for (const node of this.nodes) if (!node.isUp) node.start();
  }

  node(index: number): SimNode {
    const node = this.nodes[index];
    if (node === undefined) throw new Error(`no node ${index}`);
    return node;
  }

  get honest(): readonly SimNode[] {
    return this.nodes.filter((n) => n.behaviour === null);
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

  /** Gives a transaction to every node that is up, as gossip would. */
  submit(tx: Uint8Array): void {
    for (const node of this.nodes) this.world.after(this.world.prng.between(0, 20), () => node.submit(tx));
  }

  certificateOf(certificate: Certificate): Certificate {
    if (this.weakness !== 'shortCertificate') return certificate;
    return { ...certificate, signatures: certificate.signatures.slice(1, 3) };
  }

  /** Lowest and highest committed height among honest nodes. */
  heights(): { readonly low: number; readonly high: number } {
    const heights = this.honest.map((n) => n.disk.chain.length);
    return { low: Math.min(...heights), high: Math.max(...heights) };
  }
}
