/**
 * What this node has seen of consensus, for operators: who signs, who is silent, in which phase it stands and since
 * when, whose clock differs. Facts alone: what they mean is judged in alarms/judge.ts, and nothing here decides anything.
 */
import { encode } from '../../common/codec.ts';
import type { Certificate } from '../../common/protocol/block.ts';
import type { Address, Height, TimeMs } from '../../common/protocol/primitives.ts';
import type { Validator, ValidatorSet } from '../../common/protocol/validator-set.ts';
import { status } from '../../common/protocol/status.ts';
import type { Signed, SignedMessage, Status } from '../../consensus/messages.ts';
import type { Report } from '../../consensus/types.ts';
import { hashKey } from '../verification/hash-key.ts';

/** The rate of blocks is that of this many seconds. */
const RATE_SECONDS = 10;
/** The time of a proposal says something of its proposer's clock for this long. */
const CLOCK_SAMPLE_MS = 10 * 60_000;
/** Misbehaviour stays in sight for this long. */
const MISBEHAVIOUR_MS = 60 * 60_000;

export interface ValidatorSeen {
  readonly address: Address;
  readonly lastSignedHeight: Height | null;
  readonly lastSeenMs: TimeMs | null;
  /** As its last signed status says. */
  readonly executedHeight: Height | null;
  /** That status: shown to others, it is the validator's receipt for what it has executed. */
  readonly signedStatus: SignedStatus | null;
}

export interface SignedStatus {
  /** Canonical bytes of `status` (common/protocol/status.ts). */
  readonly body: Uint8Array;
  readonly signature: Uint8Array;
}

export interface Misbehaviour {
  readonly validator: Validator;
  /** Stable word: EQUIVOCATION, OTHER_HEAD. */
  readonly what: string;
  readonly sinceMs: TimeMs;
}

type PhaseReport = Extract<Report, { readonly kind: 'phase' }>;

interface Seen {
  lastSignedHeight: Height | null;
  lastSeenMs: TimeMs | null;
  executedHeight: Height | null;
  signedStatus: Signed<Status> | null;
  /** When this node learnt that it is a validator. */
  readonly knownSinceMs: TimeMs;
  clock: { readonly offsetMs: number; readonly atMs: TimeMs } | null;
}

export class Observations {
  readonly startedMs: TimeMs;
  /** By address. At most the members of the sets since start: some dozens. */
  readonly #seen = new Map<string, Seen>();
  /** By address and word: at most two for each validator. */
  readonly #misbehaved = new Map<string, Misbehaviour & { readonly untilMs: TimeMs }>();
  #validators: ValidatorSet = [];
  #phase: PhaseReport = { kind: 'phase', height: 0, view: 0, phase: 'idle', missing: [] };
  #phaseSinceMs: TimeMs;
  #lastProgressMs: TimeMs;
  #dueSinceMs: TimeMs | null = null;
  #keyInUseSinceMs: TimeMs | null = null;
  /** Null: until this process ends. */
  #abstainThrough: Height | null = null;
  #lastBlockMs: TimeMs | null = null;
  #blockIntervalMs: number | null = null;
  /** Blocks committed in each of the last seconds, oldest first; at most RATE_SECONDS. */
  #perSecond: { readonly second: number; blocks: number }[] = [];

  constructor(nowMs: TimeMs) {
    this.startedMs = nowMs;
    this.#lastProgressMs = nowMs;
    this.#phaseSinceMs = nowMs;
  }

  get phase(): PhaseReport {
    return this.#phase;
  }

  /** Since when height, view and phase are what they are. */
  get phaseSinceMs(): TimeMs {
    return this.#phaseSinceMs;
  }

  /** Of the last block, however it came; of the start before the first one. */
  get lastProgressMs(): TimeMs {
    return this.#lastProgressMs;
  }

  /** Since when a block is due, or since the last one while they are; null while none is. */
  get dueSinceMs(): TimeMs | null {
    return this.#dueSinceMs;
  }

  /** Since when this node knows that another process has its key, and does not vote. */
  get keyInUseSinceMs(): TimeMs | null {
    return this.#keyInUseSinceMs;
  }

  /** Up to which height its key binds this node to silence; null when another process with the key is running. */
  get abstainThrough(): Height | null {
    return this.#abstainThrough;
  }

  /** Between the last two blocks that were committed here. */
  get blockIntervalMs(): number | null {
    return this.#blockIntervalMs;
  }

  setValidators(validators: ValidatorSet): void {
    this.#validators = validators;
    for (const { address } of validators) this.#entry(address);
  }

  noteReport(report: Report, nowMs: TimeMs): void {
    switch (report.kind) {
      case 'phase': {
        const { height, view, phase } = this.#phase;
        if (report.height !== height || report.view !== view || report.phase !== phase) this.#phaseSinceMs = nowMs;
        this.#phase = report;
        return;
      }
      case 'keyInUse':
        this.#keyInUseSinceMs ??= nowMs;
        this.#abstainThrough = report.abstainThrough;
        return;
      case 'evidence':
        return this.#noteMisbehaviour(report.equivocation.validator, 'EQUIVOCATION', nowMs);
      case 'refused':
        if (report.code === 'OTHER_HEAD') this.#noteMisbehaviour(report.from, 'OTHER_HEAD', nowMs);
        return;
      case 'enteredView':
        return;
    }
  }

  noteDue(due: boolean, nowMs: TimeMs): void {
    this.#dueSinceMs = due ? (this.#dueSinceMs ?? nowMs) : null;
  }

  noteMessage(message: SignedMessage, nowMs: TimeMs): void {
    const member = this.#validators[message.validator];
    if (member === undefined) return;
    this.#entry(member.address).lastSeenMs = nowMs;
    this.#noteStatus(member.address, message);
  }

  /** What this node signs itself: nobody sends it to it. */
  noteOwn(message: SignedMessage): void {
    const member = this.#validators[message.validator];
    if (member !== undefined) this.#noteStatus(member.address, message);
  }

  #noteStatus(address: Address, { validator, signature, body }: SignedMessage): void {
    if (body.kind !== 'status') return;
    const seen = this.#entry(address);
    seen.executedHeight = body.height;
    seen.signedStatus = { validator, signature, body };
  }

  /** A fresh proposal came in: its time was taken from the proposer's clock a moment ago. */
  noteProposal(header: { readonly proposer: Address; readonly timestampMs: TimeMs }, parentMs: TimeMs, nowMs: TimeMs) {
    // Where its clock is behind the parent's, a proposer takes the next possible time, which says nothing of the clock.
    if (header.timestampMs <= parentMs + 1) return;
    this.#entry(header.proposer).clock = { offsetMs: header.timestampMs - nowMs, atMs: nowMs };
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
    this.#count(nowMs);
    if (this.#abstainThrough !== null && height >= this.#abstainThrough) this.#keyInUseSinceMs = null;
  }

  /** One for each validator of the next height, in order. */
  validators(): readonly ValidatorSeen[] {
    return this.#validators.map(({ address }) => ({ address, ...this.of(address) }));
  }

  of(address: Address): Omit<ValidatorSeen, 'address'> & { readonly knownSinceMs: TimeMs } {
    const { lastSignedHeight, lastSeenMs, executedHeight, knownSinceMs, signedStatus: of } = this.#entry(address);
    const signedStatus = of && { body: encode(status, of.body), signature: of.signature };
    return { lastSignedHeight, lastSeenMs, executedHeight, knownSinceMs, signedStatus };
  }

  /** The validator's clock less this node's, as its last fresh proposal showed it; null if that is long ago. */
  clockOffsetMs(address: Address, nowMs: TimeMs): number | null {
    const { clock } = this.#entry(address);
    return clock === null || nowMs - clock.atMs > CLOCK_SAMPLE_MS ? null : clock.offsetMs;
  }

  misbehaved(nowMs: TimeMs): readonly Misbehaviour[] {
    for (const [key, { untilMs }] of this.#misbehaved) if (untilMs < nowMs) this.#misbehaved.delete(key);
    return [...this.#misbehaved.values()];
  }

  /** Of the last seconds. */
  blocksPerSecond(nowMs: TimeMs): number {
    const oldest = Math.floor(nowMs / 1_000) - RATE_SECONDS;
    const blocks = this.#perSecond.reduce((sum, { second, blocks: of }) => (second > oldest ? sum + of : sum), 0);
    return blocks / RATE_SECONDS;
  }

  #noteMisbehaviour(index: number, what: 'EQUIVOCATION' | 'OTHER_HEAD', nowMs: TimeMs): void {
    const validator = this.#validators[index];
    if (validator === undefined) return;
    const key = `${hashKey(validator.address)}/${what}`;
    const sinceMs = this.#misbehaved.get(key)?.sinceMs ?? nowMs;
    this.#misbehaved.set(key, { validator, what, sinceMs, untilMs: nowMs + MISBEHAVIOUR_MS });
  }

  #count(nowMs: TimeMs): void {
    const second = Math.floor(nowMs / 1_000);
    const last = this.#perSecond.at(-1);
    if (last?.second === second) last.blocks += 1;
    else this.#perSecond = [...this.#perSecond.slice(1 - RATE_SECONDS), { second, blocks: 1 }];
  }

  #entry(address: Address): Seen {
    const key = hashKey(address);
    const known = this.#seen.get(key);
    if (known !== undefined) return known;
    const seen: Seen = {
      lastSignedHeight: null,
      lastSeenMs: null,
      executedHeight: null,
      signedStatus: null,
      knownSinceMs: this.#lastProgressMs,
      clock: null,
    };
    this.#seen.set(key, seen);
    return seen;
  }
}
