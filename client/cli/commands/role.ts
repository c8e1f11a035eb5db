/** `emrchain role`: who may do what in an organisation, until when. */
import { ROLES } from '../../../common/protocol/policy.ts';
import type { ResultOf } from '../../../rpc/methods.ts';
import { ClientError } from '../../errors.ts';
import { hexOf, parseId } from '../../hex.ts';
import { resolveAccount } from '../../keys.ts';
import { clean, fields, requireDuration, table, time } from '../../text.ts';
import { tokenOf } from '../../tokens.ts';
import type { CommandDescriptor } from '../descriptor.ts';
import { submitCall, txFields, txView } from '../execute.ts';
import type { Result } from '../output.ts';
import type { Session } from '../session.ts';

type RoleEntryView = ResultOf<'acl_getRoles'>['roles'][number];

interface ScopeOptions {
  readonly department?: string;
  readonly tokens?: string;
}

export const roleView = ({ role, orgId, department, effectiveMs, expiresAtMs, current, grantedBy }: RoleEntryView) => ({
  role,
  orgId,
  department,
  effectiveMs,
  expiresAtMs,
  current,
  grantedBy,
});

export const roleRows = (roles: readonly RoleEntryView[]): readonly string[] =>
  roles.length === 0
    ? ['no roles']
    : table([
        ['ROLE', 'ORGANISATION', 'APPROVES FROM', 'UNTIL', 'DEPARTMENT'],
        ...roles.map((r) => [
          r.role,
          clean(r.orgId),
          r.effectiveMs === 0 ? 'always' : time(r.effectiveMs),
          r.current ? time(r.expiresAtMs) : `expired ${time(r.expiresAtMs)}`,
          r.department ?? '-',
        ]),
      ]);

/** A department as its token, or its name where the home has the organisation's token keys. */
export async function departmentToken(session: Session, options: ScopeOptions): Promise<Uint8Array | null> {
  const { department } = options;
  if (department === undefined) return null;
  if (/^0x[0-9a-fA-F]{64}$/.test(department)) return parseId(department, 32, 'department');
  return tokenOf(await session.tokens(options.tokens), 'department', department);
}

async function scopeOf(session: Session, options: ScopeOptions, account: string, name: string) {
  const role = ROLES.find((known) => known === name);
  if (role === undefined) {
    throw new ClientError('ROLE_UNKNOWN', `There is no role "${clean(name)}".`, `Roles are: ${ROLES.join(', ')}.`);
  }
  const id = await resolveAccount(session.home, account);
  const { rpc } = await session.view();
  const { account: own } = await rpc.call('acl_getAccount', { account: hexOf((await session.key()).account) });
  return { account: id, role, orgId: own.orgId, department: await departmentToken(session, options) };
}

async function grant(
  session: Session,
  options: ScopeOptions & { for: string },
  account: string,
  name: string,
): Promise<Result> {
  const lasting = requireDuration(options.for);
  const scope = await scopeOf(session, options, account, name);
  const expiresAtMs = session.nowMs() + lasting;
  const committed = await submitCall(session, { kind: 'role.grant', scope, expiresAtMs });
  const department = scope.department && hexOf(scope.department);
  return {
    json: {
      account: hexOf(scope.account),
      role: scope.role,
      orgId: scope.orgId,
      department,
      expiresAtMs,
      tx: txView(committed),
    },
    text: [
      `${scope.role} granted; it fills approval slots after the cooling period.`,
      ...fields([
        ['account', hexOf(scope.account)],
        ['until', time(expiresAtMs)],
        ['department', department],
        ...txFields(committed),
      ]),
    ],
  };
}

async function revoke(session: Session, options: ScopeOptions, account: string, name: string): Promise<Result> {
  const scope = await scopeOf(session, options, account, name);
  const committed = await submitCall(session, { kind: 'role.revoke', scope });
  return {
    json: { account: hexOf(scope.account), role: scope.role, orgId: scope.orgId, tx: txView(committed) },
    text: [`${scope.role} revoked.`, ...fields([['account', hexOf(scope.account)], ...txFields(committed)])],
  };
}

async function list(session: Session, _options: object, account: string | undefined): Promise<Result> {
  const id = account === undefined ? (await session.key()).account : await resolveAccount(session.home, account);
  const { rpc } = await session.view();
  const { roles } = await rpc.call('acl_getRoles', { account: hexOf(id) });
  return { json: roles.map(roleView), text: roleRows(roles) };
}

export const descriptor: CommandDescriptor = {
  build(command, run) {
    command
      .command('grant <account> <role>')
      .description(`give a role in your organisation: ${ROLES.join(', ')}`)
      .option('--for <duration>', 'how long', '365d')
      .option('--department <name>', 'only in this department; its token, or its name with token keys')
      .option('--tokens <name>', 'which token keys to use')
      .action(run(grant));
    command
      .command('revoke <account> <role>')
      .description('take a role away')
      .option('--department <name>', 'the one of this department')
      .option('--tokens <name>', 'which token keys to use')
      .action(run(revoke));
    command.command('list [account]').description('roles of an account (default: your own)').action(run(list));
  },
};
