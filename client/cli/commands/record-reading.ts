/** Reading records: show, list, history, get. `record.ts` names the options. */
import { constants } from 'node:os';
import type { ResultOf } from '../../../rpc/methods.ts';
import { cidText } from '../../cid-text.ts';
import { custodyWords } from '../../custody.ts';
import { ClientError } from '../../errors.ts';
import { hexOf, parseId } from '../../hex.ts';
import { resolveAccount } from '../../keys.ts';
import type { ChainView } from '../../chain-view.ts';
import type { UnlockedKey } from '../../keys.ts';
import type { OwnGrant, ProvenRecord } from '../../record-get.ts';
import type { Release } from '../../release.ts';
import { clean, fields, size, table, time } from '../../text.ts';
import type { Result } from '../output.ts';
import { gather, moreLine, parseLimit } from '../paging.ts';
import type { Session } from '../session.ts';

type RecordView = ResultOf<'emr_getRecord'>['record'];

export async function show(session: Session, _options: object, id: string): Promise<Result> {
  const view = await session.view();
  const recordId = parseId(id, 32, 'record');
  const { record } = await view.rpc.call('emr_getRecord', { recordId: hexOf(recordId) });
  const { latest } = record;
  if (latest === null) return partly(record);
  const { provenRecord } = await import('../../record-get.ts');
  const { verifiedReplicas } = await import('../../record-add.ts');
  const proven = await provenRecord(view, recordId);
  const { content } = proven.version;
  const replicas = await verifiedReplicas(view, { ...content, hospital: proven.version.orgId });
  return {
    json: { ...record, proven: true, atHeight: proven.at.header.height, replicas },
    text: fields([
      ['record', hexOf(recordId)],
      ['version', proven.version.version],
      ['hospital', proven.record.orgId],
      ['owner', hexOf(proven.record.owner)],
      ['written by', hexOf(proven.version.writer)],
      ['written', time(proven.version.createdMs)],
      ['section', proven.record.section],
      ['policy', hexOf(content.policyRef)],
      ['custody', custodyWords(content)],
      ['ciphertext', `${cidText(content.cid)}, ${size(content.sizeBytes)}`],
      ['digest', hexOf(content.dataDigest)],
      ['copies', replicas.length === 0 ? 'none verified' : replicas.map(({ orgId }) => orgId).join(', ')],
      ['proven', `by a quorum's certificate of block ${proven.at.header.height}; the owner's signature verifies`],
    ]),
  };
}

const partly = (record: RecordView): Result => ({
  json: { ...record, proven: false },
  text: [
    ...fields([
      ['record', record.id],
      ['hospital', record.orgId],
      ['version', record.latestVersion],
      ['policy', record.policyRef],
    ]),
    'You see what it takes to ask for access: emrchain access request RECORD.',
  ],
});

export async function list(
  session: Session,
  options: { patient?: string; org?: string; limit?: string },
): Promise<Result> {
  const { rpc } = await session.view();
  const filter = {
    ...(options.patient === undefined ? {} : { owner: hexOf(await resolveAccount(session.home, options.patient)) }),
    ...(options.org === undefined ? {} : { orgId: options.org }),
  };
  const { items, more } = await gather(parseLimit(options.limit), (query) =>
    rpc.call('emr_listRecords', { ...filter, ...query }),
  );
  const rows = items.map((r) => [
    r.id,
    clean(r.orgId),
    `${r.latestVersion}`,
    r.section ?? '-',
    r.createdMs === null ? '-' : time(r.createdMs),
  ]);
  return {
    json: items,
    text: [...table([['RECORD', 'HOSPITAL', 'VERSION', 'SECTION', 'CREATED'], ...rows]), ...moreLine(more)],
  };
}

export async function history(session: Session, _options: object, id: string): Promise<Result> {
  const { rpc } = await session.view();
  const recordId = hexOf(parseId(id, 32, 'record'));
  const { items, more } = await gather(1_000, (query) => rpc.call('emr_listVersions', { recordId, ...query }));
  const rows = items.map((v) => [`${v.version}`, time(v.createdMs), v.writer, size(v.sizeBytes), v.cid]);
  return { json: items, text: [...table([['VERSION', 'WRITTEN', 'BY', 'SIZE', 'CID'], ...rows]), ...moreLine(more)] };
}

interface GetOptions {
  readonly out: string;
  readonly version?: string;
  readonly grant?: string;
  readonly own?: boolean;
  readonly wrapKey?: string;
  readonly force?: boolean;
  readonly recoveryPart?: readonly string[];
}

export async function get(session: Session, options: GetOptions, id: string): Promise<Result> {
  const reading = await import('../../record-get.ts');
  if (options.force !== true) reading.refuseExisting(options.out);
  // An interrupt must end the process in an orderly way: what is decrypted and unfinished goes then.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => process.exit(128 + constants.signals[signal]));
  }
  const [view, { key }] = [await session.view(), await session.sender()];
  const recordId = parseId(id, 32, 'record');
  const version = parseVersion(options.version);
  const own =
    options.own === true
      ? null
      : await reading.findGrant(view, session.home, key.account, recordId, {
          ...(options.grant === undefined ? {} : { hash: parseId(options.grant, 32, 'request') }),
          ...(version === undefined ? {} : { version }),
          nowMs: session.nowMs(),
        });
  const proven = await reading.provenRecord(view, recordId, own?.grant.request.version ?? version);
  const opened =
    own === null ? await ownedKey(session, options, proven) : await released(view, key, own, proven, options);
  for (const complaint of opened.complaints) session.out.note(`warning: ${complaint}`);
  const read = await reading.fetchRecord(view, session.home, proven, opened.key, options.out, {
    replace: options.force === true,
    progress: (done, total) =>
      session.out.progress(`fetching ${size(done)} of ${size(total)} (${Math.floor((100 * done) / total)} %)`),
  });
  opened.key.fill(0);
  session.out.progressDone();
  const { shareEvidenceJson } = await import('../../share-evidence.ts');
  return {
    json: {
      recordId: hexOf(recordId),
      version: proven.version.version,
      out: read.path,
      name: read.name,
      contentType: read.contentType,
      sizeBytes: read.sizeBytes,
      issuedAtMs: read.issuedAtMs,
      requestHash: own && hexOf(own.grant.hash),
      keyFrom: opened.from,
      warnings: opened.complaints,
      evidence: opened.evidence.map(shareEvidenceJson),
      verified: ['state proof', 'owner signature', 'ciphertext digest', 'authentication tags', 'header hash'],
    },
    text: fields([
      ['written to', read.path],
      ['size', size(read.sizeBytes)],
      ['named', read.name],
      ['type', read.contentType],
      ['issued', time(read.issuedAtMs)],
      ['key from', opened.from],
      ['verified', 'state proof, owner signature, digest, tags, header hash'],
    ]),
  };
}

/** From the custodians, or from officers of the recovery key where their parts are given. */
async function released(
  view: ChainView,
  key: UnlockedKey,
  own: OwnGrant,
  proven: ProvenRecord,
  { recoveryPart }: GetOptions,
): Promise<Release> {
  if (recoveryPart === undefined) return (await import('../../record-get.ts')).grantedKey(view, key, own, proven);
  return (await import('../../recovery-demand.ts')).recoveredKey(view, key, own, proven, recoveryPart);
}

async function ownedKey(session: Session, options: GetOptions, proven: ProvenRecord): Promise<Release> {
  const { ownKey } = await import('../../record-get.ts');
  const view = await session.view();
  const key = await session.key();
  // An earlier key of the same account opens what was wrapped to it.
  const wrapKey =
    options.wrapKey === undefined ? key : { ...(await session.unlock(options.wrapKey)), account: key.account };
  return { key: await ownKey(view, wrapKey, proven), from: 'the own wrap', complaints: [], evidence: [] };
}

function parseVersion(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^[1-9]\d{0,8}$/.test(text))
    throw new ClientError('VERSION_INVALID', 'That is no version.', 'Give a number from 1 on.');
  return Number(text);
}
