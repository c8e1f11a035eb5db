/**
 * The alarms that a node can raise, and the first thing to do about each. The codes are stable: `node_status`, the
 * metrics `emrchain_stalled` and `emrchain_warning`, the log and docs/runbook.md all speak of them by these words, and
 * a test holds them together. A new alarm is a line here, a rule in judge.ts and a section of the runbook.
 */

/** Why this node has no new block although one is due, or does not have what the others have. At most one at a time. */
export const STALLS = {
  STARTING: 'Wait some seconds; then see that the nodes named run, and that this one reaches them.',
  SYNCING: 'Wait. If the rate stays at 0, look at the link to the node that the blocks come from.',
  KEY_IN_USE:
    'Find the other process that has this validator key and stop it for good; then start this node again. After a backup was put back: wait.',
  CLOCK_SKEW: "Set this machine's clock (NTP); the node goes on by itself.",
  NO_PEERS: "Look at this machine's network first: interface, firewall, network.listen, network.peers.",
  NO_QUORUM: 'Get the nodes named running and reachable; not all of them are needed.',
  AWAIT_LEADER: 'Nothing yet: the others change the view by themselves. If it stays, look at the log of the leader.',
  AWAIT_VOTES: 'Look at the logs of the nodes named: they run, and do not vote for this block.',
  VIEW_CHANGE: 'Look at the nodes named: the view changes as soon as enough validators ask for it.',
  EXECUTING: "Look at this machine's processor and memory: executing takes some 20 ms.",
  AWAIT_BODY: 'Look at the links to the others: a block is decided, and nobody has delivered it yet.',
  COMMITTING: "Look at this machine's disk: the block is decided and being written.",
  NO_BLOCK:
    "Ask a validator's operator for the status of that node: this one is an observer and sees only that no block comes.",
} as const;
export type StallCode = keyof typeof STALLS;

/** What a person should look at although blocks may come. Any number at a time. */
export const WARNINGS = {
  KEY_IN_USE: STALLS.KEY_IN_USE,
  MISBEHAVIOUR: 'Call the operators of the validators named: their key signed what excludes each other.',
  NOT_A_MEMBER: 'Ask the consortium: the chain no longer names this node, and the others refuse it.',
  NO_PEERS: STALLS.NO_PEERS,
  VALIDATORS_AWAY: 'Get the nodes named running and reachable before another one fails.',
  CLOCK_SKEW: STALLS.CLOCK_SKEW,
  PEER_CLOCK_SKEW: 'Call the operators of the nodes named: their clocks must be set (NTP).',
  DISK_FULL: 'Make room now: uploads are refused, and the node stops when the disk is full.',
  DISK_LOW: 'Make room, or give the data folder a larger disk, within days.',
  DISK_FAILING: 'Look at the disk and the system log: the data folder cannot be read.',
  DISK_SLOW: 'Look at what else uses this disk: each vote waits for it.',
  POOL_FULL: 'Clients are told to try again. Find out who sends so much, or why blocks do not come.',
  CUSTODY_WAITS: 'Do what the message says. Keys are released by the other hospitals meanwhile.',
} as const;
export type WarningCode = keyof typeof WARNINGS;
