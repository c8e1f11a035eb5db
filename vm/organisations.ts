/** Organisations: reading them, and whether they and their accounts may act. Votes create and suspend them. */
import type { OrgId } from '../common/protocol/primitives.ts';
import {
  type AccountEntry,
  accountEntry,
  type OrganisationEntry,
  organisationEntry,
  stateKey,
} from '../common/protocol/state-entries.ts';
import type { Address } from '../common/protocol/primitives.ts';
import type { Overlay } from './overlay.ts';

export const organisationOf = (state: Overlay, id: OrgId): OrganisationEntry | undefined =>
  state.get(organisationEntry, stateKey.organisation(id));

export const accountOf = (state: Overlay, id: Address): AccountEntry | undefined =>
  state.get(accountEntry, stateKey.account(id));

/** Neither the account nor its organisation is suspended. */
export const isActive = (state: Overlay, account: AccountEntry): boolean =>
  account.status === 'active' && organisationOf(state, account.orgId)?.status === 'active';
