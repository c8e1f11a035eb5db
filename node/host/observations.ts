/**
 * What this node has seen of consensus, for operators: who signs, who is silent, in which phase it stands and since
 * when. Nothing here decides anything.
 */
import type { Certificate } from '../../common/protocol/block.ts';
import type { Address, Height, OrgId, TimeMs, View } from '../../common/protocol/primitives.ts';
import { quorumSize, type ValidatorSet } from '../../common/protocol/validator-set.ts';
import type { SignedMessage } from '../../consensus/messages.ts';
import type { Phase, Report } from '../../consensus/types.ts';
import { hashKey } from '../verification/hash-key.ts';

/** A validator that was not heard of for this long counts as away: it sends a status each second. */
const SILENT_AFTER_MS = 5_000;
/** Blocks are late after this many view timeouts without one. */
const LATE_AFTER_TIMEOUTS = 3;

export interface ValidatorSeen {
  readonly address: Address;
  readonly lastSignedHeight: Height | null;
  readonly lastSeenMs: TimeMs | null;
  /** As its last signed status says. */
  readonly executedHeight: Height | null;
}

export interface Stall {
  /** Stable word: NO_QUORUM, AWAIT_LEADER, AWAIT_VOTES, VIEW_CHANGE, EXECUTING, AWAIT_BODY, COMMITTING, SYNCING. */
  readonly reason: string;
  readonly phase: Phase;
  readonly height: Height;
  readonly view: View;
  /** Organisations whose validators' messages are missing. */
  readonly missing: readonly OrgId[];
  readonly sinceMs: TimeMs;
}

type PhaseReport = Extract<Report, { readonly kind: 'phase' }>;

interface Seen {
  lastSignedHeight: Height | null;
  lastSeenMs: TimeMs | null;
  executedHeight: Height | null;
}

export class Observations {
  /** By address. At most the members of the sets since start: some dozens. */
  readonly #seen = new Map<string, Seen>();
  #validators: ValidatorSet = [];
  #self: Address;
  #phase: PhaseReport = { kind: 'phase', height: 0, view: 0, phase: 'idle', missing: [] };
  #lastProgressMs: TimeMs;
  #dueSinceMs: TimeMs | null = null;
  #lastBlockMs: TimeMs | null = null;
  #blockIntervalMs: number | null = null;

  constructor(self: Address, nowMs: TimeMs) {
    this.#self = self;
    this.#lastProgressMs = nowMs;
  }

  get phase(): PhaseReport {
    return this.#phase;
  }

  /** Between the last two blocks that were committed here. */
  get blockIntervalMs(): number | null {
    return this.#blockIntervalMs;
  }

  setValidators(validators: ValidatorSet): void {
    this.#validators = validators;
  }

  notePhase(report: PhaseReport): void {
    this.#phase = report;
  }

  noteDue(due: boolean, nowMs: TimeMs): void {
    this.#dueSinceMs = due ? (this.#dueSinceMs ?? nowMs) : null;
  }

  noteMessage({ validator, body }: SignedMessage, nowMs: TimeMs): void {
    const seen = this.#of(validator);
    if (seen === undefined) return;
    seen.lastSeenMs = nowMs;
    if (body.kind === 'status') seen.executedHeight = body.height;
  }

  noteCommit(height: Height, certificate: Certificate | null, signers: ValidatorSet, nowMs: TimeMs): void {
    for (const { validator } of certificate?.signatures ?? []) {
      const member = signers[validator];
      if (member !== undefined) this.#entry(member.address).lastSignedHeight = height;
    }
    if (this.#lastBlockMs !== null) this.#blockIntervalMs = nowMs - this.#lastBlockMs;
    this.#lastBlockMs = nowMs;
    this.#lastProgressMs = nowMs;
    this.#dueSinceMs = this.#dueSinceMs === null ? null : nowMs;
  }

  /** One for each validator of the next height, in order. */
  validators(): readonly ValidatorSeen[] {
    return this.#validators.map(({ address }) => ({ address, ...this.#entry(address) }));
  }

  /** Why no block comes although one is due; null while blocks come or none is due. */
  stall(nowMs: TimeMs, viewTimeoutMs: number, syncing: boolean): Stall | null {
    const { phase, height, view, missing } = this.#phase;
    const sinceMs = Math.max(this.#lastProgressMs, this.#dueSinceMs ?? 0);
    const organisations = missing.flatMap((index) => this.#validators[index]?.orgId ?? []);
    const stall = { phase, height, view, missing: organisations, sinceMs };
    if (syncing) return { ...stall, reason: 'SYNCING' };
    if (this.#dueSinceMs === null || nowMs - sinceMs < LATE_AFTER_TIMEOUTS * viewTimeoutMs) return null;
    return {
      ...stall,
      reason: this.#present(nowMs) < quorumSize(this.#validators.length) ? 'NO_QUORUM' : REASONS[phase],
    };
  }

  /** Validators heard of lately, this node included if it is one. */
  #present(nowMs: TimeMs): number {
    const self = hashKey(this.#self);
    return this.#validators.filter(({ address }) => {
      const { lastSeenMs } = this.#entry(address);
      return hashKey(address) === self || (lastSeenMs !== null && nowMs - lastSeenMs < SILENT_AFTER_MS);
    }).length;
  }

  #of(index: number): Seen | undefined {
    const member = this.#validators[index];
    return member === undefined ? undefined : this.#entry(member.address);
  }

  #entry(address: Address): Seen {
    const key = hashKey(address);
    const known = this.#seen.get(key);
    if (known !== undefined) return known;
    const seen: Seen = { lastSignedHeight: null, lastSeenMs: null, executedHeight: null };
    this.#seen.set(key, seen);
    return seen;
  }
}

const REASONS: Readonly<Record<Phase, string>> = {
  idle: 'AWAIT_LEADER',
  awaitProposal: 'AWAIT_LEADER',
  awaitExecution: 'EXECUTING',
  awaitPrepares: 'AWAIT_VOTES',
  awaitCommits: 'AWAIT_VOTES',
  awaitBody: 'AWAIT_BODY',
  viewChange: 'VIEW_CHANGE',
  committing: 'COMMITTING',
};
