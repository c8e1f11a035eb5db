/** Token buckets by address and by account. Time comes from the caller. */
import { RpcError } from './errors.ts';
import { Lru } from './lru.ts';

interface Bucket {
  tokens: number;
  filledMs: number;
}

/** Some 100 bytes each. Whoever can make more addresses than this empties nobody's bucket but the oldest. */
const KEPT_BUCKETS = 20_000;
const MINUTE_MS = 60_000;

export class RateLimiter {
  readonly #perMinute: number;
  readonly #burst: number;
  readonly #now: () => number;
  readonly #buckets = new Lru<Bucket>(KEPT_BUCKETS);

  constructor(perMinute: number, now: () => number) {
    this.#perMinute = perMinute;
    // A batch at the least, or a page of the explorer would not load.
    this.#burst = Math.max(100, Math.ceil(perMinute / 6));
    this.#now = now;
  }

  /** Takes one call from the key's bucket. @throws RpcError RATE_LIMITED */
  take(key: string): void {
    const nowMs = this.#now();
    const bucket = this.#buckets.get(key) ?? { tokens: this.#burst, filledMs: nowMs };
    const gained = (Math.max(0, nowMs - bucket.filledMs) * this.#perMinute) / MINUTE_MS;
    bucket.tokens = Math.min(this.#burst, bucket.tokens + gained);
    bucket.filledMs = nowMs;
    this.#buckets.set(key, bucket);
    if (bucket.tokens < 1) throw new RpcError('RATE_LIMITED', 'Too many calls; wait a moment.', 'TOO_MANY_CALLS');
    bucket.tokens -= 1;
  }
}
