/**
 * Shapes that several methods share: parameters, pages, and the JSON form of what the ledger holds.
 */
import type { BlockHeader } from '../../common/protocol/block.ts';
import { PURPOSES, ROLES, type PolicyDocument } from '../../common/protocol/policy.ts';
import { MAX_SIDECAR_BYTES, MAX_TX_BYTES } from '../../common/protocol/primitives.ts';
import type { Event } from '../../common/protocol/receipt.ts';
import { SECTION_CLASSES } from '../../common/protocol/record.ts';
import { AMENDMENT_STATUSES, REQUEST_STATUSES } from '../../common/protocol/state-entries.ts';
import type { AccessRequest, Call, Proposal } from '../../common/protocol/transaction.ts';
import type { ExplainedNode } from '../../vm/index.ts';
import type { JsonOf } from '../json.ts';
import * as s from '../schema.ts';

/** Who may call: see docs/rpc.md. */
export type MethodAccess =
  /** Anybody; what is out of a caller's scope is left out of the answer. */
  | 'public'
  /** A reader's token, unless the operator opened reads. The scope holds for what is answered. */
  | 'member'
  /** A reader's token, always: the answer is for this account alone. */
  | 'account';

export interface MethodDefinition {
  readonly summary: string;
  readonly access: MethodAccess;
  /** Which transport serves it; HTTP answers METHOD_DISABLED for what needs a WebSocket. */
  readonly transport: 'any' | 'websocket';
  /** In the order of positional parameters. */
  readonly params: s.Properties;
  readonly result: s.Schema<unknown>;
}

export function method<const P extends s.Properties, R>(definition: {
  readonly summary: string;
  readonly access: MethodAccess;
  readonly transport?: 'any' | 'websocket';
  readonly params: P;
  readonly result: s.Schema<R>;
}) {
  return { transport: 'any' as const, ...definition };
}

// Parameters ------------------------------------------------------------------------------------------------------

export const MAX_PAGE = 100;
export const DEFAULT_PAGE = 25;

export const hash = s.hex(32);
export const address = s.hex(20);
export const timeMs = s.integer();
export const height = s.integer();
export const orgId = s.text(32, '^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$');
export const heightOrLatest = s.either(height, s.words(['latest']));
export const purpose = s.words(PURPOSES);
export const role = s.words(ROLES);

export const rawTransaction = s.describe('Canonical bytes of the signed transaction.', s.hexUpTo(MAX_TX_BYTES, 1));
export const rawSidecar = s.describe('The erasable bytes that the call commits to.', s.hexUpTo(MAX_SIDECAR_BYTES, 1));
export const cid = s.describe('CIDv1 in base32.', s.text(64, '^b[a-z2-7]{58}$'));

export const prove = s.optional(s.describe('Also answer the proof against the state root of `atHeight`.', s.bool));
export const limit = s.optional(s.describe('Items of one page, 25 unless given.', s.integer(1, MAX_PAGE)));
/** Opaque: a caller keeps it and gives it back. */
export const cursor = s.optional(s.describe('`nextCursor` of the page before.', s.text(600, '^[A-Za-z0-9_-]+$')));
export const paging = { limit, cursor };

// Results ---------------------------------------------------------------------------------------------------------

/** The block that the answer stands at. */
export const at = { atHeight: height, atHash: hash };

export const stateProof = s.nullable(s.hexUpTo(8 * 1024 * 1024));

/** A page may hold fewer items than its limit, even none: only `nextCursor: null` says that it was the last. */
export function page<T>(item: s.Schema<T>) {
  return s.object({ items: s.list(item, MAX_PAGE), nextCursor: s.nullable(s.text(600)), ...at });
}

export const header = s.structure<JsonOf<BlockHeader>>('BlockHeader', [
  'chainId',
  'height',
  'view',
  'parentHash',
  'timestampMs',
  'proposer',
  'txRoot',
  'receiptsRoot',
  'stateRoot',
  'validatorsHash',
  'nextValidatorsHash',
]);
export const call = s.structure<JsonOf<Call>>('Call', ['kind']);
export const event = s.structure<JsonOf<Event>>('Event', ['type', 'actor', 'subject', 'orgId']);
export const policyDocument = s.structure<JsonOf<PolicyDocument>>('PolicyDocument', ['orgId', 'rules', 'adminRule']);
export const accessRequest = s.structure<JsonOf<AccessRequest>>('AccessRequest', ['recordId', 'requester', 'purpose']);
export const proposal = s.structure<JsonOf<Proposal>>('Proposal', ['kind']);
export const explainedNode = s.structure<JsonOf<ExplainedNode>>('ExplainedNode', ['kind']);

export const validator = s.object({
  index: s.integer(),
  address,
  orgId,
  publicKey: s.hex(64),
  peerId: s.text(64),
});

export const certificate = s.object({
  height,
  view: s.integer(),
  blockHash: hash,
  signatures: s.list(s.object({ validator: s.integer(), address, orgId, signature: s.hex(64) })),
});

/** A transaction as far as the caller may see it: hash, place and size always, the rest null out of its scope. */
export const txSummary = s.object({
  hash,
  height: s.nullable(height),
  index: s.nullable(s.integer()),
  timestampMs: s.nullable(timeMs),
  sizeBytes: s.integer(),
  account: s.nullable(address),
  callKind: s.nullable(s.text(48)),
});

export const receipt = s.object({
  index: s.integer(),
  txHash: s.nullable(hash),
  /** Only those in the caller's scope. */
  events: s.list(event),
});

export const merklePath = s.object({ index: s.integer(), total: s.integer(), path: s.list(hash, 31) });

export const recordVersion = s.object({
  recordId: hash,
  version: s.integer(),
  writer: address,
  orgId,
  height,
  createdMs: timeMs,
  policyRef: hash,
  cid,
  dataDigest: hash,
  sizeBytes: s.integer(),
  categoryToken: hash,
  headerHash: hash,
  keyCheck: s.hex(16),
  /** How the key is kept: `direct` for wraps beside the block. */
  custody: s.text(16),
  sidecarHash: hash,
  ownerPublicKey: s.hex(64),
  ownerSignature: s.hex(64),
});

export const record = s.object({
  id: hash,
  /** `full` for whom the record concerns; `request` holds what it takes to ask for access, the rest is null. */
  view: s.words(['full', 'request']),
  orgId,
  latestVersion: s.integer(),
  policyRef: hash,
  owner: s.nullable(address),
  writer: s.nullable(address),
  section: s.nullable(s.words(SECTION_CLASSES)),
  createdMs: s.nullable(timeMs),
  latest: s.nullable(recordVersion),
});

export const policy = s.object({
  ref: hash,
  version: s.integer(),
  document: policyDocument,
  createdBy: address,
  createdMs: timeMs,
  /** Of this version: since when it is in force, and by which amendment; null for the first. */
  sinceMs: timeMs,
  amendmentId: s.nullable(hash),
});

export const account = s.object({
  id: address,
  orgId,
  kind: s.words(['staff', 'patient', 'service']),
  publicKey: s.hex(64),
  keySinceMs: timeMs,
  /** When its key last came by recovery. */
  recoveredMs: s.nullable(timeMs),
  /** Null too for callers of other organisations. */
  personTag: s.nullable(hash),
  custodial: s.bool,
  status: s.words(['active', 'suspended']),
  enrolledMs: timeMs,
  enrolledBy: s.nullable(address),
});

export const accountRole = s.object({
  account: address,
  role,
  orgId,
  department: s.nullable(hash),
  grantedMs: timeMs,
  /** From when on it can fill approval slots. */
  effectiveMs: timeMs,
  grantedBy: s.nullable(address),
  expiresAtMs: timeMs,
  /** Not expired at the block time of `atHeight`. */
  current: s.bool,
});

export const requestStatus = s.words(REQUEST_STATUSES);

export const request = s.object({
  /** Also the id of the grant. */
  hash,
  recordId: hash,
  version: s.integer(),
  requester: address,
  requesterOrg: orgId,
  owner: address,
  recordOrg: orgId,
  purpose,
  policyRef: hash,
  policyVersion: s.integer(),
  ruleIndex: s.integer(),
  notAfterMs: timeMs,
  status: requestStatus,
  createdMs: timeMs,
  pendingUntilMs: timeMs,
  statusHeight: height,
  statusMs: timeMs,
  statusBy: s.nullable(address),
  statusReason: s.nullable(s.text(48)),
});

export const decision = s.object({
  account: address,
  orgId,
  approve: s.bool,
  atMs: timeMs,
  height,
  reason: s.nullable(s.text(48)),
  /** The slot that a denial took out. */
  slot: s.nullable(s.integer()),
});

/** A document that is to become the policy's next version. */
export const amendment = s.object({
  id: hash,
  policyRef: hash,
  version: s.integer(),
  document: policyDocument,
  proposer: address,
  proposerOrg: orgId,
  status: s.words(AMENDMENT_STATUSES),
  createdMs: timeMs,
  closesMs: timeMs,
  statusMs: timeMs,
  statusHeight: height,
  statusBy: s.nullable(address),
  decisions: s.list(decision),
});
