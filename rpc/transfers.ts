/** How many transfers of ciphertext run at a time, of all and of each account. */
import { RpcError } from './errors.ts';

/** Uploads and downloads that run: every one holds a few chunks of 1 MiB. */
export class Transfers {
  readonly #perAccount: number;
  readonly #all: number;
  readonly #running = new Map<string, number>();
  #count = 0;

  constructor(perAccount: number, all: number) {
    this.#perAccount = perAccount;
    this.#all = all;
  }

  /** @returns what ends it, to be called once or more @throws RpcError RATE_LIMITED */
  begin(key: string): () => void {
    const own = this.#running.get(key) ?? 0;
    if (own >= this.#perAccount || this.#count >= this.#all) {
      throw new RpcError('RATE_LIMITED', 'Too many transfers at a time; wait for one to end.', 'TOO_MANY_TRANSFERS');
    }
    this.#running.set(key, own + 1);
    this.#count += 1;
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      this.#count -= 1;
      const left = (this.#running.get(key) ?? 1) - 1;
      if (left === 0) this.#running.delete(key);
      else this.#running.set(key, left);
    };
  }
}
