/** Shares of a record's key: for a proven grant, of the proven capsule, to the proven key, and of nothing else. */
import t from 'tap';
import { bytesToHex, equalBytes } from '../../common/bytes.ts';
import { decodePoint, encodePoint, GENERATOR, rawToPoint } from '../../common/crypto/curve.ts';
import {
  encodeLabel,
  keyCheckOf,
  openCapsule,
  parseCapsule,
  sealCapsule,
} from '../../common/crypto/custody/capsule.ts';
import { checkReleaseShare, combineShares, unmask } from '../../common/crypto/custody/release-share.ts';
import { requirePrivateKey } from '../../common/crypto/sm2.ts';
import { newPrivateKey } from '../../common/native/sm2-select.ts';
import { custodyShareHash } from '../../common/protocol/custody.ts';
import type { CustodianAnswer, CustodianDemand } from '../../common/protocol/release.ts';
import { stateKey } from '../../common/protocol/state-entries.ts';
import {
  CHAIN,
  createSigner,
  engine,
  type Hospital,
  hospitalOf,
  Ledger,
  NOW,
  random,
  start,
} from './custody-ledger.ts';
import { type GrantedRecord, grantedRecord, RECORD_ID } from './granted-record.ts';

const requesterSecret = newPrivateKey();
const requesterKey = createSigner(requesterSecret).publicKey;
const recordKey = new Uint8Array(32).fill(0x5a);
const codeOf = (answer: CustodianAnswer) => (answer.kind === 'refused' ? answer.code : answer.kind);

async function consortium(t: Parameters<typeof hospitalOf>[0]) {
  const hospitals = await Promise.all(['a', 'b', 'c', 'd'].map((name) => hospitalOf(t, name)));
  const ledger = new Ledger();
  ledger.open(hospitals);
  const epoch = await ledger.complete(hospitals);
  for (const hospital of hospitals) await ledger.ask(hospital);
  return { hospitals, ledger, epoch };
}

/** A record that is sealed under `key`, with a grant. */
function sealed(key: Uint8Array, change: Partial<GrantedRecord> = {}) {
  const label = {
    chainId: CHAIN,
    recordId: RECORD_ID,
    version: 1,
    policyRef: new Uint8Array(32).fill(4),
    ownerId: new Uint8Array(20).fill(9),
    dataDigest: new Uint8Array(32).fill(6),
    keyCheck: keyCheckOf(RECORD_ID, 1, recordKey),
  };
  const X = decodePoint(key)!;
  const bytes = sealCapsule(X, encodeLabel(label), recordKey, random);
  const [u, uBar, e, f] = [
    [0, 33],
    [33, 66],
    [98, 130],
    [130, 162],
  ].map(([from, to]) => bytes.slice(from, to)) as [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
  const record = grantedRecord({
    chainId: CHAIN,
    nowMs: NOW,
    status: 'granted',
    notAfterMs: NOW + 60_000,
    accountStatus: 'active',
    orgStatus: 'active',
    recordOrg: 'hospital-a',
    requesterKey,
    content: {
      capsule: { kind: 'threshold', key, u, uBar, e, f, recovery: null },
      keyCheck: label.keyCheck,
      sidecarHash: new Uint8Array(32),
    },
    ...change,
  });
  const open = (W: Parameters<typeof openCapsule>[1]) => {
    const capsule = parseCapsule(bytes);
    return capsule.ok ? openCapsule(capsule.value, W, X, label) : capsule;
  };
  return { ...record, U: decodePoint(u)!, open };
}

type Sealed = ReturnType<typeof sealed>;

function demandOf(ledger: Ledger, { grantId, entries, prove }: Sealed): Extract<CustodianDemand, { kind: 'share' }> {
  ledger.more.splice(0, ledger.more.length, ...entries);
  const { head, proof } = ledger.state();
  return {
    kind: 'share',
    grantId,
    head: { handovers: [], head },
    ...prove(proof),
    epoch: proof(stateKey.custodyEpoch()),
  };
}

t.test('any three of four open the record, for the requester alone', async (t) => {
  const { hospitals, ledger, epoch } = await consortium(t);
  const record = sealed(epoch.key);
  const context = {
    use: 'custody' as const,
    chainId: CHAIN,
    epoch: 1,
    grantId: record.grantId,
    U: record.U,
    Q: rawToPoint(requesterKey)!,
  };
  const shares = [];
  for (const [k, { custodian, orgId, signer }] of hospitals.entries()) {
    const demand = demandOf(ledger, record);
    const answer = await custodian.answer(demand);
    if (answer.kind !== 'share') throw new Error(codeOf(answer));
    const signed = custodyShareHash(context, orgId, answer.share);
    t.ok(
      engine.verify(signer.publicKey, signed, answer.signature) && equalBytes(answer.custodianKey, signer.publicKey),
    );
    const checked = checkReleaseShare(answer.share, context, {
      index: k + 1,
      X: decodePoint(epoch.holders[k]!.share)!,
    });
    if (!checked.ok) throw new Error(checked.code);
    shares.push(checked.value);
    t.same(await custodian.answer(demandOf(ledger, record)), answer, 'the same bytes each time');
  }
  const q = requirePrivateKey(requesterSecret);
  for (const left of [0, 1, 2, 3]) {
    const opened = record.open(unmask(combineShares(shares.filter((_, k) => k !== left)), q));
    t.ok(opened.ok && equalBytes(opened.value, recordKey), `without that of hospital ${left + 1}`);
  }
  t.notOk(record.open(unmask(combineShares(shares.slice(0, 2)), q)).ok, 'two open nothing');
  t.notOk(record.open(unmask(combineShares(shares.slice(0, 3)), q + 1n)).ok, 'nor does another key');
});

t.test('what is refused, each with its code', async (t) => {
  const { hospitals, ledger, epoch } = await consortium(t);
  const [one] = hospitals as [Hospital];
  const ask = async (record: Sealed): Promise<string> => codeOf(await one.custodian.answer(demandOf(ledger, record)));
  const { capsule, ...rest } = {
    capsule: { kind: 'direct' as const },
    keyCheck: new Uint8Array(16),
    sidecarHash: new Uint8Array(32),
  };
  const otherKey = encodePoint(GENERATOR.multiply(11n));
  const cases: [string, Sealed, string][] = [
    ['pending', sealed(epoch.key, { status: 'pending' }), 'REQUEST_NOT_GRANTED'],
    ['revoked', sealed(epoch.key, { status: 'revoked' }), 'GRANT_REVOKED'],
    ['over by the clock', sealed(epoch.key, { notAfterMs: NOW - 1 }), 'GRANT_EXPIRED'],
    ['the requester is suspended', sealed(epoch.key, { accountStatus: 'suspended' }), 'ACCOUNT_SUSPENDED'],
    ['its hospital is', sealed(epoch.key, { orgStatus: 'suspended' }), 'ORG_SUSPENDED'],
    ['a record in direct custody', sealed(epoch.key, { content: { capsule, ...rest } }), 'CUSTODY_DIRECT'],
    ['a capsule of another key', sealed(otherKey), 'CAPSULE_OTHER_KEY'],
    [
      "a request's key that is none",
      sealed(epoch.key, { requesterKey: new Uint8Array(64).fill(1) }),
      'REQUEST_KEY_INVALID',
    ],
  ];
  for (const [name, record, code] of cases) t.equal(await ask(record), code, name);
  const good = sealed(epoch.key);
  t.equal(await ask(good), 'share');
  const demand = demandOf(ledger, good);
  t.equal(
    codeOf(await one.custodian.answer({ ...demand, grantId: new Uint8Array(32).fill(1) })),
    'STATE_PROOF_MISMATCH',
    'a grant that is not the proven one',
  );
  const other = demandOf(ledger, sealed(epoch.key, { notAfterMs: NOW + 1_000 }));
  const mixed = { ...other, recordVersion: demand.recordVersion };
  t.equal(codeOf(await one.custodian.answer(mixed)), 'STATE_PROOF_MISMATCH', "another state's record");
  t.equal(codeOf(await one.custodian.answer(demand)), 'CUSTODIAN_ROLLBACK', 'and no state from before');
  const stranger = await hospitalOf(t, 'e');
  t.equal(codeOf(await stranger.custodian.answer(demandOf(ledger, good))), 'CUSTODY_NOT_HOLDER');
  const unprepared = await hospitalOf(t, 'b');
  t.equal(codeOf(await unprepared.custodian.answer(demandOf(ledger, good))), 'CUSTODY_NO_SHARE');
  const none = new Ledger();
  none.height = 900;
  t.equal(codeOf(await one.custodian.answer(demandOf(none, good))), 'CUSTODY_NO_EPOCH');
});

t.test('after a handover: shares of the new epoch, also after a restart', async (t) => {
  const { hospitals, ledger, epoch } = await consortium(t);
  const [one] = hospitals as [Hospital];
  const record = sealed(epoch.key);
  const before = await one.custodian.answer(demandOf(ledger, record));
  const hash = ledger.open(hospitals);
  for (const { confirmed } of hospitals) confirmed.add(hash);
  const next = await ledger.complete(hospitals);
  for (const hospital of hospitals) await ledger.ask(hospital);
  one.custodian = await start(one);
  const after = await one.custodian.answer(demandOf(ledger, record));
  if (before.kind !== 'share' || after.kind !== 'share') throw new Error(`${codeOf(before)} ${codeOf(after)}`);
  const Q = rawToPoint(requesterKey)!;
  const checkedIn = (share: Uint8Array, number: number, of: typeof epoch) =>
    checkReleaseShare(
      share,
      { use: 'custody', chainId: CHAIN, epoch: number, grantId: record.grantId, U: record.U, Q },
      { index: 1, X: decodePoint(of.holders[0]!.share)! },
    ).ok;
  t.ok(checkedIn(before.share, 1, epoch) && checkedIn(after.share, 2, next));
  t.notOk(checkedIn(before.share, 2, next) || checkedIn(after.share, 1, epoch), 'shares of two epochs do not mix');
  t.not(bytesToHex(before.share), bytesToHex(after.share));
});
