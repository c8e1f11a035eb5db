/**
 * Files of every size go through `record add` … `record get` unchanged, as command-line processes use it, and neither
 * they nor the nodes need memory for it: 64 MiB here, 1 GB where EMRCHAIN_TEST_LARGE=1 asks for it, under one bound.
 */
import { createCipheriv, createHash, randomBytes } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import t from 'tap';
import { awaitReplicas } from '../../client/record-add.ts';
import { fetchRecord, ownKey, provenRecord } from '../../client/record-get.ts';
import { subjectOf } from '../../client/record-offer.ts';
import { hexOf, parseId } from '../../client/hex.ts';
import { emrchain, peakBytes } from './command.ts';
import { Consortium } from './consortium.ts';
import type { Person } from './people.ts';

const MIB = 1024 * 1024;
const IS_LARGE = process.env['EMRCHAIN_TEST_LARGE'] === '1';
const LARGE_BYTES = IS_LARGE ? 1_000_000_000 : 64 * MIB;
/** Of each process, from its start on: unlocking a key alone takes 128 MiB of it. */
const MAX_PEAK_BYTES = 300_000_000;
const CATEGORY = `0x${'2c'.repeat(32)}`;
const DEADLINE_MS = IS_LARGE ? 15 * 60_000 : 90_000;

const consortium = await Consortium.open(t, undefined, DEADLINE_MS + 120_000);
const { devnet } = consortium;
const [chen, mei, wang, policy] = await Promise.all([
  consortium.staff('chen', 0, ['physician']),
  consortium.patient('mei', 0),
  consortium.staff('wang', 1, ['physician']),
  consortium.policy({ kind: 'owner' }),
]);
const passphrase = new Uint8Array(await readFile(devnet.passphraseFile));
for (const person of [chen, mei, wang]) await consortium.writeKey(person, passphrase);
// So that one command can write a record with the patient beside the writer.
await consortium.writeKey({ ...mei, home: chen.home } as Person, passphrase);

const cli = (person: Person, ...args: readonly string[]) =>
  emrchain(devnet, ['--home', person.home.path, '--as', person.name, '--rpc', person.hospital.rpcUrl, ...args]);

const add = (path: string) =>
  cli(
    chen,
    ...['record', 'add', path, '--patient', hexOf(mei.account), '--policy', hexOf(policy), '--category', CATEGORY],
    ...['--patient-key', 'mei', '--timeout', `${DEADLINE_MS / 1_000}s`],
  );

/** Bytes that nobody has seen before, and that do not compress. */
async function* noise(sizeBytes: number): AsyncGenerator<Buffer> {
  const cipher = createCipheriv('aes-128-ctr', randomBytes(16), randomBytes(16));
  for (let left = sizeBytes; left > 0; left -= MIB) yield cipher.update(Buffer.alloc(Math.min(left, MIB)));
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}

t.test('the smallest file, through the command line', async (t) => {
  const [path, out] = [join(devnet.dir, 'empty.bin'), join(devnet.dir, 'empty.out')];
  await writeFile(path, '');
  const written = await add(path);
  t.match(written.answer, { state: 'replicated' }, 'written and copied');
  await cli(mei, 'record', 'get', String(written.answer['recordId']), '--own', '--out', out);
  t.equal((await readFile(out)).length, 0, 'and read back');
});

t.test('one byte, and the samples', async (t) => {
  const samples = join(import.meta.dirname, '..', '..', 'scripts', 'demo', 'samples');
  const one = join(devnet.dir, 'one.bin');
  await writeFile(one, Uint8Array.of(0x7f));
  for (const path of [one, join(samples, 'visit.fhir.json'), join(samples, 'phantom.dcm')]) {
    const { offer, call } = await consortium.offer(chen, mei, path, policy);
    await chen.do(call, offer.sidecar);
    const { replicas } = await awaitReplicas(chen.view, offer);
    t.ok(replicas.length > 0, `${path} is written and copied`);
    const proven = await provenRecord(mei.view, subjectOf(offer).recordId);
    const out = join(devnet.dir, 'small.out');
    const key = await ownKey(mei.view, mei.key, proven);
    await fetchRecord(mei.view, mei.home, proven, key, out, { replace: true });
    t.ok((await readFile(out)).equals(await readFile(path)), 'and read back byte for byte');
  }
});

t.test(`a file of ${LARGE_BYTES} bytes, within bounded memory`, { timeout: DEADLINE_MS }, async (t) => {
  const [path, out] = [join(devnet.dir, 'large.bin'), join(devnet.dir, 'large.out')];
  await pipeline(noise(LARGE_BYTES), createWriteStream(path));
  const added = await add(path);
  t.match(added.answer, { state: 'replicated' }, 'written, and another hospital has signed that it holds it');
  const recordId = parseId(String(added.answer['recordId']), 32, 'record');

  const grant = await wang.ask(recordId);
  await mei.decide(grant);
  await wang.caughtUp();
  const { version } = await provenRecord(wang.view, recordId);
  const read = await cli(wang, 'record', 'get', hexOf(recordId), '--out', out);
  t.match(read.answer, { sizeBytes: LARGE_BYTES }, 'read at another hospital, by a grant');
  t.ok(version.content.sizeBytes > LARGE_BYTES, 'the ciphertext is larger: it is padded and authenticated');
  t.equal(await digestOf(out), await digestOf(path), 'byte for byte');

  const peaks = new Map([
    ['record add', added.peakBytes],
    ['record get', read.peakBytes],
  ]);
  for (const [orgId, pid] of devnet.pids()) peaks.set(`node of ${orgId}`, await peakBytes(pid));
  for (const [what, peak] of peaks) {
    t.ok(peak > 0 && peak < MAX_PEAK_BYTES, `${what}: ${Math.ceil(peak / 1_000_000)} MB at its peak`);
  }
});
