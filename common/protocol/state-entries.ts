/**
 * Layout of the authenticated state: the key of every entry and the codec of its value, shared by the vm that writes
 * them, the RPC that reads them, and clients and custodians that verify proofs of them.
 *
 * A key is one namespace byte and fixed-width or length-prefixed parts, so that no key is a prefix of another and the
 * entries of one parent form one contiguous range. Integers are big-endian: ranges are in order of number or time.
 */
import { u32be, utf8, writeU64be } from '../bytes.ts';
import { bool, list, nullable, oneOf, struct, text, type TypeOf, uint } from '../codec.ts';
import { chainParams } from './chain-params.ts';
import { memberAddresses } from './member.ts';
import { MAX_POLICY_SLOTS, policyDocument, purpose, role } from './policy.ts';
import {
  address,
  type Address,
  code,
  type Hash,
  hash32,
  height,
  type Height,
  orgId,
  type OrgId,
  publicKey,
  signature,
  timeMs,
  type TimeMs,
  token32,
} from './primitives.ts';
import { event } from './receipt.ts';
import { sectionClass } from './record.ts';
import { MAX_STATE_VALUE_BYTES } from './state-tree.ts';
import { accessRequest, accountKind, amendment, proposal, recordContent } from './transaction.ts';
import { type VoteKind, VOTE_KINDS } from './signing.ts';
import { validator, validatorSet } from './validator-set.ts';

const NOTHING: Uint8Array = new Uint8Array(0);

/** For parts of a few dozen bytes, for which `set` costs more. */
function put(key: Uint8Array, at: number, part: Uint8Array): void {
  for (let index = 0; index < part.length; index++) key[at + index] = part[index] as number;
}

/** A namespace and at most four parts: keys are made by the thousand, so none of it needs an array beside the key. */
function ns(byte: number, first = NOTHING, second = NOTHING, third = NOTHING, fourth = NOTHING): Uint8Array {
  const secondAt = 1 + first.length;
  const thirdAt = secondAt + second.length;
  const fourthAt = thirdAt + third.length;
  const key = new Uint8Array(fourthAt + fourth.length);
  key[0] = byte;
  put(key, 1, first);
  put(key, secondAt, second);
  put(key, thirdAt, third);
  put(key, fourthAt, fourth);
  return key;
}

/** A namespace, a part, a height or a time in 8 bytes, and at most two parts after it. */
function nsAt(byte: number, before: Uint8Array, at: number, after: Uint8Array, last = NOTHING): Uint8Array {
  const integerAt = 1 + before.length;
  const afterAt = integerAt + 8;
  const lastAt = afterAt + after.length;
  const key = new Uint8Array(lastAt + last.length);
  key[0] = byte;
  put(key, 1, before);
  writeU64be(key, integerAt, at);
  put(key, afterAt, after);
  put(key, lastAt, last);
  return key;
}

const withLength = (part: Uint8Array): Uint8Array => ns(part.length, part);

/** The UTF-8 of a text after its length in one byte. Ids and names are ASCII, for which no encoder is needed. */
function prefixed(value: string): Uint8Array {
  const bytes = new Uint8Array(1 + value.length);
  bytes[0] = value.length;
  for (let index = 0; index < value.length; index++) {
    const unit = value.charCodeAt(index);
    if (unit > 0x7f) return withLength(utf8(value));
    bytes[index + 1] = unit;
  }
  return bytes;
}

const NO_DEPARTMENT = new Uint8Array(32);

/** Kinds of deadline that block time brings about. */
export const DEADLINE_KINDS = [
  'request',
  'grant',
  'proposal',
  'activation',
  'candidacy',
  'custodyDeal',
  'custodyDemand',
  'custodyRefresh',
  'amendment',
] as const;
export type DeadlineKind = (typeof DEADLINE_KINDS)[number];

/** The byte of each kind, by its place in its list. */
const DEADLINE_KIND_BYTES = DEADLINE_KINDS.map((_, index) => Uint8Array.of(index));
const VOTE_KIND_BYTES = VOTE_KINDS.map((_, index) => Uint8Array.of(index));

export const stateKey = {
  params: (): Uint8Array => ns(0x01),
  /** The set that certifies the next height. */
  validators: (): Uint8Array => ns(0x02),
  observer: (of: Address): Uint8Array => ns(0x03, of),
  /** Where a member is dialled; absent for those of the genesis, whose addresses are in configurations. */
  dialling: (of: Address): Uint8Array => ns(0x04, of),
  /** Counts the changes of who is a member: what else of it there is need be read only when this has changed. */
  membership: (): Uint8Array => ns(0x05),
  /** From when to when a key was a validator's. */
  tenure: (of: Address): Uint8Array => ns(0x06, of),
  /** An observer that is to become a validator, and has not shown yet that it is in step. */
  candidate: (of: Address): Uint8Array => ns(0x07, of),
  openCandidacies: (): Uint8Array => ns(0x08),
  /** State roots of the last blocks, kept while a candidacy is open. */
  recentRoots: (): Uint8Array => ns(0x09),
  evidence: (of: Address, at: Height, vote: VoteKind): Uint8Array =>
    nsAt(0x0b, of, at, VOTE_KIND_BYTES[VOTE_KINDS.indexOf(vote)] as Uint8Array),
  /** Peer ids in use. */
  peer: (id: string): Uint8Array => ns(0x0c, prefixed(id)),
  organisation: (id: OrgId): Uint8Array => ns(0x10, prefixed(id)),
  account: (id: Address): Uint8Array => ns(0x11, id),
  /** Every address of a key that was ever used for anything: a key serves one purpose, once. */
  key: (of: Address): Uint8Array => ns(0x12, of),
  role: (account: Address, name: string, org: OrgId, department: Uint8Array | null): Uint8Array =>
    ns(0x13, account, prefixed(name), prefixed(org), department ?? NO_DEPARTMENT),
  person: (tag: Uint8Array, account: Address): Uint8Array => ns(0x14, tag, account),
  recovery: (account: Address): Uint8Array => ns(0x15, account),
  attending: (patient: Address, physician: Address): Uint8Array => ns(0x16, patient, physician),
  policy: (ref: Hash): Uint8Array => ns(0x20, ref),
  /** A version that an amendment has replaced. */
  policyVersion: (ref: Hash, version: number): Uint8Array => ns(0x21, ref, u32be(version)),
  amendment: (id: Hash): Uint8Array => ns(0x22, id),
  /** The amendment of a policy that somebody of an organisation has proposed and that is not concluded. */
  openAmendment: (ref: Hash, org: OrgId): Uint8Array => ns(0x23, ref, prefixed(org)),
  record: (id: Hash): Uint8Array => ns(0x30, id),
  recordVersion: (id: Hash, version: number): Uint8Array => ns(0x31, id, u32be(version)),
  recordByOwner: (owner: Address, createdMs: TimeMs, id: Hash): Uint8Array => nsAt(0x32, owner, createdMs, id),
  storageUsed: (org: OrgId): Uint8Array => ns(0x33, prefixed(org)),
  /** Present if `writer` wrote some record of `owner`. */
  author: (owner: Address, writer: Address): Uint8Array => ns(0x34, owner, writer),
  request: (hash: Hash): Uint8Array => ns(0x40, hash),
  requestByRecord: (recordId: Hash, at: Height, hash: Hash): Uint8Array => nsAt(0x41, recordId, at, hash),
  /** One entry for each person's decision on a request. */
  decision: (requestHash: Hash, account: Address): Uint8Array => ns(0x42, requestHash, account),
  /** Pending requests of one person: `person` is the person tag (32 bytes), or the account id of who has none (20). */
  openRequests: (person: Uint8Array): Uint8Array => ns(0x43, withLength(person)),
  delivery: (requestHash: Hash): Uint8Array => ns(0x44, requestHash),
  /** One entry for each grant that was neither revoked nor has ended: who may read a record now is one range. */
  grant: (recordId: Hash, requester: Address, requestHash: Hash): Uint8Array =>
    ns(0x45, recordId, requester, requestHash),
  /** The audit trail of a record, in order. */
  audit: (recordId: Hash, at: Height, sequence: number): Uint8Array => nsAt(0x48, recordId, at, u32be(sequence)),
  deadline: (at: TimeMs, kind: DeadlineKind, id: Hash): Uint8Array =>
    nsAt(0x50, NOTHING, at, DEADLINE_KIND_BYTES[DEADLINE_KINDS.indexOf(kind)] as Uint8Array, id),
  /** Replay set, in buckets of time: pruned by block time from the low end. */
  replay: (validUntilMs: TimeMs, account: Address, nonce: Uint8Array): Uint8Array =>
    nsAt(0x60, NOTHING, validUntilMs, account, nonce),
  proposal: (id: Hash): Uint8Array => ns(0x70, id),
  vote: (proposalId: Hash, org: OrgId): Uint8Array => ns(0x71, proposalId, prefixed(org)),
  /** Proposals of an organisation that are open or wait for their effect. */
  openProposals: (org: OrgId): Uint8Array => ns(0x72, prefixed(org)),
  /** Number of grants that are active: while it is not 0, heartbeat blocks are due. */
  activeGrants: (): Uint8Array => ns(0x80),
  /** The custody epoch that is active; absent until the first key is made. */
  custodyEpoch: (): Uint8Array => ns(0x90),
  custodySession: (): Uint8Array => ns(0x91),
  custodyDealing: (sessionId: Hash, dealer: number): Uint8Array => ns(0x92, sessionId, u32be(dealer)),
  custodyDemand: (requestHash: Hash): Uint8Array => ns(0x93, requestHash),
  /** The recovery key that new records are sealed under as well; absent until the first is voted in. */
  activeRecoveryKey: (): Uint8Array => ns(0x94),
  /** Each recovery key that there has been, by its public key X. */
  recoveryKey: (key: Uint8Array): Uint8Array => ns(0x95, key),
} as const;

/** First and past-the-end key of all entries that begin with `prefix`. */
export function prefixRange(prefix: Uint8Array): { gte: Uint8Array; lt: Uint8Array } {
  const lt = prefix.slice();
  for (let i = lt.length - 1; i >= 0; i -= 1) {
    if (lt[i] !== 0xff) {
      lt[i] = (lt[i] as number) + 1;
      return { gte: prefix, lt: lt.subarray(0, i + 1) };
    }
  }
  // Unreachable for our keys, whose first byte is a namespace below 0xff.
  return { gte: prefix, lt: Uint8Array.of(0xff) };
}

export const statePrefix = {
  observers: (): Uint8Array => ns(0x03),
  dialling: (): Uint8Array => ns(0x04),
  candidates: (): Uint8Array => ns(0x07),
  evidence: (): Uint8Array => ns(0x0b),
  evidenceOf: (of: Address): Uint8Array => ns(0x0b, of),
  organisations: (): Uint8Array => ns(0x10),
  accounts: (): Uint8Array => ns(0x11),
  rolesOf: (account: Address): Uint8Array => ns(0x13, account),
  rolesNamed: (account: Address, name: string): Uint8Array => ns(0x13, account, prefixed(name)),
  accountsOfPerson: (tag: Uint8Array): Uint8Array => ns(0x14, tag),
  policies: (): Uint8Array => ns(0x20),
  policyVersions: (ref: Hash): Uint8Array => ns(0x21, ref),
  openAmendments: (ref: Hash): Uint8Array => ns(0x23, ref),
  records: (): Uint8Array => ns(0x30),
  recordVersions: (id: Hash): Uint8Array => ns(0x31, id),
  recordsOfOwner: (owner: Address): Uint8Array => ns(0x32, owner),
  requests: (): Uint8Array => ns(0x40),
  requestsOfRecord: (recordId: Hash): Uint8Array => ns(0x41, recordId),
  decisions: (requestHash: Hash): Uint8Array => ns(0x42, requestHash),
  grantsOfRecord: (recordId: Hash): Uint8Array => ns(0x45, recordId),
  grantsOf: (recordId: Hash, requester: Address): Uint8Array => ns(0x45, recordId, requester),
  audit: (recordId: Hash): Uint8Array => ns(0x48, recordId),
  deadlines: (): Uint8Array => ns(0x50),
  replay: (): Uint8Array => ns(0x60),
  proposals: (): Uint8Array => ns(0x70),
  votes: (proposalId: Hash): Uint8Array => ns(0x71, proposalId),
  custodyDealings: (sessionId: Hash): Uint8Array => ns(0x92, sessionId),
  custodyDemands: (): Uint8Array => ns(0x93),
} as const;

export const paramsEntry = chainParams;
export const validatorsEntry = validatorSet;
export const counterEntry = struct({ value: uint() });

export const observerEntry = validator;
export const diallingEntry = struct({ addresses: memberAddresses });
/** Heights that the validator's key certifies; null: still. */
export const tenureEntry = struct({ orgId, fromHeight: height, untilHeight: nullable(height) });
export const candidateEntry = struct({ orgId, proposalId: hash32, sinceHeight: height, untilMs: timeMs });
export type CandidateEntry = TypeOf<typeof candidateEntry>;
/** How many blocks may pass between a candidate's head and the block that has its word: some seconds of full load. */
export const READY_WINDOW_BLOCKS = 64;
/** `roots[i]` is the state root after block `fromHeight + i`. */
export const recentRootsEntry = struct({ fromHeight: height, roots: list(hash32, READY_WINDOW_BLOCKS) });
export const evidenceEntry = struct({
  orgId,
  publicKey,
  vote: oneOf(VOTE_KINDS),
  height,
  view: uint(),
  first: struct({ digest: hash32, signature }),
  second: struct({ digest: hash32, signature }),
  /** The node that brought it, and when. */
  reporter: address,
  reportedHeight: height,
  reportedMs: timeMs,
});
export type EvidenceEntry = TypeOf<typeof evidenceEntry>;
export const peerEntry = struct({ address });

export const organisationEntry = struct({
  orgId,
  name: text(100),
  status: oneOf(['active', 'suspended']),
  custodianKey: nullable(publicKey),
  sinceMs: timeMs,
});
export type OrganisationEntry = TypeOf<typeof organisationEntry>;

export const accountEntry = struct({
  id: address,
  orgId,
  kind: accountKind,
  publicKey,
  keySinceMs: timeMs,
  /** When its key last came by recovery; for the cooling period after that the account fills no slot. */
  recoveredMs: nullable(timeMs),
  personTag: nullable(token32),
  custodial: bool,
  status: oneOf(['active', 'suspended']),
  enrolledMs: timeMs,
  enrolledBy: nullable(address),
});
export type AccountEntry = TypeOf<typeof accountEntry>;

/**
 * What a key was used for, and the account it belongs to; null for an organisation's own keys. `reserved`: named by a
 * recovery that is pending or was vetoed. Whether it is the account's key now, only the account's entry says.
 */
export const keyEntry = struct({
  account: nullable(address),
  use: oneOf(['account', 'reserved', 'request', 'custodian', 'validator', 'observer']),
});
export type KeyEntry = TypeOf<typeof keyEntry>;

export const roleEntry = struct({
  account: address,
  role,
  orgId,
  department: nullable(token32),
  grantedMs: timeMs,
  /** From when on it can fill approval slots: the cooling period is over. 0 for roles of the genesis. */
  effectiveMs: timeMs,
  grantedBy: nullable(address),
  expiresAtMs: timeMs,
});
export type RoleEntry = TypeOf<typeof roleEntry>;

export const recoveryEntry = struct({
  newPublicKey: publicKey,
  effectiveMs: timeMs,
  openedBy: address,
  confirmedBy: address,
});

export const attendingEntry = struct({
  sinceMs: timeMs,
  /** From when on it can fill a slot: at once where the patient set it, after the cooling period where others did. */
  effectiveMs: timeMs,
  expiresAtMs: timeMs,
  setBy: address,
  /** Ended before its time: the entry stays, so that an old countersignature cannot set it again. */
  endedMs: nullable(timeMs),
  endedBy: nullable(address),
});
export type AttendingEntry = TypeOf<typeof attendingEntry>;

export const policyEntry = struct({
  ref: hash32,
  version: uint(),
  document: policyDocument,
  createdBy: address,
  createdMs: timeMs,
  /** Of this version: when it took effect, and the amendment that made it; null for the first. */
  sinceMs: timeMs,
  amendmentId: nullable(hash32),
});
export type PolicyEntry = TypeOf<typeof policyEntry>;

export const recordEntry = struct({
  id: hash32,
  owner: address,
  writer: address,
  orgId,
  section: sectionClass,
  latestVersion: uint(),
  createdMs: timeMs,
});
export type RecordEntry = TypeOf<typeof recordEntry>;

export const recordVersionEntry = struct({
  recordId: hash32,
  version: uint(),
  writer: address,
  orgId,
  content: recordContent,
  height,
  createdMs: timeMs,
});
export type RecordVersionEntry = TypeOf<typeof recordVersionEntry>;

export const REQUEST_STATUSES = ['pending', 'granted', 'denied', 'expired', 'cancelled', 'revoked', 'ended'] as const;

export const requestEntry = struct({
  hash: hash32,
  request: accessRequest,
  policyRef: hash32,
  /** Owner and writing organisation of the record. */
  owner: address,
  recordOrg: orgId,
  requesterOrg: orgId,
  requesterTag: nullable(token32),
  /** `granted` is an active grant; it turns `ended` when its time is over or `revoked` before. */
  status: oneOf(REQUEST_STATUSES),
  createdMs: timeMs,
  /** While pending: when it expires. */
  pendingUntilMs: timeMs,
  /** Height and time of the last change of status. */
  statusHeight: height,
  statusMs: timeMs,
  /** Who denied, cancelled or revoked; null for time. */
  statusBy: nullable(address),
  statusReason: nullable(code),
  /** Once granted: whose approval filled which slot (leaves of the rule's tree, counted from 0 in its order). */
  filled: list(struct({ slot: uint(MAX_POLICY_SLOTS - 1), account: address, orgId }), MAX_POLICY_SLOTS),
});
export type RequestEntry = TypeOf<typeof requestEntry>;

export const decisionEntry = struct({
  account: address,
  orgId,
  personTag: nullable(token32),
  approve: bool,
  atMs: timeMs,
  height,
  reason: nullable(code),
  /** The slot that a denial took out; null for approvals and for the owner's denial, which ends the request. */
  slot: nullable(uint(MAX_POLICY_SLOTS - 1)),
});
export type DecisionEntry = TypeOf<typeof decisionEntry>;

/** `outdated`: another amendment took effect first. */
export const AMENDMENT_STATUSES = ['open', 'effective', 'rejected', 'expired', 'outdated'] as const;
/** Approvals that are looked at, and a rejection of each slot. */
const MAX_AMENDMENT_DECISIONS = 36;

/** A new document for a policy, put to those whom the policy's present document names for that. */
export const amendmentEntry = struct({
  id: hash32,
  amendment,
  proposer: address,
  proposerOrg: orgId,
  status: oneOf(AMENDMENT_STATUSES),
  createdMs: timeMs,
  closesMs: timeMs,
  statusMs: timeMs,
  statusHeight: height,
  /** Who rejected it, or whose approval was the last that it took; null for time. */
  statusBy: nullable(address),
  /** In the order they were made, which is that of their time. */
  decisions: list(decisionEntry, MAX_AMENDMENT_DECISIONS),
});
export type AmendmentEntry = TypeOf<typeof amendmentEntry>;

export const openAmendmentEntry = struct({ id: hash32 });

export const requestByRecordEntry = struct({ hash: hash32, purpose, requester: address });
export const grantEntry = struct({ purpose, version: uint(), notAfterMs: timeMs });
export const deliveryEntry = struct({ sidecarHash: hash32, height, txIndex: uint() });
export const auditEntry = struct({ timestampMs: timeMs, txHash: nullable(hash32), event });
export type AuditEntry = TypeOf<typeof auditEntry>;
export const emptyEntry = struct({});
export const recordByOwnerEntry = struct({ id: hash32 });

/**
 * `awaitingReady`: everything is decided and the delay is over; the new validator has still to show that it is in step.
 */
export const PROPOSAL_STATUSES = [
  'open',
  'accepted',
  'awaitingReady',
  'rejected',
  'expired',
  'effective',
  'failed',
] as const;

export const proposalEntry = struct({
  id: hash32,
  proposal,
  proposer: address,
  proposerOrg: orgId,
  status: oneOf(PROPOSAL_STATUSES),
  /** Why it failed: the code of what stood against it when it was to take effect. */
  reason: nullable(code),
  createdMs: timeMs,
  closesMs: timeMs,
  /** The governance delay when it was opened: no vote shortens its own. */
  delayMs: uint(),
  effectiveMs: nullable(timeMs),
  /** Organisations that may vote, fixed when it was opened: those of the validators. */
  voters: list(orgId, 100),
});
export type ProposalEntry = TypeOf<typeof proposalEntry>;
export const voteEntry = struct({ orgId, account: address, personTag: nullable(token32), approve: bool, atMs: timeMs });
export type VoteEntry = TypeOf<typeof voteEntry>;

/** The longest value of an entry that anybody decodes. */
export const STATE_VALUE_MAX_BYTES = MAX_STATE_VALUE_BYTES;
