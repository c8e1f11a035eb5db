/**
 * A share that its custodian signed and that is not its share: what convicts a custodian. Whoever received it keeps it; anybody
 * who has the chain can judge it, without asking anybody. What it names is public, and helps to open nothing.
 */
import { bytesToHex0x } from '../common/bytes.ts';
import { decodePoint, rawToPoint } from '../common/crypto/curve.ts';
import { checkReleaseShare } from '../common/crypto/custody/release-share.ts';
import type { Sm2Engine } from '../common/crypto/sm2.ts';
import { accept, reject, type Verdict } from '../common/errors.ts';
import { type CustodyEpochEntry, custodyShareHash, type SealedCapsule } from '../common/protocol/custody.ts';
import type { OrgId } from '../common/protocol/primitives.ts';

export interface ShareEvidence {
  readonly orgId: OrgId;
  /** Epoch that it was signed for. */
  readonly epoch: number;
  /** Hash of the granted request, 32 bytes. */
  readonly grantId: Uint8Array;
  /** As it was answered, 164 bytes. */
  readonly share: Uint8Array;
  /** By the custodian's key over `custodyShareHash`, 64 bytes. */
  readonly signature: Uint8Array;
}

/** What the chain holds of it; proven, by whoever judges. */
export interface ShareGround {
  readonly chainId: Uint8Array;
  /** The epoch that the evidence names. */
  readonly epoch: Pick<CustodyEpochEntry, 'epoch' | 'holders'>;
  /** Of the organisation that the evidence names, 64 bytes. */
  readonly custodianKey: Uint8Array;
  /** Q of the request, 64 bytes. */
  readonly requesterKey: Uint8Array;
  /** Of the record version that the request is for. */
  readonly capsule: Pick<SealedCapsule, 'u'>;
}

/**
 * @returns why the share is false; EVIDENCE_GROUND where the ground is not that of the evidence, EVIDENCE_UNSIGNED where the
 *   custodian has not said it, EVIDENCE_SHARE_GOOD where it is the holder's share
 */
export function judgeShareEvidence(
  { orgId, epoch, grantId, share, signature }: ShareEvidence,
  ground: ShareGround,
  engine: Sm2Engine,
): Verdict<{ readonly code: string; readonly message: string }> {
  const at = ground.epoch.holders.findIndex((holder) => holder.orgId === orgId);
  const X = decodePoint(ground.epoch.holders[at]?.share ?? new Uint8Array(0));
  const [U, Q] = [decodePoint(ground.capsule.u), rawToPoint(ground.requesterKey)];
  if (ground.epoch.epoch !== epoch || X === undefined || U === undefined || Q === undefined) {
    return reject('EVIDENCE_GROUND', `the chain has no share of ${orgId} for this grant in epoch ${epoch}`);
  }
  const context = { use: 'custody', chainId: ground.chainId, epoch, grantId, U, Q } as const;
  if (!engine.verify(ground.custodianKey, custodyShareHash(context, orgId, share), signature)) {
    return reject('EVIDENCE_UNSIGNED', `the custodian of ${orgId} did not sign it for epoch ${epoch}`);
  }
  const checked = checkReleaseShare(share, context, { index: at + 1, X });
  return checked.ok
    ? reject('EVIDENCE_SHARE_GOOD', `it is the share of ${orgId}`)
    : accept({ code: checked.code, message: checked.message });
}

/** As it is kept, and shown. */
export const shareEvidenceJson = ({ orgId, epoch, grantId, share, signature }: ShareEvidence) => ({
  orgId,
  epoch,
  grantId: bytesToHex0x(grantId),
  share: bytesToHex0x(share),
  signature: bytesToHex0x(signature),
});
