/** Transactions on their way between nodes: one frame holds a batch, by gossip and by the `txs` protocol alike. */
import { bool, boundedBytes, decode, encode, list, nullable, struct, type TypeOf } from '../../common/codec.ts';
import type { Verdict } from '../../common/errors.ts';
import { code, MAX_SIDECAR_BYTES, MAX_TX_BYTES } from '../../common/protocol/primitives.ts';
import type { RawTransaction } from '../verification/transaction-checker.ts';

/** A frame is closed once it holds this many bytes: large enough to share the cost of a gossip message. */
export const FRAME_TARGET_BYTES = 64 * 1024;
/** The smallest transactions are some 230 bytes: no honest frame of the target size holds more. */
export const MAX_FRAME_TRANSACTIONS = 512;
/** The target, one transaction over it, and the framing. */
export const MAX_FRAME_BYTES = FRAME_TARGET_BYTES + MAX_TX_BYTES + MAX_SIDECAR_BYTES + MAX_FRAME_TRANSACTIONS * 8 + 64;

const frame = struct({
  /** Its sender gave it to every member by itself: nobody needs to pass it on. */
  toAll: bool,
  transactions: list(
    struct({ bytes: boundedBytes(1, MAX_TX_BYTES), sidecar: nullable(boundedBytes(1, MAX_SIDECAR_BYTES)) }),
    MAX_FRAME_TRANSACTIONS,
    1,
  ),
});
export type TransactionFrame = TypeOf<typeof frame>;

export const encodeFrame = (value: TransactionFrame): Uint8Array => encode(frame, value);
export const decodeFrame = (bytes: Uint8Array): Verdict<TransactionFrame> => decode(frame, bytes, MAX_FRAME_BYTES);

export const sizeOf = (tx: RawTransaction): number => tx.bytes.length + (tx.sidecar?.length ?? 0);

/** Answer of the `txs` protocol: for each transaction `ACCEPTED`, or the code that it was refused with. */
const answer = list(code, MAX_FRAME_TRANSACTIONS, 1);
export const MAX_ANSWER_BYTES = MAX_FRAME_TRANSACTIONS * 50 + 16;
export const encodeAnswer = (codes: readonly string[]): Uint8Array => encode(answer, codes);
