/**
 * The genesis document in canonical form. Its hash is the chain's id. The file that people write is YAML (config/).
 */
import { boundedBytes, encode, list, nullable, struct, text, type TypeOf, uint } from '../codec.ts';
import { H } from '../crypto/hash.ts';
import { merkleRoot } from '../crypto/merkle.ts';
import { type BlockHeader, blockHash, encodeHeader } from './block.ts';
import { chainParams } from './chain-params.ts';
import { role } from './policy.ts';
import { type Hash, HASH_BYTES, MAX_OBSERVERS, orgId, publicKey, timeMs, token32 } from './primitives.ts';
import { sortedValidatorSet, validator, validatorSet, validatorSetHash } from './validator-set.ts';

export const genesis = struct({
  version: uint(1),
  /** Human name of the network, such as `emrchain-devnet`. */
  network: text(64, /^[a-z0-9][a-z0-9-]*$/),
  /** Block time of the genesis block. */
  timeMs,
  params: chainParams,
  organisations: list(struct({ orgId, name: text(100), custodianKey: nullable(publicKey) }), 100, 1),
  /** Sorted by address. */
  validators: validatorSet,
  /** First accounts: administrators, and whom the founders agree on. Roles count as effective since ever. */
  accounts: list(struct({ publicKey, orgId, personTag: token32, roles: list(role, 12) }), 1_000, 1),
  /** Institutions that hold full replicas and do not vote: their libp2p peers may connect. */
  observers: list(validator, MAX_OBSERVERS),
  /** Random bytes: two networks set up from the same file differ. */
  salt: boundedBytes(16, 16),
});
export type Genesis = TypeOf<typeof genesis>;

export const MAX_GENESIS_BYTES = 1024 * 1024;

/** The chain id. */
export const genesisHash = (value: Genesis): Hash => H('genesis', encode(genesis, value));

/** Header of block 0. It has no certificate: who knows the chain id knows it. `stateRoot` is the vm's genesis state. */
export function genesisHeader(value: Genesis, stateRoot: Hash): { header: BlockHeader; hash: Hash } {
  const setHash = validatorSetHash(sortedValidatorSet(value.validators));
  const header: BlockHeader = {
    chainId: genesisHash(value),
    height: 0,
    view: 0,
    parentHash: new Uint8Array(HASH_BYTES),
    timestampMs: value.timeMs,
    proposer: new Uint8Array(20),
    txRoot: merkleRoot([]),
    receiptsRoot: merkleRoot([]),
    stateRoot,
    validatorsHash: setHash,
    nextValidatorsHash: setHash,
  };
  return { header, hash: blockHash(encodeHeader(header)) };
}
