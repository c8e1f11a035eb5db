/**
 * What the client says when something fails: a stable code, a sentence, and what to do next. Codes of the chain and of
 * the node pass through unchanged; this file only adds the remedy. No printing here.
 */
import { EmrError, type ErrorDetail, InvariantError } from '../common/errors.ts';

/** An operation of the client failed; `remedy` says what the person at the keyboard can do. */
export class ClientError extends EmrError {
  readonly remedy: string;

  constructor(
    code: string,
    message: string,
    remedy: string,
    detail: ErrorDetail = {},
    options?: { readonly cause?: unknown },
  ) {
    super(code, message, detail, options);
    this.name = 'ClientError';
    this.remedy = remedy;
  }
}

/** What is shown of any failure. */
export interface Failure {
  readonly code: string;
  readonly message: string;
  readonly remedy: string;
}

/** Remedies by code: those of the node, the chain and the libraries below. Where a code is missing, the family's. */
const REMEDIES: Readonly<Record<string, string>> = {
  // Reaching the node
  TOKEN_REQUIRED: 'Name the account that reads: --as KEYNAME (emrchain keys list shows the keys of this home).',
  OUT_OF_SCOPE: 'Ask with an account that this concerns (--as KEYNAME); the chain shows each account its own matters.',
  ACCOUNT_UNKNOWN: 'Let your organisation enrol the key first: emrchain account request, then account enrol.',
  KEY_NOT_CURRENT: 'The key was rotated or recovered: use the key that replaced it (--as KEYNAME).',
  ACCOUNT_SUSPENDED: "Ask an administrator of the account's organisation: emrchain account reinstate ACCOUNT.",
  ORG_SUSPENDED: 'Only a vote of the members reinstates an organisation: emrchain gov propose reinstate-org ORG.',
  TOKEN_EXPIRED: "Check this machine's clock against the node's, then run the command again.",
  TOKEN_TOO_LONG: "Check this machine's clock against the node's, then run the command again.",
  TOKEN_WRONG_ORIGIN: 'Give the address under which the node is reached, as its operator configured it: --rpc URL.',
  TOKEN_WRONG_NODE: 'The node has another identity than before: ask its operator, then emrchain chain pin --replace.',
  TOKEN_WRONG_NETWORK: 'The node serves another network: check --rpc URL.',
  RATE_LIMITED: 'Wait a minute, then run the command again.',
  POOL_FULL: 'The node takes no more transactions at the moment: wait a few seconds, then run the command again.',
  NOT_READY: 'The node is starting or lacks other members: emrchain node status says why; then try again.',
  METHOD_DISABLED: "The node's operator turned this off: use another node (--rpc URL).",
  METHOD_NOT_FOUND: 'The node is older than this client: use the version that the node runs.',
  PRUNED: 'This node does not keep it any more: ask a node that keeps the whole chain (--rpc URL).',
  UPLOAD_UNKNOWN: 'Run the command again: the upload begins anew.',
  // Transactions
  TX_EXPIRED: "Check this machine's clock, then run the command again: it signs a new transaction.",
  TX_VALIDITY_TOO_LONG: "Check this machine's clock: it seems to be ahead of the chain's.",
  TX_REPLAYED: 'Nothing to do: this very transaction was executed before.',
  CHAIN_ID_MISMATCH: 'The file or transaction is for another network: check --rpc URL and --home DIR.',
  BAD_SIGNATURE: 'The keystore or the file was changed: restore it from a copy.',
  ROLE_MISSING: 'An administrator of your organisation grants roles: emrchain role grant ACCOUNT ROLE.',
  ROLE_EXPIRED: 'An administrator of your organisation renews it: emrchain role grant ACCOUNT ROLE --for DURATION.',
  ROLE_NOT_YET_EFFECTIVE:
    'The cooling period after the grant of the role was not over when the request was made: let it be made again later.',
  NOT_YOUR_ORGANISATION: 'Let an administrator of that organisation do it.',
  COUNTERSIGNATURE_REQUIRED: 'Let a second party sign the file first: emrchain account countersign FILE.',
  COUNTERSIGNER_SAME_ORGANISATION: 'Let a registrar or administrator of another organisation countersign.',
  COUNTERSIGNER_ROLE_MISSING: 'The second party needs the role registrar or org_admin, past its cooling period.',
  KEY_ALREADY_USED: 'Make a fresh key: emrchain keys new NAME.',
  PERSON_TAG_REQUIRED: 'Ask the registrar for your person tag and give it with --person-tag.',
  RECOVERY_NOT_DUE: 'Wait until the delay is over, then run emrchain account complete-recovery again.',
  // Policies and records
  POLICY_UNKNOWN: 'emrchain policy list shows the policies of this chain.',
  POLICY_EXCLUDES_CATEGORY: 'Choose another policy, or another category: emrchain policy show ID lists its categories.',
  RECORD_UNKNOWN: 'Check the record id: emrchain record list shows what is in your scope.',
  VERSION_NOT_NEXT: 'Somebody added a version meanwhile: make a new offer.',
  OWNER_NOT_PATIENT_HERE: "Enrol the patient in the writer's hospital first: a patient has a pseudonym in each.",
  OWNER_KEY_NOT_CURRENT:
    "The patient's key was replaced meanwhile: make a new offer and let the patient consent again.",
  STORAGE_QUOTA: "The organisation's storage is used up: a governance vote can raise orgStorageBytes.",
  BLOB_QUOTA: "The organisation's storage is used up: a governance vote can raise orgStorageBytes.",
  CUSTODIAN_WRAP_REFUSED: 'The custodians share a key by now: make the offer again, and let the patient consent again.',
  CAPSULE_NOT_ALLOWED: 'Make the offer again: the custodians share no key for records under this policy.',
  BAD_CAPSULE: 'Make the offer again with this program: the sealed key was changed on the way.',
  // Backup of a custodian's share
  CUSTODY_PART_INVALID: 'Fetch the file again from its officer: backup writes parts, open-part what restore takes.',
  CUSTODY_PART_OTHER_OFFICER: 'Name the key that the part was made for (--as KEYNAME), or take the own part.',
  CUSTODY_PART_OTHER_CUSTODIAN: 'Put the custodian key back that made the backup: keys/custodian.json in --dir.',
  CUSTODY_PART_FALSE: "Take the third officer's part in its place, and ask the officer that is named.",
  CUSTODY_PARTS_DIFFER: 'Take the files of two officers that belong to one backup.',
  CUSTODY_SEAL_BROKEN: 'Put the file back from a copy, or move it away and run the command again.',
  // The recovery key
  RECOVERY_FILE_MISSING: 'Let that officer take this round first; the folder goes on with all of their files.',
  RECOVERY_FILE_FALSE: 'Fetch that file again from its officer; if it is the same, begin anew with a new plan.',
  RECOVERY_DEALING_FALSE: 'Do not go on. The officers begin anew with a new plan, and find out which of you is wrong.',
  RECOVERY_NOT_SEALED: 'Custodians, or the patient, alone open it: emrchain record get, emrchain access deliver.',
  RECOVERY_DEMAND_OLD: 'Let the requester export the request again: emrchain recovery export.',
  RECOVERY_CLOCK_BEHIND: "Set this machine's clock, then run the command again.",
  RECOVERY_OTHER_KEY:
    'Take the share of the key that the record is sealed under: keys that were replaced have officers of their own.',
  RECOVERY_KEYS_DIFFER: 'The officers were given different files: begin anew with a new plan.',
  RECOVERY_KEY_SHAPE: 'Name 2 to 16 officers, each once, and a threshold between 2 and their number.',
  RECOVERY_KEY_ONE_ORGANISATION: 'Raise --threshold, or name officers of more organisations.',
  RECOVERY_KEY_OFFICER: 'Officers are active staff, by the key that they have now: begin anew with a new plan.',
  RECOVERY_CAPSULE_MISSING:
    'The members have a recovery key by now: make the offer again, and let the patient consent again.',
  RECOVERY_CAPSULE_NOT_ALLOWED: 'Make the offer again: the recovery key was ended, or the policy wants none.',
  RECOVERY_CAPSULE_WRONG_KEY: 'Make the offer again: the members have replaced the recovery key.',
  // Access
  RECORD_NOT_SHARED:
    'One custodian has this key alone: emrchain record get asks it, and emrchain access deliver goes around it.',
  DEMAND_OPEN: 'Wait for the demand that is open: emrchain record get uses what it brings.',
  PURPOSE_NOT_ALLOWED: 'emrchain policy show ID says which purposes each rule allows.',
  DURATION_TOO_LONG: 'Ask for a shorter time: --for DURATION; emrchain policy show ID has the longest of each rule.',
  POLICY_CHANGED: 'Ask again: the policy changed since.',
  AMENDMENT_OPEN:
    'emrchain policy show POLICY names it: let it be decided, or take it back with emrchain policy reject.',
  AMENDMENT_OUTDATED: 'Propose it again for the version that is in force: emrchain policy amend POLICY FILE.',
  POLICY_NOT_AMENDABLE: 'Nobody can change this policy: make a new one with emrchain policy add, for new records.',
  POLICY_PART_FIXED: 'Leave organisation, custodian and patient-wrap as they are, or make a new policy.',
  POLICY_WEAKENS_OWNER:
    'Keep rules that need no owner as they are, or narrower; what goes further takes a new policy, under which owners sign.',
  REQUEST_UNKNOWN: 'emrchain access list shows the requests in your scope.',
  REQUEST_EXPIRED: 'Ask again: emrchain access request RECORD.',
  NOT_PENDING: 'emrchain access show REQUEST says what became of it.',
  NOT_GRANTED: 'emrchain access show REQUEST says what became of it; ask again if it has ended.',
  NOT_AN_APPROVER: 'emrchain access show REQUEST shows whose approvals the policy takes; yours is not among them.',
  REQUESTER_CANNOT_APPROVE: 'Somebody else must decide: one person does not ask and approve.',
  ALREADY_DECIDED: 'Nothing to do: this person has decided on the request already.',
  NOT_ALLOWED_TO_REVOKE: 'The owner, an approver, the requester, or an administrator of the writing hospital revokes.',
  // Keys and files
  SECRET_FILE_NOT_FOUND: 'emrchain keys list shows the keys of this home; emrchain keys new NAME makes one.',
  SECRET_FILE_EXISTS: 'Choose another name: keys, offers and statements are never overwritten.',
  SECRET_FILE_PERMISSIONS: 'Make the file private (chmod 600), and its folder too.',
  KEYSTORE_UNLOCK_FAILED: 'Type the passphrase again. Without it the key cannot be used; restore another copy.',
  KEYSTORE_MALFORMED: 'Restore the file from a copy: emrchain keys import NAME FILE.',
  PASSPHRASE_NO_TERMINAL: 'Give --passphrase-fd N, or name a file of mode 0600 in EMRCHAIN_PASSPHRASE_FILE.',
  PASSPHRASE_TWO_SOURCES: 'Unset one of the two variables.',
  PASSPHRASE_COMMAND_INVALID:
    'Write it like ["/usr/bin/program","argument"]: an absolute path, and no shell around it.',
  PASSPHRASE_COMMAND_FAILED: 'Run the program by hand, as the same user: what it says goes to stderr.',
  PASSPHRASE_COMMAND_TIMEOUT: 'Run the program by hand, as the same user: it waits for something.',
  PASSPHRASE_COMMAND_OUTPUT: 'Let the program print the passphrase, and nothing else, to its output.',
  PASSPHRASE_TOO_SHORT: 'Choose a longer passphrase.',
  PASSPHRASE_MISMATCH: 'Run the command again and type the same passphrase twice.',
  CONFIG_INVALID: 'Mend the lines named above, then run the command again.',
  FILE_SIZE_CHANGED: 'Something writes to the file: wait until it is finished, then run the command again.',
  FILE_WRITE_FAILED: 'Make room or choose another place, then run the command again.',
  FILE_META_INVALID: 'Rename the file, or give a plain content type: --type type/subtype.',
  CIPHERTEXT_DIGEST_MISMATCH:
    'Run the command again: the download starts anew. If it persists, use another node (--rpc URL).',
  CIPHERTEXT_TAMPERED: 'Run the command again: the download starts anew. If it persists, use another node (--rpc URL).',
};

/** Where the code itself has no remedy. */
const DEFAULT_REMEDY = 'emrchain help shows the commands; docs/cli.md explains them.';
const INTERNAL_REMEDY = 'This is a fault of this program: please report it with the command that you ran.';

/** What to do about an error with this code. */
export function remedyOf(code: string, fallback: string = DEFAULT_REMEDY): string {
  return Object.hasOwn(REMEDIES, code) ? (REMEDIES[code] as string) : fallback;
}

/** Errors of the file system in the words of this program. */
function ofSystem(error: NodeJS.ErrnoException): Failure | undefined {
  const path = error.path ?? 'the file';
  switch (error.code) {
    case 'ENOENT':
      return { code: 'FILE_NOT_FOUND', message: `${path} does not exist.`, remedy: 'Check the path.' };
    case 'EACCES':
    case 'EPERM':
      return { code: 'FILE_FORBIDDEN', message: `${path} may not be used.`, remedy: 'Check its permissions.' };
    case 'ENOSPC':
      return { code: 'DISK_FULL', message: 'The disk is full.', remedy: 'Make room, then run the command again.' };
    case 'EISDIR':
      return { code: 'FILE_IS_FOLDER', message: `${path} is a folder.`, remedy: 'Name a file.' };
    case 'EEXIST':
      return { code: 'FILE_EXISTS', message: `${path} exists already.`, remedy: 'Choose another name.' };
    default:
      return error.syscall === undefined
        ? undefined
        : { code: 'SYSTEM_ERROR', message: error.message, remedy: 'Check the machine, then run the command again.' };
  }
}

/** Code, sentence and remedy of anything that was thrown. Never throws. */
export function describeFailure(error: unknown): Failure {
  if (error instanceof ClientError) return { code: error.code, message: error.message, remedy: error.remedy };
  if (error instanceof EmrError) {
    return { code: error.code, message: error.message, remedy: remedyOf(error.code) };
  }
  if (error instanceof InvariantError) {
    return { code: 'INTERNAL', message: error.message, remedy: INTERNAL_REMEDY };
  }
  if (error instanceof Error) {
    return ofSystem(error) ?? { code: 'INTERNAL', message: error.message, remedy: INTERNAL_REMEDY };
  }
  return { code: 'INTERNAL', message: String(error), remedy: INTERNAL_REMEDY };
}
