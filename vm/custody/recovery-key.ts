/**
 * The recovery key on the chain: made by its officers among themselves, voted in, replaced or ended by votes. What the
 * chain checks of it is that each officer holds a share, and that no organisation alone has enough of them.
 */
import { encodePoint } from '../../common/crypto/curve.ts';
import { equalBytes } from '../../common/bytes.ts';
import { assert, type Verdict } from '../../common/errors.ts';
import type { Hash } from '../../common/protocol/primitives.ts';
import {
  activeRecoveryKeyEntry,
  checkRecoveryKey,
  type RecoveryKeyEntry,
  recoveryKeyEntry,
  recoveryKeyOf,
  type RecoveryKeyRegistration,
  registeredKey,
} from '../../common/protocol/recovery-key.ts';
import { stateKey } from '../../common/protocol/state-entries.ts';
import { type RejectionCode, refuse } from '../codes.ts';
import { type Context, emit, OK } from '../context.ts';
import { accountOf, isActive } from '../organisations.ts';
import type { Overlay } from '../overlay.ts';
import { epochOf } from './session.ts';

/** The key of a registration, which is asked for twice when it is proposed. */
const KEYS = new WeakMap<RecoveryKeyRegistration, ReturnType<typeof recoveryKeyOf>>();

function keyOf(registration: RecoveryKeyRegistration): ReturnType<typeof recoveryKeyOf> {
  const key = KEYS.get(registration) ?? recoveryKeyOf(registration);
  KEYS.set(registration, key);
  return key;
}

/** X of the active recovery key. */
export const activeRecoveryKey = (state: Overlay): Uint8Array | null =>
  state.get(activeRecoveryKeyEntry, stateKey.activeRecoveryKey())?.key ?? null;

const recoveryKeyAt = (state: Overlay, key: Uint8Array): RecoveryKeyEntry | undefined =>
  state.get(recoveryKeyEntry, stateKey.recoveryKey(key));

/** Whose shares they are: persons, each once, whom their organisations answer for. */
function checkOfficers(state: Overlay, { holders }: RecoveryKeyRegistration): Verdict {
  const persons = new Set<string>();
  for (const [k, { account: id, orgId, publicKey }] of holders.entries()) {
    const account = accountOf(state, id);
    const isOfficer =
      account !== undefined &&
      account.personTag !== null &&
      account.orgId === orgId &&
      equalBytes(account.publicKey, publicKey) &&
      isActive(state, account);
    if (!isOfficer) return refuse('RECOVERY_KEY_OFFICER', `officer ${k + 1}`);
    persons.add(account.personTag.join());
  }
  return persons.size === holders.length ? OK : refuse('RECOVERY_KEY_OFFICER', 'one person with two accounts');
}

/** All but the proofs; when it takes effect, too. */
export function checkNewRecoveryKey({ state }: Context, registration: RecoveryKeyRegistration): Verdict {
  if (epochOf(state) === undefined) return refuse('CUSTODY_NOT_ACTIVE');
  const key = keyOf(registration);
  if (!key.ok) return refuse(key.code as RejectionCode, key.message);
  if (recoveryKeyAt(state, encodePoint(key.value.X)) !== undefined) return refuse('RECOVERY_KEY_KNOWN');
  return checkOfficers(state, registration);
}

/** Once the points are there, some 0.2 ms for each officer. */
export function checkRecoveryProofs({ chainId }: Context, registration: RecoveryKeyRegistration): Verdict {
  const key = checkRecoveryKey(chainId, registration, keyOf(registration));
  return key.ok ? OK : refuse(key.code as RejectionCode, key.message);
}

export function checkEndingRecoveryKey({ state }: Context, key: Uint8Array): Verdict {
  const active = activeRecoveryKey(state);
  return active !== null && equalBytes(active, key) ? OK : refuse('RECOVERY_KEY_NOT_ACTIVE');
}

export function setRecoveryKey(ctx: Context, proposalId: Hash, registration: RecoveryKeyRegistration): void {
  const { state, chainId, height, now } = ctx;
  const key = keyOf(registration);
  assert(key.ok, 'what takes effect was checked');
  const before = state.get(activeRecoveryKeyEntry, stateKey.activeRecoveryKey());
  if ((before?.key ?? null) !== null) endRecoveryKey(ctx);
  const version = (before?.version ?? 0) + 1;
  const registered = registeredKey(key.value, chainId, registration);
  state.put(recoveryKeyEntry, stateKey.recoveryKey(registered.key), {
    ...registered,
    version,
    proposalId,
    sinceHeight: height,
    sinceMs: now,
    endedMs: null,
  });
  state.put(activeRecoveryKeyEntry, stateKey.activeRecoveryKey(), { version, key: registered.key });
  emit(ctx, 'custody.recoveryKey', { objectId: registered.sessionId, detail: 'active' });
}

/** Its entry stays: what was sealed under it is opened by its officers as before. */
export function endRecoveryKey(ctx: Context): void {
  const { state, now } = ctx;
  const active = state.must(activeRecoveryKeyEntry, stateKey.activeRecoveryKey(), 'recovery key that ends');
  assert(active.key !== null, 'a recovery key is active');
  const at = stateKey.recoveryKey(active.key);
  const entry = state.must(recoveryKeyEntry, at, 'recovery key that ends');
  state.put(recoveryKeyEntry, at, { ...entry, endedMs: now });
  state.put(activeRecoveryKeyEntry, stateKey.activeRecoveryKey(), { version: active.version, key: null });
  emit(ctx, 'custody.recoveryKey', { objectId: entry.sessionId, detail: 'ended' });
}
