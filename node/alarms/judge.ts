/**
 * From what a node has seen to what its operator should know: a pure judgement, and the only one. Status, metrics and
 * log take it from the watch (alarm-watch.ts), so that they cannot disagree.
 *
 * What must not go in here: state, clocks, I/O. Nothing here decides anything about the chain.
 */
import { equalBytes } from '../../common/bytes.ts';
import type { Address, Height, OrgId, TimeMs } from '../../common/protocol/primitives.ts';
import { faultTolerance, quorumSize, type Validator, type ValidatorSet } from '../../common/protocol/validator-set.ts';
import { leaderOf, leaderOrder } from '../../consensus/leader-order.ts';
import type { LeaderHistory, Phase } from '../../consensus/types.ts';
import type { Observations } from '../host/observations.ts';
import type { PoolLimits } from '../mempool/pool.ts';
import type { PeerInfo } from '../network/types.ts';
import type { StallCode, WarningCode } from './codes.ts';

/** A validator that was not heard of for this long counts as away: it sends a status each second. */
const SILENT_AFTER_MS = 5_000;
/** Blocks are late after this many view timeouts without one. */
const LATE_AFTER_TIMEOUTS = 3;
/** The share of the pool above which it is called full: the rest is kept for urgent transactions. */
const POOL_FULL_SHARE = 0.9;
/** Twice the room below which uploads are refused: time for a person to act. */
const DISK_LOW_FACTOR = 2;

export interface DiskFacts {
  /** Null when the folder could not be asked, with the reason. */
  readonly freeBytes: number | null;
  readonly error: string | null;
  /** Below this, uploads are refused. */
  readonly minFreeBytes: number;
}

export interface AlarmFacts {
  readonly nowMs: TimeMs;
  readonly self: Address;
  readonly head: {
    readonly height: Height;
    readonly timestampMs: TimeMs;
    /** The set of the next height. */
    readonly validators: ValidatorSet;
    readonly leaders: LeaderHistory;
    readonly viewTimeoutMs: number;
    readonly maxClockDriftMs: number;
  };
  /** Whether the chain names this node at all, as validator or observer. */
  readonly isMember: boolean;
  readonly peers: readonly Pick<PeerInfo, 'peerId' | 'connected' | 'member'>[];
  readonly seen: Observations;
  /** Whether, since the start, enough others have said how far they are. */
  readonly hasHeard: boolean;
  readonly sync: { readonly syncing: boolean; readonly sourcePeerId: string | null; readonly highest: Height };
  readonly pool: { readonly size: number; readonly bytes: number; readonly limits: PoolLimits };
  /** Null where nobody watches a disk. */
  readonly disk: DiskFacts | null;
  /** The slowest synced write of the last minute; 0 if there was none. */
  readonly slowestSyncMs: number;
  /** What the own custodian waits for, or why it has no part in a session; null where all is well. */
  readonly custodyConcern: string | null;
}

/** An alarm before the watch has said since when and what to do. */
export interface Finding<Code extends string> {
  readonly code: Code;
  /** What is wrong, with names. */
  readonly message: string;
  /** Whose messages, votes or presence are missing, or who did it. */
  readonly missing: readonly Validator[];
  /** Null: since the watch first found it. */
  readonly sinceMs: TimeMs | null;
}

export interface Judgement {
  readonly stall: Finding<StallCode> | null;
  readonly warnings: readonly Finding<WarningCode>[];
}

export function judge(facts: AlarmFacts): Judgement {
  return { stall: stallOf(facts), warnings: WARNING_RULES.flatMap((rule) => rule(facts) ?? []) };
}

/**
 * Whether enough others have said how far they are: a quorum's signed statuses for a validator. Before that a node
 * that was away for a week would take itself for up to date.
 */
export function hasHeard({ self, head, peers, seen }: Pick<AlarmFacts, 'self' | 'head' | 'peers' | 'seen'>): boolean {
  const others = seen.validators().filter(({ address, executedHeight }) => {
    return executedHeight !== null && !equalBytes(address, self);
  }).length;
  if (indexOf(head.validators, self) !== -1) return others + 1 >= quorumSize(head.validators.length);
  return others > 0 || peers.some(({ connected }) => connected);
}

// ------------------------------------------------------------------------------------------------------- stalls

function stallOf(facts: AlarmFacts): Finding<StallCode> | null {
  const { nowMs, seen, head, sync, self } = facts;
  if (!facts.hasHeard) return starting(facts);
  if (sync.syncing) return syncing(facts);
  const { dueSinceMs, lastProgressMs } = seen;
  if (dueSinceMs === null) return null;
  const sinceMs = Math.max(lastProgressMs, dueSinceMs);
  if (nowMs - sinceMs < LATE_AFTER_TIMEOUTS * head.viewTimeoutMs) return null;
  const own = ownFault(facts, sinceMs);
  if (own !== null) return own;
  if (indexOf(head.validators, self) === -1) {
    const message = `The validators have made no block for ${seconds(nowMs - sinceMs)} although one is due here.`;
    return { code: 'NO_BLOCK', message, missing: [], sinceMs };
  }
  return noQuorum(facts, sinceMs) ?? inPhase(facts, sinceMs);
}

function starting({ nowMs, head, seen, self }: AlarmFacts): Finding<StallCode> {
  const { validators } = head;
  const unheard = validators.filter(({ address }) => {
    return !equalBytes(address, self) && seen.of(address).executedHeight === null;
  });
  const heard = validators.length - unheard.length;
  const isValidator = indexOf(validators, self) !== -1;
  const message = isValidator
    ? `Since its start ${seconds(nowMs - seen.startedMs)} ago this node has heard from ${heard - 1} other validators, and needs ${quorumSize(validators.length) - 1} to know how far the chain is. Not heard: ${names(unheard)}.`
    : `Since its start ${seconds(nowMs - seen.startedMs)} ago this observer is connected to nobody.`;
  return { code: 'STARTING', message, missing: unheard, sinceMs: seen.startedMs };
}

function syncing({ nowMs, head, seen, sync, peers }: AlarmFacts): Finding<StallCode> {
  const source = peers.find(({ peerId }) => peerId === sync.sourcePeerId)?.member.orgId ?? 'the others';
  const rate = seen.blocksPerSecond(nowMs);
  const message = `This node fetches blocks from ${source}: it has ${head.height} of ${sync.highest}, ${Math.max(0, sync.highest - head.height)} are left, ${rate.toFixed(1)} come each second.`;
  return { code: 'SYNCING', message, missing: [], sinceMs: null };
}

/** What keeps this node itself from taking part, whoever else is there. */
function ownFault(facts: AlarmFacts, sinceMs: TimeMs): Finding<StallCode> | null {
  const { head } = facts;
  const here = presentCount(facts);
  const isDecisive = here < quorumSize(head.validators.length) && here + 1 >= quorumSize(head.validators.length);
  const inUse = isDecisive ? keyInUse(facts) : null;
  if (inUse !== null) return { ...inUse, code: 'KEY_IN_USE', sinceMs };
  const skew = ownSkewMs(facts);
  if (skew !== null && Math.abs(skew) > head.maxClockDriftMs) {
    return { code: 'CLOCK_SKEW', message: skewMessage(skew, head.maxClockDriftMs), missing: [], sinceMs };
  }
  const lonely = noPeers(facts);
  return lonely === null ? null : { ...lonely, code: 'NO_PEERS', sinceMs };
}

function noQuorum(facts: AlarmFacts, sinceMs: TimeMs): Finding<StallCode> | null {
  const { head } = facts;
  const here = presentCount(facts);
  const quorum = quorumSize(head.validators.length);
  if (here >= quorum) return null;
  const away = awayOf(facts);
  const message = `Block ${head.height + 1} cannot be decided: ${here} of ${head.validators.length} validators are here, and ${quorum} are needed. Away: ${awayNames(facts, away)}.`;
  return { code: 'NO_QUORUM', message, missing: away, sinceMs };
}

const PHASE_STALLS: Readonly<Record<Phase, StallCode>> = {
  idle: 'AWAIT_LEADER',
  awaitEchoes: 'STARTING',
  abstaining: 'KEY_IN_USE',
  awaitProposal: 'AWAIT_LEADER',
  awaitExecution: 'EXECUTING',
  awaitPrepares: 'AWAIT_VOTES',
  awaitCommits: 'AWAIT_VOTES',
  awaitBody: 'AWAIT_BODY',
  viewChange: 'VIEW_CHANGE',
  committing: 'COMMITTING',
};

/** A quorum is here: what the core waits for, and whose messages it lacks. */
function inPhase(facts: AlarmFacts, sinceMs: TimeMs): Finding<StallCode> {
  const { nowMs, seen, head } = facts;
  const { phase, height, view } = seen.phase;
  const { validators } = head;
  const of = `view ${view} of block ${height}`;
  const since = seconds(nowMs - seen.phaseSinceMs);
  const missing = seen.phase.missing.flatMap((index) => validators[index] ?? []);
  const code = PHASE_STALLS[phase];
  switch (phase) {
    case 'idle':
    case 'awaitProposal': {
      const leader = leaderOfView(facts, view);
      return {
        code,
        message: `${name(leader)} leads ${of} and has not proposed for ${since}.`,
        missing: leader,
        sinceMs,
      };
    }
    case 'awaitPrepares':
    case 'awaitCommits': {
      const vote = phase === 'awaitPrepares' ? 'Prepare' : 'Commit';
      const message = `In ${of} the ${vote} of ${names(missing)} is missing for ${since}.`;
      return { code, message, missing, sinceMs };
    }
    case 'viewChange': {
      const asked = validators.filter((_, index) => !seen.phase.missing.includes(index));
      const message = `${names(asked)} asked for ${of} ${since} ago, and ${quorumSize(validators.length)} must. Missing: ${names(missing)}.`;
      return { code, message, missing, sinceMs };
    }
    case 'awaitEchoes':
      return {
        code,
        message: `This node votes once enough others have said what its key signed before; not heard for ${since}: ${names(missing)}.`,
        missing,
        sinceMs,
      };
    case 'abstaining':
      return { ...(keyInUse(facts) ?? finding(code, `This node does not vote on block ${height}.`)), code, sinceMs };
    case 'awaitExecution':
      return { code, message: `The proposal for ${of} is being executed for ${since}.`, missing, sinceMs };
    case 'awaitBody':
      return { code, message: `Block ${height} is decided; its body is missing for ${since}.`, missing, sinceMs };
    case 'committing':
      return { code, message: `Block ${height} is decided and being stored for ${since}.`, missing, sinceMs };
  }
}

// ----------------------------------------------------------------------------------------------------- warnings

type Rule = (facts: AlarmFacts) => Finding<WarningCode> | null;

const WARNING_RULES: readonly Rule[] = [
  keyInUse,
  ({ seen, nowMs }) => {
    const found = seen.misbehaved(nowMs);
    if (found.length === 0) return null;
    const what = found.map(({ validator, what: code }) => `${validator.orgId} (${code})`).join(', ');
    return {
      code: 'MISBEHAVIOUR',
      message: `Validators broke a rule that no honest node breaks: ${what}.`,
      missing: found.map(({ validator }) => validator),
      sinceMs: Math.min(...found.map(({ sinceMs }) => sinceMs)),
    };
  },
  ({ isMember }) =>
    isMember ? null : finding('NOT_A_MEMBER', 'This node is neither a validator nor an observer of the chain.'),
  noPeers,
  (facts) => {
    const { head, self } = facts;
    const away = awayOf(facts).filter(({ address }) => !equalBytes(address, self));
    if (!facts.hasHeard || away.length === 0 || noPeers(facts) !== null) return null;
    const margin = presentCount(facts) - quorumSize(head.validators.length);
    const consequence =
      margin < 0
        ? 'Without more of them no block can be made'
        : margin === 0
          ? 'One more, and no block can be made'
          : `${margin} more may fail`;
    return {
      code: 'VALIDATORS_AWAY',
      message: `Away: ${awayNames(facts, away)}. ${consequence}.`,
      missing: away,
      sinceMs: null,
    };
  },
  (facts) => {
    const skew = ownSkewMs(facts);
    if (skew === null || Math.abs(skew) <= facts.head.maxClockDriftMs / 2) return null;
    return finding('CLOCK_SKEW', skewMessage(skew, facts.head.maxClockDriftMs));
  },
  (facts) => {
    if (ownSkewMs(facts) !== null && Math.abs(ownSkewMs(facts) ?? 0) > facts.head.maxClockDriftMs / 2) return null;
    const off = clockOffsets(facts).filter(({ offsetMs }) => Math.abs(offsetMs) > facts.head.maxClockDriftMs / 2);
    if (off.length === 0) return null;
    const who = off.map(({ validator, offsetMs }) => `${validator.orgId} (${signedSeconds(offsetMs)})`).join(', ');
    return {
      code: 'PEER_CLOCK_SKEW',
      message: `Clocks that differ from this machine's: ${who}; ${seconds(facts.head.maxClockDriftMs)} are allowed.`,
      missing: off.map(({ validator }) => validator),
      sinceMs: null,
    };
  },
  ({ disk }) => {
    if (disk === null) return null;
    const { freeBytes, minFreeBytes, error } = disk;
    if (freeBytes === null) return finding('DISK_FAILING', `The data folder cannot be asked for its room: ${error}.`);
    const free = `${mib(freeBytes)} MiB are free under the data folder`;
    if (freeBytes <= minFreeBytes) return finding('DISK_FULL', `${free}, and ${mib(minFreeBytes)} MiB must stay free.`);
    if (freeBytes > DISK_LOW_FACTOR * minFreeBytes) return null;
    return finding('DISK_LOW', `${free}; below ${mib(minFreeBytes)} MiB uploads are refused.`);
  },
  ({ custodyConcern }) => (custodyConcern === null ? null : finding('CUSTODY_WAITS', custodyConcern)),
  ({ slowestSyncMs, head }) =>
    slowestSyncMs < head.viewTimeoutMs
      ? null
      : finding(
          'DISK_SLOW',
          `A synced write took ${seconds(slowestSyncMs)}, as long as a leader has for a whole block (${seconds(head.viewTimeoutMs)}).`,
        ),
  ({ pool: { size, bytes, limits } }) =>
    size < limits.maxTransactions * POOL_FULL_SHARE && bytes < limits.maxBytes * POOL_FULL_SHARE
      ? null
      : finding('POOL_FULL', `${size} transactions (${mib(bytes)} MiB) wait for a block; no more are taken.`),
];

function keyInUse({ seen, head, self }: AlarmFacts): Finding<'KEY_IN_USE'> | null {
  if (seen.keyInUseSinceMs === null || indexOf(head.validators, self) === -1) return null;
  return {
    code: 'KEY_IN_USE',
    message:
      seen.abstainThrough === null
        ? "Another process runs with this node's validator key. This node does not vote until it is started again."
        : `This node's validator key signed what its database does not know: an old data folder was put back, or another process has the key. It does not vote up to block ${seen.abstainThrough}.`,
    missing: head.validators.filter(({ address }) => equalBytes(address, self)),
    sinceMs: seen.keyInUseSinceMs,
  };
}

function noPeers({ peers, nowMs, seen }: AlarmFacts): Finding<'NO_PEERS'> | null {
  const justStarted = nowMs - seen.startedMs < SILENT_AFTER_MS;
  if (justStarted || peers.length === 0 || peers.some(({ connected }) => connected)) return null;
  return finding('NO_PEERS', `This node has no connection to any of the ${peers.length} other members.`);
}

// ------------------------------------------------------------------------------------------------------- clocks

interface ClockOffset {
  readonly validator: Validator;
  /** Its clock less this one's. */
  readonly offsetMs: number;
}

function clockOffsets({ seen, nowMs, head, self }: AlarmFacts): readonly ClockOffset[] {
  return head.validators.flatMap((validator) => {
    const offsetMs = equalBytes(validator.address, self) ? null : seen.clockOffsetMs(validator.address, nowMs);
    return offsetMs === null ? [] : [{ validator, offsetMs }];
  });
}

/**
 * How far this machine's clock is ahead of the others, as the times of fresh proposals show it; negative where it is
 * behind. f proposers may say anything, so f + 1 must agree on the direction; the mildest of them is believed. A head
 * in the future needs no proposers: a quorum vouched for its time.
 */
function ownSkewMs(facts: AlarmFacts): number | null {
  const { head, nowMs } = facts;
  const fromHead = nowMs - head.timestampMs;
  if (fromHead < -head.maxClockDriftMs) return fromHead;
  const needed = faultTolerance(head.validators.length) + 1;
  const ahead = clockOffsets(facts)
    .map(({ offsetMs }) => -offsetMs)
    .sort((a, b) => b - a);
  if (ahead.length < needed) return null;
  const atLeast = ahead[needed - 1] ?? 0;
  const atMost = ahead[ahead.length - needed] ?? 0;
  if (atLeast > 0) return atLeast;
  return atMost < 0 ? atMost : 0;
}

function skewMessage(skewMs: number, allowedMs: number): string {
  const where = skewMs > 0 ? 'ahead of' : 'behind';
  return `This machine's clock is ${seconds(Math.abs(skewMs))} ${where} the chain's; ${seconds(allowedMs)} are allowed.`;
}

// ----------------------------------------------------------------------------------------------------- presence

/** Validators that can vote now, as far as this node has heard; itself included unless it does not vote. */
function presentCount(facts: AlarmFacts): number {
  return facts.head.validators.length - awayOf(facts).length;
}

function awayOf({ nowMs, head, seen, self, peers }: AlarmFacts): readonly Validator[] {
  const observes = indexOf(head.validators, self) === -1;
  return head.validators.filter(({ address, peerId }) => {
    if (equalBytes(address, self)) return seen.keyInUseSinceMs !== null;
    // Statuses go to validators alone: whoever observes goes by connections.
    if (observes) return peers.some((peer) => peer.peerId === peerId && !peer.connected);
    const { lastSeenMs, knownSinceMs } = seen.of(address);
    return nowMs - (lastSeenMs ?? knownSinceMs) >= SILENT_AFTER_MS;
  });
}

function awayNames({ seen, nowMs }: AlarmFacts, away: readonly Validator[]): string {
  if (away.length === 0) return 'nobody';
  return away
    .map(({ address, orgId }) => {
      const { lastSeenMs } = seen.of(address);
      return lastSeenMs === null ? `${orgId} (not heard yet)` : `${orgId} (for ${seconds(nowMs - lastSeenMs)})`;
    })
    .join(', ');
}

function leaderOfView({ head }: AlarmFacts, view: number): readonly Validator[] {
  const order = leaderOrder(head.height + 1, head.validators.length, head.leaders);
  const leader = head.validators[leaderOf(order, view)];
  return leader === undefined ? [] : [leader];
}

function indexOf(validators: ValidatorSet, address: Address): number {
  return validators.findIndex((validator) => equalBytes(validator.address, address));
}

const finding = <Code extends string>(code: Code, message: string): Finding<Code> => {
  return { code, message, missing: [], sinceMs: null };
};

const name = (of: readonly Validator[]): OrgId => of[0]?.orgId ?? 'nobody';
const names = (of: readonly Validator[]): string =>
  of.length === 0 ? 'nobody' : of.map(({ orgId }) => orgId).join(', ');
const seconds = (ms: number): string => (ms < 10_000 ? `${(ms / 1_000).toFixed(1)} s` : `${Math.round(ms / 1_000)} s`);
const signedSeconds = (ms: number): string => `${ms > 0 ? '+' : '−'}${seconds(Math.abs(ms))}`;
const mib = (bytes: number): number => Math.floor(bytes / 1_048_576);
