/** Which old states are being read: neither memory nor disk lets go of them meanwhile. */
import type { Height } from '../../common/protocol/primitives.ts';

export class StateReaders {
  /** How many read each. Bounded by the readers, each of whom gives its own back. */
  readonly #counts = new Map<Height, number>();

  /** @returns to be called when it is over, at least once */
  begin(height: Height): () => void {
    this.#counts.set(height, (this.#counts.get(height) ?? 0) + 1);
    let over = false;
    return () => {
      if (over) return;
      over = true;
      const left = (this.#counts.get(height) as number) - 1;
      if (left === 0) this.#counts.delete(height);
      else this.#counts.set(height, left);
    };
  }

  /** In no particular order. */
  get heights(): readonly Height[] {
    return [...this.#counts.keys()];
  }

  /** Whether a state of one of these heights is being read, both included. */
  isRead(from: Height, to: Height): boolean {
    for (const height of this.#counts.keys()) if (height >= from && height <= to) return true;
    return false;
  }
}
