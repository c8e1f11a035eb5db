/**
 * What this node knows of the agreement, for operators and for readiness: who leads, who is up, how far the others are.
 * Nothing here decides anything about the chain.
 */
import { equalBytes } from '../../common/bytes.ts';
import { assert } from '../../common/errors.ts';
import type { Height } from '../../common/protocol/primitives.ts';
import { faultTolerance } from '../../common/protocol/validator-set.ts';
import { leaderOf, leaderOrder } from '../../consensus/leader-order.ts';
import type { ConsensusPort, ConsensusState, NodeStatus, ValidatorLiveness } from '../../rpc/ports.ts';
import type { Executor } from '../execution/executor.ts';
import type { Network } from '../network/types.ts';
import type { HostView } from './host-view.ts';

export interface ConsensusViewParts {
  readonly executor: Pick<Executor, 'head'>;
  readonly host: HostView;
  readonly network: Pick<Network, 'peers'>;
  /** Address of this node's SM2 key. */
  readonly self: Uint8Array;
}

export class ConsensusView implements ConsensusPort {
  readonly #parts: ConsensusViewParts;

  constructor(parts: ConsensusViewParts) {
    this.#parts = parts;
  }

  get isValidator(): boolean {
    const { executor, self } = this.#parts;
    return executor.head.validators.some(({ address }) => equalBytes(address, self));
  }

  state(): ConsensusState {
    const { executor, host } = this.#parts;
    const { head } = executor;
    const height = head.height + 1;
    const reported = host.phase();
    // What was reported before the last block is over.
    const isNow = reported.height === height;
    const view = isNow ? reported.view : 0;
    const order = leaderOrder(height, head.validators.length, head.leaders);
    const leader = head.validators[leaderOf(order, view)];
    assert(leader !== undefined, 'every view has a leader');
    const phase = this.isValidator ? (isNow ? reported.phase : 'idle') : 'observing';
    return { height, view, leader: leader.address, phase };
  }

  validators(): readonly ValidatorLiveness[] {
    const { executor, host, network, self } = this.#parts;
    const connected = network.peers().filter((peer) => peer.connected);
    return host.validators().map((seen) => {
      if (!equalBytes(seen.address, self)) {
        return { ...seen, connected: connected.some(({ member }) => equalBytes(member.address, seen.address)) };
      }
      // Of itself a node hears nothing.
      return { ...seen, connected: true, executedHeight: executor.head.height };
    });
  }

  status(): NodeStatus {
    const { host } = this.#parts;
    const { stall, warnings } = host.alarms();
    const highestKnownHeight = this.#highestKnown();
    return { syncing: host.syncing(), highestKnownHeight, stalledReason: stall, warnings };
  }

  /** Whether this node has what the others have, as far as it can know. */
  isCurrent(): boolean {
    const { host } = this.#parts;
    return host.hasHeard() && !host.syncing();
  }

  /** Heights that the other validators say they have executed. */
  #others(): readonly Height[] {
    const { host, self } = this.#parts;
    return host
      .validators()
      .filter(({ address }) => !equalBytes(address, self))
      .flatMap(({ executedHeight }) => executedHeight ?? []);
  }

  /** What at least one honest validator has: f of them may claim anything. Who hears no statuses goes by claims. */
  #highestKnown(): Height {
    const { executor, host } = this.#parts;
    const own = executor.head.height;
    if (!this.isValidator) return Math.max(own, host.highestClaimed());
    const heights = [...this.#others()].sort((a, b) => b - a);
    return Math.max(own, heights[faultTolerance(executor.head.validators.length)] ?? 0);
  }
}
