/**
 * What nodes ask and answer when one of them begins with a state of the others (`snapshot` protocol). Every answer but the
 * offer proves itself; what an offer names is proven by the answers that follow. docs/adr/0016-a-snapshot-is-an-old-version.md says why so.
 */
import { boundedBytes, decode, encode, list, nullable, struct, type TypeOf, union } from '../../common/codec.ts';
import type { Verdict } from '../../common/errors.ts';
import { MAX_CERTIFICATE_BYTES, MAX_HEADER_BYTES } from '../../common/protocol/block.ts';
import { type Handover, handover } from '../../common/protocol/light.ts';
import { hash32, height, MAX_VALIDATORS } from '../../common/protocol/primitives.ts';
import { MAX_RANGE_PROOF_BYTES } from '../../common/protocol/state-proof.ts';
import { MAX_STATE_KEY_BYTES } from '../../common/protocol/state-tree.ts';

/** States that one node offers at a time: it keeps fewer. */
export const MAX_OFFERS = 16;

const rangeEnd = nullable(boundedBytes(1, MAX_STATE_KEY_BYTES));
/** Keys from `gte` on and before `lt`, as everywhere: empty is the beginning, null the end. */
export const keyRange = struct({ gte: boundedBytes(0, MAX_STATE_KEY_BYTES), lt: rangeEnd });
export type KeyRange = TypeOf<typeof keyRange>;

const snapshotRequest = union({
  /** Which states are there? One frame. */
  offers: struct({}),
  /** Changes of the validator set from this height on, in order: one frame each, at most `MAX_HANDOVERS`. */
  handovers: struct({ from: height }),
  /** The block of a snapshot: one frame with block and certificate, then one for each receipt. */
  block: struct({ height }),
  /** Entries of the state after that block: one frame. */
  entries: struct({ height, range: keyRange }),
});
export type SnapshotRequest = TypeOf<typeof snapshotRequest>;
const MAX_REQUEST_BYTES = 512;
export const encodeSnapshotRequest = (value: SnapshotRequest): Uint8Array => encode(snapshotRequest, value);
export const decodeSnapshotRequest = (bytes: Uint8Array): Verdict<SnapshotRequest> =>
  decode(snapshotRequest, bytes, MAX_REQUEST_BYTES);

const offers = list(struct({ height, blockHash: hash32 }), MAX_OFFERS);
export type Offer = TypeOf<typeof offers>[number];
export const MAX_OFFERS_BYTES = 1024;
export const encodeOffers = (value: readonly Offer[]): Uint8Array => encode(offers, [...value]);
export const decodeOffers = (bytes: Uint8Array): Verdict<readonly Offer[]> => decode(offers, bytes, MAX_OFFERS_BYTES);

/** A header, its certificate, and a set whose members have some 200 bytes each. */
export const MAX_HANDOVER_BYTES = MAX_HEADER_BYTES + MAX_CERTIFICATE_BYTES + MAX_VALIDATORS * 320 + 64;
export const encodeHandover = (value: Handover): Uint8Array => encode(handover, value);
export const decodeHandover = (bytes: Uint8Array): Verdict<Handover> => decode(handover, bytes, MAX_HANDOVER_BYTES);

/** `lt` is where the answer ends: the end that was asked for, or earlier, where it would have become too large. */
const entriesAnswer = struct({ lt: rangeEnd, proof: boundedBytes(1, MAX_RANGE_PROOF_BYTES) });
export type EntriesAnswer = TypeOf<typeof entriesAnswer>;
export const MAX_ENTRIES_BYTES = MAX_RANGE_PROOF_BYTES + MAX_STATE_KEY_BYTES + 32;
export const encodeEntries = (value: EntriesAnswer): Uint8Array => encode(entriesAnswer, value);
export const decodeEntries = (bytes: Uint8Array): Verdict<EntriesAnswer> =>
  decode(entriesAnswer, bytes, MAX_ENTRIES_BYTES);
