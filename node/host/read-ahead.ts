/** A queue between one who brings and one who takes: the first waits while it is full, the second while it is empty. */

export interface ReadAheadLimits {
  /** Items and bytes that wait. One item always fits. */
  readonly items: number;
  readonly bytes: number;
}

export class ReadAhead<T> {
  readonly #limits: ReadAheadLimits;
  #waiting: { readonly item: T; readonly sizeBytes: number }[] = [];
  #bytes = 0;
  #ended = false;
  #wake: () => void = () => {};

  constructor(limits: ReadAheadLimits) {
    this.#limits = limits;
  }

  /** @returns false once the queue has ended: nothing more is taken */
  async put(item: T, sizeBytes: number): Promise<boolean> {
    while (!this.#ended && this.#isFull(sizeBytes)) await this.#change();
    if (this.#ended) return false;
    this.#waiting.push({ item, sizeBytes });
    this.#bytes += sizeBytes;
    this.#wake();
    return true;
  }

  /** No more comes, or no more is wanted. What waits can still be taken. */
  end(): void {
    this.#ended = true;
    this.#wake();
  }

  /** All that waits, at least one item; empty when the queue has ended. */
  async take(): Promise<readonly T[]> {
    while (!this.#ended && this.#waiting.length === 0) await this.#change();
    const taken = this.#waiting.map(({ item }) => item);
    this.#waiting = [];
    this.#bytes = 0;
    this.#wake();
    return taken;
  }

  #isFull(sizeBytes: number): boolean {
    const { items, bytes } = this.#limits;
    return this.#waiting.length > 0 && (this.#waiting.length >= items || this.#bytes + sizeBytes > bytes);
  }

  /** One who brings and one who takes never wait at the same time: one wake-up is enough. */
  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}
