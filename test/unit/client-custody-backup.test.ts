/** `emrchain custody backup`, `open-part`, `restore`, typed by a hospital's people against a real RPC server. */
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { bytesToHex, bytesToHex0x, utf8 } from '../../common/bytes.ts';
import { encodeScalar } from '../../common/crypto/curve.ts';
import { sm2Address } from '../../common/crypto/sm2.ts';
import { Seal } from '../../common/native/custody-seal.ts';
import { addKept, SealedStore } from '../../common/native/custody-store.ts';
import { writeKeystores } from '../../common/native/keystore.ts';
import { createOpensslSigner, systemRandom } from '../../common/native/sm2-openssl.ts';
import { createWasmEngine } from '../../common/crypto/sm2-engine/engine.ts';
import { type BackedShare, backUp, handBack, readPart } from '../../common/protocol/custody-backup.ts';
import { ChainWorld } from '../integration/rpc-fixture.ts';
import { cli, ClientWorld, PASSPHRASE, privateKeyOf } from './client-world.ts';
import { Custodians, refresh } from './vm-custodians.ts';
import { A, B } from './vm-world.ts';

// Some thirty keystores are opened, half a second of a processor each.
t.setTimeout(120_000);

const PEOPLE = ['alice', 'bob', 'carol'] as const;
type Officer = (typeof PEOPLE)[number];

/** Four hospitals with a key, the folder of the first one's custodian, and three people of it. */
async function hospital(t: Test) {
  const people = Object.fromEntries(PEOPLE.map((name) => [name, { org: A, roles: ['physician' as const] }]));
  const world = new ChainWorld(people, { governanceDelayMs: 1_000 });
  const custodians = new Custodians(world);
  custodians.make();
  const clients = new ClientWorld(world);
  await clients.start();
  t.teardown(() => clients.stop());
  const folder = clients.folder();
  const at = (...names: string[]): string => join(folder, ...names);
  writeFileSync(at('passphrase'), PASSPHRASE, { mode: 0o600 });
  const custodianKey = (orgId: string) => world.genesis.organisations.find((o) => o.orgId === orgId)!.custodianKey!;
  const sealOf = (orgId: string) => new Seal(world.chainId, privateKeyOf(custodianKey(orgId)), systemRandom);
  /** The share of the epoch that is active, as the custodian would have sealed it. */
  const keep = async (dir: string, orgId: string): Promise<void> => {
    const { epoch, sessionId } = custodians.epoch;
    const content = encodeScalar(custodians.shares.get(`${epoch} ${orgId}`)!);
    await addKept(join(dir, 'custody'), sealOf(orgId), { kind: 'share', sessionId, epoch, content });
  };
  // One derivation for all of them: each costs half a second.
  const keystore = (path: string, publicKey: Uint8Array, secret: Uint8Array) => {
    mkdirSync(join(path, '..'), { recursive: true, mode: 0o700 });
    return { path, identity: { kind: 'sm2-key', address: sm2Address(publicKey), publicKey }, secret };
  };
  const personal = (home: string, name: Officer) => {
    const { publicKey, privateKey } = world.who(name);
    return keystore(at(home, 'keys', `${name}.json`), publicKey, privateKey);
  };
  const custodial = (home: string, orgId: string) =>
    keystore(at(home, 'keys', 'custodian.json'), custodianKey(orgId), privateKeyOf(custodianKey(orgId)));
  await writeKeystores(
    [
      ...PEOPLE.map((name) => personal(name, name)),
      personal('operator', 'alice'),
      custodial('srv', A),
      custodial('other', B),
    ],
    utf8(PASSPHRASE),
  );
  const dir = at('srv');
  await keep(dir, A);
  const run = (...args: string[]) =>
    cli(
      ['--json', '--rpc', clients.url, ...(args.includes('--home') ? [] : ['--home', at('operator')]), ...args],
      { EMRCHAIN_PASSPHRASE_FILE: at('passphrase') },
      clients.nowMs,
    );
  const keys = PEOPLE.map((name) => bytesToHex0x(world.who(name).publicKey));
  const officers = keys.flatMap((key) => ['--officer', key]);
  const backUp = (out: string, ...other: string[]) =>
    run('custody', 'backup', '--dir', dir, ...(other.length > 0 ? other : officers), '--out', at(out));
  const part = (out: string, place: number, epoch = 1): string => at(out, `${A}-epoch-${epoch}-officer-${place}.part`);
  const openAs = (officer: Officer, file: string, out: string) =>
    run('custody', 'open-part', file, '--home', at(officer), '--as', officer, '--out', at(out));
  const restore = (parts: readonly string[], to = dir) =>
    run('custody', 'restore', '--dir', to, ...parts.flatMap((name) => ['--part', at(name)]));
  /** The share that is sealed in a folder, in hex. */
  const kept = async (of: string): Promise<string[]> => {
    const store = await SealedStore.open(join(of, 'custody'), sealOf(A));
    return store.all().map(({ content }) => bytesToHex(content));
  };
  return { world, custodians, at, dir, keep, keys, run, backUp, part, openAs, restore, kept };
}

const PAIRS: readonly (readonly [number, number])[] = [
  [1, 2],
  [1, 3],
  [2, 3],
];

t.test('a lost share comes back from any two officers', async (t) => {
  const { custodians, at, dir, backUp, part, openAs, restore, kept } = await hospital(t);
  const [share] = await kept(dir);
  const said: string[] = [];
  const made = await backUp('parts');
  const index = custodians.epoch.holders.findIndex(({ orgId }) => orgId === A) + 1;
  t.match(made, { code: 0, json: { orgId: A, epoch: 1, index, files: { length: 3 } } });
  said.push(made.out, made.err);
  for (const [place, officer] of PEOPLE.entries()) {
    const file = part('parts', place + 1);
    t.equal(statSync(file).mode & 0o777, 0o600);
    const ran = await openAs(officer, file, `opened-${place + 1}`);
    t.match(ran, { code: 0, json: { officer: place + 1, epoch: 1, orgId: A } });
    t.equal(statSync(at(`opened-${place + 1}`)).mode & 0o777, 0o600);
    said.push(ran.out, ran.err);
  }
  t.equal(statSync(at('parts')).mode & 0o777, 0o700);
  for (const [one, other] of PAIRS) {
    rmSync(join(dir, 'custody'), { recursive: true });
    const ran = await restore([`opened-${one}`, `opened-${other}`]);
    t.match(ran, { code: 0, json: { restored: true, epoch: 1, orgId: A } });
    t.same(await kept(dir), [share]);
    said.push(ran.out, ran.err);
  }
  t.match(await restore(['opened-1', 'opened-2']), { code: 0, json: { restored: false } }, 'it is there already');
  for (const parts of [['opened-1'], ['opened-1', 'opened-2', 'opened-3']])
    t.equal((await restore(parts)).error.code, 'PARTS_NEEDED');
  t.equal((await restore(['opened-1', 'opened-1'])).error.code, 'CUSTODY_PARTS_DIFFER');
  t.equal((await backUp('parts')).error.code, 'SECRET_FILE_EXISTS', 'a backup is not written over');

  // Neither what was printed nor any file has the share in the clear.
  const secret = Buffer.from(share!, 'hex');
  const needles = [
    secret,
    Buffer.from(share!),
    Buffer.from(secret.toString('base64')),
    Buffer.from(BigInt(`0x${share}`).toString()),
  ];
  for (const text of said) t.notOk(needles.some((needle) => Buffer.from(text).includes(needle)));
  let files = 0;
  for (const entry of readdirSync(at(), { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const content = readFileSync(join(entry.parentPath, entry.name));
    files += 1;
    if (needles.some((needle) => content.includes(needle))) t.fail(`${entry.name} has the share`);
  }
  t.ok(files >= 12, 'keystores, parts, sealed shares');
});

/** Parts that the custodian signed and two officers opened, about something else than what the chain proves. */
function forgedParts(world: ChainWorld, { epoch: { epoch, sessionId, key, holders }, shares }: Custodians) {
  const { custodianKey } = world.genesis.organisations.find(({ orgId }) => orgId === A)!;
  const index = holders.findIndex(({ orgId }) => orgId === A) + 1;
  const about = { chainId: world.chainId, sessionId, epoch, orgId: A, index, key, share: holders[index - 1]!.share };
  const x = encodeScalar(shares.get(`${epoch} ${A}`)!);
  const signer = createOpensslSigner(privateKeyOf(custodianKey!));
  const officers = PEOPLE.map((name) => world.who(name));
  return (change: Partial<BackedShare>): Uint8Array[] => {
    const keys = officers.map(({ publicKey }) => publicKey);
    return backUp({ ...about, ...change }, x, keys, signer, systemRandom).map((file, at) => {
      const part = readPart(file, createWasmEngine());
      const handed = part.ok ? handBack(part.value, officers[at]!, systemRandom) : part;
      if (!handed.ok) throw new Error(handed.code);
      return handed.value;
    });
  };
}

t.test('what is refused', async (t) => {
  const { world, custodians, at, dir, keys, backUp, part, openAs, restore } = await hospital(t);
  const custodianKey = bytesToHex0x(world.genesis.organisations.find(({ orgId }) => orgId === A)!.custodianKey!);
  const named = (...texts: string[]): string[] => texts.flatMap((text) => ['--officer', text]);
  const [a, b, c] = keys as [string, string, string];
  for (const [texts, code] of [
    [[a, b], 'OFFICERS_INVALID'],
    [[a, b, a], 'OFFICERS_INVALID'],
    [[a, b, custodianKey], 'OFFICERS_INVALID'],
    [[a, b, c, custodianKey], 'OFFICERS_INVALID'],
    [[a, b, `0x${'11'.repeat(64)}`], 'OFFICER_KEY_INVALID'],
    [[a, b, '0x11'], 'ID_INVALID'],
  ] as const) {
    t.equal((await backUp('refused', ...named(...texts))).error.code, code, texts.join());
  }
  t.throws(() => readdirSync(at('refused')), 'and nothing is written');
  const files = named(a, b, at('carol', 'keys', 'carol.json'));
  t.match(await backUp('parts', ...files), { code: 0 }, 'a key file will do for an officer');

  t.equal((await openAs('bob', part('parts', 1), 'stolen')).error.code, 'CUSTODY_PART_OTHER_OFFICER');
  const good = readFileSync(part('parts', 1));
  const changed = (byte: number): string => {
    const bytes = Uint8Array.from(good);
    bytes[byte]! ^= 1;
    writeFileSync(at('changed'), bytes, { mode: 0o600 });
    return at('changed');
  };
  for (const byte of [0, 30, 200, 400, good.length - 1])
    t.equal((await openAs('alice', changed(byte), 'stolen')).error.code, 'CUSTODY_PART_INVALID');
  writeFileSync(at('long'), new Uint8Array(5_000), { mode: 0o600 });
  t.equal((await openAs('alice', at('long'), 'stolen')).error.code, 'SECRET_FILE_INVALID');
  t.throws(() => statSync(at('stolen')));

  await openAs('alice', part('parts', 1), 'opened-1');
  await openAs('carol', part('parts', 3), 'opened-3');
  writeFileSync(at('half'), readFileSync(at('opened-3')).subarray(0, -1), { mode: 0o600 });
  t.equal((await restore(['opened-1', 'half'])).error.code, 'CUSTODY_PART_INVALID');
  writeFileSync(at('raw'), good, { mode: 0o600 });
  t.equal((await restore(['raw', 'opened-3'])).error.code, 'CUSTODY_PART_INVALID', 'a part that nobody has opened');
  const lie = Uint8Array.from(readFileSync(at('opened-3')));
  lie[lie.length - 1]! ^= 1;
  writeFileSync(at('lie'), lie, { mode: 0o600 });
  const named3 = await restore(['opened-1', 'lie']);
  t.match(named3.error, { code: 'CUSTODY_PART_FALSE', message: /officer 3/ });

  const forged = forgedParts(world, custodians);
  for (const [change, code] of [
    [{ chainId: new Uint8Array(32) }, 'CHAIN_ID_MISMATCH'],
    [{ epoch: 2, sessionId: new Uint8Array(32) }, 'CUSTODY_EPOCH_UNKNOWN'],
    [{ epoch: 0 }, 'CUSTODY_EPOCH_SUPERSEDED'],
    [{ sessionId: new Uint8Array(32) }, 'CUSTODY_EPOCH_UNKNOWN'],
    [{ index: 1 }, 'CUSTODY_EPOCH_UNKNOWN'],
    [{ index: 9 }, 'CUSTODY_EPOCH_UNKNOWN'],
    [{ orgId: B }, 'CUSTODY_EPOCH_UNKNOWN'],
  ] as const) {
    for (const [place, file] of forged(change).entries())
      writeFileSync(at(`forged-${place + 1}`), file, { mode: 0o600 });
    t.equal((await restore(['forged-1', 'forged-2'])).error.code, code, Object.keys(change).join());
  }
  t.equal((await restore(['opened-1', 'opened-3'], at('other'))).error.code, 'CUSTODY_PART_OTHER_CUSTODIAN');

  const [name] = readdirSync(join(dir, 'custody'));
  writeFileSync(join(dir, 'custody', name!), 'something else', { mode: 0o600 });
  t.equal((await restore(['opened-1', 'opened-3'])).error.code, 'CUSTODY_SEAL_BROKEN');
  t.equal(readFileSync(join(dir, 'custody', name!), 'utf8'), 'something else', 'a file that does not open stays');
});

t.test('shares of an epoch that is over do not come back, whatever a node shows', async (t) => {
  const { world, custodians, dir, keep, backUp, part, openAs, restore, kept } = await hospital(t);
  const share = await kept(dir);
  await backUp('parts');
  await openAs('alice', part('parts', 1), 'opened-1');
  await openAs('bob', part('parts', 2), 'opened-2');

  // The node proves the epoch at a block that the custodian is past: it may be over.
  rmSync(join(dir, 'custody'), { recursive: true });
  const { height } = world.head.header;
  const seen = (text: string): void => writeFileSync(join(dir, 'custodian-height'), text, { mode: 0o600 });
  seen(`${height + 1}`);
  const behind = await restore(['opened-1', 'opened-2']);
  t.match(behind.error, { code: 'CUSTODIAN_ROLLBACK', message: new RegExp(`block ${height};.* block ${height + 1}`) });
  seen('');
  t.equal((await restore(['opened-1', 'opened-2'])).error.code, 'CUSTODIAN_MEMORY', 'an empty file is no height');
  t.throws(() => readdirSync(join(dir, 'custody')), 'and nothing is written');
  seen(`${height}`);
  t.match(await restore(['opened-1', 'opened-2']), { code: 0, json: { restored: true, epoch: 1 } });
  t.same(await kept(dir), share);

  refresh(custodians);
  t.equal(custodians.epoch.epoch, 2);
  rmSync(join(dir, 'custody'), { recursive: true });
  const over = await restore(['opened-1', 'opened-2']);
  t.match(over.error, { code: 'CUSTODY_EPOCH_SUPERSEDED', message: /epoch 1.*epoch 2/, remedy: /refresh-custody/ });
  t.equal((await backUp('next')).error.code, 'CUSTODY_NO_SHARE');
  await keep(dir, A);
  const newest = await kept(dir);
  t.equal((await restore(['opened-1', 'opened-2'])).error.code, 'CUSTODY_EPOCH_SUPERSEDED');
  t.same(await kept(dir), newest, 'the newer one stays');
  t.match(await backUp('next'), { code: 0, json: { epoch: 2 } });
  await openAs('alice', part('next', 1, 2), 'next-1');
  t.equal((await restore(['next-1', 'opened-2'])).error.code, 'CUSTODY_EPOCH_SUPERSEDED');
});
