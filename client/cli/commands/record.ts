/** `emrchain record`: what there is to type. The work is in record-writing.ts and record-reading.ts. */
import { SECTION_CLASSES } from '../../../common/protocol/record.ts';
import type { CommandDescriptor } from '../descriptor.ts';
import { get, history, list, show } from './record-reading.ts';
import { rekey } from './record-rekey.ts';
import { rekeyOlder } from './record-rekey-older.ts';
import { add, consent, submit } from './record-writing.ts';

export const descriptor: CommandDescriptor = {
  build(command, run) {
    command
      .command('add <file>')
      .description('encrypt a file, upload it, and offer it to the patient (or write it, with the key of the patient)')
      .option('--patient <account>', 'whose record it is')
      .option('--record <id>', 'a new version of this record instead')
      .option('--policy <id>', 'who may ask for it')
      .requiredOption('--category <code>', 'what it is about: a code, hidden by the token keys, or a 0x token')
      .option('--tokens <name>', 'which token keys to use')
      .option('--section <class>', SECTION_CLASSES.join(', '), 'general')
      .option('--type <media-type>', 'content type, inside the ciphertext (default: by the name)')
      .option('--name <name>', 'file name, inside the ciphertext')
      .option(
        '--offer-out <file>',
        'where to write the offer for the patient to consent to (default: the name and .offer.json)',
      )
      .option('--patient-key <name>', "the patient's key, where it is in this home: consents and submits at once")
      .action(run(add));
    command
      .command('rekey <id>')
      .description(
        'write the same file again as a new version under a new key: after a grant has ended, or to custody as it is now',
      )
      .requiredOption('--file <file>', 'the content, in the clear')
      .option('--type <media-type>', 'content type, inside the ciphertext (default: by the name)')
      .option('--name <name>', 'file name, inside the ciphertext')
      .option('--offer-out <file>', 'where to write the offer for the patient to consent to')
      .option('--patient-key <name>', "the patient's key, where it is in this home: consents and submits at once")
      .action(run(rekey));
    command
      .command('rekey-older')
      .description(
        'rekey all that you wrote and that is kept otherwise than new records are; run it again until it says that nothing is left',
      )
      .requiredOption('--files <dir>', 'the originals: RECORD.ext, or a folder RECORD with the file in it')
      .requiredOption(
        '--offers <dir>',
        'where offers go, and consents come back to (NAME.offer.json, NAME.consent.json)',
      )
      .action(run(rekeyOlder));
    command
      .command('consent <offer>')
      .description('as the patient: check an offer, open your copy of the key, and sign')
      .requiredOption('--out <file>', 'where to write the consent')
      .option('--yes', 'do not ask')
      .action(run(consent));
    command
      .command('submit <offer>')
      .description('put a consented record on the chain and wait for its copies; safe to repeat')
      .requiredOption('--consent <file>', "the patient's consent")
      .action(run(submit));
    command.command('show <id>').description('a record, proven').action(run(show));
    command
      .command('list')
      .description('records in your scope')
      .option('--patient <account>', 'of this owner')
      .option('--org <id>', 'of this hospital')
      .option('--limit <n>', 'at most so many')
      .action(run(list));
    command.command('history <id>').description('versions of a record').action(run(history));
    command
      .command('get <id>')
      .description('fetch, verify and decrypt a record that you may read')
      .requiredOption('--out <file>', 'where to write it')
      .option('--version <n>', 'this version')
      .option('--grant <request>', 'by this grant (default: the one of this home that lasts longest)')
      .option('--own', 'as its owner, with your own copy of the key')
      .option('--wrap-key <name>', 'with --own: an earlier key of yours that the copy was made for')
      .option(
        '--recovery-part <file...>',
        'what officers of the recovery key gave for the grant (see: emrchain recovery)',
      )
      .option('--force', 'replace an existing file')
      .action(run(get));
  },
};
