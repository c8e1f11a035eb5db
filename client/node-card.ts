/** The card of a node that is to be admitted, or to take the place of another: `node-card.json` of its folder. */
import { equalBytes } from '../common/bytes.ts';
import type { Sm2Engine } from '../common/crypto/sm2.ts';
import { type NodeCard, nodeCard } from '../common/protocol/member.ts';
import { admissionHash, memberRotationHash } from '../common/protocol/statements.ts';
import { bytesField, codecField, readDocument } from './documents.ts';
import { ClientError } from './errors.ts';

const MAX_CARD_BYTES = 4 * 1024;

export interface SignedNodeCard {
  readonly card: NodeCard;
  /** Signature of the card's own SM2 key. */
  readonly possession: Uint8Array;
  /** Address of the key that it replaces; null for a node that is new. */
  readonly replaces: Uint8Array | null;
}

/** @throws ClientError DOCUMENT_MALFORMED, CHAIN_ID_MISMATCH, BAD_POSSESSION */
export async function readNodeCard(path: string, chainId: Uint8Array, engine: Sm2Engine): Promise<SignedNodeCard> {
  const { content } = await readDocument(path, ['emrchain-node-card']);
  if (!equalBytes(bytesField(path, content, 'chainId', 32), chainId)) {
    throw new ClientError(
      'CHAIN_ID_MISMATCH',
      `${path} is for another chain.`,
      'Check --rpc URL, or ask for a new file.',
    );
  }
  const card = codecField(path, content, 'card', nodeCard, MAX_CARD_BYTES);
  const replaces = content['replaces'] === null ? null : bytesField(path, content, 'replaces', 20);
  const possession = bytesField(path, content, 'possession', 64);
  const statement = replaces === null ? admissionHash(chainId, card) : memberRotationHash(chainId, replaces, card);
  if (!engine.verify(card.publicKey, statement, possession)) {
    throw new ClientError(
      'BAD_POSSESSION',
      `${path}: the proof that the node's key is held does not verify.`,
      'The file was changed: ask for it again.',
    );
  }
  return { card, possession, replaces };
}
