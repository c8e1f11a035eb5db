/** The node's two keys from their keystores, and whether they are those that the chain knows this node by. */
import { equalBytes } from '../../common/bytes.ts';
import { assert, EmrError } from '../../common/errors.ts';
import { openKeystores, type OpenedKeystore, PEER_KEY_KIND, SM2_KEY_KIND } from '../../common/native/keystore.ts';
import { choosePassphraseSource, readPassphrase } from '../../common/native/passphrase.ts';
import type { NodeConfig } from '../../config/node-config.ts';
import type { Member } from '../network/types.ts';

export interface NodeKeys {
  /** SM2 private key, 32 bytes; to be erased by whoever made a signer of it. */
  readonly validatorSecret: Uint8Array;
  /** libp2p's form of an Ed25519 key. */
  readonly peerSecret: Uint8Array;
}

/** From the file or the program that the environment names, or from the terminal. @throws EmrError PASSPHRASE_*, SECRET_FILE_* */
export function readNodePassphrase(): Promise<Uint8Array> {
  return readPassphrase(choosePassphraseSource(undefined, process.env), { prompt: "Passphrase of the node's keys" });
}

/**
 * Opens both; where they have one salt, as `emrchain init` writes them, for the price of one.
 * @param passphrase is erased
 * @throws EmrError KEYSTORE_*, SECRET_FILE_*, KEY_WRONG_KIND
 */
export async function openNodeKeys(paths: NodeConfig['keys'], passphrase: Uint8Array): Promise<NodeKeys> {
  try {
    const [validator, peer] = await openKeystores([paths.validator, paths.peer], passphrase);
    return {
      validatorSecret: secretOf(validator, SM2_KEY_KIND, paths.validator),
      peerSecret: secretOf(peer, PEER_KEY_KIND, paths.peer),
    };
  } finally {
    passphrase.fill(0);
  }
}

function secretOf(opened: OpenedKeystore | undefined, kind: string, path: string): Uint8Array {
  assert(opened !== undefined, 'openNodeKeys: fewer keys than files');
  if (opened.kind !== kind) {
    throw new EmrError(
      'KEY_WRONG_KIND',
      `${path} holds a key of the kind ${opened.kind} where one of the kind ${kind} belongs; check keys.validator and keys.peer in the configuration.`,
      { path },
    );
  }
  return opened.secret;
}

/**
 * The organisation that the chain, as far as this node has it, knows these keys under; or the configuration's word for
 * it, where a vote is to bring the node in, or to change its keys, at a height that it has not reached.
 * @param members by this node's own state
 * @param configured `organisation` of the configuration
 * @throws EmrError VALIDATOR_KEY_UNKNOWN, PEER_ID_MISMATCH, ORGANISATION_MISMATCH
 */
export function organisationOf(
  { address, peerId }: { readonly address: Uint8Array; readonly peerId: string },
  members: readonly Pick<Member, 'address' | 'peerId' | 'orgId'>[],
  configured: string | null,
): { readonly orgId: string; readonly isMember: boolean } {
  const member = members.find((one) => equalBytes(one.address, address));
  if (member === undefined) {
    if (configured !== null) return { orgId: configured, isMember: false };
    throw new EmrError(
      'VALIDATOR_KEY_UNKNOWN',
      'No validator or observer of this chain has the key of this node. Is keys/validator.json the one whose public key went into the genesis, and genesis.yaml the one that the members agreed on? A node that joins by vote has its organisation in config.yaml (emrchain node join writes it).',
    );
  }
  if (configured !== null && configured !== member.orgId) {
    throw new EmrError(
      'ORGANISATION_MISMATCH',
      `The chain knows this node as one of ${member.orgId}, and config.yaml says organisation: ${configured}. Correct it, or leave it out.`,
      { expected: member.orgId, found: configured },
    );
  }
  if (member.peerId === peerId) return { orgId: member.orgId, isMember: true };
  if (configured !== null) return { orgId: member.orgId, isMember: false };
  throw new EmrError(
    'PEER_ID_MISMATCH',
    `The chain knows ${member.orgId} by the peer id ${member.peerId}, and keys/peer.json is the key of ${peerId}: the other members would refuse every connection. Restore the peer key that went into the genesis.`,
    { expected: member.peerId, found: peerId },
  );
}
