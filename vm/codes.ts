/**
 * Every reason for which execution refuses a transaction: stable code and sentence. Codes are part of the protocol's
 * surface (clients switch on them, docs/access-control.md explains them); they are never renamed, only retired.
 */

interface Rejection {
  readonly ok: false;
  readonly code: string;
  readonly message: string;
}

export const REJECTIONS = {
  // Envelope
  UNSUPPORTED_VERSION: 'this transaction format is not supported',
  CHAIN_ID_MISMATCH: 'the transaction is for another chain',
  TX_EXPIRED: 'the transaction is past its valid-until time',
  TX_VALIDITY_TOO_LONG: 'the transaction is valid for longer than the chain allows',
  TX_REPLAYED: 'this account has already used this nonce',
  BAD_SIGNATURE: "the transaction's signature does not verify",
  KEY_NOT_CURRENT: "the transaction is not signed by the account's current key",
  ACCOUNT_UNKNOWN: 'there is no such account',
  ACCOUNT_SUSPENDED: 'the account is suspended',
  ORG_SUSPENDED: 'the organisation is suspended',
  ORG_UNKNOWN: 'there is no such organisation',
  BLOCK_TOO_LARGE: 'more transactions or bytes than a block may hold',
  // Sidecar
  SIDECAR_MISSING: 'the call commits to a sidecar that did not come with it',
  SIDECAR_MISMATCH: 'the sidecar is not the one that the call commits to',
  SIDECAR_UNEXPECTED: 'this call has no sidecar',
  SIDECAR_WRONG_WRAPS: 'the key wraps are not exactly those that the policy demands',
  // Roles and second parties
  ROLE_MISSING: 'the account does not hold the role that this takes',
  ROLE_EXPIRED: 'the role that this takes has expired',
  ROLE_NOT_YET_EFFECTIVE: 'the role was not effective before the request was made',
  ROLE_NOT_GRANTABLE: 'this role cannot be granted',
  ROLE_ONLY_FOR_STAFF: 'roles are for staff accounts',
  ROLE_SELF_GRANT: 'nobody grants a role to an account of their own',
  TOO_MANY_ROLES: 'the account holds as many roles as an account may',
  EXPIRY_PASSED: 'the expiry is not in the future',
  NOT_YOUR_ORGANISATION: 'the account, role or policy belongs to another organisation',
  COUNTERSIGNATURE_REQUIRED: 'this takes the countersignature of a second party',
  COUNTERSIGNATURE_NOT_ALLOWED: 'this call is not countersigned',
  BAD_COUNTERSIGNATURE: "the second party's signature does not verify",
  COUNTERSIGNER_UNKNOWN: 'the countersigning account does not exist',
  COUNTERSIGNER_NOT_ACTIVE: 'the countersigning account or its organisation is suspended',
  COUNTERSIGNER_KEY_NOT_CURRENT: "the countersignature is not by that account's current key",
  COUNTERSIGNER_SAME_ORGANISATION: 'the second party must belong to another organisation',
  COUNTERSIGNER_OTHER_ORGANISATION: 'the second party must belong to the hospital itself',
  COUNTERSIGNER_SAME_PERSON: 'the second party is the same person',
  COUNTERSIGNER_ROLE_MISSING:
    'the second party does not hold, or not yet long enough, a role that may countersign this',
  // Accounts
  KEY_ALREADY_USED: 'this key was used before; every key serves one purpose, once',
  BAD_KEY: 'not a point of the SM2 curve',
  BAD_POSSESSION: 'the proof of possession does not verify',
  PERSON_TAG_REQUIRED: 'staff are enrolled with a person tag',
  PERSON_TAG_NOT_ALLOWED: 'only staff carry a person tag',
  CUSTODIAL_NOT_ALLOWED: 'only patient accounts can be custodial',
  CANNOT_SUSPEND_SELF: 'nobody suspends an account of their own',
  CANNOT_REINSTATE_SELF: 'nobody reinstates an account of their own',
  ACCOUNT_NOT_SUSPENDED: 'the account is not suspended',
  RECOVERY_PENDING: 'a recovery of this account is pending: its current key can veto it first',
  RECOVERY_NOT_PENDING: 'no recovery of this account is pending',
  RECOVERY_NOT_DUE: 'the delay of the recovery is not over',
  // Attending relations
  NOT_A_PATIENT: 'the account is not a patient',
  NOT_A_PHYSICIAN: 'the account does not hold the role of a physician',
  NOT_AN_AUTHOR: 'only the patient, or an author of one of their records, sets this relation',
  ATTENDING_ENDED_BY_PATIENT: 'the patient ended this relation: only the patient can set it again',
  ATTENDING_NOT_LATER: 'a relation set by others must last longer than the one before it',
  ATTENDING_UNKNOWN: 'there is no such relation',
  NOT_ALLOWED_TO_END: 'only the patient, the physician or medical affairs of the hospital ends this relation',
  // Policies
  POLICY_EXISTS: 'this policy exists already',
  POLICY_UNKNOWN: 'there is no such policy',
  POLICY_TOO_DEEP: 'the approval tree has too many levels',
  POLICY_TOO_WIDE: 'the approval tree has too many slots',
  POLICY_BAD_THRESHOLD: 'a threshold is not between 1 and the number of its branches',
  POLICY_BAD_SLOT: 'a patient approves by the owner slot, never by role',
  POLICY_BAD_DURATION: 'a rule allows no duration',
  POLICY_UNKNOWN_ORGANISATION: 'the policy names an organisation that does not exist',
  POLICY_UNKNOWN_PERSON: 'the policy names an account that does not exist',
  POLICY_UNSATISFIABLE: 'no approvals could satisfy a rule: without the owner they must come from two organisations',
  POLICY_NO_WRAP: 'neither the patient nor the custodian would hold the key',
  POLICY_EXCLUDES_CATEGORY: 'no rule of the policy is for records of this category',
  // Records
  RECORD_EXISTS: 'this record exists already',
  RECORD_UNKNOWN: 'there is no such record',
  VERSION_UNKNOWN: 'the record has no such version',
  VERSION_NOT_NEXT: 'a new version must be the next number',
  RECORD_MISMATCH: 'the call does not repeat what the record says',
  HOSPITAL_MISMATCH: "the hospital is not the writer's organisation",
  OWNER_NOT_PATIENT_HERE: "the owner is not a patient of the writer's hospital",
  OWNER_SUSPENDED: "the owner's account is suspended",
  OWNER_KEY_NOT_CURRENT: "the owner's signature is not by their current key",
  BAD_OWNER_SIGNATURE: "the owner's signature does not verify",
  NOT_WRITING_ORGANISATION: 'only the organisation that wrote the record adds a version',
  EMPTY_RECORD: 'a record has at least one byte',
  BAD_CID: 'not a CID version 1 of a file with sha2-256',
  STORAGE_QUOTA: 'the organisation has used its storage',
  CUSTODIAN_KEY_MISSING: 'the policy wants a wrap for the custodian, and the hospital runs none',
  // Requests and grants
  NOT_THE_REQUESTER: 'only the requester does this',
  RULE_UNKNOWN: 'the policy has no such rule',
  RULE_NOT_FOR_CATEGORY: "the rule is not for the record's category",
  PURPOSE_NOT_ALLOWED: 'the rule does not allow this purpose of use',
  POLICY_CHANGED: 'the policy is no longer at the version that the request names',
  NOT_AFTER_PASSED: 'the end of the access is not in the future',
  DURATION_TOO_LONG: 'the access would last longer than the rule or the chain allows',
  TOO_MANY_OPEN_REQUESTS: 'the requester has as many pending requests as one person may',
  REQUEST_UNSATISFIABLE: 'nobody could give the approvals that this request needs',
  REQUEST_UNKNOWN: 'there is no such request',
  REQUEST_EXPIRED: 'the request has expired',
  NOT_PENDING: 'the request is not pending any more',
  NOT_GRANTED: 'the request is not an active grant',
  NOT_AN_APPROVER: 'the account can fill none of the slots of this rule',
  REQUESTER_CANNOT_APPROVE: 'the requester, by whatever account, does not decide on the request',
  ALREADY_DECIDED: 'this person has already decided on the request',
  APPROVAL_NOT_NEEDED: 'enough approvals of this kind have been given',
  TOO_MANY_DECISIONS: 'the request has as many approvals as are looked at',
  SLOT_ALREADY_DENIED: 'every slot that this person could fill is already denied',
  CUSTODIAL_OWNER: "the hospital keeps this patient's key: it does not approve the hospital's own requests",
  ACCOUNT_RECENTLY_RECOVERED: "the account's key was recovered too short a time before the request was made",
  REQUESTER_SUSPENDED: "the requester's account or organisation is suspended",
  REQUESTER_ROLE_MISSING: 'the requester does not hold the role any more',
  REQUESTER_ROLE_EXPIRED: "the requester's role has expired",
  NOT_ALLOWED_TO_REVOKE: 'only owner, approvers, requester, and administrators of the writing hospital revoke',
  NOT_THE_OWNER: "only the record's owner does this",
  // Governance
  NOT_A_VOTER: 'only organisations that run a validator propose and vote',
  PROPOSAL_EXISTS: 'this proposal exists already',
  PROPOSAL_UNKNOWN: 'there is no such proposal',
  PROPOSAL_CLOSED: 'the proposal is not open any more',
  TOO_MANY_PROPOSALS: 'the organisation has as many proposals as one may have at a time',
  ALREADY_VOTED: 'the organisation has already voted',
  PERSON_ALREADY_VOTED: 'this person has already voted for another organisation',
  ORG_EXISTS: 'this organisation exists already',
  ORG_NOT_ACTIVE: 'the organisation is not active',
  ORG_NOT_SUSPENDED: 'the organisation is not suspended',
  GOVERNANCE_WOULD_STALL: 'too few organisations would be left to decide anything',
  PARAMS_OUT_OF_BOUNDS: 'a parameter is outside its bounds',
  PARAMS_CHANGE_TOO_LARGE: 'a protective delay would be cut by more than half at once',
} as const;

export type RejectionCode = keyof typeof REJECTIONS;

/** A verdict: the code, its sentence, and what is particular to this case. */
export function refuse(code: RejectionCode, detail?: string): Rejection {
  const sentence = REJECTIONS[code];
  return { ok: false, code, message: detail === undefined ? sentence : `${sentence}: ${detail}` };
}
