/** `emrchain gov`: proposals of the members' administrators, and votes on them. */
import { type ChainParams, chainParams, DEFAULT_CHAIN_PARAMS } from '../../../common/protocol/chain-params.ts';
import { encode } from '../../../common/codec.ts';
import { InvariantError } from '../../../common/errors.ts';
import { paramsEntry, stateKey } from '../../../common/protocol/state-entries.ts';
import { type Proposal, proposalIdOf } from '../../../common/protocol/transaction.ts';
import type { ResultOf } from '../../../rpc/methods.ts';
import { ClientError } from '../../errors.ts';
import { hexOf, parseId } from '../../hex.ts';
import { randomNonce } from '../../randomness.ts';
import { readStatement } from '../../statements.ts';
import { clean, fields, table, time } from '../../text.ts';
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

async function vote(session: Session, options: { approve?: boolean; reject?: boolean }, id: string): Promise<Result> {
  if ((options.approve === true) === (options.reject === true)) {
    throw new ClientError('USAGE', 'A vote is --approve or --reject.', 'Give one of the two.');
  }
  const proposalId = parseId(id, 32, 'proposal');
  const approve = options.approve === true;
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
  const rows = items.map((p) => [p.id, p.status, clean(p.proposal.kind), clean(p.proposerOrg), time(p.createdMs)]);
  return { json: items, text: [...table([['PROPOSAL', 'STATUS', 'KIND', 'BY', 'SINCE'], ...rows]), ...moreLine(more)] };
}

type ProposalView = ResultOf<'gov_getProposal'>['proposal']['proposal'];

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
    default:
      return 'unknown';
  }
}

async function show(session: Session, _options: object, id: string): Promise<Result> {
  const { rpc } = await session.view();
  const found = await rpc.call('gov_getProposal', { proposalId: hexOf(parseId(id, 32, 'proposal')) });
  const { proposal, votes } = found;
  return {
    json: { ...proposal, votes },
    text: [
      ...fields([
        ['proposal', proposal.id],
        ['subject', subject(proposal.proposal)],
        ['by', `${proposal.proposer} of ${proposal.proposerOrg}`],
        ['status', proposal.status],
        ['closes', time(proposal.closesMs)],
        ['takes effect', proposal.effectiveMs === null ? null : time(proposal.effectiveMs)],
        ['may vote', proposal.voters.join(', ')],
      ]),
      ...table(votes.map((v) => ['', clean(v.orgId), v.approve ? 'for' : 'against', time(v.atMs)])),
    ],
  };
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
    command
      .command('vote <proposal>')
      .description("give your organisation's vote")
      .option('--approve', 'for it')
      .option('--reject', 'against it')
      .action(run(vote));
    command
      .command('list')
      .description('proposals')
      .option('--status <status>', 'open, accepted, rejected, expired, effective, failed')
      .option('--limit <n>', 'at most so many')
      .action(run(list));
    command.command('show <proposal>').description('a proposal and its votes').action(run(show));
  },
};
