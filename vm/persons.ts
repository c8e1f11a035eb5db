/**
 * Who is one person. Rules count persons, not accounts: staff by their person tag, which all accounts of one person
 * share; patients and services, who have none, by their account.
 */
import { bytesToHex, equalBytes } from '../common/bytes.ts';
import type { Address } from '../common/protocol/primitives.ts';

interface Identity {
  readonly id: Address;
  readonly personTag: Uint8Array | null;
}

/** 32 bytes of tag, or the 20 bytes of the account id of who has none. */
export const personOf = (who: Identity): Uint8Array => who.personTag ?? who.id;

export const personKey = (who: Identity): string => bytesToHex(personOf(who));

export const samePerson = (a: Identity, b: Identity): boolean => equalBytes(personOf(a), personOf(b));
