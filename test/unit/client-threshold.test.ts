/** From shares to a record's key: any t of n open, whoever lies is named, nothing opens what it was not made for. */
import t from 'tap';
import { custodyKey, openWithShares, type SealedRecord } from '../../client/threshold.ts';
import { bytesToHex, utf8 } from '../../common/bytes.ts';
import { decodePoint, GENERATOR } from '../../common/crypto/curve.ts';
import { type CapsuleLabel, encodeLabel, keyCheckOf, sealCapsule } from '../../common/crypto/custody/capsule.ts';
import { sm3 } from '../../common/crypto/sm3.ts';
import { generatePrivateKey, publicKeyOf } from '../../common/crypto/sm2.ts';
import { systemRandom } from '../../common/native/sm2-openssl.ts';
import { splitCapsule } from '../../common/protocol/custody.ts';
import { sharedCustody, shareOf } from './shared-custody.ts';

const ORGS = ['hospital-a', 'hospital-b', 'hospital-c', 'hospital-d'];
const custody = sharedCustody(ORGS);
const X = decodePoint(custody.epoch.key)!;
const named = (name: string): Uint8Array => sm3(utf8(name));

interface Sealed {
  readonly record: SealedRecord;
  readonly key: Uint8Array;
  readonly requestKey: Uint8Array;
}

/** @param promised the key that the label promises, where it is not the one that is sealed */
function sealed(name: string, promised?: Uint8Array): Sealed {
  const [key, recordId, requestKey] = [named(`key of ${name}`), named(name), generatePrivateKey(systemRandom)];
  const label: CapsuleLabel = {
    chainId: named('chain'),
    recordId,
    version: 1,
    policyRef: named('policy'),
    ownerId: named('owner').slice(0, 20),
    dataDigest: named(`digest of ${name}`),
    keyCheck: keyCheckOf(recordId, 1, promised ?? key),
  };
  const { sealed: capsule, c } = splitCapsule(custody.epoch.key, sealCapsule(X, encodeLabel(label), key, systemRandom));
  const requesterKey = publicKeyOf(requestKey);
  const { chainId } = label;
  const grantId = named(`grant of ${name}`);
  return {
    key,
    requestKey,
    record: { chainId, grantId, requesterKey, sealedUnder: custodyKey(custody.epoch), capsule, c, label },
  };
}

const offer = (of: SealedRecord, orgId: string, change: Parameters<typeof shareOf>[3] = {}) => ({
  holder: orgId,
  share: shareOf(custody, of, orgId, change),
});

function opening({ record, requestKey }: Sealed, offered: Parameters<typeof openWithShares>[1]) {
  const outcome = openWithShares(record, offered, requestKey);
  if (!outcome.ok) throw new Error(outcome.code);
  const { kind, by, rejected } = outcome.value;
  const key = outcome.value.kind === 'opened' ? bytesToHex(outcome.value.key) : null;
  return { kind, by, key, rejected: rejected.map(({ holder, code }) => `${holder} ${code}`) };
}

t.test('any three of four open, two do not', (t) => {
  const own = sealed('record');
  const shares = ORGS.map((orgId) => offer(own.record, orgId));
  for (const without of ORGS) {
    const chosen = shares.filter(({ holder }) => holder !== without);
    const by = chosen.map(({ holder }) => holder);
    const key = bytesToHex(own.key);
    t.same(opening(own, chosen), { kind: 'opened', by, key, rejected: [] }, `without ${without}`);
    t.same(opening(own, [...chosen].reverse()).key, key, 'in any order');
  }
  for (const chosen of [[], [0], [0, 1], [2, 3], [1, 3]]) {
    const given = chosen.map((at) => shares[at]!);
    t.match(opening(own, given), { kind: 'tooFew', key: null, by: given.map(({ holder }) => holder), rejected: [] });
  }
  t.match(
    opening(own, [shares[0]!, shares[0]!, shares[0]!]),
    { kind: 'tooFew', by: ['hospital-a'] },
    'one counts once',
  );
  t.end();
});

t.test('a holder that lies is named, and the others open', (t) => {
  const own = sealed('record');
  const key = bytesToHex(own.key);
  const honest = (orgId: string) => offer(own.record, orgId);
  const other = sealed('another record');
  const at = (orgId: string, index: number): Uint8Array => Uint8Array.of(0, index, ...honest(orgId).share.slice(2));
  const flipped = (orgId: string): Uint8Array => {
    const share = honest(orgId).share.slice();
    share[163] = share[163]! ^ 1;
    return share;
  };
  const lies: [string, Uint8Array, string][] = [
    ['of another secret', offer(own.record, 'hospital-b', { x: 12_345n }).share, 'SHARE_PROOF'],
    ['of another epoch', shareOf(sharedCustody(ORGS, 2), own.record, 'hospital-b'), 'SHARE_PROOF'],
    ['of another record', offer(other.record, 'hospital-b').share, 'SHARE_PROOF'],
    ['to another key', offer(own.record, 'hospital-b', { Q: GENERATOR.multiply(7n) }).share, 'SHARE_PROOF'],
    ['of another holder', honest('hospital-c').share, 'SHARE_WRONG_HOLDER'],
    ['of nobody', at('hospital-b', 9), 'SHARE_WRONG_HOLDER'],
    ['cut short', honest('hospital-b').share.subarray(0, 163), 'SHARE_MALFORMED'],
    ['off the curve', Uint8Array.of(0, 2, 5, ...honest('hospital-b').share.slice(3)), 'SHARE_MALFORMED'],
  ];
  for (const [name, share, code] of lies) {
    const offered = [honest('hospital-a'), { holder: 'hospital-b', share }, honest('hospital-c'), honest('hospital-d')];
    const rejected = [`hospital-b ${code}`];
    t.match(
      opening(own, offered),
      { kind: 'opened', key, by: ['hospital-a', 'hospital-c', 'hospital-d'], rejected },
      name,
    );
    t.match(opening(own, offered.slice(0, 3)), { kind: 'tooFew', by: ['hospital-a', 'hospital-c'], rejected }, name);
  }
  t.match(
    opening(own, [{ holder: 'hospital-x', share: honest('hospital-a').share }]),
    { kind: 'tooFew', rejected: ['hospital-x SHARE_WRONG_HOLDER'] },
    'whoever holds no share',
  );
  // R and V are what opens, for one U and one Q: a proof that does not fit harms nobody while they are right, and is
  // looked at only where somebody lies.
  const elsewhere = [
    { grantId: named('elsewhere') },
    { chainId: named('elsewhere') },
    { epoch: 2 },
    { use: 'recovery' as const },
  ];
  const unproven = [flipped('hospital-b'), ...elsewhere.map((change) => offer(own.record, 'hospital-b', change).share)];
  for (const share of unproven) {
    const given = [honest('hospital-a'), { holder: 'hospital-b', share }, honest('hospital-c')];
    t.match(opening(own, given), { kind: 'opened', key, rejected: [] });
    const liar = offer(own.record, 'hospital-a', { x: 1n });
    t.match(opening(own, [liar, ...given.slice(1), honest('hospital-d')]), {
      kind: 'tooFew',
      rejected: ['hospital-a SHARE_PROOF', 'hospital-b SHARE_PROOF'],
    });
  }
  t.end();
});

t.test('two that lie leave too few, and both are named', (t) => {
  const own = sealed('record');
  const offered = ORGS.map((orgId, at) => offer(own.record, orgId, at < 2 ? { x: BigInt(at + 1) } : {}));
  t.match(opening(own, offered), {
    kind: 'tooFew',
    by: ['hospital-c', 'hospital-d'],
    rejected: ['hospital-a SHARE_PROOF', 'hospital-b SHARE_PROOF'],
  });
  t.end();
});

t.test('shares of one grant open nothing else', (t) => {
  const [own, other] = [sealed('record'), sealed('another record')];
  const shares = ORGS.map((orgId) => offer(own.record, orgId));
  const nothing = { kind: 'tooFew', by: [], rejected: ORGS.map((orgId) => `${orgId} SHARE_PROOF`) };
  t.match(opening(other, shares), nothing, 'another record');
  const replayed = { ...own, record: { ...own.record, grantId: named('a later grant') } };
  t.match(opening({ ...replayed, requestKey: other.requestKey }, shares), nothing, 'another grant with another key');
  t.match(
    opening(
      { ...own, record: { ...own.record, sealedUnder: { ...own.record.sealedUnder, epoch: 2 } } },
      ORGS.slice(0, 3).map((orgId) => offer(own.record, orgId, { x: 3n })),
    ),
    { kind: 'tooFew', by: [] },
    'another epoch',
  );
  t.end();
});

t.test('a capsule that does not hold the promised key is the fault of its writer, not of the holders', (t) => {
  const cheating = sealed('record', named('what the reader was promised'));
  const shares = ORGS.map((orgId) => offer(cheating.record, orgId));
  t.match(opening(cheating, shares), { kind: 'wrongKey', by: ORGS.slice(0, 3), rejected: [] });
  const own = sealed('record');
  const swapped = { ...own, record: { ...own.record, c: sealed('another record').record.c } };
  const good = ORGS.map((orgId) => offer(own.record, orgId));
  t.match(opening(swapped, good), { kind: 'wrongKey', key: null }, 'nor does C of another record open');
  const broken = { ...own.record, capsule: { ...own.record.capsule, u: new Uint8Array(33) } };
  t.match(openWithShares(broken, good, own.requestKey), { ok: false, code: 'CAPSULE_MALFORMED' });
  t.end();
});
