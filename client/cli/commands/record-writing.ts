/** Writing records with the patient's consent: add, consent, submit. `record.ts` names the options. */
import { rm } from 'node:fs/promises';
import { basename } from 'node:path';
import { SECTION_CLASSES } from '../../../common/protocol/record.ts';
import { sealingKeys } from '../../custody.ts';
import { ClientError } from '../../errors.ts';
import { hexOf, parseId } from '../../hex.ts';
import { bytesToHex } from '../../../common/bytes.ts';
import { resolveAccount } from '../../keys.ts';
import { cidText } from '../../cid-text.ts';
import { provenPolicy } from '../../policies.ts';
import { policyLines } from '../../policy-text.ts';
import {
  checkOffer,
  type Consent,
  consentTo,
  describeOffer,
  readConsent,
  readOffer,
  type RecordOffer,
  subjectOf,
  writeConsent,
  writeOffer,
} from '../../record-offer.ts';
import type { NewRecord, Replica, SubmittedRecord } from '../../record-add.ts';
import { fields, size } from '../../text.ts';
import { tokenOf } from '../../tokens.ts';
import { txFields, txView } from '../execute.ts';
import type { Result } from '../output.ts';
import type { Session } from '../session.ts';

interface AddOptions extends ConsentOptions {
  readonly patient?: string;
  readonly record?: string;
  readonly policy?: string;
  readonly category: string;
  readonly tokens?: string;
  readonly section: string;
  readonly type?: string;
  readonly name?: string;
}

const TYPES: Readonly<Record<string, string>> = {
  json: 'application/json',
  'fhir.json': 'application/fhir+json',
  dcm: 'application/dicom',
  pdf: 'application/pdf',
  xml: 'application/xml',
  txt: 'text/plain',
  png: 'image/png',
  jpg: 'image/jpeg',
};

/** By the end of the file's name; opaque bytes otherwise. */
export function contentTypeOf(path: string): string {
  const name = path.toLowerCase();
  const ending = Object.keys(TYPES)
    .filter((one) => name.endsWith(`.${one}`))
    .sort((a, b) => b.length - a.length)[0];
  return (ending === undefined ? undefined : TYPES[ending]) ?? 'application/octet-stream';
}

async function categoryToken(session: Session, options: AddOptions): Promise<Uint8Array> {
  if (/^0x[0-9a-fA-F]{64}$/.test(options.category)) return parseId(options.category, 32, 'category');
  return tokenOf(await session.tokens(options.tokens), 'category', options.category);
}

async function describedRecord(session: Session, options: AddOptions, path: string): Promise<NewRecord> {
  const section = SECTION_CLASSES.find((one) => one === options.section);
  if (section === undefined) {
    throw new ClientError(
      'SECTION_UNKNOWN',
      'There is no such section.',
      `Give --section ${SECTION_CLASSES.join(', ')}.`,
    );
  }
  const common = {
    path,
    contentType: options.type ?? contentTypeOf(path),
    ...(options.name === undefined ? {} : { name: options.name }),
    categoryToken: await categoryToken(session, options),
  };
  if (options.record !== undefined) {
    const recordId = parseId(options.record, 32, 'record');
    const policyRef =
      options.policy === undefined ? await policyOfRecord(session, recordId) : parseId(options.policy, 32, 'policy');
    return { ...common, policyRef, target: { kind: 'version', recordId } };
  }
  if (options.patient === undefined || options.policy === undefined) {
    throw new ClientError(
      'USAGE',
      'A new record takes --patient and --policy; a new version takes --record.',
      'emrchain help record add shows how it is typed.',
    );
  }
  const owner = await resolveAccount(session.home, options.patient);
  return { ...common, policyRef: parseId(options.policy, 32, 'policy'), target: { kind: 'new', owner, section } };
}

async function policyOfRecord(session: Session, recordId: Uint8Array): Promise<Uint8Array> {
  const { provenRecord } = await import('../../record-get.ts');
  return (await provenRecord(await session.view(), recordId)).version.content.policyRef;
}

const offerView = (offer: RecordOffer) => {
  const { recordId, version } = subjectOf(offer);
  const { content, owner, hospital, sectionClass } = offer.call;
  return {
    recordId: hexOf(recordId),
    version,
    owner: hexOf(owner),
    writer: hexOf(offer.writer),
    hospital,
    section: sectionClass,
    policyRef: hexOf(content.policyRef),
    categoryToken: hexOf(content.categoryToken),
    cid: cidText(content.cid),
    dataDigest: hexOf(content.dataDigest),
    sizeBytes: content.sizeBytes,
    custody: content.capsule.kind,
    recovery: content.capsule.kind === 'threshold' && content.capsule.recovery !== null,
  };
};

export const add = (session: Session, options: AddOptions, path: string): Promise<Result> =>
  offerOrWrite(session, options, path, () => describedRecord(session, options, path));

export interface ConsentOptions {
  readonly patientKey?: string;
  readonly offerOut?: string;
}

/** The record as an offer for the patient, or written at once where the patient's key is in this home. */
export async function offerOrWrite(
  session: Session,
  options: ConsentOptions,
  path: string,
  describe: () => Promise<NewRecord>,
): Promise<Result> {
  if (options.patientKey !== undefined && options.offerOut !== undefined) {
    throw new ClientError(
      'USAGE',
      'A record is offered, or consented to at once.',
      'Give --offer-out or --patient-key.',
    );
  }
  // Without the patient's key there is an offer: beside the command, under the file's name, unless told otherwise.
  const offerOut =
    options.patientKey === undefined ? (options.offerOut ?? `${basename(path)}.offer.json`) : options.offerOut;
  if (offerOut !== undefined) {
    const { refuseExisting } = await import('../../record-get.ts');
    refuseExisting(offerOut);
  }
  const record = await describe();
  // Before the upload: a wrong passphrase must not cost an hour, nor the memory of unlocking come on top of a transfer's.
  if (options.patientKey !== undefined) await session.unlock(options.patientKey);
  const offer = await prepared(session, record);
  if (offerOut !== undefined) return offered(offer, offerOut);
  const view = await session.view();
  const patient = await session.unlock(options.patientKey ?? '');
  const policy = await provenPolicy(view, offer.call.content.policyRef);
  checkOffer(offer, patient, policy.document, await sealingKeys(view, policy.document));
  return submitKept(session, offer, consentTo(offer, patient));
}

/** Encrypted and uploaded. */
export async function prepared(session: Session, record: NewRecord): Promise<RecordOffer> {
  const { prepareOffer } = await import('../../record-add.ts');
  const [view, writer] = [await session.view(), await session.sender()];
  const offer = await prepareOffer(view, writer, record, {
    nowMs: session.nowMs,
    progress: (done, total) =>
      session.out.progress(
        `encrypting and uploading ${size(done)} of ${size(total)} (${Math.floor((100 * done) / total)} %)`,
      ),
  });
  session.out.progressDone();
  return offer;
}

async function offered(offer: RecordOffer, offerOut: string): Promise<Result> {
  await writeOffer(offerOut, offer);
  return {
    json: { state: 'offered', ...offerView(offer), offer: offerOut },
    text: [
      ...fields(describeOffer(offer)),
      '',
      `The node holds the ciphertext; the offer is in ${offerOut}. Next:`,
      `  the patient:  emrchain record consent ${offerOut} --out consent.json`,
      `  you:          emrchain record submit ${offerOut} --consent consent.json`,
    ],
  };
}

/** Submits with offer and consent kept in the home, so that an interruption loses nothing. */
async function submitKept(session: Session, offer: RecordOffer, consent: Consent): Promise<Result> {
  const { recordId, version } = subjectOf(offer);
  const stem = `${bytesToHex(recordId)}-${version}-${bytesToHex(offer.call.content.dataDigest).slice(0, 8)}`;
  await session.home.ensure('offers');
  const offerPath = session.home.file('offers', `${stem}.json`);
  const consentPath = session.home.file('offers', `${stem}.consent.json`);
  await writeOffer(offerPath, offer);
  await writeConsent(consentPath, offer, consent);
  try {
    const result = await submitAndReplicate(session, offer, consent);
    await Promise.all([rm(offerPath, { force: true }), rm(consentPath, { force: true })]);
    return result;
  } catch (error) {
    session.out.note(`To go on from here: emrchain record submit ${offerPath} --consent ${consentPath}`);
    throw error;
  }
}

export async function submitAndReplicate(session: Session, offer: RecordOffer, consent: Consent): Promise<Result> {
  const { awaitReplicas, submitOffer } = await import('../../record-add.ts');
  const [view, writer] = [await session.view(), await session.sender()];
  const submitted = await submitOffer(view, writer, offer, consent, session.submitOptions());
  session.out.progressDone();
  const { deadlineMs } = session;
  const { replicas, needed } = await awaitReplicas(view, offer, {
    ...(deadlineMs === undefined ? {} : { deadlineMs }),
    onProgress: (held, wanted) =>
      session.out.progress(`on the chain; copies at other organisations: ${held} of ${wanted}`),
  });
  session.out.progressDone();
  return writtenResult(offer, submitted, replicas, needed);
}

function writtenResult(
  offer: RecordOffer,
  { committed }: SubmittedRecord,
  replicas: readonly Replica[],
  needed: number,
): Result {
  return {
    json: {
      state: 'replicated',
      ...offerView(offer),
      tx: committed && txView(committed),
      replicas,
      replicasNeeded: needed,
    },
    text: [
      ...fields([
        ...describeOffer(offer),
        [
          'copies',
          replicas.length === 0
            ? 'none needed'
            : `verified receipts of ${replicas.map(({ orgId }) => orgId).join(', ')}`,
        ],
        ...(committed === null ? ([['transaction', 'committed before']] as const) : txFields(committed)),
      ]),
    ],
  };
}

export async function consent(
  session: Session,
  options: { out: string; yes?: boolean },
  file: string,
): Promise<Result> {
  const [view, { key }] = [await session.view(), await session.sender()];
  const offer = await readOffer(file, view.node.chainId);
  const policy = await provenPolicy(view, offer.call.content.policyRef);
  checkOffer(offer, key, policy.document, await sealingKeys(view, policy.document));
  const lines = [...fields(describeOffer(offer)), '', 'Under this policy:', ...policyLines(policy.document)];
  for (const line of lines) session.out.note(line);
  if (policy.document.patientWrap) session.out.note('Your client has opened its copy of the key: it is the record’s.');
  await session.confirm('Consent to this record?', options.yes);
  await writeConsent(options.out, offer, consentTo(offer, key));
  return {
    json: { state: 'consented', ...offerView(offer), consent: options.out, keyChecked: policy.document.patientWrap },
    text: [`Signed; the consent is in ${options.out}. Give it to the writer.`],
  };
}

export async function submit(session: Session, options: { consent: string }, file: string): Promise<Result> {
  const node = await session.node();
  const offer = await readOffer(file, node.chainId);
  return submitAndReplicate(session, offer, await readConsent(options.consent));
}
