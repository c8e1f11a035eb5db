/** `emrchain record`: writing records with the patient's consent, and reading them. */
import { rm } from 'node:fs/promises';
import { constants } from 'node:os';
import { basename } from 'node:path';
import { SECTION_CLASSES } from '../../../common/protocol/record.ts';
import type { ResultOf } from '../../../rpc/methods.ts';
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
import type { ProvenRecord } from '../../record-get.ts';
import { clean, fields, size, table, time } from '../../text.ts';
import { tokenOf } from '../../tokens.ts';
import type { CommandDescriptor } from '../descriptor.ts';
import { txFields, txView } from '../execute.ts';
import type { Result } from '../output.ts';
import { gather, moreLine, parseLimit } from '../paging.ts';
import type { Session } from '../session.ts';

interface AddOptions {
  readonly patient?: string;
  readonly record?: string;
  readonly policy?: string;
  readonly category: string;
  readonly tokens?: string;
  readonly section: string;
  readonly type?: string;
  readonly name?: string;
  readonly patientKey?: string;
  readonly offerOut?: string;
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
function contentTypeOf(path: string): string {
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
  };
};

async function add(session: Session, options: AddOptions, path: string): Promise<Result> {
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
  const { prepareOffer } = await import('../../record-add.ts');
  const record = await describedRecord(session, options, path);
  const [view, writer] = [await session.view(), await session.sender()];
  const offer = await prepareOffer(view, writer, record, {
    nowMs: session.nowMs,
    progress: (done, total) =>
      session.out.progress(
        `encrypting and uploading ${size(done)} of ${size(total)} (${Math.floor((100 * done) / total)} %)`,
      ),
  });
  session.out.progressDone();
  if (offerOut !== undefined) {
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
  const patient = await session.unlock(options.patientKey ?? '');
  const policy = await provenPolicy(view, offer.call.content.policyRef);
  checkOffer(offer, patient, policy.document);
  return submitKept(session, offer, consentTo(offer, patient));
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

async function submitAndReplicate(session: Session, offer: RecordOffer, consent: Consent): Promise<Result> {
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

async function consent(session: Session, options: { out: string; yes?: boolean }, file: string): Promise<Result> {
  const [view, { key }] = [await session.view(), await session.sender()];
  const offer = await readOffer(file, view.node.chainId);
  const policy = await provenPolicy(view, offer.call.content.policyRef);
  checkOffer(offer, key, policy.document);
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

async function submit(session: Session, options: { consent: string }, file: string): Promise<Result> {
  const node = await session.node();
  const offer = await readOffer(file, node.chainId);
  return submitAndReplicate(session, offer, await readConsent(options.consent));
}

type RecordView = ResultOf<'emr_getRecord'>['record'];

async function show(session: Session, _options: object, id: string): Promise<Result> {
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
      ['custody', content.capsule.kind],
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

async function list(session: Session, options: { patient?: string; org?: string; limit?: string }): Promise<Result> {
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

async function history(session: Session, _options: object, id: string): Promise<Result> {
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
}

async function get(session: Session, options: GetOptions, id: string): Promise<Result> {
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
    own === null ? await ownedKey(session, options, proven) : await reading.grantedKey(view, key, own, proven);
  for (const complaint of opened.complaints) session.out.note(`warning: ${complaint}`);
  const read = await reading.fetchRecord(view, session.home, proven, opened.key, options.out, {
    replace: options.force === true,
    progress: (done, total) =>
      session.out.progress(`fetching ${size(done)} of ${size(total)} (${Math.floor((100 * done) / total)} %)`),
  });
  opened.key.fill(0);
  session.out.progressDone();
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

async function ownedKey(session: Session, options: GetOptions, proven: ProvenRecord) {
  const { ownKey } = await import('../../record-get.ts');
  const view = await session.view();
  const key = await session.key();
  // An earlier key of the same account opens what was wrapped to it.
  const wrapKey =
    options.wrapKey === undefined ? key : { ...(await session.unlock(options.wrapKey)), account: key.account };
  return { key: await ownKey(view, wrapKey, proven), from: 'the own wrap', complaints: [] as readonly string[] };
}

function parseVersion(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^[1-9]\d{0,8}$/.test(text))
    throw new ClientError('VERSION_INVALID', 'That is no version.', 'Give a number from 1 on.');
  return Number(text);
}

export const descriptor: CommandDescriptor = {
  build(command, run) {
    command
      .command('add <file>')
      .description('encrypt a file, upload it, and offer it to the patient (or write it, with the key of the patient)')
      .option('--patient <account>', 'whose record it is')
      .option('--record <id>', 'a new version of this record instead')
      .option('--policy <id>', 'who may ask for it')
      .requiredOption('--category <code>', 'what it is about: a code, hidden by the token keys, or a 0x token')
      .option('--tokens <name>', 'which token keys to use')
      .option('--section <class>', SECTION_CLASSES.join(', '), 'general')
      .option('--type <media-type>', 'content type, inside the ciphertext (default: by the name)')
      .option('--name <name>', 'file name, inside the ciphertext')
      .option(
        '--offer-out <file>',
        'where to write the offer for the patient to consent to (default: the name and .offer.json)',
      )
      .option('--patient-key <name>', "the patient's key, where it is in this home: consents and submits at once")
      .action(run(add));
    command
      .command('consent <offer>')
      .description('as the patient: check an offer, open your copy of the key, and sign')
      .requiredOption('--out <file>', 'where to write the consent')
      .option('--yes', 'do not ask')
      .action(run(consent));
    command
      .command('submit <offer>')
      .description('put a consented record on the chain and wait for its copies; safe to repeat')
      .requiredOption('--consent <file>', "the patient's consent")
      .action(run(submit));
    command.command('show <id>').description('a record, proven').action(run(show));
    command
      .command('list')
      .description('records in your scope')
      .option('--patient <account>', 'of this owner')
      .option('--org <id>', 'of this hospital')
      .option('--limit <n>', 'at most so many')
      .action(run(list));
    command.command('history <id>').description('versions of a record').action(run(history));
    command
      .command('get <id>')
      .description('fetch, verify and decrypt a record that you may read')
      .requiredOption('--out <file>', 'where to write it')
      .option('--version <n>', 'this version')
      .option('--grant <request>', 'by this grant (default: the one of this home that lasts longest)')
      .option('--own', 'as its owner, with your own copy of the key')
      .option('--wrap-key <name>', 'with --own: an earlier key of yours that the copy was made for')
      .option('--force', 'replace an existing file')
      .action(run(get));
  },
};
