/**
 * A granted request as it is shown to officers of the recovery key, on machines without a network, and what each of them
 * gives back (docs/custody-protocol.md, section 14).
 *
 * The file begins at the genesis, whose hash the officer's share names, and ends at the entries that the officer judges by:
 * nobody in between is believed. What it cannot show is what happened after its last block: a revocation from then on is
 * unknown to the officer, who therefore refuses a file that is more than a day old by the own clock.
 */
import { bytesToBigint, equalBytes } from '../bytes.ts';
import { boundedBytes, decode, encode, list, oneOf, struct, type TypeOf, uint } from '../codec.ts';
import { decodePoint, rawToPoint } from '../crypto/curve.ts';
import { createReleaseShare, type Holder, type ReleaseContext } from '../crypto/custody/release-share.ts';
import type { RandomBytes, Sm2Engine } from '../crypto/sm2.ts';
import { accept, assert, reject, type Verdict } from '../errors.ts';
import { blockHeader, MAX_HEADER_BYTES } from './block.ts';
import { point, releaseShareBytes } from './custody.ts';
import { genesis, genesisHash, MAX_GENESIS_BYTES } from './genesis.ts';
import {
  certifiedHeader,
  handover,
  type TrustedSet,
  verifyHandover,
  verifyHeader,
  type VerifiedHeader,
} from './light.ts';
import { address, type Hash, hash32, type TimeMs } from './primitives.ts';
import { activeRequest, activeRequester, entry, type Shown } from './proven-grant.ts';
import { type RecoveryKeyEntry, recoveryKeyEntry, type RecoveryShare } from './recovery-key.ts';
import { type RecordVersionEntry, recordVersionEntry, type RequestEntry, stateKey } from './state-entries.ts';
import { MAX_KEY_PROOF_BYTES } from './state-proof.ts';
import { sortedValidatorSet } from './validator-set.ts';

/** Changes of the validator set since the genesis; some 5 KiB each. */
export const MAX_RECOVERY_HANDOVERS = 1_024;
/** The entries of a demand, each of which may be proven at another block. */
const MAX_HEADS = 5;
/** A genesis, that many handovers, five proofs: some 6 MiB at the most in practice. */
export const MAX_RECOVERY_DEMAND_BYTES = 16 * 1024 * 1024;
/** Officers meet within a day; what is older may have been revoked since. */
export const MAX_RECOVERY_AGE_MS = 24 * 60 * 60 * 1000;
/** How far the officer's clock may be behind the chain: a machine without a network keeps time badly. */
const MAX_CLOCK_BEHIND_MS = 10 * 60 * 1000;
/** A part has some 300 bytes. */
export const MAX_RECOVERY_PART_BYTES = 1024;

/** `head`: which of the demand's heads the proof is under. */
const shownEntry = struct({ head: uint(MAX_HEADS - 1), proof: boundedBytes(1, MAX_KEY_PROOF_BYTES) });

export const recoveryDemand = struct({
  format: oneOf(['emr-recovery-demand-1']),
  genesis: boundedBytes(1, MAX_GENESIS_BYTES),
  /** Hash of the granted request. */
  grantId: hash32,
  handovers: list(handover, MAX_RECOVERY_HANDOVERS),
  heads: list(certifiedHeader, MAX_HEADS, 1),
  request: shownEntry,
  requester: shownEntry,
  requesterOrg: shownEntry,
  recordVersion: shownEntry,
  /** Of the recovery key that the record is sealed under. */
  recoveryKey: shownEntry,
});
export type RecoveryDemand = TypeOf<typeof recoveryDemand>;

/** What an officer gives: a masked share, which helps the requester of this grant and nobody else. */
export const recoveryPart = struct({
  format: oneOf(['emr-recovery-part-1']),
  chainId: hash32,
  grantId: hash32,
  /** X of the recovery key. */
  key: point,
  /** The officer. */
  account: address,
  share: releaseShareBytes,
});
export type RecoveryPart = TypeOf<typeof recoveryPart>;

export interface ProvenDemand {
  readonly grantId: Hash;
  readonly chainId: Hash;
  readonly request: RequestEntry;
  readonly record: RecordVersionEntry;
  readonly key: RecoveryKeyEntry;
  /** U of the record's capsule under that key, 33 bytes. */
  readonly u: Uint8Array;
  /** Block time of the oldest state that it was proven by. */
  readonly provenMs: TimeMs;
}

/** The set of the genesis and those that follow from it, ascending. */
function trustedSets(demand: RecoveryDemand, chainId: Hash, engine: Sm2Engine): Verdict<readonly TrustedSet[]> {
  const document = decode(genesis, demand.genesis, MAX_GENESIS_BYTES);
  if (!document.ok) return document;
  if (!equalBytes(genesisHash(document.value), chainId))
    return reject('CHAIN_ID_MISMATCH', 'the file is of another chain than the share');
  const sets: TrustedSet[] = [{ chainId, fromHeight: 0, validators: sortedValidatorSet(document.value.validators) }];
  for (const step of demand.handovers) {
    const next = verifyHandover(sets.at(-1) as TrustedSet, step, engine);
    if (!next.ok) return next;
    sets.push(next.value);
  }
  return accept(sets);
}

function verifiedHeads(
  { heads }: RecoveryDemand,
  sets: readonly TrustedSet[],
  nowMs: TimeMs,
  engine: Sm2Engine,
): Verdict<readonly VerifiedHeader[]> {
  const verified: VerifiedHeader[] = [];
  for (const head of heads) {
    const header = decode(blockHeader, head.header, MAX_HEADER_BYTES);
    if (!header.ok) return header;
    const { height, timestampMs } = header.value;
    const set = sets.findLast(({ fromHeight }) => fromHeight <= height) as TrustedSet;
    const one = verifyHeader(set, head, engine);
    if (!one.ok) return one;
    const ageMs = nowMs - timestampMs;
    if (ageMs > MAX_RECOVERY_AGE_MS)
      return reject('RECOVERY_DEMAND_OLD', `it shows the chain as it was ${Math.floor(ageMs / 3_600_000)} hours ago`);
    if (-ageMs > MAX_CLOCK_BEHIND_MS)
      return reject('RECOVERY_CLOCK_BEHIND', 'by the clock of this machine it comes from the future');
    verified.push(one.value);
  }
  return accept(verified);
}

/**
 * What a file shows of a grant, by the genesis alone and the officer's clock.
 * @param chainId as the officer's share names it, 32 bytes
 * @returns CHAIN_ID_MISMATCH, RECOVERY_DEMAND_OLD, RECOVERY_CLOCK_BEHIND, RECOVERY_NOT_SEALED, RECORD_UNKNOWN, those of
 *   `activeRequest` and `activeRequester`, and codes of proofs and certificates that do not hold
 */
export function proveDemand(
  demand: RecoveryDemand,
  chainId: Hash,
  nowMs: TimeMs,
  engine: Sm2Engine,
): Verdict<ProvenDemand> {
  const sets = trustedSets(demand, chainId, engine);
  if (!sets.ok) return sets;
  const heads = verifiedHeads(demand, sets.value, nowMs, engine);
  if (!heads.ok) return heads;
  const shown = ({ head, proof }: RecoveryDemand['request']): Shown | undefined => {
    const at = heads.value[head];
    return at && { at, proof };
  };
  const [request, account, organisation, version, key] = [
    shown(demand.request),
    shown(demand.requester),
    shown(demand.requesterOrg),
    shown(demand.recordVersion),
    shown(demand.recoveryKey),
  ];
  if (!request || !account || !organisation || !version || !key)
    return reject('MALFORMED', 'a proof names a block that is not there');
  const granted = activeRequest(demand.grantId, request, nowMs);
  if (!granted.ok) return granted;
  const { recordId, version: number } = granted.value.request;
  const requester = activeRequester(granted.value.request, { account, organisation });
  if (!requester.ok) return requester;
  const at = stateKey.recordVersion(recordId, number);
  const record = entry(recordVersionEntry, version.at, at, version.proof, 'RECORD_UNKNOWN');
  if (!record.ok) return record;
  const { capsule } = record.value.content;
  const sealed = capsule.kind === 'threshold' ? capsule.recovery : null;
  if (sealed === null) return reject('RECOVERY_NOT_SEALED', 'the record is sealed under no recovery key');
  const registered = entry(
    recoveryKeyEntry,
    key.at,
    stateKey.recoveryKey(sealed.key),
    key.proof,
    'RECOVERY_NOT_SEALED',
  );
  if (!registered.ok) return registered;
  const provenMs = Math.min(...heads.value.map(({ header }) => header.timestampMs));
  return accept({
    grantId: demand.grantId,
    chainId,
    request: granted.value,
    record: record.value,
    key: registered.value,
    u: sealed.u,
    provenMs,
  });
}

function contextOf(proven: ProvenDemand, share: RecoveryShare): Verdict<{ context: ReleaseContext; holder: Holder }> {
  const { key, chainId, grantId } = proven;
  if (!equalBytes(key.key, share.key))
    return reject('RECOVERY_OTHER_KEY', 'the record is sealed under another recovery key than this share is of');
  const index = key.holders.findIndex((holder) => equalBytes(holder.share, share.share)) + 1;
  const [U, X, Q] = [decodePoint(proven.u), decodePoint(share.share), rawToPoint(proven.request.request.requesterKey)];
  if (index === 0 || U === undefined || X === undefined || Q === undefined)
    return reject('RECOVERY_OTHER_KEY', 'the chain knows no officer with this share');
  return accept({ context: { use: 'recovery', chainId, epoch: key.version, grantId, U, Q }, holder: { index, X } });
}

/**
 * What the officer gives for a proven grant.
 * @returns the file for the requester, or RECOVERY_OTHER_KEY
 */
export function openRecoveryPart(proven: ProvenDemand, share: RecoveryShare, random: RandomBytes): Verdict<Uint8Array> {
  const made = contextOf(proven, share);
  if (!made.ok) return made;
  const { context, holder } = made.value;
  const { account } = proven.key.holders[holder.index - 1] as RecoveryKeyEntry['holders'][number];
  const x = bytesToBigint(share.x);
  assert(x !== 0n, 'a share that was held is not zero');
  const part: RecoveryPart = {
    format: 'emr-recovery-part-1',
    chainId: proven.chainId,
    grantId: proven.grantId,
    key: share.key,
    account,
    share: createReleaseShare(context, holder, x, random),
  };
  return accept(encode(recoveryPart, part));
}
