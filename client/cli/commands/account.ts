/** `emrchain account`: enrolment from hand to hand, suspension, rotation and recovery of keys. */
import { equalBytes } from '../../../common/bytes.ts';
import { sm2Address } from '../../../common/crypto/sm2.ts';
import { ACCOUNT_KINDS } from '../../../common/protocol/transaction.ts';
import { rotationPossessionHash } from '../../../common/protocol/statements.ts';
import type { ResultOf } from '../../../rpc/methods.ts';
import { ClientError } from '../../errors.ts';
import { hexOf, parseId } from '../../hex.ts';
import { resolveAccount, setAccount } from '../../keys.ts';
import {
  callOf,
  countersigned,
  describeStatement,
  possessed,
  readStatement,
  type SignedStatement,
  type Statement,
  writeStatement,
} from '../../statements.ts';
import { tokenOf } from '../../tokens.ts';
import { clean, fields, table, time } from '../../text.ts';
import type { CommandDescriptor } from '../descriptor.ts';
import { submitCall, txFields, txView } from '../execute.ts';
import type { Result } from '../output.ts';
import { gather, moreLine, parseLimit } from '../paging.ts';
import type { Session } from '../session.ts';
import { roleRows, roleView } from './role.ts';

interface TagOptions {
  readonly personTag?: string;
  readonly licence?: string;
  readonly tokens?: string;
}

async function personTagOf(session: Session, options: TagOptions): Promise<Uint8Array | null> {
  if (options.personTag !== undefined) return parseId(options.personTag, 32, 'person');
  if (options.licence === undefined) return null;
  return tokenOf(await session.tokens(options.tokens), 'person', options.licence);
}

function said(signed: SignedStatement): Record<string, string | null> {
  return Object.fromEntries(describeStatement(signed.statement));
}

async function handOver(path: string, signed: SignedStatement, next: string): Promise<Result> {
  await writeStatement(path, signed);
  return {
    json: { ...said(signed), countersigned: signed.countersignature !== null, file: path },
    text: [...fields(describeStatement(signed.statement)), `written to ${path}. Next: ${next}`],
  };
}

async function request(
  session: Session,
  options: TagOptions & { org: string; kind: string; custodial?: boolean; out: string },
): Promise<Result> {
  const kind = ACCOUNT_KINDS.find((known) => known === options.kind);
  if (kind === undefined) {
    throw new ClientError(
      'ACCOUNT_KIND_UNKNOWN',
      'There is no such kind of account.',
      `Give --kind ${ACCOUNT_KINDS.join(', ')}.`,
    );
  }
  const personTag = await personTagOf(session, options);
  if ((kind === 'staff') !== (personTag !== null)) {
    throw kind === 'staff'
      ? new ClientError(
          'PERSON_TAG_REQUIRED',
          'Staff are enrolled with a person tag.',
          'Ask the registrar for it: --person-tag 0x….',
        )
      : new ClientError('PERSON_TAG_NOT_ALLOWED', 'Only staff carry a person tag.', 'Leave --person-tag out.');
  }
  const node = await session.node();
  const { key } = await session.sender();
  const { publicKey } = key;
  const enrolment = { publicKey, orgId: options.org, kind, personTag, custodial: options.custodial === true };
  const signed = possessed(node.chainId, { kind: 'enrolment', enrolment }, key.signer);
  const next =
    kind === 'staff'
      ? 'a registrar or administrator of another organisation runs account countersign.'
      : 'the administrator runs account enrol.';
  return handOver(options.out, signed, next);
}

/** Checks that the licence which the second party was shown gives the tag in the statement. */
async function checkLicence(session: Session, options: TagOptions, statement: Statement): Promise<void> {
  const expected = await personTagOf(session, options);
  if (expected === null) return;
  const given = statement.kind === 'enrolment' ? statement.enrolment.personTag : null;
  if (given === null || !equalBytes(given, expected)) {
    throw new ClientError(
      'PERSON_TAG_MISMATCH',
      'The person tag in the file is not that of this licence.',
      'Check the licence; the person asks for the right tag and makes a new file.',
    );
  }
}

async function countersign(
  session: Session,
  options: TagOptions & { out: string; yes?: boolean },
  file: string,
): Promise<Result> {
  const node = await session.node();
  const { engine } = await session.publicView();
  const signed = await readStatement(file, node.chainId, engine);
  await checkLicence(session, options, signed.statement);
  for (const line of fields(describeStatement(signed.statement))) session.out.note(line);
  await session.confirm('Countersign this?', options.yes);
  return handOver(options.out, countersigned(signed, await session.sender()), 'whoever submits it.');
}

async function submitStatement(session: Session, file: string, kind: Statement['kind'], what: string): Promise<Result> {
  const node = await session.node();
  const { engine } = await session.publicView();
  const signed = await readStatement(file, node.chainId, engine, [kind]);
  const committed = await submitCall(session, callOf(signed));
  return {
    json: { ...said(signed), tx: txView(committed) },
    text: [what, ...fields([...describeStatement(signed.statement).slice(1), ...txFields(committed)])],
  };
}

async function suspension(session: Session, account: string, kind: 'suspend' | 'reinstate', reason: string) {
  const id = await resolveAccount(session.home, account);
  const committed = await submitCall(
    session,
    kind === 'suspend' ? { kind: 'account.suspend', account: id, reason } : { kind: 'account.reinstate', account: id },
  );
  return {
    json: { account: hexOf(id), status: kind === 'suspend' ? 'suspended' : 'active', tx: txView(committed) },
    text: [
      kind === 'suspend' ? 'suspended' : 'reinstated',
      ...fields([['account', hexOf(id)], ...txFields(committed)]),
    ],
  };
}

async function rotate(session: Session, _options: object, newKey: string): Promise<Result> {
  const node = await session.node();
  const sender = await session.sender();
  const next = await session.unlock(newKey);
  const statement = { account: sender.account, newPublicKey: next.publicKey };
  const possession = next.signer.sign(rotationPossessionHash(node.chainId, statement));
  // Before the commit: a crash in between must not lose which account the new key signs for.
  await setAccount(session.home, next.name, sender.account);
  const committed = await submitCall(session, {
    kind: 'account.rotate',
    newPublicKey: next.publicKey,
    possession,
  });
  return {
    json: { account: hexOf(sender.account), key: next.name, address: hexOf(next.address), tx: txView(committed) },
    text: [
      `The account is signed for by "${next.name}" from now on. Keep the old key: earlier records are wrapped to it.`,
      ...fields([['account', hexOf(sender.account)], ['key', hexOf(next.address)], ...txFields(committed)]),
    ],
  };
}

async function requestRecovery(session: Session, options: { out: string }, account: string): Promise<Result> {
  const node = await session.node();
  const { key } = await session.sender();
  const id = parseId(account, 20, 'account');
  const recovery = { account: id, newPublicKey: key.publicKey };
  const signed = possessed(node.chainId, { kind: 'recovery', recovery }, key.signer);
  await setAccount(session.home, key.name, id);
  return handOver(
    options.out,
    signed,
    'a second organisation runs account countersign, then the administrator account recover.',
  );
}

async function veto(session: Session): Promise<Result> {
  const committed = await submitCall(session, { kind: 'account.vetoRecovery' });
  return { json: { tx: txView(committed) }, text: ['The recovery is vetoed.', ...fields(txFields(committed))] };
}

async function completeRecovery(session: Session, _options: object, account: string): Promise<Result> {
  const id = await resolveAccount(session.home, account);
  const committed = await submitCall(session, { kind: 'account.completeRecovery', account: id });
  return {
    json: { account: hexOf(id), tx: txView(committed) },
    text: [
      'The new key signs for the account from now on.',
      ...fields([['account', hexOf(id)], ...txFields(committed)]),
    ],
  };
}

type AccountView = ResultOf<'acl_getAccount'>['account'];

const accountFields = (account: AccountView): readonly (readonly [string, string | null])[] => [
  ['account', account.id],
  ['organisation', account.orgId],
  ['kind', account.kind],
  ['status', account.status],
  ['key', hexOf(sm2Address(parseId(account.publicKey, 64, 'key')))],
  ['key since', time(account.keySinceMs)],
  ['person tag', account.personTag],
  ['custodial', account.custodial ? 'yes: the hospital keeps the key' : null],
  ['recovered', account.recoveredMs === null ? null : time(account.recoveredMs)],
  ['enrolled', time(account.enrolledMs)],
  ['enrolled by', account.enrolledBy],
];

async function show(session: Session, _options: object, account: string | undefined): Promise<Result> {
  const id = hexOf(account === undefined ? (await session.key()).account : await resolveAccount(session.home, account));
  const { rpc } = await session.view();
  const [found, { roles }] = [
    await rpc.call('acl_getAccount', { account: id }),
    await rpc.call('acl_getRoles', { account: id }),
  ];
  return {
    json: { ...found.account, roles: roles.map(roleView) },
    text: [...fields(accountFields(found.account)), '', ...roleRows(roles)],
  };
}

async function list(session: Session, options: { org?: string; limit?: string }): Promise<Result> {
  const { rpc } = await session.view();
  const org = options.org === undefined ? {} : { orgId: options.org };
  const { items, more } = await gather(parseLimit(options.limit), (query) =>
    rpc.call('acl_listAccounts', { ...org, ...query }),
  );
  const rows = items.map((a) => [a.id, clean(a.orgId), a.kind, a.status]);
  return { json: items, text: [...table([['ACCOUNT', 'ORGANISATION', 'KIND', 'STATUS'], ...rows]), ...moreLine(more)] };
}

export const descriptor: CommandDescriptor = {
  build(command, run) {
    command
      .command('request')
      .description('ask to be enrolled: writes a file with your public key and the proof that you hold it')
      .requiredOption('--org <id>', 'organisation that enrols you')
      .requiredOption('--kind <kind>', `${ACCOUNT_KINDS.join(', ')}`)
      .option('--person-tag <token>', 'staff: the token of your licence, which the registrar gives you')
      .option('--licence <number>', 'staff: the licence itself, where you hold the token keys')
      .option('--tokens <name>', 'which token keys to use')
      .option('--custodial', "patients: the hospital keeps this key; it never approves the hospital's own requests")
      .requiredOption('--out <file>', 'where to write it')
      .action(run(request));
    command
      .command('countersign <file>')
      .description('confirm, as a second party, an enrolment, a recovery or an attending relation')
      .option('--licence <number>', 'check that the person tag is that of this licence')
      .option('--tokens <name>', 'which token keys to use')
      .option('--yes', 'do not ask')
      .requiredOption('--out <file>', 'where to write it')
      .action(run(countersign));
    command
      .command('enrol <file>')
      .description('enrol an account of your organisation, as its administrator')
      .action(run((session, _options: object, file) => submitStatement(session, file ?? '', 'enrolment', 'enrolled')));
    command
      .command('suspend <account>')
      .description('suspend an account of your organisation')
      .option('--reason <code>', 'a word, such as left or lost_key', 'unspecified')
      .action(
        run((session, options: { reason: string }, account) =>
          suspension(session, account ?? '', 'suspend', options.reason),
        ),
      );
    command
      .command('reinstate <account>')
      .description('lift a suspension')
      .action(run((session, _options: object, account) => suspension(session, account ?? '', 'reinstate', '')));
    command
      .command('rotate <newkey>')
      .description('replace the key of your account by another key of this home')
      .action(run(rotate));
    command
      .command('request-recovery <account>')
      .description('ask, with a new key, to get back an account whose key is lost')
      .requiredOption('--out <file>', 'where to write it')
      .action(run(requestRecovery));
    command
      .command('recover <file>')
      .description("open a recovery, as administrator, with a second organisation's countersignature")
      .action(
        run((session, _options: object, file) => submitStatement(session, file ?? '', 'recovery', 'recovery opened')),
      );
    command.command('veto-recovery').description('stop a recovery of your account, with its old key').action(run(veto));
    command
      .command('complete-recovery <account>')
      .description('put the new key in place once the delay is over')
      .action(run(completeRecovery));
    command.command('show [account]').description('an account and its roles (default: your own)').action(run(show));
    command
      .command('list')
      .description('accounts in your scope')
      .option('--org <id>', 'of this organisation')
      .option('--limit <n>', 'at most so many')
      .action(run(list));
  },
};
