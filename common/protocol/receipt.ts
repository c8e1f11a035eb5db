/**
 * What a block's transactions did: receipts with events, committed by the header's receipts root.
 */
import { encode, list, nullable, struct, text, type TypeOf, uint } from '../codec.ts';
import { merkleRoot } from '../crypto/merkle.ts';
import { address, code, type Hash, hash32, MAX_BLOCK_TXS, orgId } from './primitives.ts';

/** One thing that happened. Fields that do not apply are null; there is no free text. */
export const event = struct({
  /** Such as `access.granted`; the names of calls where a call did just what it says. */
  type: text(48, /^[a-z]+\.[a-zA-Z]+$/),
  /** Who did it; null for what time did (an expiry). */
  actor: nullable(address),
  /** Whom it concerns beside the actor: the enrolled, the suspended, the owner. */
  subject: nullable(address),
  orgId: nullable(orgId),
  recordId: nullable(hash32),
  requestHash: nullable(hash32),
  /** A policy, a proposal. */
  objectId: nullable(hash32),
  /** Purpose, role or reason code. */
  detail: nullable(code),
});
export type Event = TypeOf<typeof event>;

/** A transaction touches one object and perhaps grants: few events. Deadlines of a block share one receipt. */
export const MAX_EVENTS_PER_RECEIPT = 1_000;

/** Receipt i belongs to transaction i; one more at the end, with index txs.length, holds what block time itself caused. */
export const receipt = struct({
  index: uint(MAX_BLOCK_TXS),
  txHash: nullable(hash32),
  events: list(event, MAX_EVENTS_PER_RECEIPT),
});
export type Receipt = TypeOf<typeof receipt>;

export const encodeReceipt = (value: Receipt): Uint8Array => encode(receipt, value);
export const receiptsRootOf = (encoded: readonly Uint8Array[]): Hash => merkleRoot(encoded);
