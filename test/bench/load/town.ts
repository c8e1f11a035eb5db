/**
 * The people of a benchmark: hospitals with administrators, physicians, heads of departments and patients, and one record
 * of each patient. All of them follow from numbers, so that whoever signs and whoever prepares the chain agree.
 */
import { u32be, utf8 } from '../../../common/bytes.ts';
import { H } from '../../../common/crypto/hash.ts';
import type { Genesis } from '../../../common/protocol/genesis.ts';
import {
  type ApprovalNode,
  type PolicyDocument,
  policyRefOf,
  type PolicyRule,
  type Role,
} from '../../../common/protocol/policy.ts';
import { recordIdOf, WRAP_PLAINTEXT_BYTES } from '../../../common/protocol/record.ts';
import {
  type AccessRequest,
  type Call,
  encodeSidecar,
  type Sidecar,
  sidecarHash,
} from '../../../common/protocol/transaction.ts';
import { type BenchKey, benchKey } from './bench-key.ts';
import { freshNonce } from './transactions.ts';

const HOUR_MS = 3_600_000;
/** What all hospitals have together; a genesis holds 1,000 accounts. */
export const PHYSICIANS = 600;
export const HEADS = 60;
const BLANK = new Uint8Array(64);
const token = (text: string): Uint8Array => H('bench-token', utf8(text));

const owner: ApprovalNode = { kind: 'owner' };
const byRole = (role: Role): ApprovalNode => ({ kind: 'role', role, scope: { kind: 'any' }, department: null });

/** Of the policy's rules, by their place in it: whose approval it takes. */
export const RULES = { three: 0, owner: 1 } as const;
type RuleName = keyof typeof RULES;

const rule = (approvals: ApprovalNode): PolicyRule => ({
  purposes: ['TREAT'],
  requesters: [{ role: 'physician', scope: { kind: 'any' }, department: null }],
  categories: null,
  maxDurationMs: 24 * HOUR_MS,
  approvals,
});

/** Any physician may ask for treatment, for a day: the patient, a physician and a head approve; or the patient alone. */
export const POLICY: PolicyDocument = {
  nonce: token('policy').slice(0, 16),
  orgId: 'hospital-a',
  rules: [rule({ kind: 'threshold', k: 3, of: [owner, byRole('physician'), byRole('department_head')] }), rule(owner)],
  adminRule: owner,
  custodian: false,
  patientWrap: true,
  recovery: false,
};

export const WRAPS: Extract<Sidecar, { readonly kind: 'wraps' }>['wraps'] = [
  { to: { kind: 'patient' }, ciphertext: new Uint8Array(WRAP_PLAINTEXT_BYTES + 97).fill(7) },
];
const WRAPPED: Sidecar = { kind: 'wraps', wraps: WRAPS };

const recordNonce = (patient: number): Uint8Array => H('bench-record', u32be(patient)).slice(0, 16);

export interface NewRecord {
  readonly writer: BenchKey;
  readonly call: Extract<Call, { readonly kind: 'record.create' }>;
  readonly sidecar: Sidecar;
}

export class Town {
  readonly orgs: readonly string[];
  readonly patientCount: number;
  readonly #keys = new Map<string, BenchKey>();

  /** @param hospitals how many organisations, named hospital-a, hospital-b, … */
  constructor(hospitals: number, patientCount: number) {
    this.orgs = Array.from({ length: hospitals }, (_, i) => `hospital-${String.fromCharCode(97 + i)}`);
    this.patientCount = patientCount;
  }

  #key(kind: string, index: number): BenchKey {
    const name = `${kind}/${index}`;
    const known = this.#keys.get(name);
    if (known !== undefined) return known;
    const made = benchKey(kind, index);
    this.#keys.set(name, made);
    return made;
  }

  admin = (org: number): BenchKey => this.#key('admin', org);
  physician = (index: number): BenchKey => this.#key('physician', index);
  head = (index: number): BenchKey => this.#key('head', index);
  patient = (index: number): BenchKey => this.#key('patient', index);
  orgOf = (index: number): string => this.orgs[index % this.orgs.length] as string;

  /** Administrators and staff, as the founders name them. */
  accounts(): Genesis['accounts'] {
    const staff = (kind: 'admin' | 'physician' | 'head', count: number, roles: Role[]): Genesis['accounts'] =>
      Array.from({ length: count }, (_, index) => ({
        publicKey: this.#key(kind, index).publicKey,
        orgId: this.orgOf(index),
        personTag: token(`${kind} ${index}`),
        roles,
      }));
    return [
      ...staff('admin', this.orgs.length, ['org_admin', 'registrar']),
      ...staff('physician', PHYSICIANS, ['physician']),
      ...staff('head', HEADS, ['department_head']),
    ];
  }

  enrolment(index: number): { readonly by: BenchKey; readonly call: Call } {
    const { publicKey } = this.patient(index);
    const orgId = this.orgOf(index);
    return {
      by: this.admin(index % this.orgs.length),
      call: {
        kind: 'account.enrol',
        enrolment: { publicKey, orgId, kind: 'patient', personTag: null, custodial: false },
        possession: BLANK,
        countersignature: null,
      },
    };
  }

  /** The patient's record: written by a physician of the same hospital, its key wrapped to the patient. */
  record(patient: number): NewRecord {
    const writer = this.#writer(patient);
    const key = this.patient(patient);
    const content = {
      policyRef: policyRefOf(POLICY),
      cid: Uint8Array.of(1, 0x55, 0x12, 32, ...H('bench-cid', u32be(patient))),
      dataDigest: H('bench-data', u32be(patient)),
      sizeBytes: 4_096,
      categoryToken: token('category'),
      headerHash: H('bench-header', u32be(patient)),
      keyCheck: H('bench-key-check', u32be(patient)).slice(0, 16),
      capsule: { kind: 'direct' as const },
      sidecarHash: sidecarHash(encodeSidecar(WRAPPED)),
      ownerPublicKey: key.publicKey,
      ownerSignature: BLANK,
    };
    const call = {
      kind: 'record.create' as const,
      owner: key.address,
      hospital: this.orgOf(patient),
      nonce: recordNonce(patient),
      sectionClass: 'general' as const,
      content,
    };
    return { writer, call, sidecar: WRAPPED };
  }

  recordId(patient: number): Uint8Array {
    const writer = this.#writer(patient).address;
    return recordIdOf(writer, this.patient(patient).address, recordNonce(patient), 'general');
  }

  /** @param key its fresh key's public part */
  request(patient: number, physician: number, rule: RuleName, key: Uint8Array, nowMs: number): AccessRequest {
    return {
      recordId: this.recordId(patient),
      version: 1,
      requester: this.physician(physician).address,
      requesterKey: key,
      purpose: 'TREAT',
      ruleIndex: RULES[rule],
      policyVersion: 1,
      notAfterMs: nowMs + 12 * HOUR_MS,
      nonce: freshNonce(),
    };
  }

  /** Physicians are numbered over the hospitals as patients are. */
  #writer(patient: number): BenchKey {
    const count = this.orgs.length;
    const perHospital = Math.floor(PHYSICIANS / count);
    return this.physician((patient % count) + count * (Math.floor(patient / count) % perHospital));
  }
}
