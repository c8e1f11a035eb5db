/**
 * Every key of the node's one database, in one place: a namespace byte, then fixed-width parts, integers big-endian so
 * that a range is in order of height. Whoever adds a kind of entry adds it here, and raises `DATA_FORMAT` when an older
 * node could not live with it.
 */
import { compareBytes, concatBytes, readU32be, readU64be, u32be, u64be, utf8 } from '../../common/bytes.ts';
import { assert } from '../../common/errors.ts';
import type { Hash, Height } from '../../common/protocol/primitives.ts';

/** Version of this layout. A database of a newer one is refused; older ones are migrated or refused by `ChainStore`. */
export const DATA_FORMAT = 3;

/** Namespace bytes. Never reuse one that was released. */
const META = 0x01;
const HEADER = 0x10;
const BODY = 0x11;
const SIDECAR = 0x12;
const CERTIFICATE = 0x13;
const RECEIPTS = 0x14;
const HEIGHT_BY_HASH = 0x15;
const TX_INDEX = 0x16;
const VALIDATOR_SET = 0x17;
const HANDOVER = 0x18;
const STATE_NODE = 0x20;
const STATE_ROOT = 0x21;
const STATE_STALE = 0x22;
const STATE_PIN = 0x23;
const STATE_HELD = 0x24;
const SAFETY = 0x30;
const VOTED_BLOCK = 0x31;
const BLOB_INDEX = 0x40;
const RESTORE = 0x50;

const key = (namespace: number, ...parts: readonly Uint8Array[]): Uint8Array =>
  concatBytes(Uint8Array.of(namespace), ...parts);

export type MetaName =
  | 'format'
  | 'chainId'
  | 'genesis'
  | 'head'
  /** Height of the last state that is stored, and the leader history for the height after it. */
  | 'stateHead'
  | 'leaders'
  | 'prunedBelow'
  | 'lowestBlock';

export const storageKey = {
  meta: (name: MetaName): Uint8Array => key(META, utf8(name)),
  header: (height: Height): Uint8Array => key(HEADER, u64be(height)),
  /** The block's signed transactions. */
  body: (height: Height): Uint8Array => key(BODY, u64be(height)),
  /** Alone, so that one can be erased while its block stays whole. */
  sidecar: (height: Height, txIndex: number): Uint8Array => key(SIDECAR, u64be(height), u32be(txIndex)),
  certificate: (height: Height): Uint8Array => key(CERTIFICATE, u64be(height)),
  receipts: (height: Height): Uint8Array => key(RECEIPTS, u64be(height)),
  heightByHash: (blockHash: Hash): Uint8Array => key(HEIGHT_BY_HASH, blockHash),
  txIndex: (txHash: Hash): Uint8Array => key(TX_INDEX, txHash),
  /** A validator set by its hash, which headers carry. */
  validatorSet: (setHash: Hash): Uint8Array => key(VALIDATOR_SET, setHash),
  /** `nodeKey` is the state tree's own name of a node, 10 bytes. */
  stateNode: (nodeKey: Uint8Array): Uint8Array => {
    // The hottest key of all: built by hand.
    const built = new Uint8Array(1 + nodeKey.length);
    built[0] = STATE_NODE;
    built.set(nodeKey, 1);
    return built;
  },
  /** After a block whose state is stored: not each one's is. */
  stateRoot: (height: Height): Uint8Array => key(STATE_ROOT, u64be(height)),
  /** Names of the nodes that the stored state of this height does not use, and the one stored before it does. */
  stateStale: (height: Height): Uint8Array => key(STATE_STALE, u64be(height)),
  /** A height whose state is kept, whatever is pruned around it. */
  statePin: (height: Height): Uint8Array => key(STATE_PIN, u64be(height)),
  /** Names of nodes that the block at `stale` made unreachable, and that the pinned state still uses. */
  stateHeld: (pin: Height, stale: Height): Uint8Array => key(STATE_HELD, u64be(pin), u64be(stale)),
  /** A height whose header names another set for the next one. */
  handover: (height: Height): Uint8Array => key(HANDOVER, u64be(height)),
  /** A state that is being fetched: what it is of, and how far it has come. */
  restore: (part: 'target' | 'progress'): Uint8Array => key(RESTORE, utf8(part)),
  /** What the consensus core promised last: one record, replaced before every vote. */
  safetyRecord: (): Uint8Array => key(SAFETY),
  /** Body of a block that this node voted for and that is not committed yet. */
  votedBlock: (blockHash: Hash): Uint8Array => key(VOTED_BLOCK, blockHash),
  blobIndex: (name: string): Uint8Array => key(BLOB_INDEX, utf8(name)),
} as const;

/** All keys that begin with `prefix`, which is not all 0xff. */
function prefixed(prefix: Uint8Array): { readonly gte: Uint8Array; readonly lt: Uint8Array } {
  const lt = prefix.slice();
  for (let at = lt.length - 1; ; at -= 1) {
    const byte = lt[at] as number;
    if (byte !== 0xff) {
      lt[at] = byte + 1;
      return { gte: prefix, lt: lt.subarray(0, at + 1) };
    }
  }
}

export const storageRange = {
  sidecarsOf: (height: Height) => prefixed(key(SIDECAR, u64be(height))),
  votedBlocks: () => prefixed(key(VOTED_BLOCK)),
  /** Roots from one height to another, which is not included. */
  stateRoots: (from: Height, before: Height) => ({
    gte: key(STATE_ROOT, u64be(from)),
    lt: key(STATE_ROOT, u64be(before)),
  }),
  /** Lists of stale nodes, from one height to another, which is included. */
  stale: (from: Height, to: Height) => ({ gte: key(STATE_STALE, u64be(from)), lt: key(STATE_STALE, u64be(to + 1)) }),
  statePins: () => prefixed(key(STATE_PIN)),
  stateHeld: () => prefixed(key(STATE_HELD)),
  /** Nodes of the versions before this one. */
  stateNodesBefore: (height: Height) => ({
    gte: key(STATE_NODE),
    lt: key(STATE_NODE, u64be(height).subarray(2)),
  }),
  /** Nodes of one version. */
  stateNodesOf: (height: Height) => prefixed(key(STATE_NODE, u64be(height).subarray(2))),
  handoversFrom: (height: Height) => ({ gte: key(HANDOVER, u64be(height)), lt: key(HANDOVER + 1) }),
  blobIndex: (prefix: string, after?: string) => {
    const range = prefixed(key(BLOB_INDEX, utf8(prefix)));
    if (after === undefined) return range;
    // The least key that sorts after `after`.
    const next = concatBytes(key(BLOB_INDEX, utf8(after)), Uint8Array.of(0));
    return { gte: compareBytes(next, range.gte) > 0 ? next : range.gte, lt: range.lt };
  },
} as const;

/** Index of the transaction in the key of a sidecar. */
export function sidecarIndexOf(storedKey: Uint8Array): number {
  const index = readU32be(storedKey, storedKey.length - 4);
  assert(index !== undefined, 'stored sidecar: key too short');
  return index;
}

/** The height that ends the key of a header, a root, a stale list. */
export function heightOf(storedKey: Uint8Array): Height {
  const height = readU64be(storedKey, storedKey.length - 8);
  assert(height !== undefined, 'stored key: no height in it');
  return height;
}

/** The pin and the stale height in the key of a list of held nodes. */
export function heldOf(storedKey: Uint8Array): { readonly pin: Height; readonly stale: Height } {
  const pin = readU64be(storedKey, 1);
  assert(pin !== undefined, 'stored list of held nodes: key too short');
  return { pin, stale: heightOf(storedKey) };
}

/** The name in a key of the blob index. */
export function blobNameOf(storedKey: Uint8Array): string {
  return String.fromCharCode(...storedKey.subarray(1));
}
