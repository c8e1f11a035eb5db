/** state_*, emr_*, custody_* and blob_*: raw state with proofs, records and policies, and what leads to their bytes. */
import { RECORD_KEY_BYTES } from '../../common/crypto/custody/capsule.ts';
import { RELEASE_SHARE_BYTES } from '../../common/crypto/custody/release-share.ts';
import * as s from '../schema.ts';
import {
  address,
  amendment,
  at,
  cid,
  hash,
  method,
  orgId,
  page,
  paging,
  policy,
  prove,
  record,
  recordVersion,
  stateProof,
  timeMs,
} from './shapes.ts';

/** Longest state key, in bytes; common/protocol/state-tree.ts. */
const stateKey = s.hexUpTo(128, 1);
const stateValue = s.hexUpTo(64 * 1024);

/** Longest wait for custodians, in milliseconds. */
export const MAX_RELEASE_WAIT_MS = 30_000;
export const DEFAULT_RELEASE_WAIT_MS = 10_000;

export const stateMethods = {
  state_get: method({
    summary: 'The value of one key of the authenticated state.',
    access: 'member',
    params: { key: stateKey, prove },
    result: s.object({ key: stateKey, value: s.nullable(stateValue), proof: stateProof, ...at }),
  }),
  state_getRange: method({
    summary: 'Entries with gte <= key < lt in ascending order.',
    access: 'member',
    params: { gte: stateKey, lt: stateKey, limit: s.optional(s.integer(1, 100)), prove },
    result: s.object({
      entries: s.list(s.object({ key: stateKey, value: stateValue }), 100),
      /** There are more entries: go on from just behind the last one. */
      more: s.bool,
      proof: stateProof,
      /** The proof shows that [gte, provenLt) holds exactly these entries. */
      provenLt: s.nullable(stateKey),
      ...at,
    }),
  }),
};

export const emrMethods = {
  emr_getRecord: method({
    summary: 'A record and its latest version; staff out of scope who know the id get what a request for access needs.',
    access: 'member',
    params: { recordId: hash, prove },
    result: s.object({ record, proof: stateProof, ...at }),
  }),
  emr_listRecords: method({
    summary: 'Records in scope: of one owner in order of time, or all of them in order of id.',
    access: 'member',
    params: { owner: s.optional(address), orgId: s.optional(orgId), ...paging },
    result: page(record),
  }),
  emr_listVersions: method({
    summary: 'Versions of a record, the first one first.',
    access: 'member',
    params: { recordId: hash, ...paging },
    result: page(recordVersion),
  }),
  emr_getWraps: method({
    summary:
      "How a version's key travelled beside its block: for the owner, the writing organisation, and who has a grant.",
    access: 'member',
    params: { recordId: hash, version: s.integer(0, 2 ** 32 - 1) },
    result: s.object({
      wraps: s.list(
        s.object({
          to: s.words(['patient', 'custodian']),
          orgId: s.nullable(orgId),
          ciphertext: s.hexUpTo(512),
        }),
      ),
      /** The erasable part of a key that is sealed under the custody key; null where it is wrapped alone. */
      c: s.nullable(s.hex(RECORD_KEY_BYTES)),
      /** The same of the recovery key's capsule, where there is one. */
      recoveryC: s.nullable(s.hex(RECORD_KEY_BYTES)),
      /** What travelled beside the block was erased. */
      erased: s.bool,
      ...at,
    }),
  }),
  emr_getPolicy: method({
    summary: 'A policy: rules, approval trees, who may change it.',
    access: 'member',
    params: { policyRef: hash, prove },
    result: s.object({ policy, proof: stateProof, ...at }),
  }),
  emr_listPolicies: method({
    summary: 'All policies, in order of reference.',
    access: 'member',
    params: paging,
    result: page(policy),
  }),
  emr_listPolicyVersions: method({
    summary: 'Versions of a policy that amendments have replaced, the oldest first.',
    access: 'member',
    params: { policyRef: hash, ...paging },
    result: page(policy),
  }),
  emr_listAmendments: method({
    summary: 'Amendments of a policy that are not concluded: one for each organisation at the most.',
    access: 'member',
    params: { policyRef: hash },
    result: s.object({ amendments: s.list(amendment), ...at }),
  }),
  emr_getAmendment: method({
    summary: 'An amendment of a policy: its document, and who has approved or rejected it.',
    access: 'member',
    params: { amendmentId: hash },
    result: s.object({ amendment, ...at }),
  }),
};

export const custodyMethods = {
  custody_getShare: method({
    summary: 'Key material for a grant, encrypted to the fresh key of its request. For the requester alone.',
    access: 'account',
    params: { grantId: hash, timeoutMs: s.optional(s.integer(100, MAX_RELEASE_WAIT_MS)) },
    result: s.object({
      replies: s.list(
        s.object({
          from: s.words(['owner', 'custodian']),
          orgId: s.nullable(orgId),
          /** The whole key, from whoever can give it alone. Without it and without a share: refused. */
          wrapped: s.nullable(s.hexUpTo(512)),
          /** A holder's masked share, of which a threshold opens the record. With a code: a false one, which convicts it. */
          share: s.nullable(s.hex(RELEASE_SHARE_BYTES)),
          signature: s.nullable(s.hex(64)),
          custodianKey: s.nullable(s.hex(64)),
          code: s.nullable(s.text(64)),
          message: s.nullable(s.text(1024)),
        }),
      ),
      /** False: the time was over before everybody had answered. */
      complete: s.bool,
      ...at,
    }),
  }),
};

export const blobMethods = {
  blob_getReceipts: method({
    summary: 'Who has signed that it holds a ciphertext.',
    access: 'member',
    params: { cid },
    result: s.object({
      cid,
      sizeBytes: s.integer(),
      local: s.bool,
      receipts: s.list(s.object({ orgId, holder: address, signature: s.hex(64), atMs: timeMs })),
    }),
  }),
};
