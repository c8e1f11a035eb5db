/**
 * A record's key from the custodians that share it: shares that they answer, shares that they posted on the chain after a
 * demand, any threshold of them from one epoch. threshold.ts does the arithmetic; this file gathers, and says who is to
 * blame. The node passes things on and is believed in nothing: the epoch is proven, C is hashed, the key is checked.
 */
import { equalBytes } from '../common/bytes.ts';
import { custodyDemandEntry, type CustodyEpochEntry, custodyShareHash } from '../common/protocol/custody.ts';
import { stateKey } from '../common/protocol/state-entries.ts';
import type { Sidecar } from '../common/protocol/transaction.ts';
import { activeEpoch, labelOf, sidecarOf } from './custody.ts';
import { ClientError } from './errors.ts';
import { fromHex, hexOf } from './hex.ts';
import {
  type Asked,
  askHolders,
  type Attempt,
  isDelivery,
  refusalText,
  type Reply,
  signatureDoubt,
  tryReply,
} from './release-replies.ts';
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
  const answered = replies.flatMap(({ orgId, share }) =>
    orgId === null || share === null ? [] : [{ holder: orgId, share: fromHex(share) }],
  );
  let opening = openOrThrow(attempt, record, answered);
  for (const { holder, message } of opening.rejected) {
    const reply = replies.find((one) => one.orgId === holder && one.share !== null);
    if (reply !== undefined) attempt.complaints.push(await blame(attempt, holder, reply, message));
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

/** A wrong share with a right signature is proof against its custodian, for whoever has the chain. */
async function blame({ view, grant }: Attempt, orgId: string, reply: Reply, message: string): Promise<string> {
  const share = fromHex(reply.share ?? '0x');
  const signed = (of: string): Uint8Array => custodyShareHash(view.node.chainId, grant.hash, of, share);
  const doubt = await signatureDoubt(view, reply, signed);
  if (doubt !== undefined) return `${doubt}, and the share is wrong (${message}): somebody between made it up`;
  const evidence = `grant ${hexOf(grant.hash)}, share ${hexOf(share)}, signature ${reply.signature ?? ''}`;
  return `the custodian of ${clean(orgId)} SIGNED A WRONG SHARE (${message}); keep this as evidence: ${evidence}`;
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
  const refused = replies.filter(({ orgId, code }) => orgId !== null && code !== null && !by.includes(orgId));
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
