/** A record under the key that the custodians share: written, checked by its owner, read from any three of four. */
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { decide, demandedShares, demandShares, provenRequest, requestAccess } from '../../client/access.ts';
import { ChainView } from '../../client/chain-view.ts';
import { ClientError } from '../../client/errors.ts';
import { hexOf } from '../../client/hex.ts';
import type { RpcClient } from '../../client/rpc-client.ts';
import type { MethodName } from '../../rpc/methods.ts';
import { activeEpoch, sealingKeys } from '../../client/custody.ts';
import { provenPolicy } from '../../client/policies.ts';
import { prepareOffer, submitOffer } from '../../client/record-add.ts';
import { fetchRecord, findGrant, grantedKey, ownKey, provenRecord } from '../../client/record-get.ts';
import { checkOffer, consentTo, type RecordOffer, subjectOf } from '../../client/record-offer.ts';
import { judgeShareEvidence } from '../../client/share-evidence.ts';
import { encodeLabel, keyCheckOf, sealCapsule } from '../../common/crypto/custody/capsule.ts';
import { custodyShareHash, splitCapsule } from '../../common/protocol/custody.ts';
import { stateKey } from '../../common/protocol/state-entries.ts';
import { decodeSidecar, encodeSidecar, type Sidecar, sidecarHash } from '../../common/protocol/transaction.ts';
import { createOpensslSigner, systemRandom } from '../../common/native/sm2-openssl.ts';
import { decodePoint } from '../../common/crypto/curve.ts';
import type { ReleaseReply } from '../../rpc/index.ts';
import { ChainWorld } from '../integration/rpc-fixture.ts';
import { ClientWorld, codeOf, privateKeyOf } from './client-world.ts';
import { Custodians, refresh } from './vm-custodians.ts';
import { A, B, C, D, HOUR, ORGS, owner, token } from './vm-world.ts';

const people = {
  alice: { org: A, roles: ['physician' as const] },
  bob: { org: B, roles: ['physician' as const] },
};

/** Four hospitals whose custodians have made their key, and a policy that the owner alone decides by. */
async function consortium(t: Test, { isMade = true, patientWrap = true } = {}) {
  const world = new ChainWorld(people, { governanceDelayMs: 1_000 });
  const custodians = new Custodians(world);
  world.patient('paula');
  if (isMade) custodians.make();
  const policyRef = world.policy(owner, {}, { patientWrap });
  const clients = new ClientWorld(world);
  await clients.start();
  t.teardown(() => clients.stop());
  const [alice, paula, bob] = [
    await clients.client('alice'),
    await clients.client('paula'),
    await clients.client('bob'),
  ];
  const folder = clients.folder();
  const options = { nowMs: clients.nowMs };
  const writer = { account: alice.key.account, signer: alice.key.signer };

  const offerOf = async (bytes: Uint8Array): Promise<RecordOffer> => {
    const path = join(folder, 'scan.dcm');
    writeFileSync(path, bytes);
    const target = { kind: 'new' as const, owner: paula.key.account, section: 'imaging' as const };
    const record = { path, contentType: 'application/dicom', policyRef, categoryToken: token('imaging'), target };
    return prepareOffer(alice.view, writer, record, options);
  };
  const checked = async (offer: RecordOffer): Promise<RecordOffer> => {
    const { document } = await provenPolicy(paula.view, policyRef);
    checkOffer(offer, paula.key, document, await sealingKeys(paula.view, document));
    return offer;
  };
  const write = async (offer: RecordOffer): Promise<Uint8Array> => {
    await submitOffer(alice.view, writer, offer, consentTo(offer, paula.key), options);
    return subjectOf(offer).recordId;
  };
  const granted = async (recordId: Uint8Array): Promise<Uint8Array> => {
    const { hash } = await requestAccess(
      bob.view,
      bob.home,
      bob.key,
      { recordId, purpose: 'TREAT', durationMs: HOUR },
      options,
    );
    const { value } = await provenRequest(paula.view, hash);
    await decide(paula.view, paula.key, value, { kind: 'approve' }, options);
    return hash;
  };
  /** The key as bob obtains it. */
  const read = async (recordId: Uint8Array, hash: Uint8Array) => {
    const own = await findGrant(bob.view, bob.home, bob.key.account, recordId, { hash, nowMs: world.now });
    return grantedKey(bob.view, bob.key, own, await provenRecord(bob.view, recordId));
  };
  /** A custodian's answer, signed as it signs. */
  const share = (orgId: string, hash: Uint8Array, bytes = custodians.releaseShare(orgId, hash).share): SharedReply => {
    const { custodianKey } = world.genesis.organisations.find((one) => one.orgId === orgId)!;
    const signature = createOpensslSigner(privateKeyOf(custodianKey!)).sign(
      custodyShareHash({ chainId: world.chainId, epoch: custodians.epoch.epoch, grantId: hash }, orgId, bytes),
    );
    return { kind: 'share', orgId, share: bytes, signature, custodianKey: custodianKey! };
  };
  const answer = (...replies: ReleaseReply[]): void => {
    clients.node.knobs.release = async function* () {
      yield* replies;
    };
  };
  return {
    world,
    custodians,
    clients,
    alice,
    paula,
    bob,
    folder,
    options,
    offerOf,
    checked,
    write,
    granted,
    read,
    share,
    answer,
  };
}

type SharedReply = Extract<ReleaseReply, { kind: 'share' }>;

const refused = (orgId: string, code: string): ReleaseReply => ({ kind: 'refused', orgId, code, message: 'no' });
const messageOf = async (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'no error',
    (error: Error) => error.message,
  );

t.test('written under the shared key, and read from any three of four', async (t) => {
  const setting = await consortium(t);
  const { alice, paula, bob, offerOf, checked, write, granted, read, share, answer, folder } = setting;
  t.match(await activeEpoch(alice.view), { epoch: 1, threshold: 3 });
  const bytes = randomBytes(10_000);
  const offer = await checked(await offerOf(bytes));
  t.equal(offer.call.content.capsule.kind, 'threshold');
  const sidecar = decodeSidecar(offer.sidecar);
  t.match(sidecar, { ok: true, value: { kind: 'sealed', wraps: [{ to: { kind: 'patient' } }] } }, 'no custodian alone');
  const recordId = await write(offer);
  const hash = await granted(recordId);

  const shares = ORGS.map((orgId) => share(orgId, hash));
  for (const [down, orgId] of ORGS.entries()) {
    answer(...shares.filter((_, at) => at !== down), refused(orgId, 'CUSTODIAN_UNAVAILABLE'));
    const { key, complaints, from } = await read(recordId, hash);
    t.equal(key.length, 32, `without ${orgId}`);
    t.same(complaints, []);
    t.notMatch(from, orgId);
  }
  const { key } = await read(recordId, hash);
  const out = join(folder, 'got.dcm');
  await fetchRecord(bob.view, bob.home, await provenRecord(bob.view, recordId), key, out);
  t.ok(readFileSync(out).equals(bytes), 'the same bytes');
  const own = await ownKey(paula.view, paula.key, await provenRecord(paula.view, recordId));
  t.same(own, key, 'the owner has it from the own wrap');

  answer(shares[0]!, refused(B, 'CUSTODY_NO_SHARE'), shares[2]!);
  const message = await messageOf(read(recordId, hash));
  t.match(message, /2 of the 3 custodians that it takes gave their shares \(hospital-a, hospital-c\)/);
  t.match(message, /hospital-b refused: CUSTODY_NO_SHARE, no; no answer came from hospital-d/);
  t.equal(await codeOf(read(recordId, hash)), 'KEY_NOT_RELEASED');
  answer();
  t.match(
    await messageOf(read(recordId, hash)),
    /0 of the 3 custodians.*no answer came from hospital-., hospital-., hospital-./,
  );
});

t.test('a custodian that lies is named, with the evidence', async (t) => {
  const { custodians, offerOf, write, granted, read, share, answer } = await consortium(t);
  const recordId = await write(await offerOf(randomBytes(100)));
  const other = await write(await offerOf(randomBytes(100)));
  const [hash, elsewhere] = [await granted(recordId), await granted(other)];
  const good = (orgId: string) => share(orgId, hash);
  const replayed = share(B, hash, custodians.releaseShare(B, elsewhere).share);
  answer(good(A), replayed, good(C), good(D));
  const { key, complaints, evidence } = await read(recordId, hash);
  t.equal(key.length, 32, 'the others open it');
  t.match(complaints, [
    /custodian of hospital-b SIGNED A FALSE SHARE for epoch 1.*keep this as evidence: grant 0x.*share 0x.*signature 0x/,
  ]);
  t.equal(complaints.length, 1);
  const [kept] = evidence;
  t.match(kept, { orgId: B, epoch: 1, grantId: hash, share: replayed.share, signature: replayed.signature });
  t.equal(evidence.length, 1);

  // A node that checks says so itself, and passes the evidence on; what it says of a good share is not believed.
  const accused = (of: typeof replayed): ReleaseReply => ({
    ...of,
    kind: 'falseShare',
    code: 'SHARE_FALSE',
    message: 'no',
  });
  answer(good(A), accused(replayed), good(C), good(D));
  t.same((await read(recordId, hash)).evidence, [kept]);
  answer(accused(good(A)), good(C), good(D));
  t.match(await read(recordId, hash), { key, complaints: [], evidence: [] });

  const unsigned = { ...replayed, signature: new Uint8Array(64) } as ReleaseReply;
  answer(good(A), unsigned, good(C), good(D));
  const made = await read(recordId, hash);
  t.match(made.complaints, [/custodian of hospital-b did not sign it for epoch 1; somebody between made it up/]);
  t.same(made.evidence, [], 'which convicts nobody');
  answer(good(A), replayed, good(C));
  t.match(await messageOf(read(recordId, hash)), /2 of the 3.*hospital-b SIGNED A FALSE SHARE/);
});

t.test('evidence is judged by the chain alone', async (t) => {
  const { world, custodians, bob, offerOf, write, granted, share } = await consortium(t);
  const recordId = await write(await offerOf(randomBytes(100)));
  const [hash, elsewhere] = [await granted(recordId), await granted(await write(await offerOf(randomBytes(100))))];
  const custodianKey = world.genesis.organisations.find(({ orgId }) => orgId === B)!.custodianKey!;
  const { capsule } = (await provenRecord(bob.view, recordId)).version.content;
  if (capsule.kind !== 'threshold') throw new Error('not sealed');
  const { requesterKey } = (await provenRequest(bob.view, hash)).value.request;
  const { chainId } = world;
  const ground = { chainId, epoch: custodians.epoch, custodianKey, requesterKey, capsule };
  const answered = share(B, hash, custodians.releaseShare(B, elsewhere).share);
  const evidence = { ...answered, epoch: 1, grantId: hash };
  const codeOfJudging = (change: Partial<typeof evidence>, other: Partial<typeof ground> = {}) => {
    const judged = judgeShareEvidence({ ...evidence, ...change }, { ...ground, ...other }, bob.view.engine);
    return judged.ok ? `convicted, ${judged.value.code}` : judged.code;
  };
  t.equal(codeOfJudging({}), 'convicted, SHARE_PROOF');
  t.equal(codeOfJudging(share(A, hash, answered.share)), 'EVIDENCE_UNSIGNED', "another's signature");
  t.equal(codeOfJudging({ grantId: elsewhere }), 'EVIDENCE_UNSIGNED', 'said of another grant');
  t.equal(codeOfJudging({ share: new Uint8Array(164) }), 'EVIDENCE_UNSIGNED', 'another share');
  t.equal(codeOfJudging(share(B, hash, new Uint8Array(164))), 'convicted, SHARE_MALFORMED', 'nonsense, but signed');
  t.equal(codeOfJudging(share(B, hash)), 'EVIDENCE_SHARE_GOOD');
  t.equal(codeOfJudging({ orgId: 'hospital-z' }), 'EVIDENCE_GROUND');
  const honest = share(B, hash);
  refresh(custodians);
  t.equal(
    codeOfJudging(honest, { epoch: custodians.epoch }),
    'EVIDENCE_GROUND',
    'a share of the epoch before is no lie',
  );
  t.equal(
    codeOfJudging({ ...honest, epoch: 2 }, { epoch: custodians.epoch }),
    'EVIDENCE_UNSIGNED',
    'whatever is claimed',
  );
});

t.test('shares of the epoch before: asked once more', async (t) => {
  const { custodians, clients, offerOf, write, granted, read, share, answer } = await consortium(t);
  const recordId = await write(await offerOf(randomBytes(100)));
  const hash = await granted(recordId);
  const old = ORGS.map((orgId) => share(orgId, hash));
  let asked = 0;
  clients.node.knobs.release = async function* () {
    asked += 1;
    if (asked === 1) {
      yield* old.slice(0, 2);
      refresh(custodians);
    }
    if (asked > 1) yield* ORGS.slice(1).map((orgId) => share(orgId, hash));
  };
  const { key, complaints } = await read(recordId, hash);
  t.equal(key.length, 32);
  t.same(complaints, []);
  t.equal(asked, 2);
  t.equal(custodians.epoch.epoch, 2);
  // Of one epoch each, both would open: the key is the same. Mixed they are of no use.
  const mixed = [old[0]!, ...ORGS.slice(1).map((orgId) => share(orgId, hash))];
  answer(...mixed);
  const late = await read(recordId, hash);
  t.match(late.complaints, [/custodian of hospital-a did not sign it for epoch 2; .*or it is of another epoch/]);
  t.same(late.evidence, [], 'being late is no lie');
  answer(...mixed.slice(0, 3));
  t.match(await messageOf(read(recordId, hash)), /2 of the 3.*hospital-a did not sign it for epoch 2/);
});

t.test('what the owner refuses to sign, and the chain to take', async (t) => {
  const { world, custodians, paula, offerOf, checked, write } = await consortium(t);
  const offer = await offerOf(randomBytes(100));
  const opened = decodeSidecar(offer.sidecar);
  if (!opened.ok || opened.value.kind !== 'sealed') throw new Error('not sealed');
  const sealed = opened.value;
  const { content } = offer.call;
  const with_ = (capsule: typeof content.capsule, sidecar: Sidecar): RecordOffer => {
    const bytes = encodeSidecar(sidecar);
    const changed = { ...content, capsule, sidecarHash: sidecarHash(bytes) };
    return { ...offer, sidecar: bytes, call: { ...offer.call, content: changed } };
  };
  const { recordId } = subjectOf(offer);
  const sealedUnder = (X: Uint8Array, id: Uint8Array) => {
    const { policyRef, dataDigest, keyCheck } = content;
    const label = {
      chainId: world.chainId,
      recordId: id,
      version: 1,
      policyRef,
      ownerId: paula.key.account,
      dataDigest,
      keyCheck,
    };
    const made = splitCapsule(X, sealCapsule(decodePoint(X)!, encodeLabel(label), new Uint8Array(32), systemRandom));
    return with_({ kind: 'threshold', ...made.sealed, recovery: null }, { ...sealed, c: made.c });
  };
  const ownKeyPair = custodians.epoch.holders[0]!.share;
  const cases: [string, RecordOffer, string, string][] = [
    [
      'wrapped to one custodian',
      with_({ kind: 'direct' }, { kind: 'wraps', wraps: [...sealed.wraps] }),
      'OFFER_BAD_CAPSULE',
      'CUSTODIAN_WRAP_REFUSED',
    ],
    ['sealed under another key', sealedUnder(ownKeyPair, recordId), 'OFFER_BAD_CAPSULE', 'CAPSULE_WRONG_KEY'],
    [
      'sealed for another record',
      sealedUnder(custodians.epoch.key, token('other')),
      'OFFER_BAD_CAPSULE',
      'BAD_CAPSULE',
    ],
    [
      'with another C',
      with_(content.capsule, { ...sealed, c: new Uint8Array(32) }),
      'OFFER_BAD_CAPSULE',
      'BAD_CAPSULE',
    ],
    ['without the own wrap', with_(content.capsule, { ...sealed, wraps: [] }), 'OFFER_BAD_WRAP', 'SIDECAR_WRONG_WRAPS'],
  ];
  for (const [name, bad, code, chain] of cases) {
    t.equal(await codeOf(checked(bad)), code, name);
    t.equal(await codeOf(write(bad)), chain, `${name}: the chain`);
  }
  await checked(offer);
});

t.test('a writer that seals another key is blamed by the reader; nobody else is', async (t) => {
  const { world, custodians, paula, offerOf, write, granted, read, share, answer } = await consortium(t, {
    patientWrap: false,
  });
  const offer = await offerOf(randomBytes(100));
  const { content } = offer.call;
  const { recordId } = subjectOf(offer);
  const { policyRef, dataDigest } = content;
  const keyCheck = keyCheckOf(recordId, 1, new Uint8Array(32).fill(1)).slice();
  const label = {
    chainId: world.chainId,
    recordId,
    version: 1,
    policyRef,
    ownerId: paula.key.account,
    dataDigest,
    keyCheck,
  };
  const X = custodians.epoch.key;
  const made = splitCapsule(
    X,
    sealCapsule(decodePoint(X)!, encodeLabel(label), new Uint8Array(32).fill(2), systemRandom),
  );
  const sidecar = encodeSidecar({ kind: 'sealed', c: made.c, recoveryC: null, wraps: [] });
  const changed = {
    ...content,
    keyCheck,
    capsule: { kind: 'threshold', ...made.sealed, recovery: null },
    sidecarHash: sidecarHash(sidecar),
  };
  const cheating = { ...offer, sidecar, call: { ...offer.call, content: changed } } as RecordOffer;
  const hash = await granted(await write(cheating));
  answer(...ORGS.map((orgId) => share(orgId, hash)));
  t.equal(await codeOf(read(recordId, hash)), 'SEALED_WRONG_KEY');
  t.match(
    await messageOf(read(recordId, hash)),
    /gave proven shares, and what was sealed is not the key.*its writer, 0x.* of hospital-a/,
  );
});

t.test('demanded on the chain where custodians refuse', async (t) => {
  const { custodians, bob, offerOf, write, granted, read, share, answer, options } = await consortium(t);
  const recordId = await write(await offerOf(randomBytes(100)));
  const hash = await granted(recordId);
  answer(share(A, hash), refused(B, 'RATE_LIMITED'), refused(C, 'RATE_LIMITED'));
  t.equal(await codeOf(read(recordId, hash)), 'KEY_NOT_RELEASED');
  t.equal(await demandedShares(bob.view, hash), null);
  await demandShares(bob.view, bob.key, (await provenRequest(bob.view, hash)).value, options);
  t.match(await demandedShares(bob.view, hash), { posted: [], needed: 3, epoch: 1 });
  for (const org of [B, C]) custodians.do(org, custodians.releaseShare(org, hash));
  t.match(await demandedShares(bob.view, hash), { posted: [B, C], needed: 3 });
  const { from } = await read(recordId, hash);
  t.match(from, 'the custodians of hospital-b, hospital-c, hospital-a', 'two from the chain, one by answer');
  custodians.do(D, custodians.releaseShare(D, hash));
  answer();
  t.match((await read(recordId, hash)).from, 'hospital-d', 'or all of them from the chain');
});

t.test('until there is a key, records are wrapped; a node cannot say so without proof', async (t) => {
  const { world, alice, offerOf, checked, write } = await consortium(t, { isMade: false });
  t.equal(await activeEpoch(alice.view), null, 'proven to be absent');
  const offer = await checked(await offerOf(randomBytes(100)));
  t.equal(offer.call.content.capsule.kind, 'direct');
  await write(offer);

  const lying = (answer: () => object): ChainView => {
    const { rpc, node, engine } = alice.view;
    const call = async (method: MethodName, params: { key?: string }): Promise<unknown> =>
      method === 'state_get' && params.key === hexOf(stateKey.custodyEpoch())
        ? { key: params.key, value: null, proof: null, atHeight: 1, atHash: hexOf(world.head.hash), ...answer() }
        : rpc.call(method, params);
    return new ChainView(Object.assign(Object.create(rpc) as RpcClient, { call }), node, engine);
  };
  new Custodians(world).make();
  t.match(await activeEpoch(alice.view), { epoch: 1 });
  t.equal((await offerOf(randomBytes(100))).call.content.capsule.kind, 'threshold');
  t.equal(await codeOf(checked(offer)), 'OFFER_BAD_CAPSULE', 'an offer of before is out of date');
  t.equal(await codeOf(activeEpoch(lying(() => ({})))), 'PROOF_MISSING');
  const { proof, atHeight } = await alice.view.rpc.call('state_get', {
    key: hexOf(stateKey.custodySession()),
    prove: true,
  });
  t.equal(
    await codeOf(activeEpoch(lying(() => ({ proof, atHeight })))),
    'PROOF_INVALID',
    'the absence of something else',
  );
  const secretive = (): never => {
    throw new ClientError('PROOF_SHOWS_OTHERS', '', '');
  };
  t.equal(await codeOf(activeEpoch(lying(secretive))), 'PROOF_SHOWS_OTHERS', 'nor refuse to show it');
});
