/** A custody key whose shares a test holds: real crypto, dealt by the test in place of a session. */
import { encodePoint, GENERATOR, rawToPoint } from '../../common/crypto/curve.ts';
import { parseCapsule } from '../../common/crypto/custody/capsule.ts';
import { createReleaseShare, type ReleaseContext } from '../../common/crypto/custody/release-share.ts';
import { evaluate } from '../../common/crypto/custody/sharing.ts';
import { hq } from '../../common/crypto/hash.ts';
import { assert } from '../../common/errors.ts';
import { u32be } from '../../common/bytes.ts';
import { systemRandom } from '../../common/native/sm2-openssl.ts';
import { capsuleBytesOf, custodyThreshold, type CustodyEpochEntry } from '../../common/protocol/custody.ts';
import type { SealedRecord } from '../../client/threshold.ts';

export interface SharedCustody {
  readonly epoch: CustodyEpochEntry;
  readonly secrets: ReadonlyMap<string, bigint>;
}

/** @param epoch another epoch has the same key X and other shares */
export function sharedCustody(orgIds: readonly string[], epoch = 1): SharedCustody {
  const threshold = custodyThreshold(orgIds.length);
  const coefficients = Array.from({ length: threshold }, (_, k) =>
    hq('test-custody', u32be(k === 0 ? 0 : epoch), u32be(k)),
  );
  const secrets = new Map(orgIds.map((orgId, at) => [orgId, evaluate(coefficients, at + 1)]));
  return {
    secrets,
    epoch: {
      epoch,
      sessionId: new Uint8Array(32).fill(epoch),
      key: encodePoint(GENERATOR.multiply(coefficients[0] as bigint)),
      threshold,
      holders: orgIds.map((orgId) => ({
        orgId,
        share: encodePoint(GENERATOR.multiply(secrets.get(orgId) as bigint)),
      })),
      sinceHeight: 1,
      sinceMs: 0,
      refreshMs: 0,
    },
  };
}

/** The share that a holder gives for a record that is sealed under the key; `change` makes it one for something else. */
export function shareOf(
  { epoch, secrets }: SharedCustody,
  record: SealedRecord,
  orgId: string,
  change: Partial<ReleaseContext> & { readonly x?: bigint } = {},
): Uint8Array {
  const capsule = parseCapsule(capsuleBytesOf(record.capsule, record.c));
  const Q = rawToPoint(record.requesterKey);
  assert(capsule.ok && Q !== undefined, 'a capsule and a key');
  const index = epoch.holders.findIndex((holder) => holder.orgId === orgId) + 1;
  const x = change.x ?? secrets.get(orgId) ?? 0n;
  const context = {
    use: 'custody' as const,
    chainId: record.chainId,
    epoch: epoch.epoch,
    grantId: record.grantId,
    U: capsule.value.U,
    Q,
    ...change,
  };
  return createReleaseShare(context, { index, X: GENERATOR.multiply(x) }, x, systemRandom);
}
