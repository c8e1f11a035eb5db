/**
 * What is signed inside calls, beside the transaction itself: proofs of possession, countersignatures, the owner's
 * signature on a record. Clients sign these 32-byte messages and the vm demands them as obligations, from one source.
 */
import { concatBytes } from '../bytes.ts';
import { encode, type TypeOf } from '../codec.ts';
import { nodeCard, type NodeCard } from './member.ts';
import type { Address, Hash } from './primitives.ts';
import { recordIdOf, writeSigningHash } from './record.ts';
import { countersignSigningHash, nodeCardSigningHash, possessionSigningHash } from './signing.ts';
import {
  attendingRelation,
  capsule,
  type CallOf,
  enrolment,
  type Enrolment,
  type Proposal,
  recovery,
} from './transaction.ts';

/** Signed by the enrolled key. */
export const enrolmentPossessionHash = (chainId: Hash, statement: Enrolment): Hash =>
  possessionSigningHash(chainId, 'enrol', encode(enrolment, statement));

/** Signed by the second party of a staff enrolment. */
export const enrolmentCountersignHash = (chainId: Hash, statement: Enrolment): Hash =>
  countersignSigningHash(chainId, 'enrol', encode(enrolment, statement));

/** Signed by the new key of a rotation. */
export const rotationPossessionHash = (chainId: Hash, statement: TypeOf<typeof recovery>): Hash =>
  possessionSigningHash(chainId, 'rotate', encode(recovery, statement));

/** Signed by the new key of a recovery. */
export const recoveryPossessionHash = (chainId: Hash, statement: TypeOf<typeof recovery>): Hash =>
  possessionSigningHash(chainId, 'recover', encode(recovery, statement));

/** Signed by the second party of a recovery. */
export const recoveryCountersignHash = (chainId: Hash, statement: TypeOf<typeof recovery>): Hash =>
  countersignSigningHash(chainId, 'recover', encode(recovery, statement));

/** Signed by the second party where an author, not the patient, sets an attending relation. */
export const attendingCountersignHash = (chainId: Hash, statement: TypeOf<typeof attendingRelation>): Hash =>
  countersignSigningHash(chainId, 'attending', encode(attendingRelation, statement));

/** Signed by the node's own SM2 key, when it is to be admitted. */
export const admissionHash = (chainId: Hash, card: NodeCard): Hash =>
  nodeCardSigningHash(chainId, 'admit', encode(nodeCard, card));

/** Signed by the new SM2 key (which may be the old one, where the peer id alone changes). */
export const memberRotationHash = (chainId: Hash, replaced: Address, card: NodeCard): Hash =>
  nodeCardSigningHash(chainId, 'rotate', concatBytes(replaced, encode(nodeCard, card)));

/** The enrolment that adding an organisation implies for its first administrator, who signs it as any other. */
export const firstAdminEnrolment = (value: Extract<Proposal, { kind: 'addOrganisation' }>): Enrolment => ({
  publicKey: value.admin.publicKey,
  orgId: value.orgId,
  kind: 'staff',
  personTag: value.admin.personTag,
  custodial: false,
});

/** Signed by the record's owner: everything that a new record, or a new version, says about itself. */
export function ownerWriteHash(
  chainId: Hash,
  writer: Address,
  call: CallOf<'record.create'> | CallOf<'record.addVersion'>,
): Hash {
  const isNew = call.kind === 'record.create';
  const { content } = call;
  return writeSigningHash({
    chainId,
    recordId: isNew ? recordIdOf(writer, call.owner, call.nonce, call.sectionClass) : call.recordId,
    version: isNew ? 1 : call.version,
    policyRef: content.policyRef,
    owner: call.owner,
    dataDigest: content.dataDigest,
    keyCheck: content.keyCheck,
    encodedCapsule: encode(capsule, content.capsule),
    cid: content.cid,
    headerHash: content.headerHash,
    categoryToken: content.categoryToken,
    hospital: call.hospital,
    writer,
    section: call.sectionClass,
    sizeBytes: content.sizeBytes,
    sidecarHash: content.sidecarHash,
  });
}
