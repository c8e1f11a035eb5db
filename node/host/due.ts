/**
 * The one predicate that says whether a block is due, for leader and timers alike: transactions wait, or the state asks
 * for a block because a deadline has passed or, while grants are active, a heartbeat is over. Otherwise none is.
 */
import type { Height, TimeMs } from '../../common/protocol/primitives.ts';
import type { BlockDue } from '../../vm/types.ts';
import type { Clock } from '../clock.ts';

/** Deadlines further away are looked at again after this long: clocks jump. */
const LONGEST_SLEEP_MS = 60_000;

export interface DuePorts {
  readonly clock: Clock;
  poolSize(): number;
  head(): { readonly height: Height; readonly due: BlockDue; readonly header: { readonly timestampMs: TimeMs } };
  onChange(due: boolean): void;
}

export class DueWatch {
  readonly #ports: DuePorts;
  #due = false;
  #cancel: () => void = () => {};
  #stopped = false;

  constructor(ports: DuePorts) {
    this.#ports = ports;
  }

  get due(): boolean {
    return this.#due;
  }

  /** When the state itself wants the next block; null if it does not. */
  #stateDueMs(): TimeMs | null {
    const { due, header } = this.#ports.head();
    const deadline = due.nextDeadlineMs === null ? null : due.nextDeadlineMs + 1;
    const heartbeat = due.heartbeatMs === null ? null : header.timestampMs + due.heartbeatMs;
    if (deadline === null || heartbeat === null) return deadline ?? heartbeat;
    return Math.min(deadline, heartbeat);
  }

  /** Whether the state wants a block now, whatever the pool holds. */
  stateIsDue(nowMs: TimeMs): boolean {
    const atMs = this.#stateDueMs();
    return atMs !== null && nowMs >= atMs;
  }

  /** To be called when the pool or the head has changed. @returns the present answer */
  update(): boolean {
    const { clock } = this.#ports;
    this.#cancel();
    if (this.#stopped) return this.#due;
    const nowMs = clock.nowMs();
    const due = this.#ports.poolSize() > 0 || this.stateIsDue(nowMs);
    const atMs = this.#stateDueMs();
    if (!due && atMs !== null) {
      this.#cancel = clock.after(Math.min(LONGEST_SLEEP_MS, Math.max(1, atMs - nowMs)), () => this.update());
    }
    if (due !== this.#due) {
      this.#due = due;
      this.#ports.onChange(due);
    }
    return due;
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel();
  }
}
