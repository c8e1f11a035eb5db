/**
 * Four hospitals as processes lose more of their custodians' shares than they can do without. Custodians say so, no vote brings
 * the shares back, and officers of two hospitals open a granted record with the recovery key, which no hospital has.
 */
import { randomBytes } from 'node:crypto';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { hexOf } from '../../client/hex.ts';
import { awaitReplicas } from '../../client/record-add.ts';
import { fetchRecord, findGrant, grantedKey, provenRecord } from '../../client/record-get.ts';
import { subjectOf } from '../../client/record-offer.ts';
import { exportDemand, readDemand, recoveredKey, writePart } from '../../client/recovery-demand.ts';
import {
  announceInFolder,
  dealInFolder,
  finishInFolder,
  planRecoveryKey,
  registrationInFolder,
} from '../../client/recovery-key.ts';
import { openShare } from '../../client/recovery-share.ts';
import { utf8 } from '../../common/bytes.ts';
import { custodyEpochEntry } from '../../common/protocol/custody.ts';
import { activeRecoveryKeyEntry } from '../../common/protocol/recovery-key.ts';
import { stateKey } from '../../common/protocol/state-entries.ts';
import { Consortium } from './consortium.ts';
import { refusalOf } from './refusals.ts';
import { Votes } from './scenarios/votes.ts';
import { until } from './until.ts';

const PASSPHRASE = utf8('an officer of the recovery key');

const consortium = await Consortium.open(t);
const { devnet } = consortium;
const status = async (index: number) => consortium.rpc(index).call('custody_getStatus', {});
await until('the custodians have a key', async () => (await status(0)).epoch);

const [chen, hua, mei, wang, li, zhao, policy] = await Promise.all([
  consortium.staff('chen', 0, ['physician']),
  consortium.staff('hua', 0, ['medical_affairs']),
  consortium.patient('mei', 0),
  consortium.staff('wang', 1, ['physician']),
  consortium.staff('li', 1, ['medical_affairs']),
  consortium.staff('zhao', 2, ['medical_affairs']),
  consortium.policy({ kind: 'owner' }, { recovery: true }),
]);
const officers = [hua, li, zhao];
const at = (...names: string[]): string => join(devnet.dir, ...names);
const folder = at('recovery-key');
const shareOf = ({ name }: { readonly name: string }): string => at(`${name}.share`);

const original = randomBytes(20_000);
await writeFile(at('scan.bin'), original);

/** A custodian listens a moment after its process was started. */
const listening = (orgId: string): Promise<boolean> =>
  until(`the custodian of ${orgId} listens`, () => {
    return new Promise<boolean>((resolve) => {
      const socket = connect(join(devnet.hospital(orgId).dir, 'custodian.sock'), () => resolve(true));
      socket.on('error', () => resolve(false)).on('connect', () => socket.destroy());
    });
  });

async function written(): Promise<Uint8Array> {
  const { offer, call } = await consortium.offer(chen, mei, at('scan.bin'), policy);
  await chen.do(call, offer.sidecar);
  await awaitReplicas(chen.view, offer);
  return subjectOf(offer).recordId;
}

async function granted(recordId: Uint8Array): Promise<Uint8Array> {
  const request = await wang.ask(recordId);
  await mei.decide(request);
  await wang.caughtUp();
  return request;
}

const ownGrant = (recordId: Uint8Array, hash: Uint8Array) =>
  findGrant(wang.view, wang.home, wang.account, recordId, { hash, nowMs: Date.now() });

let early: Uint8Array;
let recordId: Uint8Array;
let request: Uint8Array;

t.test(
  'three officers of three hospitals make a key, any two of whom open a record; the members vote for it',
  async (t) => {
    early = await written();
    const plan = await planRecoveryKey(
      folder,
      wang.view.node.chainId,
      2,
      officers.map(({ hospital, key }) => `${hospital.orgId}:${hexOf(key.publicKey)}`),
    );
    t.equal(plan.holders.length, 3);
    for (const { home, key } of officers) await announceInFolder(home, folder, key);
    for (const { key } of officers) await dealInFolder(folder, key);
    for (const officer of officers) {
      const options = { sharePath: shareOf(officer), passphrase: PASSPHRASE };
      await finishInFolder(officer.home, folder, officer.key, options);
    }
    const registration = await registrationInFolder(folder, wang.view.node.chainId);
    const writers = consortium.admins.map(({ hospital: { orgId }, signer }) => ({ orgId, signer }));
    const votes = new Votes(consortium.admin(0).view, writers);
    await votes.enact([{ kind: 'setRecoveryKey', ...registration }]);
    await wang.caughtUp();
    const active = await wang.view.find(stateKey.activeRecoveryKey(), activeRecoveryKeyEntry, 'the recovery key');
    t.match(active?.value, { version: 1, key: registration.commitment[0] });
    recordId = await written();
    const { version } = await provenRecord(wang.view, recordId);
    const { capsule } = version.content;
    t.same(capsule.kind === 'threshold' && capsule.recovery?.key, registration.commitment[0]);
    request = await granted(recordId);
  },
);

t.test('two of four custodians lose their shares: reading ends with a sentence that says so', async (t) => {
  for (const { orgId, dir } of devnet.hospitals.slice(0, 2)) {
    await devnet.killCustodian(orgId);
    await rm(join(dir, 'custody'), { recursive: true });
    devnet.startCustodian(orgId);
    await listening(orgId);
  }
  const proven = await provenRecord(wang.view, recordId);
  const own = await ownGrant(recordId, request);
  const error = await refusalOf(() => grantedKey(wang.view, wang.key, own, proven));
  t.equal(error.code, 'KEY_NOT_RELEASED');
  t.match(error.message, /2 of the 3 custodians/);
  t.match(error.message, /CUSTODY_NO_SHARE.*CUSTODY_NO_SHARE/);
  t.match(error.remedy, /emrchain recovery export/);
  const epoch = await wang.view.entry(stateKey.custodyEpoch(), custodyEpochEntry, 'the epoch');
  t.equal(epoch.value.threshold, 3);
});

t.test('two officers, each without a network, open it for the requester', async (t) => {
  const proven = await provenRecord(wang.view, recordId);
  const own = await ownGrant(recordId, request);
  await exportDemand(wang.view, own, proven, at('demand'), Date.now());
  const parts: string[] = [];
  for (const officer of [li, zhao]) {
    const share = await openShare(shareOf(officer), PASSPHRASE);
    const shown = await readDemand(at('demand'), share, Date.now());
    t.match(shown, { grantId: request, request: { request: { requester: wang.account } } });
    parts.push(at(`${officer.name}.part`));
    await writePart(shown, share, parts.at(-1)!);
  }
  const few = await refusalOf(() => recoveredKey(wang.view, wang.key, own, proven, parts.slice(0, 1)));
  t.equal(few.code, 'RECOVERY_TOO_FEW');
  const { key, complaints } = await recoveredKey(wang.view, wang.key, own, proven, parts);
  t.same(complaints, []);
  await fetchRecord(wang.view, wang.home, proven, key, at('got.bin'));
  t.ok((await readFile(at('got.bin'))).equals(original), 'the file as it was written');
});

t.test('what was written before there was a recovery key is not opened by it', async (t) => {
  const hash = await granted(early);
  const own = await ownGrant(early, hash);
  const proven = await provenRecord(wang.view, early);
  const error = await refusalOf(() => exportDemand(wang.view, own, proven, at('none'), Date.now()));
  t.equal(error.code, 'RECOVERY_NOT_SEALED');
});

t.test('a revoked grant is exported no more', async (t) => {
  await mei.decide(request, { kind: 'revoke', reason: 'withdrawn' });
  await wang.caughtUp();
  const error = await refusalOf(() => ownGrant(recordId, request));
  t.equal(error.code, 'GRANT_REVOKED');
});

t.test('the processes end', async () => devnet.stop());
