/**
 * Records and their versions: written by a clinician of the hospital where the owner is a patient, with the owner's
 * signature over everything that the record says about itself (custody protocol, section 5.2).
 */
import { equalBytes } from '../common/bytes.ts';
import type { Verdict } from '../common/errors.ts';
import type { Role } from '../common/protocol/policy.ts';
import type { Address, Hash, OrgId } from '../common/protocol/primitives.ts';
import { recordIdOf } from '../common/protocol/record.ts';
import {
  emptyEntry,
  recordByOwnerEntry,
  recordEntry,
  recordVersionEntry,
  stateKey,
} from '../common/protocol/state-entries.ts';
import type { CallOf, RecordContent } from '../common/protocol/transaction.ts';
import { refuse } from './codes.ts';
import { count, counted, emit, OK, type TxContext } from './context.ts';
import { checkKeeping } from './custody/capsules.ts';
import { accountOf } from './organisations.ts';
import { policyCovers, policyOf } from './policies.ts';
import { holdsRole } from './roles.ts';

/**
 * Who may write: physicians, and those on emergency duty, who are physicians under another role. Others document under a
 * physician's signature: an author may propose attending relations, which is a physician's decision.
 */
const AUTHOR_ROLES: readonly Role[] = ['physician', 'emergency_physician'];

/** CIDv1, of a UnixFS file (dag-pb) or a single raw block, with sha2-256: 36 bytes. */
function isFileCid(cid: Uint8Array): boolean {
  return cid[0] === 1 && (cid[1] === 0x70 || cid[1] === 0x55) && cid[2] === 0x12 && cid[3] === 32;
}

interface Writing {
  readonly recordId: Hash;
  readonly version: number;
  readonly owner: Address;
  readonly hospital: OrgId;
  readonly content: RecordContent;
}

function checkOwner(ctx: TxContext, { owner, content }: Writing): Verdict {
  const account = accountOf(ctx.state, owner);
  if (account === undefined || account.kind !== 'patient' || account.orgId !== ctx.sender.orgId) {
    return refuse('OWNER_NOT_PATIENT_HERE');
  }
  if (account.status !== 'active') return refuse('OWNER_SUSPENDED');
  return equalBytes(account.publicKey, content.ownerPublicKey) ? OK : refuse('OWNER_KEY_NOT_CURRENT');
}

function checkPolicy(ctx: TxContext, writing: Writing): Verdict {
  const { content } = writing;
  const policy = policyOf(ctx.state, content.policyRef);
  if (policy === undefined) return refuse('POLICY_UNKNOWN');
  if (!policyCovers(policy.document, content.categoryToken)) return refuse('POLICY_EXCLUDES_CATEGORY');
  return checkKeeping(ctx, { ...writing, policy: policy.document });
}

/** What a new record and a new version have in common. */
function checkWriting(ctx: TxContext, writing: Writing): Verdict {
  const role = holdsRole(ctx.state, ctx.sender, AUTHOR_ROLES, ctx.now);
  if (!role.ok) return role;
  if (writing.hospital !== ctx.sender.orgId) return refuse('HOSPITAL_MISMATCH', ctx.sender.orgId);
  const owner = checkOwner(ctx, writing);
  if (!owner.ok) return owner;
  const { sizeBytes, cid } = writing.content;
  if (sizeBytes === 0) return refuse('EMPTY_RECORD');
  if (!isFileCid(cid)) return refuse('BAD_CID');
  const used = counted(ctx.state, stateKey.storageUsed(writing.hospital));
  if (used + sizeBytes > ctx.params.orgStorageBytes) {
    return refuse('STORAGE_QUOTA', `${used} of ${ctx.params.orgStorageBytes} bytes are used`);
  }
  return checkPolicy(ctx, writing);
}

function writeVersion(ctx: TxContext, { recordId, version, owner, hospital, content }: Writing): void {
  ctx.state.put(recordVersionEntry, stateKey.recordVersion(recordId, version), {
    recordId,
    version,
    writer: ctx.sender.id,
    orgId: hospital,
    content,
    height: ctx.height,
    createdMs: ctx.now,
  });
  ctx.state.put(emptyEntry, stateKey.author(owner, ctx.sender.id), {});
  count(ctx.state, stateKey.storageUsed(hospital), content.sizeBytes);
}

export function createRecord(ctx: TxContext, call: CallOf<'record.create'>): Verdict {
  const id = recordIdOf(ctx.sender.id, call.owner, call.nonce, call.sectionClass);
  const { owner, hospital, content } = call;
  const writing = { recordId: id, version: 1, owner, hospital, content };
  const allowed = checkWriting(ctx, writing);
  if (!allowed.ok) return allowed;
  if (ctx.state.get(recordEntry, stateKey.record(id)) !== undefined) return refuse('RECORD_EXISTS');
  ctx.state.put(recordEntry, stateKey.record(id), {
    id,
    owner: call.owner,
    writer: ctx.sender.id,
    orgId: call.hospital,
    section: call.sectionClass,
    latestVersion: 1,
    createdMs: ctx.now,
  });
  ctx.state.put(recordByOwnerEntry, stateKey.recordByOwner(call.owner, ctx.now, id), { id });
  writeVersion(ctx, writing);
  emit(ctx, 'record.create', { subject: call.owner, recordId: id, objectId: call.content.policyRef });
  return OK;
}

export function addVersion(ctx: TxContext, call: CallOf<'record.addVersion'>): Verdict {
  const record = ctx.state.get(recordEntry, stateKey.record(call.recordId));
  if (record === undefined) return refuse('RECORD_UNKNOWN');
  if (record.orgId !== ctx.sender.orgId) return refuse('NOT_WRITING_ORGANISATION', record.orgId);
  if (!equalBytes(record.owner, call.owner) || record.section !== call.sectionClass) return refuse('RECORD_MISMATCH');
  const { recordId, version, owner, hospital, content } = call;
  const writing = { recordId, version, owner, hospital, content };
  const allowed = checkWriting(ctx, writing);
  if (!allowed.ok) return allowed;
  if (call.version !== record.latestVersion + 1) return refuse('VERSION_NOT_NEXT', `${record.latestVersion + 1}`);
  ctx.state.put(recordEntry, stateKey.record(call.recordId), { ...record, latestVersion: call.version });
  writeVersion(ctx, writing);
  emit(ctx, 'record.addVersion', { subject: call.owner, recordId: call.recordId, objectId: call.content.policyRef });
  return OK;
}
