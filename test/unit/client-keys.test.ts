/** Keys and homes, through the command line in this process. */
import '../untraced.ts';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { Home } from '../../client/home.ts';
import { resolveAccount, setAccount, showKey, unlockOrgTokens } from '../../client/keys.ts';
import { tokenOf } from '../../client/tokens.ts';
import { bytesToHex0x, utf8 } from '../../common/bytes.ts';
import { cli, codeOf, PASSPHRASE } from './client-world.ts';

const folder = mkdtempSync(join(tmpdir(), 'emrchain-keys-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const passphraseFile = join(folder, 'passphrase');
writeFileSync(passphraseFile, `${PASSPHRASE}\n`, { mode: 0o600 });
const environment = { EMRCHAIN_HOME: join(folder, 'home'), EMRCHAIN_PASSPHRASE_FILE: passphraseFile };
const home = new Home(environment.EMRCHAIN_HOME);

t.test('new, show, list, export, import', async (t) => {
  const made = await cli(['keys', 'new', 'alice', '--json'], environment);
  t.equal(made.code, 0);
  t.match(made.json, { name: 'alice', kind: 'sm2-key', address: /^0x[0-9a-f]{40}$/, publicKey: /^0x[0-9a-f]{128}$/ });
  t.equal(made.json['account'], made.json['address'], 'a first key is its account');
  t.equal(statSync(join(home.path, 'keys')).mode & 0o777, 0o700);
  t.equal(statSync(String(made.json['path'])).mode & 0o777, 0o600);
  t.notMatch(readFileSync(String(made.json['path']), 'utf8'), PASSPHRASE);

  t.same((await cli(['keys', 'show', 'alice', '--json'], environment)).json, made.json);
  t.match((await cli(['--json', 'keys', 'new', 'alice'], environment)).error, { code: 'KEY_EXISTS' });
  t.match((await cli(['--json', 'keys', 'new', '../x'], environment)).error, { code: 'KEY_NAME_INVALID' });

  const exported = join(folder, 'alice.json');
  t.equal((await cli(['keys', 'export', 'alice', '--out', exported], environment)).code, 0);
  t.match((await cli(['keys', 'export', 'alice', '--out', exported, '--json'], environment)).error, {
    code: 'SECRET_FILE_EXISTS',
  });
  t.match((await cli(['keys', 'import', 'twin', exported, '--json'], environment)).error, { code: 'KEY_ALREADY_HERE' });
  const other = ['--home', join(folder, 'other')];
  t.match((await cli([...other, 'keys', 'import', 'twin', exported, '--json'], environment)).json, {
    name: 'twin',
    address: made.json['address'],
  });
  const wrong = join(folder, 'wrong');
  writeFileSync(wrong, 'another passphrase\n', { mode: 0o600 });
  const unlocked = await cli([...other, 'keys', 'import', 'more', exported, '--json'], {
    ...environment,
    EMRCHAIN_PASSPHRASE_FILE: wrong,
  });
  t.match(unlocked.error, { code: 'KEYSTORE_UNLOCK_FAILED' });

  t.match(await cli(['keys', 'list'], environment), { code: 0, out: /^NAME +KIND +ACCOUNT\nalice +sm2-key +0x/ });
  t.match(await cli(['--home', join(folder, 'empty'), 'keys', 'list'], environment), { out: /No keys in/ });
});

t.test('a key of an account that is older than the key', async (t) => {
  const account = new Uint8Array(20).fill(7);
  await setAccount(home, 'alice', account);
  t.same((await showKey(home, 'alice')).account, account);
  t.same(await resolveAccount(home, 'alice'), account, 'a name stands for its account');
  t.same(await resolveAccount(home, bytesToHex0x(account)), account);
  t.equal(await codeOf(resolveAccount(home, 'nobody')), 'ACCOUNT_INVALID');
});

t.test('token keys', async (t) => {
  const made = await cli(['keys', 'new', 'tokens', '--kind', 'org-tokens', '--json'], environment);
  t.match(made.json, { kind: 'org-tokens' });
  const shared = await cli(
    ['keys', 'new', 'more', '--kind', 'org-tokens', '--person-tag-key-of', 'tokens', '--json'],
    environment,
  );
  t.not(shared.json['address'], made.json['address'], 'another fingerprint for other keys');
  const [one, two] = [
    await unlockOrgTokens(home, 'tokens', utf8(PASSPHRASE)),
    await unlockOrgTokens(home, 'more', utf8(PASSPHRASE)),
  ];
  t.same(tokenOf(one, 'person', 'LIC-1'), tokenOf(two, 'person', ' lic-1 '), 'a person has one tag everywhere');
  t.notSame(tokenOf(one, 'category', 'c1'), tokenOf(two, 'category', 'c1'), 'a category has not');
  t.notSame(tokenOf(one, 'category', 'x'), tokenOf(one, 'department', 'x'));
  const shown = await cli(['org', 'token', 'category', 'c1', '--tokens', 'more', '--json'], environment);
  t.equal(shown.json['token'], bytesToHex0x(tokenOf(two, 'category', 'c1')));
  t.match((await cli(['org', 'token', 'category', 'c1', '--json'], environment)).error, { code: 'TOKENS_NOT_NAMED' });
  t.match((await cli(['org', 'token', 'category', '', '--tokens', 'more', '--json'], environment)).error, {
    code: 'TOKEN_WORD_INVALID',
  });
});

t.test('files that others could read, or that are damaged, are not used silently', async (t) => {
  const { path } = await showKey(home, 'alice');
  chmodSync(path, 0o644);
  const listed = await cli(['keys', 'list'], environment);
  t.match(listed.err, /not readable: alice: .*mode 0644/);
  t.match((await cli(['keys', 'show', 'alice', '--json'], environment)).error, {
    code: 'SECRET_FILE_PERMISSIONS',
    remedy: /chmod 600/,
  });
  chmodSync(path, 0o600);
  writeFileSync(home.top('nodes.json'), '{', { mode: 0o600 });
  t.match((await cli(['chain', 'status', '--json', '--rpc', 'http://127.0.0.1:1'], environment)).error, {
    code: 'NODE_UNREACHABLE',
  });
});

t.test('exit codes and errors', async (t) => {
  t.match(await cli(['keys', 'show', 'nobody'], environment), {
    code: 1,
    out: '',
    err: /^error KEY_UNKNOWN: .*\nwhat to do: .*\n$/,
  });
  t.match(await cli(['keys', 'shwo'], environment), { code: 2, err: /^error USAGE: / });
  t.match(await cli(['nonsense', '--json'], environment), { code: 2, error: { code: 'USAGE' } });
  t.match(await cli(['keys'], environment), { code: 2 });
  t.match(await cli(['keys', 'list', '--nope', '--json'], environment), {
    code: 2,
    error: { code: 'USAGE', message: /nope/ },
  });
  t.match(await cli(['record', 'get', '0x00', '--json'], environment), { code: 2, error: { message: /--out/ } });
  t.match(await cli(['--help'], environment), { code: 0, out: /Commands:/ });
  t.match(await cli(['help', 'access', 'request'], environment), { code: 0, out: /purpose of use/ });
  t.match(await cli(['access', 'request', '0x00', '--purpose', 'FUN', '--for', '1h', '--json'], environment), {
    error: { code: 'PURPOSE_UNKNOWN' },
  });
  t.match(await cli(['access', 'request', '0x00', '--purpose', 'treat', '--for', 'soon', '--json'], environment), {
    error: { code: 'DURATION_INVALID' },
  });
});

t.test('passphrases: by descriptor, and never on the command line', (t) => {
  const run = (args: string[], input: string) =>
    spawnSync(process.execPath, [join(import.meta.dirname, '../../client/cli/main.ts'), ...args], {
      input,
      encoding: 'utf8',
      env: { PATH: process.env['PATH'], EMRCHAIN_HOME: join(folder, 'fd') },
    });
  t.match(run(['--passphrase-fd', '0', 'keys', 'new', 'bob'], `${PASSPHRASE}\n`), { status: 0, stderr: '' });
  t.match(run(['keys', 'new', 'eve'], ''), { status: 1, stderr: /PASSPHRASE_NO_TERMINAL/ });
  t.match(run(['--passphrase-fd', 'x', 'keys', 'new', 'eve'], ''), { status: 1, stderr: /DESCRIPTOR_INVALID/ });
  t.match(run(['--passphrase-fd', '0', 'keys', 'new', 'eve'], 'short\n'), {
    status: 1,
    stderr: /PASSPHRASE_TOO_SHORT/,
  });
  t.notMatch(run(['keys', 'new', '--help'], '').stdout, /--passphrase /);
  t.end();
});
