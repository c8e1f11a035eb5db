/** `emrchain custody`: the key that the members' custodians share, as the operator of one of them sees it. */
import { equalBytes } from '../../../common/bytes.ts';
import { confirmedFile, confirmSet } from '../../../common/native/custody-confirmed.ts';
import { custodySessionEntry, custodySetHash } from '../../../common/protocol/custody.ts';
import { stateKey } from '../../../common/protocol/state-entries.ts';
import type { ResultOf } from '../../../rpc/methods.ts';
import { ClientError } from '../../errors.ts';
import { hexOf, parseId } from '../../hex.ts';
import { clean, fields, table, time } from '../../text.ts';
import type { CommandDescriptor } from '../descriptor.ts';
import type { Result } from '../output.ts';
import type { Session } from '../session.ts';
import { buildBackup } from './custody-backup.ts';

type Status = ResultOf<'custody_getStatus'>;

async function status(session: Session): Promise<Result> {
  const { rpc } = await session.publicView();
  const found = await rpc.call('custody_getStatus', {});
  return {
    json: found,
    text: [...epochLines(found.epoch), ...sessionLines(found.session), '', ...custodianLines(found.custodian)],
  };
}

function epochLines(epoch: Status['epoch']): string[] {
  if (epoch === null) return ["No custody key yet: each record's key is kept by the hospital that writes it."];
  return fields([
    ['key', epoch.key],
    [
      'epoch',
      `${epoch.epoch}, since block ${epoch.sinceHeight}, ${time(epoch.sinceMs)}; new shares from ${time(epoch.refreshMs)} on`,
    ],
    ['released by', `${epoch.threshold} of ${epoch.holders.length}`],
    ['holders', epoch.holders.map(({ orgId }) => clean(orgId)).join(', ')],
  ]);
}

function sessionLines(session: Status['session']): string[] {
  if (session === null) return [];
  const names = (orgs: readonly string[]): string | null => (orgs.length === 0 ? null : orgs.map(clean).join(', '));
  const what = session.kind === 'genesis' ? 'the first key is made' : 'shares are handed on';
  return [
    '',
    ...fields([
      ['session', `${what}, for epoch ${session.epoch}`],
      ['phase', session.phase],
      ['waits for', names(session.missing)],
      ['until', session.deadlineMs === null ? null : time(session.deadlineMs)],
      ['dealt false', names(session.disqualified)],
      ['accused falsely', names(session.falseAccusers)],
      ['id', session.id],
      ['set', session.setHash],
    ]),
    ...table([
      ['RECEIVER', 'ANNOUNCED', 'CONFIRMED'],
      ...session.receivers.map((one) => [clean(one.orgId), one.announced ? 'yes' : 'no', one.confirmed ? 'yes' : 'no']),
    ]),
  ];
}

function custodianLines({ state, waitsFor, code, message }: Status['custodian']): string[] {
  return fields([
    ['this custodian', state === 'none' ? 'this hospital runs none' : state],
    ['why', code === null ? null : `${clean(code)}: ${clean(message ?? '')}`],
    ['waits for', waitsFor === null ? null : clean(waitsFor)],
  ]);
}

/** What is confirmed is what the chain holds, proven here: a node cannot pass one set off as another. */
async function confirm(session: Session, options: { dir: string }, text: string): Promise<Result> {
  const setHash = parseId(text, 32, 'set');
  const view = await session.view();
  const open = await view.find(stateKey.custodySession(), custodySessionEntry, 'the custody session');
  if (open === undefined || !equalBytes(custodySetHash(open.value.receivers), setHash)) {
    throw new ClientError(
      'CUSTODY_SET_UNKNOWN',
      open === undefined
        ? 'No custody session is open.'
        : `The open session is for another set: ${hexOf(custodySetHash(open.value.receivers))}.`,
      'See what waits to be confirmed: emrchain custody status.',
    );
  }
  await confirmSet(options.dir, setHash);
  const receivers = open.value.receivers.map(({ orgId }) => orgId);
  return {
    json: { setHash: hexOf(setHash), receivers, file: confirmedFile(options.dir) },
    text: [
      "Confirmed: this hospital's custodian hands its share on to these, and does so by itself.",
      ...fields([
        ['hospitals', receivers.join(', ')],
        ['set', hexOf(setHash)],
        ['file', confirmedFile(options.dir)],
      ]),
    ],
  };
}

export const descriptor: CommandDescriptor = {
  build(command, run) {
    command
      .command('status')
      .description('epoch of the custody key, the session under way and who is missing, and how the own custodian is')
      .action(run(status));
    command
      .command('confirm')
      .description("let this hospital's custodian hand its share on to the set of the open session, proven here")
      .argument('<set>', 'the hash that the custodian waits for (see: emrchain custody status)')
      .requiredOption('--dir <dir>', "the hospital's folder, with keys/custodian.json")
      .action(run(confirm));
    buildBackup(command, run);
  },
};
