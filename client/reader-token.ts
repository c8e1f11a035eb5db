/**
 * The reader's token: composed here from what this person has pinned and dialled, never from bytes that the node chose.
 */
import { randomBytes } from 'node:crypto';
import { utf8 } from '../common/bytes.ts';
import type { Sm2Signer } from '../common/crypto/sm2.ts';
import { formatRpcToken, MAX_RPC_TOKEN_LIFETIME_MS, RPC_TOKEN_SCHEME } from '../common/protocol/rpc-token.ts';
import { rpcAuthSigningHash } from '../common/protocol/signing.ts';
import { ClientError } from './errors.ts';
import type { PinnedNode } from './network.ts';

/** How long a command's tokens live. Short: whoever steals one reads as this account until then. */
export const TOKEN_LIFETIME_MS = 5 * 60_000;
/** A token is replaced when less than this is left of it. */
const RENEW_BEFORE_MS = 60_000;
const MAX_ORIGIN_BYTES = 256;

/**
 * @param lifetimeMs at most 15 minutes
 * @returns the text of the token, base64url
 */
export function createReaderToken(node: PinnedNode, signer: Sm2Signer, nowMs: number, lifetimeMs: number): string {
  if (lifetimeMs <= 0 || lifetimeMs > MAX_RPC_TOKEN_LIFETIME_MS) {
    throw new ClientError('TOKEN_TOO_LONG', 'A token lives at most 15 minutes.', 'Give --for with 15m or less.');
  }
  if (utf8(node.origin).length > MAX_ORIGIN_BYTES) {
    throw new ClientError('RPC_URL_INVALID', "The node's address is too long for a token.", 'Use a shorter --rpc URL.');
  }
  const { network, chainId, nodeId, origin } = node;
  const statement = {
    network,
    chainId,
    nodeId,
    origin,
    nonce: new Uint8Array(randomBytes(16)),
    notAfterMs: nowMs + lifetimeMs,
  };
  const signature = signer.sign(rpcAuthSigningHash(statement));
  return formatRpcToken({ ...statement, publicKey: signer.publicKey, signature });
}

/** `Authorization` header for each call: the same token until it is about to end. */
export function authorizer(node: PinnedNode, signer: Sm2Signer, nowMs: () => number = Date.now): () => string {
  let header = '';
  let endsMs = 0;
  return () => {
    const now = nowMs();
    if (now > endsMs - RENEW_BEFORE_MS) {
      header = `${RPC_TOKEN_SCHEME} ${createReaderToken(node, signer, now, TOKEN_LIFETIME_MS)}`;
      endsMs = now + TOKEN_LIFETIME_MS;
    }
    return header;
  };
}
