/** A hospital joins and another leaves while the custodians share a key: real nodes, real custodians, one process. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { bytesToHex, bytesToHex0x } from '../../common/bytes.ts';
import { publicKeyOf } from '../../common/crypto/sm2.ts';
import { newPrivateKey } from '../../common/native/sm2-select.ts';
import { custodyEpochEntry, custodySessionEntry, custodySetHash } from '../../common/protocol/custody.ts';
import { stateKey } from '../../common/protocol/state-entries.ts';
import type { Proposal } from '../../common/protocol/transaction.ts';
import { OwnCustodian } from '../../node/custody/own-custodian.ts';
import { silentLog } from '../../node/log.ts';
import type { EmrNode } from '../../node/node.ts';
import { driveCustody } from '../../node/process/custody.ts';
import { createChainPort, createStatePort, hostViewOf } from '../../node/rpc-ports/index.ts';
import { Assembly, seatOf } from './assembly.ts';
import { CustodianBox } from './custodian-box.ts';

t.setTimeout(120_000);

t.test('shares follow the members, and the key stays', async (t) => {
  const secrets = new Map(['a', 'b', 'c', 'd', 'e'].map((name) => [`hospital-${name}`, newPrivateKey()]));
  const founders = [...secrets].filter(([orgId]) => orgId !== 'hospital-e');
  const assembly = new Assembly(
    t,
    { readyTtlMs: 60_000 },
    new Map(founders.map(([orgId, secret]) => [orgId, publicKeyOf(secret)])),
  );
  const { of } = assembly;
  const dir = await mkdtemp(join(tmpdir(), 'emr-'));
  const boxes = new Map(
    [...secrets].map(([orgId, secret]) => [orgId, new CustodianBox(orgId, secret, dir, of.net.genesis)]),
  );
  t.teardown(async () => {
    await Promise.all([...boxes.values()].map((box) => box.down()));
    await rm(dir, { recursive: true, force: true });
  });
  const drive = async (node: EmrNode, orgId: string): Promise<void> => {
    const box = boxes.get(orgId)!;
    await box.up();
    const { store, executor, history } = node;
    const chain = createChainPort({ store, executor, host: hostViewOf(node) });
    const own = new OwnCustodian({ orgId, socket: box.socket, chain, state: createStatePort(executor, history) });
    const driver = driveCustody(node, { orgId, own, log: silentLog, failed: (error) => t.fail(String(error)) });
    driver.start();
    t.teardown(() => driver.stop());
  };
  const epoch = () => assembly.read(custodyEpochEntry, stateKey.custodyEpoch());
  const session = () => assembly.read(custodySessionEntry, stateKey.custodySession());
  const holders = () => epoch()?.holders.map(({ orgId }) => orgId);

  await assembly.start();
  for (const [index, { orgId }] of of.net.hospitals.entries()) await drive(of.node(index), orgId);
  await assembly.wait(() => epoch()?.epoch === 1, 'the first key');
  const { key } = epoch()!;

  const seat = seatOf('e');
  const joining = await of.startAs(seat, await assembly.open('e'));
  // Whom the transactions go through stays until the end.
  const stays = of.net.hospitals[0]!.orgId;
  const leaves = of.net.hospitals[1]!.orgId;
  const voters = of.net.hospitals.map(({ orgId }) => orgId).filter((orgId) => orgId !== leaves);
  await assembly.found(seat, voters, publicKeyOf(secrets.get('hospital-e')!));
  await assembly.enact(assembly.admission(seat), voters);
  await drive(of.node(joining), seat.orgId);
  const add: Proposal = { kind: 'addValidator', orgId: seat.orgId, address: seat.validator.address };
  const added = await assembly.vote(add, voters);
  const notes = () => of.node(0).custody.status;
  await assembly.wait(() => notes().waitsFor !== null, 'the custodians wait for their operators');
  t.equal(assembly.status(added), 'awaitingReady', 'and the vote for them');
  t.match(notes().waitsFor, /5 hospitals \(new: hospital-e; gone: none\)/);
  const setHash = bytesToHex0x(custodySetHash(session()!.receivers));
  for (const box of boxes.values()) box.confirmed.add(setHash);
  await assembly.wait(() => assembly.status(added) === 'effective', 'it votes');
  t.equal(epoch()!.epoch, 2, 'from the same block on it holds a share');
  t.equal(epoch()!.threshold, 4);
  t.same(holders()!.toSorted(), [...secrets.keys()]);
  t.equal(bytesToHex(epoch()!.key), bytesToHex(key), 'of the same key');
  await assembly.signs(seat);

  // The one that leaves says nothing any more, and its custodian is gone.
  await boxes.get(leaves)!.down();
  const removed = await assembly.vote({ kind: 'removeValidator', orgId: leaves }, [...voters, seat.orgId]);
  await assembly.wait(() => session()?.phase === 'deal', 'those who stay have announced');
  const left = bytesToHex0x(custodySetHash(session()!.receivers));
  for (const box of boxes.values()) box.confirmed.add(left);
  await assembly.wait(() => session()?.dealt.length === 4, 'the four have dealt');
  of.leap.by(61_000);
  await assembly.wait(() => assembly.status(removed) === 'effective', 'it is out');
  t.equal(epoch()!.epoch, 3);
  t.notOk(holders()!.includes(leaves));
  t.ok(holders()!.includes(stays));
  t.equal(bytesToHex(epoch()!.key), bytesToHex(key));
  await assembly.agree(t);
});
