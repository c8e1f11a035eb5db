/**
 * Our requests about ciphertext to one peer at a time: half of what it serves us, so that catching up with blocks of the
 * chain is never told to come back later.
 */
const MAX_REQUESTS_PER_PEER = 8;

class Slots {
  #free = MAX_REQUESTS_PER_PEER;
  readonly #waiting: (() => void)[] = [];

  get idle(): boolean {
    return this.#free === MAX_REQUESTS_PER_PEER;
  }

  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await task();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next();
    }
  }
}

export class PeerSlots {
  readonly #slots = new Map<string, Slots>();

  /** Runs a request when the peer has a place for it, in the order of arrival. */
  async run<T>(peerId: string, request: () => Promise<T>): Promise<T> {
    const slots = this.#slots.get(peerId) ?? new Slots();
    this.#slots.set(peerId, slots);
    try {
      return await slots.run(request);
    } finally {
      if (slots.idle) this.#slots.delete(peerId);
    }
  }
}
