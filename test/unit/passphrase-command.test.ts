/** A passphrase from a program: what it may do, and that a start ends in a sentence when it does something else. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { utf8 } from '../../common/bytes.ts';
import { EmrError } from '../../common/errors.ts';
import { openKeystore, writeKeystore } from '../../common/native/keystore.ts';
import { choosePassphraseSource, MAX_PASSPHRASE_BYTES, readPassphrase } from '../../common/native/passphrase.ts';
import { passphraseCommand, runPassphraseCommand } from '../../common/native/passphrase-command.ts';
import { publicKeyOf, sm2Address } from '../../common/crypto/sm2.ts';
import { newPrivateKey } from '../../common/native/sm2-select.ts';

const SECRET = 'a secret that must not be shown';

/** A program of Node's. */
const program = (source: string): string => JSON.stringify([process.execPath, '--eval', source]);
const printing = (text: string): string => program(`process.stdout.write(${JSON.stringify(text)})`);
const read = (command: string, fresh = false): Promise<Uint8Array> =>
  readPassphrase(choosePassphraseSource(undefined, { EMRCHAIN_PASSPHRASE_COMMAND: command }), {
    prompt: 'none',
    fresh,
  });
const textOf = async (command: string): Promise<string> => new TextDecoder().decode(await read(command));

async function failure(promise: Promise<unknown>): Promise<EmrError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof EmrError) return error;
    throw error;
  }
  throw new Error('no error');
}

t.test('what it prints is the passphrase, up to the end of the line', async (t) => {
  t.equal(await textOf(printing(SECRET)), SECRET);
  t.equal(await textOf(printing(`${SECRET}\nand a remark`)), SECRET);
  t.equal(await textOf(printing(`${SECRET}\r\n`)), SECRET);
  t.equal(await textOf(program(`setTimeout(() => process.stdout.write('${SECRET}'), 50)`)), SECRET, 'in its own time');
  const half = SECRET.length / 2;
  const [first, second] = [SECRET.slice(0, half), SECRET.slice(half)];
  const pieces = program(
    `process.stdout.write('${first}', () => setTimeout(() => process.stdout.write('${second}'), 20))`,
  );
  t.equal(await textOf(pieces), SECRET, 'in pieces');
  t.equal(
    await textOf(JSON.stringify([process.execPath, '--eval', 'process.stdout.write(process.argv[1])', '$HOME *'])),
    '$HOME *',
    'no shell',
  );
});

t.test('what fails, and nothing of what it printed is shown', async (t) => {
  const cases: readonly (readonly [string, string, string])[] = [
    [
      'it ends with another code',
      program(`process.stdout.write('${SECRET}'); process.exitCode = 3`),
      'PASSPHRASE_COMMAND_FAILED',
    ],
    [
      'it ends by a signal',
      program(`process.stdout.write('${SECRET}', () => process.kill(process.pid, 'SIGKILL'))`),
      'PASSPHRASE_COMMAND_FAILED',
    ],
    ['it is not there', JSON.stringify(['/no/such/program']), 'PASSPHRASE_COMMAND_FAILED'],
    ['it prints nothing', program(''), 'PASSPHRASE_EMPTY'],
    ['it prints no text', program('process.stdout.write(Buffer.of(0xff, 0xfe, 0x41))'), 'PASSPHRASE_MALFORMED'],
    ['it prints too much', printing(SECRET.repeat(200)), 'PASSPHRASE_COMMAND_OUTPUT'],
    [
      'it prints for ever',
      program(`setInterval(() => process.stdout.write('${SECRET}'.repeat(999)), 1)`),
      'PASSPHRASE_COMMAND_OUTPUT',
    ],
    [
      'a line as long as a passphrase can be, and one more',
      printing('x'.repeat(MAX_PASSPHRASE_BYTES + 1)),
      'PASSPHRASE_TOO_LONG',
    ],
  ];
  for (const [name, command, code] of cases) {
    const error = await failure(read(command));
    t.equal(error.code, code, name);
    t.notMatch(`${error.message} ${JSON.stringify(error.detail)} ${String(error.cause)}`, SECRET);
  }
  t.equal((await failure(read(printing('short'), true))).code, 'PASSPHRASE_TOO_SHORT', 'for a new key');
  t.equal((await read(printing('x'.repeat(MAX_PASSPHRASE_BYTES)))).length, MAX_PASSPHRASE_BYTES);
});

t.test('it hangs: it is ended, and so is the wait for what it started', async (t) => {
  const hangs = program('setInterval(() => undefined, 1000)');
  const error = await failure(runPassphraseCommand(passphraseCommand(hangs), 100, 300));
  t.equal(error.code, 'PASSPHRASE_COMMAND_TIMEOUT');
  t.match(error.message, /within 0.3 s/);
  // The grandchild keeps the pipe open for a while after its parent was killed.
  const parent = program(
    `require('node:child_process').spawn(process.execPath, ['--eval', 'setTimeout(() => undefined, 3000)'], { stdio: 'inherit' })`,
  );
  const before = performance.now();
  t.equal(
    (await failure(runPassphraseCommand(passphraseCommand(parent), 100, 500))).code,
    'PASSPHRASE_COMMAND_TIMEOUT',
  );
  t.ok(performance.now() - before < 2_500, 'nobody waits for it');
});

t.test('how it is written, and what else is set', async (t) => {
  const bad = [
    'pkcs11-tool --login',
    '"/usr/bin/x"',
    '[]',
    '["x"]',
    '["./x"]',
    '["/x", 1]',
    '{"0":"/x"}',
    '["/x\\u0000y"]',
    `["/${'x'.repeat(9_000)}"]`,
  ];
  for (const text of bad) {
    t.throws(
      () => choosePassphraseSource(undefined, { EMRCHAIN_PASSPHRASE_COMMAND: text }),
      { code: 'PASSPHRASE_COMMAND_INVALID' },
      text.slice(0, 30),
    );
  }
  const both = { EMRCHAIN_PASSPHRASE_COMMAND: '["/x"]', EMRCHAIN_PASSPHRASE_FILE: '/y' };
  t.throws(() => choosePassphraseSource(undefined, both), { code: 'PASSPHRASE_TWO_SOURCES' });
  t.same(
    choosePassphraseSource(3, both),
    { kind: 'descriptor', descriptor: 3 },
    'a descriptor is said on the command line',
  );
  t.same(choosePassphraseSource(undefined, { EMRCHAIN_PASSPHRASE_COMMAND: '' }), { kind: 'prompt' });
});

t.test('a key opens by it, or does not', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'emrchain-passphrase-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const [path, script] = [join(dir, 'key.json'), join(dir, 'passphrase')];
  writeFileSync(script, `#!${process.execPath}\nprocess.stdout.write(process.argv[2] + '\\n');\n`);
  chmodSync(script, 0o700);
  const privateKey = newPrivateKey();
  const publicKey = publicKeyOf(privateKey);
  await writeKeystore(path, { kind: 'sm2-key', address: sm2Address(publicKey), publicKey }, privateKey, utf8(SECRET));
  const opened = await openKeystore(path, await read(JSON.stringify([script, SECRET])));
  t.same(opened.secret, privateKey);
  const error = await failure(openKeystore(path, await read(JSON.stringify([script, 'another one']))));
  t.equal(error.code, 'KEYSTORE_UNLOCK_FAILED');
});
