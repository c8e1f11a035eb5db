/**
 * Notices leaders that leave out a transaction although it waits, executes, and would have fitted; and has the view
 * changed when they do it again. What others hold is not known here, so that one omission proves nothing: an honest
 * leader may never have got it. Steps in brackets: docs/protocol.md. Pure but for what it remembers; the host says what is in its pool and what executes.
 *
 * What must not go in here: reasons to refuse a block. A block that is decided all the same is as good as any.
 */
import type { TimeMs } from '../../common/protocol/primitives.ts';

/** Its own node has sent it to every validator directly by then, and was answered. */
export const OVERDUE_AFTER_MS = 5_000;
/** Who was found once is watched for this long. */
const WATCHED_MS = 10 * 60_000;
/** Waiting transactions that one block is judged by, the oldest ones: each may cost an execution. */
export const MAX_JUDGED = 32;
/** Proposals of which it is remembered what was in them: one for each of the last views. */
const MAX_OFFERS = 8;

/** A transaction in the pool of this node. */
export interface Waiting {
  readonly key: string;
  readonly account: string;
  readonly priority: 'urgent' | 'normal';
  readonly sizeBytes: number;
}

/** What a proposal has, as far as it says whether there was room for more. */
export interface Offer {
  /** The leader of its view: any name that stays. */
  readonly proposer: string;
  readonly keys: ReadonlySet<string>;
  readonly sizeBytes: number;
  readonly hasNormal: boolean;
  readonly urgentOfAccount: ReadonlyMap<string, number>;
}

export interface FairnessLimits {
  /** A block takes so many transactions even where its leader is slow, unless it is full of bytes. */
  readonly roomTxs: number;
  readonly maxBlockBytes: number;
  /** Urgent transactions of one account that go first in one block. */
  readonly urgentPerBlock: number;
  /** Leaders that are held for censors at a time: f, since no more can be. */
  readonly maxWatched: number;
}

/** What waits, as this node's pool and head have it. */
export interface WaitingRoom {
  /** The oldest that came before this moment, at most `MAX_JUDGED`. */
  overdue(beforeMs: TimeMs): readonly Waiting[];
  /** Whether it executes on the head as it is now. */
  executes(waiting: Waiting): boolean;
}

export class FairnessWatch {
  readonly #room: WaitingRoom;
  /** By the hash of the block. */
  readonly #offers = new Map<string, Offer>();
  /** Until when each is watched, in the order in which they were found. */
  readonly #watched = new Map<string, TimeMs>();
  /** What came before this was overdue when the next block could be proposed at the earliest. */
  #overdueBeforeMs: TimeMs;

  constructor(room: WaitingRoom, nowMs: TimeMs) {
    this.#room = room;
    this.#overdueBeforeMs = nowMs - OVERDUE_AFTER_MS;
  }

  /**
   * [F4] A fresh proposal that executes.
   * @returns whether its leader is doing it again: another one shall lead
   */
  proposed(block: string, offer: Offer, limits: FairnessLimits, nowMs: TimeMs): boolean {
    this.#offers.set(block, offer);
    if (this.#offers.size > MAX_OFFERS) {
      const oldest = this.#offers.keys().next();
      if (!oldest.done) this.#offers.delete(oldest.value);
    }
    const isWatched = (this.#watched.get(offer.proposer) ?? 0) > nowMs;
    return isWatched && limits.maxWatched > 0 && this.#leavesOut(offer, limits);
  }

  /**
   * [F3] The head has moved, and the pool with it: what still executes was not in the way of anything in the block.
   * @returns the leader that left something out, if it did
   */
  committed(block: string, limits: FairnessLimits, nowMs: TimeMs): string | null {
    const offer = this.#offers.get(block);
    this.#offers.clear();
    const found = offer !== undefined && this.#leavesOut(offer, limits) ? offer.proposer : null;
    this.#overdueBeforeMs = nowMs - OVERDUE_AFTER_MS;
    if (found !== null) this.#watch(found, limits.maxWatched, nowMs);
    return found;
  }

  #leavesOut(offer: Offer, limits: FairnessLimits): boolean {
    const waiting = this.#room.overdue(this.#overdueBeforeMs);
    return waiting.some((tx) => !offer.keys.has(tx.key) && hadRoom(offer, tx, limits) && this.#room.executes(tx));
  }

  #watch(proposer: string, most: number, nowMs: TimeMs): void {
    this.#watched.delete(proposer);
    this.#watched.set(proposer, nowMs + WATCHED_MS);
    for (const [known, untilMs] of this.#watched)
      if (untilMs <= nowMs || this.#watched.size > most) this.#watched.delete(known);
  }
}

/** [F1] What an honest leader does when it holds the transaction: urgent ones first, by quota, then what fits. */
function hadRoom(offer: Offer, tx: Waiting, { roomTxs, maxBlockBytes, urgentPerBlock }: FairnessLimits): boolean {
  const fits = offer.keys.size < roomTxs && offer.sizeBytes + tx.sizeBytes <= maxBlockBytes;
  if (tx.priority === 'normal') return fits;
  return (offer.urgentOfAccount.get(tx.account) ?? 0) < urgentPerBlock && (fits || offer.hasNormal);
}
