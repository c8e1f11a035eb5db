import t from 'tap';
import { decodeTrusted, encode } from '../../common/codec.ts';
import { sm2Address } from '../../common/crypto/sm2.ts';
import { type ChainParams, DEFAULT_CHAIN_PARAMS } from '../../common/protocol/chain-params.ts';
import {
  organisationEntry,
  paramsEntry,
  proposalEntry,
  roleEntry,
  stateKey,
} from '../../common/protocol/state-entries.ts';
import { type Call, type Proposal, proposalIdOf } from '../../common/protocol/transaction.ts';
import { checkGenesis, genesisWrites } from '../../vm/index.ts';
import { A, B, BLANK, C, D, DAY, newKey, nonce, tag, World } from './vm-world.ts';

const setParams = (change: Partial<ChainParams>): Proposal => ({
  kind: 'setParams',
  params: { ...DEFAULT_CHAIN_PARAMS, ...change },
});

function propose(world: World, from: string, proposal: Proposal): Uint8Array {
  const id = nonce();
  world.do(from, { kind: 'gov.propose', proposal, nonce: id });
  return proposalIdOf(world.chainId, world.who(from).id, id, proposal);
}
const proposalCall = (proposal: Proposal): Call => ({ kind: 'gov.propose', proposal, nonce: nonce() });
const voteCall = (proposalId: Uint8Array, approve = true): Call => ({ kind: 'gov.vote', proposalId, approve });
const statusOf = (world: World, id: Uint8Array) =>
  decodeTrusted(proposalEntry, world.state.get(stateKey.proposal(id))!, 'proposal').status;
const paramsOf = (world: World) => decodeTrusted(paramsEntry, world.state.get(stateKey.params())!, 'params');

/** Votes it through and waits for its effect. */
function enact(world: World, proposal: Proposal): Uint8Array {
  const id = propose(world, 'admin@a', proposal);
  for (const org of ['a', 'b', 'c']) world.do(`admin@${org}`, voteCall(id));
  world.pass(DAY);
  return id;
}

t.test('proposals and votes', async (t) => {
  const world = new World({
    adam: { org: A, roles: ['org_admin'] },
    bob: { org: B, roles: ['physician'] },
    twin: { org: B, roles: ['org_admin'], tag: 'admin hospital-a' },
  });
  const proposal = setParams({ maxBlockTxs: 100 });
  t.equal(world.try('bob', proposalCall(proposal)), 'ROLE_MISSING');
  const call = proposalCall(proposal);
  t.equal(world.try('admin@a', call), null);
  t.equal(world.try('admin@a', call), 'PROPOSAL_EXISTS');
  const id = proposalIdOf(world.chainId, world.who('admin@a').id, (call as { nonce: Uint8Array }).nonce, proposal);
  t.equal(world.try('bob', voteCall(id)), 'ROLE_MISSING');
  t.equal(world.try('admin@a', voteCall(tag('none'))), 'PROPOSAL_UNKNOWN');
  t.equal(world.try('admin@a', voteCall(id)), null);
  t.equal(world.try('admin@a', voteCall(id, false)), 'ALREADY_VOTED');
  t.equal(world.try('adam', voteCall(id)), 'ALREADY_VOTED', 'one vote for each organisation');
  t.equal(world.try('twin', voteCall(id)), 'PERSON_ALREADY_VOTED', 'and one voice for each person');
  t.equal(world.try('admin@b', voteCall(id)), null);
  t.equal(statusOf(world, id), 'open', 'two of four are no quorum');
  t.same(
    world.do('admin@c', voteCall(id)).map((e) => e.type),
    ['gov.vote', 'gov.accepted'],
  );
  t.equal(world.try('admin@d', voteCall(id)), 'PROPOSAL_CLOSED');
  t.equal(paramsOf(world).maxBlockTxs, DEFAULT_CHAIN_PARAMS.maxBlockTxs, 'not before the public delay');
  t.same(
    world.pass(DAY).map((e) => e.type),
    ['gov.effective'],
  );
  t.equal(paramsOf(world).maxBlockTxs, 100);

  const second = propose(world, 'admin@b', setParams({ maxBlockTxs: 50 }));
  world.do('admin@a', voteCall(second, false));
  t.same(
    world.do('admin@b', voteCall(second, false)).map((e) => e.type),
    ['gov.vote', 'gov.rejected'],
  );
  t.equal(statusOf(world, second), 'rejected');
  const third = propose(world, 'admin@b', setParams({ maxBlockTxs: 50 }));
  t.same(
    world.pass(14 * DAY).map((e) => e.type),
    ['gov.expired'],
  );
  t.equal(statusOf(world, third), 'expired');
  t.equal(world.try('admin@a', voteCall(third)), 'PROPOSAL_CLOSED');
  for (let i = 0; i < 8; i += 1) propose(world, 'admin@a', proposal);
  t.equal(world.try('admin@a', proposalCall(proposal)), 'TOO_MANY_PROPOSALS');
  t.equal(world.try('admin@b', proposalCall(proposal)), null, 'a quota for each organisation');
});

t.test('parameters stay sane, and protective delays are cut by half at the most', async (t) => {
  const world = new World();
  const code = (change: Partial<ChainParams>) => world.try('admin@a', proposalCall(setParams(change)));
  t.equal(code({ maxBlockBytes: 65_535 }), 'PARAMS_OUT_OF_BOUNDS');
  t.equal(code({ viewTimeoutMs: 49 }), 'PARAMS_OUT_OF_BOUNDS');
  t.equal(code({ viewTimeoutCapMs: 999 }), 'PARAMS_OUT_OF_BOUNDS');
  t.equal(code({ maxOpenRequests: 0 }), 'PARAMS_OUT_OF_BOUNDS');
  for (const name of ['roleCoolingMs', 'recoveryDelayMs', 'governanceDelayMs'] as const) {
    t.equal(code({ [name]: DEFAULT_CHAIN_PARAMS[name] / 2 - 1 }), 'PARAMS_CHANGE_TOO_LARGE');
  }
  t.equal(code({ recoveryDelayMs: DEFAULT_CHAIN_PARAMS.recoveryDelayMs / 2 }), null);
  const short = new World({}, { viewTimeoutMs: 20, recoveryDelayMs: 2_000 });
  const kept = { ...paramsOf(short), maxBlockTxs: 77 };
  t.equal(
    short.try('admin@a', proposalCall({ kind: 'setParams', params: kept })),
    null,
    'what the founders agreed on may stay',
  );
});

t.test('no vote shortens its own delay, nor that of those opened before', async (t) => {
  const world = new World();
  const full = DEFAULT_CHAIN_PARAMS.governanceDelayMs;
  const opened = propose(world, 'admin@b', setParams({ maxBlockTxs: 60 }));
  enact(world, setParams({ governanceDelayMs: full / 2 }));
  t.equal(paramsOf(world).governanceDelayMs, full / 2);
  for (const org of ['a', 'b', 'c']) world.do(`admin@${org}`, voteCall(opened));
  const entry = decodeTrusted(proposalEntry, world.state.get(stateKey.proposal(opened))!, 'proposal');
  t.equal(entry.effectiveMs! - (world.now - 1), full, 'the delay when it was opened');
});

t.test('what was accepted is judged again when it takes effect', async (t) => {
  const world = new World();
  const third = Math.ceil((DEFAULT_CHAIN_PARAMS.recoveryDelayMs * 2) / 3);
  const raise = propose(world, 'admin@a', setParams({ recoveryDelayMs: DEFAULT_CHAIN_PARAMS.recoveryDelayMs * 2 }));
  const lower = propose(world, 'admin@a', setParams({ recoveryDelayMs: third }));
  for (const id of [raise, lower]) for (const org of ['a', 'b', 'c']) world.do(`admin@${org}`, voteCall(id));
  t.same(
    world.pass(DAY).map((e) => e.type),
    ['gov.effective', 'gov.failed'],
    'a third of what it is by now',
  );
  t.equal(statusOf(world, lower), 'failed');
});

t.test('organisations join by vote, with an administrator who proved the key', async (t) => {
  const world = new World();
  const admin = newKey();
  const custodianKey = newKey().publicKey;
  const add = (more: Partial<Extract<Proposal, { kind: 'addOrganisation' }>> = {}): Proposal => ({
    kind: 'addOrganisation',
    orgId: 'hospital-e',
    name: 'Hospital E',
    custodianKey,
    admin: { publicKey: admin.publicKey, personTag: tag('admin e'), possession: BLANK },
    ...more,
  });
  const code = (proposal: Proposal) => world.try('admin@a', proposalCall(proposal));
  const used = world.who('admin@b').publicKey;
  t.equal(code(add({ orgId: B })), 'ORG_EXISTS');
  t.equal(code(add({ admin: { publicKey: used, personTag: tag('x'), possession: BLANK } })), 'KEY_ALREADY_USED');
  t.equal(code(add({ custodianKey: used })), 'KEY_ALREADY_USED');
  t.equal(code(add({ custodianKey: admin.publicKey })), 'KEY_ALREADY_USED');
  t.equal(code(add({ custodianKey: new Uint8Array(64).fill(1) })), 'BAD_KEY');
  const twice = propose(world, 'admin@b', add());
  enact(world, add());
  const entry = decodeTrusted(organisationEntry, world.state.get(stateKey.organisation('hospital-e'))!, 'organisation');
  t.match(entry, { status: 'active', name: 'Hospital E' });
  const id = sm2Address(admin.publicKey);
  const role = decodeTrusted(roleEntry, world.state.get(stateKey.role(id, 'org_admin', 'hospital-e', null))!, 'role');
  t.equal(
    role.effectiveMs,
    role.grantedMs + DAY,
    'its administrator confirms nothing before the cooling period is over',
  );
  world.people.set('admin@e', { ...admin, id, orgId: 'hospital-e', tag: tag('admin e'), custodial: false });
  world.patient('emil', 'hospital-e');
  t.equal(world.try('admin@e', proposalCall(setParams({}))), 'NOT_A_VOTER');
  t.equal(world.try('admin@e', voteCall(twice)), 'NOT_A_VOTER');
  for (const org of ['a', 'b', 'c']) world.do(`admin@${org}`, voteCall(twice));
  t.same(
    world.pass(DAY).map((e) => e.type),
    ['gov.failed'],
    'it exists by now',
  );
});

t.test('organisations are suspended and reinstated by vote', async (t) => {
  const world = new World();
  world.patient('dora', D);
  const suspend = (orgId: string): Proposal => ({ kind: 'suspendOrganisation', orgId });
  const reinstate = (orgId: string): Proposal => ({ kind: 'reinstateOrganisation', orgId });
  const code = (proposal: Proposal) => world.try('admin@a', proposalCall(proposal));
  t.equal(code(suspend('nowhere')), 'ORG_UNKNOWN');
  t.equal(code(reinstate('nowhere')), 'ORG_UNKNOWN');
  t.equal(code(reinstate(D)), 'ORG_NOT_SUSPENDED');
  enact(world, suspend(D));
  t.equal(world.try('admin@d', world.enrolCall(world.newActor(D, null), 'patient')), 'ORG_SUSPENDED');
  t.equal(world.try('dora', { kind: 'access.cancel', requestHash: tag('x') }), 'ORG_SUSPENDED');
  t.equal(code(suspend(D)), 'ORG_NOT_ACTIVE');
  t.equal(code(suspend(C)), 'GOVERNANCE_WOULD_STALL', 'three of four must be left to vote');
  enact(world, reinstate(D));
  t.equal(world.try('dora', { kind: 'access.cancel', requestHash: tag('x') }), 'REQUEST_UNKNOWN');
});

t.test('the genesis', async (t) => {
  const { genesis } = new World();
  const why = (more: object): string | null => {
    const verdict = checkGenesis({ ...genesis, ...more });
    return verdict.ok ? null : verdict.message;
  };
  t.equal(why({}), null);
  t.match(why({ organisations: [...genesis.organisations, genesis.organisations[0]] }), 'listed twice');
  t.match(why({ organisations: genesis.organisations.slice(1) }), 'no organisation hospital-a');
  t.match(why({ accounts: genesis.accounts.slice(1) }), 'no administrator');
  const [first, ...rest] = genesis.accounts;
  t.match(why({ accounts: [{ ...first, publicKey: genesis.validators[0]!.publicKey }, ...rest] }), 'used twice');
  t.match(why({ accounts: [{ ...first, publicKey: new Uint8Array(64) }, ...rest] }), 'not a point');
  t.match(why({ accounts: [{ ...first, roles: ['org_admin', 'patient'] }, ...rest] }), 'patient');
  t.match(why({ validators: [{ ...genesis.validators[0], address: new Uint8Array(20) }] }), 'address');
  t.match(why({ validators: [genesis.validators[0], genesis.validators[0]] }), 'two validators');
  t.throws(() => genesisWrites({ ...genesis, accounts: rest }), { name: 'InvariantError' });
  const writes = genesisWrites(genesis);
  t.same(writes, genesisWrites(structuredClone(genesis)));
  t.same(writes.find(({ key }) => key[0] === 1)?.value, encode(paramsEntry, genesis.params));
});
