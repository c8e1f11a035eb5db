/**
 * Who leads view v of height h. The order rotates by height, and puts validators that were passed over lately last, so
 * that a dead validator costs one view timeout for each span of heights and not one for each of its turns [L1-L4].
 *
 * It is computed from committed headers alone. Spans are fixed (heights k*W .. k*W + W - 1, W = `leaderDemotionBlocks`)
 * and begin with nobody demoted: who starts or joins in the middle needs the headers of one span, never the whole chain.
 */
import { equalBytes } from '../common/bytes.ts';
import type { BlockHeader } from '../common/protocol/block.ts';
import type { Height, View } from '../common/protocol/primitives.ts';
import { faultTolerance } from '../common/protocol/validator-set.ts';
import type { LeaderHistory } from './types.ts';

export const NO_LEADER_HISTORY: LeaderHistory = { skippedAt: new Map() };

/**
 * The first height whose header takes part in the order of `height`: the start of its span. Fold `nextLeaderHistory`
 * over the headers from there to `height - 1`; when it equals `height`, the history is `NO_LEADER_HISTORY`.
 */
export function leaderSpanStart(height: Height, demotionBlocks: number): Height {
  if (demotionBlocks === 0) return height;
  return Math.max(1, height - (height % demotionBlocks));
}

/**
 * The history for height `header.height + 1` [L3].
 * @param previous the history for `header.height`
 * @param validators the set that certified `header`, in its order
 * @param demotionBlocks the parameter as the state after `header` has it
 */
export function nextLeaderHistory(
  previous: LeaderHistory,
  header: BlockHeader,
  validators: readonly { readonly address: Uint8Array }[],
  demotionBlocks: number,
): LeaderHistory {
  const next = header.height + 1;
  if (leaderSpanStart(next, demotionBlocks) === next) return NO_LEADER_HISTORY;
  // Indices name validators of one set only.
  if (!equalBytes(header.validatorsHash, header.nextValidatorsHash)) return NO_LEADER_HISTORY;
  const count = validators.length;
  const order = leaderOrder(header.height, count, previous);
  const skippedAt = new Map(previous.skippedAt);
  // A view of n or more says that everybody was passed over, which tells nobody apart.
  const skipped = header.view < count ? order.slice(0, header.view) : [];
  for (const validator of skipped) skippedAt.set(validator, header.height);
  const proposer = validators.findIndex((v) => equalBytes(v.address, header.proposer));
  skippedAt.delete(proposer);
  return { skippedAt: latest(skippedAt, faultTolerance(count)) };
}

/** No more than f: more than that cannot all be faulty, and a bad network must not hand the lead to a few. */
function latest(skippedAt: ReadonlyMap<number, Height>, count: number): ReadonlyMap<number, Height> {
  const entries = [...skippedAt].sort(([a, atA], [b, atB]) => atB - atA || a - b);
  return new Map(entries.slice(0, count));
}

/** All validators' indices in the order in which they lead the views 0, 1, ... of `height`; view n is the first again. */
export function leaderOrder(height: Height, validatorCount: number, history: LeaderHistory): readonly number[] {
  const rotated = Array.from({ length: validatorCount }, (_, i) => ((height % validatorCount) + i) % validatorCount);
  const isDemoted = (validator: number): boolean => history.skippedAt.has(validator);
  return [...rotated.filter((v) => !isDemoted(v)), ...rotated.filter(isDemoted)];
}

export function leaderOf(order: readonly number[], view: View): number {
  return order[view % order.length] as number;
}
