/**
 * Second parties: what no one may do alone takes the countersignature of another person. That the signature verifies is
 * an obligation; here it is checked who gave it.
 */
import { equalBytes } from '../common/bytes.ts';
import { accept, type Verdict } from '../common/errors.ts';
import type { Role } from '../common/protocol/policy.ts';
import type { OrgId } from '../common/protocol/primitives.ts';
import type { AccountEntry } from '../common/protocol/state-entries.ts';
import type { Countersignature } from '../common/protocol/transaction.ts';
import { refuse } from './codes.ts';
import type { TxContext } from './context.ts';
import { accountOf, isActive } from './organisations.ts';
import { samePerson } from './persons.ts';
import { holdsEffectiveRole } from './roles.ts';

/** An active account, signing with its current key, of a person other than all of `others`. */
function secondParty(
  ctx: TxContext,
  given: Countersignature | null,
  others: readonly AccountEntry[],
): Verdict<AccountEntry> {
  if (given === null) return refuse('COUNTERSIGNATURE_REQUIRED');
  const account = accountOf(ctx.state, given.account);
  if (account === undefined) return refuse('COUNTERSIGNER_UNKNOWN');
  if (!equalBytes(account.publicKey, given.publicKey)) return refuse('COUNTERSIGNER_KEY_NOT_CURRENT');
  if (!isActive(ctx.state, account)) return refuse('COUNTERSIGNER_NOT_ACTIVE');
  if (others.some((other) => samePerson(account, other))) return refuse('COUNTERSIGNER_SAME_PERSON');
  return accept(account);
}

const requireRole = (ctx: TxContext, account: AccountEntry, roles: readonly Role[]): Verdict<AccountEntry> =>
  holdsEffectiveRole(ctx.state, account, roles, ctx.now)
    ? accept(account)
    : refuse('COUNTERSIGNER_ROLE_MISSING', roles.join(' or '));

/**
 * A registrar, or an administrator, of an organisation other than the sender's. Organisations come by vote only, so
 * that an administrator cannot make up the second one.
 */
export function requireSecondOrganisation(
  ctx: TxContext,
  given: Countersignature | null,
  others: readonly AccountEntry[],
): Verdict<AccountEntry> {
  const party = secondParty(ctx, given, [ctx.sender, ...others]);
  if (!party.ok) return party;
  if (party.value.orgId === ctx.sender.orgId) return refuse('COUNTERSIGNER_SAME_ORGANISATION');
  return requireRole(ctx, party.value, ['registrar', 'org_admin']);
}

/** Medical affairs, or a department head, of this hospital, other than the sender and `others`. */
export function requireHospitalColleague(
  ctx: TxContext,
  given: Countersignature | null,
  hospital: OrgId,
  others: readonly AccountEntry[],
): Verdict<AccountEntry> {
  const party = secondParty(ctx, given, [ctx.sender, ...others]);
  if (!party.ok) return party;
  if (party.value.orgId !== hospital) return refuse('COUNTERSIGNER_OTHER_ORGANISATION');
  return requireRole(ctx, party.value, ['medical_affairs', 'department_head']);
}
