/**
 * The custodian's judgement: does a verified state say that this grant is active now? Pure, so that it can be tested
 * to the last branch; keys and sockets are in the files beside it. What it says of custody sessions: judge-session.ts.
 */
import { equalBytes } from '../../common/bytes.ts';
import { decodePoint, rawToPoint } from '../../common/crypto/curve.ts';
import type { Holder, ReleaseContext } from '../../common/crypto/custody/release-share.ts';
import type { Sm2Engine } from '../../common/crypto/sm2.ts';
import { accept, reject, type Verdict } from '../../common/errors.ts';
import {
  type LightProof,
  type TrustedSet,
  verifyLightProof,
  type VerifiedHeader,
} from '../../common/protocol/light.ts';
import { custodyEpochEntry } from '../../common/protocol/custody.ts';
import type { Hash, OrgId, TimeMs } from '../../common/protocol/primitives.ts';
import { activeRequest, activeRequester, entry } from '../../common/protocol/proven-grant.ts';
import type { ReleaseDemand, ShareDemand } from '../../common/protocol/release.ts';
import {
  paramsEntry,
  type RecordVersionEntry,
  recordVersionEntry,
  type RequestEntry,
  stateKey,
} from '../../common/protocol/state-entries.ts';
import { decodeSidecar, sidecarHash } from '../../common/protocol/transaction.ts';

/** The state must be younger than this many heartbeats: while a grant is active, blocks come at least that often. */
const MAX_AGE_HEARTBEATS = 3;

/** What every demand for key material proves. */
type GrantDemand = Pick<ReleaseDemand, keyof ReleaseDemand & keyof ShareDemand>;

/** An active grant, and the record version that it is for. */
export interface ProvenGrant {
  readonly request: RequestEntry;
  readonly record: RecordVersionEntry;
}

export interface Judgement extends ProvenGrant {
  /** The wrap that was made to this hospital's custodian. */
  readonly wrap: Uint8Array;
}

/** What a share is to be made of; all of it proven. */
export interface ShareJudgement {
  readonly context: ReleaseContext;
  readonly holder: Holder;
  /** The session that made the shares of the active epoch. */
  readonly sessionId: Hash;
}

export interface Circumstances {
  readonly orgId: OrgId;
  readonly nowMs: TimeMs;
}

/** What is known of heads so far. */
export interface SeenHeads {
  readonly trusted: TrustedSet;
  /** Highest height that the custodian has seen proven: state never goes back. */
  readonly seenHeight: number;
  /** The last head that was verified: final is final, so that the same header needs no second look. */
  readonly last: { readonly bytes: Uint8Array; readonly head: VerifiedHeader } | null;
  /** Block 0, which has no certificate: who has the genesis document makes its header. Null once later blocks were seen. */
  readonly genesis: { readonly bytes: Uint8Array; readonly head: VerifiedHeader } | null;
}

/**
 * Whether a header is final, and not older than what was proven before. What it says about a grant comes after: a head
 * that is verified is to be remembered even if the grant is refused, or an older one could be shown next.
 * @returns the header, CUSTODIAN_ROLLBACK, or the code of a proof that does not hold
 */
export function judgeHead(proof: LightProof, seen: SeenHeads, engine: Sm2Engine): Verdict<VerifiedHeader> {
  const known = [seen.last, seen.genesis].find((one) => one !== null && equalBytes(one.bytes, proof.head.header));
  const head = known ? accept(known.head) : verifyLightProof(seen.trusted, proof, engine);
  if (!head.ok) return head;
  return head.value.header.height < seen.seenHeight ? rolledBack(head.value, seen.seenHeight) : head;
}

export const rolledBack = ({ header }: VerifiedHeader, seenHeight: number): ReturnType<typeof reject> =>
  reject(
    'CUSTODIAN_ROLLBACK',
    `the state of height ${header.height} is older than ${seenHeight}, which was proven before`,
  );

/**
 * A demand for the wrap of a record that is in direct custody.
 * @param at verified by `judgeHead`
 * @returns what to release, or why not: as `judgeGrant`, and WRONG_CUSTODIAN, WRAP_MISSING, SIDECAR_MISMATCH
 */
export function judgeDemand(demand: ReleaseDemand, at: VerifiedHeader, about: Circumstances): Verdict<Judgement> {
  const grant = judgeGrant(demand, at, about);
  if (!grant.ok) return grant;
  const { record } = grant.value;
  if (record.orgId !== about.orgId) {
    return reject('WRONG_CUSTODIAN', `the record was written at ${record.orgId}; this custodian is of ${about.orgId}`);
  }
  const wrap = wrapFor(about.orgId, record, demand.sidecar);
  return wrap.ok ? accept({ ...grant.value, wrap: wrap.value }) : wrap;
}

/**
 * A demand for a share of a record that is in threshold custody. U, Q and the epoch are those of the proven entries, so that
 * a caller can name a grant and nothing else; consensus has checked the proof of the capsule that U is of, before the
 * record was stored.
 * @param at verified by `judgeHead`
 * @returns what to make the share of, or why not: as `judgeGrant`, and CUSTODY_DIRECT, CUSTODY_NO_EPOCH,
 *   CAPSULE_OTHER_KEY, CUSTODY_NOT_HOLDER, CAPSULE_MALFORMED, REQUEST_KEY_INVALID
 */
export function judgeShare(demand: ShareDemand, at: VerifiedHeader, about: Circumstances): Verdict<ShareJudgement> {
  const grant = judgeGrant(demand, at, about);
  if (!grant.ok) return grant;
  const { capsule } = grant.value.record.content;
  if (capsule.kind !== 'threshold') {
    return reject('CUSTODY_DIRECT', "the record's key is not shared; its writer's custodian has it");
  }
  const epoch = entry(custodyEpochEntry, at, stateKey.custodyEpoch(), demand.epoch, 'CUSTODY_NO_EPOCH');
  if (!epoch.ok) return epoch;
  const { key, holders, sessionId } = epoch.value;
  if (!equalBytes(capsule.key, key)) {
    return reject('CAPSULE_OTHER_KEY', 'the record is sealed under another key than the one that is shared now');
  }
  const index = holders.findIndex((holder) => holder.orgId === about.orgId) + 1;
  const own = holders[index - 1];
  if (own === undefined)
    return reject('CUSTODY_NOT_HOLDER', `${about.orgId} holds no share of epoch ${epoch.value.epoch}`);
  const [U, X, Q] = [
    decodePoint(capsule.u),
    decodePoint(own.share),
    rawToPoint(grant.value.request.request.requesterKey),
  ];
  if (U === undefined || X === undefined) return reject('CAPSULE_MALFORMED', 'a proven entry holds what is no point');
  // The chain asked for a proof of possession; what no key is must not become an exception here all the same.
  if (Q === undefined) return reject('REQUEST_KEY_INVALID', "the request's key is no point of the curve");
  const context = {
    use: 'custody',
    chainId: at.header.chainId,
    epoch: epoch.value.epoch,
    grantId: demand.grantId,
    U,
    Q,
  } as const;
  return accept({ context, holder: { index, X }, sessionId });
}

/**
 * @returns the grant, or GRANT_NOT_FOUND, REQUEST_NOT_GRANTED, GRANT_REVOKED, GRANT_EXPIRED, ACCOUNT_SUSPENDED,
 *   ORG_SUSPENDED, CUSTODIAN_STALE_STATE, or the code of a proof that does not hold
 */
function judgeGrant(demand: GrantDemand, at: VerifiedHeader, about: Circumstances): Verdict<ProvenGrant> {
  const params = entry(paramsEntry, at, stateKey.params(), demand.params, 'STATE_INCOMPLETE');
  if (!params.ok) return params;
  const ageMs = about.nowMs - at.header.timestampMs;
  if (ageMs > MAX_AGE_HEARTBEATS * params.value.heartbeatMs || -ageMs > params.value.maxClockDriftMs) {
    return reject(
      'CUSTODIAN_STALE_STATE',
      `the last block is ${Math.round(ageMs / 1000)} s old by the custodian's clock; check the clocks and that the chain makes progress`,
    );
  }
  const request = activeRequest(demand.grantId, { at, proof: demand.request }, about.nowMs);
  if (!request.ok) return request;
  const asked = request.value.request;
  const account = { at, proof: demand.requester };
  const active = activeRequester(asked, { account, organisation: { at, proof: demand.requesterOrg } });
  if (!active.ok) return active;
  const record = entry(
    recordVersionEntry,
    at,
    stateKey.recordVersion(asked.recordId, asked.version),
    demand.recordVersion,
    'RECORD_UNKNOWN',
  );
  return record.ok ? accept({ request: request.value, record: record.value }) : record;
}

function wrapFor(orgId: OrgId, record: RecordVersionEntry, bytes: Uint8Array): Verdict<Uint8Array> {
  if (!equalBytes(sidecarHash(bytes), record.content.sidecarHash)) {
    return reject('SIDECAR_MISMATCH', "the sidecar is not the record's");
  }
  const sidecar = decodeSidecar(bytes);
  if (!sidecar.ok) return sidecar;
  const wraps = sidecar.value.kind === 'wraps' ? sidecar.value.wraps : [];
  const mine = wraps.find((wrap) => wrap.to.kind === 'custodian' && wrap.to.orgId === orgId);
  if (mine === undefined) {
    return reject(
      'WRAP_MISSING',
      "the record's policy keeps no key with this custodian; the patient's own client can deliver it",
    );
  }
  return accept(mine.ciphertext);
}
