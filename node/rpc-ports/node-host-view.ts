/** The host view of a node. */
import type { EmrNode } from '../node.ts';
import type { HostView } from './host-view.ts';

export function hostViewOf(node: EmrNode): HostView {
  const { observations, syncer, alarms } = node;
  return {
    onCommitted: (listener) => node.onCommitted(listener),
    phase: () => observations.phase,
    validators: () => observations.validators(),
    alarms: () => alarms.look(),
    hasHeard: () => alarms.hasHeard,
    syncing: () => syncer.syncing,
    highestClaimed: () => syncer.highestClaimed,
  };
}
