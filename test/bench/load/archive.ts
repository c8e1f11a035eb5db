/**
 * Records of people who never act: the state that a chain has after years. Written as entries, not by transactions; for each
 * record what `record.create` writes, and one patient's account for ten of them.
 */
import { concatBytes, compareBytes, u32be, u64be } from '../../../common/bytes.ts';
import { encode } from '../../../common/codec.ts';
import { H } from '../../../common/crypto/hash.ts';
import {
  accountEntry,
  auditEntry,
  emptyEntry,
  keyEntry,
  recordByOwnerEntry,
  recordEntry,
  recordVersionEntry,
  stateKey,
} from '../../../common/protocol/state-entries.ts';
import type { StateWrite } from '../../../vm/types.ts';
import type { PreparedChain } from './prepared-chain.ts';
import type { Town } from './town.ts';

const RECORDS_OF_A_PATIENT = 10;
/** Some 120,000 entries: what a batch of the state tree takes with ease. */
const CHUNK_RECORDS = 20_000;

/**
 * An id that begins with its place among all: neighbours are written together, and so the whole is made in minutes. To who
 * reads by it, it is as good as any other.
 */
const placed = (what: string, place: number, of: number, length: number): Uint8Array =>
  concatBytes(u32be(Math.floor((place / of) * 2 ** 32)), H(`bench-${what}`, u32be(place)).subarray(4, length));

function patientWrites(patient: number, patients: number, orgId: string, nowMs: number): StateWrite[] {
  const id = placed('patient', patient, patients, 20);
  const publicKey = concatBytes(H('bench-x', u32be(patient)), H('bench-y', u32be(patient)));
  const account = {
    id,
    orgId,
    kind: 'patient' as const,
    publicKey,
    keySinceMs: nowMs,
    recoveredMs: null,
    personTag: null,
    custodial: false,
    status: 'active' as const,
    enrolledMs: nowMs,
    enrolledBy: null,
  };
  return [
    { key: stateKey.account(id), value: encode(accountEntry, account) },
    { key: stateKey.key(id), value: encode(keyEntry, { account: id, use: 'account' }) },
  ];
}

function recordWrites(place: number, records: number, town: Town, height: number, nowMs: number): StateWrite[] {
  const patients = Math.ceil(records / RECORDS_OF_A_PATIENT);
  const patient = Math.floor(place / RECORDS_OF_A_PATIENT);
  const owner = placed('patient', patient, patients, 20);
  const { writer: by, call } = town.record(patient % town.patientCount);
  const { hospital: orgId, content } = call;
  const id = placed('record', place, records, 32);
  const writer = by.address;
  const own = {
    ...content,
    cid: Uint8Array.of(1, 0x55, 0x12, 32, ...H('bench-archived', u32be(place))),
    dataDigest: H('bench-archived-digest', u32be(place)),
  };
  const event = {
    type: 'record.create',
    actor: writer,
    subject: owner,
    orgId,
    recordId: id,
    requestHash: null,
    objectId: content.policyRef,
    detail: null,
  };
  const record = { id, owner, writer, orgId, section: 'general' as const, latestVersion: 1, createdMs: nowMs };
  const version = { recordId: id, version: 1, writer, orgId, content: own, height, createdMs: nowMs };
  const audited = { timestampMs: nowMs, txHash: H('bench-archived-tx', u64be(place)), event };
  return [
    { key: stateKey.record(id), value: encode(recordEntry, record) },
    { key: stateKey.recordVersion(id, 1), value: encode(recordVersionEntry, version) },
    { key: stateKey.recordByOwner(owner, nowMs, id), value: encode(recordByOwnerEntry, { id }) },
    { key: stateKey.author(owner, writer), value: encode(emptyEntry, {}) },
    { key: stateKey.audit(id, height, 0), value: encode(auditEntry, audited) },
  ];
}

/** @param records how many, in blocks without transactions; told of by `progress` */
export async function implantRecords(
  chain: PreparedChain,
  town: Town,
  records: number,
  progress: (done: number) => void,
): Promise<void> {
  const patients = Math.ceil(records / RECORDS_OF_A_PATIENT);
  for (let first = 0; first < records; first += CHUNK_RECORDS) {
    const height = chain.executor.head.height + 1;
    const nowMs = chain.timestampMs;
    const writes = new Map<string, StateWrite>();
    const last = Math.min(records, first + CHUNK_RECORDS);
    for (let place = first; place < last; place += 1) {
      const made = recordWrites(place, records, town, height, nowMs);
      const patient = place / RECORDS_OF_A_PATIENT;
      if (Number.isInteger(patient)) made.push(...patientWrites(patient, patients, town.orgOf(patient), nowMs));
      // A patient has an author once, however many records that one has written.
      for (const write of made) writes.set(Buffer.from(write.key).toString('latin1'), write);
    }
    await chain.implant([...writes.values()].sort((a, b) => compareBytes(a.key, b.key)));
    progress(last);
  }
}
