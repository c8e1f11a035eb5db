/** A state of chosen entries under a header that chosen validators have certified, and proofs of it. */
import type { Sm2Signer } from '../../common/crypto/sm2.ts';
import { type BlockHeader, blockHash, encodeHeader } from '../../common/protocol/block.ts';
import type { CertifiedHeader } from '../../common/protocol/light.ts';
import { voteSigningHash } from '../../common/protocol/signing.ts';
import { type ValidatorSet, validatorSetHash } from '../../common/protocol/validator-set.ts';
import { applyWrites, EMPTY, nodeKey, proveKey } from '../../vm/state-tree/index.ts';

export interface CertifiedState {
  readonly head: CertifiedHeader;
  proof(key: Uint8Array): Uint8Array;
}

const filled = (length: number, value: number) => new Uint8Array(length).fill(value);
const keyText = (ref: { version: number; sequence: number }) => Buffer.from(nodeKey(ref)).toString('hex');

export function certifiedState(of: {
  readonly chainId: Uint8Array;
  readonly validators: ValidatorSet;
  /** In any order. */
  readonly signers: readonly Sm2Signer[];
  /** Indices of those who sign; three of four by default. */
  readonly signedBy?: readonly number[];
  readonly entries: readonly (readonly [Uint8Array, Uint8Array])[];
  readonly height: number;
  readonly timestampMs: number;
}): CertifiedState {
  const { chainId, validators, signers, signedBy = [0, 1, 2], height, timestampMs } = of;
  const entries = [...of.entries].sort(([a], [b]) => Buffer.compare(a, b));
  const writes = entries.map(([key, value]) => ({ key, value }));
  const applied = applyWrites({ getNode: () => undefined }, EMPTY, writes, 1);
  const nodes = new Map(applied.newNodes.map((n) => [Buffer.from(n.key).toString('hex'), n.bytes]));
  const reader = { getNode: (ref: { version: number; sequence: number }) => nodes.get(keyText(ref)) };
  const header: BlockHeader = {
    chainId,
    height,
    view: 0,
    parentHash: filled(32, 1),
    timestampMs,
    proposer: filled(20, 1),
    txRoot: filled(32, 1),
    receiptsRoot: filled(32, 1),
    stateRoot: applied.rootHash,
    validatorsHash: validatorSetHash(validators),
    nextValidatorsHash: validatorSetHash(validators),
  };
  const headerBytes = encodeHeader(header);
  const hash = blockHash(headerBytes);
  const message = voteSigningHash(chainId, 'commit', height, 0, hash);
  const signerAt = (index: number) =>
    signers.find((s) => Buffer.from(s.publicKey).equals(validators[index]!.publicKey)) as Sm2Signer;
  const signatures = signedBy.map((validator) => ({ validator, signature: signerAt(validator).sign(message) }));
  return {
    head: { header: headerBytes, certificate: { height, view: 0, blockHash: hash, signatures } },
    proof: (key) => proveKey(reader, applied.root, key),
  };
}
