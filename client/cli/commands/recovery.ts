/** `emrchain recovery`: the key of last resort, as its officers make it, and as they use it. */
import { activeRecoveryKey } from '../../custody.ts';
import { ClientError } from '../../errors.ts';
import { hexOf, parseId } from '../../hex.ts';
import { announceInFolder, dealInFolder, finishInFolder, planRecoveryKey, readPlan } from '../../recovery-key.ts';
import type { RecoveryPlan } from '../../../common/protocol/recovery-key.ts';
import { recoveryKeyEntry } from '../../../common/protocol/recovery-key.ts';
import type { ProvenDemand } from '../../../common/protocol/recovery-demand.ts';
import { stateKey } from '../../../common/protocol/state-entries.ts';
import { clean, duration, fields, time } from '../../text.ts';
import type { CommandDescriptor } from '../descriptor.ts';
import type { Result } from '../output.ts';
import type { Session } from '../session.ts';

const planLines = ({ chainId, threshold, holders }: RecoveryPlan): readonly string[] =>
  fields([
    ['chain', hexOf(chainId)],
    ['opens', `any ${threshold} of ${holders.length} officers`],
    ...holders.map(({ account, orgId }, k) => [`officer ${k + 1}`, `${hexOf(account)} of ${clean(orgId)}`] as const),
  ]);

const planView = ({ chainId, threshold, holders }: RecoveryPlan) => ({
  chainId: hexOf(chainId),
  threshold,
  officers: holders.map(({ account, orgId, publicKey }) => ({
    account: hexOf(account),
    orgId,
    publicKey: hexOf(publicKey),
  })),
});

async function plan(
  session: Session,
  options: { threshold: string; officer: readonly string[] },
  dir: string,
): Promise<Result> {
  if (!/^\d{1,2}$/.test(options.threshold))
    throw new ClientError('NUMBER_INVALID', 'The threshold is no number.', 'Give one: --threshold 3.');
  const { chainId } = await session.node();
  const made = await planRecoveryKey(dir, chainId, Number(options.threshold), options.officer);
  return {
    json: { dir, ...planView(made) },
    text: [
      'The folder goes to each officer, three times: recovery announce, then recovery deal, then recovery finish.',
      ...planLines(made),
    ],
  };
}

async function announce(session: Session, options: { yes?: boolean }, dir: string): Promise<Result> {
  const seen = await readPlan(dir);
  for (const line of planLines(seen)) session.out.note(line);
  await session.confirm('Take a share of this key?', options.yes);
  const file = await announceInFolder(session.home, dir, await session.key());
  return {
    json: { ...planView(seen), file },
    text: [
      `Announced: ${file}. Once all officers have, each runs emrchain recovery deal. Keep this home until the end.`,
    ],
  };
}

async function deal(session: Session, _options: object, dir: string): Promise<Result> {
  const file = await dealInFolder(dir, await session.key());
  return {
    json: { file },
    text: [`Dealt: ${file}. Once all officers have, each runs emrchain recovery finish.`],
  };
}

async function finish(session: Session, options: { share: string }, dir: string): Promise<Result> {
  const key = await session.key();
  const passphrase = await session.passphrase('Passphrase for the share', true);
  const { file, share } = await finishInFolder(session.home, dir, key, { sharePath: options.share, passphrase });
  return {
    json: { file, share: options.share, index: share.index, key: hexOf(share.key) },
    text: [
      'The share is sealed, and was read back. Keep the file and its passphrase apart from each other, offline; no copy here.',
      ...fields([
        ['share', options.share],
        ['officer', `${share.index}`],
        ['key', hexOf(share.key)],
        ['for the vote', file],
      ]),
      'Once all officers have: emrchain gov propose recovery-key DIR.',
    ],
  };
}

async function status(session: Session): Promise<Result> {
  const view = await session.view();
  const key = await activeRecoveryKey(view);
  if (key === null)
    return { json: { key: null }, text: ['There is no recovery key: new records have no way of last resort.'] };
  const { value } = await view.entry(stateKey.recoveryKey(key), recoveryKeyEntry, 'the recovery key');
  return {
    json: {
      key: hexOf(key),
      version: value.version,
      threshold: value.threshold,
      officers: value.holders.map(({ account, orgId }) => ({ account: hexOf(account), orgId })),
      sinceHeight: value.sinceHeight,
      sinceMs: value.sinceMs,
    },
    text: fields([
      ['key', hexOf(key)],
      ['version', `${value.version}, since block ${value.sinceHeight}, ${time(value.sinceMs)}`],
      ['opens', `any ${value.threshold} of ${value.holders.length} officers`],
      ...value.holders.map(
        ({ account, orgId }, k) => [`officer ${k + 1}`, `${hexOf(account)} of ${clean(orgId)}`] as const,
      ),
    ]),
  };
}

/** What an officer decides on, and what nobody without a network can know. */
const demandLines = ({ request, record, key, provenMs, grantId }: ProvenDemand, nowMs: number): readonly string[] =>
  fields([
    ['request', hexOf(grantId)],
    ['record', `${hexOf(record.recordId)}, version ${record.version}, of ${clean(record.orgId)}`],
    ['asked by', `${hexOf(request.request.requester)} of ${clean(request.requesterOrg)}`],
    ['purpose', request.request.purpose],
    ['approved by', request.filled.map(({ account, orgId }) => `${hexOf(account)} of ${clean(orgId)}`).join(', ')],
    ['until', time(request.request.notAfterMs)],
    ['opens', `any ${key.threshold} of ${key.holders.length} officers`],
    [
      'as of',
      `${time(provenMs)}, ${duration(Math.max(0, nowMs - provenMs))} ago; a revocation since then is not seen here`,
    ],
  ]);

const demandView = ({ request, record, provenMs, grantId, key }: ProvenDemand) => ({
  requestHash: hexOf(grantId),
  recordId: hexOf(record.recordId),
  version: record.version,
  requester: hexOf(request.request.requester),
  requesterOrg: request.requesterOrg,
  purpose: request.request.purpose,
  notAfterMs: request.request.notAfterMs,
  threshold: key.threshold,
  provenMs,
});

async function exportRequest(session: Session, options: { out: string }, id: string): Promise<Result> {
  const { findGrant, provenRecord } = await import('../../record-get.ts');
  const { exportDemand } = await import('../../recovery-demand.ts');
  const { provenRequest } = await import('../../access.ts');
  const [view, { key }] = [await session.view(), await session.sender()];
  const hash = parseId(id, 32, 'request');
  const nowMs = session.nowMs();
  const { recordId } = (await provenRequest(view, hash)).value.request;
  const own = await findGrant(view, session.home, key.account, recordId, { hash, nowMs });
  const proven = await provenRecord(view, recordId, own.grant.request.version);
  const shown = await exportDemand(view, own, proven, options.out, nowMs);
  return {
    json: { ...demandView(shown), file: options.out },
    text: [
      `For the officers, within a day: ${shown.key.threshold} of them answer with emrchain recovery open-part.`,
      ...demandLines(shown, nowMs),
      ...fields([['file', options.out]]),
    ],
  };
}

async function openPart(
  session: Session,
  options: { share: string; out: string; yes?: boolean },
  file: string,
): Promise<Result> {
  const { readDemand, writePart } = await import('../../recovery-demand.ts');
  const { openShare } = await import('../../recovery-share.ts');
  const share = await openShare(options.share, await session.passphrase('Passphrase of the share'));
  try {
    const nowMs = session.nowMs();
    const proven = await readDemand(file, share, nowMs);
    for (const line of demandLines(proven, nowMs)) session.out.note(line);
    await session.confirm('Help this person to the key of this record?', options.yes);
    await writePart(proven, share, options.out);
    return {
      json: { ...demandView(proven), officer: share.index, file: options.out },
      text: [
        'For the requester alone: nobody else, officers included, can use what was written.',
        ...fields([['file', options.out]]),
      ],
    };
  } finally {
    share.x.fill(0);
  }
}

const FOLDER = 'the folder that goes from officer to officer';

export const descriptor: CommandDescriptor = {
  build(command, run) {
    command
      .command('plan')
      .description('begin a recovery key: who holds a share, and how many of them open a record')
      .argument('<dir>', FOLDER)
      .requiredOption('--threshold <m>', 'how many officers open a record; no organisation may have so many')
      .requiredOption(
        '--officer <officer...>',
        'ORG:PUBLICKEY of each, 2 to 16; ORG:PUBLICKEY:ACCOUNT after a rotation',
      )
      .action(run(plan));
    command
      .command('announce')
      .description('first round, as an officer: a key for the own part; no node is asked')
      .argument('<dir>', FOLDER)
      .option('--yes', 'do not ask')
      .action(run(announce));
    command
      .command('deal')
      .description('second round, as an officer: a part for each of the others; no node is asked')
      .argument('<dir>', FOLDER)
      .action(run(deal));
    command
      .command('finish')
      .description('third round, as an officer: check all parts, seal the share, and say so; no node is asked')
      .argument('<dir>', FOLDER)
      .requiredOption('--share <file>', "the officer's own file, under a passphrase, to be kept offline")
      .action(run(finish));
    command
      .command('export')
      .description(
        'as who was granted a request that custodians cannot answer: a file with its proofs, for the officers',
      )
      .argument('<request>', 'the granted request')
      .requiredOption('--out <file>', 'what goes to the officers')
      .action(run(exportRequest));
    command
      .command('open-part')
      .description('as an officer: check what the file proves, and help the requester to this key; no node is asked')
      .argument('<file>', 'what emrchain recovery export has written')
      .requiredOption('--share <file>', "the officer's own file")
      .requiredOption('--out <file>', 'what goes back to the requester')
      .option('--yes', 'do not ask')
      .action(run(openPart));
    command
      .command('status')
      .description('the recovery key of new records, proven, and its officers')
      .action(run(status));
  },
};
