/**
 * One random run: a storm of faults that the seed draws, with up to f Byzantine validators, in which nothing unsafe may
 * happen; then everything heals, and what is submitted must be committed everywhere within a bound.
 */
import { faultTolerance } from '../../common/protocol/validator-set.ts';
import { Violation } from './checkers.ts';
import { Cluster } from './cluster.ts';
import { brew, drawKinds, type FaultKind, healAll, STORM_MS } from './faults.ts';
import { SPARE_MEMBERS } from './toy-chain.ts';

export interface RunResult {
  readonly seed: number;
  readonly validators: number;
  readonly faults: readonly FaultKind[];
  readonly byzantine: readonly string[];
  readonly height: number;
  /** How many blocks changed the validator set. */
  readonly setChanges: number;
  readonly highestView: number;
  readonly crashes: number;
  /** Of these, such that met an unsynced write and tore it or lost it. */
  readonly lostWrites: number;
  readonly deliveries: number;
  /** Virtual time of the whole run. */
  readonly virtualMs: number;
  /** Virtual time from calm to the last commit. */
  readonly recoveryMs: number;
  readonly evidence: number;
  readonly trace: number;
  /** Null when every property held. */
  readonly violation: string | null;
}

export interface RunOptions {
  /** As drawn from the seed, when absent. */
  readonly validators?: number | undefined;
}

/**
 * From calm until all is committed everywhere: one capped timeout for views to meet, f for leaders in a row that fail, one
 * for the leader that does not, and some ticks; after set changes, also the wait of those who believe in an old set
 * before they ask around, twice, since what they hear first may come from somebody who is behind or lies.
 */
export function recoveryBoundMs(faulty: number, capMs: number, changedSets: boolean): number {
  return (faulty + 2) * capMs + 4_000 + (changedSets ? 12_000 : 0);
}

export function randomRun(seed: number, options: RunOptions = {}): RunResult {
  const validators = options.validators ?? [4, 4, 4, 4, 4, 7, 7, 7, 10, 10][seed % 10] ?? 4;
  const cluster = new Cluster(seed, validators, { spares: SPARE_MEMBERS });
  const prng = cluster.world.prng.fork(1);
  const kinds = drawKinds(prng);
  const beganMs = cluster.world.nowMs;
  let recoveryMs = 0;
  let violation: string | null = null;
  try {
    brew(cluster, kinds, prng);
    cluster.startAll();
    const txs = prng.between(5, 60);
    for (let i = 0; i < txs; i += 1) {
      cluster.world.after(prng.between(0, STORM_MS), () => cluster.submit(cluster.newTx()));
    }
    cluster.world.run(beganMs + STORM_MS);
    recoveryMs = calm(cluster, kinds);
  } catch (error) {
    // Assertions of the core and of the host count as violations too.
    violation =
      error instanceof Error ? `${error instanceof Violation ? '' : `${error.name}: `}${error.message}` : String(error);
  }
  const { world, checkers, nodes } = cluster;
  const headers = checkers.chain.map((b) => b.block.header);
  return {
    seed,
    validators,
    faults: [...kinds],
    byzantine: nodes.flatMap((n) => (n.behaviour === null ? [] : [n.behaviour.name])),
    height: checkers.chain.length,
    setChanges: headers.filter((h) => h.validatorsHash.some((byte, i) => byte !== h.nextValidatorsHash[i])).length,
    highestView: Math.max(0, ...checkers.chain.map((b) => b.certificate.view)),
    crashes: nodes.reduce((sum, n) => sum + n.crashes, 0),
    lostWrites: nodes.reduce((sum, n) => sum + n.disk.cuts.lost + n.disk.cuts.torn, 0),
    deliveries: world.deliveries,
    virtualMs: world.nowMs - beganMs,
    recoveryMs,
    evidence: checkers.evidence,
    trace: world.trace,
    violation,
  };
}

/** @returns virtual milliseconds until all was committed everywhere */
function calm(cluster: Cluster, kinds: ReadonlySet<FaultKind>): number {
  const { world, checkers, consortium, params } = cluster;
  healAll(cluster);
  const beganMs = world.nowMs;
  const faulty = faultTolerance(consortium.founders.seats.length);
  const boundMs = recoveryBoundMs(faulty, params.viewTimeoutCapMs, kinds.has('membership') || kinds.has('keyRotation'));
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
  const positions = cluster.nodes.map((n) => {
    const { height, view, mode } = n.replica?.position ?? { height: 0, view: 0, mode: 'down' };
    return `${height}/${view}${mode === 'normal' ? '' : ` ${mode}`}${n.behaviour === null ? '' : ` ${n.behaviour.name}`}`;
  });
  return new Violation(`no progress after healing: heights ${low} to ${high}; ${positions.join(', ')}`);
}
