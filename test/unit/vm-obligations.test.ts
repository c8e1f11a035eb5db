import t from 'tap';
import { createNobleEngine, createNobleSigner } from '../../common/crypto/sm2.ts';
import { H } from '../../common/crypto/hash.ts';
import { encode } from '../../common/codec.ts';
import { custodyAnnounceHash } from '../../common/protocol/custody.ts';
import { txSigningHash, voteSigningHash } from '../../common/protocol/signing.ts';
import {
  admissionHash,
  attendingCountersignHash,
  enrolmentCountersignHash,
  enrolmentPossessionHash,
  firstAdminEnrolment,
  memberRotationHash,
  ownerWriteHash,
  recoveryCountersignHash,
  recoveryPossessionHash,
  rotationPossessionHash,
} from '../../common/protocol/statements.ts';
import {
  type Call,
  decodeTransaction,
  type Proposal,
  requestHashOf,
  signedTransaction,
  transactionBody,
} from '../../common/protocol/transaction.ts';
import { obligations } from '../../vm/index.ts';
import { A, B, BLANK, newKey, NEVER, nonce, tag, token, World } from './vm-world.ts';

const engine = createNobleEngine();
let draws = 0;
const signerOf = (privateKey: Uint8Array) =>
  createNobleSigner(privateKey, (length) => H('test-random', Uint8Array.of(draws++)).slice(0, length));

const world = new World({ alice: { org: A, roles: ['physician'] }, hans: { org: A, roles: ['department_head'] } });
const paula = world.patient('paula');
const [alice, admin, second] = [world.who('alice'), world.who('admin@a'), world.who('admin@b')];
const { chainId } = world;

/** A transaction with a real signature. */
function signed(from: { id: Uint8Array; privateKey: Uint8Array; publicKey: Uint8Array }, call: Call, chain = chainId) {
  const body = encode(transactionBody, {
    version: 1,
    chainId: chain,
    account: from.id,
    nonce: nonce(),
    validUntilMs: world.now,
    call,
  });
  const signature = signerOf(from.privateKey).sign(txSigningHash(chain, body));
  const tx = decodeTransaction(encode(signedTransaction, { body, publicKey: from.publicKey, signature }));
  if (!tx.ok) throw new Error(tx.message);
  return tx.value;
}

const codesOf = (tx: ReturnType<typeof signed>) =>
  obligations(chainId, tx).map(({ publicKey, message, signature, code }) =>
    engine.verify(publicKey, message, signature) ? 'ok' : code,
  );

const sign = (key: { privateKey: Uint8Array }, hash: Uint8Array) => signerOf(key.privateKey).sign(hash);
const countersign = (hash: Uint8Array) => ({
  account: second.id,
  publicKey: second.publicKey,
  signature: sign(second, hash),
});

t.test('a call without nested signatures owes its own alone', async (t) => {
  t.same(codesOf(signed(admin, { kind: 'account.vetoRecovery' })), ['ok']);
  const call: Call = { kind: 'account.vetoRecovery' };
  t.same(codesOf(signed({ ...admin, privateKey: alice.privateKey }, call)), ['BAD_SIGNATURE']);
});

t.test(
  'a transaction of another chain owes what that chain asks for, so that execution says what is wrong',
  async (t) => {
    t.same(codesOf(signed(admin, { kind: 'account.vetoRecovery' }, token('another chain'))), ['ok']);
  },
);

t.test('enrolment', async (t) => {
  const key = newKey();
  const enrolment = {
    publicKey: key.publicKey,
    orgId: A,
    kind: 'staff' as const,
    personTag: tag('x'),
    custodial: false,
  };
  const call = (possession: Uint8Array, countersignature: ReturnType<typeof countersign>): Call => ({
    kind: 'account.enrol',
    enrolment,
    possession,
    countersignature,
  });
  const possession = sign(key, enrolmentPossessionHash(chainId, enrolment));
  const party = countersign(enrolmentCountersignHash(chainId, enrolment));
  t.same(codesOf(signed(admin, call(possession, party))), ['ok', 'ok', 'ok']);
  t.same(codesOf(signed(admin, call(sign(admin, enrolmentPossessionHash(chainId, enrolment)), party))), [
    'ok',
    'BAD_POSSESSION',
    'ok',
  ]);
  const other = countersign(enrolmentCountersignHash(chainId, { ...enrolment, orgId: B }));
  t.same(codesOf(signed(admin, call(possession, other))), ['ok', 'ok', 'BAD_COUNTERSIGNATURE']);
});

t.test('rotation and recovery: one is not taken for the other', async (t) => {
  const key = newKey();
  const statement = { account: alice.id, newPublicKey: key.publicKey };
  const rotate = (hash: Uint8Array): Call => ({
    kind: 'account.rotate',
    newPublicKey: key.publicKey,
    possession: sign(key, hash),
  });
  t.same(codesOf(signed(alice, rotate(rotationPossessionHash(chainId, statement)))), ['ok', 'ok']);
  t.same(codesOf(signed(alice, rotate(recoveryPossessionHash(chainId, statement)))), ['ok', 'BAD_POSSESSION']);
  const recover: Call = {
    kind: 'account.recover',
    recovery: statement,
    possession: sign(key, recoveryPossessionHash(chainId, statement)),
    countersignature: countersign(recoveryCountersignHash(chainId, statement)),
  };
  t.same(codesOf(signed(admin, recover)), ['ok', 'ok', 'ok']);
  t.same(
    codesOf(signed(admin, { ...recover, countersignature: null })),
    ['ok', 'ok'],
    'execution asks for the second party',
  );
});

t.test('attending, with and without a second party', async (t) => {
  const relation = { patient: paula.id, physician: alice.id, expiresAtMs: NEVER };
  t.same(codesOf(signed(paula, { kind: 'attending.set', relation, countersignature: null })), ['ok']);
  const countersignature = countersign(attendingCountersignHash(chainId, relation));
  t.same(codesOf(signed(alice, { kind: 'attending.set', relation, countersignature })), ['ok', 'ok']);
});

t.test("a custodian's announcement is signed by the custodian", async (t) => {
  const custodian = newKey();
  const [sessionId, key] = [token('session'), new Uint8Array(33).fill(2)];
  const call = (signature: Uint8Array, more: object = {}): Call => ({
    kind: 'node.custodyAnnounce',
    sessionId,
    orgId: A,
    key,
    proof: BLANK,
    custodianKey: custodian.publicKey,
    signature,
    ...more,
  });
  const signature = sign(custodian, custodyAnnounceHash(sessionId, A, key));
  t.same(codesOf(signed(admin, call(signature))), ['ok', 'ok']);
  for (const more of [{ orgId: B }, { sessionId: token('other') }, { key: new Uint8Array(33).fill(3) }]) {
    t.same(codesOf(signed(admin, call(signature, more))), ['ok', 'BAD_CUSTODIAN_SIGNATURE']);
  }
  t.same(codesOf(signed(admin, call(sign(admin, custodyAnnounceHash(sessionId, A, key))))), [
    'ok',
    'BAD_CUSTODIAN_SIGNATURE',
  ]);
});

t.test("the owner's signature covers everything that a record says about itself", async (t) => {
  const draft = world.createCall('paula', token('policy'));
  const ownerSignature = sign(paula, ownerWriteHash(chainId, alice.id, draft));
  const call = { ...draft, content: { ...draft.content, ownerSignature } };
  t.same(codesOf(signed(alice, call)), ['ok', 'ok']);
  t.same(codesOf(signed(admin, call)), ['ok', 'BAD_OWNER_SIGNATURE'], 'for this writer');
  const changed: Partial<typeof call>[] = [
    { hospital: B },
    { sectionClass: 'psychiatry' },
    { nonce: nonce() },
    ...[
      { policyRef: token('other') },
      { cid: new Uint8Array(36) },
      { dataDigest: token('x') },
      { sizeBytes: 1 },
      { categoryToken: token('x') },
      { headerHash: token('x') },
      { keyCheck: new Uint8Array(16).fill(1) },
      { sidecarHash: token('x') },
    ].map((field) => ({ content: { ...call.content, ...field } })),
  ];
  for (const change of changed) t.same(codesOf(signed(alice, { ...call, ...change })), ['ok', 'BAD_OWNER_SIGNATURE']);

  const version = {
    kind: 'record.addVersion' as const,
    recordId: token('record'),
    version: 2,
    owner: paula.id,
    hospital: A,
    sectionClass: 'general' as const,
  };
  const second2 = { ...version, content: draft.content };
  const again = sign(paula, ownerWriteHash(chainId, alice.id, second2));
  const good = { ...second2, content: { ...draft.content, ownerSignature: again } };
  t.same(codesOf(signed(alice, good)), ['ok', 'ok']);
  t.same(codesOf(signed(alice, { ...good, version: 3 })), ['ok', 'BAD_OWNER_SIGNATURE']);
});

t.test("the requester's fresh key signs the hash of the whole request", async (t) => {
  const key = newKey();
  const request = world.request('alice', token('record'), { requesterKey: key.publicKey });
  const possession = sign(key, requestHashOf(chainId, request));
  t.same(codesOf(signed(alice, { kind: 'access.request', request, possession })), ['ok', 'ok']);
  const longer = { ...request, notAfterMs: request.notAfterMs + 1 };
  t.same(codesOf(signed(alice, { kind: 'access.request', request: longer, possession })), ['ok', 'BAD_POSSESSION']);
});

t.test('an organisation joins with an administrator who proves the key', async (t) => {
  const key = newKey();
  const draft = {
    kind: 'addOrganisation' as const,
    orgId: 'hospital-e',
    name: 'E',
    custodianKey: null,
    admin: { publicKey: key.publicKey, personTag: tag('e'), possession: BLANK },
  };
  const possession = sign(key, enrolmentPossessionHash(chainId, firstAdminEnrolment(draft)));
  const proposal = { ...draft, admin: { ...draft.admin, possession } };
  t.same(codesOf(signed(admin, { kind: 'gov.propose', proposal, nonce: nonce() })), ['ok', 'ok']);
  t.same(
    codesOf(signed(admin, { kind: 'gov.propose', proposal: { ...proposal, orgId: 'hospital-f' }, nonce: nonce() })),
    ['ok', 'BAD_POSSESSION'],
  );
  t.same(
    codesOf(
      signed(admin, { kind: 'gov.propose', proposal: { kind: 'suspendOrganisation', orgId: A }, nonce: nonce() }),
    ),
    ['ok'],
  );
});

t.test("a node's card is signed by the key that it names, for this purpose and peer", async (t) => {
  const key = newKey();
  const card = { orgId: A, publicKey: key.publicKey, peerId: '12D3KooWNode', addresses: [] };
  const propose = (proposal: Proposal) => codesOf(signed(admin, { kind: 'gov.propose', proposal, nonce: nonce() }));
  const possession = sign(key, admissionHash(chainId, card));
  t.same(propose({ kind: 'admitObserver', card, possession }), ['ok', 'ok']);
  t.same(propose({ kind: 'admitObserver', card: { ...card, peerId: '12D3KooWThief' }, possession }), [
    'ok',
    'BAD_POSSESSION',
  ]);
  t.same(propose({ kind: 'admitObserver', card: { ...card, orgId: B }, possession }), ['ok', 'BAD_POSSESSION']);
  const address = alice.id;
  t.same(propose({ kind: 'rotateMember', address, card, possession }), ['ok', 'BAD_POSSESSION']);
  const rotation = sign(key, memberRotationHash(chainId, address, card));
  t.same(propose({ kind: 'rotateMember', address, card, possession: rotation }), ['ok', 'ok']);
  t.same(propose({ kind: 'rotateMember', address: admin.id, card, possession: rotation }), ['ok', 'BAD_POSSESSION']);
  t.same(propose({ kind: 'addValidator', orgId: A, address }), ['ok']);
});

t.test('both votes of an evidence are signatures of the accused', async (t) => {
  const [accused, other] = [newKey(), newKey()];
  const vote = (by: typeof accused, digest: Uint8Array, view = 2) => ({
    digest,
    signature: sign(by, voteSigningHash(chainId, 'prepare', 7, view, digest)),
  });
  const call = {
    kind: 'node.evidence' as const,
    publicKey: accused.publicKey,
    vote: 'prepare' as const,
    height: 7,
    view: 2,
    first: vote(accused, token('one')),
    second: vote(accused, token('two')),
  };
  t.same(codesOf(signed(alice, call)), ['ok', 'ok', 'ok']);
  t.same(codesOf(signed(alice, { ...call, second: vote(other, token('two')) })), ['ok', 'ok', 'BAD_EVIDENCE']);
  t.same(codesOf(signed(alice, { ...call, second: vote(accused, token('two'), 3) })), ['ok', 'ok', 'BAD_EVIDENCE']);
  t.same(codesOf(signed(alice, { ...call, height: 8 })), ['ok', 'BAD_EVIDENCE', 'BAD_EVIDENCE']);
  t.same(codesOf(signed(alice, { ...call, vote: 'commit' })), ['ok', 'BAD_EVIDENCE', 'BAD_EVIDENCE']);
});
