/** `emrchain policy`: who may ask for records, and whose approval it takes. */
import { readFile } from 'node:fs/promises';
import { policyRefOf } from '../../../common/protocol/policy.ts';
import { hexOf, parseId } from '../../hex.ts';
import { toJson } from '../../json.ts';
import { listKeys, ORG_TOKENS_KIND, type OrgTokens } from '../../keys.ts';
import { provenPolicy } from '../../policies.ts';
import { parsePolicyFile } from '../../policy-file.ts';
import { policyLines } from '../../policy-text.ts';
import { randomNonce } from '../../randomness.ts';
import { clean, fields, table, time } from '../../text.ts';
import { tokenOf } from '../../tokens.ts';
import type { CommandDescriptor } from '../descriptor.ts';
import { submitCall, txFields, txView } from '../execute.ts';
import type { Result } from '../output.ts';
import { gather, moreLine, parseLimit } from '../paging.ts';
import type { Session } from '../session.ts';

/** Token keys where the home has them: a policy that writes tokens itself needs none. */
async function tokensIfAny(session: Session, named: string | undefined): Promise<OrgTokens | undefined> {
  const { keys } = await listKeys(session.home);
  const sets = keys.filter(({ kind }) => kind === ORG_TOKENS_KIND);
  return named !== undefined || sets.length === 1 ? session.tokens(named) : undefined;
}

async function add(session: Session, options: { tokens?: string }, file: string): Promise<Result> {
  const source = await readFile(file, 'utf8');
  const needsTokens = /(?:categories|department)\s*:/.test(source);
  const tokens = needsTokens ? await tokensIfAny(session, options.tokens) : undefined;
  const document = parsePolicyFile(file, source, randomNonce(), (kind, word) =>
    tokens === undefined ? undefined : tokenOf(tokens, kind, word),
  );
  const committed = await submitCall(session, { kind: 'policy.create', document });
  const ref = hexOf(policyRefOf(document));
  return {
    json: { id: ref, version: 1, tx: txView(committed) },
    text: [...fields([['policy', ref], ...txFields(committed)]), '', ...policyLines(document)],
  };
}

async function show(session: Session, _options: object, id: string): Promise<Result> {
  const policy = await provenPolicy(await session.view(), parseId(id, 32, 'policy'));
  return {
    json: toJson(policy),
    text: [
      ...fields([
        ['policy', hexOf(policy.ref)],
        ['version', policy.version],
        ['organisation', policy.document.orgId],
        ['created', `${time(policy.createdMs)} by ${hexOf(policy.createdBy)}`],
      ]),
      '',
      ...policyLines(policy.document),
    ],
  };
}

async function list(session: Session, options: { limit?: string }): Promise<Result> {
  const { rpc } = await session.view();
  const { items, more } = await gather(parseLimit(options.limit), (query) => rpc.call('emr_listPolicies', query));
  const rows = items.map((p) => [
    p.ref,
    clean(p.document.orgId),
    [...new Set(p.document.rules.flatMap((rule) => rule.purposes))].join(' '),
    time(p.createdMs),
  ]);
  return {
    json: items,
    text: [...table([['POLICY', 'ORGANISATION', 'PURPOSES', 'CREATED'], ...rows]), ...moreLine(more)],
  };
}

export const descriptor: CommandDescriptor = {
  build(command, run) {
    command
      .command('add <file>')
      .description('put a policy (YAML) of your organisation on the chain, as its administrator')
      .option('--tokens <name>', 'which token keys hide categories and departments')
      .action(run(add));
    command.command('show <id>').description('a policy, proven').action(run(show));
    command
      .command('list')
      .description('policies of the network')
      .option('--limit <n>', 'at most so many')
      .action(run(list));
  },
};
