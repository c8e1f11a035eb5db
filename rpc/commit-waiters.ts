/** Calls that wait for the block of their transaction. */
import type { Hash } from '../common/protocol/primitives.ts';
import { RpcError } from './errors.ts';
import { toHex } from './json.ts';
import type { ChainPort, TransactionPort } from './ports.ts';

export type Outcome =
  | { readonly kind: 'committed'; readonly height: number; readonly index: number }
  | { readonly kind: 'dropped'; readonly code: string; readonly message: string }
  | { readonly kind: 'timeout' };

type Listener = (outcome: Outcome) => void;

export class CommitWaiters {
  readonly #max: number;
  /** Transaction hash -> who waits for it. */
  readonly #waiting = new Map<string, Set<Listener>>();
  #count = 0;
  readonly #stops: readonly (() => void)[];

  constructor(chain: ChainPort, transactions: TransactionPort, max: number) {
    this.#max = max;
    this.#stops = [
      chain.onCommitted(({ height, txHashes }) => {
        if (this.#waiting.size === 0) return;
        txHashes.forEach((hash, index) => this.#settle(hash, { kind: 'committed', height, index }));
      }),
      transactions.onDropped(({ hash, code, message }) => this.#settle(hash, { kind: 'dropped', code, message })),
    ];
  }

  /**
   * Begins to wait; the caller submits afterwards, so that no notice is missed.
   * @throws RpcError RATE_LIMITED when too many wait already
   */
  begin(hash: Hash, timeoutMs: number, signal: AbortSignal): { readonly outcome: Promise<Outcome>; cancel(): void } {
    if (this.#count >= this.#max) {
      throw new RpcError('RATE_LIMITED', 'Too many calls wait for a block; use mode "accepted".', 'TOO_MANY_WAITERS');
    }
    this.#count += 1;
    const key = toHex(hash);
    let finish: Listener = () => {};
    const outcome = new Promise<Outcome>((resolve) => {
      let done = false;
      finish = (result) => {
        if (done) return;
        done = true;
        this.#count -= 1;
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
        this.#forget(key, finish);
        resolve(result);
      };
    });
    const onAbort = (): void => finish({ kind: 'timeout' });
    const timer = setTimeout(onAbort, timeoutMs);
    signal.addEventListener('abort', onAbort);
    if (signal.aborted) onAbort();
    else this.#remember(key, finish);
    return { outcome, cancel: onAbort };
  }

  stop(): void {
    for (const stop of this.#stops) stop();
    for (const listeners of [...this.#waiting.values()])
      for (const finish of [...listeners]) finish({ kind: 'timeout' });
  }

  #remember(key: string, listener: Listener): void {
    const listeners = this.#waiting.get(key) ?? new Set();
    listeners.add(listener);
    this.#waiting.set(key, listeners);
  }

  #forget(key: string, listener: Listener): void {
    const listeners = this.#waiting.get(key);
    listeners?.delete(listener);
    if (listeners?.size === 0) this.#waiting.delete(key);
  }

  #settle(hash: Hash, outcome: Outcome): void {
    for (const finish of [...(this.#waiting.get(toHex(hash)) ?? [])]) finish(outcome);
  }
}
