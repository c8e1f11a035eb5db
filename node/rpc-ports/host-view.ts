/**
 * What the RPC's ports need to know of consensus and sync, and no more: things to look at, nothing to steer. The node
 * gives it from its host, observations and syncer.
 */
import type { Height, View } from '../../common/protocol/primitives.ts';
import type { Phase } from '../../consensus/types.ts';
import type { Alarms } from '../alarms/alarm-watch.ts';
import type { ValidatorSeen } from '../host/observations.ts';
import type { CommittedBlock } from '../storage/chain-store.ts';

export interface HostView {
  /** Called after each block, in order, once its whole batch is on disk and the executor stands at it. */
  onCommitted(listener: (committed: CommittedBlock) => void): () => void;
  /** Where the core stood when it last said so. */
  phase(): { readonly height: Height; readonly view: View; readonly phase: Phase };
  /** One for each validator of the next height, this node included if it is one. */
  validators(): readonly ValidatorSeen[];
  /** Why no block comes although one is due, and what else an operator should know. */
  alarms(): Alarms;
  /** Whether, since the start, enough others have said how far they are. */
  hasHeard(): boolean;
  /** Whether blocks are being fetched that others have. */
  syncing(): boolean;
  /** Highest height that any member claimed, at least the own: a hint. */
  highestClaimed(): Height;
}
