/**
 * Keeps some states for members that have none yet. A snapshot is no copy: it is an old version of the state that is not
 * pruned. A local matter; consensus knows nothing of it.
 */
import type { Height } from '../../common/protocol/primitives.ts';
import type { StateHistory } from '../storage/state-history.ts';
import { isRegularSnapshot, isSnapshotHeight } from './snapshot-heights.ts';

/** However many newcomers there are. The history itself takes twice as many pins. */
const MAX_KEPT = 8;

export interface SnapshotSettings {
  /** Heights between two snapshots, at least; 0 keeps none. */
  readonly everyBlocks: number;
  /** How many of the latest are kept. */
  readonly keep: number;
}

export interface SnapshotKeeperPorts {
  readonly settings: SnapshotSettings;
  readonly history: StateHistory;
  /** The head, and the parameter as its state has it. */
  head(): { readonly height: Height; readonly params: { readonly leaderDemotionBlocks: number } };
  /** Whether the state after a block is on disk. */
  hasState(height: Height): boolean;
  /** Puts the state of the head there. */
  storeHead(): Promise<void>;
  /** Whether a newcomer is fetching it. */
  isInUse(height: Height): boolean;
  /** A snapshot was made or dropped: there may be something to prune. */
  changed(height: Height): void;
  failed(error: unknown): void;
}

export class SnapshotKeeper {
  readonly #ports: SnapshotKeeperPorts;
  #work: Promise<unknown> = Promise.resolve();

  constructor(ports: SnapshotKeeperPorts) {
    this.#ports = ports;
  }

  /** Heights of the snapshots, ascending. */
  get heights(): readonly Height[] {
    return this.#ports.history.pins;
  }

  /** To be called with each block that is committed, once its state is there. */
  committed(): void {
    const head = this.#ports.head();
    if (!isRegularSnapshot(head, this.#ports.settings.everyBlocks)) return;
    const { height } = head;
    this.#work = this.create(height).catch((error: unknown) => this.#ports.failed(error));
  }

  /** On demand: the highest state that is there and that a newcomer can begin with. @returns its height; null if none is */
  async createLatest(): Promise<Height | null> {
    const { height: head, params } = this.#ports.head();
    const least = Math.max(1, this.#ports.history.prunedBelow);
    let height = head;
    const isOne = (at: Height): boolean => isSnapshotHeight(at, params.leaderDemotionBlocks);
    if (isOne(head)) await this.#ports.storeHead();
    while (height >= least && !(isOne(height) && this.#ports.hasState(height))) height -= 1;
    return height >= least && (await this.create(height)) ? height : null;
  }

  /**
   * Keeps the state of a height, and lets go of the oldest snapshots that are too many.
   * @returns false when that state is not there any more, or is none that a newcomer can begin with
   */
  async create(height: Height): Promise<boolean> {
    const { history, settings } = this.#ports;
    const { pins } = history;
    if (pins.includes(height)) return true;
    // One that is being fetched may finish, unless too many have come together.
    const tooMany = pins.slice(0, Math.max(0, pins.length + 1 - settings.keep));
    const dropped = tooMany.filter((old, index) => index < pins.length + 1 - MAX_KEPT || !this.#ports.isInUse(old));
    for (const old of dropped) await history.release(old);
    if (!(await history.pin(height))) return false;
    this.#ports.changed(height);
    return true;
  }

  /** Ends after what is being done. */
  async stop(): Promise<void> {
    await this.#work;
  }
}
