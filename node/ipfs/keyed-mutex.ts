/** One at a time per key, in the order of arrival. Holds no memory for keys that nobody waits on. */

export class KeyedMutex {
  readonly #tails = new Map<string, Promise<void>>();

  /** Runs `task` when all earlier tasks of `key` have ended, whether or not they failed. */
  async run<T>(key: string, task: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key);
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    this.#tails.set(key, ended);
    try {
      await before;
      return await task();
    } finally {
      if (this.#tails.get(key) === ended) this.#tails.delete(key);
      resolve();
    }
  }
}
