/**
 * The token that a reader presents to the RPC of one node: who signs, for which node and origin, until when.
 *
 * The client composes it from values that it knows itself, never from bytes that the node chose. It is a bearer token:
 * whoever has it reads as this account, from this node under this origin, until it ends. Hence loopback or TLS.
 */
import { base64url } from 'multiformats/bases/base64';
import { decode, encode, struct, text, type TypeOf } from '../codec.ts';
import { accept, reject, type Verdict } from '../errors.ts';
import { address, hash32, nonce16, publicKey, signature, timeMs } from './primitives.ts';

export const rpcToken = struct({
  /** Name of the network in the genesis. */
  network: text(64, /^[a-z0-9][a-z0-9-]*$/),
  chainId: hash32,
  /** Address of the node's SM2 key. */
  nodeId: address,
  /** `scheme://host:port` as the client dials it. */
  origin: text(256, /^https?:\/\/[^/\s]+$/),
  nonce: nonce16,
  notAfterMs: timeMs,
  /** Current key of the account that reads. */
  publicKey,
  /** Over `rpcAuthSigningHash` of the fields above. */
  signature,
});
export type RpcToken = TypeOf<typeof rpcToken>;

/** A token may end at most this much later than it is used. */
export const MAX_RPC_TOKEN_LIFETIME_MS = 15 * 60_000;

export const MAX_RPC_TOKEN_BYTES = 700;
/** Base64url of the largest token. */
export const MAX_RPC_TOKEN_CHARACTERS = Math.ceil((MAX_RPC_TOKEN_BYTES * 4) / 3);

/** `Authorization: EMR <text>`. */
export const RPC_TOKEN_SCHEME = 'EMR';

/** The text form: base64url, without padding, of the canonical encoding. */
export function formatRpcToken(token: RpcToken): string {
  return base64url.baseEncode(encode(rpcToken, token));
}

/** Untrusted text. Checks the form alone: neither signature nor time. TOO_LARGE, MALFORMED, NOT_CANONICAL. */
export function parseRpcToken(characters: string): Verdict<RpcToken> {
  if (characters.length > MAX_RPC_TOKEN_CHARACTERS) return reject('TOO_LARGE', 'longer than any token');
  let bytes: Uint8Array;
  try {
    bytes = base64url.baseDecode(characters);
  } catch {
    return reject('MALFORMED', 'not base64url');
  }
  if (base64url.baseEncode(bytes) !== characters) return reject('NOT_CANONICAL', 'not the base64url of its bytes');
  const token = decode(rpcToken, bytes, MAX_RPC_TOKEN_BYTES);
  return token.ok ? accept(token.value) : token;
}
