/** Records whose ciphertext goes up over a network that breaks, to nodes that are restarted or gone. */
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CID } from 'multiformats/cid';
import t, { type Test } from 'tap';
import { type NewRecord, prepareOffer } from '../../client/record-add.ts';
import type { RecordOffer } from '../../client/record-offer.ts';

import { ChainWorld } from './rpc-fixture.ts';
import { Prng } from '../sim/prng.ts';
import { BreakingProxy } from './breaking-proxy.ts';
import { ClientWorld, codeOf } from '../unit/client-world.ts';
import { A, HOUR, owner, token } from '../unit/vm-world.ts';

t.setTimeout(120_000);

const MIB = 1024 * 1024;

/** A writer who reaches the node through a proxy, and a record of so many bytes. */
async function setUp(t: Test, sizeBytes: number) {
  const world = new ChainWorld({ alice: { org: A, roles: ['physician'] } });
  world.patient('paula');
  world.pass(HOUR);
  const policyRef = world.policy(owner);
  const clients = new ClientWorld(world);
  await clients.start();
  const proxy = await BreakingProxy.open(clients.url);
  t.teardown(async () => {
    await proxy.close();
    await clients.stop();
  });
  const alice = await clients.client('alice', proxy.origin);
  const path = join(clients.folder(), 'scan.dcm');
  writeFileSync(path, new Uint8Array(sizeBytes).fill(7));
  const record: NewRecord = {
    path,
    contentType: 'application/dicom',
    policyRef,
    categoryToken: token('imaging'),
    target: { kind: 'new', owner: clients.key('paula').account, section: 'imaging' },
  };
  const writer = { account: alice.key.account, signer: alice.key.signer };
  const progress: number[] = [];
  const offer = () =>
    prepareOffer(alice.view, writer, record, { nowMs: clients.nowMs, progress: (done) => void progress.push(done) });
  return { world, clients, proxy, offer, progress };
}

/** Whether the node has exactly what the offer names. */
function isStored(clients: ClientWorld, { call }: RecordOffer): boolean {
  const { cid, dataDigest, sizeBytes } = call.content;
  const blob = clients.node.blobs.get(CID.decode(cid).toString())?.bytes;
  return blob?.length === sizeBytes && createHash('sm3').update(blob).digest().equals(dataDigest);
}

t.test('through connections that break again and again', async (t) => {
  const { clients, proxy, offer, progress } = await setUp(t, 20 * MIB);
  const random = new Prng(11);
  proxy.gaps = Array.from({ length: 6 }, () => random.between(MIB / 2, 4 * MIB));
  const made = await offer();
  t.equal(proxy.cuts, 6, 'cut at each of the places');
  t.ok(isStored(clients, made), 'and every byte is there, once and in order');
  t.equal(clients.node.blobs.size, 1, 'under one name');
  t.equal(progress.at(-1), made.call.content.sizeBytes, 'progress ends at the last byte');
  t.same(
    progress,
    progress.toSorted((a, b) => a - b),
    'and goes back for no break',
  );
});

t.test('a node that lost the upload gets another ciphertext', async (t) => {
  const { world, clients, proxy, offer, progress } = await setUp(t, 10 * MIB);
  const restarted = new ClientWorld(world);
  await restarted.start();
  t.teardown(() => restarted.stop());
  proxy.gaps = [6 * MIB];
  proxy.onCut = () => {
    proxy.port = Number(new URL(restarted.url).port);
  };
  const made = await offer();
  t.ok(isStored(restarted, made), 'begun anew, and whole');
  t.equal(clients.node.blobs.size, 0, 'nothing where it began');
  t.ok(progress.filter((done) => done === progress[0]).length > 1, 'from the first part on');
});

t.test('a node that is gone, and one that is never there for long', async (t) => {
  const gone = await setUp(t, 10 * MIB);
  gone.proxy.gaps = [6 * MIB];
  gone.proxy.onCut = () => {
    gone.proxy.port = null;
  };
  const code = codeOf(gone.offer());

  const unsteady = await setUp(t, 10 * MIB);
  const others = [1, 2, 3].map(() => new ClientWorld(unsteady.world));
  for (const other of others) {
    await other.start();
    t.teardown(() => other.stop());
  }
  unsteady.proxy.gaps = [6 * MIB, 6 * MIB, 6 * MIB];
  unsteady.proxy.onCut = () => {
    unsteady.proxy.port = Number(new URL(others[unsteady.proxy.cuts - 1]!.url).port);
  };
  t.equal(await codeOf(unsteady.offer()), 'UPLOAD_UNKNOWN', 'each time it has forgotten what it had');
  t.equal(await code, 'TRANSFER_BROKEN', 'after a few attempts that bring nothing');
});
