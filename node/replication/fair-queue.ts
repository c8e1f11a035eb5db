/** Work in bounded numbers, shared out fairly: nobody's tasks, however many or slow, keep everybody else's waiting. */

interface Task {
  readonly group: string;
  readonly run: () => Promise<void>;
}

export interface FairQueueLimits {
  /** Tasks that run at a time. */
  readonly running: number;
  /** And of one group. */
  readonly runningPerGroup: number;
  /** Tasks of one group that wait. */
  readonly waitingPerGroup: number;
}

/** Groups take turns. Tasks must not reject. */
export class FairQueue {
  readonly #limits: FairQueueLimits;
  /** Waiting tasks of each group that has any; the group whose turn is next comes first. */
  readonly #waiting = new Map<string, Task[]>();
  readonly #runningOf = new Map<string, number>();
  readonly #running = new Set<Promise<void>>();
  #closed = false;

  constructor(limits: FairQueueLimits) {
    this.#limits = limits;
  }

  /** False when too many of this group wait already: offer it again later. */
  offer(group: string, run: () => Promise<void>): boolean {
    const waiting = this.#waiting.get(group) ?? [];
    if (this.#closed || waiting.length >= this.#limits.waitingPerGroup) return false;
    waiting.push({ group, run });
    this.#waiting.set(group, waiting);
    this.#startNext();
    return true;
  }

  /** Starts nothing more, and waits for what runs. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#waiting.clear();
    await Promise.all(this.#running);
  }

  #startNext(): void {
    while (this.#running.size < this.#limits.running) {
      const task = this.#take();
      if (task === undefined) return;
      const { group } = task;
      this.#runningOf.set(group, (this.#runningOf.get(group) ?? 0) + 1);
      const running = task.run().finally(() => {
        this.#running.delete(running);
        const left = (this.#runningOf.get(group) ?? 1) - 1;
        if (left === 0) this.#runningOf.delete(group);
        else this.#runningOf.set(group, left);
        this.#startNext();
      });
      this.#running.add(running);
    }
  }

  #take(): Task | undefined {
    for (const [group, waiting] of this.#waiting) {
      if ((this.#runningOf.get(group) ?? 0) >= this.#limits.runningPerGroup) continue;
      const task = waiting.shift();
      // To the end of the line.
      this.#waiting.delete(group);
      if (waiting.length > 0) this.#waiting.set(group, waiting);
      return task;
    }
    return undefined;
  }
}
