/** The host view of a node. */
import type { EmrNode } from '../node.ts';
import type { HostView } from './host-view.ts';

export function hostViewOf(node: EmrNode): HostView {
  const { observations, syncer, executor, clock } = node;
  return {
    onCommitted: (listener) => node.onCommitted(listener),
    phase: () => observations.phase,
    validators: () => observations.validators(),
    stalledReason: () => {
      const { viewTimeoutMs } = executor.head.params;
      return observations.stall(clock.nowMs(), viewTimeoutMs, syncer.syncing)?.reason ?? null;
    },
    syncing: () => syncer.syncing,
    highestClaimed: () => syncer.highestClaimed,
  };
}
