/**
 * The replay set: (account, nonce) of every transaction until its validity is over, under the state root and in order of
 * time. An entry that is past its time proves nothing that TX_EXPIRED does not, so that pruning it late is harmless.
 */
import { prefixRange, emptyEntry, stateKey, statePrefix } from '../common/protocol/state-entries.ts';
import type { TimeMs } from '../common/protocol/primitives.ts';
import type { TransactionBody } from '../common/protocol/transaction.ts';
import { PRUNED_PER_BLOCK, PRUNED_PER_TX } from './limits.ts';
import type { Overlay } from './overlay.ts';

const keyOf = (body: TransactionBody): Uint8Array => stateKey.replay(body.validUntilMs, body.account, body.nonce);

export const isReplay = (state: Overlay, body: TransactionBody): boolean =>
  state.get(emptyEntry, keyOf(body)) !== undefined;

export const remember = (state: Overlay, body: TransactionBody): void => state.put(emptyEntry, keyOf(body), {});

/** Forgets what nobody can replay any more. Reads the committed state alone: this block's own entries are still valid. */
export function pruneReplays(state: Overlay, now: TimeMs, included: number): void {
  const { gte } = prefixRange(statePrefix.replay());
  const lt = stateKey.replay(now, new Uint8Array(20), new Uint8Array(16));
  const limit = PRUNED_PER_BLOCK + PRUNED_PER_TX * included;
  for (const { key } of [...state.base.range({ gte, lt, limit })]) state.delete(key, true);
}
