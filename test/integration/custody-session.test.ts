/**
 * Four hospitals whose custodians make a key by themselves and release shares of it: the real state machine and custodians
 * behind their real sockets, driven as nodes drive them; blocks come at once, and the network is in memory.
 */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { bytesToHex, bytesToHex0x } from '../../common/bytes.ts';
import { decodePoint, encodePoint, GENERATOR } from '../../common/crypto/curve.ts';
import {
  encodeLabel,
  keyCheckOf,
  openCapsule,
  parseCapsule,
  sealCapsule,
} from '../../common/crypto/custody/capsule.ts';
import { combineShares, parseReleaseShare, unmask } from '../../common/crypto/custody/release-share.ts';
import { publicKeyOf, requirePrivateKey, type Sm2Signer } from '../../common/crypto/sm2.ts';
import { accept, reject } from '../../common/errors.ts';
import { newPrivateKey, selectSm2Engine } from '../../common/native/sm2-select.ts';
import {
  custodyEpochEntry,
  custodyDemandEntry,
  custodySetHash,
  custodyShareHash,
} from '../../common/protocol/custody.ts';
import { decode, decodeTrusted, encode } from '../../common/codec.ts';
import { type NodeCall, proposalIdOf } from '../../common/protocol/transaction.ts';
import type { Genesis } from '../../common/protocol/genesis.ts';
import {
  type CustodianAnswer,
  MAX_RELEASE_ANSWER_BYTES,
  releaseAnswer,
  releaseCall,
} from '../../common/protocol/release.ts';
import { stateKey } from '../../common/protocol/state-entries.ts';
import { CustodyDriver } from '../../node/custody/custody-driver.ts';
import { CustodyNotes } from '../../node/custody/custody-notes.ts';
import { OwnCustodian } from '../../node/custody/own-custodian.ts';
import { ReleaseService } from '../../node/custody/release-service.ts';
import { silentLog } from '../../node/log.ts';
import type { Member } from '../../node/network/types.ts';
import { custodyStatusHandlers } from '../../rpc/handlers/custody.ts';
import type { ReleaseReply } from '../../rpc/ports.ts';
import type { Service } from '../../rpc/service.ts';
import { StateReads } from '../../rpc/state-reads.ts';
import { CustodianBox } from './custodian-box.ts';
import { MemoryChain, Story } from './memory-chain.ts';
import { consortium, signCall } from './node-consortium.ts';
import { Leap, MortalClock } from './node-clock.ts';
import { MemoryHub } from './node-memory-network.ts';

const { createSigner, engine, random } = selectSm2Engine();
const DEADLINE_MS = 20_000;
t.setTimeout(120_000);

async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const end = performance.now() + DEADLINE_MS;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`not within ${DEADLINE_MS} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

class Hospital extends CustodianBox {
  readonly validator: Sm2Signer;
  readonly notes = new CustodyNotes();
  own!: OwnCustodian;
  driver!: CustodyDriver;
  service!: ReleaseService;

  constructor(orgId: string, secret: Uint8Array, validator: Sm2Signer, dir: string, genesis: Genesis) {
    super(orgId, secret, dir, genesis);
    this.validator = validator;
  }
}

async function setUp(t: Test) {
  const dir = await mkdtemp(join(tmpdir(), 'emr-'));
  const bare = consortium({ timeMs: Date.now() - 600_000 });
  const secrets = new Map(bare.hospitals.map(({ orgId }) => [orgId, newPrivateKey()]));
  const genesis: Genesis = {
    ...bare.genesis,
    organisations: bare.genesis.organisations.map((org) => ({
      ...org,
      custodianKey: publicKeyOf(secrets.get(org.orgId)!),
    })),
  };
  const chain = new MemoryChain(
    genesis,
    bare.hospitals.map(({ validator }) => validator),
  );
  const hub = new MemoryHub();
  const members = genesis.validators.map(({ peerId, orgId, address }): Member => ({
    peerId,
    orgId,
    address,
    role: 'validator',
  }));
  const leap = new Leap();
  const faults: unknown[] = [];
  /** What the chain did not take. */
  const refused: string[] = [];
  const hospitals = bare.hospitals.map(
    ({ orgId, validator }) => new Hospital(orgId, secrets.get(orgId)!, validator, dir, genesis),
  );
  for (const [k, hospital] of hospitals.entries()) {
    const { orgId, validator, notes } = hospital;
    const network = hub.join(members[k]!.peerId);
    network.setMembers(members);
    await network.start();
    hospital.own = new OwnCustodian({ orgId, socket: hospital.socket, chain, state: chain });
    // Whatever a node says is a block of its own.
    const submit = (call: NodeCall) => {
      const validUntilMs = Math.max(Date.now(), chain.head().timestampMs) + 60_000;
      const signed = signCall(chain.chainId(), validator, call, { validUntilMs });
      try {
        chain.commit([signed]);
        return Promise.resolve(accept(signed.hash));
      } catch (error) {
        refused.push((error as Error).message);
        return Promise.resolve(reject('REFUSED', (error as Error).message));
      }
    };
    const executor = {
      get state() {
        return { ...chain.head(), reader: chain.reader } as never;
      },
    };
    hospital.driver = new CustodyDriver({
      orgId,
      clock: new MortalClock(leap),
      log: silentLog,
      executor,
      calls: { submit, waits: () => false },
      own: hospital.own,
      notes,
      isSyncing: () => false,
      isMember: () => true,
      failed: (error) => faults.push(error),
    });
    hospital.service = new ReleaseService({
      orgId,
      own: hospital.own,
      chain,
      state: chain,
      network,
      engine,
      status: () => notes.status,
    });
  }
  chain.onCommitted(({ height }) => {
    void chain.block(height).then((block) => {
      for (const { driver } of hospitals) driver.committed(block!.txs);
    });
  });
  t.teardown(async () => {
    await Promise.all(hospitals.map(({ driver }) => driver.stop()));
    await Promise.all(hospitals.map((hospital) => hospital.down()));
    await rm(dir, { recursive: true, force: true });
  });
  const peerOf = (orgId: string) => members.find((member) => member.orgId === orgId)!.peerId;
  const epoch = () => {
    const found = chain.reader.get(stateKey.custodyEpoch());
    return found === undefined ? null : decodeTrusted(custodyEpochEntry, found, 'epoch');
  };
  return {
    dir,
    bare,
    chain,
    hub,
    members,
    hospitals: hospitals as [Hospital, Hospital, Hospital, Hospital],
    faults,
    refused,
    leap,
    epoch,
    peerOf,
    networkOf: (orgId: string) => hub.nodes.get(peerOf(orgId))!,
  };
}

type Setting = Awaited<ReturnType<typeof setUp>>;

/** A record that is sealed under the shared key, and asked for by somebody of the second hospital. */
function requestedRecord({ chain, bare, epoch }: Setting) {
  const people = bare.hospitals.map(({ orgId, admin }) => ({ orgId, signer: admin }));
  const story = new Story(chain, people[0]!, createSigner(newPrivateKey()), { custodian: true });
  const nonce = new Uint8Array(random(16));
  const recordId = story.recordId(nonce);
  const recordKey = newPrivateKey();
  const blob = { cid: Uint8Array.from([1, 0x55, 0x12, 32, ...nonce, ...nonce]), sizeBytes: 4096, dataDigest: recordId };
  const label = {
    chainId: chain.chainId(),
    recordId,
    version: 1,
    policyRef: story.policyRef,
    ownerId: story.patient.address,
    dataDigest: blob.dataDigest,
    keyCheck: keyCheckOf(recordId, 1, recordKey),
  };
  const key = epoch()!.key;
  const X = decodePoint(key)!;
  const bytes = sealCapsule(X, encodeLabel(label), recordKey, random);
  const capsule = {
    kind: 'threshold' as const,
    key,
    u: bytes.slice(0, 33),
    uBar: bytes.slice(33, 66),
    e: bytes.slice(98, 130),
    f: bytes.slice(130),
    recovery: null,
  };
  chain.commit([story.record(blob, { nonce, keyCheck: label.keyCheck, sealed: { capsule, c: bytes.slice(66, 98) } })]);
  const requestKey = newPrivateKey();
  const requester = people[1]!;
  const grantId = story.ask(recordId, requester, publicKeyOf(requestKey));
  /** What the requester makes of some shares. */
  const open = (shares: readonly Uint8Array[]): boolean => {
    const parsed = shares.map((share) => parseReleaseShare(share)).flatMap((share) => (share.ok ? [share.value] : []));
    const opened = parseCapsule(bytes);
    if (!opened.ok) return false;
    const W = unmask(combineShares(parsed), requirePrivateKey(requestKey));
    const key = openCapsule(opened.value, W, X, label);
    return key.ok && bytesToHex(key.value) === bytesToHex(recordKey);
  };
  return { grantId, story, requester, open };
}

/** And granted by the patient. */
function grantedRecord(setting: Setting) {
  const asked = requestedRecord(setting);
  asked.story.approve(asked.grantId);
  return asked;
}

/** As the RPC of a hospital's node shows it. */
const statusAt = ({ chain }: Setting, { service }: Hospital) => {
  const { custody_getStatus } = custodyStatusHandlers({
    reads: new StateReads(chain),
    ports: { custody: service },
  } as unknown as Service);
  return Promise.resolve(custody_getStatus({}, undefined as never));
};

async function releaseBy({ service }: Hospital, grantId: Uint8Array): Promise<ReleaseReply[]> {
  const replies: ReleaseReply[] = [];
  for await (const reply of service.release(grantId, AbortSignal.timeout(DEADLINE_MS))) replies.push(reply);
  return replies;
}
const sharesOf = (replies: readonly ReleaseReply[]) => replies.flatMap((r) => (r.kind === 'share' ? [r.share] : []));
const refusalsOf = (replies: readonly ReleaseReply[]) =>
  replies.flatMap((r) => (r.kind === 'refused' || r.kind === 'falseShare' ? [[r.orgId, r.code]] : []));

const byOrg = ([a]: string[], [b]: string[]) => (a! < b! ? -1 : 1);

async function withKey(t: Test): Promise<Setting> {
  const setting = await setUp(t);
  for (const hospital of setting.hospitals) {
    await hospital.up();
    hospital.driver.start();
  }
  await until('the key is made', () => setting.epoch() !== null);
  return setting;
}

t.test('from the genesis on the custodians make a key, without a hand from anybody', async (t) => {
  const setting = await setUp(t);
  const { hospitals, chain, epoch } = setting;
  for (const hospital of hospitals) hospital.driver.start();
  await until('all nodes have noticed', () => hospitals.every(({ notes }) => notes.status.state === 'unreachable'));
  t.match(hospitals[0].notes.concern, /without this hospital.*must start it/, 'a custodian that is not started');
  t.equal(chain.head().height, 0, 'nothing is said, so that no block is made');
  for (const hospital of hospitals.slice(0, 3)) await hospital.up();
  await until('three have announced', () => chain.head().height === 3);
  t.equal(epoch(), null, 'the key waits for the fourth');
  const last = hospitals[3].orgId;
  t.match(await statusAt(setting, hospitals[0]), {
    epoch: null,
    session: {
      kind: 'genesis',
      epoch: 1,
      phase: 'announce',
      threshold: 3,
      missing: [last],
      dealt: [],
      override: false,
    },
    custodian: { state: 'answers', waitsFor: null, code: null },
  });
  t.match((await statusAt(setting, hospitals[3])).custodian, { state: 'unreachable', code: 'CUSTODIAN_UNAVAILABLE' });
  await hospitals[3].up();
  await until('the key is made', () => epoch() !== null);
  const made = epoch()!;
  t.equal(made.epoch, 1);
  t.equal(made.threshold, 3);
  const shown = await statusAt(setting, hospitals[0]);
  t.match(shown, { session: null, epoch: { epoch: 1, threshold: 3, key: bytesToHex0x(made.key) } });
  t.equal(shown.epoch?.holders.length, 4);
  t.same(
    made.holders.map(({ orgId }) => orgId),
    setting.members.map(({ orgId }) => orgId),
  );
  t.equal(chain.head().height, 12, 'three words of each');
  await until('all have erased what they need no more', async () => {
    const files = await Promise.all(hospitals.map(({ dir }) => readdir(join(dir, 'custody'))));
    return files.every((names) => names.length === 1 && names[0]!.startsWith('share-'));
  });
  for (const { notes } of hospitals) t.equal(notes.concern, null);

  const [{ notes }] = hospitals;
  await hospitals[0].down();
  setting.leap.by(31_000);
  await until('a custodian that has gone is seen, before anybody asks it', () => notes.concern !== null);
  t.match((await statusAt(setting, hospitals[0])).custodian, { state: 'unreachable' });
  await hospitals[0].up();
  await until('and that it is back', () => notes.concern === null);
  t.same(setting.faults, []);
});

t.test('a release: any three of four, whoever is down, slow or lies', async (t) => {
  const setting = await withKey(t);
  const { hospitals, chain } = setting;
  const [a, b, c, d] = hospitals;
  const granted = grantedRecord(setting);
  const { grantId } = granted;

  await t.test('all are there', async (t) => {
    const replies = await releaseBy(b, grantId);
    t.equal(sharesOf(replies).length, 3, 'as many as it takes and no more');
    t.ok(granted.open(sharesOf(replies)));
    t.notOk(granted.open(sharesOf(replies).slice(1)), 'fewer open nothing');
    t.same(refusalsOf(await releaseBy(b, new Uint8Array(32))), [[b.orgId, 'GRANT_NOT_FOUND']]);
  });

  await t.test('one custodian is down', async (t) => {
    await a.down();
    const replies = await releaseBy(b, grantId);
    t.equal(sharesOf(replies).length, 3);
    t.ok(granted.open(sharesOf(replies)), "also the writer's");
    await a.up();
  });

  await t.test('one answers nothing', async (t) => {
    let answered: () => void = () => {};
    const never = new Promise<CustodianAnswer>(
      (resolve) => (answered = () => resolve({ kind: 'refused', orgId: c.orgId, code: 'X', message: 'x' })),
    );
    c.bend = () => never;
    const beganMs = performance.now();
    t.ok(granted.open(sharesOf(await releaseBy(b, grantId))));
    t.ok(performance.now() - beganMs < 2_000, 'and nobody waits for it');
    answered();
    c.bend = (answer) => answer;
    await until('it answers again', async () => (await c.own.release(grantId)).kind === 'share');
  });

  await t.test('one lies, and is named', async (t) => {
    const bent = (change: (share: Uint8Array) => void) => (answer: CustodianAnswer) => {
      if (answer.kind !== 'share') return answer;
      const share = Uint8Array.from(answer.share);
      change(share);
      const signed = custodyShareHash({ chainId: chain.chainId(), epoch: 1, grantId }, d.orgId, share);
      return { ...answer, share, signature: createSigner(d.secret).sign(signed) };
    };
    const lies: [string, string, (answer: CustodianAnswer) => CustodianAnswer][] = [
      ['another point', 'SHARE_FALSE', bent((share) => share.set(encodePoint(GENERATOR.multiply(3n)), 35))],
      ["another's index", 'SHARE_FALSE', bent((share) => (share[1] = 1))],
      ['no share', 'SHARE_FALSE', bent((share) => share.fill(0xff))],
      [
        'a signature of nobody',
        'SHARE_UNSIGNED',
        (answer) => ({ ...answer, signature: new Uint8Array(64).fill(1) }) as CustodianAnswer,
      ],
    ];
    // Without the liar there are just enough: all three others have to answer for it to end.
    for (const [name, code, lie] of lies) {
      d.bend = lie;
      await a.down();
      const replies = await releaseBy(b, grantId);
      await a.up();
      t.equal(sharesOf(replies).length, 2, name);
      t.same(
        refusalsOf(replies).sort(byOrg),
        [
          [a.orgId, 'CUSTODIAN_UNAVAILABLE'],
          [d.orgId, code],
        ].sort(byOrg),
      );
      t.ok(granted.open(sharesOf(await releaseBy(b, grantId))), 'with the others it is read');
    }
    d.bend = (answer) => answer;
  });

  await t.test('two are down: not before one returns', async (t) => {
    await a.down();
    await c.down();
    const replies = await releaseBy(b, grantId);
    t.equal(sharesOf(replies).length, 2);
    t.same(refusalsOf(replies).length, 2);
    t.notOk(granted.open(sharesOf(replies)));
    await c.up();
    t.ok(granted.open(sharesOf(await releaseBy(b, grantId))));
    await a.up();
  });

  await t.test('a node that has the grant a moment later than the one that asks', async (t) => {
    const later = requestedRecord(setting);
    const from = setting.networkOf(b.orgId);
    const answers = from.request(setting.peerOf(c.orgId), 'release', encode(releaseCall, { grantId: later.grantId }), {
      maxFrames: 1,
      maxFrameBytes: MAX_RELEASE_ANSWER_BYTES,
    });
    const first = answers.next();
    await new Promise((resolve) => setImmediate(resolve));
    later.story.approve(later.grantId);
    const { value } = await first;
    const answer = decode(releaseAnswer, value as Uint8Array, MAX_RELEASE_ANSWER_BYTES);
    t.equal(answer.ok && answer.value.kind, 'share', 'it waits for the block');
  });

  await t.test('revoked: nobody releases it any more', async (t) => {
    granted.story.revoke(grantId);
    for (const hospital of hospitals) {
      const replies = await releaseBy(hospital, grantId);
      t.same(refusalsOf(replies), [[hospital.orgId, 'GRANT_REVOKED']]);
      const answer = await hospital.own.release(grantId);
      t.equal(answer.kind === 'refused' && answer.code, 'GRANT_REVOKED');
    }
  });
  t.same(setting.faults, []);
});

t.test('a demand on the chain is answered there', async (t) => {
  const setting = await withKey(t);
  const { chain, hospitals } = setting;
  const granted = grantedRecord(setting);
  await hospitals[0].down();
  chain.commit([granted.story.sign(granted.requester.signer, { kind: 'access.demand', requestHash: granted.grantId })]);
  const posted = () => {
    const found = chain.reader.get(stateKey.custodyDemand(granted.grantId));
    return decodeTrusted(custodyDemandEntry, found!, 'demand').shares;
  };
  await until('those who can have posted their shares', () => posted().length === 3);
  t.ok(granted.open(posted().map(({ share }) => share)));
  await hospitals[0].up();
  await until('whoever returns posts it too', () => posted().length === 4);
  t.same(setting.faults, []);
});

t.test('new shares by vote, once the operators have confirmed the set', async (t) => {
  const setting = await withKey(t);
  const { chain, hospitals, epoch, bare } = setting;
  const before = epoch()!;
  const granted = grantedRecord(setting);
  const receivers = hospitals.map(({ orgId, secret }) => ({ orgId, custodianKey: publicKeyOf(secret) }));
  const sorted = setting.members.map(({ orgId }) => receivers.find((one) => one.orgId === orgId)!);
  const setHash = bytesToHex0x(custodySetHash(sorted));
  const proposer = bare.hospitals[0]!.admin;
  const nonce = new Uint8Array(16).fill(5);
  const proposal = { kind: 'refreshCustody' as const };
  const proposalId = proposalIdOf(chain.chainId(), proposer.address, nonce, proposal);
  chain.commit([granted.story.sign(proposer, { kind: 'gov.propose', proposal, nonce })]);
  for (const { admin } of bare.hospitals.slice(0, 3)) {
    chain.commit([granted.story.sign(admin, { kind: 'gov.vote', proposalId, approve: true })]);
  }
  const { governanceDelayMs } = setting.hospitals[0].genesis.params;
  chain.commit([], chain.head().timestampMs + governanceDelayMs + 1);
  await until('they wait for their operators', () => hospitals.every(({ notes }) => notes.status.waitsFor !== null));
  t.match(hospitals[0].notes.concern, `emrchain custody confirm ${setHash} --dir DIR`);
  for (const { confirmed } of hospitals) confirmed.add(setHash);
  await until('new shares are in use', () => epoch()!.epoch === 2);
  t.same(epoch()!.key, before.key, 'of the same key');
  t.notSame(epoch()!.holders, before.holders);
  await until('the old ones are erased', async () => {
    const names = await Promise.all(hospitals.map(({ dir }) => readdir(join(dir, 'custody'))));
    return names.every((files) => files.length === 1);
  });
  const file = await readFile(
    join(hospitals[0].dir, 'custody', (await readdir(join(hospitals[0].dir, 'custody')))[0]!),
  );
  t.equal(file.length, 32 + 69, 'a scalar and its seal');
});
