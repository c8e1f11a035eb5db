/**
 * One random run: a storm of bad weather, partitions, crashes and up to f Byzantine validators, then calm, in which
 * everything that was submitted must be committed everywhere within a bound.
 */
import { BEHAVIOURS } from './adversary.ts';
import { Violation } from './checkers.ts';
import { Cluster } from './cluster.ts';
import type { Weakness } from './node.ts';
import { FAIR_WEATHER } from './world.ts';

export interface RunResult {
  readonly seed: number;
  readonly validators: number;
  readonly byzantine: readonly string[];
  readonly height: number;
  readonly highestView: number;
  readonly crashes: number;
  readonly deliveries: number;
  /** Virtual time from calm to the last commit. */
  readonly recoveryMs: number;
  readonly evidence: number;
  readonly trace: number;
  /** Null when every property held. */
  readonly violation: string | null;
}

const STORM_MS = 6_000;
/** One capped timeout for views to meet, f for leaders in a row that fail, one for the leader that does not; some ticks. */
const recoveryBoundMs = (faulty: number, capMs: number): number => (faulty + 2) * capMs + 4_000;

export function randomRun(seed: number, weakness: Weakness | null = null): RunResult {
  const validators = seed % 3 === 0 ? 7 : 4;
  const cluster = new Cluster(seed, validators);
  cluster.weakness = weakness;
  let recoveryMs = 0;
  let violation: string | null = null;
  try {
    storm(cluster, Math.floor((validators - 1) / 3));
    recoveryMs = calm(cluster, Math.floor((validators - 1) / 3));
  } catch (error) {
    // Assertions of the core and of the host count as violations too.
    violation =
      error instanceof Error ? `${error instanceof Violation ? '' : `${error.name}: `}${error.message}` : String(error);
  }
  const { world, checkers, nodes } = cluster;
  return {
    seed,
    validators,
    byzantine: nodes.flatMap((n) => (n.behaviour === null ? [] : [n.behaviour.name])),
    height: checkers.chain.length,
    highestView: Math.max(0, ...checkers.chain.map((b) => b.certificate.view)),
    crashes: nodes.reduce((sum, n) => sum + n.crashes, 0),
    deliveries: world.deliveries,
    recoveryMs,
    evidence: checkers.evidence,
    trace: world.trace,
    violation,
  };
}

function storm(cluster: Cluster, faulty: number): void {
  const { world } = cluster;
  const prng = world.prng.fork(1);
  const chosen = prng.shuffled(cluster.nodes.map((n) => n.index)).slice(0, prng.between(0, faulty));
  for (const index of chosen) cluster.node(index).behaviour = prng.pick(BEHAVIOURS)(prng.fork(index));
  world.weather = {
    lossPerMille: prng.pick([0, 20, 100, 300]),
    duplicatePerMille: prng.pick([0, 50, 200]),
    minDelayMs: 1,
    maxDelayMs: prng.pick([5, 20, 80]),
    slowPerMille: prng.pick([0, 20, 200]),
    slowDelayMs: prng.pick([50, 400, 2_000]),
  };
  const crashPerTenThousand = prng.pick([0, 0, 5, 30, 100]);
  cluster.downtimeMs = prng.pick([50, 500, 3_000]);
  for (const node of cluster.nodes) {
    node.crashPerTenThousand = crashPerTenThousand;
    node.clockSkewMs = prng.between(-300, 300);
  }
  cluster.startAll();
  const txs = prng.between(5, 20);
  for (let i = 0; i < txs; i += 1) world.after(prng.between(0, STORM_MS), () => cluster.submit(cluster.newTx()));
  const partitions = prng.between(0, 3);
  for (let i = 0; i < partitions; i += 1) {
    world.after(prng.between(0, STORM_MS), () => {
      world.cells = cluster.nodes.map(() => prng.between(0, 1));
    });
  }
  // Everybody loses power at once.
  if (prng.chance(250)) {
    world.after(prng.between(500, STORM_MS), () => {
      for (const node of cluster.nodes) if (node.isUp) cluster.crashed(node);
    });
  }
  world.run(world.nowMs + STORM_MS);
}

/** @returns virtual milliseconds until all was committed everywhere */
function calm(cluster: Cluster, faulty: number): number {
  const { world, checkers } = cluster;
  world.weather = FAIR_WEATHER;
  world.cells = null;
  cluster.downtimeMs = null;
  for (const node of cluster.nodes) node.crashPerTenThousand = 0;
  cluster.startAll();
  const beganMs = world.nowMs;
  const boundMs = recoveryBoundMs(faulty, cluster.params.viewTimeoutCapMs);
  const isLevel = (): boolean => cluster.heights().low === checkers.chain.length;
  // Half of the runs: without any client, those who are behind catch up first.
  if (world.prng.chance(500) && !world.run(beganMs + boundMs, isLevel)) throw stuck(cluster);
  const tx = cluster.newTx();
  cluster.submit(tx);
  const isDone = (): boolean => checkers.isCommitted(tx) && isLevel();
  if (!world.run(world.nowMs + boundMs, isDone)) throw stuck(cluster);
  return world.nowMs - beganMs;
}

function stuck(cluster: Cluster): Violation {
  const { low, high } = cluster.heights();
  const positions = cluster.nodes.map((n) => JSON.stringify(n.replica?.position)).join(' ');
  return new Violation(`no progress after healing: heights ${low} to ${high}, ${positions}`);
}
