/** `emrchain custody backup`, `open-part`, `restore`: a custodian's share with three officers, and back from two. */
import type { Command } from 'commander';
import { BACKUP_THRESHOLD, type BackedShare } from '../../../common/protocol/custody-backup.ts';
import { backUpShare, openPart, restoreShare } from '../../custody-backup.ts';
import { ClientError } from '../../errors.ts';
import { hexOf } from '../../hex.ts';
import { clean, fields } from '../../text.ts';
import type { Run } from '../descriptor.ts';
import type { Result } from '../output.ts';
import type { Session } from '../session.ts';

const askPassphrase = (session: Session): Promise<Uint8Array> => session.passphrase('Passphrase of the custodian key');

const shareView = ({ orgId, epoch, index, sessionId }: BackedShare) => ({
  orgId,
  epoch,
  index,
  sessionId: hexOf(sessionId),
});

const shareFields = ({ orgId, epoch, index }: BackedShare): readonly (readonly [string, string])[] => [
  ['hospital', clean(orgId)],
  ['epoch', `${epoch}`],
  ['holder', `${index}`],
];

async function backup(
  session: Session,
  options: { dir: string; officer: readonly string[]; out: string },
): Promise<Result> {
  const view = await session.view();
  const { dir, officer, out } = options;
  const { kept, files } = await backUpShare(view, {
    dir,
    officers: officer,
    out,
    passphrase: await askPassphrase(session),
  });
  return {
    json: { ...shareView(kept), files },
    text: [
      `One file for each officer. Any ${BACKUP_THRESHOLD} of the three bring this share back; make new ones when the epoch changes.`,
      ...fields([...shareFields(kept), ...files.map((file, at) => [`officer ${at + 1}`, file] as const)]),
    ],
  };
}

async function open(session: Session, options: { out: string }, file: string): Promise<Result> {
  const about = await openPart(file, await session.key(), options.out);
  return {
    json: { ...shareView(about), officer: about.place, custodianKey: hexOf(about.custodianKey), file: options.out },
    text: [
      'For the custodian alone: nobody else, officers included, can open what was written.',
      ...fields([
        ...shareFields(about),
        ['officer', `${about.place}`],
        ['custodian key', hexOf(about.custodianKey)],
        ['file', options.out],
      ]),
    ],
  };
}

async function restore(session: Session, options: { dir: string; part: readonly string[] }): Promise<Result> {
  const { dir, part } = options;
  if (part.length !== BACKUP_THRESHOLD) {
    throw new ClientError(
      'PARTS_NEEDED',
      'A share comes back from the parts of two officers.',
      'Give --part twice: files that emrchain custody open-part has written.',
    );
  }
  const view = await session.view();
  const { kept, isNew } = await restoreShare(view, { dir, parts: part, passphrase: await askPassphrase(session) });
  return {
    json: { ...shareView(kept), restored: isNew },
    text: [
      isNew
        ? 'The share is back. Start the custodian anew: it reads what it keeps at its start.'
        : 'The custodian has this share already; nothing was changed.',
      ...fields(shareFields(kept)),
    ],
  };
}

const DIR = "the hospital's folder, with keys/custodian.json";

export function buildBackup(command: Command, run: Run): void {
  command
    .command('backup')
    .description("split this custodian's share among three officers of the hospital; any two of them bring it back")
    .requiredOption('--dir <dir>', DIR)
    .requiredOption('--officer <key...>', 'three times: public key of an officer, or the key file')
    .requiredOption('--out <dir>', 'folder for the three files')
    .action(run(backup));
  command
    .command('open-part <file>')
    .description('as an officer: open the own part of a backup, for its custodian and nobody else; no node is asked')
    .requiredOption('--out <file>', 'what goes to the custodian')
    .action(run(open));
  command
    .command('restore')
    .description("put this custodian's share back, if it is of the epoch that the chain proves to be active")
    .requiredOption('--dir <dir>', DIR)
    .requiredOption('--part <file...>', 'twice: what two officers have opened')
    .action(run(restore));
}
