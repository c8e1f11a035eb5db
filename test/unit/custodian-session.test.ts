/** The custodian in custody sessions: what it says in each phase, what it keeps, what it refuses to hand on. */
import { chmod, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { bytesToBigint, bytesToHex, hexToBytes } from '../../common/bytes.ts';
import { CURVE_ORDER, decodePoint, encodePoint, GENERATOR } from '../../common/crypto/curve.ts';
import { deal } from '../../common/crypto/custody/dealing.ts';
import { lagrangeAtZero } from '../../common/crypto/custody/sharing.ts';
import { EmrError } from '../../common/errors.ts';
import { confirmSet, readConfirmedSets } from '../../common/native/custody-confirmed.ts';
import { newPrivateKey } from '../../common/native/sm2-select.ts';
import { Seal } from '../../common/native/custody-seal.ts';
import { SealedStore } from '../../common/native/custody-store.ts';
import { waits } from '../../node/custodian/waits.ts';
import { CHAIN, type Hospital, hospitalOf, Ledger, random, start } from './custody-ledger.ts';

const fourOf = (t: Parameters<typeof hospitalOf>[0]) => Promise.all(['a', 'b', 'c', 'd'].map((n) => hospitalOf(t, n)));
const filesOf = async ({ dir }: Hospital) =>
  (await readdir(dir)).map((name) => name.split('-')[0]).sort((a, b) => (a! < b! ? -1 : 1));

/** x, from the sealed shares of some holders: what nobody else can do. */
async function secretOf(hospitals: readonly Hospital[], indices: readonly number[]): Promise<bigint> {
  const lambda = lagrangeAtZero(indices);
  let x = 0n;
  for (const [k, index] of indices.entries()) {
    const { dir, secret } = hospitals[index - 1]!;
    const store = await SealedStore.open(dir, new Seal(CHAIN, secret, random));
    const [share] = store.all().filter(({ kind }) => kind === 'share');
    x = (x + lambda[k]! * bytesToBigint(share!.content)) % CURVE_ORDER;
  }
  return x;
}

t.test('a key is made, handed on to the same hospitals, and stays the same', async (t) => {
  const four = await fourOf(t);
  const ledger = new Ledger();
  ledger.open(four);
  const first = await ledger.complete(four);
  t.same(encodePoint(GENERATOR.multiply(await secretOf(four, [1, 2, 3]))), first.key, 'three of four have it');
  t.same(encodePoint(GENERATOR.multiply(await secretOf(four, [2, 3, 4]))), first.key, 'whichever');
  t.notSame(encodePoint(GENERATOR.multiply(await secretOf(four, [1, 2]))), first.key, 'two have nothing');
  for (const hospital of four) {
    t.same((await ledger.ask(hospital)).steps, []);
    t.same(await filesOf(hospital), ['share'], 'what was needed to make it is erased once it is in use');
  }

  const confirmed = ledger.open(four);
  await ledger.round(four);
  const waiting = await ledger.ask(four[0]!);
  t.same(waiting.steps, [], 'nothing is handed on that the operator has not confirmed');
  t.match(waiting.waitsFor, `emrchain custody confirm ${confirmed} --dir DIR`);
  for (const { confirmed: sets } of four) sets.add(confirmed);
  await ledger.round(four);
  ledger.finalise();
  await ledger.round(four);
  t.same((await filesOf(four[0]!)).length, 4, 'until the new shares are in use, the old one is kept');
  const second = ledger.activate();
  t.same(second.key, first.key, 'the key is the same');
  t.notSame(second.holders, first.holders, 'the shares are others');
  for (const hospital of four) await ledger.ask(hospital);
  t.same(await filesOf(four[0]!), ['share']);
  t.same(encodePoint(GENERATOR.multiply(await secretOf(four, [1, 3, 4]))), first.key);
});

t.test('a hospital joins, and another leaves without a word', async (t) => {
  const four = await fourOf(t);
  const ledger = new Ledger();
  ledger.open(four);
  const before = await ledger.complete(four);
  const fifth = await hospitalOf(t, 'e');
  const next = [four[0]!, four[1]!, four[2]!, fifth];
  const hash = ledger.open(next);
  await ledger.round(next);
  t.match((await ledger.ask(four[0]!)).waitsFor, /4 hospitals \(new: hospital-e; gone: hospital-d\)/);
  for (const { confirmed } of four) confirmed.add(hash);
  // The one that leaves deals no more; three of four are enough. The new one has nothing to hand on.
  t.same((await ledger.ask(fifth)).steps, []);
  await ledger.round(four.slice(0, 3));
  ledger.finalise();
  await ledger.round(next);
  const after = ledger.activate();
  t.same(after.key, before.key);
  for (const hospital of [...next, four[3]!]) await ledger.ask(hospital);
  t.same(encodePoint(GENERATOR.multiply(await secretOf(next, [2, 3, 4]))), before.key, 'the new one holds a share');
  t.same(await filesOf(four[3]!), [], 'the one that left has erased its own');
});

t.test('a restart between any two steps changes nothing that is said', async (t) => {
  const four = await fourOf(t);
  const [one] = four as [Hospital];
  const ledger = new Ledger();
  ledger.open(four);
  const keyOf = async () => {
    const [step] = (await ledger.ask(one)).steps;
    if (step?.kind !== 'announce') throw new Error('no announcement');
    return bytesToHex(step.key);
  };
  const key = await keyOf();
  one.custodian = await start(one);
  t.equal(await keyOf(), key, 'the same key');
  await ledger.round(four);
  const dealt = (await ledger.ask(one)).steps;
  one.custodian = await start(one);
  t.same((await ledger.ask(one)).steps, dealt, 'the same dealing, byte for byte');
  await ledger.round(four);
  ledger.finalise();
  one.custodian = await start(one);
  await ledger.round(four);
  one.custodian = await start(one);
  ledger.activate();
  t.same(await ledger.ask(one), { kind: 'steps', orgId: one.orgId, steps: [], waitsFor: null });
  one.custodian = await start(one);
  t.equal((await ledger.ask(one)).waitsFor, null, 'it has its share');
  for (const hospital of four) t.equal((await stat(join(hospital.dir))).isDirectory(), true);
  const [name] = await readdir(one.dir);
  t.equal((await stat(join(one.dir, name!))).mode & 0o777, 0o600);
});

t.test('a dealer that cheats one receiver is accused by it, and the key is made without', async (t) => {
  const four = await fourOf(t);
  const ledger = new Ledger();
  ledger.open(four);
  await ledger.round(four);
  const [cheat, ...honest] = four as [Hospital, Hospital, Hospital, Hospital];
  const { id, threshold, keys } = ledger.session!;
  const receivers = keys.map((bytes, k) => ({ index: k + 1, P: decodePoint(bytes!)! }));
  // What the second receiver opens is not its part: it was encrypted to another key.
  const wrong = receivers.map((r) => (r.index === 2 ? { index: 2, P: GENERATOR.multiply(7n) } : r));
  const dealing = deal({ id, n: 4, t: threshold }, 1, null, wrong, random);
  await ledger.round(honest);
  ledger.say(cheat, { kind: 'deal', dealing });
  const kindsOf = async (hospital: Hospital) => (await ledger.ask(hospital)).steps.map(({ kind }) => kind);
  t.same(await kindsOf(honest[1]), [], 'who was not cheated has nothing to say');
  t.same(await kindsOf(honest[0]), ['complain'], 'who was says so at once');
  ledger.finalise();
  const accused = await ledger.ask(honest[0]);
  t.same(
    accused.steps.map(({ kind }) => kind),
    ['complain'],
    'and later, in the place of a confirmation of what it cannot have',
  );
  for (const step of accused.steps) ledger.say(honest[0], step);
  t.same(ledger.session!.disqualified, [1]);
  t.same(ledger.session!.falseAccusers, []);
  ledger.finalise();
  await ledger.round(four);
  const { key } = ledger.activate();
  t.same(encodePoint(GENERATOR.multiply(await secretOf(four, [1, 2, 4]))), key);
});

t.test('what a custodian does not believe', async (t) => {
  const four = await fourOf(t);
  const [one] = four as [Hospital];
  const refusedWith = async (ledger: Ledger, change: (ledger: Ledger) => void, hospital = one): Promise<string> => {
    change(ledger);
    const answer = await hospital.custodian.answer(ledger.demand());
    return answer.kind === 'refused' ? answer.code : answer.kind;
  };
  const ledger = new Ledger();
  ledger.open(four);
  t.equal(
    await refusedWith(ledger, ({ session }) => (session!.threshold = 2)),
    'CUSTODY_INCONSISTENT',
    'a lower threshold',
  );
  t.equal(
    await refusedWith(ledger, ({ session }) => ((session!.threshold = 3), (session!.epoch = 2))),
    'CUSTODY_INCONSISTENT',
    'an epoch that does not follow',
  );
  ledger.session!.epoch = 1;
  const old = ledger.demand();
  await ledger.round(four);
  const rolledBack = await one.custodian.answer(old);
  t.equal(rolledBack.kind === 'refused' && rolledBack.code, 'CUSTODIAN_ROLLBACK', 'a state from before');
  await ledger.round(four);
  ledger.finalise();
  const { result } = ledger.session!;
  const other = encodePoint(GENERATOR.multiply(5n));
  t.equal(
    await refusedWith(ledger, ({ session }) => (session!.result = { ...result!, key: other })),
    'CUSTODY_INCONSISTENT',
    'a result that the dealings do not give',
  );
  ledger.session!.result = result;
  one.custodian = await start(one);
  const incomplete = ledger.demand();
  const unseen = await one.custodian.answer({ ...incomplete, dealings: incomplete.dealings.slice(1) });
  t.equal(unseen.kind === 'refused' && unseen.code, 'CUSTODY_INCOMPLETE', 'dealings that are kept from it');
  const state = ledger.state();
  const forged = { ...ledger.demand(state), epoch: ledger.state().proof(hexToBytes('90')) };
  ledger.more.push([hexToBytes('0102'), Uint8Array.of(1)]);
  const foreign = { ...forged, session: ledger.state().proof(hexToBytes('91')) };
  const mismatch = await one.custodian.answer(foreign);
  t.equal(mismatch.kind === 'refused' && mismatch.code, 'STATE_PROOF_MISMATCH', 'proofs of another state');

  const stranger = await hospitalOf(t, 'a');
  const named = new Ledger();
  named.height = 500;
  named.open(four);
  const told = await named.ask(stranger);
  t.same(told.steps, [], 'a session that names another key for its hospital');
  t.equal(told.waitsFor, waits.otherCustodian('hospital-a'));
});

t.test('files that do not open are neither passed over nor written over', async (t) => {
  const four = await fourOf(t);
  const [one, two] = four as [Hospital, Hospital];
  const ledger = new Ledger();
  ledger.open(four);
  await ledger.complete(four);
  for (const hospital of four) await ledger.ask(hospital);
  const [name] = await readdir(one.dir);
  const path = join(one.dir, name!);
  const sealed = await readFile(path);
  const x = await secretOf(four, [1]);
  t.equal(sealed.includes(Buffer.from(x.toString(16).padStart(64, '0'), 'hex')), false, 'the share is not in clear');
  for (const at of [0, 2, 10, 40, sealed.length - 1]) {
    const damaged = Uint8Array.from(sealed);
    damaged[at]! ^= 1;
    await writeFile(path, damaged, { mode: 0o600 });
    await t.rejects(start(one), { code: 'CUSTODY_SEAL_BROKEN', message: /Put it back from a backup/ }, `byte ${at}`);
    t.same(new Uint8Array(await readFile(path)), damaged, 'it is left as it is');
  }
  await writeFile(path, sealed.subarray(0, 20));
  await t.rejects(start(one), { code: 'CUSTODY_SEAL_BROKEN' }, 'cut off');
  await writeFile(path, sealed);
  await t.rejects(SealedStore.open(one.dir, new Seal(CHAIN, newPrivateKey(), random)), { code: 'CUSTODY_SEAL_BROKEN' });
  const elsewhere = new Seal(new Uint8Array(32), one.secret, random);
  await t.rejects(SealedStore.open(one.dir, elsewhere), { code: 'CUSTODY_SEAL_BROKEN' }, 'another chain');
  await rename(path, path.replace('share-', 'key-'));
  await t.rejects(start(one), { code: 'CUSTODY_SEAL_BROKEN' }, 'taken for something else');
  await rename(path.replace('share-', 'key-'), path);
  await writeFile(join(one.dir, 'notes.txt'), 'x');
  await t.rejects(start(one), { code: 'CUSTODY_STORE_FOREIGN', message: /notes\.txt/ });
  await rename(join(one.dir, 'notes.txt'), join(one.dir, `.${name}.00.partial`));
  one.custodian = await start(one);
  t.same(await readdir(one.dir), [name], 'what was cut off while it was written is removed');
  await rename(path, `${one.dir}.moved`);
  t.teardown(() => rm(`${one.dir}.moved`, { force: true }));
  one.custodian = await start(one);
  t.match((await ledger.ask(one)).waitsFor, /no share of epoch 1.*refresh-custody/);
  t.equal((await ledger.ask(two)).waitsFor, null);
});

t.test('which sets were confirmed', async (t) => {
  const dir = t.testdir({});
  t.same(await readConfirmedSets(dir), new Set(), 'none at first');
  const [a, b] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];
  await confirmSet(dir, a);
  await confirmSet(dir, b);
  await confirmSet(dir, a);
  t.same(await readConfirmedSets(dir), new Set([`0x${bytesToHex(a)}`, `0x${bytesToHex(b)}`]));
  const path = join(dir, 'custody-confirmed');
  t.equal((await stat(path)).mode & 0o777, 0o600);
  await writeFile(path, `${bytesToHex(a)}\n\n`);
  t.same(await readConfirmedSets(dir), new Set([`0x${bytesToHex(a)}`]), 'as somebody writes it by hand');
  for (const text of ['0x12', 'everybody', `${bytesToHex(a)}00`, '\u00e4']) {
    await writeFile(path, text);
    await t.rejects(readConfirmedSets(dir), { code: 'CUSTODY_CONFIRMED_INVALID' }, text);
  }
  await writeFile(path, `${bytesToHex(a)}\n`);
  await chmod(path, 0o666);
  await t.rejects(readConfirmedSets(dir), { code: 'SECRET_FILE_PERMISSIONS' }, 'that others can write to');
});

t.test('a list of confirmed sets that cannot be read is told, and ends nothing', async (t) => {
  const four = await fourOf(t);
  const [one] = four as [Hospital];
  const ledger = new Ledger();
  ledger.open(four);
  await ledger.complete(four);
  const hash = ledger.open(four);
  await ledger.round(four);
  one.listFault = new EmrError('CUSTODY_CONFIRMED_INVALID', 'a line is no hash');
  const answer = await one.custodian.answer(ledger.demand());
  t.match(answer, { kind: 'refused', code: 'CUSTODY_CONFIRMED_INVALID' });
  one.listFault = null;
  one.confirmed.add(hash);
  t.match((await ledger.ask(one)).steps, [{ kind: 'deal' }], 'corrected, it goes on');
});

t.test('what it waits for fits into an answer, however many hospitals there are', (t) => {
  const names = (prefix: string) => Array.from({ length: 31 }, (_, k) => ({ orgId: `${prefix}${'x'.repeat(28)}${k}` }));
  const custodianKey = new Uint8Array(64);
  const receivers = names('n').map((one) => ({ ...one, custodianKey }));
  const holders = names('o').map((one) => ({ ...one, share: new Uint8Array(33) }));
  const sentences = [
    waits.confirmation(`0x${'0'.repeat(64)}`, { receivers }, { holders }),
    waits.otherCustodian('x'.repeat(32)),
    waits.otherKey('x'.repeat(32)),
    waits.newShares(2 ** 32 - 1),
  ];
  for (const sentence of sentences) t.ok(sentence.length <= 300, `${sentence.length}: ${sentence}`);
  t.end();
});
