/**
 * The story: one real record shared end to end, with everything that must not work tried on the way.
 *
 * Mei Sample is treated at North Hospital by Dr Chen. East Hospital's Dr Wang needs her record. Its policy asks for the
 * patient, the attending physician and one department head. Each person acts through a client process of their own.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFile } from 'node:fs/promises';
import { EmrError } from '../../common/errors.ts';
import { Actor, type Answer } from './actor.ts';
import type { Devnet, Hospital } from './devnet.ts';
import type { Narrator } from './narrator.ts';

const SAMPLES = join(import.meta.dirname, '..', 'demo', 'samples');
const FHIR = join(SAMPLES, 'visit.fhir.json');
const DICOM = join(SAMPLES, 'phantom.dcm');

const POLICY = `organisation: hospital-a
patient-wrap: true
custodian: true
rules:
  - purposes: [TREAT]
    requesters:
      - role: physician
    for-at-most: 72h
    approvals:
      all:
        - owner
        - attending
        - { role: department_head, from: writer }
changed-by: owner
`;

interface Cast {
  readonly adminA: Actor;
  readonly adminB: Actor;
  readonly chen: Actor;
  readonly li: Actor;
  readonly mei: Actor;
  readonly wang: Actor;
  readonly zhao: Actor;
}

interface Plot {
  readonly devnet: Devnet;
  readonly narrator: Narrator;
  /** One of each hospital. */
  readonly admins: readonly Actor[];
  readonly cast: Cast;
  readonly accounts: Map<Actor, string>;
}

/** @returns whether every step held */
export async function tellStory(devnet: Devnet, admins: readonly Actor[], narrator: Narrator): Promise<boolean> {
  try {
    const plot = await enrolEverybody(devnet, admins, narrator);
    await haveAKey(plot);
    const policy = await agreeOnAPolicy(plot);
    const [report, image] = await writeRecords(plot, policy);
    const grant = await shareTheReport(plot, report);
    await loseAHospital(plot, image);
    await revoke(plot, report, grant);
    await compareStates(plot);
  } catch (error) {
    // The narrator has shown the step that failed; anything else is a fault of the story itself.
    if (narrator.failed === 0) throw error;
  }
  narrator.summary();
  return narrator.failed === 0;
}

const text = (answer: Answer, field: string): string => {
  const value = answer[field];
  if (typeof value !== 'string')
    throw new EmrError('STORY', `the answer has no ${field}: ${JSON.stringify(answer).slice(0, 300)}`);
  return value;
};

/** Runs a command that commits, and waits until all hospitals have its block: the next person may ask another one. */
async function commit(plot: Plot, person: Actor, ...args: readonly string[]): Promise<Answer> {
  const answer = await person.run(...args);
  await plot.devnet.waitHeight(Number((answer['tx'] as Answer)['height']));
  return answer;
}

const short = (hex: string): string => `${hex.slice(0, 10)}…`;

// -------------------------------------------------------------------------------------------------------- enrolment

async function enrolEverybody(devnet: Devnet, admins: readonly Actor[], narrator: Narrator): Promise<Plot> {
  const [north, east] = devnet.hospitals as readonly [Hospital, Hospital];
  admins.forEach((admin, i) => admin.at(devnet.hospitals[i] as Hospital));
  const [adminA, adminB] = admins as readonly [Actor, Actor];
  narrator.chapter('1. Two hospitals enrol their people');
  const accounts = new Map<Actor, string>();
  const names = ['dr-chen', 'head-li', 'mei', 'dr-wang', 'nurse-zhao'] as const;
  let people: readonly Actor[] = [];
  await narrator.step('five people make their own keys, under passphrases of their own', async () => {
    people = await Promise.all(names.map((name) => Actor.newcomer(devnet.dir, name)));
  });
  const [chen, li, mei, wang, zhao] = people as readonly [Actor, Actor, Actor, Actor, Actor];
  for (const person of [chen, li, mei]) person.at(north);
  for (const person of [wang, zhao]) person.at(east);
  const cast: Cast = { adminA, adminB, chen, li, mei, wang, zhao };
  const plot: Plot = { devnet, narrator, admins, cast, accounts };

  await narrator.step('an administrator cannot enrol staff alone: a second organisation must confirm', async () => {
    await chen.run(
      'account',
      'request',
      '--org',
      north.orgId,
      '--kind',
      'staff',
      '--person-tag',
      chen.personTag,
      '--out',
      chen.file('alone.json'),
    );
    return adminA.refused('COUNTERSIGNATURE_REQUIRED', 'account', 'enrol', chen.file('alone.json'));
  });
  await narrator.step(
    'North enrols Dr Chen, department head Li and the patient Mei; East enrols Dr Wang and nurse Zhao',
    async () => {
      await Promise.all([
        enrolStaff(plot, chen, north, adminA, adminB, ['physician']),
        enrolStaff(plot, li, north, adminA, adminB, ['department_head']),
        enrolPatient(plot, mei, north, adminA),
        enrolStaff(plot, wang, east, adminB, adminA, ['physician']),
        enrolStaff(plot, zhao, east, adminB, adminA, ['nurse']),
      ]);
      return `Mei is ${short(accountOf(plot, mei))} at North: a pseudonym, no name on the chain`;
    },
  );
  await narrator.step('Mei says that Dr Chen attends her', async () => {
    await mei.run('attending', 'set', '--physician', accountOf(plot, chen), '--for', '30d');
  });
  return plot;
}

const accountOf = (plot: Plot, person: Actor): string => {
  const account = plot.accounts.get(person);
  if (account === undefined) throw new EmrError('STORY', `${person.name} has no account yet`);
  return account;
};

async function enrolStaff(
  plot: Plot,
  person: Actor,
  hospital: Hospital,
  admin: Actor,
  other: Actor,
  roles: readonly string[],
): Promise<void> {
  const [asked, confirmed] = [person.file('enrolment.json'), person.file('enrolment-confirmed.json')];
  await person.run(
    'account',
    'request',
    '--org',
    hospital.orgId,
    '--kind',
    'staff',
    '--person-tag',
    person.personTag,
    '--out',
    asked,
  );
  await other.run('account', 'countersign', asked, '--yes', '--out', confirmed);
  const enrolled = await admin.run('account', 'enrol', confirmed);
  plot.accounts.set(person, text(enrolled, 'account'));
  for (const role of roles) await admin.run('role', 'grant', accountOf(plot, person), role, '--for', '365d');
}

async function enrolPatient(plot: Plot, person: Actor, hospital: Hospital, admin: Actor): Promise<void> {
  const asked = person.file('enrolment.json');
  await person.run('account', 'request', '--org', hospital.orgId, '--kind', 'patient', '--out', asked);
  plot.accounts.set(person, text(await admin.run('account', 'enrol', asked), 'account'));
}

// ---------------------------------------------------------------------------------------------------------- records

/** Nobody does anything for it: nodes and custodians have begun with it when they started. */
async function haveAKey({ narrator, devnet }: Plot): Promise<void> {
  narrator.chapter('2. A key that nobody has, a policy, and two records under both');
  await narrator.step(`the ${devnet.hospitals.length} custodians made a key that none of them has`, async () => {
    const { threshold, holders, key } = await devnet.waitCustodyKey();
    return `${short(key)}: any ${threshold} of ${holders.length} open a record for whom the chain grants it, ${threshold - 1} learn nothing`;
  });
}

async function agreeOnAPolicy({ narrator, cast }: Plot): Promise<string> {
  let policy = '';
  await narrator.step(
    'North sets the policy: the patient AND the attending physician AND a department head',
    async () => {
      const file = cast.adminA.file('policy.yaml');
      await writeFile(file, POLICY);
      policy = text(await cast.adminA.run('policy', 'add', file), 'id');
      return `policy ${policy}`;
    },
  );
  return policy;
}

async function writeRecords(plot: Plot, policy: string): Promise<readonly [string, string]> {
  const { narrator, cast } = plot;
  await narrator.step('Dr Chen makes the keys that hide categories of records', async () => {
    await cast.chen.run('keys', 'new', 'tokens', '--kind', 'org-tokens');
  });
  const report = await writeRecord(plot, policy, FHIR, 'cardiology', 'a FHIR bundle');
  const image = await writeRecord(plot, policy, DICOM, 'radiology', 'a DICOM image');
  return [report, image];
}

async function writeRecord(plot: Plot, policy: string, file: string, category: string, what: string): Promise<string> {
  const { narrator, cast } = plot;
  const [offer, consent] = [cast.chen.file(`${category}.offer.json`), cast.mei.file(`${category}.consent.json`)];
  let recordId = '';
  await narrator.step(`Dr Chen encrypts ${what}, Mei checks and signs it, a second hospital keeps a copy`, async () => {
    await cast.chen.run(
      'record',
      'add',
      file,
      '--patient',
      accountOf(plot, cast.mei),
      '--policy',
      policy,
      '--category',
      category,
      '--offer-out',
      offer,
    );
    await cast.mei.run('record', 'consent', offer, '--yes', '--out', consent);
    const added = await cast.chen.run('record', 'submit', offer, '--consent', consent);
    recordId = text(added, 'recordId');
    if (text(added, 'custody') !== 'threshold') throw new EmrError('STORY', 'the key was given to a single custodian');
    return `record ${short(recordId)}, its key sealed for all custodians, ciphertext ${text(added, 'cid')}`;
  });
  return recordId;
}

// ----------------------------------------------------------------------------------------------------------- access

async function shareTheReport(plot: Plot, record: string): Promise<string> {
  const { narrator, cast } = plot;
  narrator.chapter('3. East asks for the report');
  await narrator.step('nurse Zhao asks, and is refused: the policy is for physicians', () =>
    cast.zhao.refused('ROLE_MISSING', 'access', 'request', record, '--purpose', 'TREAT', '--for', '24h'),
  );
  await narrator.step('Dr Wang asks for research, and is refused: the policy is for treatment', () =>
    cast.wang.refused('PURPOSE_NOT_ALLOWED', 'access', 'request', record, '--purpose', 'HRESCH', '--for', '24h'),
  );
  let request = '';
  await narrator.step('Dr Wang asks for treatment, for 24 hours, with a fresh key', async () => {
    request = text(
      await commit(plot, cast.wang, 'access', 'request', record, '--purpose', 'TREAT', '--for', '24h'),
      'requestHash',
    );
    return `request ${short(request)}`;
  });
  await narrator.step('Mei and Dr Chen approve; Dr Wang cannot approve for himself', async () => {
    await commit(plot, cast.mei, 'access', 'approve', request, '--yes');
    await commit(plot, cast.chen, 'access', 'approve', request, '--yes');
    return cast.wang.refused('REQUESTER_CANNOT_APPROVE', 'access', 'approve', request, '--yes');
  });
  await narrator.step('one approval is still missing: no key is released', () =>
    cast.wang.refused(
      'REQUEST_NOT_GRANTED',
      'record',
      'get',
      record,
      '--grant',
      request,
      '--out',
      cast.wang.file('early.json'),
    ),
  );
  await narrator.step('department head Li approves: the block that says so is the grant', async () => {
    const decided = await commit(plot, cast.li, 'access', 'approve', request, '--yes');
    return `status ${text(decided, 'status')}`;
  });
  await narrator.step('Dr Wang gets the key and the ciphertext, decrypts, and has the same bytes', () =>
    readAndCompare(cast.wang, record, FHIR, 'visit.fhir.json'),
  );
  return request;
}

async function readAndCompare(reader: Actor, record: string, original: string, name: string): Promise<string> {
  const out = reader.file(name);
  const answer = await reader.run('record', 'get', record, '--out', out);
  const [got, wanted] = await Promise.all([readFile(out), readFile(original)]);
  if (!got.equals(wanted)) throw new EmrError('STORY', 'the decrypted file differs from the original');
  return `${got.length} bytes, equal byte for byte; the key from ${text(answer, 'keyFrom')}`;
}

/** North wrote the image. Its people go through East's node meanwhile; its share is not needed, nor is its ciphertext. */
async function loseAHospital(plot: Plot, image: string): Promise<void> {
  const { narrator, cast, devnet } = plot;
  const [north, east] = devnet.hospitals as readonly [Hospital, Hospital];
  const people = [cast.mei, cast.chen, cast.li];
  narrator.chapter('4. The hospital that wrote the image is lost, and comes back');
  await narrator.step(`${north.name}'s node is killed with -9`, () => devnet.killNode(north.orgId));
  for (const person of people) person.at(east);
  await narrator.step('the others go on: Dr Wang asks for the image, three people approve', async () => {
    const asked = await commit(plot, cast.wang, 'access', 'request', image, '--purpose', 'TREAT', '--for', '1h');
    const request = text(asked, 'requestHash');
    await Promise.all(people.map((person) => commit(plot, person, 'access', 'approve', request, '--yes')));
  });
  await narrator.step(
    'Dr Wang reads the image: a copy of the ciphertext, and the key from the custodians that are left',
    () => readAndCompare(cast.wang, image, DICOM, 'phantom.dcm'),
  );
  await narrator.step(`${north.name} starts again and catches up by itself`, async () => {
    devnet.startNode(north.orgId);
    await devnet.waitReady([north.orgId]);
  });
  for (const person of people) person.at(north);
}

async function revoke(plot: Plot, record: string, request: string): Promise<void> {
  const { narrator, cast } = plot;
  narrator.chapter('5. Mei changes her mind');
  await narrator.step('Mei revokes the grant; it counts as revoked once a quorum has executed it', async () => {
    await commit(plot, cast.mei, 'access', 'revoke', request, '--yes');
  });
  await narrator.step('Dr Wang reads again, and is refused', () =>
    cast.wang.refused(
      'GRANT_REVOKED',
      'record',
      'get',
      record,
      '--grant',
      request,
      '--out',
      cast.wang.file('late.json'),
    ),
  );
  await narrator.step('Mei sees who asked, who approved, who read, and when', async () => {
    const trail = await cast.mei.run('audit', record);
    const events = (Array.isArray(trail) ? trail : (trail['events'] as readonly Answer[])) as readonly Answer[];
    return events.map((event) => text(event, 'type')).join(', ');
  });
}

async function compareStates({ narrator, devnet, admins }: Plot): Promise<void> {
  narrator.chapter('6. One truth');
  await narrator.step('each administrator asks the own hospital: all have the same state', async () => {
    const heads = await Promise.all(admins.map((admin) => admin.run('chain', 'status')));
    const height = Math.min(...heads.map((head) => Number(head['height'])));
    const blocks = await Promise.all(admins.map((admin) => admin.run('chain', 'block', String(height))));
    const roots = new Set(blocks.map((block) => text(block['header'] as Answer, 'stateRoot')));
    if (roots.size !== 1)
      throw new EmrError('STORY', `state roots differ at height ${height}: ${[...roots].join(', ')}`);
    return `height ${height}, state root ${[...roots].join()} at ${devnet.hospitals.length} hospitals`;
  });
}
