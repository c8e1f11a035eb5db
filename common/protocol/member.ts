/**
 * What a vote states about the node of a member: its SM2 key, its peer id, where it is dialled, and the proof that it
 * holds the key. The genesis names the first members; every later one comes by such a card.
 */
import { list, struct, text, type TypeOf } from '../codec.ts';
import { orgId, publicKey } from './primitives.ts';
import { peerId } from './validator-set.ts';

/** A node behind two networks, by name and by number. */
const MAX_MEMBER_ADDRESSES = 4;

/** A multiaddr that ends with the peer id. Whether anybody answers there is the network's to find out. */
export const memberAddress = text(
  256,
  /^\/(?:ip4|ip6|dns4|dns6|dns)\/[A-Za-z0-9.:_-]{1,128}\/tcp\/\d{1,5}\/p2p\/[1-9A-HJ-NP-Za-km-z]+$/,
);
export const memberAddresses = list(memberAddress, MAX_MEMBER_ADDRESSES);

/** What the node's SM2 key signs, so that nobody proposes a key that is not theirs, or binds it to another peer. */
export const nodeCard = struct({
  orgId,
  publicKey,
  peerId,
  /** May be empty: then the node dials the others. */
  addresses: memberAddresses,
});
export type NodeCard = TypeOf<typeof nodeCard>;
