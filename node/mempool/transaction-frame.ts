/** Transactions on their way between nodes: one frame holds a batch, by gossip and by the `txs` protocol alike. */
import { boundedBytes, decode, encode, list, nullable, struct, type TypeOf } from '../../common/codec.ts';
import { ADDRESS_BYTES } from '../../common/crypto/sm2.ts';
import type { Verdict } from '../../common/errors.ts';
import { address, code, MAX_SIDECAR_BYTES, MAX_TX_BYTES } from '../../common/protocol/primitives.ts';
import type { RawTransaction } from '../verification/transaction-checker.ts';

/** A frame is closed once it holds this many bytes: large enough to share the cost of a gossip message. */
export const FRAME_TARGET_BYTES = 64 * 1024;
/** The smallest transactions are some 230 bytes: no honest frame of the target size holds more. */
export const MAX_FRAME_TRANSACTIONS = 512;
/** More than there are members; of more, who reaches none of the first ones does not pass it on. */
export const MAX_UNREACHED = 256;
/** The target, one transaction over it, and the framing. */
export const MAX_FRAME_BYTES =
  FRAME_TARGET_BYTES +
  MAX_TX_BYTES +
  MAX_SIDECAR_BYTES +
  MAX_FRAME_TRANSACTIONS * 8 +
  MAX_UNREACHED * (ADDRESS_BYTES + 1) +
  64;

const frame = struct({
  /** Members that its sender does not reach: who reaches one of them passes it on, and nobody else needs to. */
  unreached: list(address, MAX_UNREACHED),
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
