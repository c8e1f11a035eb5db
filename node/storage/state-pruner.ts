/** Prunes old states in the background, behind the head, in small steps that give the thread back. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Height } from '../../common/protocol/primitives.ts';
import type { StateHistory } from './state-history.ts';

/** Heights that are pruned together: most blocks scan and write nothing for it. As many states more are kept at most. */
const HEIGHTS_TOGETHER = 8;

export interface StatePrunerPorts {
  readonly history: StateHistory;
  /** States of at least this many blocks below the head are kept; null keeps all. */
  readonly keepBlocks: number | null;
  headHeight(): Height;
  /** A failed disk, or a bug: the node stops. */
  failed(error: unknown): void;
}

export class StatePruner {
  readonly #ports: StatePrunerPorts;
  #work: Promise<void> | null = null;
  #stopped = false;

  constructor(ports: StatePrunerPorts) {
    this.#ports = ports;
  }

  /** To be called when the head has moved, or a pin was released. */
  kick(): void {
    const { keepBlocks } = this.#ports;
    if (this.#stopped || this.#work !== null || keepBlocks === null) return;
    this.#work = this.#run(keepBlocks)
      .catch((error: unknown) => this.#ports.failed(error))
      .finally(() => {
        this.#work = null;
      });
  }

  /** Ends after the step that runs. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#work;
  }

  async #run(keepBlocks: number): Promise<void> {
    const { history } = this.#ports;
    while (!this.#stopped && (await history.step(this.#keepFrom(keepBlocks)))) await nextTurn();
  }

  #keepFrom(keepBlocks: number): Height {
    const wanted = this.#ports.headHeight() - keepBlocks;
    return wanted - (wanted % HEIGHTS_TOGETHER);
  }
}
