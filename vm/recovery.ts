/**
 * Recovery of an account whose key is lost. An administrator alone never takes over an account: it needs a second
 * organisation, a delay, and the old key can veto it, even while the account is suspended. Patients' accounts included.
 */
import { sm2Address } from '../common/crypto/sm2.ts';
import type { Verdict } from '../common/errors.ts';
import { recoveryEntry, stateKey } from '../common/protocol/state-entries.ts';
import type { CallOf } from '../common/protocol/transaction.ts';
import { administeredAccount, replaceKey } from './accounts.ts';
import { refuse } from './codes.ts';
import { emit, OK, type TxContext } from './context.ts';
import { requireSecondOrganisation } from './countersign.ts';
import { claimKey, unusedKey } from './keys.ts';

export function openRecovery(ctx: TxContext, call: CallOf<'account.recover'>): Verdict {
  const { recovery } = call;
  const account = administeredAccount(ctx, recovery.account);
  if (!account.ok) return account;
  const party = requireSecondOrganisation(ctx, call.countersignature, [account.value]);
  if (!party.ok) return party;
  if (ctx.state.get(recoveryEntry, stateKey.recovery(recovery.account)) !== undefined)
    return refuse('RECOVERY_PENDING');
  // Claimed now, not at completion: a vetoed key never comes back, and so neither does the countersignature over it.
  const address = unusedKey(ctx.state, recovery.newPublicKey);
  if (!address.ok) return address;
  claimKey(ctx.state, address.value, 'reserved', recovery.account);
  ctx.state.put(recoveryEntry, stateKey.recovery(recovery.account), {
    newPublicKey: recovery.newPublicKey,
    effectiveMs: ctx.now + ctx.params.recoveryDelayMs,
    openedBy: ctx.sender.id,
    confirmedBy: party.value.id,
  });
  emit(ctx, 'account.recover', { subject: recovery.account });
  return OK;
}

/** Until the recovery is completed, late or not: the old key is still the account's key. */
export function vetoRecovery(ctx: TxContext): Verdict {
  const key = stateKey.recovery(ctx.sender.id);
  if (ctx.state.get(recoveryEntry, key) === undefined) return refuse('RECOVERY_NOT_PENDING');
  ctx.state.delete(key);
  emit(ctx, 'account.vetoRecovery', { subject: ctx.sender.id });
  return OK;
}

export function completeRecovery(ctx: TxContext, call: CallOf<'account.completeRecovery'>): Verdict {
  const account = administeredAccount(ctx, call.account);
  if (!account.ok) return account;
  const key = stateKey.recovery(call.account);
  const recovery = ctx.state.get(recoveryEntry, key);
  if (recovery === undefined) return refuse('RECOVERY_NOT_PENDING');
  if (ctx.now < recovery.effectiveMs)
    return refuse('RECOVERY_NOT_DUE', `${recovery.effectiveMs - ctx.now} ms are left`);
  ctx.state.delete(key);
  claimKey(ctx.state, sm2Address(recovery.newPublicKey), 'account', call.account);
  replaceKey(ctx.state, account.value, recovery.newPublicKey, ctx.now, ctx.now);
  emit(ctx, 'account.completeRecovery', { subject: call.account });
  return OK;
}
