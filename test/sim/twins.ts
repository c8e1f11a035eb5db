/**
 * Twins (arXiv 2004.10617): two processes that run the honest program with one key are what most Byzantine behaviour amounts
 * to. One of four validators is two processes; for each of the first views all ways to part the five processes are tried,
 * and each seat of the twins, so that they lead the first view, a later one, or none. Messages of a view pass within a part
 * only. Then everything heals. The others must agree all the while, and go on afterwards.
 */
import { obedient } from './adversary.ts';
import { Violation } from './checkers.ts';
import { Cluster } from './cluster.ts';

const VALIDATORS = 4;
const PROCESSES = VALIDATORS + 1;
const PARTED_MS = 2_000;
/** Twins that vote against each other cost views, as any Byzantine validator does. */
const HEALED_MS = 12_000;

export interface TwinsPlan {
  /** How many views are parted: each in all ways. */
  readonly views: number;
  /** Into how many parts at most. */
  readonly parts: number;
  /** Only every so many of the scenarios, for a shorter run. */
  readonly stride: number;
  /** Ends with the first scenario that shows something. */
  readonly firstOnly?: boolean;
}

export interface TwinsResult {
  readonly scenarios: number;
  readonly violations: readonly string[];
}

/** All ways to part the processes into at most `parts` parts: the part of each process. */
export function partitions(parts: number, processes = PROCESSES): readonly (readonly number[])[] {
  let found: (readonly number[])[] = [[]];
  for (let process = 0; process < processes; process += 1) {
    found = found.flatMap((cells) => {
      const used = Math.max(-1, ...cells) + 1;
      return Array.from({ length: Math.min(used + 1, parts) }, (_, cell) => [...cells, cell]);
    });
  }
  return found;
}

/** The scenarios of a plan, in order: a seat, and a partition for each of the first views. */
export function scenarioCount({ views, parts, stride }: TwinsPlan): number {
  return Math.ceil((VALIDATORS * partitions(parts).length ** views) / stride);
}

export function runTwins(plan: TwinsPlan): TwinsResult {
  const ways = partitions(plan.parts);
  const violations: string[] = [];
  const scenarios = scenarioCount(plan);
  for (let nth = 0; nth < scenarios && !(plan.firstOnly === true && violations.length > 0); nth += 1) {
    let rest = nth * plan.stride;
    const seat = rest % VALIDATORS;
    rest = Math.floor(rest / VALIDATORS);
    const parted = Array.from({ length: plan.views }, () => {
      const cells = ways[rest % ways.length] as readonly number[];
      rest = Math.floor(rest / ways.length);
      return cells;
    });
    try {
      runScenario(seat, parted);
    } catch (error) {
      const what = error instanceof Error ? error.message : String(error);
      violations.push(`twins in seat ${seat}, parts ${parted.map((cells) => cells.join('')).join(' ')}: ${what}`);
    }
  }
  return { scenarios, violations };
}

function runScenario(seat: number, parted: readonly (readonly number[])[]): void {
  const cluster = new Cluster(1, VALIDATORS);
  const { world, checkers } = cluster;
  const twins = [cluster.node(seat), cluster.addTwin(seat)];
  for (const twin of twins) twin.behaviour = obedient;
  const processes = [...cluster.nodes, ...cluster.twins];
  world.filter = (from, to, { body }) => {
    const cells = parted[body.view];
    return body.kind === 'status' || body.kind === 'echo' || cells === undefined || cells[from] === cells[to];
  };
  // Nobody is helped past the parts by blocks.
  for (const process of processes) process.serve = () => undefined;
  for (const process of processes) process.start();
  // Each twin has something of its own to propose.
  for (const process of processes) process.submit(cluster.newTx());
  world.run(world.nowMs + PARTED_MS);
  world.filter = null;
  for (const process of processes) Reflect.deleteProperty(process, 'serve');
  const tx = cluster.newTx();
  cluster.submit(tx);
  const isLevel = (): boolean => checkers.isCommitted(tx) && cluster.heights().low === checkers.chain.length;
  if (!world.run(world.nowMs + HEALED_MS, isLevel)) throw new Violation('no progress after healing');
}
