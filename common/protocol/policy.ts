/**
 * Policy documents: who may ask for a record, for which purposes and how long, and whose approval it takes.
 *
 * The approval rule is a threshold tree. Every leaf is a slot; one person fills one slot, whatever roles that person
 * has, so that whether a rule is satisfied is a matching of persons to slots and not a count (see vm/).
 */
import { bool, type Codec, encode, lazy, list, nullable, oneOf, struct, type TypeOf, uint, union } from '../codec.ts';
import { H } from '../crypto/hash.ts';
import { address, type Hash, nonce16, orgId, token32 } from './primitives.ts';

/** HL7 v3 PurposeOfUse codes that this chain knows. */
export const PURPOSES = ['TREAT', 'ETREAT', 'HRESCH', 'HPAYMT', 'HOPERAT', 'PUBHLTH', 'PATRQT', 'BTG'] as const;
export const purpose = oneOf(PURPOSES);
export type Purpose = (typeof PURPOSES)[number];

/** Roles that can be granted. `org_admin` is a role like the others, scoped to its organisation. */
export const ROLES = [
  'patient',
  'physician',
  'emergency_physician',
  'nurse',
  'department_head',
  'medical_affairs',
  'ethics_board',
  'researcher',
  'auditor',
  'regulator',
  'registrar',
  'org_admin',
] as const;
export const role = oneOf(ROLES);
export type Role = (typeof ROLES)[number];

/** Which organisation a role slot must come from, relative to the request. */
export const orgScope = union({
  /** The organisation that wrote the record. */
  writer: struct({}),
  /** The requester's organisation. */
  requester: struct({}),
  any: struct({}),
  named: struct({ orgId }),
});
export type OrgScope = TypeOf<typeof orgScope>;

/** Leaves of one rule's tree at the most: bounds the matching at 2^12 subsets. */
export const MAX_POLICY_SLOTS = 12;
export const MAX_POLICY_DEPTH = 4;

export type ApprovalNode =
  /** The record's owner, by that account only, never by role. */
  | { readonly kind: 'owner' }
  /** A physician whom a current attending relation ties to the owner. */
  | { readonly kind: 'attending' }
  /** Anybody who holds the role in scope; `department` is a keyed token, null for any department. */
  | { readonly kind: 'role'; readonly role: Role; readonly scope: OrgScope; readonly department: Uint8Array | null }
  | { readonly kind: 'person'; readonly account: Uint8Array }
  | { readonly kind: 'threshold'; readonly k: number; readonly of: readonly ApprovalNode[] };

/** Depth and number of slots are bounded by the vm when a policy is created (codes POLICY_TOO_DEEP, POLICY_TOO_WIDE). */
export const approvalNode: Codec<ApprovalNode> = lazy(() => approvalNodeUnion);
const approvalNodeUnion = union({
  owner: struct({}),
  attending: struct({}),
  role: struct({ role, scope: orgScope, department: nullable(token32) }),
  person: struct({ account: address }),
  threshold: struct({ k: uint(MAX_POLICY_SLOTS), of: list(approvalNode, MAX_POLICY_SLOTS, 1) }),
}) as Codec<ApprovalNode>;

export const policyRule = struct({
  purposes: list(purpose, PURPOSES.length, 1),
  /** The requester must hold one of these at the request and at the grant. */
  requesters: list(struct({ role, scope: orgScope, department: nullable(token32) }), 8, 1),
  /** The rule is for records with one of these keyed category tokens; null for all. */
  categories: nullable(list(token32, 16, 1)),
  maxDurationMs: uint(),
  approvals: approvalNode,
});
export type PolicyRule = TypeOf<typeof policyRule>;

export const policyDocument = struct({
  nonce: nonce16,
  /** The organisation whose administrator created it. */
  orgId,
  rules: list(policyRule, 8, 1),
  /** Whose approval it takes to change the policy. */
  adminRule: approvalNode,
  /** The writing hospital's custodian gets a wrap of each record key, so that the patient need not be online. */
  custodian: bool,
  /** The patient gets a wrap of each record key. */
  patientWrap: bool,
  /** Each record key is sealed under the members' recovery key as well, while there is one. Only with `custodian`. */
  recovery: bool,
});
export type PolicyDocument = TypeOf<typeof policyDocument>;

/** Names the policy for its life, in labels and record entries: hash of its first document. */
export const policyRefOf = (document: PolicyDocument): Hash => H('policy', encode(policyDocument, document));
