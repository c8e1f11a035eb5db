/**
 * States in memory that are not on disk yet. What blocks say is, and their states follow from them: so the nodes of many
 * blocks go to disk together, with the batch of the last of these blocks. A node that one of them made and a later one left
 * behind, as nearly all near the root are, never goes there, nor has it to be deleted again.
 */
import { concatBytes, readU16be, readU32be } from '../../common/bytes.ts';
import { assert } from '../../common/errors.ts';
import type { Height } from '../../common/protocol/primitives.ts';
import { nodeKey } from '../../vm/state-tree/index.ts';
import type { Write } from './key-value-store.ts';
import { storageKey } from './keyspace.ts';
import type { StateReaders } from './state-readers.ts';

/** Names of state nodes: version in 6 bytes, number in 4. */
const STATE_NODE_NAME_BYTES = 10;
/** How many states wait for the disk, and the bytes of their nodes. After a crash these blocks are executed again. */
export const MAX_UNWRITTEN_BLOCKS = 128;
export const MAX_UNWRITTEN_BYTES = 8 * 1024 * 1024;

/** What a block changes in the state, as it is stored. */
export interface StateChange {
  /** `encodeRoot` of the tree after the block. */
  readonly root: Uint8Array;
  /** All that the block made, in the order of their numbers. */
  readonly newNodes: readonly { readonly key: Uint8Array; readonly bytes: Uint8Array }[];
  /** Names of the nodes that the tree before used and this one does not, 10 bytes each. */
  readonly staleNodes: readonly Uint8Array[];
}

const versionOf = (name: Uint8Array): Height =>
  (readU16be(name, 0) as number) * 0x1_0000_0000 + (readU32be(name, 2) as number);
const sequenceOf = (name: Uint8Array): number => readU32be(name, 6) as number;

/** The nodes that one block made, one behind the other: an array of its own for each would take more than it holds. */
class BlockNodes {
  readonly #bytes: Uint8Array;
  readonly #ends: Uint32Array;
  /** 1 for those that a later block left behind. */
  readonly #left: Uint8Array;

  constructor(nodes: StateChange['newNodes']) {
    this.#ends = new Uint32Array(nodes.length);
    this.#left = new Uint8Array(nodes.length);
    let end = 0;
    nodes.forEach(({ bytes }, sequence) => {
      end += bytes.length;
      this.#ends[sequence] = end;
    });
    this.#bytes = new Uint8Array(end);
    nodes.forEach(({ bytes }, sequence) => this.#bytes.set(bytes, this.#startOf(sequence)));
  }

  get lengthBytes(): number {
    return this.#bytes.length;
  }

  at(sequence: number): Uint8Array | undefined {
    const end = this.#ends[sequence];
    return end === undefined ? undefined : this.#bytes.subarray(this.#startOf(sequence), end);
  }

  leave(sequence: number): void {
    this.#left[sequence] = 1;
  }

  /** Puts of those that are still in use. */
  writesTo(writes: Write[], version: Height): void {
    for (let sequence = 0; sequence < this.#ends.length; sequence += 1) {
      if (this.#left[sequence] === 1) continue;
      writes.push({
        type: 'put',
        key: storageKey.stateNode(nodeKey({ version, sequence })),
        value: this.at(sequence) as Uint8Array,
      });
    }
  }

  #startOf(sequence: number): number {
    return sequence === 0 ? 0 : (this.#ends[sequence - 1] as number);
  }
}

/** Blocks whose states go to disk with that of the last of them. */
interface Span {
  readonly from: Height;
  to: Height;
  readonly blocks: Map<Height, BlockNodes>;
}

export class RecentStates {
  readonly #readers: StateReaders;
  readonly #everyBlocks: number;
  #stored: Height;
  #span: Span;
  /** Names of nodes on disk that the blocks since then have left behind, 10 bytes each; an array for each block. */
  #stale: Uint8Array[] = [];
  #root: Uint8Array | null = null;
  #bytes = 0;
  /** Those that are being written, and older ones that somebody reads a state of. */
  #earlier: Span[] = [];

  /** @param everyBlocks a state goes to disk after so many blocks at most */
  constructor(readers: StateReaders, stored: Height, everyBlocks: number) {
    this.#readers = readers;
    this.#everyBlocks = everyBlocks;
    this.#stored = stored;
    this.#span = spanAfter(stored);
  }

  /** Height of the last state that is on disk, or in a batch that will be. */
  get stored(): Height {
    return this.#stored;
  }

  /** Whether the last state should go to disk with its block. */
  get isDue(): boolean {
    return this.#span.to - this.#stored >= this.#everyBlocks || this.#bytes >= MAX_UNWRITTEN_BYTES;
  }

  /** The state after the next block. */
  add(height: Height, { root, newNodes, staleNodes }: StateChange): void {
    assert(height === this.#span.to + 1, 'states are added one after the other');
    const nodes = new BlockNodes(newNodes);
    this.#span.blocks.set(height, nodes);
    this.#span.to = height;
    this.#bytes += nodes.lengthBytes;
    this.#root = root;
    const stored = staleNodes.filter((name) => !this.#leave(name));
    if (stored.length > 0) this.#stale.push(joined(stored));
  }

  /** @returns false for a node that is on disk */
  #leave(name: Uint8Array): boolean {
    assert(name.length === STATE_NODE_NAME_BYTES, 'a state node has a name of 10 bytes');
    const own = this.#span.blocks.get(versionOf(name));
    own?.leave(sequenceOf(name));
    return own !== undefined;
  }

  /** A node by its 10-byte name, if it is here. */
  node(name: Uint8Array): Uint8Array | undefined {
    const version = versionOf(name);
    if (version > this.#stored) return this.#span.blocks.get(version)?.at(sequenceOf(name));
    for (const { from, to, blocks } of this.#earlier) {
      if (version >= from && version <= to) return blocks.get(version)?.at(sequenceOf(name));
    }
    return undefined;
  }

  /** What brings the last state to disk: for the batch of its block. `written` follows when that is there. */
  writesTo(writes: Write[]): void {
    if (this.#root === null) return;
    const { to, blocks } = this.#span;
    for (const [version, nodes] of blocks) nodes.writesTo(writes, version);
    writes.push({ type: 'put', key: storageKey.stateRoot(to), value: this.#root });
    if (this.#stale.length > 0)
      writes.push({ type: 'put', key: storageKey.stateStale(to), value: concatBytes(...this.#stale) });
    this.#earlier.push(this.#span);
    this.#begin(to);
  }

  /**
   * What `writesTo` gave is on disk. Who reads a state in the middle of a span may still want what never came there; once
   * nobody does, nobody will: only the last state is begun with, or one on disk.
   */
  written(): void {
    this.#earlier = this.#earlier.filter(({ from, to }) => this.#readers.isRead(from, to));
  }

  /** A state came to disk by another way: nothing before it counts. */
  restart(stored: Height): void {
    this.#earlier = [];
    this.#begin(stored);
  }

  #begin(stored: Height): void {
    this.#stored = stored;
    this.#span = spanAfter(stored);
    this.#stale = [];
    this.#root = null;
    this.#bytes = 0;
  }
}

const spanAfter = (height: Height): Span => ({ from: height + 1, to: height, blocks: new Map() });

function joined(names: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(names.length * STATE_NODE_NAME_BYTES);
  names.forEach((name, index) => bytes.set(name, index * STATE_NODE_NAME_BYTES));
  return bytes;
}
