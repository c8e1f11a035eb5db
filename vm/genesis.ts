/** The state of block 0. The founders agreed on the document; what cannot be a state is refused loudly. */
import { equalBytes } from '../common/bytes.ts';
import { isPublicKey } from '../common/crypto/curve.ts';
import { sm2Address } from '../common/crypto/sm2.ts';
import { accept, assert, reject, type Verdict } from '../common/errors.ts';
import { type Genesis, genesisHash } from '../common/protocol/genesis.ts';
import { organisationEntry, paramsEntry, roleEntry, stateKey } from '../common/protocol/state-entries.ts';
import { createAccount } from './accounts.ts';
import { openSession, receiversOf } from './custody/session.ts';
import { claimKey } from './keys.ts';
import { foundMembership } from './membership.ts';
import { Overlay } from './overlay.ts';
import type { StateReader, StateWrite } from './types.ts';

const NOTHING: StateReader = { get: () => undefined, range: () => [] };

/** What a founder should be told; `genesisWrites` accepts exactly what this accepts. */
export function checkGenesis(genesis: Genesis): Verdict {
  const refuse = (message: string): Verdict => reject('BAD_GENESIS', message);
  const organisations = new Set(genesis.organisations.map(({ orgId }) => orgId));
  if (organisations.size !== genesis.organisations.length) return refuse('an organisation is listed twice');
  const members = [...genesis.validators, ...genesis.observers];
  for (const { orgId } of [...members, ...genesis.accounts]) {
    if (!organisations.has(orgId)) return refuse(`there is no organisation ${orgId}`);
  }
  for (const { address, publicKey } of members) {
    if (!equalBytes(address, sm2Address(publicKey))) return refuse("a member's address is not that of its key");
  }
  const voting = new Set(genesis.validators.map(({ orgId }) => orgId));
  if (voting.size !== genesis.validators.length) return refuse('an organisation has two validators');
  if (new Set(members.map(({ peerId }) => peerId)).size !== members.length) return refuse('a peer id is used twice');
  for (const orgId of voting) {
    const admins = genesis.accounts.filter((a) => a.orgId === orgId && a.roles.includes('org_admin'));
    if (admins.length === 0) return refuse(`${orgId} has no administrator: nobody could vote for it`);
  }
  if (genesis.accounts.some(({ roles }) => roles.includes('patient')))
    return refuse('the role of a patient is not granted');
  return checkKeys(genesis);
}

/** Every key is a point, and serves one purpose. */
function checkKeys(genesis: Genesis): Verdict {
  const keys = [
    ...genesis.accounts.map((a) => a.publicKey),
    ...genesis.validators.map((v) => v.publicKey),
    ...genesis.observers.map((o) => o.publicKey),
    ...genesis.organisations.flatMap((o) => (o.custodianKey === null ? [] : [o.custodianKey])),
  ];
  if (!keys.every(isPublicKey)) return reject('BAD_GENESIS', 'a key is not a point of the SM2 curve');
  if (new Set(keys.map((key) => key.join())).size !== keys.length) return reject('BAD_GENESIS', 'a key is used twice');
  return accept(undefined);
}

/** Sorted by key. Throws `InvariantError` for a document that `checkGenesis` refuses. */
export function genesisWrites(genesis: Genesis): readonly StateWrite[] {
  const verdict = checkGenesis(genesis);
  assert(verdict.ok, verdict.ok ? '' : verdict.message);
  const state = new Overlay(NOTHING);
  const { timeMs: now } = genesis;
  state.put(paramsEntry, stateKey.params(), genesis.params);
  foundMembership(state, genesis.validators, genesis.observers);
  for (const { orgId, name, custodianKey } of genesis.organisations) {
    state.put(organisationEntry, stateKey.organisation(orgId), {
      orgId,
      name,
      status: 'active',
      custodianKey,
      sinceMs: now,
    });
    if (custodianKey !== null) claimKey(state, sm2Address(custodianKey), 'custodian', null);
  }
  for (const account of genesis.accounts) addFounder(state, account, now);
  const receivers = receiversOf(state, genesis.validators);
  const place = { state, chainId: genesisHash(genesis), height: 0, now };
  if (receivers !== null) openSession(place, { receivers, proposalId: null });
  return state.writes();
}

function addFounder(state: Overlay, founder: Genesis['accounts'][number], now: number): void {
  const { publicKey, orgId, personTag, roles } = founder;
  const id = sm2Address(publicKey);
  createAccount(state, id, { publicKey, orgId, kind: 'staff', personTag, custodial: false }, { now, account: null });
  for (const role of roles) {
    state.put(roleEntry, stateKey.role(id, role, orgId, null), {
      account: id,
      role,
      orgId,
      department: null,
      grantedMs: now,
      effectiveMs: 0,
      grantedBy: null,
      expiresAtMs: Number.MAX_SAFE_INTEGER,
    });
  }
}
