/** The scenarios. Each says what it must show; docs/resilience.md has the figures that were seen. */
import { Prng } from '../../sim/prng.ts';
import { membersWithShares, sevenFounders } from './custody-scenarios.ts';
import type { Scenario, Step } from './scenario.ts';

const FOUR = [0, 1, 2, 3] as const;
const STARTED: readonly Step[] = [
  { do: 'load', inFlight: 16, perSecond: 40 },
  { do: 'recover', nodes: FOUR },
];

/** A node is away for up to so long. */
const MOST_AWAY_MS = 1_500;

/**
 * kill -9 at instants of nobody's choosing: mostly of one node, sometimes of two or of all, and sometimes once more while
 * they are starting.
 */
function kills(count: number, seed: number): Scenario {
  const dice = new Prng(seed);
  const steps: Step[] = [...STARTED];
  for (let killed = 0; killed < count;) {
    const together = dice.chance(700) ? 1 : dice.chance(700) ? 2 : 4;
    const nodes = dice.shuffled(FOUR).slice(0, together);
    steps.push({ do: 'pass', ms: dice.between(0, 1_000) }, { do: 'kill', nodes });
    steps.push({ do: 'pass', ms: dice.between(0, MOST_AWAY_MS) });
    killed += together;
    if (dice.chance(200)) {
      steps.push({ do: 'start', nodes }, { do: 'pass', ms: dice.between(0, 2_000) }, { do: 'kill', nodes });
      killed += together;
    }
    steps.push({ do: 'recover', nodes, figure: 'recovery after a restart, ms' });
  }
  return {
    name: `${count} random kill -9 across four nodes under load`,
    nodes: 4,
    network: 'direct',
    steps,
    limits: [{ figure: 'recovery after a restart, ms', atMost: 5_000 }],
  };
}

const PAUSE = 'longest pause between blocks, ms';

/** Whoever leads is killed; its next turn costs one view timer. */
const leaderKilled: Scenario = {
  name: 'the leader is killed under load',
  nodes: 4,
  network: 'direct',
  steps: [
    ...STARTED,
    ...[1, 2, 3].flatMap((): readonly Step[] => [
      { do: 'blocks', count: 10 },
      { do: 'kill', nodes: 'leader' },
      { do: 'longestPause', ms: 5_000, figure: PAUSE },
      { do: 'recover', nodes: 'ended' },
    ]),
  ],
  limits: [{ figure: PAUSE, atMost: 2_000 }],
};

/** Throughput with three of four and with all four, in turns, so that what else the machine does falls on both. */
function oneDead(phaseMs: number, turns: number): Scenario {
  const turn: readonly Step[] = [
    { do: 'rate', ms: phaseMs, figure: 'with four' },
    { do: 'kill', nodes: [3] },
    // The outage itself is another scenario's figure.
    { do: 'blocks', count: 5 },
    { do: 'rate', ms: phaseMs, figure: 'with three of four' },
    { do: 'recover', nodes: [3] },
  ];
  return {
    name: 'one of four validators is dead for good',
    nodes: 4,
    network: 'direct',
    steps: [
      { do: 'load', inFlight: 48, at: [0, 1, 2] },
      { do: 'recover', nodes: FOUR },
      ...Array.from({ length: turns }, () => turn).flat(),
    ],
    limits: [
      { figure: 'with three of four, transactions a second', per: 'with four, transactions a second', atLeast: 0.7 },
    ],
  };
}

const HEALED = 'first block after the partition healed, ms';

const halves: Scenario = {
  name: 'a partition into 2 + 2 commits nothing and heals by itself',
  nodes: 4,
  network: 'wired',
  steps: [
    ...STARTED,
    { do: 'blocks', count: 10 },
    {
      do: 'partition',
      groups: [
        [0, 1],
        [2, 3],
      ],
    },
    { do: 'expectNoBlock', settleMs: 1_000, ms: 6_000 },
    { do: 'alarm', nodes: [0], codes: ['NO_QUORUM'] },
    { do: 'alarm', nodes: [3], codes: ['NO_QUORUM'] },
    { do: 'heal' },
    { do: 'blocks', count: 1, figure: HEALED },
    { do: 'level', nodes: FOUR },
  ],
  limits: [{ figure: HEALED, atMost: 4_000 }],
};

const oneCutOff: Scenario = {
  name: 'a partition into 3 + 1 goes on, and the one rejoins',
  nodes: 4,
  network: 'wired',
  steps: [
    ...STARTED,
    { do: 'blocks', count: 10 },
    { do: 'partition', groups: [[0, 1, 2], [3]] },
    { do: 'longestPause', ms: 8_000, figure: PAUSE },
    { do: 'heal' },
    { do: 'level', nodes: [3], figure: 'the one level again, ms' },
    { do: 'disconnect', node: 1 },
    { do: 'longestPause', ms: 8_000, figure: PAUSE },
    { do: 'heal' },
    { do: 'level', nodes: [1], figure: 'the one level again, ms' },
  ],
  limits: [
    { figure: PAUSE, atMost: 3_000 },
    { figure: 'the one level again, ms', atMost: 10_000 },
  ],
};

const frozen: Scenario = {
  name: 'a validator is stopped for ten seconds and goes on',
  nodes: 4,
  network: 'direct',
  steps: [
    ...STARTED,
    { do: 'blocks', count: 10 },
    { do: 'freeze', nodes: 'leader' },
    { do: 'longestPause', ms: 10_000, figure: PAUSE },
    { do: 'thaw', nodes: FOUR },
    { do: 'level', nodes: FOUR, figure: 'level again, ms' },
  ],
  limits: [
    { figure: PAUSE, atMost: 2_000 },
    { figure: 'level again, ms', atMost: 5_000 },
  ],
};

const slowLink: Scenario = {
  name: 'the links of one validator are slow',
  nodes: 4,
  network: 'wired',
  steps: [
    ...STARTED,
    { do: 'slow', node: 2, link: { delayMs: 150, bytesPerSecond: 64 * 1024, lostPerMille: 10 } },
    { do: 'longestPause', ms: 10_000, figure: PAUSE },
    { do: 'heal' },
    { do: 'level', nodes: FOUR, figure: 'level again, ms' },
  ],
  limits: [
    { figure: PAUSE, atMost: 3_000 },
    { figure: 'level again, ms', atMost: 5_000 },
  ],
};

/** More than the chain allows by default, which is ten seconds. */
const CLOCK_OFF_MS = 60_000;

const oneClockOff: Scenario = {
  name: 'the clock of one validator is off by more than the chain allows',
  nodes: 4,
  network: 'direct',
  steps: [
    ...STARTED,
    ...[CLOCK_OFF_MS, -CLOCK_OFF_MS].flatMap((offsetMs): readonly Step[] => [
      { do: 'clock', nodes: [2], offsetMs },
      { do: 'longestPause', ms: 8_000, figure: PAUSE },
      { do: 'alarm', nodes: [2], codes: ['CLOCK_SKEW'] },
      { do: 'alarm', nodes: [0], codes: ['PEER_CLOCK_SKEW'] },
      { do: 'clock', nodes: [2], offsetMs: 0 },
      { do: 'level', nodes: FOUR },
    ]),
  ],
  limits: [{ figure: PAUSE, atMost: 4_000 }],
};

/** Two of four: no quorum agrees on the time. Nothing may be committed with a time that half of them hold for wrong. */
const twoClocksOff: Scenario = {
  name: 'the clocks of f + 1 validators are off',
  nodes: 4,
  network: 'direct',
  steps: [
    ...STARTED,
    { do: 'clock', nodes: [2, 3], offsetMs: CLOCK_OFF_MS },
    { do: 'expectNoBlock', settleMs: 2_000, ms: 5_000 },
    { do: 'alarm', nodes: [0], codes: ['PEER_CLOCK_SKEW', 'CLOCK_SKEW'] },
    { do: 'clock', nodes: [2, 3], offsetMs: 0 },
    { do: 'blocks', count: 1, figure: 'first block once the clocks are right, ms' },
    { do: 'level', nodes: FOUR },
  ],
  limits: [{ figure: 'first block once the clocks are right, ms', atMost: 20_000 }],
};

const FULL = { exitCode: 70, error: 'STORAGE_FAILED' } as const;

const fullDisk: Scenario = {
  name: 'the disk of one node is full',
  nodes: 4,
  network: 'direct',
  smallDisks: [3],
  mayEndWith: [FULL.error],
  steps: [
    ...STARTED,
    { do: 'blocks', count: 10 },
    { do: 'fillDisk', node: 3 },
    { do: 'ended', node: 3, ...FULL },
    { do: 'longestPause', ms: 4_000, figure: PAUSE },
    { do: 'freeDisk', node: 3 },
    { do: 'recover', nodes: [3], figure: 'recovery once there is room, ms' },
  ],
  limits: [
    { figure: PAUSE, atMost: 2_000 },
    { figure: 'recovery once there is room, ms', atMost: 5_000 },
  ],
};

const CATCH_UP = 'catching up';

function catchUp(blocks: number): Scenario {
  return {
    name: `a node ${blocks} blocks behind catches up while the others commit`,
    nodes: 4,
    network: 'direct',
    steps: [
      { do: 'load', inFlight: 6 },
      { do: 'recover', nodes: FOUR },
      { do: 'kill', nodes: [3] },
      { do: 'rate', ms: 5_000, figure: 'live' },
      { do: 'blocks', count: blocks },
      { do: 'catchUp', node: 3, figure: CATCH_UP },
      { do: 'level', nodes: FOUR },
    ],
    limits: [
      {
        figure: `${CATCH_UP}: blocks a second`,
        per: `${CATCH_UP}: blocks a second of the others meanwhile`,
        atLeast: 10,
      },
    ],
  };
}

const backupRestored: Scenario = {
  name: 'the data of a node is put back from a backup',
  nodes: 4,
  network: 'direct',
  steps: [
    ...STARTED,
    ...[1, 2].flatMap((node): readonly Step[] => [
      { do: 'blocks', count: 10 },
      { do: 'stop', nodes: [node] },
      { do: 'backUp', node },
      { do: 'recover', nodes: [node] },
      { do: 'blocks', count: 20 },
      { do: 'kill', nodes: [node] },
      { do: 'restore', node },
      { do: 'recover', nodes: [node], figure: 'recovery from the backup, ms' },
    ]),
    // All vote again: with one dead, the other three are a quorum that none can be missing from.
    { do: 'kill', nodes: [3] },
    { do: 'blocks', count: 10 },
    { do: 'recover', nodes: [3] },
  ],
  limits: [{ figure: 'recovery from the backup, ms', atMost: 10_000 }],
};

const keyTwice: Scenario = {
  name: 'the key of one validator runs twice',
  nodes: 4,
  network: 'direct',
  steps: [
    ...STARTED,
    { do: 'blocks', count: 10 },
    { do: 'startTwin', node: 1 },
    { do: 'alarm', nodes: [1, 'twin'], codes: ['KEY_IN_USE'] },
    { do: 'longestPause', ms: 8_000, figure: PAUSE },
    { do: 'endTwin' },
    { do: 'stop', nodes: [1] },
    { do: 'recover', nodes: [1], figure: 'recovery once there is one again, ms' },
    { do: 'kill', nodes: [3] },
    { do: 'blocks', count: 10 },
    { do: 'recover', nodes: [3] },
  ],
  limits: [{ figure: PAUSE, atMost: 4_000 }],
};

/** Three of the founders go: those who came in are then three of four, and decide with whoever is left. */
const comeAndGo: Scenario = {
  name: 'from four validators to seven, and back to four',
  nodes: 4,
  network: 'direct',
  steps: [
    { do: 'load', inFlight: 8, perSecond: 50, at: [0] },
    { do: 'recover', nodes: FOUR },
    { do: 'mark' },
    { do: 'join', nodes: [4, 5, 6], figure: 'from four to seven, ms' },
    { do: 'level', nodes: [0, 1, 2, 3, 4, 5, 6] },
    { do: 'blocks', count: 20 },
    { do: 'leave', nodes: [1, 2, 3], figure: 'back to four, ms' },
    { do: 'blocks', count: 20 },
    { do: 'longestPauseSinceMark', figure: PAUSE },
    // One of the four dies, as any may.
    { do: 'kill', nodes: [5] },
    { do: 'blocks', count: 10 },
    { do: 'recover', nodes: [5] },
  ],
  limits: [{ figure: PAUSE, atMost: 5_000 }],
};

/**
 * All scenarios by the names that a person types.
 * @param count of what a scenario does many times; null for a number that takes a minute or two
 */
export const scenarios = (seed: number, count: number | null): Readonly<Record<string, Scenario>> => ({
  kills: kills(count ?? 20, seed),
  leader: leaderKilled,
  'one-dead': oneDead(10_000, count ?? 3),
  halves,
  'cut-off': oneCutOff,
  frozen,
  'slow-link': slowLink,
  clock: oneClockOff,
  clocks: twoClocksOff,
  'full-disk': fullDisk,
  backup: backupRestored,
  twin: keyTwice,
  members: comeAndGo,
  'custody-seven': sevenFounders,
  'custody-members': membersWithShares,
  'catch-up': catchUp(count ?? 500),
});
