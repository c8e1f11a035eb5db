/** Officers make a recovery key: what each of them finds out about the others before it goes on. */
import t from 'tap';
import { deal, type EncryptionKey } from '../../common/crypto/custody/dealing.ts';
import { decodePoint, encodePoint, GENERATOR, modOrder } from '../../common/crypto/curve.ts';
import { interpolateAtZero, lagrangeAtZero } from '../../common/crypto/custody/sharing.ts';
import { bytesToBigint } from '../../common/bytes.ts';
import { H } from '../../common/crypto/hash.ts';
import { publicKeyOf, sm2Address } from '../../common/crypto/sm2.ts';
import { newPrivateKey } from '../../common/native/sm2-select.ts';
import { systemRandom } from '../../common/native/sm2-openssl.ts';
import {
  announce,
  dealToOfficers,
  holdShare,
  registrationOf,
  takeShare,
} from '../../common/protocol/recovery-ceremony.ts';
import {
  announcedHash,
  checkRecoveryPlan,
  MAX_RECOVERY_DEALING_BYTES,
  MAX_RECOVERY_MESSAGE_BYTES,
  recoveryDealing,
  recoveryDealingHash,
  recoveryHolding,
  recoveryKeyRegistration,
  recoveryPlan,
  recoverySession,
} from '../../common/protocol/recovery-key.ts';
import { encode } from '../../common/codec.ts';
import { MAX_TX_BYTES } from '../../common/protocol/primitives.ts';
import { engine, makeKey, must, type Officer, planFor, signerOf } from './officers.ts';

const CHAIN = H('test-chain');

function officersOf(...orgs: readonly string[]): Officer[] {
  return orgs.map((orgId) => {
    const privateKey = newPrivateKey();
    const publicKey = publicKeyOf(privateKey);
    return { account: sm2Address(publicKey), orgId, publicKey, privateKey };
  });
}

/** Two of three officers, after the second round. */
function dealt() {
  const officers = officersOf('a', 'b', 'c');
  const plan = planFor(CHAIN, 2, officers);
  const signers = officers.map((officer) => signerOf(officer));
  const secrets = officers.map(() => newPrivateKey());
  const announcements = signers.map((signer, k) => announce(plan, secrets[k]!, signer, systemRandom));
  const dealings = signers.map((signer) => must(dealToOfficers(plan, announcements, signer, engine, systemRandom)));
  const take = (k: number, messages = dealings, heard = announcements) =>
    takeShare(plan, { publicKey: officers[k]!.publicKey, p: secrets[k]! }, heard, messages, engine);
  return { officers, plan, signers, secrets, announcements, dealings, take };
}
type Dealt = ReturnType<typeof dealt>;

/** A dealing of officer `k` over other keys than those announced, signed as it should be. */
function dealingTo({ plan, signers, announcements }: Dealt, k: number, keys: readonly EncryptionKey[]) {
  const session = recoverySession(plan);
  const announced = announcedHash(announcements.map(({ key }) => key));
  const dealing = deal(session, k + 1, null, keys, systemRandom);
  const said = { sessionId: session.id, index: k + 1, announced, dealing };
  return { ...said, signature: signers[k]!.sign(recoveryDealingHash(said)) };
}

const code = (verdict: { readonly ok: boolean; readonly code?: string }) => (verdict.ok ? 'ok' : verdict.code);
const replaced = <T>(list: readonly T[], at: number, by: T): T[] => list.map((one, k) => (k === at ? by : one));

t.test('any threshold of the shares is the key, and fewer are not', async (t) => {
  const officers = officersOf('a', 'a', 'b', 'b', 'c');
  const { shares, registration } = makeKey(planFor(CHAIN, 3, officers), officers);
  const X = decodePoint(registration.commitment[0]!)!;
  const secretOf = (indices: readonly number[]): boolean => {
    const lambda = lagrangeAtZero(indices);
    const x = indices.reduce((sum, i, k) => sum + bytesToBigint(shares[i - 1]!.x) * lambda[k]!, 0n);
    return GENERATOR.multiply(modOrder(x)).equals(X);
  };
  t.ok(
    [
      [1, 2, 3],
      [1, 3, 5],
      [2, 4, 5],
      [1, 2, 3, 4, 5],
    ].every(secretOf),
  );
  t.notOk([[1, 2], [3, 5], [4]].some(secretOf));
  for (const { index, share, x } of shares) {
    t.same(share, encodePoint(GENERATOR.multiply(bytesToBigint(x))), `officer ${index}`);
  }
  const points = shares.map(({ share }) => decodePoint(share)!);
  t.ok(interpolateAtZero([2, 3, 4], points.slice(1, 4)).equals(X));
});

t.test('plans', async (t) => {
  const plan = (m: number, ...orgs: string[]) => code(checkRecoveryPlan(planFor(CHAIN, m, officersOf(...orgs))));
  t.equal(plan(2, 'a', 'b'), 'ok');
  t.equal(plan(3, 'a', 'a', 'b', 'b'), 'ok');
  t.equal(plan(2, 'a', 'a', 'b'), 'RECOVERY_KEY_ONE_ORGANISATION');
  t.equal(plan(2, 'a', 'a'), 'RECOVERY_KEY_ONE_ORGANISATION');
  t.equal(plan(1, 'a', 'b'), 'RECOVERY_KEY_SHAPE');
  t.equal(plan(3, 'a', 'b'), 'RECOVERY_KEY_SHAPE');
  const [one, two] = officersOf('a', 'b');
  t.equal(code(checkRecoveryPlan(planFor(CHAIN, 2, [one!, two!, one!]))), 'RECOVERY_KEY_SHAPE');
});

t.test('announcements: of everybody, for this plan, signed, with the key known', async (t) => {
  const { plan, signers, secrets, announcements } = dealt();
  const round = (heard: typeof announcements) => dealToOfficers(plan, heard, signers[0]!, engine, systemRandom);
  t.match(round(announcements.slice(1)), { ok: false, code: 'RECOVERY_FILE_MISSING', message: /officer 1/ });
  t.match(round([]), { code: 'RECOVERY_FILE_MISSING' });
  const elsewhere = announce({ ...plan, threshold: 3 }, secrets[1]!, signers[1]!, systemRandom);
  t.match(round(replaced(announcements, 1, elsewhere)), { code: 'RECOVERY_FILE_FALSE', message: /another plan/ });
  const [first, second] = announcements as [(typeof announcements)[0], (typeof announcements)[0]];
  const swapped = { ...second, key: first.key, proof: first.proof };
  t.match(round(replaced(announcements, 1, swapped)), { code: 'RECOVERY_FILE_FALSE', message: /not signed/ });
  const forged = announce({ ...plan, holders: plan.holders }, secrets[1]!, signers[1]!, systemRandom);
  t.equal(code(round(replaced(announcements, 1, forged))), 'ok', 'the same key again');
  t.equal(code(round(replaced(announcements, 1, { ...second, index: 1 }))), 'RECOVERY_FILE_MISSING');
});

t.test('dealings: false parts name their dealer, and only whom they cheat can see it', async (t) => {
  const round = dealt();
  const { announcements, dealings, take } = round;
  t.equal(code(take(0)), 'ok');
  t.match(take(1, dealings.slice(0, 2)), { code: 'RECOVERY_FILE_MISSING', message: /officer 3/ });
  const keys = announcements.map(({ key }, k): EncryptionKey => ({ index: k + 1, P: decodePoint(key)! }));
  const cheated = replaced(dealings, 2, dealingTo(round, 2, replaced(keys, 0, { index: 1, P: GENERATOR })));
  t.match(take(0, cheated), { ok: false, code: 'RECOVERY_DEALING_FALSE', message: /officer 3/ });
  t.equal(code(take(1, cheated)), 'ok');
  const unsigned = { ...dealings[1]!, dealing: dealings[2]!.dealing };
  t.match(take(0, replaced(dealings, 1, unsigned)), { code: 'RECOVERY_FILE_FALSE', message: /not signed/ });
  const others = { ...dealings[1]!, announced: H('other') };
  const signed = { ...others, signature: round.signers[1]!.sign(recoveryDealingHash(others)) };
  t.match(take(0, replaced(dealings, 1, signed)), { code: 'RECOVERY_FILE_FALSE', message: /other announcements/ });
  const copied = { ...dealings[1]!, dealing: dealings[2]!.dealing };
  const asOwn = { ...copied, signature: round.signers[1]!.sign(recoveryDealingHash(copied)) };
  t.match(take(0, replaced(dealings, 1, asOwn)), { code: 'RECOVERY_FILE_FALSE', message: /no dealing/ });
});

t.test('an officer finds that its own announcement was exchanged', async (t) => {
  const { officers, plan, announcements, dealings } = dealt();
  const { publicKey } = officers[0]!;
  const taken = takeShare(plan, { publicKey, p: newPrivateKey() }, announcements, dealings, engine);
  t.match(taken, { ok: false, code: 'RECOVERY_FILE_FALSE', message: /not the one that you made/ });
});

t.test('officers who were dealt different keys do not register one', async (t) => {
  const round = dealt();
  const { plan, signers, announcements, dealings, take } = round;
  const keys = announcements.map(({ key }, k): EncryptionKey => ({ index: k + 1, P: decodePoint(key)! }));
  const twice = replaced(dealings, 2, dealingTo(round, 2, keys));
  const holdings = [take(0), take(1, twice), take(2)].map((taken, k) => {
    const { share, key } = must(taken);
    return holdShare(plan, share, key, signers[k]!, systemRandom);
  });
  const register = (of: typeof holdings) => registrationOf(plan, of, engine);
  t.match(register(holdings), { ok: false, code: 'RECOVERY_KEYS_DIFFER', message: /officer 2/ });
  const good = must(take(1));
  const right = holdShare(plan, good.share, good.key, signers[1]!, systemRandom);
  t.equal(code(register(replaced(holdings, 1, right))), 'ok');
  const lying = holdShare(plan, { ...good.share, x: newPrivateKey() }, good.key, signers[1]!, systemRandom);
  t.match(register(replaced(holdings, 1, lying)), { code: 'BAD_RECOVERY_PROOF', message: /officer 2/ });
  t.match(register(holdings.slice(0, 2)), { code: 'RECOVERY_FILE_MISSING' });
});

t.test('the largest key there can be: its messages fit, and so does its registration', async (t) => {
  const officers = officersOf(...Array.from({ length: 16 }, (_, k) => `organisation-${k}`));
  const plan = planFor(CHAIN, 16, officers);
  const signers = officers.map((officer) => signerOf(officer));
  const secrets = officers.map(() => newPrivateKey());
  const announcements = signers.map((signer, k) => announce(plan, secrets[k]!, signer, systemRandom));
  const dealing = must(dealToOfficers(plan, announcements, signers[0]!, engine, systemRandom));
  t.ok(encode(recoveryPlan, plan).length < MAX_RECOVERY_MESSAGE_BYTES);
  t.equal(dealing.dealing.length, MAX_RECOVERY_DEALING_BYTES);
  t.ok(encode(recoveryDealing, dealing).length < MAX_RECOVERY_MESSAGE_BYTES);
  const f = Array.from({ length: 16 }, () => bytesToBigint(newPrivateKey()));
  const commitment = f.map((c) => encodePoint(GENERATOR.multiply(c)));
  const said = {
    sessionId: H('session'),
    index: 16,
    commitment,
    proof: new Uint8Array(64),
    signature: new Uint8Array(64),
  };
  t.ok(encode(recoveryHolding, said).length < MAX_RECOVERY_MESSAGE_BYTES);
  const holders = plan.holders.map((holder) => ({
    ...holder,
    orgId: 'o'.repeat(32),
    proof: said.proof,
    signature: said.signature,
  }));
  const registration = { nonce: plan.nonce, threshold: 16, commitment, holders };
  t.ok(encode(recoveryKeyRegistration, registration).length < MAX_TX_BYTES / 2);
});
