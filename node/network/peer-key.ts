/**
 * The libp2p identity of a node: an Ed25519 key. The chain binds its peer id to the SM2 key of the member.
 */
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys';
import type { PrivateKey } from '@libp2p/interface';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { EmrError } from '../../common/errors.ts';

/** A new key, in the bytes that a keystore holds (libp2p's protobuf form). */
export async function generatePeerKey(): Promise<{ readonly secret: Uint8Array; readonly peerId: string }> {
  const key = await generateKeyPair('Ed25519');
  return { secret: privateKeyToProtobuf(key), peerId: peerIdFromPrivateKey(key).toString() };
}

/** @throws EmrError PEER_KEY_INVALID */
export function parsePeerKey(secret: Uint8Array): { readonly key: PrivateKey; readonly peerId: string } {
  try {
    const key = privateKeyFromProtobuf(secret);
    if (key.type !== 'Ed25519') throw new Error(`a key of type ${key.type}`);
    return { key, peerId: peerIdFromPrivateKey(key).toString() };
  } catch (cause) {
    throw new EmrError(
      'PEER_KEY_INVALID',
      'the libp2p key file does not hold an Ed25519 key; make one with `emrchain init`',
      {},
      { cause },
    );
  }
}
