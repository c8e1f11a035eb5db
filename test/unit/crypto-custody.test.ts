/** Threshold custody on the SM2 curve: known answers of an independent implementation, properties, and attacks. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { bytesToBigint, bytesToHex, concatBytes, hexToBytes, u16be, u32be, utf8 } from '../../common/bytes.ts';
import {
  COMPRESSED_BYTES,
  CURVE_A,
  CURVE_B,
  CURVE_ORDER,
  type CurvePoint,
  decodePoint,
  encodePoint,
  encodeScalar,
  FIELD_PRIME,
  GENERATOR,
} from '../../common/crypto/curve.ts';
import * as capsule from '../../common/crypto/custody/capsule.ts';
import * as dealing from '../../common/crypto/custody/dealing.ts';
import { checkEqualLogs, checkKnowledge, proveEqualLogs, proveKnowledge } from '../../common/crypto/custody/proofs.ts';
import * as release from '../../common/crypto/custody/release-share.ts';
import * as sharedKey from '../../common/crypto/custody/shared-key.ts';
import * as sharing from '../../common/crypto/custody/sharing.ts';
import { H, hq, kdfTlv } from '../../common/crypto/hash.ts';
import type { RandomBytes } from '../../common/crypto/sm2.ts';
import { sm3 } from '../../common/crypto/sm3.ts';
import { InvariantError } from '../../common/errors.ts';

interface KnownAnswers {
  readonly h2c: { readonly GBAR: string };
  readonly scalarHash: { readonly out: string };
  readonly shares: {
    readonly a: readonly string[];
    readonly x: readonly string[];
    readonly X: string;
    readonly Xi: readonly string[];
    readonly lagrange_1_2_4: readonly string[];
  };
  readonly capsule: Readonly<Record<'k' | 'label' | 'keyCheck' | 'r' | 's' | 'bytes' | 'W', string>>;
  readonly reenc: Readonly<Record<'q' | 'Q' | 'grantId' | 'aggR' | 'aggV' | 'W', string>> & {
    readonly shares: readonly string[];
  };
  readonly dkg: { readonly session: string; readonly encSk: readonly string[]; readonly dealing1: string };
}
const kat = JSON.parse(
  readFileSync(new URL('../vectors/custody/known-answers.json', import.meta.url), 'utf8'),
) as KnownAnswers;

let counter = 0;
const seeded: RandomBytes = (length) => {
  const parts: Uint8Array[] = [];
  for (let at = 0; at < length; at += 32) parts.push(sm3(utf8(`custody test ${counter++}`)));
  return concatBytes(...parts).subarray(0, length);
};
const zeros: RandomBytes = (length) => new Uint8Array(length);
const scalar = (what: string): bigint => hq('test', utf8(what), u32be(counter++));
const int = (hex: string): bigint => bytesToBigint(hexToBytes(hex));
const hexOf = (point: CurvePoint): string => bytesToHex(encodePoint(point));
const pointOf = (hex: string): CurvePoint => {
  const point = decodePoint(hexToBytes(hex));
  if (point === undefined) throw new Error('no point');
  return point;
};
const codeOf = (verdict: { readonly ok: boolean; readonly code?: string }): string =>
  verdict.ok ? 'ok' : (verdict.code ?? '?');
const must = <T>(
  verdict: { readonly ok: true; readonly value: T } | { readonly ok: false; readonly code: string },
): T => {
  if (!verdict.ok) throw new Error(verdict.code);
  return verdict.value;
};

/** Fields of the known label, by its lengths. */
const [chainId, recordId, version, policyRef, ownerId, dataDigest, keyCheck] = fieldsOf(hexToBytes(kat.capsule.label));
function fieldsOf(tlvBytes: Uint8Array): Uint8Array[] {
  const fields: Uint8Array[] = [];
  for (let at = 0; at < tlvBytes.length;) {
    const length = new DataView(tlvBytes.buffer, tlvBytes.byteOffset + at).getUint32(0);
    fields.push(tlvBytes.slice(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return fields.slice(1);
}
const label = {
  chainId: chainId!,
  recordId: recordId!,
  version: new DataView(version!.buffer).getUint32(0),
  policyRef: policyRef!,
  ownerId: ownerId!,
  dataDigest: dataDigest!,
  keyCheck: keyCheck!,
} satisfies capsule.CapsuleLabel;
const labelBytes = capsule.encodeLabel(label);
const X = pointOf(kat.shares.X);
const holders = kat.shares.Xi.map((hex, k) => ({ index: k + 1, X: pointOf(hex) }));
const holder = (index: number): release.Holder => holders[index - 1]!;
const secrets = kat.shares.x.map(int);

t.test('known answers', async (t) => {
  t.equal(hexOf(capsule.GBAR), kat.h2c.GBAR);
  t.equal(hq('kat-h', utf8('abc')), int(kat.scalarHash.out));
  t.equal(bytesToHex(labelBytes), kat.capsule.label);

  const polynomial = kat.shares.a.map(int);
  const commitment = sharing.commit(polynomial);
  t.equal(hexOf(commitment[0]!), kat.shares.X);
  for (let i = 1; i <= 4; i += 1) {
    t.equal(sharing.evaluate(polynomial, i), secrets[i - 1]);
    t.equal(hexOf(sharing.commitmentAt(commitment, i)), kat.shares.Xi[i - 1]);
  }
  t.same(sharing.lagrangeAtZero([1, 2, 4]), kat.shares.lagrange_1_2_4.map(int));

  const { k, r, s, bytes } = kat.capsule;
  t.equal(bytesToHex(capsule.keyCheckOf(label.recordId, label.version, hexToBytes(k))), kat.capsule.keyCheck);
  const sealed = capsule.sealCapsuleWith(X, labelBytes, hexToBytes(k), int(r), int(s));
  t.equal(bytesToHex(sealed), bytes);
  const parsed = must(capsule.checkCapsule(sealed, X, labelBytes));
  t.equal(bytesToHex(must(capsule.openCapsule(parsed, pointOf(kat.capsule.W), X, label))), k);

  const { q, grantId } = kat.reenc;
  const Q = pointOf(kat.reenc.Q);
  t.ok(GENERATOR.multiply(int(q)).equals(Q));
  const context = {
    use: 'custody' as const,
    chainId: label.chainId,
    epoch: 1,
    grantId: hexToBytes(grantId),
    U: parsed.U,
    Q,
  };
  const shares = [1, 2, 4].map((i, at) => {
    const made = release.createReleaseShare(context, holder(i), secrets[i - 1]!, zeros);
    t.equal(bytesToHex(made), kat.reenc.shares[at], `share of holder ${i}`);
    return must(release.checkReleaseShare(made, context, holder(i)));
  });
  const combined = release.combineShares(shares);
  t.equal(hexOf(combined.R), kat.reenc.aggR);
  t.equal(hexOf(combined.V), kat.reenc.aggV);
  t.equal(hexOf(release.unmask(combined, int(q))), kat.reenc.W);

  const session = { id: hexToBytes(kat.dkg.session), n: 4, t: 3 };
  const one = must(dealing.checkDealing(session, hexToBytes(kat.dkg.dealing1), null));
  kat.dkg.encSk.forEach((hex, at) => {
    const receiver = { index: at + 1, P: GENERATOR.multiply(int(hex)) };
    t.ok(dealing.openDealing(session, one, receiver, int(hex)).ok, `dealing opens for receiver ${at + 1}`);
  });
});

t.test('GBAR is what hashing gives first, with nothing up a sleeve', async (t) => {
  const x = bytesToBigint(kdfTlv(48, 'h2c/tdh2-gbar', utf8('sm2p256v1'), u32be(0))) % FIELD_PRIME;
  const { x: gx, y: gy } = capsule.GBAR.toAffine();
  t.equal(gx, x);
  t.equal(gy & 1n, 0n);
  t.equal((gy * gy - (x * x + CURVE_A) * x - CURVE_B) % FIELD_PRIME, 0n);
});

/** Affine arithmetic in plain integers: shares no code with what it checks. */
type Affine = readonly [bigint, bigint] | null;
const mod = (value: bigint): bigint => ((value % FIELD_PRIME) + FIELD_PRIME) % FIELD_PRIME;
const power = (base: bigint, exponent: bigint): bigint => {
  let [result, factor, left] = [1n, base, exponent];
  for (; left > 0n; left >>= 1n, factor = mod(factor * factor)) if (left & 1n) result = mod(result * factor);
  return result;
};
function add(left: Affine, right: Affine): Affine {
  if (left === null) return right;
  if (right === null) return left;
  const [[x1, y1], [x2, y2]] = [left, right];
  if (x1 === x2 && mod(y1 + y2) === 0n) return null;
  const slope =
    x1 === x2
      ? mod((3n * x1 * x1 + CURVE_A) * power(2n * y1, FIELD_PRIME - 2n))
      : mod((y2 - y1) * power(mod(x2 - x1), FIELD_PRIME - 2n));
  const x3 = mod(slope * slope - x1 - x2);
  return [x3, mod(slope * (x1 - x3) - y1)];
}
function times(k: bigint, point: Affine): Affine {
  let [sum, doubled]: [Affine, Affine] = [null, point];
  for (let left = k; left > 0n; left >>= 1n, doubled = add(doubled, doubled)) if (left & 1n) sum = add(sum, doubled);
  return sum;
}
const affine = (point: CurvePoint): Affine => (point.is0() ? null : [point.toAffine().x, point.toAffine().y]);

t.test('equations of a share and a capsule, in plain integers', async (t) => {
  const bytes = hexToBytes(kat.reenc.shares[0]!);
  const { R, V } = must(release.parseReleaseShare(bytes));
  const [e, z1, z2] = [0, 1, 2].map((k) => bytesToBigint(bytes.subarray(68 + 32 * k, 100 + 32 * k))) as [
    bigint,
    bigint,
    bigint,
  ];
  const sealed = must(capsule.parseCapsule(hexToBytes(kat.capsule.bytes)));
  const [G, U, Q] = [affine(GENERATOR), affine(sealed.U), affine(pointOf(kat.reenc.Q))];
  const minus = CURVE_ORDER - e;
  const A1 = add(times(z1, G), times(minus, affine(holder(1).X)));
  const A2 = add(times(z2, G), times(minus, affine(R)));
  const A3 = add(add(times(z1, U), times(z2, Q)), times(minus, affine(V)));
  const compressed = (point: Affine): Uint8Array =>
    concatBytes(Uint8Array.of(2 + Number(point![1] & 1n)), encodeBig(point![0]));
  const ctx = concatBytes(
    ...tlvOf('reenc', [
      label.chainId,
      u32be(1),
      hexToBytes(kat.reenc.grantId),
      u16be(1),
      ...[affine(holder(1).X), U, Q].map(compressed),
    ]),
  );
  t.equal(hq('reencproof', ctx, ...[affine(R), affine(V), A1, A2, A3].map(compressed)), e);
  t.same(times(int(kat.capsule.r), affine(X)), affine(pointOf(kat.capsule.W)));
});
const encodeBig = (value: bigint): Uint8Array => hexToBytes(value.toString(16).padStart(64, '0'));
function tlvOf(domain: string, fields: readonly Uint8Array[]): Uint8Array[] {
  return [utf8(`EMRT1/${domain}`), ...fields].flatMap((field) => [u32be(field.length), field]);
}

t.test('any t shares open, fewer or mixed ones do not', async (t) => {
  const recordKey = sm3(utf8('a record key'));
  const own = { ...label, keyCheck: capsule.keyCheckOf(label.recordId, label.version, recordKey) };
  const sealed = capsule.sealCapsule(X, capsule.encodeLabel(own), recordKey, seeded);
  const parsed = must(capsule.checkCapsule(sealed, X, capsule.encodeLabel(own)));
  const q = scalar('q');
  const context = {
    use: 'custody' as const,
    chainId: own.chainId,
    epoch: 7,
    grantId: sm3(utf8('grant')),
    U: parsed.U,
    Q: GENERATOR.multiply(q),
  };
  const shares = [1, 2, 3, 4].map((i) =>
    must(release.parseReleaseShare(release.createReleaseShare(context, holder(i), secrets[i - 1]!, seeded))),
  );
  const opened = (chosen: readonly number[], key = q): string => {
    const W = release.unmask(release.combineShares(chosen.map((i) => shares[i - 1]!)), key);
    const key32 = capsule.openCapsule(parsed, W, X, own);
    return key32.ok ? bytesToHex(key32.value) : key32.code;
  };
  for (const chosen of [
    [1, 2, 3],
    [1, 2, 4],
    [4, 1, 3],
    [2, 3, 4],
  ])
    t.equal(opened(chosen), bytesToHex(recordKey), chosen.join());
  for (const chosen of [[1], [1, 2], [2, 4], [3, 4]]) t.equal(opened(chosen), 'KEY_CHECK_FAILED', chosen.join());
  t.equal(opened([1, 2, 3], q + 1n), 'KEY_CHECK_FAILED', 'with another key');
  // Sharing of degree 2: one secret fits any two given shares, whatever it is.
  const guess = scalar('guess');
  const [l1, l2, l3] = sharing.lagrangeAtZero([1, 2, 3]) as [bigint, bigint, bigint];
  const third = ((guess - secrets[0]! * l1 - secrets[1]! * l2) * inverse(l3)) % CURVE_ORDER;
  const fitted = [secrets[0]!, secrets[1]!, (third + CURVE_ORDER) % CURVE_ORDER];
  t.equal(
    fitted.reduce((sum, x, k) => (sum + x * [l1, l2, l3][k]!) % CURVE_ORDER, 0n),
    guess,
    'two shares say nothing',
  );
  const again = release.createReleaseShare(context, holder(1), secrets[0]!, seeded);
  t.ok(must(release.parseReleaseShare(again)).V.equals(shares[0]!.V), 'asked twice, the same masked share');
});
const inverse = (value: bigint): bigint => {
  let [result, base, left] = [1n, value, CURVE_ORDER - 2n];
  for (; left > 0n; left >>= 1n, base = (base * base) % CURVE_ORDER)
    if (left & 1n) result = (result * base) % CURVE_ORDER;
  return result;
};

t.test('a capsule belongs to one key and one label, whole', async (t) => {
  const bytes = hexToBytes(kat.capsule.bytes);
  const others: Partial<capsule.CapsuleLabel>[] = [
    { chainId: sm3(utf8('other')) },
    { recordId: sm3(utf8('other')) },
    { version: label.version + 1 },
    { policyRef: sm3(utf8('other')) },
    { ownerId: sm3(utf8('other')) },
    { dataDigest: sm3(utf8('other')) },
    { keyCheck: new Uint8Array(16) },
  ];
  for (const other of others) {
    const verdict = capsule.checkCapsule(bytes, X, capsule.encodeLabel({ ...label, ...other }));
    t.equal(codeOf(verdict), 'CAPSULE_PROOF', Object.keys(other).join());
  }
  t.equal(codeOf(capsule.checkCapsule(bytes, X.double(), labelBytes)), 'CAPSULE_PROOF', 'another key');
  let taken = 0;
  for (let at = 0; at < bytes.length; at += 1) {
    const changed = bytes.slice();
    changed[at] = changed[at]! ^ (1 << (at % 8));
    if (capsule.checkCapsule(changed, X, labelBytes).ok) taken += 1;
  }
  t.equal(taken, 0, 'no byte of it can be changed');
  const { U, Ubar, C, e, f } = must(capsule.parseCapsule(bytes));
  const shifted = concatBytes(encodePoint(U.add(GENERATOR)), encodePoint(Ubar), C, encodeScalar(e), encodeScalar(f));
  t.equal(codeOf(capsule.checkCapsule(shifted, X, labelBytes)), 'CAPSULE_PROOF', 'U moved by a known step');
  for (const bad of [bytes.subarray(1), concatBytes(bytes, Uint8Array.of(0)), new Uint8Array(162)])
    t.equal(codeOf(capsule.checkCapsule(bad, X, labelBytes)), 'CAPSULE_MALFORMED');
  const large = concatBytes(bytes.subarray(0, 130), hexToBytes(CURVE_ORDER.toString(16)));
  t.equal(
    codeOf(capsule.checkCapsule(large, X, labelBytes)),
    'CAPSULE_MALFORMED',
    'a number that is not below the order',
  );
});

t.test('a share belongs to one holder, grant, epoch, capsule, key and chain', async (t) => {
  const { U } = must(capsule.parseCapsule(hexToBytes(kat.capsule.bytes)));
  const grantId = hexToBytes(kat.reenc.grantId);
  const context = { use: 'custody' as const, chainId: label.chainId, epoch: 1, grantId, U, Q: pointOf(kat.reenc.Q) };
  const bytes = hexToBytes(kat.reenc.shares[0]!);
  t.equal(codeOf(release.checkReleaseShare(bytes, context, holder(1))), 'ok');
  const others: Partial<release.ReleaseContext>[] = [
    { use: 'recovery' },
    { chainId: sm3(utf8('other')) },
    { epoch: 2 },
    { grantId: sm3(utf8('other')) },
    { U: U.double() },
    { Q: context.Q.double() },
  ];
  for (const other of others) {
    const verdict = release.checkReleaseShare(bytes, { ...context, ...other }, holder(1));
    t.equal(codeOf(verdict), 'SHARE_PROOF', Object.keys(other).join());
  }
  t.equal(codeOf(release.checkReleaseShare(bytes, context, holder(2))), 'SHARE_WRONG_HOLDER');
  const renamed = concatBytes(u16be(2), bytes.subarray(2));
  t.equal(codeOf(release.checkReleaseShare(renamed, context, holder(2))), 'SHARE_PROOF', 'another index');
  let taken = 0;
  for (let at = 0; at < bytes.length; at += 1) {
    const changed = bytes.slice();
    changed[at] = changed[at]! ^ (1 << (at % 8));
    if (release.checkReleaseShare(changed, context, holder(1)).ok) taken += 1;
  }
  t.equal(taken, 0, 'no byte of it can be changed');
  // A holder that lies: valid points, but not its x.
  const lie = release.createReleaseShare(context, holder(1), secrets[1]!, seeded);
  t.equal(codeOf(release.checkReleaseShare(lie, context, holder(1))), 'SHARE_PROOF', 'with another secret');
});

t.test('two known attacks on linear shares x (U + Q) find nothing here', async (t) => {
  const xs = secrets.slice(0, 3);
  const x = xs.reduce((sum, xi, k) => (sum + xi * sharing.lagrangeAtZero([1, 2, 3])[k]!) % CURVE_ORDER, 0n);
  const [rA, rB] = [scalar('rA'), scalar('rB')];
  const [UA, UB] = [GENERATOR.multiply(rA), GENERATOR.multiply(rB)];
  const release3 = (U: CurvePoint, Q: CurvePoint, grant: string): release.CombinedShares =>
    release.combineShares(
      xs.map((xi, k) => {
        const context = { use: 'custody' as const, chainId: label.chainId, epoch: 1, grantId: sm3(utf8(grant)), U, Q };
        return must(release.parseReleaseShare(release.createReleaseShare(context, holder(k + 1), xi, seeded)));
      }),
    );
  // Related key: Q = U_B - U_A. In the linear form the sum of shares would be x U_B.
  const related = UB.subtract(UA);
  t.ok(UA.add(related).multiply(x).equals(UB.multiply(x)), 'the linear form gives record B away');
  const masked = release3(UA, related, 'A');
  t.notOk(
    [masked.V, masked.V.subtract(masked.R)].some((point) => point.equals(UB.multiply(x))),
    'the masked form does not',
  );
  // A co-grantee who knows x U_1 and sees the shares to a static Q learns x Q from the linear form, and with it x U_2.
  const q = scalar('static');
  const Q = GENERATOR.multiply(q);
  const known = UA.multiply(x);
  const linear = (U: CurvePoint): CurvePoint => U.add(Q).multiply(x);
  t.ok(linear(UB).subtract(linear(UA).subtract(known)).equals(UB.multiply(x)), 'the linear form gives record 2 away');
  const [first, second] = [release3(UA, Q, '1'), release3(UB, Q, '2')];
  t.notOk(second.V.subtract(first.V.subtract(known)).equals(UB.multiply(x)), 'the masked form does not');
  t.ok(release.unmask(second, q).equals(UB.multiply(x)), 'but the requester reads it');
});

interface Holding {
  readonly index: number;
  readonly x: bigint;
}
interface Custody {
  readonly key: sharedKey.SharedKey;
  readonly t: number;
  readonly held: readonly Holding[];
}
const sessionOf = (id: string, n: number, threshold: number): dealing.Session => ({
  id: sm3(utf8(id)),
  n,
  t: threshold,
});
function receiversOf(session: dealing.Session): { keys: dealing.EncryptionKey[]; secrets: bigint[] } {
  const secret = Array.from({ length: session.n }, (_, k) => scalar(`p${k}`));
  const keys = secret.map((p, k) => ({ index: k + 1, P: GENERATOR.multiply(p) }));
  for (const [k, key] of keys.entries()) {
    const proof = dealing.proveEncryptionKey(session, key, secret[k]!, seeded);
    if (!dealing.checkEncryptionKey(session, key, proof)) throw new Error('announce');
  }
  return { keys, secrets: secret };
}

function finish(
  session: dealing.Session,
  dealings: readonly dealing.Dealing[],
  receivers: ReturnType<typeof receiversOf>,
  from: Custody | null,
): Custody {
  const key = must(
    from === null
      ? sharedKey.generatedKey(session, dealings)
      : sharedKey.resharedKey(session, dealings, from.t, from.key.X),
  );
  const counted = from === null ? dealings : sharedKey.countedDealings(dealings, from.t);
  const held = receivers.keys.map((receiver, k) => {
    const parts = counted.map((one) => must(dealing.openDealing(session, one, receiver, receivers.secrets[k]!)));
    const publicShare = key.holders[k]!;
    const x = sharedKey.secretShare(
      counted.map((one) => one.dealer),
      parts,
      from === null ? 'sum' : 'interpolate',
      publicShare,
    );
    const ack = sharedKey.proveShare(session, receiver.index, key.X, publicShare, x, seeded);
    if (!sharedKey.checkShareProof(session, receiver.index, key.X, publicShare, ack)) throw new Error('ack');
    return { index: receiver.index, x };
  });
  return { key, t: session.t, held };
}

function generate(n: number, threshold: number): Custody {
  const session = sessionOf(`genesis ${n}`, n, threshold);
  const receivers = receiversOf(session);
  const dealings = receivers.keys.map(({ index }) =>
    must(dealing.checkDealing(session, dealing.deal(session, index, null, receivers.keys, seeded), null)),
  );
  return finish(session, dealings, receivers, null);
}

function reshare(from: Custody, n: number, threshold: number, dealers: readonly number[]): Custody {
  const session = sessionOf(`reshare ${from.key.holders.length} ${n} ${counter}`, n, threshold);
  const receivers = receiversOf(session);
  const dealings = dealers.map((index) => {
    const bytes = dealing.deal(session, index, from.held[index - 1]!.x, receivers.keys, seeded);
    return must(dealing.checkDealing(session, bytes, from.key.holders[index - 1]!));
  });
  return finish(session, dealings, receivers, from);
}

const secretOf = ({ held, t: threshold }: Custody, first = 0): bigint => {
  const chosen = held.slice(first, first + threshold);
  const lambda = sharing.lagrangeAtZero(chosen.map(({ index }) => index));
  return chosen.reduce((sum, { x }, k) => (sum + x * lambda[k]!) % CURVE_ORDER, 0n);
};

t.test('key generation and resharing keep one key: 4 of 3, 4 of 3, 7 of 5, 4 of 3', async (t) => {
  const first = generate(4, 3);
  t.ok(GENERATOR.multiply(secretOf(first)).equals(first.key.X), 'the shares are of the public key');
  t.ok(GENERATOR.multiply(secretOf(first, 1)).equals(first.key.X), 'whichever t are taken');
  // One dealer is absent each time.
  const second = reshare(first, 4, 3, [1, 3, 4]);
  const third = reshare(second, 7, 5, [2, 3, 4]);
  const fourth = reshare(third, 4, 3, [1, 2, 4, 5, 6, 7]);
  for (const custody of [second, third, fourth]) {
    t.ok(custody.key.X.equals(first.key.X), 'the public key stays');
    t.equal(secretOf(custody), secretOf(first), 'and so does the secret, which nobody has');
  }
  t.notOk(
    second.held.some(({ x }, k) => x === first.held[k]!.x),
    'the shares are new',
  );
  const mixed = { ...second, held: [first.held[0]!, second.held[1]!, second.held[2]!] };
  t.not(secretOf(mixed), secretOf(first), 'shares of two epochs do not fit');
});

t.test('dealers that cheat', async (t) => {
  const session = sessionOf('cheats', 4, 3);
  const { keys, secrets: ps } = receiversOf(session);
  const honest = dealing.deal(session, 1, null, keys, seeded);
  const parsed = must(dealing.checkDealing(session, honest, null));
  let taken = 0;
  for (let at = 0; at < honest.length; at += 1) {
    const changed = honest.slice();
    changed[at] = changed[at]! ^ (1 << (at % 8));
    if (dealing.checkDealing(session, changed, null).ok) taken += 1;
  }
  t.equal(taken, 0, 'no byte of a dealing can be changed, its dealer included');
  for (const other of [sessionOf('another', 4, 3), { ...session, t: 2 }, { ...session, n: 3 }])
    t.notOk(dealing.checkDealing(other, honest, null).ok, 'nor its session');
  t.equal(codeOf(dealing.checkDealing(session, honest, GENERATOR)), 'DEALING_OTHER_SECRET', 'a resharer that lies');

  // Rogue key: C_0 = X' - (what the others deal) needs a logarithm that nobody knows.
  const rogue = concatBytes(honest.subarray(0, 2), encodePoint(parsed.commitment[0]!.negate()), honest.subarray(35));
  t.equal(codeOf(dealing.checkDealing(session, rogue, null)), 'DEALING_PROOF', 'a rogue key');

  // The complaint as an oracle: dealer 2 sends dealer 1's R with garbage; a complaint would open dealer 1's sub-share.
  const second = dealing.deal(session, 2, null, keys, seeded);
  const rAt = 2 + COMPRESSED_BYTES * 3;
  const copied = concatBytes(second.subarray(0, rAt), encodePoint(parsed.R), second.subarray(rAt + COMPRESSED_BYTES));
  t.equal(codeOf(dealing.checkDealing(session, copied, null)), 'DEALING_PROOF', "another dealer's R");

  // A dealer that knows what it shares and sends receiver 3 something else: its own proof covers the ciphertexts.
  const wrongKeys = keys.map((key) => (key.index === 3 ? { index: 3, P: keys[0]!.P } : key));
  const false3 = must(dealing.checkDealing(session, dealing.deal(session, 1, null, wrongKeys, seeded), null));
  t.equal(codeOf(dealing.openDealing(session, false3, keys[2]!, ps[2]!)), 'SUB_SHARE_FALSE');
  t.ok(dealing.openDealing(session, false3, keys[0]!, ps[0]!).ok, 'others have nothing to complain about');
  const complaint = dealing.complain(session, false3, keys[2]!, ps[2]!, seeded);
  t.equal(must(dealing.judge(session, false3, keys[2]!, complaint)), 'dealer', 'the complaint proves itself');
  const slander = dealing.complain(session, parsed, keys[2]!, ps[2]!, seeded);
  t.equal(must(dealing.judge(session, parsed, keys[2]!, slander)), 'accuser', 'a false one proves that, too');
  t.equal(codeOf(dealing.judge(session, parsed, keys[2]!, complaint)), 'COMPLAINT_PROOF', 'about another dealing');
  t.equal(codeOf(dealing.judge(session, false3, keys[1]!, complaint)), 'COMPLAINT_MALFORMED', 'by somebody else');
  let judged = 0;
  for (let at = 0; at < complaint.length; at += 1) {
    const changed = complaint.slice();
    changed[at] = changed[at]! ^ (1 << (at % 8));
    if (dealing.judge(session, false3, keys[2]!, changed).ok) judged += 1;
  }
  t.equal(judged, 0, 'no byte of a complaint can be changed');

  const few = sharedKey.generatedKey(session, [parsed]);
  t.equal(codeOf(few), 'TOO_FEW_DEALERS');
  t.throws(() => sharedKey.generatedKey(session, [parsed, parsed, parsed]), InvariantError, 'a dealer counts once');
});

t.test('proofs are about one statement in one context', async (t) => {
  const [x, r] = [scalar('x'), scalar('r')];
  const [P, R] = [GENERATOR.multiply(x), GENERATOR.multiply(r)];
  const K = R.multiply(x);
  const context = H('ctx');
  const proof = proveEqualLogs(context, { P, R, K }, x, seeded);
  t.ok(checkEqualLogs(context, { P, R, K }, proof));
  t.notOk(checkEqualLogs(H('other'), { P, R, K }, proof));
  t.notOk(checkEqualLogs(context, { P, R, K: K.double() }, proof));
  t.notOk(checkEqualLogs(context, { P: P.double(), R, K }, proof));
  const known = proveKnowledge('enckey', context, x, P, seeded);
  t.ok(checkKnowledge('enckey', context, P, known));
  t.notOk(checkKnowledge('shareack', context, P, known), 'nor for another use');
  t.notOk(checkKnowledge('enckey', context, P.double(), known));
  // e = 0 would make the commitment z G alone: the challenge is a hash, so it does not come out as 0.
  t.notOk(checkKnowledge('enckey', context, P, new Uint8Array(64)), 'zeros prove nothing');
  t.notOk(checkKnowledge('enckey', context, P, known.subarray(1)), 'nor do other lengths');
});
