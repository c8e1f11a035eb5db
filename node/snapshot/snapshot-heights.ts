/** At which heights a newcomer can begin, and which of them are kept. */
import type { Height } from '../../common/protocol/primitives.ts';
import { leaderSpanStart } from '../../consensus/leader-order.ts';

/**
 * Whether the next height's order of leaders depends on nothing but the state after `height`: a new span begins there,
 * with nobody demoted. At another height a newcomer would have to be told whom earlier headers demoted, and under which
 * value of a parameter, which it cannot check.
 */
export function isSnapshotHeight(height: Height, demotionBlocks: number): boolean {
  return height > 0 && leaderSpanStart(height + 1, demotionBlocks) === height + 1;
}

/**
 * Of the heights that a newcomer can begin at, one every so many blocks, or each where they are farther apart.
 * @param everyBlocks none when 0
 */
export function isRegularSnapshot(
  { height, params }: { readonly height: Height; readonly params: { readonly leaderDemotionBlocks: number } },
  everyBlocks: number,
): boolean {
  const { leaderDemotionBlocks } = params;
  if (everyBlocks === 0 || !isSnapshotHeight(height, leaderDemotionBlocks)) return false;
  // Multiples, so that all members that have the same setting keep the same heights.
  const span = Math.max(1, leaderDemotionBlocks);
  const every = Math.ceil(everyBlocks / span) * span;
  return (height + 1) % every === 0;
}
