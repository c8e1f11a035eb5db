/**
 * Block headers, bodies and certificates, and the offline check that a block is final.
 */
import { equalBytes } from '../bytes.ts';
import { boundedBytes, encode, list, nullable, struct, type TypeOf, uint } from '../codec.ts';
import { accept, reject, type Verdict } from '../errors.ts';
import { H } from '../crypto/hash.ts';
import { merkleRoot } from '../crypto/merkle.ts';
import type { Sm2Engine } from '../crypto/sm2.ts';
import {
  address,
  type Hash,
  hash32,
  height,
  MAX_BLOCK_BYTES,
  MAX_BLOCK_TXS,
  MAX_SIDECAR_BYTES,
  MAX_TX_BYTES,
  MAX_VALIDATORS,
  signature,
  timeMs,
} from './primitives.ts';
import { voteSigningHash } from './signing.ts';
import { quorumSize, type ValidatorSet, validatorSetHash } from './validator-set.ts';

export const blockHeader = struct({
  /** Genesis hash. */
  chainId: hash32,
  height,
  /** View in which the block was first proposed; a re-proposal keeps it, and with it the hash. */
  view: uint(),
  parentHash: hash32,
  /** Block time: greater than the parent's, near the voters' clocks when fresh. */
  timestampMs: timeMs,
  proposer: address,
  /** Merkle root of the signed transactions' bytes. */
  txRoot: hash32,
  /** Merkle root of the encoded receipts. */
  receiptsRoot: hash32,
  /** State after this block. */
  stateRoot: hash32,
  /** The set that certifies this height. */
  validatorsHash: hash32,
  /** The set that certifies the next height. */
  nextValidatorsHash: hash32,
});
export type BlockHeader = TypeOf<typeof blockHeader>;

/** A header is nine hashes and a few integers: well under this. */
export const MAX_HEADER_BYTES = 512;

export const blockHash = (headerBytes: Uint8Array): Hash => H('block', headerBytes);

/** What travels between nodes and is stored. `sidecars[i]` is null where transaction i has none, or it was erased. */
export const block = struct({
  header: boundedBytes(1, MAX_HEADER_BYTES),
  /** Encoded `SignedTransaction`s, in execution order. */
  txs: list(boundedBytes(1, MAX_TX_BYTES), MAX_BLOCK_TXS),
  sidecars: list(nullable(boundedBytes(1, MAX_SIDECAR_BYTES)), MAX_BLOCK_TXS),
});
export type Block = TypeOf<typeof block>;

/** Transactions and sidecars, and at most 16 bytes of framing for each of them. */
export const MAX_ENCODED_BLOCK_BYTES = MAX_BLOCK_BYTES + MAX_BLOCK_TXS * 32 + 4096;

export const txRootOf = (txs: readonly Uint8Array[]): Hash => merkleRoot(txs);

/** The Commit votes that make a block final, with the view that they were given in. */
export const certificate = struct({
  height,
  view: uint(),
  blockHash: hash32,
  /** In ascending order of the validator's index, each at most once. */
  signatures: list(struct({ validator: uint(MAX_VALIDATORS - 1), signature }), MAX_VALIDATORS),
});
export type Certificate = TypeOf<typeof certificate>;

export const MAX_CERTIFICATE_BYTES = 128 + MAX_VALIDATORS * 72;

export const encodeHeader = (header: BlockHeader): Uint8Array => encode(blockHeader, header);

/**
 * Checks offline that a block is final: the certificate names this hash and height, and a quorum of the given set
 * signed Commit for it. The genesis block (height 0) has no certificate and is known by its hash instead.
 * @param set the validator set; it must hash to the header's `validatorsHash`
 */
export function verifyCertificate(
  header: BlockHeader,
  headerHash: Hash,
  proof: Certificate,
  set: ValidatorSet,
  engine: Sm2Engine,
): Verdict {
  if (!equalBytes(validatorSetHash(set), header.validatorsHash)) {
    return reject('WRONG_VALIDATOR_SET', 'the header is certified by another validator set');
  }
  if (proof.height !== header.height || !equalBytes(proof.blockHash, headerHash)) {
    return reject('CERTIFICATE_MISMATCH', 'the certificate is for another block');
  }
  let previous = -1;
  for (const { validator } of proof.signatures) {
    if (validator <= previous || validator >= set.length) {
      return reject('CERTIFICATE_SIGNERS', 'signers are not distinct members in ascending order');
    }
    previous = validator;
  }
  if (proof.signatures.length < quorumSize(set.length)) {
    return reject('CERTIFICATE_QUORUM', `${proof.signatures.length} signatures, ${quorumSize(set.length)} needed`);
  }
  const message = voteSigningHash(header.chainId, 'commit', proof.height, proof.view, headerHash);
  for (const { validator, signature: sig } of proof.signatures) {
    const member = set[validator];
    if (member === undefined || !engine.verify(member.publicKey, message, sig)) {
      return reject('CERTIFICATE_SIGNATURE', `the signature of validator ${validator} does not verify`);
    }
  }
  return accept(undefined);
}
