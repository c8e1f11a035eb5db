/**
 * Makes the two sample records that the demonstration shares: a FHIR R4 bundle and a DICOM CT slice of a phantom.
 * Everything in them is invented. Run `node scripts/demo/make-samples.ts` to write them again, byte for byte.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

const SAMPLES = join(import.meta.dirname, 'samples');

const patient = 'urn:uuid:6f1c0b6e-3c52-4d6e-9d0e-1b0a7c5a2f10';
const encounter = 'urn:uuid:8a0f2f0c-2f7a-4f0e-8b3e-61f1e7c1a2b3';

const observation = (id: string, loinc: string, display: string, value: number, unit: string) => ({
  fullUrl: `urn:uuid:${id}`,
  resource: {
    resourceType: 'Observation',
    status: 'final',
    code: { coding: [{ system: 'http://loinc.org', code: loinc, display }] },
    subject: { reference: patient },
    encounter: { reference: encounter },
    effectiveDateTime: '2026-03-02T09:41:00Z',
    valueQuantity: { value, unit, system: 'http://unitsofmeasure.org', code: unit },
  },
});

const bundle = {
  resourceType: 'Bundle',
  type: 'collection',
  timestamp: '2026-03-02T10:15:00Z',
  entry: [
    {
      fullUrl: patient,
      resource: {
        resourceType: 'Patient',
        identifier: [{ system: 'urn:example:hospital-a:mrn', value: 'MRN-000417' }],
        name: [{ use: 'official', family: 'Sample', given: ['Mei'] }],
        gender: 'female',
        birthDate: '1979-05-14',
      },
    },
    {
      fullUrl: encounter,
      resource: {
        resourceType: 'Encounter',
        status: 'finished',
        class: { system: 'http://terminology.hl7.org/CodeSystem/v3-ActCode', code: 'AMB' },
        subject: { reference: patient },
        period: { start: '2026-03-02T09:30:00Z', end: '2026-03-02T10:10:00Z' },
      },
    },
    {
      fullUrl: 'urn:uuid:0c1f4d52-6f9b-4b25-9b64-2d1a6b0de001',
      resource: {
        resourceType: 'Condition',
        clinicalStatus: {
          coding: [{ system: 'http://terminology.hl7.org/CodeSystem/condition-clinical', code: 'active' }],
        },
        code: { coding: [{ system: 'http://snomed.info/sct', code: '49436004', display: 'Atrial fibrillation' }] },
        subject: { reference: patient },
        encounter: { reference: encounter },
        onsetDateTime: '2026-02-20',
      },
    },
    observation('3f0e7a11-0f5c-4f2b-9a3c-9b7a4c2e1001', '8867-4', 'Heart rate', 112, '/min'),
    observation('3f0e7a11-0f5c-4f2b-9a3c-9b7a4c2e1002', '8480-6', 'Systolic blood pressure', 148, 'mm[Hg]'),
    observation('3f0e7a11-0f5c-4f2b-9a3c-9b7a4c2e1003', '8462-4', 'Diastolic blood pressure', 91, 'mm[Hg]'),
    observation('3f0e7a11-0f5c-4f2b-9a3c-9b7a4c2e1004', '6301-6', 'INR in platelet poor plasma', 2.4, '{INR}'),
    {
      fullUrl: 'urn:uuid:5b7a1d9e-8d5c-4f39-8a53-0f2c6f8c3001',
      resource: {
        resourceType: 'MedicationStatement',
        status: 'active',
        medicationCodeableConcept: { text: 'Warfarin 2.5 mg daily' },
        subject: { reference: patient },
      },
    },
  ],
};

/** One DICOM data element, explicit VR little endian (PS3.5 section 7.1.2). Values are padded to even length. */
function element(group: number, number: number, vr: string, value: Buffer): Buffer {
  const padding = value.length % 2 === 0 ? Buffer.alloc(0) : Buffer.from(vr === 'UI' || vr === 'OB' ? '\0' : ' ');
  const body = Buffer.concat([value, padding]);
  const tag = Buffer.alloc(4);
  tag.writeUInt16LE(group, 0);
  tag.writeUInt16LE(number, 2);
  const long = vr === 'OB' || vr === 'OW';
  const length = Buffer.alloc(long ? 6 : 2);
  if (long) length.writeUInt32LE(body.length, 2);
  else length.writeUInt16LE(body.length, 0);
  return Buffer.concat([tag, Buffer.from(vr), length, body]);
}

const words = (group: number, number: number, vr: string, text: string): Buffer =>
  element(group, number, vr, Buffer.from(text, 'latin1'));
const short = (group: number, number: number, value: number): Buffer => {
  const body = Buffer.alloc(2);
  body.writeUInt16LE(value);
  return element(group, number, 'US', body);
};

const SIZE = 128;
const SOP_CLASS = '1.2.840.10008.5.1.4.1.1.2';
const SOP_INSTANCE = '2.25.271828182845904523536028747135266249';

/** A cylinder of water with four rods in it, as a scanner's quality check uses: Hounsfield units + 1024. */
function phantom(): Buffer {
  const pixels = Buffer.alloc(SIZE * SIZE * 2);
  const rods = [
    { x: 44, y: 44, hu: -100 },
    { x: 84, y: 44, hu: 120 },
    { x: 44, y: 84, hu: 340 },
    { x: 84, y: 84, hu: 990 },
  ];
  for (let y = 0; y < SIZE; y += 1) {
    for (let x = 0; x < SIZE; x += 1) {
      const inside = (x - 64) ** 2 + (y - 64) ** 2 < 56 ** 2;
      const rod = rods.find((r) => (x - r.x) ** 2 + (y - r.y) ** 2 < 9 ** 2);
      const texture = ((x * 31 + y * 17) % 13) - 6;
      pixels.writeUInt16LE((inside ? (rod?.hu ?? 0) + texture : -1000) + 1024, (y * SIZE + x) * 2);
    }
  }
  return pixels;
}

function dicom(): Buffer {
  const meta = Buffer.concat([
    element(0x0002, 0x0001, 'OB', Buffer.from([0, 1])),
    words(0x0002, 0x0002, 'UI', SOP_CLASS),
    words(0x0002, 0x0003, 'UI', SOP_INSTANCE),
    words(0x0002, 0x0010, 'UI', '1.2.840.10008.1.2.1'),
    words(0x0002, 0x0012, 'UI', '2.25.314159265358979323846264338327950288'),
  ]);
  const metaLength = Buffer.alloc(4);
  metaLength.writeUInt32LE(meta.length);
  return Buffer.concat([
    Buffer.alloc(128),
    Buffer.from('DICM'),
    element(0x0002, 0x0000, 'UL', metaLength),
    meta,
    words(0x0008, 0x0016, 'UI', SOP_CLASS),
    words(0x0008, 0x0018, 'UI', SOP_INSTANCE),
    words(0x0008, 0x0020, 'DA', '20260302'),
    words(0x0008, 0x0030, 'TM', '095000'),
    words(0x0008, 0x0060, 'CS', 'CT'),
    words(0x0008, 0x0070, 'LO', 'emrchain sample'),
    words(0x0010, 0x0010, 'PN', 'Sample^Mei'),
    words(0x0010, 0x0020, 'LO', 'MRN-000417'),
    words(0x0010, 0x0030, 'DA', '19790514'),
    words(0x0010, 0x0040, 'CS', 'F'),
    words(0x0020, 0x000d, 'UI', `${SOP_INSTANCE}.1`.slice(0, 64)),
    words(0x0020, 0x000e, 'UI', `${SOP_INSTANCE}.2`.slice(0, 64)),
    words(0x0020, 0x0013, 'IS', '1'),
    short(0x0028, 0x0002, 1),
    words(0x0028, 0x0004, 'CS', 'MONOCHROME2'),
    short(0x0028, 0x0010, SIZE),
    short(0x0028, 0x0011, SIZE),
    short(0x0028, 0x0100, 16),
    short(0x0028, 0x0101, 12),
    short(0x0028, 0x0102, 11),
    short(0x0028, 0x0103, 0),
    words(0x0028, 0x1052, 'DS', '-1024'),
    words(0x0028, 0x1053, 'DS', '1'),
    element(0x7fe0, 0x0010, 'OW', phantom()),
  ]);
}

writeFileSync(join(SAMPLES, 'visit.fhir.json'), `${JSON.stringify(bundle, null, 2)}\n`);
writeFileSync(join(SAMPLES, 'phantom.dcm'), dicom());
