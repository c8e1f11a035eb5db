import { readFileSync } from 'node:fs';
import { chmod, mkdtemp, open, readFile, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import t from 'tap';
import { hexToBytes, utf8 } from '../../common/bytes.ts';
import { generatePrivateKey, publicKeyOf, sm2Address } from '../../common/crypto/sm2.ts';
import { InvariantError } from '../../common/errors.ts';
import * as keystore from '../../common/native/keystore.ts';
import { choosePassphraseSource, readPassphrase } from '../../common/native/passphrase.ts';
import type { Terminal } from '../../common/native/passphrase.ts';
import { readSecretFile, writeSecretFile } from '../../common/native/secret-file.ts';
import { systemRandom } from '../../common/native/sm2-openssl.ts';

const vector = JSON.parse(readFileSync(new URL('../vectors/crypto/keystore.json', import.meta.url), 'utf8')) as {
  passphrase: string;
  secret: string;
  keystore: Record<string, unknown> & { kdf: Record<string, unknown>; cipher: Record<string, unknown> };
};
const known = { text: JSON.stringify(vector.keystore), passphrase: utf8(vector.passphrase) };

function owner(kind: string): { identity: keystore.KeystoreIdentity; privateKey: Uint8Array } {
  const privateKey = generatePrivateKey(systemRandom);
  const publicKey = publicKeyOf(privateKey);
  return { identity: { kind, address: sm2Address(publicKey), publicKey }, privateKey };
}

async function folder(t: { teardown: (end: () => unknown) => void }): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'keystore-'));
  t.teardown(() => rm(dir, { recursive: true }));
  return dir;
}

t.test('opens the file of a second implementation', async (t) => {
  const parsed = keystore.parseKeystore(known.text);
  t.ok(parsed.ok);
  if (!parsed.ok) return;
  t.same(await keystore.decryptKeystore(parsed.value, known.passphrase), {
    ok: true,
    value: hexToBytes(vector.secret),
  });
  const wrong = await keystore.decryptKeystore(parsed.value, utf8('correct horse'));
  t.match(wrong, { ok: false, code: 'KEYSTORE_UNLOCK_FAILED' });
});

t.test('every field is authenticated', async (t) => {
  const parsed = keystore.parseKeystore(known.text);
  if (!parsed.ok) throw new Error(parsed.message);
  const good = parsed.value;
  const flip = (bytes: Uint8Array): Uint8Array => bytes.map((byte, index) => (index === 3 ? byte ^ 1 : byte));
  const other = owner('sm2-key').identity;
  const changed: Partial<keystore.Keystore>[] = [
    { kind: 'request-key' },
    { address: other.address, publicKey: other.publicKey },
    { iv: flip(good.iv) },
    { ciphertext: flip(good.ciphertext) },
    { tag: flip(good.tag) },
  ];
  for (const change of changed) {
    const opened = await keystore.decryptKeystore({ ...good, ...change }, known.passphrase);
    t.match(opened, { ok: false, code: 'KEYSTORE_UNLOCK_FAILED' }, Object.keys(change).join());
  }
});

t.test('hostile files are refused before any work', async (t) => {
  const { kdf, cipher } = vector.keystore;
  const bad: [string, unknown][] = [
    ['10 GB of memory', { ...vector.keystore, kdf: { ...kdf, n: 2 ** 24 } }],
    ['r', { ...vector.keystore, kdf: { ...kdf, r: 1024 } }],
    ['p', { ...vector.keystore, kdf: { ...kdf, p: 1000 } }],
    ['weak n', { ...vector.keystore, kdf: { ...kdf, n: 2 } }],
    ['n no number', { ...vector.keystore, kdf: { ...kdf, n: '131072' } }],
    ['n between', { ...vector.keystore, kdf: { ...kdf, n: 2 ** 17 + 1 } }],
    ['short salt', { ...vector.keystore, kdf: { ...kdf, salt: '0x00' } }],
    ['other kdf', { ...vector.keystore, kdf: { ...kdf, name: 'pbkdf2' } }],
    ['other cipher', { ...vector.keystore, cipher: { ...cipher, name: 'aes' } }],
    ['short iv', { ...vector.keystore, cipher: { ...cipher, iv: '0x00' } }],
    ['other version', { ...vector.keystore, version: 2 }],
    ['address of somebody else', { ...vector.keystore, address: `0x${'11'.repeat(20)}` }],
    ['key off the curve', { ...vector.keystore, publicKey: `0x${'11'.repeat(64)}` }],
    ['field too many', { ...vector.keystore, note: 'x' }],
    ['field missing', { ...vector.keystore, tag: undefined }],
    ['kind', { ...vector.keystore, kind: '../x' }],
    ['no secret', { ...vector.keystore, ciphertext: '0x' }],
    ['an array', []],
    ['null', null],
  ];
  for (const [name, file] of bad) {
    t.match(keystore.parseKeystore(JSON.stringify(file)), { ok: false, code: 'KEYSTORE_MALFORMED' }, name);
  }
  t.match(keystore.parseKeystore('{'), { ok: false, code: 'KEYSTORE_MALFORMED' });
  t.match(keystore.parseKeystore(' '.repeat(100_000)), { ok: false, code: 'KEYSTORE_MALFORMED' });
});

t.test('keystore files', async (t) => {
  const dir = await folder(t);
  const path = join(dir, 'alice.json');
  const { identity, privateKey } = owner('sm2-key');
  const passphrase = utf8('a long passphrase');

  await keystore.writeKeystore(path, identity, privateKey, passphrase);
  t.equal((await stat(path)).mode & 0o777, 0o600);
  t.same(await readdir(dir), ['alice.json']);
  t.same(await keystore.openKeystore(path, passphrase), { ...identity, secret: privateKey });
  t.match(await keystore.readKeystore(path), identity, 'whose it is shows without a passphrase');
  t.notMatch(await readFile(path, 'utf8'), Buffer.from(privateKey).toString('hex'));
  await t.rejects(keystore.openKeystore(path, utf8('another')), { code: 'KEYSTORE_UNLOCK_FAILED' });

  await t.rejects(keystore.writeKeystore(path, identity, privateKey, passphrase), { code: 'SECRET_FILE_EXISTS' });
  const notes = owner('request-key');
  const secret = utf8(JSON.stringify({ grant: '0x01', key: '0x02' }));
  await keystore.writeKeystore(path, notes.identity, secret, passphrase, { replace: true });
  t.same(await keystore.openKeystore(path, passphrase), { ...notes.identity, secret });

  const alien = owner('sm2-key');
  for (const broken of [
    keystore.encryptKeystore(identity, alien.privateKey, passphrase),
    keystore.encryptKeystore({ ...identity, address: alien.identity.address }, privateKey, passphrase),
    keystore.encryptKeystore({ ...identity, kind: 'Bad Kind' }, privateKey, passphrase),
    keystore.encryptKeystore(notes.identity, new Uint8Array(keystore.MAX_SECRET_BYTES + 1), passphrase),
  ]) {
    await t.rejects(broken, InvariantError);
  }
  await writeFile(path, 'no keystore', { mode: 0o600 });
  await t.rejects(keystore.readKeystore(path), { code: 'KEYSTORE_MALFORMED' });
});

t.test('keystores of one holder', async (t) => {
  const dir = await folder(t);
  const passphrase = utf8('a long passphrase');
  const contents = [owner('sm2-key'), owner('libp2p-key')].map(({ identity, privateKey }, index) => ({
    path: join(dir, `${index}.json`),
    identity,
    secret: privateKey,
  }));
  const paths = contents.map(({ path }) => path);
  await keystore.writeKeystores(contents, passphrase);
  const [one, other] = await Promise.all(paths.map((path) => keystore.readKeystore(path)));
  t.same(one?.salt, other?.salt, 'one salt: one derivation');
  t.notSame(one?.iv, other?.iv);
  const expected = contents.map(({ identity, secret }) => ({ ...identity, secret }));
  t.same(await keystore.openKeystores(paths, passphrase), expected);

  const apart = owner('sm2-key');
  const third = join(dir, 'apart.json');
  await keystore.writeKeystore(third, apart.identity, apart.privateKey, passphrase);
  t.notSame((await keystore.readKeystore(third)).salt, one?.salt, 'another time, another salt');
  t.same(await keystore.openKeystores([...paths, third], passphrase), [
    ...expected,
    { ...apart.identity, secret: apart.privateKey },
  ]);
  await t.rejects(keystore.openKeystores([...paths, third], utf8('another')), { code: 'KEYSTORE_UNLOCK_FAILED' });
});

t.test('secret files', async (t) => {
  const dir = await folder(t);
  const path = join(dir, 'secret');
  const previous = process.umask(0);
  try {
    await writeSecretFile(path, utf8('one'), false);
  } finally {
    process.umask(previous);
  }
  t.equal((await stat(path)).mode & 0o777, 0o600, 'whatever the umask');
  t.same(await readSecretFile(path, 3), utf8('one'));
  await t.rejects(readSecretFile(path, 2), { code: 'SECRET_FILE_INVALID' });
  await t.rejects(readSecretFile(dir, 100), { code: 'SECRET_FILE_INVALID' });
  await t.rejects(readSecretFile(join(dir, 'none'), 100), { code: 'SECRET_FILE_NOT_FOUND' });
  await t.rejects(writeSecretFile(join(dir, 'none', 'x'), utf8('x'), true), { code: 'SECRET_FILE_NOT_FOUND' });
  await t.rejects(writeSecretFile(path, utf8('two'), false), { code: 'SECRET_FILE_EXISTS' });
  t.same(await readSecretFile(path, 100), utf8('one'));
  await symlink(path, join(dir, 'link'));
  t.same(await readSecretFile(join(dir, 'link'), 100), utf8('one'), 'mounted secrets are links');
  for (const mode of [0o640, 0o604, 0o620, 0o601]) {
    await chmod(path, mode);
    const message = /chmod 600/;
    await t.rejects(
      readSecretFile(join(dir, 'link'), 100),
      { code: 'SECRET_FILE_PERMISSIONS', message },
      mode.toString(8),
    );
  }
  t.same((await readdir(dir)).sort(), ['link', 'secret'], 'no partial file is left');
});

/** A terminal whose person types what is in `keys`, one entry for each prompt. */
function terminal(keys: string[], tty = true): { terminal: Terminal; modes: boolean[]; shown: () => string } {
  const modes: boolean[] = [];
  const pending = [...keys];
  const output = new PassThrough();
  let shown = '';
  output.on('data', (data: Buffer) => (shown += data.toString()));
  const input = Object.assign(new PassThrough(), {
    isTTY: tty,
    setRawMode(raw: boolean) {
      modes.push(raw);
      const next = raw ? pending.shift() : undefined;
      if (next !== undefined) setImmediate(() => input.write(next));
    },
  });
  return { terminal: { input, output }, modes, shown: () => shown };
}

t.test('passphrases', async (t) => {
  const prompt = 'Passphrase';

  t.test('the source', async (t) => {
    t.same(choosePassphraseSource(undefined, {}), { kind: 'prompt' });
    t.same(choosePassphraseSource(undefined, { EMRCHAIN_PASSPHRASE_FILE: '/p' }), { kind: 'file', path: '/p' });
    t.same(choosePassphraseSource(3, { EMRCHAIN_PASSPHRASE_FILE: '/p' }), { kind: 'descriptor', descriptor: 3 });
  });

  t.test('from a file or a descriptor: the first line', async (t) => {
    const dir = await folder(t);
    const path = join(dir, 'pass');
    const from = async (content: string | Uint8Array, fresh = false): Promise<string> => {
      await writeFile(path, content, { mode: 0o600 });
      const viaFile = await readPassphrase({ kind: 'file', path }, { prompt, fresh });
      const handle = await open(path);
      try {
        t.same(await readPassphrase({ kind: 'descriptor', descriptor: handle.fd }, { prompt, fresh }), viaFile);
      } finally {
        await handle.close();
      }
      return Buffer.from(viaFile).toString();
    };
    t.equal(await from('hunter two'), 'hunter two');
    t.equal(await from('hunter two\n'), 'hunter two');
    t.equal(await from('hunter two\r\nmore\n'), 'hunter two');
    t.equal(await from(' spaces stay '), ' spaces stay ');
    t.equal(await from('e\u0301t\u00e9 encore'), '\u00e9t\u00e9 encore', 'one phrase, however it was typed');
    await t.rejects(from(''), { code: 'PASSPHRASE_EMPTY' });
    await t.rejects(from('\nsecond'), { code: 'PASSPHRASE_EMPTY' });
    await t.rejects(from('short', true), { code: 'PASSPHRASE_TOO_SHORT' });
    await t.rejects(from(Uint8Array.of(0xff, 0x0a)), { code: 'PASSPHRASE_MALFORMED' });
    await t.rejects(from('x'.repeat(1025)), { code: 'PASSPHRASE_TOO_LONG' });
    await t.rejects(from('x'.repeat(5000)), { code: 'SECRET_FILE_INVALID' });
    const handle = await open(path);
    const endless = readPassphrase({ kind: 'descriptor', descriptor: handle.fd }, { prompt });
    await t.rejects(endless, { code: 'PASSPHRASE_TOO_LONG' });
    await handle.close();
    await chmod(path, 0o644);
    await t.rejects(readPassphrase({ kind: 'file', path }, { prompt }), { code: 'SECRET_FILE_PERMISSIONS' });
    for (const descriptor of [9999, -1, 1.5]) {
      const unreadable = readPassphrase({ kind: 'descriptor', descriptor }, { prompt });
      await t.rejects(unreadable, { code: 'PASSPHRASE_UNREADABLE' });
    }
  });

  t.test('from a terminal, without echo', async (t) => {
    const ask = async (keys: string[], fresh = false): Promise<string> => {
      const person = terminal(keys);
      try {
        const bytes = await readPassphrase({ kind: 'prompt' }, { prompt, fresh, terminal: person.terminal });
        return Buffer.from(bytes).toString();
      } finally {
        t.same(
          person.modes,
          keys.flatMap(() => [true, false]),
          'the mode is restored',
        );
        t.notMatch(person.shown(), 'hunter');
        t.match(person.shown(), /^Passphrase: /);
        t.equal(person.terminal.input.listenerCount('data'), 0);
      }
    };
    t.equal(await ask(['hunter two\r']), 'hunter two');
    t.equal(await ask(['hunterr\u007f two\n']), 'hunter two');
    t.equal(await ask(['wrong\u0015hunter two\r']), 'hunter two');
    t.equal(await ask(['密码\u007f密码\r']), '密密码');
    t.equal(await ask(['hunter two\r', 'hunter two\r'], true), 'hunter two');
    await t.rejects(ask(['hunter two\r', 'hunter too\r'], true), { code: 'PASSPHRASE_MISMATCH' });
    await t.rejects(ask(['hunt\u0003']), { code: 'PASSPHRASE_CANCELLED' });
    await t.rejects(ask(['\r']), { code: 'PASSPHRASE_EMPTY' });
    await t.rejects(ask(['x'.repeat(2000)]), { code: 'PASSPHRASE_TOO_LONG' });
    const none = readPassphrase({ kind: 'prompt' }, { prompt, terminal: terminal([], false).terminal });
    await t.rejects(none, { code: 'PASSPHRASE_NO_TERMINAL', message: /EMRCHAIN_PASSPHRASE_FILE/ });
  });
});
