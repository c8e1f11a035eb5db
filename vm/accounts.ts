/**
 * Accounts: enrolment, suspension, reinstatement, key rotation. An account's id is the address of its first key and
 * outlives its keys. How a lost key is replaced is in recovery.ts.
 */
import { accept, type Verdict } from '../common/errors.ts';
import type { Address, TimeMs } from '../common/protocol/primitives.ts';
import {
  type AccountEntry,
  accountEntry,
  emptyEntry,
  recoveryEntry,
  stateKey,
} from '../common/protocol/state-entries.ts';
import type { CallOf, Enrolment } from '../common/protocol/transaction.ts';
import { refuse } from './codes.ts';
import { emit, OK, type TxContext } from './context.ts';
import { requireSecondOrganisation } from './countersign.ts';
import { claimKey, unusedKey } from './keys.ts';
import { accountOf } from './organisations.ts';
import type { Overlay } from './overlay.ts';
import { samePerson } from './persons.ts';
import { requireAdmin } from './roles.ts';

/** Writes a new account; the caller has checked everything. */
export function createAccount(
  state: Overlay,
  id: Address,
  of: Enrolment,
  by: { readonly now: TimeMs; readonly account: Address | null },
): void {
  state.put(accountEntry, stateKey.account(id), {
    id,
    orgId: of.orgId,
    kind: of.kind,
    publicKey: of.publicKey,
    keySinceMs: by.now,
    recoveredMs: null,
    personTag: of.personTag,
    custodial: of.custodial,
    status: 'active',
    enrolledMs: by.now,
    enrolledBy: by.account,
  });
  claimKey(state, id, 'account', id);
  if (of.personTag !== null) state.put(emptyEntry, stateKey.person(of.personTag, id), {});
}

/** What each kind of account must and must not have; a second organisation vouches for staff. */
function checkKind(ctx: TxContext, call: CallOf<'account.enrol'>): Verdict {
  const { kind, personTag, custodial } = call.enrolment;
  if (custodial && kind !== 'patient') return refuse('CUSTODIAL_NOT_ALLOWED', kind);
  if (kind === 'staff') {
    if (personTag === null) return refuse('PERSON_TAG_REQUIRED');
    const party = requireSecondOrganisation(ctx, call.countersignature, []);
    return party.ok ? OK : party;
  }
  if (personTag !== null) return refuse('PERSON_TAG_NOT_ALLOWED', kind);
  return call.countersignature === null ? OK : refuse('COUNTERSIGNATURE_NOT_ALLOWED', kind);
}

export function enrol(ctx: TxContext, call: CallOf<'account.enrol'>): Verdict {
  const { enrolment } = call;
  const admin = requireAdmin(ctx, enrolment.orgId);
  if (!admin.ok) return admin;
  const kind = checkKind(ctx, call);
  if (!kind.ok) return kind;
  const id = unusedKey(ctx.state, enrolment.publicKey);
  if (!id.ok) return id;
  createAccount(ctx.state, id.value, enrolment, { now: ctx.now, account: ctx.sender.id });
  emit(ctx, 'account.enrol', { subject: id.value, detail: enrolment.kind });
  return OK;
}

/** An account of the organisation that the sender administers. */
export function administeredAccount(ctx: TxContext, id: Address): Verdict<AccountEntry> {
  const account = accountOf(ctx.state, id);
  if (account === undefined) return refuse('ACCOUNT_UNKNOWN');
  const admin = requireAdmin(ctx, account.orgId);
  return admin.ok ? accept(account) : admin;
}

const setStatus = (ctx: TxContext, account: AccountEntry, status: AccountEntry['status']): void =>
  ctx.state.put(accountEntry, stateKey.account(account.id), { ...account, status });

export function suspend(ctx: TxContext, call: CallOf<'account.suspend'>): Verdict {
  const account = administeredAccount(ctx, call.account);
  if (!account.ok) return account;
  // So an organisation always keeps an administrator who can act.
  if (samePerson(account.value, ctx.sender)) return refuse('CANNOT_SUSPEND_SELF');
  if (account.value.status === 'suspended') return refuse('ACCOUNT_SUSPENDED');
  setStatus(ctx, account.value, 'suspended');
  emit(ctx, 'account.suspend', { subject: call.account, detail: call.reason });
  return OK;
}

export function reinstate(ctx: TxContext, call: CallOf<'account.reinstate'>): Verdict {
  const account = administeredAccount(ctx, call.account);
  if (!account.ok) return account;
  if (samePerson(account.value, ctx.sender)) return refuse('CANNOT_REINSTATE_SELF');
  if (account.value.status === 'active') return refuse('ACCOUNT_NOT_SUSPENDED');
  setStatus(ctx, account.value, 'active');
  emit(ctx, 'account.reinstate', { subject: call.account });
  return OK;
}

/** The old key's entry in the key index stays: signatures of the past keep their account, and it never comes back. */
export function rotate(ctx: TxContext, call: CallOf<'account.rotate'>): Verdict {
  if (ctx.state.get(recoveryEntry, stateKey.recovery(ctx.sender.id)) !== undefined) return refuse('RECOVERY_PENDING');
  const address = unusedKey(ctx.state, call.newPublicKey);
  if (!address.ok) return address;
  replaceKey(ctx.state, ctx.sender, call.newPublicKey, ctx.now, ctx.sender.recoveredMs);
  claimKey(ctx.state, address.value, 'account', ctx.sender.id);
  emit(ctx, 'account.rotate', { subject: ctx.sender.id });
  return OK;
}

export function replaceKey(
  state: Overlay,
  account: AccountEntry,
  publicKey: Uint8Array,
  now: TimeMs,
  recoveredMs: TimeMs | null,
): void {
  state.put(accountEntry, stateKey.account(account.id), { ...account, publicKey, keySinceMs: now, recoveredMs });
}
