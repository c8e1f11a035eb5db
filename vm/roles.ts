/**
 * Roles: granted by the organisation's administrator, within the organisation, to other persons; scoped to it and
 * perhaps to a department; with an expiry. A role acts at once, but fills approval slots only after the cooling period.
 */
import { accept, type Verdict } from '../common/errors.ts';
import type { Role } from '../common/protocol/policy.ts';
import type { OrgId, TimeMs } from '../common/protocol/primitives.ts';
import {
  type AccountEntry,
  type RoleEntry,
  roleEntry,
  stateKey,
  statePrefix,
} from '../common/protocol/state-entries.ts';
import type { CallOf } from '../common/protocol/transaction.ts';
import { refuse } from './codes.ts';
import { emit, OK, type TxContext } from './context.ts';
import { MAX_ROLES_PER_ACCOUNT } from './limits.ts';
import { accountOf } from './organisations.ts';
import type { Overlay } from './overlay.ts';
import { samePerson } from './persons.ts';

/** Entries of a role, expired ones too. `department` null: in any department, and without one. */
export function rolesNamed(
  state: Overlay,
  account: AccountEntry,
  role: Role,
  department: Uint8Array | null,
): readonly RoleEntry[] {
  if (department === null) {
    return state.list(roleEntry, statePrefix.rolesNamed(account.id, role), MAX_ROLES_PER_ACCOUNT);
  }
  const entry = state.get(roleEntry, stateKey.role(account.id, role, account.orgId, department));
  return entry === undefined ? [] : [entry];
}

/** Whether the account holds one of the roles now; ROLE_EXPIRED if it only did, ROLE_MISSING if it never did. */
export function holdsRole(state: Overlay, account: AccountEntry, roles: readonly Role[], now: TimeMs): Verdict {
  let expired = false;
  for (const role of roles) {
    for (const entry of rolesNamed(state, account, role, null)) {
      if (now < entry.expiresAtMs) return OK;
      expired = true;
    }
  }
  return refuse(expired ? 'ROLE_EXPIRED' : 'ROLE_MISSING', roles.join(' or '));
}

/** As `holdsRole`, counting only roles whose cooling period is over: for second parties. */
export function holdsEffectiveRole(
  state: Overlay,
  account: AccountEntry,
  roles: readonly Role[],
  now: TimeMs,
): boolean {
  return roles.some((role) =>
    rolesNamed(state, account, role, null).some((entry) => entry.effectiveMs <= now && now < entry.expiresAtMs),
  );
}

/** The sender administers this organisation. */
export function requireAdmin(ctx: TxContext, org: OrgId): Verdict {
  if (ctx.sender.orgId !== org) return refuse('NOT_YOUR_ORGANISATION', org);
  return holdsRole(ctx.state, ctx.sender, ['org_admin'], ctx.now);
}

/** The sender administers the scope's organisation, to which the account belongs. */
function scopedAccount(ctx: TxContext, scope: CallOf<'role.grant'>['scope']): Verdict<AccountEntry> {
  const admin = requireAdmin(ctx, scope.orgId);
  if (!admin.ok) return admin;
  const account = accountOf(ctx.state, scope.account);
  if (account === undefined) return refuse('ACCOUNT_UNKNOWN');
  return account.orgId === scope.orgId ? accept(account) : refuse('NOT_YOUR_ORGANISATION', account.orgId);
}

export function grantRole(ctx: TxContext, call: CallOf<'role.grant'>): Verdict {
  const { scope, expiresAtMs } = call;
  const account = scopedAccount(ctx, scope);
  if (!account.ok) return account;
  if (scope.role === 'patient') return refuse('ROLE_NOT_GRANTABLE', scope.role);
  if (account.value.kind !== 'staff') return refuse('ROLE_ONLY_FOR_STAFF');
  if (samePerson(account.value, ctx.sender)) return refuse('ROLE_SELF_GRANT');
  if (expiresAtMs <= ctx.now) return refuse('EXPIRY_PASSED');
  const key = stateKey.role(scope.account, scope.role, scope.orgId, scope.department);
  const before = ctx.state.get(roleEntry, key);
  if (before === undefined) {
    const held = ctx.state.list(roleEntry, statePrefix.rolesOf(scope.account), MAX_ROLES_PER_ACCOUNT);
    if (held.length >= MAX_ROLES_PER_ACCOUNT) return refuse('TOO_MANY_ROLES', `${MAX_ROLES_PER_ACCOUNT}`);
  }
  // A role that is renewed in time goes on; one that had lapsed begins anew, cooling period included.
  const renewed = before !== undefined && ctx.now < before.expiresAtMs ? before : null;
  ctx.state.put(roleEntry, key, {
    ...scope,
    grantedMs: renewed?.grantedMs ?? ctx.now,
    effectiveMs: renewed?.effectiveMs ?? ctx.now + ctx.params.roleCoolingMs,
    grantedBy: ctx.sender.id,
    expiresAtMs,
  });
  emit(ctx, 'role.grant', { subject: scope.account, detail: scope.role });
  return OK;
}

export function revokeRole(ctx: TxContext, call: CallOf<'role.revoke'>): Verdict {
  const { scope } = call;
  const account = scopedAccount(ctx, scope);
  if (!account.ok) return account;
  const key = stateKey.role(scope.account, scope.role, scope.orgId, scope.department);
  if (ctx.state.get(roleEntry, key) === undefined) return refuse('ROLE_MISSING', scope.role);
  ctx.state.delete(key);
  emit(ctx, 'role.revoke', { subject: scope.account, detail: scope.role });
  return OK;
}
