/** The custodian: it releases for a grant that a certified state proves, and for nothing else. */
import { stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { sm2Decrypt, sm2Encrypt } from '../../common/crypto/sm2-encrypt.ts';
import { newPrivateKey, selectSm2Engine } from '../../common/native/sm2-select.ts';
import { keyCheckOf, wrapPlaintext } from '../../common/protocol/record.ts';
import type { CustodianAnswer, CustodianDemand } from '../../common/protocol/release.ts';
import { releaseSigningHash } from '../../common/protocol/signing.ts';
import type { AccountEntry, OrganisationEntry, RequestEntry } from '../../common/protocol/state-entries.ts';
import { encodeSidecar, sidecarHash } from '../../common/protocol/transaction.ts';
import { sortedValidatorSet } from '../../common/protocol/validator-set.ts';
import { Custodian } from '../../node/custodian/custodian.ts';
import { openMemory } from '../../node/custodian/memory.ts';
import { Seal } from '../../common/native/custody-seal.ts';
import { SealedStore } from '../../common/native/custody-store.ts';
import { certifiedState } from './certified-state.ts';
import { grantedRecord, RECORD_ID } from './granted-record.ts';

const { engine, createSigner, random } = selectSm2Engine();
const CHAIN = new Uint8Array(32).fill(3);
const NOW = 1_790_000_000_000;
const filled = (length: number, value: number) => new Uint8Array(length).fill(value);
const newSigner = () => createSigner(newPrivateKey());

const signers = ['a', 'b', 'c', 'd'].map(() => newSigner());
const validators = sortedValidatorSet(
  signers.map((s, i) => ({
    orgId: `hospital-${'abcd'[i]}`,
    publicKey: s.publicKey,
    address: s.address,
    peerId: `12D3KooW${'abcd'[i]}`,
  })),
);

const custodianSecret = newPrivateKey();
const custodianSigner = createSigner(custodianSecret);
const requesterSecret = newPrivateKey();
const recordKey = filled(32, 0x5a);
const recordId = RECORD_ID;

/** A world in which the grant is good; each test changes one thing. */
interface World {
  status: RequestEntry['status'];
  notAfterMs: number;
  timestampMs: number;
  height: number;
  accountStatus: AccountEntry['status'];
  orgStatus: OrganisationEntry['status'];
  recordOrg: string;
  wrapTo: string;
  wrapPlain: Uint8Array;
  signedBy: readonly number[];
  sidecarEdit: (bytes: Uint8Array) => Uint8Array;
}

const good: World = {
  status: 'granted',
  notAfterMs: NOW + 60_000,
  timestampMs: NOW - 1_000,
  height: 50,
  accountStatus: 'active',
  orgStatus: 'active',
  recordOrg: 'hospital-a',
  wrapTo: 'hospital-a',
  wrapPlain: wrapPlaintext(recordKey, recordId, 1),
  signedBy: [0, 1, 2],
  sidecarEdit: (bytes) => bytes,
};

type Demand = Extract<CustodianDemand, { readonly kind: 'release' }>;

function demandOf(change: Partial<World>): { demand: Demand; grantId: Uint8Array } {
  const world = { ...good, ...change };
  const sidecar = encodeSidecar({
    kind: 'wraps',
    wraps: [
      {
        to: { kind: 'custodian', orgId: world.wrapTo },
        ciphertext: sm2Encrypt(custodianSigner.publicKey, world.wrapPlain, random),
      },
    ],
  });
  const { grantId, entries, prove } = grantedRecord({
    ...world,
    chainId: CHAIN,
    nowMs: NOW,
    requesterKey: createSigner(requesterSecret).publicKey,
    content: {
      capsule: { kind: 'direct' },
      keyCheck: keyCheckOf(recordId, 1, recordKey),
      sidecarHash: sidecarHash(sidecar),
    },
  });
  const { height, timestampMs, signedBy } = world;
  const { head, proof } = certifiedState({
    chainId: CHAIN,
    validators,
    signers,
    signedBy,
    entries,
    height,
    timestampMs,
  });
  return {
    grantId,
    demand: {
      kind: 'release',
      grantId,
      head: { handovers: [], head },
      ...prove(proof),
      sidecar: world.sidecarEdit(sidecar),
    },
  };
}

/** Of a custodian that is in no custody session: test/unit/custodian-session.test.ts has those that are. */
const custodyOf = {
  genesis: null,
  store: await SealedStore.open(t.testdir({}), new Seal(CHAIN, custodianSecret, random)),
  confirmedSets: () => Promise.resolve(new Set<string>()),
};

function custodian(nowMs = NOW, seenHeight = 0) {
  const memory = {
    seenHeight,
    async remember(height: number) {
      memory.seenHeight = Math.max(memory.seenHeight, height);
    },
  };
  return new Custodian({
    orgId: 'hospital-a',
    trusted: { chainId: CHAIN, fromHeight: 1, validators },
    privateKey: custodianSecret,
    signer: custodianSigner,
    engine,
    random,
    memory,
    ...custodyOf,
    nowMs: () => nowMs,
  });
}

const codeOf = (answer: CustodianAnswer) => (answer.kind === 'refused' ? answer.code : answer.kind.toUpperCase());

t.test('a proven grant is released to the fresh key of its request, always with the same bytes', async (t) => {
  const keeper = custodian();
  const { demand, grantId } = demandOf({});
  const answer = await keeper.answer(demand);
  if (answer.kind !== 'released') throw new Error(codeOf(answer));
  const opened = sm2Decrypt(requesterSecret, answer.wrapped);
  t.ok(
    opened.ok && Buffer.from(opened.value).equals(Buffer.from(good.wrapPlain)),
    'the requester opens the record key',
  );
  t.equal(sm2Decrypt(newPrivateKey(), answer.wrapped).ok, false, 'nobody else does');
  t.ok(
    engine.verify(
      answer.custodianKey,
      releaseSigningHash(CHAIN, grantId, 'hospital-a', answer.wrapped),
      answer.signature,
    ),
    'signed',
  );
  t.same(await keeper.answer(demand), answer, 'idempotent');
});

t.test('everything else is refused, each with its code', async (t) => {
  const cases: [string, Partial<World>, string][] = [
    ['pending', { status: 'pending' }, 'REQUEST_NOT_GRANTED'],
    ['denied', { status: 'denied' }, 'REQUEST_NOT_GRANTED'],
    ['revoked', { status: 'revoked' }, 'GRANT_REVOKED'],
    ['ended', { status: 'ended' }, 'GRANT_EXPIRED'],
    ["over by the custodian's clock, though not yet swept", { notAfterMs: NOW - 1 }, 'GRANT_EXPIRED'],
    ['requester suspended after the grant', { accountStatus: 'suspended' }, 'ACCOUNT_SUSPENDED'],
    ["requester's organisation suspended after the grant", { orgStatus: 'suspended' }, 'ORG_SUSPENDED'],
    ['two of four signatures', { signedBy: [0, 1] }, 'CERTIFICATE_QUORUM'],
    ['one signature three times', { signedBy: [1, 1, 1] }, 'CERTIFICATE_SIGNERS'],
    ['an old block', { timestampMs: NOW - 91_000 }, 'CUSTODIAN_STALE_STATE'],
    ['a block from the future', { timestampMs: NOW + 11_000 }, 'CUSTODIAN_STALE_STATE'],
    ["another hospital's record", { recordOrg: 'hospital-b' }, 'WRONG_CUSTODIAN'],
    ['no wrap for this custodian', { wrapTo: 'hospital-b' }, 'WRAP_MISSING'],
    ['a wrap of the key of something else', { wrapPlain: wrapPlaintext(recordKey, filled(32, 9), 1) }, 'WRAP_INVALID'],
    ['a wrap of another key', { wrapPlain: wrapPlaintext(filled(32, 9), recordId, 1) }, 'WRAP_INVALID'],
    ['another sidecar', { sidecarEdit: (b) => Uint8Array.from([...b, 0]) }, 'SIDECAR_MISMATCH'],
  ];
  for (const [name, change, code] of cases)
    t.equal(codeOf(await custodian().answer(demandOf(change).demand)), code, name);
});

t.test('proofs and heads that do not belong together', async (t) => {
  const { demand } = demandOf({});
  const revoked = demandOf({ status: 'revoked', height: 51 }).demand;
  t.equal(
    codeOf(await custodian().answer({ ...revoked, request: demand.request })),
    'STATE_PROOF_MISMATCH',
    'a granted entry of an older state',
  );
  const other = demandOf({ notAfterMs: NOW + 1 }).demand;
  t.not(
    codeOf(await custodian().answer({ ...demand, grantId: other.grantId })),
    'RELEASED',
    'the grant id of another request',
  );
  const wrongChain = new Custodian({
    orgId: 'hospital-a',
    trusted: { chainId: filled(32, 9), fromHeight: 1, validators },
    privateKey: custodianSecret,
    signer: custodianSigner,
    engine,
    random,
    memory: { seenHeight: 0, remember: async () => undefined },
    ...custodyOf,
    nowMs: () => NOW,
  });
  t.equal(codeOf(await wrongChain.answer(demand)), 'CHAIN_ID_MISMATCH');

  t.equal(
    codeOf(await custodian(NOW, 51).answer(demand)),
    'CUSTODIAN_ROLLBACK',
    'a state from before what it has seen',
  );
  const seen = custodian();
  t.equal(codeOf(await seen.answer(demandOf({ height: 60, status: 'granted' }).demand)), 'RELEASED');
  t.equal(codeOf(await seen.answer(demand)), 'CUSTODIAN_ROLLBACK');
});

t.test('what was seen counts, whatever was answered', async (t) => {
  const { demand } = demandOf({});
  const later: [string, Partial<World>, string][] = [
    ['a revocation', { status: 'revoked' }, 'GRANT_REVOKED'],
    ['a suspension', { accountStatus: 'suspended' }, 'ACCOUNT_SUSPENDED'],
    ['a block that is too old already', { timestampMs: NOW - 91_000 }, 'CUSTODIAN_STALE_STATE'],
    ['a demand without its sidecar', { sidecarEdit: (b) => b.slice(1) }, 'SIDECAR_MISMATCH'],
  ];
  for (const [name, change, code] of later) {
    const keeper = custodian();
    t.equal(codeOf(await keeper.answer(demandOf({ ...change, height: 51 }).demand)), code, name);
    t.equal(codeOf(await keeper.answer(demand)), 'CUSTODIAN_ROLLBACK', 'then the state from before it');
  }
  const keeper = custodian();
  const forged = demandOf({ height: 99, signedBy: [0, 1] }).demand;
  t.equal(codeOf(await keeper.answer(forged)), 'CERTIFICATE_QUORUM');
  t.equal(codeOf(await keeper.answer(demand)), 'RELEASED', 'a head that is not proven counts for nothing');
  const both = await Promise.all([
    keeper.answer(demandOf({ height: 52 }).demand),
    keeper.answer(demandOf({ height: 53, status: 'revoked' }).demand),
  ]);
  t.same(both.map(codeOf), ['CUSTODIAN_ROLLBACK', 'GRANT_REVOKED'], 'nor is a revocation overtaken by what came first');
});

t.test('the height survives a restart, and what is no height is refused', async (t) => {
  const path = join(t.testdir({}), 'custodian-height');
  const first = await openMemory(path);
  t.equal(first.seenHeight, 0, 'a new custodian has seen nothing');
  await Promise.all([first.remember(7), first.remember(9), first.remember(8)]);
  t.equal((await openMemory(path)).seenHeight, 9, 'the highest, whatever the order');
  t.equal((await stat(path)).mode & 0o777, 0o600);
  for (const text of ['', ' ', '-1', '1.5', '1e3', '0x10', 'ten', '9007199254740993', '12 13', '\u0661']) {
    await writeFile(path, text, { mode: 0o600 });
    await t.rejects(openMemory(path), { code: 'CUSTODIAN_MEMORY' }, JSON.stringify(text));
  }
  await writeFile(path, '41\n', { mode: 0o600 });
  t.equal((await openMemory(path)).seenHeight, 41, 'as an operator writes it');
  const gone = await openMemory(join(t.testdir({}), 'no', 'such', 'folder'));
  await t.rejects(gone.remember(1), { code: /^SECRET_FILE_/ });
  await t.rejects(gone.remember(2), { code: /^SECRET_FILE_/ }, 'and nothing is released after that');
});

t.test('a flood is slowed down, and repetition is no flood of answers', async (t) => {
  const keeper = custodian();
  const { demand } = demandOf({ status: 'pending' });
  const codes = new Map<string, number>();
  const ask = async (of: Custodian, what: Demand): Promise<void> => {
    const code = codeOf(await of.answer(what));
    codes.set(code, (codes.get(code) ?? 0) + 1);
  };
  for (let i = 0; i < 210; i += 1) await ask(keeper, demand);
  t.same(Object.fromEntries(codes), { REQUEST_NOT_GRANTED: 200, RATE_LIMITED: 10 });

  codes.clear();
  const other = custodian();
  const many = Array.from({ length: 52 }, (_, i) => demandOf({ notAfterMs: NOW + 60_000 + i }).demand);
  for (let i = 0; i < 60; i += 1) await ask(other, many[0] as Demand);
  for (const each of many) await ask(other, each);
  t.same(Object.fromEntries(codes), { RELEASED: 60 + 50, RATE_LIMITED: 2 }, 'only new answers are dear');
});
