/**
 * A record's key from the custodians that share it: shares that they answer, shares that they posted on the chain after a
 * demand, any threshold of them from one epoch. threshold.ts does the arithmetic; this file gathers, and says who is to
 * blame. The node passes things on and is believed in nothing: the epoch is proven, C is hashed, the key is checked.
 */
import { equalBytes } from '../common/bytes.ts';
import { custodyDemandEntry, type CustodyEpochEntry } from '../common/protocol/custody.ts';
import { stateKey } from '../common/protocol/state-entries.ts';
import type { Sidecar } from '../common/protocol/transaction.ts';
import { activeEpoch, labelOf, sidecarOf } from './custody.ts';
import { ClientError } from './errors.ts';
import { fromHex, hexOf } from './hex.ts';
import {
  type Asked,
  askHolders,
  type Attempt,
  custodianKeyOf,
  isDelivery,
  refusalText,
  type Reply,
  tryReply,
} from './release-replies.ts';
import { judgeShareEvidence, type ShareEvidence } from './share-evidence.ts';
import { clean } from './text.ts';
import {
  custodyKey,
  type OfferedShare,
  type Opening,
  openWithShares,
  type ReleasingKey,
  type SealedRecord,
} from './threshold.ts';

/**
 * Asks all holders; once more where the epoch has changed meanwhile, since shares of two epochs do not fit.
 * @throws ClientError SEALED_WRONG_KEY, WRAP_ERASED, PROOF_INVALID, those of calls
 */
export async function openByShares(attempt: Attempt): Promise<Asked> {
  let epoch = requireEpoch(attempt);
  for (let again = false; ; again = true) {
    const sidecar = sidecarOf(attempt.view, attempt.version);
    // It is awaited below, after what may make it needless.
    sidecar.catch(() => undefined);
    const [before, replies] = await Promise.all([epoch, askHolders(attempt)]);
    const owners = replies.find(isDelivery);
    const delivered = owners && (await tryReply(attempt, owners));
    if (delivered !== undefined) return { key: delivered, from: 'the owner' };

    const record = sealedRecord(attempt, before, await sidecar);
    const opening = await openRound(attempt, record, replies);
    if (opening.kind === 'opened') return { key: opening.key, from: `the custodians of ${listed(opening.by)}` };
    if (opening.kind === 'wrongKey') throw wrongKey(attempt, opening);
    const now = await requireEpoch(attempt);
    if (again || now.epoch === before.epoch) {
      return { hadDelivery: owners !== undefined, error: () => tooFew(attempt, record, replies, opening) };
    }
    attempt.complaints.length = 0;
    attempt.evidence.length = 0;
    epoch = Promise.resolve(now);
  }
}

async function requireEpoch({ view, version }: Attempt): Promise<CustodyEpochEntry> {
  const epoch = await activeEpoch(view);
  const { capsule } = version.content;
  if (epoch !== null && capsule.kind === 'threshold' && equalBytes(capsule.key, epoch.key)) return epoch;
  throw new ClientError(
    'CUSTODY_OTHER_KEY',
    'The record is sealed under a key that the custodians of this chain do not share.',
    'Use another node (--rpc URL), and tell the operators: no quorum can have accepted this record.',
  );
}

function sealedRecord(
  { view, grant, record, version }: Attempt,
  epoch: CustodyEpochEntry,
  sidecar: Sidecar,
): SealedRecord {
  const { content } = version;
  if (content.capsule.kind !== 'threshold' || sidecar.kind !== 'sealed') {
    throw new ClientError('CAPSULE_MALFORMED', 'The record has no sealed key.', TELL_THE_WRITER);
  }
  return {
    chainId: view.node.chainId,
    grantId: grant.hash,
    requesterKey: grant.request.requesterKey,
    sealedUnder: custodyKey(epoch),
    capsule: content.capsule,
    c: sidecar.c,
    label: labelOf(view.node.chainId, { ...version, owner: record.owner }, content),
  };
}

/** What was answered; where that is too little, with what the chain holds for this grant. Complains about who lied. */
async function openRound(attempt: Attempt, record: SealedRecord, replies: readonly Reply[]): Promise<Opening> {
  const answered: OfferedShare[] = [];
  for (const reply of replies) {
    const { orgId, share, code } = reply;
    if (orgId === null || share === null) continue;
    // The node says that it is false. It is believed in nothing, but a share that it finds false is not tried first.
    const isGood = code === null || (await blame(attempt, record, reply));
    if (isGood) answered.push({ holder: orgId, share: fromHex(share) });
  }
  let opening = openOrThrow(attempt, record, answered);
  for (const { holder } of opening.rejected) {
    const reply = replies.find((one) => one.orgId === holder && one.share !== null);
    if (reply !== undefined) await blame(attempt, record, reply);
  }
  if (opening.kind === 'tooFew') {
    const posted = await postedShares(attempt, record.sealedUnder);
    if (posted.length > 0) opening = openOrThrow(attempt, record, [...posted, ...answered]);
  }
  return opening;
}

function openOrThrow({ requestKey }: Attempt, record: SealedRecord, offered: readonly OfferedShare[]): Opening {
  const opening = openWithShares(record, offered, requestKey);
  if (opening.ok) return opening.value;
  throw new ClientError(opening.code, `The sealed key does not open: ${opening.message}.`, TELL_THE_WRITER);
}

/**
 * A false share with a right signature is kept: it convicts its custodian, for whoever has the chain.
 * @returns whether the share is good after all, and nobody to blame
 */
async function blame({ view, complaints, evidence }: Attempt, record: SealedRecord, reply: Reply): Promise<boolean> {
  const orgId = reply.orgId ?? '';
  const { chainId, sealedUnder, grantId, requesterKey, capsule } = record;
  const holders = sealedUnder.holders.map(({ name, share }) => ({ orgId: name, share }));
  const epoch = { epoch: sealedUnder.epoch, holders };
  const kept: ShareEvidence = {
    orgId,
    epoch: epoch.epoch,
    grantId,
    share: fromHex(reply.share ?? '0x'),
    signature: fromHex(reply.signature ?? '0x'),
  };
  const custodianKey = await custodianKeyOf(view, orgId);
  if (custodianKey === null) {
    complaints.push(`an answer came in the name of ${clean(orgId)}, which has no custodian`);
    return false;
  }
  const judged = judgeShareEvidence(kept, { chainId, epoch, custodianKey, requesterKey, capsule }, view.engine);
  if (judged.ok) {
    evidence.push(kept);
    complaints.push(
      `the custodian of ${clean(orgId)} SIGNED A FALSE SHARE for epoch ${epoch.epoch} (${judged.value.message}); keep this as evidence: ` +
        `grant ${hexOf(grantId)}, share ${hexOf(kept.share)}, signature ${hexOf(kept.signature)}`,
    );
    return false;
  }
  if (judged.code === 'EVIDENCE_SHARE_GOOD') return true;
  complaints.push(
    `a share in the name of ${clean(orgId)} counts for nothing: ${judged.message}; somebody between made it up, or it is of another epoch`,
  );
  return false;
}

/** Shares that consensus checked when they were posted. Nobody has demanded any: none. */
async function postedShares({ view, grant }: Attempt, { epoch }: ReleasingKey): Promise<readonly OfferedShare[]> {
  const found = await view.find(stateKey.custodyDemand(grant.hash), custodyDemandEntry, 'the demand for shares');
  const posted = found?.value.epoch === epoch ? found.value.shares : [];
  return posted.map(({ orgId, share }) => ({ holder: orgId, share }));
}

const TELL_THE_WRITER = 'Tell the writing hospital: the record must be written anew (emrchain record rekey).';

const listed = (orgIds: readonly string[]): string => orgIds.map((orgId) => clean(orgId)).join(', ');

const wrongKey = ({ version }: Attempt, { by }: Opening): ClientError =>
  new ClientError(
    'SEALED_WRONG_KEY',
    `The custodians of ${listed(by)} gave proven shares, and what was sealed is not the key of this record: ` +
      `its writer, ${hexOf(version.writer)} of ${clean(version.orgId)}, sealed something else.`,
    TELL_THE_WRITER,
  );

/** Where custodians do not come back. */
function lastResort({ content: { capsule } }: Attempt['version'], grant: Uint8Array): string {
  if (capsule.kind !== 'threshold' || capsule.recovery === null) return '';
  return ` Where shares are lost for good, officers of the recovery key open it: emrchain recovery export ${hexOf(grant)}.`;
}

function tooFew(
  { grant, version, complaints }: Attempt,
  { sealedUnder }: SealedRecord,
  replies: readonly Reply[],
  { by }: Opening,
): ClientError {
  const { threshold, holders } = sealedUnder;
  const refused = replies.filter(({ share, code }) => share === null && code !== null);
  const heard = new Set([...by, ...replies.flatMap(({ orgId }) => orgId ?? [])]);
  const silent = holders.flatMap(({ name }) => (heard.has(name) ? [] : [name]));
  const missing = holders.flatMap(({ name }) => (by.includes(name) ? [] : [name]));
  const said = [
    `${by.length} of the ${threshold} custodians that it takes gave their shares${by.length > 0 ? ` (${listed(by)})` : ''}`,
    ...refused.map(refusalText),
    ...(silent.length > 0 ? [`no answer came from ${listed(silent)}`] : []),
    ...complaints,
  ];
  return new ClientError(
    'KEY_NOT_RELEASED',
    `The key of this record is not released: ${said.join('; ')}.`,
    `Try again when ${threshold - by.length} more of ${listed(missing)} answer. Holders that refuse can be made to post their ` +
      `shares: emrchain access demand ${hexOf(grant.hash)}. The patient, too, can give the key: emrchain access deliver.` +
      lastResort(version, grant.hash),
    { given: by.length, needed: threshold },
  );
}
