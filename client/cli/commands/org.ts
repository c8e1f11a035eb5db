/** `emrchain org`: the organisations of the network, and the tokens that hide words from it. */
import { ClientError } from '../../errors.ts';
import { hexOf } from '../../hex.ts';
import { clean, fields, table, time } from '../../text.ts';
import { tokenOf, type TokenKind } from '../../tokens.ts';
import type { CommandDescriptor } from '../descriptor.ts';
import type { Result } from '../output.ts';
import type { Session } from '../session.ts';

const TOKEN_KINDS: readonly TokenKind[] = ['category', 'department', 'person'];

async function list(session: Session): Promise<Result> {
  const { organisations, validators } = await (await session.view()).rpc.call('gov_getMembers', {});
  const items = organisations.map((o) => ({
    ...o,
    validator: validators.find((v) => v.orgId === o.orgId)?.address ?? null,
  }));
  const rows = items.map((o) => [
    clean(o.orgId),
    o.status,
    o.validator === null ? '-' : 'yes',
    o.custodianKey === null ? '-' : 'yes',
    clean(o.name),
  ]);
  return { json: items, text: table([['ORGANISATION', 'STATUS', 'VALIDATOR', 'CUSTODIAN', 'NAME'], ...rows]) };
}

async function show(session: Session, _options: object, orgId: string): Promise<Result> {
  const { organisations, validators } = await (await session.view()).rpc.call('gov_getMembers', {});
  const found = organisations.find((o) => o.orgId === orgId);
  if (found === undefined) {
    throw new ClientError(
      'ORG_UNKNOWN',
      `There is no organisation "${clean(orgId)}".`,
      'emrchain org list shows them.',
    );
  }
  const validator = validators.find((v) => v.orgId === orgId) ?? null;
  return {
    json: { ...found, validator },
    text: fields([
      ['organisation', found.orgId],
      ['name', found.name],
      ['status', found.status],
      ['since', time(found.sinceMs)],
      ['custodian key', found.custodianKey ?? 'none'],
      ['validator', validator?.address ?? 'none'],
      ['peer', validator?.peerId ?? null],
    ]),
  };
}

async function token(session: Session, options: { tokens?: string }, kind: string, word: string): Promise<Result> {
  const known = TOKEN_KINDS.find((one) => one === kind);
  if (known === undefined) {
    throw new ClientError(
      'TOKEN_KIND_UNKNOWN',
      'There is no such kind of token.',
      `Give one of ${TOKEN_KINDS.join(', ')}.`,
    );
  }
  const value = hexOf(tokenOf(await session.tokens(options.tokens), known, word));
  return { json: { kind: known, token: value }, text: [value] };
}

export const descriptor: CommandDescriptor = {
  build(command, run) {
    command.command('list').description('organisations of the network').action(run(list));
    command.command('show <org>').description('one organisation').action(run(show));
    command
      .command('token <kind> <word>')
      .description('the token of a category code, a department or (for registrars) a licence number')
      .option('--tokens <name>', 'which token keys to use')
      .action(run(token));
  },
};
