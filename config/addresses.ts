/**
 * Addresses of members and their peer ids, as far as people write them: multiaddrs of TCP, and Ed25519 peer ids. What
 * is wrong is said when a file is read, not when a node dials.
 */
import { base58btc } from 'multiformats/bases/base58';
import { isIPv4, isIPv6 } from 'node:net';

export const NOT_A_PEER_ID = 'not the peer id of an Ed25519 key; copy it again, it begins with 12D3KooW';
export const NOT_AN_ADDRESS =
  'not an address; write e.g. /dns4/hospital-b.example/tcp/7600 or /ip4/192.0.2.7/tcp/7600, with a port from 1 to 65535';

/** An identity multihash of a libp2p public key message of type Ed25519 with 32 bytes. */
const PEER_ID_PREFIX = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20] as const;
const PEER_ID_BYTES = PEER_ID_PREFIX.length + 32;

/** Untrusted text of at most some 64 characters: base58 takes time that grows with the square of its length. */
export function isPeerId(text: string): boolean {
  if (!/^[1-9A-HJ-NP-Za-km-z]{20,64}$/.test(text)) return false;
  const bytes = base58btc.baseDecode(text);
  return bytes.length === PEER_ID_BYTES && PEER_ID_PREFIX.every((byte, i) => bytes[i] === byte);
}

const ADDRESS = /^\/(ip4|ip6|dns4|dns6|dns)\/([^/]{1,255})\/tcp\/([0-9]{1,5})(?:\/p2p\/([^/]+))?$/;
const HOST_NAME = /^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*\.?$/;

interface Parsed {
  readonly port: number;
  readonly peerId: string | undefined;
}

function parse(text: string): Parsed | undefined {
  const [, family, host = '', port = '', peerId] = ADDRESS.exec(text) ?? [];
  if (family === undefined || Number(port) > 65_535) return undefined;
  const fits = family === 'ip4' ? isIPv4(host) : family === 'ip6' ? isIPv6(host) : HOST_NAME.test(host);
  return fits ? { port: Number(port), peerId } : undefined;
}

/** Where a node listens: no peer id, which is its own, and port 0 for any. */
export function isListenAddress(text: string): boolean {
  const parsed = parse(text);
  return parsed !== undefined && parsed.peerId === undefined;
}

/** Where a member is dialled: a port and a peer id. */
export function isMemberAddress(text: string): boolean {
  const parsed = parse(text);
  return parsed !== undefined && parsed.port !== 0 && parsed.peerId !== undefined && isPeerId(parsed.peerId);
}
