/**
 * What a validator signs of how far it is: its committed head, which it has executed. Consensus exchanges it (docs/protocol.md,
 * S1), and it serves whoever must know that a block has been executed by a quorum as that validator's receipt.
 */
import { bool, bytes, encode, struct, type TypeOf, uint } from '../codec.ts';
import { type Hash, hash32, height } from './primitives.ts';
import { consensusSigningHash } from './signing.ts';

/** Random, made anew by each process: tells two that use one key, and one from before a restart, apart [R5]. */
export const INCARNATION_BYTES = 16;

export const statusFields = {
  height,
  hash: hash32,
  view: uint(),
  incarnation: bytes(INCARNATION_BYTES),
  /** Has promised nothing since it started, and waits for echoes [R5]. */
  asking: bool,
};
/** The committed head of the sender, and its view at the next height. */
export const status = struct(statusFields);
export type StatusBody = TypeOf<typeof status>;
/** Two heads and views of 8 bytes, a hash, and what the encoding adds. */
export const MAX_STATUS_BYTES = 256;

export const statusSigningHash = (chainId: Hash, body: StatusBody): Hash =>
  consensusSigningHash(chainId, 'status', encode(status, body));
