/** `emrchain gov`: proposals of the members' administrators, and votes on them. */
import { type ChainParams, chainParams, DEFAULT_CHAIN_PARAMS } from '../../../common/protocol/chain-params.ts';
import { encode } from '../../../common/codec.ts';
import { InvariantError, unreachable } from '../../../common/errors.ts';
import { paramsEntry, PROPOSAL_STATUSES, stateKey } from '../../../common/protocol/state-entries.ts';
import { type Proposal, proposalIdOf } from '../../../common/protocol/transaction.ts';
import { quorumSize } from '../../../common/protocol/validator-set.ts';
import type { ResultOf } from '../../../rpc/methods.ts';
import { activeRecoveryKey } from '../../custody.ts';
import { ClientError } from '../../errors.ts';
import { fromHex, hexOf, parseId } from '../../hex.ts';
import { readNodeCard } from '../../node-card.ts';
import { randomNonce } from '../../randomness.ts';
import { readStatement } from '../../statements.ts';
import { clean, duration, fields, table, time } from '../../text.ts';
import type { CommandDescriptor } from '../descriptor.ts';
import { submitCall, txFields, txView } from '../execute.ts';
import type { Result } from '../output.ts';
import { gather, moreLine, parseLimit } from '../paging.ts';
import type { Session } from '../session.ts';

async function propose(session: Session, proposal: Proposal): Promise<Result> {
  const node = await session.node();
  const { account } = await session.sender();
  const nonce = randomNonce();
  const id = hexOf(proposalIdOf(node.chainId, account, nonce, proposal));
  const committed = await submitCall(session, { kind: 'gov.propose', proposal, nonce });
  return {
    json: { id, kind: proposal.kind, tx: txView(committed) },
    text: [
      'Proposed. Your own organisation votes too: emrchain gov vote ID --approve.',
      ...fields([['proposal', id], ['kind', proposal.kind], ...txFields(committed)]),
    ],
  };
}

async function admitObserver(session: Session, _options: object, path: string): Promise<Result> {
  const node = await session.node();
  const { engine } = await session.publicView();
  const { card, possession, replaces } = await readNodeCard(path, node.chainId, engine);
  if (replaces !== null) {
    throw new ClientError(
      'CARD_WRONG',
      'This card replaces a node that is a member already.',
      'Propose it with: emrchain gov propose rotate-member FILE.',
    );
  }
  return propose(session, { kind: 'admitObserver', card, possession });
}

async function rotateMember(session: Session, _options: object, path: string): Promise<Result> {
  const node = await session.node();
  const { engine } = await session.publicView();
  const { card, possession, replaces } = await readNodeCard(path, node.chainId, engine);
  if (replaces === null) {
    throw new ClientError(
      'CARD_WRONG',
      'This card is of a node that is new.',
      'Make one with: emrchain node join --replaces ADDRESS, or propose it with admit-observer.',
    );
  }
  return propose(session, { kind: 'rotateMember', address: replaces, card, possession });
}

/** The observer that is meant: the organisation's only one, unless it is named. */
async function observerOf(session: Session, orgId: string, named: string | undefined): Promise<Uint8Array> {
  if (named !== undefined) return parseId(named, 20, 'node');
  const { observers } = await (await session.view()).rpc.call('gov_getMembers', {});
  const [one, another] = observers.filter((observer) => observer.orgId === orgId);
  if (one !== undefined && another === undefined) return fromHex(one.address, 20);
  throw new ClientError(
    'OBSERVER_AMBIGUOUS',
    `${clean(orgId)} has ${one === undefined ? 'no observer' : 'more than one observer'}.`,
    one === undefined ? 'Admit one first: emrchain gov propose admit-observer FILE.' : 'Name it: --node ADDRESS.',
  );
}

async function addValidator(session: Session, options: { node?: string }, orgId: string): Promise<Result> {
  return propose(session, { kind: 'addValidator', orgId, address: await observerOf(session, orgId, options.node) });
}

async function removeObserver(session: Session, options: { node?: string }, orgId: string): Promise<Result> {
  return propose(session, { kind: 'removeObserver', orgId, address: await observerOf(session, orgId, options.node) });
}

interface AddOptions {
  readonly name: string;
  readonly admin: string;
  readonly custodianKey?: string;
}

async function addOrg(session: Session, options: AddOptions, orgId: string): Promise<Result> {
  const node = await session.node();
  const { engine } = await session.publicView();
  const signed = await readStatement(options.admin, node.chainId, engine, ['enrolment']);
  const { statement, possession } = signed;
  if (statement.kind !== 'enrolment' || possession === null)
    throw new ClientError('DOCUMENT_MALFORMED', 'No enrolment.', 'Ask for it.');
  const { publicKey, personTag, kind, orgId: forOrg } = statement.enrolment;
  if (kind !== 'staff' || personTag === null || forOrg !== orgId) {
    throw new ClientError(
      'ADMIN_REQUEST_WRONG',
      `The file must ask for a staff account of ${clean(orgId)}.`,
      `The first administrator runs emrchain account request --org ${clean(orgId)} --kind staff --person-tag … --out FILE.`,
    );
  }
  const custodianKey = options.custodianKey === undefined ? null : parseId(options.custodianKey, 64, 'custodian key');
  return propose(session, {
    kind: 'addOrganisation',
    orgId,
    name: options.name,
    custodianKey,
    admin: { publicKey, personTag, possession },
  });
}

async function setParams(session: Session, _options: object, given: readonly string[]): Promise<Result> {
  const view = await session.view();
  const { value } = await view.entry(stateKey.params(), paramsEntry, 'the parameters');
  const params: Record<string, number> = { ...value };
  for (const one of given) {
    const [, name = '', digits = ''] = /^([A-Za-z]+)=(\d{1,16})$/.exec(one) ?? [];
    if (!Object.hasOwn(DEFAULT_CHAIN_PARAMS, name)) {
      throw new ClientError(
        'PARAM_UNKNOWN',
        `"${clean(one)}" sets no parameter.`,
        `Write NAME=NUMBER; names are ${Object.keys(DEFAULT_CHAIN_PARAMS).join(', ')}.`,
      );
    }
    params[name] = Number(digits);
  }
  try {
    encode(chainParams, params as ChainParams);
  } catch (error) {
    if (!(error instanceof InvariantError)) throw error;
    throw new ClientError('PARAMS_OUT_OF_BOUNDS', 'A parameter is outside its bounds.', 'Choose a smaller value.');
  }
  return propose(session, { kind: 'setParams', params: params as ChainParams });
}

async function setRecoveryKey(session: Session, _options: object, dir: string): Promise<Result> {
  const { registrationInFolder } = await import('../../recovery-key.ts');
  const { chainId } = await session.node();
  return propose(session, { kind: 'setRecoveryKey', ...(await registrationInFolder(dir, chainId)) });
}

async function endRecoveryKey(session: Session): Promise<Result> {
  const key = await activeRecoveryKey(await session.view());
  if (key !== null) return propose(session, { kind: 'endRecoveryKey', key });
  throw new ClientError('RECOVERY_KEY_NOT_ACTIVE', 'There is no recovery key.', 'Nothing is to be done.');
}

interface VoteOptions {
  readonly approve?: boolean;
  readonly reject?: boolean;
  readonly yes?: boolean;
}

async function vote(session: Session, options: VoteOptions, id: string): Promise<Result> {
  if ((options.approve === true) === (options.reject === true)) {
    throw new ClientError('USAGE', 'A vote is --approve or --reject.', 'Give one of the two.');
  }
  const proposalId = parseId(id, 32, 'proposal');
  const approve = options.approve === true;
  const { rpc } = await session.view();
  const found = await rpc.call('gov_getProposal', { proposalId: hexOf(proposalId) });
  for (const line of explain(found)) session.out.note(line);
  await session.confirm(approve ? 'Vote for it?' : 'Vote against it?', options.yes);
  const committed = await submitCall(session, { kind: 'gov.vote', proposalId, approve });
  return {
    json: { id: hexOf(proposalId), approve, tx: txView(committed) },
    text: [
      approve ? 'voted for it' : 'voted against it',
      ...fields([['proposal', hexOf(proposalId)], ...txFields(committed)]),
    ],
  };
}

async function list(session: Session, options: { status?: string; limit?: string }): Promise<Result> {
  const { rpc } = await session.view();
  const status = options.status === undefined ? {} : { status: options.status };
  const { items, more } = await gather(parseLimit(options.limit), (query) =>
    rpc.call('gov_listProposals', { ...status, ...query }),
  );
  const rows = items.map((p) => [
    p.id,
    p.reason === null ? p.status : `${p.status} ${p.reason}`,
    clean(p.proposerOrg),
    time(p.createdMs),
    subject(p.proposal),
  ]);
  return {
    json: items,
    text: [...table([['PROPOSAL', 'STATUS', 'BY', 'SINCE', 'SUBJECT'], ...rows]), ...moreLine(more)],
  };
}

type Found = ResultOf<'gov_getProposal'>;
type ProposalView = Found['proposal']['proposal'];
type Decision = NonNullable<Found['proposal']['decides']>['now'];

const decision = ({ validators, faultTolerance, quorum }: Decision): string =>
  `${validators} validators, ${faultTolerance} may fail, ${quorum} decide`;

/** What is voted on, what it does to the quorum, when it takes effect, and who has said what. */
function explain({ proposal, votes }: Found): string[] {
  const { decides } = proposal;
  const said = new Map(votes.map((v) => [v.orgId, v.approve ? 'for' : 'against']));
  const tally = votes.filter(({ approve }) => approve).length;
  return [
    ...fields([
      ['proposal', proposal.id],
      ['subject', subject(proposal.proposal)],
      ['by', `${proposal.proposer} of ${proposal.proposerOrg}`],
      ['status', proposal.reason === null ? proposal.status : `${proposal.status}: ${proposal.reason}`],
      ['decides now', decides === null ? null : decision(decides.now)],
      ['and with it', decides === null ? null : decision(decides.after)],
      ['closes', time(proposal.closesMs)],
      [
        'takes effect',
        proposal.effectiveMs === null
          ? `${duration(proposal.delayMs)} after it is accepted`
          : time(proposal.effectiveMs),
      ],
      ['accepted by', `${quorumSize(proposal.voters.length)} of ${proposal.voters.length} votes; ${tally} so far`],
    ]),
    ...table(proposal.voters.map((orgId) => ['', clean(orgId), said.get(orgId) ?? 'has not voted'])),
  ];
}

function subject(proposal: ProposalView): string {
  switch (proposal.kind) {
    case 'addOrganisation':
      return `add ${clean(proposal.orgId)} (${clean(proposal.name)})`;
    case 'suspendOrganisation':
      return `suspend ${clean(proposal.orgId)}`;
    case 'reinstateOrganisation':
      return `reinstate ${clean(proposal.orgId)}`;
    case 'setParams':
      return 'set parameters';
    case 'admitObserver':
      return `admit the node of ${clean(proposal.card.orgId)}, peer ${clean(proposal.card.peerId)}, as an observer`;
    case 'addValidator':
      return `make ${proposal.address} the validator of ${clean(proposal.orgId)}, once it is in step`;
    case 'removeValidator':
      return `remove the validator of ${clean(proposal.orgId)}`;
    case 'removeObserver':
      return `remove the observer ${proposal.address} of ${clean(proposal.orgId)}`;
    case 'rotateMember':
      return `replace the node ${proposal.address} of ${clean(proposal.card.orgId)} by peer ${clean(proposal.card.peerId)}`;
    case 'refreshCustody':
      return 'give the holders of the custody key new shares of it';
    case 'overrideCustody':
      return `go on with the custody session ${proposal.sessionId} without the custodians that are missing`;
    case 'setRecoveryKey':
      return `make a recovery key, of which any ${proposal.threshold} of these open records: ${proposal.holders
        .map(({ account, orgId }) => `${account} of ${clean(orgId)}`)
        .join(', ')}`;
    case 'endRecoveryKey':
      return `seal new records under no recovery key any more; ${proposal.key} goes on for older ones`;
    default:
      return unreachable(proposal);
  }
}

async function show(session: Session, _options: object, id: string): Promise<Result> {
  const { rpc } = await session.view();
  const found = await rpc.call('gov_getProposal', { proposalId: hexOf(parseId(id, 32, 'proposal')) });
  return { json: { ...found.proposal, votes: found.votes }, text: explain(found) };
}

export const descriptor: CommandDescriptor = {
  build(command, run) {
    const proposing = command.command('propose').description('put something to the vote');
    proposing
      .command('add-org <org>')
      .description('take in an organisation')
      .requiredOption('--name <name>', 'its full name')
      .requiredOption('--admin <file>', "its first administrator's account request")
      .option('--custodian-key <key>', 'public key of its custodian')
      .action(run(addOrg));
    proposing
      .command('suspend-org <org>')
      .description('suspend an organisation')
      .action(
        run((session, _options: object, orgId) =>
          propose(session, { kind: 'suspendOrganisation', orgId: orgId ?? '' }),
        ),
      );
    proposing
      .command('reinstate-org <org>')
      .description('reinstate an organisation')
      .action(
        run((session, _options: object, orgId) =>
          propose(session, { kind: 'reinstateOrganisation', orgId: orgId ?? '' }),
        ),
      );
    proposing
      .command('set-params <params...>')
      .description('change parameters: NAME=NUMBER …')
      .action(run((session, options: object, ...given) => setParams(session, options, given.flat())));
    proposing
      .command('admit-observer <file>')
      .description("take in a node as an observer: a replica without a vote, by its folder's node-card.json")
      .action(run(admitObserver));
    proposing
      .command('add-validator <org>')
      .description("make an organisation's observer its validator, once it has shown that it is in step")
      .option('--node <address>', 'which observer, where the organisation has several')
      .action(run(addValidator));
    proposing
      .command('remove-validator <org>')
      .description("remove an organisation's validator; four stay at least")
      .action(
        run((session, _options: object, orgId) => propose(session, { kind: 'removeValidator', orgId: orgId ?? '' })),
      );
    proposing
      .command('remove-observer <org>')
      .description("remove an organisation's observer")
      .option('--node <address>', 'which observer, where the organisation has several')
      .action(run(removeObserver));
    proposing
      .command('rotate-member <file>')
      .description('other keys for a member: the node-card.json of emrchain node join --replaces')
      .action(run(rotateMember));
    proposing
      .command('refresh-custody')
      .description('new shares of the custody key for the same holders')
      .action(run((session) => propose(session, { kind: 'refreshCustody' })));
    proposing
      .command('override-custody <session>')
      .description('go on with a custody session without the custodians that are missing')
      .action(
        run((session, _options: object, id) =>
          propose(session, { kind: 'overrideCustody', sessionId: parseId(id ?? '', 32, 'custody session') }),
        ),
      );
    proposing
      .command('recovery-key <dir>')
      .description('the recovery key of new records, as its officers have made it (see: emrchain recovery)')
      .action(run(setRecoveryKey));
    proposing
      .command('end-recovery-key')
      .description('seal new records under no recovery key any more; older ones stay as they are')
      .action(run(endRecoveryKey));
    command
      .command('vote <proposal>')
      .description("give your organisation's vote")
      .option('--approve', 'for it')
      .option('--reject', 'against it')
      .option('--yes', 'do not ask')
      .action(run(vote));
    command
      .command('list')
      .description('proposals')
      .option('--status <status>', PROPOSAL_STATUSES.join(', '))
      .option('--limit <n>', 'at most so many')
      .action(run(list));
    command.command('show <proposal>').description('a proposal and its votes').action(run(show));
  },
};
