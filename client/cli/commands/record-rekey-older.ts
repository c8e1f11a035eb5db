/**
 * `emrchain record rekey-older`: all records of an author whose keys are kept otherwise than new ones are, each written anew
 * from a folder of originals. One folder holds offers and consents, so that the command is run again until nothing is left:
 *
 *   FILES/0x…recordId/scan.dcm, or FILES/0x…recordId.dcm      the content, in the clear
 *   OFFERS/0x…recordId-VERSION.offer.json                      written by this command, for the patient
 *   OFFERS/0x…recordId-VERSION.consent.json                    written by the patient; then this command submits
 */
import { access, mkdir, readdir, stat } from 'node:fs/promises';
import { basename, extname, join } from 'node:path';
import { equalBytes } from '../../../common/bytes.ts';
import { EmrError } from '../../../common/errors.ts';
import type { ChainView } from '../../chain-view.ts';
import { keptOtherwise } from '../../custody.ts';
import { ClientError, describeFailure } from '../../errors.ts';
import { fromHex, hexOf } from '../../hex.ts';
import type { ProvenRecord } from '../../record-get.ts';
import { readConsent, readOffer, writeOffer } from '../../record-offer.ts';
import { clean, fields } from '../../text.ts';
import type { Result } from '../output.ts';
import type { Session } from '../session.ts';
import { contentTypeOf, prepared, submitAndReplicate } from './record-writing.ts';

const PAGE = 100;

/** `waits` for the patient's consent; `missing`: there is no original in the folder. */
type State = 'written' | 'waits' | 'missing' | 'failed';

interface Outcome {
  readonly recordId: string;
  /** The version that takes the place of the one that is there. */
  readonly version: number;
  readonly reasons: readonly string[];
  readonly state: State;
  /** The offer that waits, or why it failed. */
  readonly detail: string | null;
}

interface Folders {
  readonly files: string;
  readonly offers: string;
}

/** Records whose latest version this account wrote, in order of id. */
async function ownRecords({ rpc }: ChainView, account: Uint8Array): Promise<readonly Uint8Array[]> {
  const ids: Uint8Array[] = [];
  const own = hexOf(account);
  for (let cursor: string | null | undefined; cursor !== null;) {
    const page = await rpc.call('emr_listRecords', { limit: PAGE, ...(cursor === undefined ? {} : { cursor }) });
    for (const { id, latest } of page.items) if (latest?.writer === own) ids.push(fromHex(id, 32));
    cursor = page.nextCursor;
  }
  return ids;
}

async function isThere(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}

/** The original of a record: a file of this name, or the only file in a folder of this name. */
async function originalOf(files: string, names: readonly string[], recordId: string): Promise<string | undefined> {
  const name = names.find((one) => one === recordId || one.startsWith(`${recordId}.`));
  if (name === undefined) return undefined;
  const path = join(files, name);
  if (!(await stat(path)).isDirectory()) return path;
  const [only, another] = (await readdir(path)).filter((one) => !one.startsWith('.'));
  if (only !== undefined && another === undefined) return join(path, only);
  throw new ClientError('ORIGINAL_AMBIGUOUS', `${path} does not hold one file.`, 'Leave the original in it alone.');
}

/** One step on: an offer where there is none, the chain where there is a consent. */
async function step(
  session: Session,
  { files, offers }: Folders,
  names: readonly string[],
  { record, version }: ProvenRecord,
): Promise<{ readonly state: State; readonly detail: string | null }> {
  const recordId = hexOf(record.id);
  const stem = join(offers, `${recordId}-${version.version + 1}`);
  const [offerPath, consentPath] = [`${stem}.offer.json`, `${stem}.consent.json`];
  if (!(await isThere(offerPath))) {
    const path = await originalOf(files, names, recordId);
    if (path === undefined) return { state: 'missing', detail: null };
    const { policyRef, categoryToken } = version.content;
    const target = { kind: 'version' as const, recordId: record.id };
    // A file that is called by the record's id has no name of its own; in a folder of the record it has the one it had.
    const own = basename(path);
    const name = own.startsWith(recordId) ? `content${extname(own)}` : own;
    const described = { path, contentType: contentTypeOf(path), name, policyRef, categoryToken, target };
    await writeOffer(offerPath, await prepared(session, described));
    return { state: 'waits', detail: offerPath };
  }
  if (!(await isThere(consentPath))) return { state: 'waits', detail: offerPath };
  const { chainId } = await session.node();
  await submitAndReplicate(session, await readOffer(offerPath, chainId), await readConsent(consentPath));
  return { state: 'written', detail: null };
}

async function attempt(...given: Parameters<typeof step>): Promise<Awaited<ReturnType<typeof step>>> {
  try {
    return await step(...given);
  } catch (error) {
    // What is wrong with one record keeps no other waiting; a fault of this program does.
    if (!(error instanceof EmrError)) throw error;
    const { code, message } = describeFailure(error);
    return { state: 'failed', detail: `${code}: ${message}` };
  }
}

const lineOf = ({ recordId, version, state, detail }: Outcome): string =>
  `${recordId}  version ${version}  ${state}${detail === null ? '' : `  ${clean(detail)}`}`;

export async function rekeyOlder(session: Session, folders: Folders): Promise<Result> {
  const { provenRecord } = await import('../../record-get.ts');
  const [view, { account }] = [await session.view(), await session.sender()];
  await mkdir(folders.offers, { recursive: true, mode: 0o700 });
  const names = await readdir(folders.files);
  const outcomes: Outcome[] = [];
  let current = 0;
  for (const id of await ownRecords(view, account)) {
    const proven = await provenRecord(view, id);
    const reasons = equalBytes(proven.version.writer, account) ? await keptOtherwise(view, proven) : [];
    if (reasons.length === 0) {
      current += 1;
      continue;
    }
    const done = await attempt(session, folders, names, proven);
    outcomes.push({ recordId: hexOf(id), version: proven.version.version + 1, reasons, ...done });
    session.out.note(lineOf(outcomes.at(-1) as Outcome));
  }
  return concluded(session, outcomes, current);
}

/** @throws ClientError REKEY_INCOMPLETE after the result, so that scripts see by the exit code whether anything is left */
function concluded(session: Session, outcomes: readonly Outcome[], current: number): Result {
  const count = (state: State): number => outcomes.filter((one) => one.state === state).length;
  const left = outcomes.length - count('written');
  const result: Result = {
    json: { current, records: outcomes, left },
    text: fields([
      ['kept as new ones are', `${current}`],
      ['written anew', `${count('written')}`],
      ['wait for a consent', `${count('waits')}`],
      ['without an original', `${count('missing')}`],
      ['failed', `${count('failed')}`],
    ]),
  };
  if (left === 0) return result;
  session.out.result(result);
  throw new ClientError(
    'REKEY_INCOMPLETE',
    `${left} records are still kept as before.`,
    'Let patients consent: emrchain record consent OFFER --out the same name with .consent.json; add originals; run it again.',
    { left },
  );
}
