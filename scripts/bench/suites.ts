/**
 * One record's life under two sets of algorithms behind one interface: SM2, SM3, SM4 as this chain uses them, and ECDSA P-256,
 * SHA-256, AES-256-GCM. For comparison alone: nothing of the second set is part of the node.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
  randomBytes,
  sign,
  verify,
} from 'node:crypto';
import { sm2Decrypt, sm2Encrypt } from '../../common/crypto/sm2-encrypt.ts';
import { newPrivateKey, selectSm2Engine } from '../../common/native/sm2-select.ts';
import { type Bench, type Case, interleaved } from './measure.ts';

const CHUNK_BYTES = 1024 * 1024;
const KEY_BYTES = 32;
const ROUNDS = 12;
const KIB = 1024;
const SIZES: readonly (readonly [name: string, bytes: number])[] = [
  ['1 KiB', KIB],
  ['1 MiB', KIB * KIB],
  ['32 MiB', 32 * KIB * KIB],
];

/** Everything of a person: a pair of keys that signs and that others can encrypt to. */
interface Person {
  readonly sign: (message: Uint8Array) => Uint8Array;
  readonly verify: (message: Uint8Array, signature: Uint8Array) => boolean;
  readonly wrap: (key: Uint8Array) => Uint8Array;
  readonly unwrap: (wrapped: Uint8Array) => Uint8Array;
}

interface Suite {
  readonly name: string;
  readonly digest: (bytes: Uint8Array) => Uint8Array;
  readonly person: () => Person;
  /** Chunks of 1 MiB, each authenticated. */
  readonly seal: (key: Uint8Array, plaintext: Uint8Array) => Uint8Array[];
  readonly open: (key: Uint8Array, sealed: readonly Uint8Array[]) => void;
}

const TAG_BYTES = 32;

function chunksOf(bytes: Uint8Array): Uint8Array[] {
  const count = Math.max(1, Math.ceil(bytes.length / CHUNK_BYTES));
  return Array.from({ length: count }, (_, n) => bytes.subarray(n * CHUNK_BYTES, (n + 1) * CHUNK_BYTES));
}

const chunkIv = (index: number, length: number): Buffer => {
  const iv = Buffer.alloc(length);
  iv.writeUInt32BE(index, length - 8);
  return iv;
};

const sm: Suite = {
  name: 'SM2, SM3, SM4',
  digest: (bytes) => createHash('sm3').update(bytes).digest(),
  person: () => {
    const { engine, createSigner, random } = selectSm2Engine();
    const privateKey = newPrivateKey();
    const signer = createSigner(privateKey);
    return {
      sign: (message) => signer.sign(message),
      verify: (message, signature) => engine.verify(signer.publicKey, message, signature),
      wrap: (key) => sm2Encrypt(signer.publicKey, key, random),
      unwrap: (wrapped) => {
        const opened = sm2Decrypt(privateKey, wrapped);
        if (!opened.ok) throw new Error(opened.code);
        return opened.value;
      },
    };
  },
  seal: (key, plaintext) =>
    chunksOf(plaintext).map((chunk, index) => {
      const cipher = createCipheriv('sm4-ctr', key.subarray(0, 16), chunkIv(index, 16));
      const sealed = cipher.update(chunk);
      return Buffer.concat([sealed, createHmac('sm3', key).update(sealed).digest()]);
    }),
  open: (key, sealed) =>
    sealed.forEach((part, index) => {
      const [ciphertext, tag] = [part.subarray(0, -TAG_BYTES), part.subarray(-TAG_BYTES)];
      if (!createHmac('sm3', key).update(ciphertext).digest().equals(tag)) throw new Error('damaged');
      createDecipheriv('sm4-ctr', key.subarray(0, 16), chunkIv(index, 16)).update(ciphertext);
    }),
};

const GCM_TAG_BYTES = 16;
const SPKI_BYTES = 91;

function gcmSeal(key: Uint8Array, index: number, plaintext: Uint8Array): Buffer {
  const cipher = createCipheriv('aes-256-gcm', key, chunkIv(index, 12));
  return Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

function gcmOpen(key: Uint8Array, index: number, sealed: Uint8Array): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', key, chunkIv(index, 12));
  decipher.setAuthTag(sealed.subarray(-GCM_TAG_BYTES));
  const plaintext = decipher.update(sealed.subarray(0, -GCM_TAG_BYTES));
  decipher.final();
  return plaintext;
}

/** ECIES: an agreement with a fresh key, HKDF, AES-256-GCM. */
const agreed = (privateKey: KeyObject, publicKey: KeyObject): Uint8Array =>
  new Uint8Array(hkdfSync('sha256', diffieHellman({ privateKey, publicKey }), '', 'wrap', KEY_BYTES));

const international: Suite = {
  name: 'ECDSA P-256, SHA-256, AES-256-GCM',
  digest: (bytes) => createHash('sha256').update(bytes).digest(),
  person: () => {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
    return {
      sign: (message) => sign('sha256', message, { key: privateKey, dsaEncoding: 'ieee-p1363' }),
      verify: (message, signature) =>
        verify('sha256', message, { key: publicKey, dsaEncoding: 'ieee-p1363' }, signature),
      wrap: (key) => {
        const fresh = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
        const sealed = gcmSeal(agreed(fresh.privateKey, publicKey), 0, key);
        return Buffer.concat([fresh.publicKey.export({ format: 'der', type: 'spki' }), sealed]);
      },
      unwrap: (wrapped) => {
        const der = Buffer.from(wrapped.subarray(0, SPKI_BYTES));
        const sender = createPublicKey({ key: der, format: 'der', type: 'spki' });
        return gcmOpen(agreed(privateKey, sender), 0, wrapped.subarray(SPKI_BYTES));
      },
    };
  },
  seal: (key, plaintext) => chunksOf(plaintext).map((chunk, index) => gcmSeal(key, index, chunk)),
  open: (key, sealed) => sealed.forEach((part, index) => void gcmOpen(key, index, part)),
};

const HEADER = new Uint8Array(randomBytes(300));
const PEOPLE = 5;

/** Write: sealed, hashed, signed by physician and patient. Approve: three signatures. Order: all five verified, hashed. */
function flow(
  suite: Suite,
  [patient, physician, attending, head, reader]: readonly Person[],
  content: Uint8Array,
): void {
  if (!patient || !physician || !attending || !head || !reader) throw new Error('five people take part');
  const key = new Uint8Array(randomBytes(KEY_BYTES));
  const sealed = suite.seal(key, content);
  const digest = suite.digest(Buffer.concat(sealed));
  const header = suite.digest(Buffer.concat([HEADER, digest]));
  const approval = suite.digest(Buffer.concat([HEADER, header]));
  const signatures = [
    [physician, header, physician.sign(header)],
    [patient, header, patient.sign(header)],
    ...[patient, attending, head].map((one) => [one, approval, one.sign(approval)] as const),
  ] as const;
  for (const [who, message, signature] of signatures) {
    if (!who.verify(message, signature)) throw new Error('a signature does not verify');
    suite.digest(HEADER);
  }
  const given = reader.unwrap(reader.wrap(key));
  suite.open(given, sealed);
  if (!Buffer.from(suite.digest(Buffer.concat(sealed))).equals(digest)) throw new Error('another file');
}

function casesOf(suite: Suite): Case[] {
  const people = Array.from({ length: PEOPLE }, suite.person);
  const [one] = people as [Person];
  const message = new Uint8Array(randomBytes(KEY_BYTES));
  const signature = one.sign(message);
  const big = new Uint8Array(randomBytes(8 * KIB * KIB));
  const sealed = suite.seal(message, big);
  const times = (name: string, operations: number, run: () => unknown): Case => ({
    name: `${suite.name}: ${name}`,
    operations,
    run: () => {
      for (let n = 0; n < operations; n += 1) run();
    },
  });
  return [
    times('sign', 50, () => one.sign(message)),
    times('verify', 100, () => one.verify(message, signature)),
    times('wrap a key', 10, () => one.wrap(message)),
    times(
      'unwrap a key',
      10,
      (
        (wrapped) => () =>
          one.unwrap(wrapped)
      )(one.wrap(message)),
    ),
    times('hash 8 MiB', 1, () => suite.digest(big)),
    times('encrypt 8 MiB', 1, () => suite.seal(message, big)),
    times('decrypt 8 MiB', 1, () => suite.open(message, sealed)),
    ...SIZES.map(([name, bytes]) => {
      const content = new Uint8Array(randomBytes(bytes));
      return times(`the whole flow, ${name}`, bytes > KIB * KIB ? 1 : 5, () => flow(suite, people, content));
    }),
  ];
}

export const suites: Bench = {
  says: 'write, three approvals, verification, key wrap, read: two sets of algorithms, one thread',
  run: async () => {
    const { rows, ratio } = await interleaved([...casesOf(sm), ...casesOf(international)], ROUNDS);
    const ratios = SIZES.map(([name]) => `the whole flow, ${name}`).map((what) =>
      ratio(`${sm.name}: ${what}`, `${international.name}: ${what}`),
    );
    return { rows, ratios };
  },
};
