/** Time as the node sees it: one port, so that tests can stop a node's clock as a crash would. */

/** Longer timers would overflow the platform's 31 bits and fire at once. */
const MAX_DELAY_MS = 2 ** 31 - 1;

export interface Clock {
  /** Milliseconds since 1970, UTC. May jump. */
  nowMs(): number;
  /** Calls once after `delayMs`, unless the function that it returns was called before. */
  after(delayMs: number, call: () => void): () => void;
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  after(delayMs, call) {
    const timer = setTimeout(call, Math.min(Math.max(0, delayMs), MAX_DELAY_MS));
    return () => clearTimeout(timer);
  },
};
