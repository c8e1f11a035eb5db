/**
 * Whether a verified state says that a grant is active now: what everybody judges by who releases key material, custodians and
 * officers of the recovery key alike. Pure; how old the state may be is each one's own rule.
 */
import { equalBytes } from '../bytes.ts';
import { type Codec, decode } from '../codec.ts';
import { accept, reject, type Verdict } from '../errors.ts';
import { verifyStateEntry, type VerifiedHeader } from './light.ts';
import type { TimeMs } from './primitives.ts';
import {
  accountEntry,
  organisationEntry,
  type RequestEntry,
  requestEntry,
  STATE_VALUE_MAX_BYTES,
  stateKey,
} from './state-entries.ts';
import { type AccessRequest, requestHashOf } from './transaction.ts';

/** A state proof, untrusted, and the verified header that it is under. */
export interface Shown {
  readonly at: VerifiedHeader;
  readonly proof: Uint8Array;
}

/** A proven entry, decoded; `missing` is the code when the state has none. */
export function entry<T>(
  codec: Codec<T>,
  at: VerifiedHeader,
  key: Uint8Array,
  proof: Uint8Array,
  missing: string,
): Verdict<T> {
  const found = entryOrNone(codec, at, key, proof);
  if (!found.ok) return found;
  return found.value === null ? reject(missing, 'the proven state has no such entry') : accept(found.value);
}

/** A proven entry, decoded; null where it is proven that the state has none. */
export function entryOrNone<T>(
  codec: Codec<T>,
  at: VerifiedHeader,
  key: Uint8Array,
  proof: Uint8Array,
): Verdict<T | null> {
  const value = verifyStateEntry(at, key, proof);
  if (!value.ok) return value;
  return value.value === null ? accept(null) : decode(codec, value.value, STATE_VALUE_MAX_BYTES);
}

/**
 * The request of a grant, active by the proven state and by the judge's clock.
 * @param grantId hash of the request, 32 bytes
 * @returns the entry, or GRANT_NOT_FOUND, REQUEST_NOT_GRANTED, GRANT_REVOKED, GRANT_EXPIRED, or the code of a proof that does
 *   not hold
 */
export function activeRequest(grantId: Uint8Array, { at, proof }: Shown, nowMs: TimeMs): Verdict<RequestEntry> {
  const request = entry(requestEntry, at, stateKey.request(grantId), proof, 'GRANT_NOT_FOUND');
  if (!request.ok) return request;
  const found = request.value;
  if (!equalBytes(requestHashOf(at.header.chainId, found.request), grantId)) {
    return reject('GRANT_NOT_FOUND', 'the entry is not the request that its hash names');
  }
  if (found.status === 'revoked') return reject('GRANT_REVOKED', 'the grant was revoked');
  if (found.status === 'ended') return reject('GRANT_EXPIRED', 'the grant has ended');
  if (found.status !== 'granted') return reject('REQUEST_NOT_GRANTED', `the request is ${found.status}`);
  if (found.request.notAfterMs <= nowMs || found.request.notAfterMs <= at.header.timestampMs) {
    return reject('GRANT_EXPIRED', 'the grant has ended');
  }
  return request;
}

/**
 * As the chain judges it (`isActive` in vm/organisations.ts): neither the account nor its organisation is suspended.
 * @returns ACCOUNT_UNKNOWN, ACCOUNT_SUSPENDED, ORG_UNKNOWN, ORG_SUSPENDED, or the code of a proof that does not hold
 */
export function activeRequester(
  { requester }: AccessRequest,
  shown: { readonly account: Shown; readonly organisation: Shown },
): Verdict {
  const { account: of, organisation } = shown;
  const account = entry(accountEntry, of.at, stateKey.account(requester), of.proof, 'ACCOUNT_UNKNOWN');
  if (!account.ok) return account;
  if (account.value.status !== 'active') return reject('ACCOUNT_SUSPENDED', "the requester's account is suspended");
  const key = stateKey.organisation(account.value.orgId);
  const org = entry(organisationEntry, organisation.at, key, organisation.proof, 'ORG_UNKNOWN');
  if (!org.ok) return org;
  if (org.value.status !== 'active') return reject('ORG_SUSPENDED', "the requester's organisation is suspended");
  return accept(undefined);
}
