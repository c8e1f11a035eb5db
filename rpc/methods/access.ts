/** acl_* and gov_*: accounts, roles, requests, grants, audit, governance. */
import { PROPOSAL_STATUSES } from '../../common/protocol/state-entries.ts';
import { MAX_STATUS_BYTES } from '../../common/protocol/status.ts';
import * as s from '../schema.ts';
import {
  account,
  accountRole,
  accessRequest,
  address,
  at,
  decision,
  event,
  explainedNode,
  hash,
  height,
  heightOrLatest,
  method,
  orgId,
  page,
  paging,
  proposal,
  prove,
  purpose,
  request,
  requestStatus,
  stateProof,
  timeMs,
  validator,
} from './shapes.ts';

const explanation = s.object({
  /** As of now: also where the block that ends a request or a grant has not come by yet. */
  status: requestStatus,
  /** The rule's approval tree with who filled, denied or may still fill each slot. */
  tree: explainedNode,
  /** Who approved and fills no slot: another has it, or a role has lapsed. */
  idle: s.list(address),
  /** What a pending request waits for; null where it is decided. */
  missing: s.nullable(s.object({ code: s.text(64), message: s.text(1024) })),
});

const organisation = s.object({
  orgId,
  name: s.text(100),
  status: s.words(['active', 'suspended']),
  custodianKey: s.nullable(s.hex(64)),
  sinceMs: timeMs,
});

/** How many validators there are, how many of them may fail, how many decide. */
const setDecision = s.object({ validators: s.integer(), faultTolerance: s.integer(), quorum: s.integer() });

const proposalView = s.object({
  id: hash,
  proposal,
  proposer: address,
  proposerOrg: orgId,
  status: s.words(PROPOSAL_STATUSES),
  /** Why it failed; null unless it did. */
  reason: s.nullable(s.text(48)),
  createdMs: timeMs,
  closesMs: timeMs,
  delayMs: s.integer(),
  effectiveMs: s.nullable(timeMs),
  voters: s.list(orgId),
  /** How the validators decide now, and would with this change; null once it is decided and done. */
  decides: s.nullable(s.object({ now: setDecision, after: setDecision })),
});

const member = s.object({ address, orgId, publicKey: s.hex(64), peerId: s.text(64), addresses: s.list(s.text(256)) });

const vote = s.object({ orgId, account: address, approve: s.bool, atMs: timeMs });

export const aclMethods = {
  acl_getRevocationStatus: method({
    summary:
      'Whether a revocation has reached a quorum: only then can no holder of key material still be unaware of it.',
    access: 'member',
    params: { requestHash: hash },
    result: s.object({
      requestHash: hash,
      status: requestStatus,
      /** Null unless it was revoked. */
      revokedHeight: s.nullable(height),
      executedBy: s.list(orgId),
      /** Their signed statuses: whoever knows the validators counts them without believing this node. */
      receipts: s.list(s.object({ address, status: s.hexUpTo(MAX_STATUS_BYTES, 1), signature: s.hex(64) })),
      quorum: s.integer(),
      final: s.bool,
      ...at,
    }),
  }),
  acl_getAccount: method({
    summary: 'An account by its id.',
    access: 'member',
    params: { account: address, prove },
    result: s.object({ account, proof: stateProof, ...at }),
  }),
  acl_listAccounts: method({
    summary: 'Accounts in scope, in order of id.',
    access: 'member',
    params: { orgId: s.optional(orgId), ...paging },
    result: page(account),
  }),
  acl_getRoles: method({
    summary: 'Roles that were granted to an account, expired ones included.',
    access: 'member',
    params: { account: address },
    result: s.object({ account: address, roles: s.list(accountRole), ...at }),
  }),
  acl_getRequest: method({
    summary: 'A request for access with the policy tree: who has approved, what is missing, until when.',
    access: 'member',
    params: { requestHash: hash, prove },
    result: s.object({
      request,
      /** What approvers sign the hash of, the requester's fresh key included. */
      body: accessRequest,
      explanation,
      decisions: s.list(decision),
      /** The owner's client has re-wrapped the key for the requester. */
      delivered: s.bool,
      proof: stateProof,
      ...at,
    }),
  }),
  acl_listRequests: method({
    summary: 'Requests in scope: of one record in order of height, or all of them in order of hash.',
    access: 'member',
    params: {
      recordId: s.optional(hash),
      requester: s.optional(address),
      status: s.optional(requestStatus),
      ...paging,
    },
    result: page(request),
  }),
  acl_getApprovals: method({
    summary: 'Decisions on a request, denials included.',
    access: 'member',
    params: { requestHash: hash },
    result: s.object({ requestHash: hash, decisions: s.list(decision), ...at }),
  }),
  acl_getGrants: method({
    summary: 'Active grants in scope, by record or by requester.',
    access: 'member',
    params: { recordId: s.optional(hash), requester: s.optional(address), ...paging },
    result: page(request),
  }),
  acl_checkAccess: method({
    summary: 'Whether an account may read a record for a purpose now, and by which grant.',
    access: 'member',
    params: { subject: address, recordId: hash, purpose, height: s.optional(heightOrLatest), prove },
    result: s.object({
      decision: s.words(['allow', 'deny']),
      /** Stable word, such as `GRANTED`, `NO_GRANT`, `WRONG_PURPOSE`, `REVOKED`. */
      reason: s.text(64),
      message: s.text(1024),
      /** The request that decides: the grant, or the last one that is not. */
      requestHash: s.nullable(hash),
      notAfterMs: s.nullable(timeMs),
      /** Of that request's entry; null where there is none. */
      proof: stateProof,
      ...at,
    }),
  }),
  acl_getAuditTrail: method({
    summary: 'What happened to a record: who asked, who approved or denied, when, why; in order.',
    access: 'member',
    params: { recordId: hash, prove, ...paging },
    result: s.object({
      items: s.list(
        s.object({ height, sequence: s.integer(), timestampMs: timeMs, txHash: s.nullable(hash), event }),
        100,
      ),
      nextCursor: s.nullable(s.text(600)),
      proof: stateProof,
      ...at,
    }),
  }),
};

export const govMethods = {
  gov_listProposals: method({
    summary: 'Proposals, in order of id.',
    access: 'member',
    params: { status: s.optional(s.text(16)), ...paging },
    result: page(proposalView),
  }),
  gov_getProposal: method({
    summary: 'A proposal with its votes.',
    access: 'member',
    params: { proposalId: hash },
    result: s.object({ proposal: proposalView, votes: s.list(vote), ...at }),
  }),
  gov_getMembers: method({
    summary: 'Organisations, the validators and observers that they run, and who is to become a validator.',
    access: 'member',
    params: {},
    result: s.object({
      organisations: s.list(organisation),
      validators: s.list(validator),
      observers: s.list(member),
      /** Observers that have until then to show that they are in step. */
      candidates: s.list(s.object({ address, orgId, proposalId: hash, sinceHeight: height, untilMs: timeMs })),
      decides: setDecision,
      ...at,
    }),
  }),
};
