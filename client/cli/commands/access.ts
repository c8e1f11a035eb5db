/** `emrchain access`: asking for a record, deciding on requests, revoking. */
import { setTimeout as delay } from 'node:timers/promises';
import { PURPOSES, type Purpose } from '../../../common/protocol/policy.ts';
import { REQUEST_STATUSES } from '../../../common/protocol/state-entries.ts';
import { decide, type Decision, provenRequest, requestAccess } from '../../access.ts';
import { ClientError } from '../../errors.ts';
import { explanationLines } from '../../explanation.ts';
import { hexOf, parseId } from '../../hex.ts';
import { toJson } from '../../json.ts';
import { resolveAccount } from '../../keys.ts';
import { revocationStatus } from '../../revocation.ts';
import { listStoredRequests, pruneRequestKeys } from '../../request-keys.ts';
import { clean, fields, requireDuration, table, time } from '../../text.ts';
import type { CommandDescriptor } from '../descriptor.ts';
import { txFields, txView } from '../execute.ts';
import type { Result } from '../output.ts';
import { gather, moreLine, parseLimit } from '../paging.ts';
import type { Session } from '../session.ts';
import { deliverKey, demand } from './access-keys.ts';
import { requestFields, showBefore } from './access-shown.ts';

const POLL_MS = 300;
const DEFAULT_FINALITY_DEADLINE_MS = 60_000;

function requirePurpose(text: string): Purpose {
  const purpose = PURPOSES.find((one) => one === text.toUpperCase());
  if (purpose !== undefined) return purpose;
  throw new ClientError(
    'PURPOSE_UNKNOWN',
    'There is no such purpose of use.',
    `Give --purpose ${PURPOSES.join(', ')}.`,
  );
}

interface RequestOptions {
  readonly purpose: string;
  readonly for: string;
  readonly rule?: string;
  readonly version?: string;
}

function wholeNumber(text: string | undefined, what: string): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,9}$/.test(text)) throw new ClientError('NUMBER_INVALID', `That is no ${what}.`, 'Give a whole number.');
  return Number(text);
}

async function request(session: Session, options: RequestOptions, record: string): Promise<Result> {
  const purpose = requirePurpose(options.purpose);
  const durationMs = requireDuration(options.for);
  const [ruleIndex, version] = [wholeNumber(options.rule, 'rule'), wholeNumber(options.version, 'version')];
  const [view, key] = [await session.view(), await session.key()];
  await pruneRequestKeys(session.home, session.nowMs());
  const asking = {
    recordId: parseId(record, 32, 'record'),
    purpose,
    durationMs,
    ...(ruleIndex === undefined ? {} : { ruleIndex }),
    ...(version === undefined ? {} : { version }),
  };
  const asked = await requestAccess(view, session.home, key, asking, session.submitOptions());
  session.out.progressDone();
  const status = asked.committed.events.some(({ type }) => type === 'access.granted') ? 'granted' : 'pending';
  return {
    json: {
      requestHash: hexOf(asked.hash),
      recordId: hexOf(asking.recordId),
      version: asked.request.version,
      purpose,
      rule: asked.request.ruleIndex,
      notAfterMs: asked.request.notAfterMs,
      status,
      tx: txView(asked.committed),
    },
    text: [
      ...fields([
        ['request', hexOf(asked.hash)],
        ['record', hexOf(asking.recordId)],
        ['purpose', purpose],
        ['until', time(asked.request.notAfterMs)],
        ['status', status],
        ...txFields(asked.committed),
      ]),
      '',
      status === 'granted'
        ? 'Granted: emrchain record get RECORD --out FILE.'
        : `Whoever must approve: emrchain access approve ${hexOf(asked.hash)}`,
    ],
  };
}

const PAST: Readonly<Record<Decision['kind'], string>> = {
  approve: 'approved',
  deny: 'denied',
  cancel: 'cancelled',
  revoke: 'revoked',
};

async function decideOn(session: Session, decision: Decision, id: string, yes: boolean | undefined) {
  const [view, key] = [await session.view(), await session.key()];
  const hash = parseId(id, 32, 'request');
  const { value: entry } = await provenRequest(view, hash);
  await showBefore(session, view, entry);
  await session.confirm(`Sign "${decision.kind}"?`, yes);
  const committed = await decide(view, key, entry, decision, session.submitOptions());
  session.out.progressDone();
  const granted = committed.events.some(({ type }) => type === 'access.granted');
  const denied = committed.events.some(({ type }) => type === 'access.denied');
  return { view, hash, entry, committed, granted, denied };
}

async function simple(session: Session, decision: Decision, id: string, yes?: boolean): Promise<Result> {
  const { hash, committed, granted, denied } = await decideOn(session, decision, id, yes);
  const status = granted ? 'granted' : denied ? 'denied' : decision.kind === 'cancel' ? 'cancelled' : 'pending';
  return {
    json: { requestHash: hexOf(hash), decision: decision.kind, status, tx: txView(committed) },
    text: [
      `${PAST[decision.kind]}; the request is ${status}.`,
      ...fields([['request', hexOf(hash)], ...txFields(committed)]),
    ],
  };
}

async function revoke(session: Session, options: { reason: string; yes?: boolean }, id: string): Promise<Result> {
  const { view, hash, committed } = await decideOn(
    session,
    { kind: 'revoke', reason: options.reason },
    id,
    options.yes,
  );
  const end = Date.now() + (session.deadlineMs ?? DEFAULT_FINALITY_DEADLINE_MS);
  for (;;) {
    const { final, executedBy, quorum } = await revocationStatus(view, hash);
    if (final) {
      session.out.progressDone();
      return {
        json: { requestHash: hexOf(hash), status: 'revoked', final, executedBy, quorum, tx: txView(committed) },
        text: [
          'revoked: a quorum of the validators has executed it, and no key is released any more.',
          'Whoever has read the record keeps what was read.',
          ...fields([['request', hexOf(hash)], ['executed by', executedBy.join(', ')], ...txFields(committed)]),
        ],
      };
    }
    if (Date.now() >= end) {
      throw new ClientError(
        'REVOCATION_PENDING',
        `The revocation is on the chain, and ${executedBy.length} of ${quorum} validators have confirmed it.`,
        `It is final with the others: emrchain access show ${hexOf(hash)} says when.`,
        { requestHash: hexOf(hash) },
      );
    }
    session.out.progress(`on the chain; executed by ${executedBy.length} of ${quorum} validators`);
    await delay(POLL_MS);
  }
}

async function show(session: Session, _options: object, id: string): Promise<Result> {
  const view = await session.view();
  const hash = parseId(id, 32, 'request');
  const { value: entry, at } = await provenRequest(view, hash);
  const answer = await view.rpc.call('acl_getRequest', { requestHash: hexOf(hash) });
  const revoked = entry.status === 'revoked' ? await revocationStatus(view, hash) : null;
  return {
    json: {
      ...(toJson(entry) as object),
      explanation: answer.explanation,
      decisions: answer.decisions,
      delivered: answer.delivered,
      revocation: revoked,
      provenAtHeight: at.header.height,
    },
    text: [
      ...fields([
        ...requestFields(entry),
        ['asked', time(entry.createdMs)],
        ['pending until', entry.status === 'pending' ? time(entry.pendingUntilMs) : null],
        ['since', entry.status === 'pending' ? null : time(entry.statusMs)],
        ['reason', entry.statusReason],
        ['delivered', answer.delivered ? 'the owner has delivered the key on the chain' : null],
        [
          'revocation',
          revoked === null
            ? null
            : revoked.final
              ? 'final'
              : `pending: ${revoked.executedBy.length} of ${revoked.quorum} validators`,
        ],
      ]),
      '',
      ...explanationLines(answer.explanation),
    ],
  };
}

interface ListOptions {
  readonly record?: string;
  readonly requester?: string;
  readonly status?: string;
  readonly active?: boolean;
  readonly limit?: string;
}

async function list(session: Session, options: ListOptions): Promise<Result> {
  const status = REQUEST_STATUSES.find((one) => one === options.status);
  if (options.status !== undefined && status === undefined) {
    throw new ClientError(
      'STATUS_UNKNOWN',
      'There is no such status.',
      `Give --status ${REQUEST_STATUSES.join(', ')}.`,
    );
  }
  const view = await session.view();
  await pruneRequestKeys(session.home, session.nowMs());
  const held = new Set((await listStoredRequests(session.home)).map(({ hash }) => hexOf(hash)));
  const filter = {
    ...(options.record === undefined ? {} : { recordId: hexOf(parseId(options.record, 32, 'record')) }),
    ...(options.requester === undefined
      ? {}
      : { requester: hexOf(await resolveAccount(session.home, options.requester)) }),
  };
  const { items, more } = await gather(parseLimit(options.limit), (query) =>
    options.active === true
      ? view.rpc.call('acl_getGrants', { ...filter, ...query })
      : view.rpc.call('acl_listRequests', { ...filter, ...(status === undefined ? {} : { status }), ...query }),
  );
  const rows = items.map((r) => [
    r.hash,
    r.status,
    r.purpose,
    time(r.notAfterMs),
    clean(r.requesterOrg),
    held.has(r.hash) ? 'key here' : '',
  ]);
  return {
    json: items.map((item) => ({ ...item, keyHere: held.has(item.hash) })),
    text: [...table([['REQUEST', 'STATUS', 'PURPOSE', 'UNTIL', 'BY', ''], ...rows]), ...moreLine(more)],
  };
}

export const descriptor: CommandDescriptor = {
  build(command, run) {
    command
      .command('request <record>')
      .description('ask to read a record, with a fresh key')
      .requiredOption('--purpose <code>', `purpose of use: ${PURPOSES.join(', ')}`)
      .requiredOption('--for <duration>', 'how long')
      .option('--rule <n>', 'under this rule of the policy (default: the first that fits your roles)')
      .option('--version <n>', 'this version (default: the latest)')
      .action(run(request));
    command
      .command('approve <request>')
      .description('approve a request: shows all of it first')
      .option('--yes', 'do not ask')
      .action(
        run((session, options: { yes?: boolean }, id) => simple(session, { kind: 'approve' }, id ?? '', options.yes)),
      );
    command
      .command('deny <request>')
      .description('deny a request')
      .option('--reason <code>', 'a word that the requester sees', 'unspecified')
      .option('--yes', 'do not ask')
      .action(
        run((session, options: { reason: string; yes?: boolean }, id) =>
          simple(session, { kind: 'deny', reason: options.reason }, id ?? '', options.yes),
        ),
      );
    command
      .command('cancel <request>')
      .description('take back your own request')
      .action(run((session, _options: object, id) => simple(session, { kind: 'cancel' }, id ?? '', true)));
    command
      .command('revoke <request>')
      .description('end a grant; waits until a quorum of the validators has executed it')
      .option('--reason <code>', 'a word that the requester sees', 'unspecified')
      .option('--yes', 'do not ask')
      .action(run(revoke));
    command
      .command('show <request>')
      .description('a request, proven: who has approved, what is missing')
      .action(run(show));
    command
      .command('list')
      .description('requests in your scope')
      .option('--record <id>', 'for this record')
      .option('--requester <account>', 'by this account')
      .option('--status <status>', REQUEST_STATUSES.join(', '))
      .option('--active', 'active grants only')
      .option('--limit <n>', 'at most so many')
      .action(run(list));
    command
      .command('demand <request>')
      .description(
        'as the requester: call on the custodians to post their shares on the chain, where they do not answer',
      )
      .option('--yes', 'do not ask')
      .action(run(demand));
    command
      .command('deliver <request>')
      .description('as the owner: give the key to a granted request on the chain, without a custodian')
      .option('--wrap-key <name>', 'an earlier key of yours that your copy was made for')
      .option('--yes', 'do not ask')
      .action(run(deliverKey));
  },
};
