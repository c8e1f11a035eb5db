/**
 * Who may fill which slot of a request's rule, now. Judged anew whenever it matters: at the approval, and for everybody
 * who approved at the block that grants.
 */
import { equalBytes } from '../common/bytes.ts';
import type { Verdict } from '../common/errors.ts';
import type { OrgScope, PolicyRule, Role } from '../common/protocol/policy.ts';
import type { Address, OrgId, TimeMs } from '../common/protocol/primitives.ts';
import type { ChainParams } from '../common/protocol/chain-params.ts';
import { type AccountEntry, attendingEntry, type RequestEntry, stateKey } from '../common/protocol/state-entries.ts';
import type { ApprovalTree, Slot } from './approval-tree.ts';
import { refuse, type RejectionCode } from './codes.ts';
import { OK } from './context.ts';
import { accountOf, isActive } from './organisations.ts';
import type { Overlay } from './overlay.ts';
import { samePerson } from './persons.ts';
import { rolesNamed } from './roles.ts';

/** What is decided on: a request, or an amendment of a policy, which has neither owner nor requester. */
interface JudgedRequest {
  readonly owner: Address | null;
  /** Whose `writer` slots are meant: the organisation that wrote the record, or the policy's. */
  readonly recordOrg: OrgId;
  readonly requesterOrg: OrgId | null;
  readonly requesterTag: Uint8Array | null;
  readonly requester: Address | null;
  readonly createdMs: TimeMs;
}

/** What eligibility depends on beside the account; a view of the request and of the block. */
export interface Judging {
  readonly state: Overlay;
  readonly now: TimeMs;
  readonly params: ChainParams;
  readonly request: JudgedRequest;
}

export interface Eligibility {
  /** Slots that the account may fill, as a mask. */
  readonly mask: number;
  /** Why the mask is empty. */
  readonly reason: RejectionCode;
}

export function inScope(scope: OrgScope, org: OrgId, recordOrg: OrgId, requesterOrg: OrgId | null): boolean {
  switch (scope.kind) {
    case 'writer':
      return org === recordOrg;
    case 'requester':
      return org === requesterOrg;
    case 'named':
      return org === scope.orgId;
    case 'any':
      return true;
  }
}

/**
 * Whether the account holds the role so that it counts for this request: effective before the request was made, the
 * cooling period over by then, and still held. Null if so, else the reason that comes closest.
 */
function roleFault(
  on: Judging,
  account: AccountEntry,
  role: Role,
  department: Uint8Array | null,
): RejectionCode | null {
  let fault: RejectionCode = 'NOT_AN_APPROVER';
  for (const entry of rolesNamed(on.state, account, role, department)) {
    if (on.now >= entry.expiresAtMs) {
      if (fault === 'NOT_AN_APPROVER') fault = 'ROLE_EXPIRED';
    } else if (entry.effectiveMs < on.request.createdMs) {
      return null;
    } else {
      fault = 'ROLE_NOT_YET_EFFECTIVE';
    }
  }
  return fault;
}

/**
 * A hospital that keeps a patient's key would approve its own request with it: such a key fills none of its slots, and
 * none where it is not about one hospital's request.
 */
export const isCustodialHere = (account: AccountEntry, requesterOrg: OrgId | null): boolean =>
  account.custodial && (requesterOrg === null || account.orgId === requesterOrg);

type RoleFaults = (role: Role, department: Uint8Array | null) => RejectionCode | null;

/** `roleFault` of one account, looked up once for each role: a tree may ask for one of them in all its slots. */
function roleFaultsOf(on: Judging, account: AccountEntry): RoleFaults {
  const known = new Map<Role, RejectionCode | null>();
  return (role, department) => {
    if (department !== null) return roleFault(on, account, role, department);
    const before = known.get(role);
    if (before !== undefined) return before;
    const fault = roleFault(on, account, role, null);
    known.set(role, fault);
    return fault;
  };
}

function slotFault(on: Judging, account: AccountEntry, slot: Slot, roleFaults: RoleFaults): RejectionCode | null {
  const { request } = on;
  switch (slot.kind) {
    case 'owner':
      return isOwner(request, account) ? null : 'NOT_AN_APPROVER';
    case 'person':
      return equalBytes(account.id, slot.account) ? null : 'NOT_AN_APPROVER';
    case 'role':
      if (!inScope(slot.scope, account.orgId, request.recordOrg, request.requesterOrg)) return 'NOT_AN_APPROVER';
      return roleFaults(slot.role, slot.department);
    case 'attending': {
      if (request.owner === null) return 'NOT_AN_APPROVER';
      const relation = on.state.get(attendingEntry, stateKey.attending(request.owner, account.id));
      if (relation === undefined || relation.endedMs !== null || on.now >= relation.expiresAtMs)
        return 'NOT_AN_APPROVER';
      if (relation.effectiveMs >= request.createdMs) return 'ROLE_NOT_YET_EFFECTIVE';
      return roleFaults('physician', null);
    }
  }
}

const NO_SLOT = (reason: RejectionCode): Eligibility => ({ mask: 0, reason });

/** What keeps an account from every slot. */
function accountFault(on: Judging, account: AccountEntry): RejectionCode | null {
  if (account.kind === 'service') return 'NOT_AN_APPROVER';
  if (!isActive(on.state, account)) return 'ACCOUNT_SUSPENDED';
  if (isCustodialHere(account, on.request.requesterOrg)) return 'CUSTODIAL_OWNER';
  const { recoveredMs } = account;
  if (recoveredMs !== null && recoveredMs + on.params.roleCoolingMs >= on.request.createdMs)
    return 'ACCOUNT_RECENTLY_RECOVERED';
  return null;
}

export const isRequester = (request: JudgedRequest, account: AccountEntry): boolean =>
  request.requester !== null && samePerson(account, { id: request.requester, personTag: request.requesterTag });

const isOwner = (request: JudgedRequest, account: AccountEntry): boolean =>
  request.owner !== null && equalBytes(account.id, request.owner);

/** The slots of `tree` that the account may fill for this request, now. */
export function eligibility(on: Judging, tree: ApprovalTree, account: AccountEntry): Eligibility {
  const general = accountFault(on, account);
  if (general !== null) return NO_SLOT(general);
  const requester = isRequester(on.request, account);
  // An owner who asks for the own record consents by asking: the owner slot and no other.
  if (requester && !isOwner(on.request, account)) return NO_SLOT('REQUESTER_CANNOT_APPROVE');
  let mask = 0;
  let reason: RejectionCode = requester ? 'REQUESTER_CANNOT_APPROVE' : 'NOT_AN_APPROVER';
  const roleFaults = roleFaultsOf(on, account);
  tree.slots.forEach((slot, index) => {
    if (requester && slot.kind !== 'owner') return;
    const fault = slotFault(on, account, slot, roleFaults);
    if (fault === null) mask |= 1 << index;
    else if (fault !== 'NOT_AN_APPROVER') reason = fault;
  });
  return { mask, reason };
}

/** Whether the account may ask under the rule, now: it holds one of the roles in scope; `patient` is the owner alone. */
export function requesterEntitled(
  state: Overlay,
  rule: PolicyRule,
  account: AccountEntry,
  record: { readonly owner: Address; readonly orgId: OrgId },
  now: TimeMs,
): Verdict {
  let expired = false;
  for (const { role, scope, department } of rule.requesters) {
    if (!inScope(scope, account.orgId, record.orgId, account.orgId)) continue;
    if (role === 'patient') {
      if (equalBytes(account.id, record.owner)) return OK;
      continue;
    }
    for (const entry of rolesNamed(state, account, role, department)) {
      if (now < entry.expiresAtMs) return OK;
      expired = true;
    }
  }
  return refuse(expired ? 'ROLE_EXPIRED' : 'ROLE_MISSING');
}

/** The requester still may have what was asked for: active, and holding the role. */
export function requesterStillEntitled(
  { state, now }: Judging,
  rule: PolicyRule,
  request: Pick<RequestEntry, 'request' | 'owner' | 'recordOrg'>,
): Verdict {
  const account = accountOf(state, request.request.requester);
  if (account === undefined || !isActive(state, account)) return refuse('REQUESTER_SUSPENDED');
  const held = requesterEntitled(state, rule, account, { owner: request.owner, orgId: request.recordOrg }, now);
  if (held.ok) return OK;
  return refuse(held.code === 'ROLE_EXPIRED' ? 'REQUESTER_ROLE_EXPIRED' : 'REQUESTER_ROLE_MISSING');
}
