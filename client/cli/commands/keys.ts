/** `emrchain keys`: the keys of this home. No node is asked. */
import { readFile } from 'node:fs/promises';
import { SM2_KEY_KIND } from '../../../common/native/keystore.ts';
import { ClientError } from '../../errors.ts';
import {
  checkKeyName,
  createAccountKey,
  createOrgTokens,
  exportKey,
  importKey,
  KEY_KINDS,
  type KeyInfo,
  keyView,
  listKeys,
  ORG_TOKENS_KIND,
  showKey,
  unlockOrgTokens,
} from '../../keys.ts';
import { fields, table } from '../../text.ts';
import { hexOf } from '../../hex.ts';
import type { CommandDescriptor } from '../descriptor.ts';
import type { Result } from '../output.ts';
import type { Session } from '../session.ts';

function shown(key: KeyInfo): Result {
  const own = hexOf(key.account) !== hexOf(key.address);
  return {
    json: keyView(key),
    text: fields([
      ['name', key.name],
      ['kind', key.kind],
      [key.kind === SM2_KEY_KIND ? 'address' : 'fingerprint', hexOf(key.address)],
      ['account', own ? hexOf(key.account) : null],
      ['public key', key.kind === SM2_KEY_KIND ? hexOf(key.publicKey) : null],
      ['file', key.path],
    ]),
  };
}

async function create(
  session: Session,
  options: { kind: string; personTagKeyOf?: string },
  name: string,
): Promise<Result> {
  checkKeyName(name);
  const { keys } = await listKeys(session.home);
  if (keys.some((key) => key.name === name)) {
    throw new ClientError('KEY_EXISTS', `There is a key "${name}" already.`, 'Choose another name.');
  }
  const passphrase = await session.passphrase(`New passphrase for ${name}`, true);
  if (options.kind === SM2_KEY_KIND) return shown(await createAccountKey(session.home, name, passphrase));
  if (options.kind === ORG_TOKENS_KIND) {
    const other = options.personTagKeyOf;
    const personTagKey =
      other === undefined
        ? null
        : (await unlockOrgTokens(session.home, other, await session.passphrase(`Passphrase of ${other}`))).personTagKey;
    return shown(await createOrgTokens(session.home, name, passphrase, personTagKey));
  }
  throw new ClientError('KEY_KIND_UNKNOWN', 'There is no such kind of key.', `Give --kind ${KEY_KINDS.join(' or ')}.`);
}

async function list(session: Session): Promise<Result> {
  const { keys, unreadable } = await listKeys(session.home);
  for (const { name, message } of unreadable) session.out.note(`not readable: ${name}: ${message}`);
  const rows = keys.map((key) => [key.name, key.kind, hexOf(key.account)]);
  return {
    json: keys.map(keyView),
    text:
      rows.length === 0
        ? [`No keys in ${session.home.path}. emrchain keys new NAME makes one.`]
        : table([['NAME', 'KIND', 'ACCOUNT'], ...rows]),
  };
}

async function show(session: Session, _options: object, name: string): Promise<Result> {
  return shown(await showKey(session.home, name));
}

async function copyOut(session: Session, options: { out: string }, name: string): Promise<Result> {
  const key = await exportKey(session.home, name, options.out);
  return {
    json: { ...keyView(key), exportedTo: options.out },
    text: [`${name} is in ${options.out}, under the same passphrase. Keep it private.`],
  };
}

async function copyIn(session: Session, _options: object, name: string, file: string): Promise<Result> {
  await readFile(file);
  const passphrase = await session.passphrase(`Passphrase of ${file}`);
  return shown(await importKey(session.home, checkKeyName(name), file, passphrase));
}

export const descriptor: CommandDescriptor = {
  build(command, run) {
    command
      .command('new <name>')
      .description('make a key under a passphrase')
      .option(
        '--kind <kind>',
        `${SM2_KEY_KIND} for an account, ${ORG_TOKENS_KIND} for an organisation's token keys`,
        SM2_KEY_KIND,
      )
      .option('--person-tag-key-of <name>', "org-tokens: take the network's person tag key from another set")
      .action(run(create));
    command.command('list').description('keys of this home').action(run(list));
    command.command('show <name>').description('one key').action(run(show));
    command
      .command('export <name>')
      .description('copy the encrypted key to a file')
      .requiredOption('--out <file>', 'where to')
      .action(run(copyOut));
    command.command('import <name> <file>').description('take an exported key into this home').action(run(copyIn));
  },
};
