/**
 * What a replica has promised at its current height, small enough to be synced before every vote: the core makes it,
 * the host stores it, and both the host's signing guard and `Replica.restore` read it. Bodies of blocks are stored
 * beside it under their hashes. What must not go in here: anything that can be had again from the network.
 */
import { bytesToHex, equalBytes } from '../common/bytes.ts';
import { list, nullable, oneOf, struct, type TypeOf, uint } from '../common/codec.ts';
import { accept, reject, type Verdict } from '../common/errors.ts';
import { type Hash, hash32, height } from '../common/protocol/primitives.ts';
import {
  type HeardPromise,
  messageDigest,
  preparedCertificate,
  samePrepared,
  type UnsignedMessage,
} from './messages.ts';

export const VOTE_KINDS = ['preprepare', 'prepare', 'commit'] as const;

const castVote = struct({ vote: oneOf(VOTE_KINDS), view: uint(), digest: hash32 });
export type CastVote = TypeOf<typeof castVote>;

export const safetyRecord = struct({
  height,
  /** The lowest view that may still be voted in: a view change for it was sent, or a vote cast in it. */
  view: uint(),
  /** The last vote of each kind. Views only grow, so that this covers all earlier ones. */
  votes: list(castVote, VOTE_KINDS.length),
  /** The prepared certificate of the highest view. Its block's body is stored too. */
  prepared: nullable(preparedCertificate),
  /** Nothing is promised up to this height, whatever else is in here [R4, R6]. Carried on from record to record. */
  abstainThrough: uint(),
});
export type SafetyRecord = TypeOf<typeof safetyRecord>;

/** A prepared certificate of 31 signers is some 2.2 KiB. */
export const MAX_SAFETY_RECORD_BYTES = 4096;

/** Hashes of the bodies that must stay stored while this record is the last one: at most two, without duplicates. */
export function bodiesOf(record: SafetyRecord): readonly Hash[] {
  const digests = new Map<string, Hash>();
  if (record.prepared !== null) digests.set(bytesToHex(record.prepared.digest), record.prepared.digest);
  for (const cast of record.votes) {
    if (cast.vote === 'prepare') digests.set(bytesToHex(cast.digest), cast.digest);
  }
  return [...digests.values()];
}

/**
 * The host's guard before it signs: true only when the last durable record covers this promise, so that a second
 * digest for one (height, view, kind) is never signed whatever the core asks for [R1].
 */
export function permits(record: SafetyRecord | null, message: UnsignedMessage): boolean {
  if (message.kind === 'status' || message.kind === 'echo') return true;
  if (record === null || record.height !== message.height || message.height <= record.abstainThrough) return false;
  switch (message.kind) {
    case 'prePrepare':
    case 'prepare':
    case 'commit': {
      const vote = message.kind === 'prePrepare' ? 'preprepare' : message.kind;
      const digest = messageDigest(message);
      return record.votes.some((v) => v.vote === vote && v.view === message.view && equalBytes(v.digest, digest));
    }
    case 'viewChange':
      return record.view === message.view && samePrepared(record.prepared, message.prepared);
    case 'newView':
      return record.view === message.view;
  }
}

/**
 * [R4] Whether `record` knows of a promise for its height, so that whoever keeps to the record keeps to the promise. What
 * it says of views that it has left is covered, except that a Commit stands on a certificate that stays for ever.
 */
export function covers(record: SafetyRecord, promise: HeardPromise): boolean {
  const preparedIn = record.prepared?.view ?? -1;
  if (promise.kind === 'viewChange') return promise.view <= record.view && (promise.prepared?.view ?? -1) <= preparedIn;
  const { vote, view, digest } = promise;
  if (vote === 'commit' && view > preparedIn) return false;
  if (view < record.view) return true;
  return record.votes.some((v) => v.vote === vote && v.view === view && equalBytes(v.digest, digest));
}

/**
 * The host's guard before it stores: a later record never takes a promise back. Independent of the core on purpose.
 * @returns the reason why `next` must not replace `previous`: that is a bug, and the node stops
 */
export function checkSuccession(previous: SafetyRecord | null, next: SafetyRecord): Verdict {
  if (previous === null) return accept(undefined);
  if (next.abstainThrough < previous.abstainThrough) return reject('RECORD_ABSTENTION', 'an abstention is forgotten');
  if (next.height > previous.height) return accept(undefined);
  if (next.height < previous.height) return reject('RECORD_HEIGHT', 'an earlier height');
  if (next.view < previous.view) return reject('RECORD_VIEW', 'an earlier view');
  for (const before of previous.votes) {
    const after = next.votes.find((v) => v.vote === before.vote);
    if (after === undefined || after.view < before.view)
      return reject('RECORD_VOTE_LOST', `a ${before.vote} is forgotten`);
    if (after.view === before.view && !equalBytes(after.digest, before.digest)) {
      return reject('RECORD_DOUBLE_VOTE', `a second ${before.vote} in view ${before.view}`);
    }
  }
  for (const after of next.votes) {
    const before = previous.votes.find((v) => v.vote === after.vote);
    if (after.view < previous.view && before?.view !== after.view) {
      return reject('RECORD_VOTE_VIEW', `a ${after.vote} in view ${after.view}, which was left`);
    }
  }
  const before = previous.prepared;
  const after = next.prepared;
  if (before !== null && (after === null || after.view < before.view)) {
    return reject('RECORD_PREPARED_LOST', 'a prepared certificate is forgotten');
  }
  return accept(undefined);
}
