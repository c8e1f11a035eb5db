/** `emrchain policy`: who may ask for records, and whose approval it takes. */
import { policyRefOf } from '../../../common/protocol/policy.ts';
import { hexOf, parseId } from '../../hex.ts';
import { toJson } from '../../json.ts';
import { provenPolicy } from '../../policies.ts';
import { policyLines } from '../../policy-text.ts';
import { randomNonce } from '../../randomness.ts';
import { clean, fields, table, time } from '../../text.ts';
import type { CommandDescriptor } from '../descriptor.ts';
import { submitCall, txFields, txView } from '../execute.ts';
import type { Result } from '../output.ts';
import { gather, moreLine, parseLimit } from '../paging.ts';
import type { Session } from '../session.ts';
import { amend, decideBy, showAmendment } from './policy-amending.ts';
import { readPolicy } from './policy-reading.ts';

async function add(session: Session, options: { tokens?: string }, file: string): Promise<Result> {
  const document = await readPolicy(session, options.tokens, file, randomNonce());
  const committed = await submitCall(session, { kind: 'policy.create', document });
  const ref = hexOf(policyRefOf(document));
  return {
    json: { id: ref, version: 1, tx: txView(committed) },
    text: [...fields([['policy', ref], ...txFields(committed)]), '', ...policyLines(document)],
  };
}

async function show(session: Session, _options: object, id: string): Promise<Result> {
  const view = await session.view();
  const policy = await provenPolicy(view, parseId(id, 32, 'policy'));
  const policyRef = hexOf(policy.ref);
  const { amendments } = await view.rpc.call('emr_listAmendments', { policyRef });
  const { items: replaced } = await gather(parseLimit(undefined), (query) =>
    view.rpc.call('emr_listPolicyVersions', { policyRef, ...query }),
  );
  // An entry of several fields is an object.
  const shown = toJson(policy) as Readonly<Record<string, unknown>>;
  return {
    json: { ...shown, replaced, amendments },
    text: [
      ...fields([
        ['policy', hexOf(policy.ref)],
        ['version', `${policy.version}, since ${time(policy.sinceMs)}`],
        ...replaced.map((old) => ['replaced', `version ${old.version}, of ${time(old.sinceMs)}`] as const),
        ...amendments.map(
          (a) => ['amendment', `${a.id}, by ${clean(a.proposerOrg)}, closes ${time(a.closesMs)}`] as const,
        ),
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
    command
      .command('amend <id> <file>')
      .description('propose another document (YAML) for a policy')
      .option('--tokens <name>', 'which token keys hide categories and departments')
      .option('--yes', 'do not ask')
      .action(run(amend));
    for (const decision of ['approve', 'reject'] as const) {
      command
        .command(`${decision} <amendment>`)
        .description(`${decision} an amendment, after its difference is shown`)
        .option('--yes', 'do not ask')
        .action(run(decideBy(decision)));
    }
    command
      .command('amendment <id>')
      .description('an amendment, proven: what it changes, who has decided')
      .action(run(showAmendment));
    command.command('show <id>').description('a policy, proven, with its versions').action(run(show));
    command
      .command('list')
      .description('policies of the network')
      .option('--limit <n>', 'at most so many')
      .action(run(list));
  },
};
