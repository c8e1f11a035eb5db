/** The vm's judgements over the state after the last durable block. */
import type { AccessPort } from '../../rpc/ports.ts';
import { checkAccess, explainRequest } from '../../vm/index.ts';
import type { Clock } from '../clock.ts';
import type { Executor } from '../execution/executor.ts';

export function createAccessPort(executor: Pick<Executor, 'state'>, clock: Pick<Clock, 'nowMs'>): AccessPort {
  /** An idle chain must not show what has run out as valid, nor a slow clock what block time says is over. */
  function now() {
    const { reader, height, hash, timestampMs } = executor.state;
    return { reader, at: { height, hash }, atMs: Math.max(timestampMs, clock.nowMs()) };
  }

  return {
    // Async, so that a failure of the disk is a rejection.
    explainRequest: async (requestHash) => {
      const { reader, at, atMs } = now();
      return Promise.resolve({ at, explanation: explainRequest(reader, requestHash, atMs) });
    },
    checkAccess: async (question) => {
      const { reader, at, atMs } = now();
      return Promise.resolve({ at, decision: checkAccess(reader, { ...question, atMs }) });
    },
  };
}
