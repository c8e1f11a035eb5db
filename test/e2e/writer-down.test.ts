/**
 * The hospital that wrote a record is killed: others serve its ciphertext, and any three of the four custodians its key. With
 * two hospitals down there are too few, and whoever asks is told so; with the return of one of them it is readable again.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { cidText } from '../../client/cid-text.ts';
import { hexOf } from '../../client/hex.ts';
import { awaitReplicas } from '../../client/record-add.ts';
import { fetchRecord, findGrant, grantedKey, provenRecord } from '../../client/record-get.ts';
import { subjectOf } from '../../client/record-offer.ts';
import { Consortium } from './consortium.ts';
import type { Person } from './people.ts';
import { until } from './until.ts';
import { refusalOf } from './refusals.ts';

/** Several blocks of ciphertext, so that serving it means more than one. */
const FILE_BYTES = 3_000_000;

const consortium = await Consortium.open(t);
const { devnet } = consortium;
const writerOrg = consortium.hospital(0).orgId;
const [chen, mei, wang, policy] = await Promise.all([
  consortium.staff('chen', 0, ['physician']),
  consortium.patient('mei', 0),
  consortium.staff('wang', 1, ['physician']),
  consortium.policy({ kind: 'owner' }),
]);
const path = join(devnet.dir, 'scan.bin');
const original = randomBytes(FILE_BYTES);
await writeFile(path, original);

const { offer, call } = await consortium.offer(chen, mei, path, policy);
await chen.do(call, offer.sidecar);
const { recordId } = subjectOf(offer);
const { cid, dataDigest, sizeBytes } = call.content;
await awaitReplicas(chen.view, offer);
const request = await wang.ask(recordId);
await mei.decide(request);

/** The record's key, which somebody releases for the grant. */
async function released(person: Person) {
  await person.caughtUp();
  const asked = { hash: request, nowMs: Date.now() };
  const own = await findGrant(person.view, person.home, person.account, recordId, asked);
  const proven = await provenRecord(person.view, recordId);
  const { key, from } = await grantedKey(person.view, person.key, own, proven);
  return { proven, key, from };
}

async function read(
  person: Person,
  { proven, key }: Pick<Awaited<ReturnType<typeof released>>, 'proven' | 'key'>,
  name: string,
) {
  const out = join(devnet.dir, name);
  await fetchRecord(person.view, person.home, proven, key, out);
  return readFile(out);
}

/** Status and SM3 digest of the ciphertext as a node serves it. */
async function ciphertextAt(index: number): Promise<{ status: number; digest: string }> {
  const { rpc } = consortium.viewAt(wang, index);
  const response = await fetch(`${rpc.base}/blob/${cidText(cid)}`, {
    headers: { authorization: rpc.authorization() ?? '' },
    signal: AbortSignal.timeout(30_000),
  });
  const bytes = new Uint8Array(await response.arrayBuffer());
  return { status: response.status, digest: `0x${createHash('sm3').update(bytes).digest('hex')}` };
}

/** Whether the reader's node knows that this hospital is there. */
async function seen(orgId: string, connected: boolean): Promise<void> {
  await until(`the reader’s hospital knows of ${orgId}`, async () => {
    const { peers } = await wang.view.rpc.call('net_peers', {});
    return peers.some((peer) => peer.orgId === orgId && peer.connected === connected);
  });
}

t.test('while the writing hospital is down', async (t) => {
  t.equal(call.content.capsule.kind, 'threshold');
  await devnet.killNode(writerOrg);
  await seen(writerOrg, false);
  for (const index of [1, 2, 3]) {
    const served = await ciphertextAt(index);
    t.same(served, { status: 200, digest: hexOf(dataDigest) }, `node ${index} serves all ${sizeBytes} bytes of it`);
  }
  const { from, ...got } = await released(wang);
  t.notMatch(from, writerOrg, `the key comes from ${from}`);
  t.ok((await read(wang, got, 'writer-down.bin')).equals(original), 'the file, byte for byte');
});

t.test('with two hospitals down', async (t) => {
  const before = await released(wang);
  await devnet.killNode(consortium.hospital(3).orgId);
  await seen(consortium.hospital(3).orgId, false);
  const error = await refusalOf(() => released(wang));
  t.equal(error.code, 'KEY_NOT_RELEASED');
  t.match(error.message, /[0-2] of the 3 custodians that it takes gave their shares/, 'how many of how many');
  for (const orgId of [writerOrg, consortium.hospital(3).orgId])
    t.match(error.message, new RegExp(`${orgId} refused: CUSTODIAN_UNAVAILABLE`), `who is away: ${orgId}`);
  t.ok((await read(wang, before, 'held.bin')).equals(original), 'who has the key already reads on');
});

t.test('after the return of one of them', async (t) => {
  devnet.startNode(writerOrg);
  await seen(writerOrg, true);
  const got = await until('blocks come again, and with them the key', async () =>
    released(wang).catch((error: { code?: unknown }) => {
      if (error.code !== 'KEY_NOT_RELEASED') throw error;
      return undefined;
    }),
  );
  t.ok((await read(wang, got, 'up.bin')).equals(original), 'key and ciphertext: the file, byte for byte');
  t.same(await ciphertextAt(0), { status: 200, digest: hexOf(dataDigest) }, 'which the writer itself still has');
});
