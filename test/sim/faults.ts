/**
 * Everything that goes wrong in a random run: kinds of faults, each of which a seed has or has not, so that a run with all
 * of them does not hide what a run with two of them shows. Byzantine validators are chosen here, too.
 */
import { faultTolerance } from '../../common/protocol/validator-set.ts';
import { BEHAVIOURS, mixed, newPlot, obedient } from './adversary.ts';
import type { Cluster } from './cluster.ts';
import type { SimNode } from './node.ts';
import type { Prng } from './prng.ts';
import { linkOf } from './world.ts';

export const STORM_MS = 6_000;

export const FAULT_KINDS = [
  'loss',
  'duplication',
  'delay',
  'slowLinks',
  'oneWayLinks',
  'partitions',
  'favourites',
  'flood',
  'crashes',
  'powerCut',
  'slowDisk',
  'fullDisk',
  'bitRot',
  'clockSkew',
  'clockJumps',
  'slowTimers',
  'membership',
  'keyRotation',
  'byzantine',
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

/** What matters most, and hides nothing else. */
const OFTEN: ReadonlySet<FaultKind> = new Set(['favourites', 'byzantine']);

/** The kinds that this seed has. */
export function drawKinds(prng: Prng): ReadonlySet<FaultKind> {
  // Between few and many of them: quiet runs go far, loud ones go deep.
  const perMille = prng.pick([150, 300, 300, 500, 700]);
  return new Set(FAULT_KINDS.filter((kind) => prng.chance(OFTEN.has(kind) ? 650 : perMille)));
}

/** Sets everything up that will go wrong in the next `STORM_MS`. */
export function brew(cluster: Cluster, kinds: ReadonlySet<FaultKind>, prng: Prng): void {
  for (const [index, kind] of FAULT_KINDS.entries()) if (kinds.has(kind)) BREW[kind](cluster, prng.fork(index));
}

/** Ends everything that a fault began, but what Byzantine validators do. Rotten disks are replaced by empty ones. */
export function healAll(cluster: Cluster): void {
  cluster.world.heal();
  // Who is about to end comes back, too.
  cluster.downtimeMs = 1;
  for (const node of cluster.nodes) {
    node.crashPerTenThousand = 0;
    node.disk.syncMs = 2;
    node.disk.fullUntilMs = 0;
    if (node.disk.isRotten) node.disk.replace();
    if (Math.abs(node.clockSkewMs) > HARMLESS_SKEW_MS) node.clockSkewMs = 0;
  }
  cluster.startAll();
}

/** Well within the drift that voters accept: it stays after the storm. */
const HARMLESS_SKEW_MS = 300;

/** Faults that make a validator one of the f: no more of them than the smallest set of the run survives. */
function corruptible(cluster: Cluster, prng: Prng): SimNode[] {
  const founders = cluster.consortium.founders.seats.length;
  const corrupt = cluster.nodes.filter((n) => n.behaviour !== null).length;
  const honest = cluster.nodes.filter((n) => n.behaviour === null && n.member < founders);
  return prng.shuffled(honest).slice(0, faultTolerance(founders) - corrupt);
}

const sometime = (cluster: Cluster, prng: Prng, what: () => void): void =>
  cluster.world.after(prng.between(0, STORM_MS), what);

const times = (count: number, what: () => void): void => {
  for (let i = 0; i < count; i += 1) what();
};

const BREW: { readonly [K in FaultKind]: (cluster: Cluster, prng: Prng) => void } = {
  loss: ({ world }, prng) => {
    world.weather = { ...world.weather, lossPerMille: prng.pick([20, 100, 300, 500]) };
  },
  duplication: ({ world }, prng) => {
    world.weather = { ...world.weather, duplicatePerMille: prng.pick([50, 200, 500]) };
  },
  delay: ({ world }, prng) => {
    world.weather = {
      ...world.weather,
      maxDelayMs: prng.pick([20, 80, 250]),
      slowPerMille: prng.pick([0, 20, 200]),
      slowDelayMs: prng.pick([50, 400, 2_000]),
    };
  },
  slowLinks: ({ world, nodes }, prng) =>
    times(prng.between(1, nodes.length * 2), () => {
      world.slowLinks.set(linkOf(prng.pick(nodes).place, prng.pick(nodes).place), prng.pick([30, 150, 600]));
    }),
  oneWayLinks: (cluster, prng) =>
    times(prng.between(1, cluster.nodes.length), () => {
      const { world, nodes } = cluster;
      const link = linkOf(prng.pick(nodes).place, prng.pick(nodes).place);
      sometime(cluster, prng, () => world.cutLinks.add(link));
      if (prng.chance(500)) sometime(cluster, prng, () => world.cutLinks.delete(link));
    }),
  partitions: (cluster, prng) =>
    times(prng.between(1, 4), () =>
      sometime(cluster, prng, () => {
        const cells = prng.pick([1, 2, 2, 3]);
        cluster.world.cells = cells === 1 ? null : cluster.nodes.map(() => prng.between(1, cells));
      }),
    ),
  // The network's worst: for a while one kind of message reaches a few only, and for longer nobody hears these few. So it
  // happens that one alone has decided, or prepared, or entered a view, and cannot tell.
  favourites: (cluster, prng) =>
    times(prng.between(1, 5), () => {
      const { world, nodes } = cluster;
      const kind = prng.pick(['commit', 'commit', 'commit', 'prepare', 'prePrepare', 'newView', 'viewChange'] as const);
      const few = new Set(prng.shuffled(nodes.map((n) => n.place)).slice(0, prng.pick([1, 1, 2, 3])));
      const links = nodes.flatMap(({ place }) => (few.has(place) ? [] : [...few].map((one) => linkOf(one, place))));
      const [startMs, starvedMs, unheardMs] = [
        prng.between(0, STORM_MS),
        prng.between(50, 700),
        prng.between(0, 2_500),
      ];
      world.after(startMs, () => {
        world.filter = (_from, to, { body }) => body.kind !== kind || few.has(to);
        for (const link of links) world.cutLinks.add(link);
      });
      world.after(startMs + starvedMs, () => (world.filter = null));
      world.after(startMs + starvedMs + unheardMs, () => links.forEach((link) => world.cutLinks.delete(link)));
    }),
  flood: (cluster, prng) =>
    times(prng.between(1, 3), () =>
      sometime(cluster, prng, () => {
        cluster.world.copies = 8;
        cluster.world.after(prng.between(20, 300), () => (cluster.world.copies = 1));
      }),
    ),
  crashes: (cluster, prng) => {
    const perTenThousand = prng.pick([5, 30, 100, 300]);
    cluster.downtimeMs = prng.pick([50, 500, 3_000]);
    for (const node of cluster.nodes) node.crashPerTenThousand = perTenThousand;
  },
  powerCut: (cluster, prng) => {
    cluster.downtimeMs ??= prng.pick([50, 500, 3_000]);
    times(prng.between(1, 2), () =>
      sometime(cluster, prng, () => {
        for (const node of cluster.nodes) if (node.isUp) cluster.crashed(node);
      }),
    );
  },
  slowDisk: (cluster, prng) => {
    for (const node of cluster.nodes) if (prng.chance(400)) node.disk.syncMs = prng.pick([20, 100, 400]);
  },
  fullDisk: (cluster, prng) => {
    cluster.downtimeMs ??= 500;
    times(prng.between(1, 2), () => {
      const { disk } = prng.pick(cluster.nodes);
      sometime(cluster, prng, () => (disk.fullUntilMs = cluster.world.nowMs + prng.between(100, 4_000)));
    });
  },
  // Who has lost what it promised is one of the f from then on: held to nothing, and back with an empty disk.
  bitRot: (cluster, prng) => {
    const [victim] = corruptible(cluster, prng);
    if (victim === undefined) return;
    victim.behaviour = obedient;
    sometime(cluster, prng, () => {
      victim.disk.isRotten = true;
      if (victim.isUp) cluster.crashed(victim);
    });
  },
  clockSkew: (cluster, prng) => {
    for (const node of cluster.nodes) node.clockSkewMs = prng.between(-HARMLESS_SKEW_MS, HARMLESS_SKEW_MS);
  },
  clockJumps: (cluster, prng) =>
    times(prng.between(1, 4), () => {
      const node = prng.pick(cluster.nodes);
      const jumpMs = prng.pick([-60_000, -3_000, -1_000, 1_000, 3_000, 60_000]);
      sometime(cluster, prng, () => (node.clockSkewMs += jumpMs));
    }),
  slowTimers: (cluster, prng) => {
    for (const node of cluster.nodes) node.timerPerMille = prng.between(800, 1_250);
  },
  membership: (cluster, prng) =>
    times(prng.between(1, 6), () => {
      const { member } = prng.pick(cluster.nodes);
      const founders = cluster.consortium.founders.seats.length;
      // Founders mostly stay, so that those who come next are not all there is.
      const change = member >= founders ? 'add' : 'remove';
      sometime(cluster, prng, () => cluster.submit(cluster.newSetChange({ change, member })));
      if (prng.chance(500)) return;
      const spare = prng.between(founders, cluster.nodes.length - 1);
      const spareChange = prng.pick(['add', 'add', 'remove'] as const);
      sometime(cluster, prng, () => cluster.submit(cluster.newSetChange({ change: spareChange, member: spare })));
    }),
  keyRotation: (cluster, prng) =>
    times(prng.between(1, 3), () => {
      const { member } = prng.pick(cluster.nodes);
      sometime(cluster, prng, () => cluster.submit(cluster.newSetChange({ change: 'rotate', member })));
    }),
  byzantine: (cluster, prng) => {
    const candidates = corruptible(cluster, prng);
    const plot = newPlot();
    for (const node of candidates.slice(0, prng.between(1, candidates.length))) {
      const make = prng.chance(250) ? mixed : prng.pick(BEHAVIOURS);
      node.behaviour = make(prng.fork(node.member), plot);
    }
  },
};
