/**
 * The hospital that wrote a record is killed: others still serve its ciphertext, nobody serves its key, and whoever asks
 * is told so. With its return the record is readable again.
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
import { Consortium, type Person, until } from './consortium.ts';
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
  return { proven, key: (await grantedKey(person.view, person.key, own, proven)).key };
}

async function read(person: Person, { proven, key }: Awaited<ReturnType<typeof released>>, name: string) {
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

t.test('while the writing hospital is down', async (t) => {
  const before = await released(wang);
  await devnet.killNode(writerOrg);
  await until('the others have noticed', async () => {
    const { peers } = await consortium.admin(1).view.rpc.call('net_peers', {});
    return peers.some((peer) => peer.orgId === writerOrg && !peer.connected);
  });
  for (const index of [1, 2, 3]) {
    const served = await ciphertextAt(index);
    t.same(served, { status: 200, digest: hexOf(dataDigest) }, `node ${index} serves all ${sizeBytes} bytes of it`);
  }
  const { replies } = await wang.view.rpc.call('custody_getShare', { grantId: hexOf(request), timeoutMs: 10_000 });
  t.match(replies, [{ orgId: writerOrg, wrapped: null, code: 'CUSTODIAN_UNAVAILABLE' }], 'its key is not released');
  const error = await refusalOf(() => released(wang));
  t.equal(error.code, 'KEY_NOT_RELEASED');
  t.match(error.message, /CUSTODIAN_UNAVAILABLE.*ciphertext is served by replicas.*key is not/, 'the reader is told');
  t.ok((await read(wang, before, 'held.bin')).equals(original), 'who has the key already reads on');
});

t.test('after its return', async (t) => {
  devnet.startNode(writerOrg);
  await devnet.waitReady([writerOrg]);
  await until('the reader’s hospital is connected to it', async () => {
    const { peers } = await wang.view.rpc.call('net_peers', {});
    return peers.some((peer) => peer.orgId === writerOrg && peer.connected);
  });
  t.ok(
    (await read(wang, await released(wang), 'up.bin')).equals(original),
    'key and ciphertext: the file, byte for byte',
  );
  t.same(await ciphertextAt(0), { status: 200, digest: hexOf(dataDigest) }, 'which the writer itself still has');
});
