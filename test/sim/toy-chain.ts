/**
 * Blocks for the simulator: transactions are opaque bytes and "execution" hashes them into a state root, so that a
 * wrong root, a wrong parent or a wrong body is found by executing, as in the real machine. A few transactions change
 * the validator set of the next height: a member is added, removed, or takes its next key.
 */
import { bytesToHex, concatBytes, equalBytes, u32be } from '../../common/bytes.ts';
import { H } from '../../common/crypto/hash.ts';
import { merkleRoot } from '../../common/crypto/merkle.ts';
import { accept, reject, type Verdict } from '../../common/errors.ts';
import { type BlockHeader, blockHash, type Certificate, encodeHeader, txRootOf } from '../../common/protocol/block.ts';
import type { ProposedBlock } from '../../consensus/messages.ts';
import type { Seat, ToyConsortium, ToySet } from './toy-crypto.ts';

export interface StoredBlock {
  readonly block: ProposedBlock;
  readonly certificate: Certificate;
}

export const MAX_DRIFT_MS = 2_000;
/** How many members may be in a set beyond the founders. */
export const SPARE_MEMBERS = 3;
export const toyTx = (id: number): Uint8Array => H('sim/tx', u32be(id));
export const txKey = bytesToHex;

const CHANGES = ['add', 'remove', 'rotate'] as const;
export interface SetChange {
  readonly change: (typeof CHANGES)[number];
  readonly member: number;
}
const SET_CHANGE_BYTES = 6;

/** `id` makes two equal changes two transactions. */
export const setChangeTx = ({ change, member }: SetChange, id: number): Uint8Array =>
  concatBytes(Uint8Array.of(CHANGES.indexOf(change), member), u32be(id));

function setChangeOf(tx: Uint8Array): SetChange | null {
  const change = CHANGES[tx[0] as number];
  return tx.length === SET_CHANGE_BYTES && change !== undefined ? { change, member: tx[1] as number } : null;
}

/**
 * The set after these transactions. What makes no sense (adding who is there, removing a founder's worth of validators)
 * changes nothing: such a transaction is in the block and has no effect.
 */
function nextSet(consortium: ToyConsortium, set: ToySet, txs: readonly Uint8Array[]): ToySet {
  const least = consortium.founders.seats.length;
  let seats: readonly Seat[] = set.seats;
  for (const tx of txs) {
    const change = setChangeOf(tx);
    if (change === null) continue;
    const { member } = change;
    const seat = seats.find((s) => s.member === member);
    if (change.change === 'add' && seat === undefined && seats.length < least + SPARE_MEMBERS) {
      seats = [...seats, { member, key: 0 }];
    }
    if (change.change === 'remove' && seat !== undefined && seats.length > least) {
      seats = seats.filter((s) => s !== seat);
    }
    if (change.change === 'rotate' && seat !== undefined) {
      seats = seats.map((s) => (s === seat ? { member, key: s.key + 1 } : s));
    }
  }
  return seats === set.seats ? set : consortium.setOf(seats);
}

const stateRootOf = (parentHash: Uint8Array, txRoot: Uint8Array): Uint8Array => H('sim/state', parentHash, txRoot);
const receiptsRootOf = (txRoot: Uint8Array): Uint8Array => H('sim/receipts', txRoot);

/** The set that certifies the height after `parent`. */
export function setAfter(consortium: ToyConsortium, parent: ProposedBlock): ToySet {
  const set = consortium.namedSet(parent.header.nextValidatorsHash);
  if (set === undefined) throw new Error('a committed header names a set that was never made');
  return set;
}

const genesisBlocks = new WeakMap<ToyConsortium, ProposedBlock>();

/** The block that all chains begin with. */
export function toyGenesis(consortium: ToyConsortium): ProposedBlock {
  const known = genesisBlocks.get(consortium);
  if (known !== undefined) return known;
  const zero = new Uint8Array(32);
  const header: BlockHeader = {
    chainId: consortium.chainId,
    height: 0,
    view: 0,
    parentHash: zero,
    timestampMs: 0,
    proposer: new Uint8Array(20),
    txRoot: merkleRoot([]),
    receiptsRoot: merkleRoot([]),
    stateRoot: zero,
    validatorsHash: consortium.validatorsHash,
    nextValidatorsHash: consortium.validatorsHash,
  };
  const genesis = sealBlock(header, []);
  genesisBlocks.set(consortium, genesis);
  return genesis;
}

export function sealBlock(header: BlockHeader, txs: readonly Uint8Array[]): ProposedBlock {
  const bytes = encodeHeader(header);
  return { hash: blockHash(bytes), header, block: { header: bytes, txs, sidecars: txs.map(() => null) } };
}

/** @param at `proposer` is an index in the set that certifies the block */
export function buildBlock(
  consortium: ToyConsortium,
  parent: ProposedBlock,
  at: { readonly view: number; readonly proposer: number; readonly timestampMs: number },
  txs: readonly Uint8Array[],
): ProposedBlock {
  const txRoot = txRootOf(txs);
  const set = setAfter(consortium, parent);
  const header: BlockHeader = {
    chainId: consortium.chainId,
    height: parent.header.height + 1,
    view: at.view,
    parentHash: parent.hash,
    timestampMs: at.timestampMs,
    proposer: set.validators[at.proposer]?.address ?? new Uint8Array(20),
    txRoot,
    receiptsRoot: receiptsRootOf(txRoot),
    stateRoot: stateRootOf(parent.hash, txRoot),
    validatorsHash: set.hash,
    nextValidatorsHash: nextSet(consortium, set, txs).hash,
  };
  return sealBlock(header, txs);
}

const NOTHING: ReadonlySet<string> = new Set();

/**
 * What a host checks by executing.
 * @param clockMs null where the block is exempt from the clock
 * @param executed keys of the transactions of the chain up to `parent`: none is executed twice
 */
export function executeBlock(
  consortium: ToyConsortium,
  parent: ProposedBlock,
  block: ProposedBlock,
  clockMs: number | null,
  executed: ReadonlySet<string> = NOTHING,
): Verdict {
  const { header } = block;
  if (header.height !== parent.header.height + 1 || !equalBytes(header.parentHash, parent.hash))
    return reject('PARENT', 'parent');
  if (!equalBytes(txRootOf(block.block.txs), header.txRoot)) return reject('TX_ROOT', 'transactions root');
  if (!equalBytes(receiptsRootOf(header.txRoot), header.receiptsRoot)) return reject('RECEIPTS_ROOT', 'receipts root');
  if (!equalBytes(stateRootOf(parent.hash, header.txRoot), header.stateRoot)) return reject('STATE_ROOT', 'state root');
  const keys = new Set(block.block.txs.map(txKey));
  if (keys.size < block.block.txs.length || [...keys].some((key) => executed.has(key)))
    return reject('REPLAY', 'a transaction twice');
  const set = setAfter(consortium, parent);
  if (!equalBytes(header.validatorsHash, set.hash)) return reject('SET', 'validator set');
  if (!equalBytes(header.nextValidatorsHash, nextSet(consortium, set, block.block.txs).hash))
    return reject('NEXT_SET', 'next set');
  if (clockMs !== null && Math.abs(header.timestampMs - clockMs) > MAX_DRIFT_MS) return reject('CLOCK', 'clock drift');
  return accept(undefined);
}
