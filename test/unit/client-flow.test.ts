/** A record written, shared and read by three clients, over a real RPC server; and what they refuse. */
import { createHash, randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { decide, deliver, provenRequest, requestAccess } from '../../client/access.ts';
import { provenPolicy } from '../../client/policies.ts';
import { awaitReplicas, type NewRecord, prepareOffer, submitOffer } from '../../client/record-add.ts';
import { fetchRecord, findGrant, grantedKey, ownKey, provenRecord } from '../../client/record-get.ts';
import {
  checkOffer,
  consentTo,
  readConsent,
  readOffer,
  type RecordOffer,
  subjectOf,
  writeConsent,
  writeOffer,
} from '../../client/record-offer.ts';
import { revocationStatus } from '../../client/revocation.ts';
import { findStoredRequest, listStoredRequests, openRequestKey, pruneRequestKeys } from '../../client/request-keys.ts';
import { encodeSidecar, sidecarHash } from '../../common/protocol/transaction.ts';
import { sm2Encrypt } from '../../common/crypto/sm2-encrypt.ts';
import { systemRandom } from '../../common/native/sm2-openssl.ts';
import { wrapPlaintext } from '../../common/protocol/record.ts';
import { ChainWorld } from '../integration/rpc-fixture.ts';
import { A, all, attending, B, by, DAY, HOUR, owner, token } from './vm-world.ts';
import { ClientWorld, codeOf } from './client-world.ts';

const people = {
  alice: { org: A, roles: ['physician' as const] },
  bob: { org: B, roles: ['physician' as const] },
  hans: { org: A, roles: ['department_head' as const] },
};

async function consortium() {
  const world = new ChainWorld(people);
  world.patient('paula');
  world.attend('paula', 'alice');
  world.pass(HOUR);
  const policyRef = world.policy(all(owner, attending, by('department_head', 'writer')));
  const clients = new ClientWorld(world);
  await clients.start();
  return { world, clients, policyRef };
}

function sample(folder: string, bytes: Uint8Array, name = 'scan.dcm'): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

const options = (clients: ClientWorld) => ({ nowMs: clients.nowMs });

t.test('from the physician to the reader in another hospital', async (t) => {
  const { world, clients, policyRef } = await consortium();
  t.teardown(() => clients.stop());
  const [alice, paula, bob] = [
    await clients.client('alice'),
    await clients.client('paula'),
    await clients.client('bob'),
  ];
  const folder = clients.folder();
  const bytes = randomBytes(300_000);
  const record: NewRecord = {
    path: sample(folder, bytes),
    contentType: 'application/dicom',
    policyRef,
    categoryToken: token('imaging'),
    target: { kind: 'new', owner: paula.key.account, section: 'imaging' },
  };
  const writer = { account: alice.key.account, signer: alice.key.signer };
  const seen: number[] = [];
  const offer = await prepareOffer(alice.view, writer, record, {
    ...options(clients),
    progress: (done) => void seen.push(done),
  });
  t.ok(seen.length > 0 && seen.at(-1) === offer.call.content.sizeBytes, 'progress is told up to the last byte');

  const { recordId } = subjectOf(offer);
  const offerPath = join(folder, 'offer.json');
  const consentPath = join(folder, 'consent.json');
  await writeOffer(offerPath, offer);

  await t.test('the patient checks the offer before the signature', async (t) => {
    const received = await readOffer(offerPath, paula.view.node.chainId);
    const policy = await provenPolicy(paula.view, received.call.content.policyRef);
    t.doesNotThrow(() => checkOffer(received, paula.key, policy.document, null));
    t.throws(() => checkOffer(received, bob.key, policy.document, null), { code: 'OFFER_NOT_YOURS' });

    const wrongKey = wrapPlaintext(new Uint8Array(32).fill(1), recordId, 1);
    const foreign = wrapPlaintext(new Uint8Array(32).fill(1), token('another record'), 1);
    for (const plain of [wrongKey, foreign]) {
      const sidecar = encodeSidecar({
        kind: 'wraps',
        wraps: [{ to: { kind: 'patient' }, ciphertext: sm2Encrypt(paula.key.publicKey, plain, systemRandom) }],
      });
      const content = { ...received.call.content, sidecarHash: sidecarHash(sidecar) };
      const forged = { ...received, sidecar, call: { ...received.call, content } } as RecordOffer;
      t.throws(() => checkOffer(forged, paula.key, policy.document, null), { code: 'OFFER_BAD_WRAP' });
    }
    await writeConsent(consentPath, received, consentTo(received, paula.key));
  });

  const consent = await readConsent(consentPath);
  const changed = {
    ...offer,
    call: { ...offer.call, content: { ...offer.call.content, categoryToken: token('x') } },
  } as RecordOffer;
  t.equal(await codeOf(submitOffer(alice.view, writer, changed, consent, options(clients))), 'CONSENT_MISMATCH');
  const byBob = { account: bob.key.account, signer: bob.key.signer };
  t.equal(await codeOf(submitOffer(bob.view, byBob, offer, consent, options(clients))), 'OFFER_NOT_YOURS');

  const submitted = await submitOffer(alice.view, writer, offer, consent, options(clients));
  t.equal(submitted.committed?.proven, true, 'the commit is proven under a certificate');
  t.match(submitted.committed?.events[0], { type: 'record.create' });
  const again = await submitOffer(alice.view, writer, offer, consent, options(clients));
  t.equal(again.committed, null, 'submitting once more changes nothing');

  await t.test('copies count when their receipts verify', async (t) => {
    t.match(
      await awaitReplicas(alice.view, offer, { deadlineMs: 0 }),
      { needed: 1, replicas: [{ orgId: B }] },
      'one of B',
    );
    const own = world.genesis.validators.findIndex(({ orgId }) => orgId === A);
    clients.replicaHolders = [own, own];
    t.equal(
      await codeOf(awaitReplicas(alice.view, offer, { deadlineMs: 0 })),
      'REPLICATION_PENDING',
      'the own does not count',
    );
    clients.replicaHolders = [1];
  });

  const asked = await requestAccess(
    bob.view,
    bob.home,
    bob.key,
    { recordId, purpose: 'TREAT', durationMs: 8 * HOUR },
    options(clients),
  );
  clients.grantId = asked.hash;
  t.equal(
    await codeOf(findGrant(bob.view, bob.home, bob.key.account, recordId, { nowMs: world.now })),
    'REQUEST_NOT_GRANTED',
  );
  for (const name of ['paula', 'alice', 'hans']) {
    const { view, key } = await clients.client(name);
    const { value } = await provenRequest(view, asked.hash);
    const done = await decide(view, key, value, { kind: 'approve' }, options(clients));
    t.equal(
      done.events.some(({ type }) => type === 'access.granted'),
      name === 'hans',
      `${name} approves`,
    );
  }

  const own = await findGrant(bob.view, bob.home, bob.key.account, recordId, { nowMs: world.now });
  const proven = await provenRecord(bob.view, recordId, 1);
  const released = await grantedKey(bob.view, bob.key, own, proven);
  t.equal(released.from, 'the custodian of hospital-a');
  t.same(released.complaints, []);
  const out = join(folder, 'got.dcm');
  const read = await fetchRecord(bob.view, bob.home, proven, released.key, out);
  t.match(read, { name: 'scan.dcm', contentType: 'application/dicom', sizeBytes: bytes.length });
  t.ok(readFileSync(out).equals(bytes), 'the same bytes');
  t.equal(await codeOf(fetchRecord(bob.view, bob.home, proven, released.key, out)), 'FILE_EXISTS');
  t.same(
    readdirSync(folder).filter((name) => name.startsWith('.')),
    [],
    'nothing is left behind',
  );

  await t.test('custodians that lie are named, and the way round them is tried', async (t) => {
    const foreign = (): Uint8Array =>
      sm2Encrypt(asked.request.requesterKey, wrapPlaintext(new Uint8Array(32), recordId, 1), systemRandom);
    clients.node.knobs.release = () => clients.custodian(foreign);
    t.equal(await codeOf(grantedKey(bob.view, bob.key, own, proven)), 'KEY_NOT_RELEASED');
    await grantedKey(bob.view, bob.key, own, proven).catch((error: Error) => {
      t.match(error.message, /custodian of hospital-a SIGNED A WRONG ANSWER/);
    });
    clients.node.knobs.release = async function* () {
      for await (const reply of clients.custodian()) yield { ...reply, signature: new Uint8Array(64) };
    };
    await grantedKey(bob.view, bob.key, own, proven).catch((error: Error) => {
      t.match(error.message, /in the name of hospital-a has a signature that does not verify/);
    });
    clients.node.knobs.release = async function* () {
      yield { kind: 'refused', orgId: A, code: 'CUSTODIAN_UNAVAILABLE', message: 'down\u001b[2J' };
    };
    await grantedKey(bob.view, bob.key, own, proven).catch((error: Error) => {
      t.match(error.message, /refused: CUSTODIAN_UNAVAILABLE, down\\u\{1b\}\[2J/);
    });

    const { value: grant } = await provenRequest(paula.view, asked.hash);
    const recordKey = await ownKey(paula.view, paula.key, await provenRecord(paula.view, recordId));
    await deliver(paula.view, paula.key, grant, recordKey, options(clients));
    const delivered = await grantedKey(bob.view, bob.key, own, proven);
    t.equal(delivered.from, 'the owner');
    t.same(delivered.key, released.key);
  });

  await t.test('the owner reads without a grant, others do not', async (t) => {
    const mine = await provenRecord(paula.view, recordId);
    const key = await ownKey(paula.view, paula.key, mine);
    const path = join(folder, 'own.dcm');
    await fetchRecord(paula.view, paula.home, mine, key, path);
    t.equal(
      createHash('sha256').update(readFileSync(path)).digest('hex'),
      createHash('sha256').update(bytes).digest('hex'),
    );
    t.equal(await codeOf(ownKey(bob.view, bob.key, proven)), 'NOT_THE_OWNER');
  });

  await t.test('revoked is said once a quorum has executed it', async (t) => {
    const { value } = await provenRequest(paula.view, asked.hash);
    await decide(paula.view, paula.key, value, { kind: 'revoke', reason: 'NO_LONGER' }, options(clients));
    clients.node.knobs.executed = [null, 0, 0, 0];
    t.match(await revocationStatus(paula.view, asked.hash), { final: false, quorum: 3 });
    const orgs = world.genesis.validators.map(({ orgId }) => orgId);
    clients.node.knobs.executed = [null, null, null, 0];
    t.match(await revocationStatus(paula.view, asked.hash), { final: true, executedBy: orgs.slice(0, 3) });
    clients.node.knobs.executed = [null, null, null, null];
    clients.node.knobs.signed = [null, null, 0, 0];
    t.match(
      await revocationStatus(paula.view, asked.hash),
      { final: false, executedBy: orgs.slice(0, 2) },
      'what the node claims and nobody signed does not count',
    );
    clients.node.knobs.signed = [null, null, null, null];
    t.equal(
      await codeOf(findGrant(bob.view, bob.home, bob.key.account, recordId, { nowMs: world.now })),
      'GRANT_REVOKED',
    );
  });

  await t.test('the key of a request goes when its time is over', async (t) => {
    const stored = (await findStoredRequest(bob.home, asked.hash))!;
    t.same(openRequestKey(stored, bob.key.privateKey).length, 32);
    t.throws(() => openRequestKey(stored, alice.key.privateKey), { code: 'REQUEST_KEY_LOCKED' });
    t.equal(await pruneRequestKeys(bob.home, world.now), 0);
    t.equal(await pruneRequestKeys(bob.home, asked.request.notAfterMs + DAY), 1);
    t.same(await listStoredRequests(bob.home), []);
  });
});

t.test('ciphertext that was tampered with, and a download that breaks off', async (t) => {
  const { clients, policyRef } = await consortium();
  t.teardown(() => clients.stop());
  const [alice, paula] = [await clients.client('alice'), await clients.client('paula')];
  const folder = clients.folder();
  const bytes = randomBytes(200_000);
  const writer = { account: alice.key.account, signer: alice.key.signer };
  const offer = await prepareOffer(
    alice.view,
    writer,
    {
      path: sample(folder, bytes),
      contentType: '',
      policyRef,
      categoryToken: token('imaging'),
      target: { kind: 'new', owner: paula.key.account, section: 'general' },
    },
    options(clients),
  );
  await submitOffer(alice.view, writer, offer, consentTo(offer, paula.key), options(clients));
  const { recordId } = subjectOf(offer);
  const proven = await provenRecord(paula.view, recordId);
  const key = await ownKey(paula.view, paula.key, proven);
  const [[cid, blob]] = [...clients.node.blobs] as [[string, { bytes: Uint8Array; uploadedBy: Uint8Array | null }]];
  const out = join(folder, 'got');

  const flipped = blob.bytes.slice();
  flipped[70_000] = (flipped[70_000] as number) ^ 1;
  clients.node.blobs.set(cid, { ...blob, bytes: flipped });
  t.equal(await codeOf(fetchRecord(paula.view, paula.home, proven, key, out)), 'CIPHERTEXT_TAMPERED');
  t.notOk(readdirSync(folder).includes('got'), 'no file appears');
  t.same(await paula.home.list('downloads'), [], 'and the next attempt starts anew');
  clients.node.blobs.set(cid, blob);

  // What an earlier attempt left is not fetched again; that it is good, the digest says.
  await paula.home.ensure('downloads');
  writeFileSync(paula.home.file('downloads', `${cid}.part`), blob.bytes.subarray(0, 100_000));
  const fetched: number[] = [];
  await fetchRecord(paula.view, paula.home, proven, key, out, { progress: (done) => void fetched.push(done) });
  t.ok(fetched[0]! > 100_000, 'the download goes on from where it broke off');
  t.ok(readFileSync(out).equals(bytes));

  writeFileSync(paula.home.file('downloads', `${cid}.part`), new Uint8Array(100_000));
  t.equal(await codeOf(fetchRecord(paula.view, paula.home, proven, key, `${out}2`)), 'CIPHERTEXT_TAMPERED');
  await fetchRecord(paula.view, paula.home, proven, key, `${out}2`);
  t.ok(readFileSync(`${out}2`).equals(bytes), 'a bad remainder costs one attempt');
});

t.test('a new version, an empty file, and a policy for the patient alone', async (t) => {
  const { world, clients } = await consortium();
  t.teardown(() => clients.stop());
  const policyRef = world.policy(owner, {}, { custodian: false });
  const [alice, paula] = [await clients.client('alice'), await clients.client('paula')];
  const folder = clients.folder();
  const writer = { account: alice.key.account, signer: alice.key.signer };
  const common = { contentType: 'text/plain', policyRef, categoryToken: token('note') };
  const first = await prepareOffer(
    alice.view,
    writer,
    {
      ...common,
      path: sample(folder, new Uint8Array(0), 'a.txt'),
      target: { kind: 'new', owner: paula.key.account, section: 'general' },
    },
    options(clients),
  );
  const { recordId } = await submitOffer(alice.view, writer, first, consentTo(first, paula.key), options(clients));
  const next = await prepareOffer(
    alice.view,
    writer,
    { ...common, path: sample(folder, Buffer.from('second'), 'b.txt'), target: { kind: 'version', recordId } },
    options(clients),
  );
  t.match(await submitOffer(alice.view, writer, next, consentTo(next, paula.key), options(clients)), { version: 2 });
  for (const [version, text] of [
    [1, ''],
    [2, 'second'],
  ] as const) {
    const proven = await provenRecord(paula.view, recordId, version);
    const out = join(folder, `v${version}`);
    await fetchRecord(paula.view, paula.home, proven, await ownKey(paula.view, paula.key, proven), out);
    t.equal(readFileSync(out, 'utf8'), text);
  }
  t.equal(await codeOf(provenRecord(paula.view, recordId, 3)), 'NOT_FOUND');
});
