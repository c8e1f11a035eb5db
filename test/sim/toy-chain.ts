/**
 * Blocks for the simulator: transactions are opaque bytes and "execution" hashes them into a state root, so that a
 * wrong root, a wrong parent or a wrong body is found by executing, as in the real machine.
 */
import { bytesToHex, equalBytes, u32be } from '../../common/bytes.ts';
import { H } from '../../common/crypto/hash.ts';
import { merkleRoot } from '../../common/crypto/merkle.ts';
import { accept, reject, type Verdict } from '../../common/errors.ts';
import { type BlockHeader, blockHash, type Certificate, encodeHeader, txRootOf } from '../../common/protocol/block.ts';
import type { ProposedBlock } from '../../consensus/messages.ts';
import type { ToyConsortium } from './toy-crypto.ts';

export interface StoredBlock {
  readonly block: ProposedBlock;
  readonly certificate: Certificate;
}

export const MAX_DRIFT_MS = 2_000;
export const toyTx = (id: number): Uint8Array => H('sim/tx', u32be(id));
export const txKey = bytesToHex;

const stateRootOf = (parentHash: Uint8Array, txRoot: Uint8Array): Uint8Array => H('sim/state', parentHash, txRoot);
const receiptsRootOf = (txRoot: Uint8Array): Uint8Array => H('sim/receipts', txRoot);

/** The block that all chains begin with. */
export function toyGenesis(consortium: ToyConsortium): ProposedBlock {
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
  return sealBlock(header, []);
}

export function sealBlock(header: BlockHeader, txs: readonly Uint8Array[]): ProposedBlock {
  const bytes = encodeHeader(header);
  return { hash: blockHash(bytes), header, block: { header: bytes, txs, sidecars: txs.map(() => null) } };
}

export function buildBlock(
  consortium: ToyConsortium,
  parent: ProposedBlock,
  at: { readonly view: number; readonly proposer: number; readonly timestampMs: number },
  txs: readonly Uint8Array[],
): ProposedBlock {
  const txRoot = txRootOf(txs);
  const header: BlockHeader = {
    chainId: consortium.chainId,
    height: parent.header.height + 1,
    view: at.view,
    parentHash: parent.hash,
    timestampMs: at.timestampMs,
    proposer: consortium.signers[at.proposer]?.address ?? new Uint8Array(20),
    txRoot,
    receiptsRoot: receiptsRootOf(txRoot),
    stateRoot: stateRootOf(parent.hash, txRoot),
    validatorsHash: consortium.validatorsHash,
    nextValidatorsHash: consortium.validatorsHash,
  };
  return sealBlock(header, txs);
}

/** What a host checks by executing. `clockMs` is null where the block is exempt from the clock. */
export function executeBlock(
  consortium: ToyConsortium,
  parent: ProposedBlock,
  block: ProposedBlock,
  clockMs: number | null,
): Verdict {
  const { header } = block;
  if (header.height !== parent.header.height + 1 || !equalBytes(header.parentHash, parent.hash))
    return reject('PARENT', 'parent');
  if (!equalBytes(txRootOf(block.block.txs), header.txRoot)) return reject('TX_ROOT', 'transactions root');
  if (!equalBytes(receiptsRootOf(header.txRoot), header.receiptsRoot)) return reject('RECEIPTS_ROOT', 'receipts root');
  if (!equalBytes(stateRootOf(parent.hash, header.txRoot), header.stateRoot)) return reject('STATE_ROOT', 'state root');
  if (!equalBytes(header.nextValidatorsHash, consortium.validatorsHash)) return reject('NEXT_SET', 'next set');
  if (clockMs !== null && Math.abs(header.timestampMs - clockMs) > MAX_DRIFT_MS) return reject('CLOCK', 'clock drift');
  return accept(undefined);
}
