/** Whether what a holder answers is its share of this grant: checked before it is passed on, so that one that lies is named. */
import { equalBytes } from '../../common/bytes.ts';
import { decodePoint, rawToPoint } from '../../common/crypto/curve.ts';
import { checkReleaseShare, type Holder, type ReleaseContext } from '../../common/crypto/custody/release-share.ts';
import type { Sm2Engine } from '../../common/crypto/sm2.ts';
import { InvariantError } from '../../common/errors.ts';
import { type CustodyEpochEntry, custodyEpochEntry, custodyShareHash } from '../../common/protocol/custody.ts';
import type { Hash, OrgId, PublicKey } from '../../common/protocol/primitives.ts';
import { refusal, type ReleaseAnswer } from '../../common/protocol/release.ts';
import { organisationEntry, stateKey } from '../../common/protocol/state-entries.ts';
import type { StatePort } from '../../rpc/ports.ts';
import { type Grant, valueOf } from './grants.ts';

export interface ShareHolder extends Holder {
  readonly orgId: OrgId;
  readonly custodianKey: PublicKey | null;
}

/** Everything that the shares of one grant are checked against. */
export interface SharedGrant {
  readonly context: ReleaseContext;
  readonly threshold: number;
  readonly holders: readonly ShareHolder[];
}

/** @returns null where no custody key is in use */
export async function sharedGrant(
  state: StatePort,
  chainId: Hash,
  grantId: Hash,
  { request, record }: Grant,
): Promise<SharedGrant | null> {
  const { answers } = await state.read([{ kind: 'get', key: stateKey.custodyEpoch() }]);
  const epoch = valueOf(custodyEpochEntry, answers[0], 'custody epoch');
  if (epoch === null) return null;
  const { capsule } = record.content;
  const U = capsule.kind === 'threshold' ? decodePoint(capsule.u) : undefined;
  const Q = rawToPoint(request.request.requesterKey);
  if (U === undefined || Q === undefined) throw new InvariantError('a stored capsule or request key is no point');
  return {
    context: { use: 'custody', chainId, epoch: epoch.epoch, grantId, U, Q },
    threshold: epoch.threshold,
    holders: await holdersOf(state, epoch),
  };
}

async function holdersOf(state: StatePort, { holders }: CustodyEpochEntry): Promise<readonly ShareHolder[]> {
  const { answers } = await state.read(
    holders.map(({ orgId }) => ({ kind: 'get', key: stateKey.organisation(orgId) })),
  );
  return holders.map(({ orgId, share }, k) => {
    const X = decodePoint(share);
    if (X === undefined) throw new InvariantError('a stored public share is no point');
    const org = valueOf(organisationEntry, answers[k], 'organisation');
    return { index: k + 1, X, orgId, custodianKey: org?.custodianKey ?? null };
  });
}

/** A share that is not the holder's, signed by its custodian: passed on, since it convicts it. */
export interface FalseShare extends Omit<Extract<ReleaseAnswer, { readonly kind: 'share' }>, 'kind'> {
  readonly kind: 'falseShare';
  readonly code: string;
  readonly message: string;
}

/** The answer as it came, or what is false about it: with the share where its custodian signed that, else a refusal. */
export function checkedAnswer(
  answer: ReleaseAnswer,
  { context }: SharedGrant,
  holder: ShareHolder,
  engine: Sm2Engine,
): ReleaseAnswer | FalseShare {
  const { orgId } = holder;
  if (answer.kind === 'refused') return answer;
  const what = `${orgId} sent what is not its share of epoch ${context.epoch} for this grant`;
  const isUnsigned = (why: string): ReleaseAnswer =>
    refusal(orgId, { code: 'SHARE_UNSIGNED', message: `${what}: ${why}; its node lies, or is at another epoch` });
  if (answer.kind !== 'share') return isUnsigned('a wrapped key');
  const signed = custodyShareHash(context, orgId, answer.share);
  const isIts = holder.custodianKey !== null && equalBytes(answer.custodianKey, holder.custodianKey);
  if (!isIts || !engine.verify(answer.custodianKey, signed, answer.signature))
    return isUnsigned('its custodian did not sign it');
  const checked = checkReleaseShare(answer.share, context, holder);
  if (checked.ok) return answer;
  return { ...answer, kind: 'falseShare', code: 'SHARE_FALSE', message: `${what}, and signed it: ${checked.message}` };
}
