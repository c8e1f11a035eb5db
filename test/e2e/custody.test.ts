/**
 * Four hospitals as processes: their custodians make a key that none of them has, and any three of them release a record,
 * whoever is down or lies. Nothing that any process writes holds a share.
 */
import { randomBytes } from 'node:crypto';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { backUpShare, openPart, restoreShare } from '../../client/custody-backup.ts';
import { ClientError } from '../../client/errors.ts';
import { hexOf } from '../../client/hex.ts';
import { awaitReplicas } from '../../client/record-add.ts';
import { fetchRecord, findGrant, grantedKey, provenRecord } from '../../client/record-get.ts';
import { subjectOf } from '../../client/record-offer.ts';
import { revocationStatus } from '../../client/revocation.ts';
import { bytesToHex } from '../../common/bytes.ts';
import { openKeystore } from '../../common/native/keystore.ts';
import { selectSm2Engine } from '../../common/native/sm2-select.ts';
import { Seal } from '../../common/native/custody-seal.ts';
import { SealedStore } from '../../common/native/custody-store.ts';
import { Consortium } from './consortium.ts';
import { until } from './until.ts';
import { refusalOf } from './refusals.ts';

const LIAR = join(import.meta.dirname, 'lying-custodian.ts');

const consortium = await Consortium.open(t);
const { devnet } = consortium;
const [first, second, third, fourth] = devnet.hospitals.map(({ orgId }) => orgId) as [string, string, string, string];
const status = async (index: number) => consortium.rpc(index).call('custody_getStatus', {});

const epoch = await until('the key is made, with nobody at a keyboard', async () => (await status(0)).epoch);
const [chen, mei, wang, policy] = await Promise.all([
  consortium.staff('chen', 0, ['physician']),
  consortium.patient('mei', 0),
  consortium.staff('wang', 1, ['physician']),
  consortium.policy({ kind: 'owner' }),
]);
const path = join(devnet.dir, 'scan.bin');
const original = randomBytes(20_000);
await writeFile(path, original);
const { offer, call } = await consortium.offer(chen, mei, path, policy);
await chen.do(call, offer.sidecar);
const { recordId } = subjectOf(offer);
await awaitReplicas(chen.view, offer);
const request = await wang.ask(recordId);
await mei.decide(request);

let reads = 0;
/** The file as the reader gets it, and who gave the key. */
async function read() {
  await wang.caughtUp();
  const own = await findGrant(wang.view, wang.home, wang.account, recordId, { hash: request, nowMs: Date.now() });
  const proven = await provenRecord(wang.view, recordId);
  const released = await grantedKey(wang.view, wang.key, own, proven);
  const out = join(devnet.dir, `read-${(reads += 1)}.bin`);
  await fetchRecord(wang.view, wang.home, proven, released.key, out);
  return { isEqual: (await readFile(out)).equals(original), ...released };
}

const repliesOf = async (grant: Uint8Array, view = wang.view) =>
  (await view.rpc.call('custody_getShare', { grantId: hexOf(grant), timeoutMs: 10_000 })).replies;
const replies = () => repliesOf(request);

/** A custodian listens a moment after its process was started. */
const listening = (orgId: string): Promise<boolean> =>
  until(`the custodian of ${orgId} listens`, () => {
    return new Promise<boolean>((resolve) => {
      const socket = connect(join(devnet.hospital(orgId).dir, 'custodian.sock'), () => resolve(true));
      socket.on('error', () => resolve(false)).on('connect', () => socket.destroy());
    });
  });

t.test('the key: any three of four, and the record is sealed under it', async (t) => {
  t.match(epoch, { epoch: 1, threshold: 3 });
  t.equal(epoch.holders.length, 4);
  const { version } = await provenRecord(wang.view, recordId);
  t.equal(version.content.capsule.kind, 'threshold');
  for (const index of [0, 1, 2, 3]) {
    const seen = await until(`node ${index} has the epoch`, async () => {
      const found = await status(index);
      return found.custodian.state === 'answers' && found.session === null ? found : undefined;
    });
    t.same(seen.epoch, epoch, `node ${index} says the same`);
    t.same(seen.custodian, { state: 'answers', waitsFor: null, code: null, message: null });
  }
  t.ok((await read()).isEqual, 'the reader has the file');
});

t.test('one custodian is down', async (t) => {
  await devnet.killCustodian(first);
  t.ok((await read()).isEqual, "although it is the writer's");
});

t.test('two are down: a sentence that says so, and the file once one returns', async (t) => {
  await devnet.killCustodian(third);
  const error = await refusalOf(() => read());
  t.equal(error.code, 'KEY_NOT_RELEASED');
  t.match(error.message, /2 of the 3|2 of 3/);
  t.match(error.message, new RegExp(first));
  t.match(error.message, new RegExp(third));
  devnet.startCustodian(third);
  await listening(third);
  t.ok((await read()).isEqual);
});

t.test('one lies: it is named, and the others suffice', async (t) => {
  await devnet.killCustodian(fourth);
  devnet.startCustodian(fourth, LIAR);
  await listening(fourth);
  // The first is down still: two good shares, and one that is none.
  const answered = await replies();
  t.same(
    answered
      .filter(({ code }) => code !== null)
      .map(({ orgId, code }) => `${orgId} ${code}`)
      .sort(),
    [`${first} CUSTODIAN_UNAVAILABLE`, `${fourth} SHARE_FALSE`],
  );
  const error = await refusalOf(() => read());
  t.match(error.message, new RegExp(`${fourth} SIGNED A FALSE SHARE.*keep this as evidence`));
  devnet.startCustodian(first);
  await listening(first);
  t.ok((await read()).isEqual);
  await devnet.killCustodian(fourth);
  devnet.startCustodian(fourth);
  await listening(fourth);
});

t.test('a node whose custodian is down serves its people all the same', async (t) => {
  await devnet.killCustodian(second);
  t.ok((await read()).isEqual);
  devnet.startCustodian(second);
  await listening(second);
});

t.test('one is frozen: it takes connections, and answers nothing', async (t) => {
  t.teardown(() => devnet.freezeCustodian(first, false));
  devnet.freezeCustodian(first, true);
  t.ok((await read()).isEqual);
});

t.test('a share that is lost comes back from two officers', async (t) => {
  const { dir } = devnet.hospital(second);
  const passphrase = new Uint8Array(await readFile(devnet.passphraseFile));
  const officers = [chen, mei, wang];
  const keys = officers.map(({ key }) => hexOf(key.publicKey));
  const out = join(devnet.dir, 'parts');
  const { files, kept } = await backUpShare(wang.view, { dir, passphrase, officers: keys, out });
  t.match(kept, { orgId: second, epoch: 1 });
  await devnet.killCustodian(second);
  await rm(join(dir, 'custody'), { recursive: true });
  devnet.startCustodian(second);
  await listening(second);
  // With the first one down, each of the others is needed.
  await devnet.killCustodian(first);
  const refusals = (await replies()).flatMap(({ orgId, code }) => (code === null ? [] : [`${orgId} ${code}`]));
  t.same(refusals.sort(), [`${first} CUSTODIAN_UNAVAILABLE`, `${second} CUSTODY_NO_SHARE`]);
  t.equal((await refusalOf(() => read())).code, 'KEY_NOT_RELEASED');
  await devnet.killCustodian(second);
  const parts = [1, 2].map((at) => join(out, `opened-${at}`));
  for (const [at, officer] of [mei, wang].entries()) await openPart(files[at + 1]!, officer.key, parts[at]!);
  t.match(await restoreShare(wang.view, { dir, passphrase, parts }), { isNew: true });
  devnet.startCustodian(second);
  await listening(second);
  t.ok((await read()).isEqual, 'by the share that came back');
  devnet.startCustodian(first);
  await listening(first);
});

t.test('a revocation among reads: once a quorum has signed for it, no threshold releases', async (t) => {
  const grant = await wang.ask(recordId);
  await mei.decide(grant);
  await wang.caughtUp();
  /** Who gave a share, whichever node was asked. */
  const released = async (index: number): Promise<string[]> => {
    try {
      const given = await repliesOf(grant, consortium.viewAt(wang, index));
      return given.flatMap(({ orgId, code }) => (code === null && orgId !== null ? [orgId] : []));
    } catch (error) {
      // Anything else, a limit of the node say, would hide what the custodians do.
      if (error instanceof ClientError && error.code === 'NOT_GRANTED') return [];
      throw error;
    }
  };
  t.ok((await released(1)).length >= epoch.threshold, 'as long as the grant lasts, they do');
  const final = new AbortController();
  let before = 0;
  const racing = [0, 1].map(async (index) => {
    while (!final.signal.aborted) before += (await released(index)).length > 0 ? 1 : 0;
  });
  await mei.decide(grant, { kind: 'revoke', reason: 'withdrawn' });
  await until('a quorum has signed that it executed it', async () => (await revocationStatus(mei.view, grant)).final);
  const after = new Set((await Promise.all([0, 1, 2, 3].map(released))).flat());
  final.abort();
  await Promise.all(racing);
  t.comment(`${before} answers with shares while it was under way, ${after.size} holders gave one after it was final`);
  t.ok(after.size < epoch.threshold, `${[...after].join()} are fewer than ${epoch.threshold}`);
});

t.test('no share is written anywhere but sealed', async (t) => {
  await devnet.stop();
  const passphrase = new Uint8Array(await readFile(devnet.passphraseFile));
  const chainId = wang.view.node.chainId;
  const { random } = selectSm2Engine();
  const secrets: Uint8Array[] = [];
  for (const { dir } of devnet.hospitals) {
    const { secret } = await openKeystore(join(dir, 'keys', 'custodian.json'), passphrase);
    const store = await SealedStore.open(join(dir, 'custody'), new Seal(chainId, secret, random));
    const kept = store.all();
    t.same(
      kept.map(({ kind }) => kind),
      ['share'],
      'nothing else is kept once the key is made',
    );
    secrets.push(secret, ...kept.map(({ content }) => Uint8Array.from(content)));
  }
  t.equal(secrets.length, 8);
  const needles = secrets.flatMap((secret) => [
    Buffer.from(secret),
    Buffer.from(bytesToHex(secret)),
    Buffer.from(Buffer.from(secret).toString('base64')),
    Buffer.from(BigInt(`0x${bytesToHex(secret)}`).toString()),
  ]);
  let files = 0;
  for (const entry of await readdir(devnet.dir, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const content = await readFile(join(entry.parentPath, entry.name));
    files += 1;
    if (needles.some((needle) => content.includes(needle))) t.fail(`${entry.parentPath}/${entry.name} has a secret`);
  }
  t.ok(files > 30, `${files} files, logs, databases and sealed shares among them`);
});
