/** A custodian's share in three parts: what two officers bring back, and what nobody gets from one. */
import t from 'tap';
import { bytesToBigint, bytesToHex } from '../../common/bytes.ts';
import { CURVE_ORDER, encodePoint, encodeScalar, GENERATOR, modOrder } from '../../common/crypto/curve.ts';
import { lagrangeAtZero } from '../../common/crypto/custody/sharing.ts';
import { sm2Decrypt, sm2Encrypt } from '../../common/crypto/sm2-encrypt.ts';
import { newPrivateKey, selectSm2Engine } from '../../common/native/sm2-select.ts';
import {
  backUp,
  bringBack,
  handBack,
  type HandedPart,
  MAX_BACKUP_PART_BYTES,
  readHanded,
  readPart,
} from '../../common/protocol/custody-backup.ts';

const { engine, createSigner, random } = selectSm2Engine();

function party() {
  const privateKey = newPrivateKey();
  const signer = createSigner(privateKey);
  return { privateKey, signer, publicKey: signer.publicKey };
}
const custodian = party();
const officers = [party(), party(), party()];

/** The backup of a share of its own. */
function backup({ x = newPrivateKey(), chain = 3, epoch = 1, from = custodian } = {}) {
  const kept = {
    chainId: new Uint8Array(32).fill(chain),
    sessionId: new Uint8Array(32).fill(epoch),
    epoch,
    orgId: 'hospital-b',
    index: 2,
    key: encodePoint(GENERATOR.multiply(12n)),
    share: encodePoint(GENERATOR.multiply(bytesToBigint(x))),
  };
  const keys = officers.map(({ publicKey }) => publicKey);
  return { x, files: backUp(kept, x, keys, from.signer, random) };
}

const must = <T>(verdict: { ok: true; value: T } | { ok: false; code: string; message: string }): T => {
  if (!verdict.ok) throw new Error(`${verdict.code}: ${verdict.message}`);
  return verdict.value;
};
const opened = (files: readonly Uint8Array[], place: number): HandedPart => {
  const part = must(readPart(files[place - 1]!, engine));
  return must(readHanded(must(handBack(part, officers[place - 1]!, random)), engine));
};

t.test('any two officers bring the share back, in any order', async (t) => {
  const { x, files } = backup();
  for (const pair of [
    [1, 2],
    [2, 1],
    [1, 3],
    [2, 3],
  ]) {
    const parts = pair.map((place) => opened(files, place));
    t.same(must(bringBack(parts, custodian)), x, `${pair}`);
  }
  for (const value of [1n, CURVE_ORDER - 1n]) {
    const edge = backup({ x: encodeScalar(value) });
    t.same(must(bringBack([opened(edge.files, 1), opened(edge.files, 3)], custodian)), encodeScalar(value));
  }
});

t.test('one officer brings nothing back', async (t) => {
  const { x, files } = backup();
  const one = opened(files, 1);
  t.match(bringBack([one], custodian), { ok: false, code: 'CUSTODY_PARTS_DIFFER' });
  t.match(bringBack([one, one], custodian), { ok: false, code: 'CUSTODY_PARTS_DIFFER' });
  const three = [1, 2, 3].map((place) => opened(files, place));
  t.match(bringBack(three, custodian), { ok: false, code: 'CUSTODY_PARTS_DIFFER' });
  const part = must(sm2Decrypt(officers[0]!.privateKey, must(readPart(files[0]!, engine)).wrap)).subarray(0, 32);
  t.notSame(part, x);
  // For any share whatever there is a second part that fits to the first: having that one excludes nothing.
  const lambda = lagrangeAtZero([1, 2]);
  for (const other of [bytesToBigint(x), 1n, 77n]) {
    const second = modOrder(2n * bytesToBigint(part) - other);
    t.equal(modOrder(lambda[0]! * bytesToBigint(part) + lambda[1]! * second), other);
  }
});

t.test('each backup has randomness of its own, and no file has what it keeps', async (t) => {
  const { x, files } = backup();
  const again = backup({ x });
  const parts = [...files, ...again.files].map((file) => must(readPart(file, engine)));
  t.equal(new Set(parts.map(({ about }) => bytesToHex(about.slope))).size, 2);
  const secrets = parts
    .slice(0, 3)
    .map(({ wrap }, at) => must(sm2Decrypt(officers[at]!.privateKey, wrap)).slice(0, 32));
  t.equal(new Set(secrets.map(bytesToHex)).size, 3);
  const handed = [1, 2, 3].map((place) => must(handBack(parts[place - 1]!, officers[place - 1]!, random)));
  for (const file of [...files, ...handed])
    for (const secret of [x, ...secrets, custodian.privateKey, ...officers.map(({ privateKey }) => privateKey)])
      t.notOk(bytesToHex(file).includes(bytesToHex(secret)));
  t.match(bringBack([opened(files, 1), opened(again.files, 2)], custodian), {
    ok: false,
    code: 'CUSTODY_PARTS_DIFFER',
  });
});

t.test('a part is for its officer, and goes back to its custodian alone', async (t) => {
  const { files } = backup();
  const part = must(readPart(files[0]!, engine));
  t.match(handBack(part, officers[1]!, random), { ok: false, code: 'CUSTODY_PART_OTHER_OFFICER' });
  const handed = [opened(files, 1), opened(files, 2)];
  const other = party();
  t.match(bringBack(handed, other), { ok: false, code: 'CUSTODY_PART_OTHER_CUSTODIAN' });
  t.match(
    sm2Decrypt(officers[1]!.privateKey, handed[0]!.wrap),
    { ok: false },
    'the second officer opens no first part',
  );
  t.match(
    bringBack(handed, { publicKey: custodian.publicKey, privateKey: other.privateKey }),
    { ok: false, code: 'CUSTODY_PART_FALSE' },
    'a stolen public key opens nothing',
  );
});

t.test('no byte of a file can be changed, and no length', async (t) => {
  const { files } = backup();
  const [file] = files as [Uint8Array];
  const handed = must(handBack(must(readPart(file, engine)), officers[0]!, random));
  t.ok(handed.length <= MAX_BACKUP_PART_BYTES && file.length < handed.length);
  let accepted = 0;
  for (let at = 0; at < file.length; at += 1) {
    const changed = Uint8Array.from(file, (byte, k) => (k === at ? byte ^ 1 : byte));
    if (readPart(changed, engine).ok) accepted += 1;
  }
  t.equal(accepted, 0);
  for (const cut of [new Uint8Array(0), file.subarray(1), file.subarray(0, -1), Uint8Array.of(...file, 0), handed])
    t.match(readPart(cut, engine), { ok: false, code: 'CUSTODY_PART_INVALID' });
  t.match(readHanded(file, engine), { ok: false, code: 'CUSTODY_PART_INVALID' }, 'a part that no officer has opened');
  t.match(readHanded(new Uint8Array(MAX_BACKUP_PART_BYTES + 1), engine), { ok: false, code: 'CUSTODY_PART_INVALID' });
});

t.test('an officer that hands back something else is named', async (t) => {
  const { files } = backup();
  const [first, second] = [opened(files, 1), opened(files, 2)];
  const right = must(sm2Decrypt(custodian.privateKey, second.wrap));
  const lies = [
    first.wrap,
    sm2Encrypt(
      custodian.publicKey,
      Uint8Array.from(right, (byte, k) => (k === 31 ? byte ^ 1 : byte)),
      random,
    ),
    sm2Encrypt(
      custodian.publicKey,
      Uint8Array.from(right, (byte, k) => (k < 32 ? 0 : byte)),
      random,
    ),
    sm2Encrypt(
      custodian.publicKey,
      Uint8Array.from(right, (byte, k) => (k < 32 ? 255 : byte)),
      random,
    ),
    sm2Encrypt(
      custodian.publicKey,
      Uint8Array.from(right, (byte, k) => (k === 63 ? byte ^ 1 : byte)),
      random,
    ),
  ];
  for (const wrap of lies) {
    const answer = bringBack([first, { ...second, wrap }], custodian);
    t.match(answer, { ok: false, code: 'CUSTODY_PART_FALSE', message: /officer 2/ });
  }
  t.match(bringBack([first, second], custodian), { ok: true });
});

t.test('a wrap that was moved into another part does not open there', async (t) => {
  const { x, files } = backup();
  const later = must(readPart(backup({ x, epoch: 2 }).files[0]!, engine));
  const part = must(readPart(files[0]!, engine));
  t.match(handBack({ ...later, wrap: part.wrap }, officers[0]!, random), { ok: false, code: 'CUSTODY_PART_INVALID' });
  // By somebody with a key of his own, who signs what he likes: the officer hands nothing to him.
  const thief = party();
  const about = { ...part.about, custodianKey: thief.publicKey };
  t.match(handBack({ ...part, about }, officers[0]!, random), { ok: false, code: 'CUSTODY_PART_INVALID' });
});

t.test('officers are three different ones, and none is the custodian', async (t) => {
  const [a, b] = officers.map(({ publicKey }) => publicKey) as [Uint8Array, Uint8Array];
  const about = must(readPart(backup().files[0]!, engine)).about;
  const x = newPrivateKey();
  for (const keys of [
    [a, b],
    [a, b, a],
    [a, b, custodian.publicKey],
  ])
    t.throws(() => backUp(about, x, keys, custodian.signer, random), { name: 'InvariantError' });
});
