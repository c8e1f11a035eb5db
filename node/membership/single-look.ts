/** Something to be looked at after each block and each second: one look at a time, and one more for what came meanwhile. */
import type { Clock } from '../clock.ts';

const LOOK_MS = 1_000;

export class SingleLook {
  readonly #clock: Clock;
  readonly #see: () => Promise<void>;
  readonly #failed: (error: unknown) => void;
  #looking: Promise<void> | null = null;
  #again = false;
  #stopped = false;
  #cancel: () => void = () => {};

  /** @param failed told of what `see` throws: a bug of ours, or a failed disk */
  constructor(clock: Clock, see: () => Promise<void>, failed: (error: unknown) => void) {
    this.#clock = clock;
    this.#see = see;
    this.#failed = failed;
  }

  start(): void {
    this.look();
    this.#cancel = this.#clock.after(LOOK_MS, () => this.start());
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancel();
    await this.#looking;
  }

  look(): void {
    if (this.#stopped) return;
    this.#again = true;
    this.#looking ??= this.#run()
      .catch((error: unknown) => this.#failed(error))
      .finally(() => {
        this.#looking = null;
        if (this.#again) this.look();
      });
  }

  async #run(): Promise<void> {
    while (this.#again && !this.#stopped) {
      this.#again = false;
      await this.#see();
    }
  }
}
