/**
 * A state that is being put together from pieces, on disk: which one, what is still missing, and its tree so far. Each piece
 * is one synced batch, so that a node that was killed goes on where it was. What is here is nobody's state until the
 * chain store adopts its block.
 */
import { boundedBytes, decodeTrusted, encode, list, struct, type TypeOf, uint } from '../../common/codec.ts';
import { assert } from '../../common/errors.ts';
import { type BlockHeader, blockHeader } from '../../common/protocol/block.ts';
import { handover } from '../../common/protocol/light.ts';
import { MAX_BLOCK_TXS } from '../../common/protocol/primitives.ts';
import { stateKey, validatorsEntry } from '../../common/protocol/state-entries.ts';
import type { StateEntry } from '../../common/protocol/state-tree.ts';
import type { ValidatorSet } from '../../common/protocol/validator-set.ts';
import {
  applyWrites,
  decodeRoot,
  encodeRoot,
  get,
  nodeKey,
  type NodeReader,
  rootHashOf,
  type TreeRoot,
} from '../../vm/state-tree/index.ts';
import { certifiedBlock } from '../host/wire.ts';
import type { KeyValueStore, Write } from '../storage/key-value-store.ts';
import { storageKey, storageRange } from '../storage/keyspace.ts';
import { type KeyRange, keyRange } from './wire.ts';

/** Changes of the validator set since the genesis that a newcomer follows: decades of them. */
export const MAX_TRUST_STEPS = 4_096;
/** Pieces of the key space that are missing at a time: a few for each peer that is asked. */
export const MAX_OPEN_RANGES = 64;
/** Receipts of one block: 2,000 of some 2 KiB, with room. */
export const MAX_RECEIPTS_BYTES = 16 * 1024 * 1024;
/** Nodes deleted at a time when a state is given up. */
const DELETED_AT_A_TIME = 5_000;

/** Everything that is known of the block before its state is here, all of it verified. */
export const restoreTarget = struct({
  certified: certifiedBlock,
  receipts: list(boundedBytes(1, MAX_RECEIPTS_BYTES), MAX_BLOCK_TXS + 1),
  handovers: list(handover, MAX_TRUST_STEPS),
});
export type RestoreTarget = TypeOf<typeof restoreTarget>;

export const restoreProgress = struct({
  /** `encodeRoot` of the tree so far. */
  root: boundedBytes(0, 64),
  nextSequence: uint(0xffff_ffff),
  open: list(keyRange, MAX_OPEN_RANGES),
});

export const headerOf = (target: RestoreTarget): BlockHeader =>
  decodeTrusted(blockHeader, target.certified.block.header, 'header of a snapshot');

export class RestoreStore {
  readonly #kv: KeyValueStore;
  readonly #nodes: NodeReader;
  #target: RestoreTarget | null = null;
  #root: TreeRoot = null;
  #nextSequence = 0;
  #open: readonly KeyRange[] = [];

  /** Use `openRestoreStore`. */
  constructor(kv: KeyValueStore) {
    this.#kv = kv;
    this.#nodes = { getNode: (ref) => kv.getSync(storageKey.stateNode(nodeKey(ref))) };
    const stored = kv.getSync(storageKey.restore('target'));
    const progress = kv.getSync(storageKey.restore('progress'));
    if (stored === undefined) return;
    this.#target = decodeTrusted(restoreTarget, stored, 'target of a restore');
    if (progress === undefined) return;
    const { root, nextSequence, open } = decodeTrusted(restoreProgress, progress, 'progress of a restore');
    this.#root = decodeRoot(root);
    this.#nextSequence = nextSequence;
    this.#open = open;
  }

  /** Null when nothing is being restored. */
  get target(): RestoreTarget | null {
    return this.#target;
  }

  /** Whether a restore was being given up when the node stopped. */
  get isAbandoned(): boolean {
    return this.#target !== null && this.#kv.getSync(storageKey.restore('progress')) === undefined;
  }

  /** What is still missing, in no particular order. */
  get open(): readonly KeyRange[] {
    return this.#open;
  }

  get rootHash(): Uint8Array {
    return rootHashOf(this.#root);
  }

  get encodedRoot(): Uint8Array {
    return encodeRoot(this.#root);
  }

  /** The set for the next height, once the whole state is there. */
  validators(): ValidatorSet {
    const value = get(this.#nodes, this.#root, stateKey.validators());
    assert(value !== undefined, 'the state has no validators');
    return decodeTrusted(validatorsEntry, value, 'validator set');
  }

  async begin(target: RestoreTarget): Promise<void> {
    assert(this.#target === null, 'one state is restored at a time');
    const open = [{ gte: new Uint8Array(0), lt: null }];
    await this.#kv.write(
      [
        { type: 'put', key: storageKey.restore('target'), value: encode(restoreTarget, target) },
        progressWrite(null, 0, open),
      ],
      { sync: true },
    );
    this.#target = target;
    this.#open = open;
  }

  /**
   * Adds proven entries to the tree.
   * @param open what is missing afterwards
   */
  async add(entries: readonly StateEntry[], open: readonly KeyRange[]): Promise<void> {
    assert(this.#target !== null, 'nothing is being restored');
    const { height } = headerOf(this.#target);
    const { root, newNodes, staleNodes } = applyWrites(this.#nodes, this.#root, entries, height, this.#nextSequence);
    const nextSequence = this.#nextSequence + newNodes.length;
    const writes: Write[] = newNodes.map(({ key, bytes }) => ({
      type: 'put',
      key: storageKey.stateNode(key),
      value: bytes,
    }));
    for (const ref of staleNodes) writes.push({ type: 'del', key: storageKey.stateNode(nodeKey(ref)) });
    writes.push(progressWrite(root, nextSequence, open));
    await this.#kv.write(writes, { sync: true });
    this.#root = root;
    this.#nextSequence = nextSequence;
    this.#open = open;
  }

  /** Deletes all of it. */
  async abandon(): Promise<void> {
    if (this.#target === null) return;
    const { height } = headerOf(this.#target);
    // From here on nobody takes the tree for one that can be gone on with.
    await this.#kv.write([{ type: 'del', key: storageKey.restore('progress') }], { sync: true });
    for (;;) {
      const found = await this.#kv.scan({ ...storageRange.stateNodesOf(height), limit: DELETED_AT_A_TIME });
      if (found.length === 0) break;
      await this.#kv.write(
        found.map(({ key }) => ({ type: 'del', key })),
        { sync: true },
      );
    }
    await this.#kv.write([{ type: 'del', key: storageKey.restore('target') }], { sync: true });
    this.#forget();
  }

  /** The chain store has adopted it, and with that deleted what was noted here. */
  adopted(): void {
    this.#forget();
  }

  #forget(): void {
    this.#target = null;
    this.#root = null;
    this.#nextSequence = 0;
    this.#open = [];
  }
}

function progressWrite(root: TreeRoot, nextSequence: number, open: readonly KeyRange[]): Write {
  const value = encode(restoreProgress, { root: encodeRoot(root), nextSequence, open: [...open] });
  return { type: 'put', key: storageKey.restore('progress'), value };
}
