/**
 * Keystore files: one secret under a passphrase. JSON, so that a person can see whose key it is:
 *
 *   { version: 1, kind, address, publicKey,
 *     kdf:    { name: "scrypt", n, r, p, salt (32 bytes) },
 *     cipher: { name: "sm4-ctr-hmac-sm3", iv (16 bytes) }, ciphertext, tag (32 bytes) }          bytes are 0x-hex
 *
 *   dk  = scrypt(passphrase, salt, n, r, p, 48 bytes); SM4 key = dk[0..16), MAC key = dk[16..48)
 *   tag = HMAC-SM3(MAC key, TLV("keystore", u32 version, kind, address, publicKey, u32 n, u32 r, u32 p, salt, iv, ciphertext))
 *
 * Encrypt-then-MAC over every field: nobody can put one person's secret under another's address. A file comes from
 * wherever it was copied from, so that its numbers are bounded before they are used.
 */

import { createCipheriv, createDecipheriv, randomBytes, scrypt } from 'node:crypto';
import { bytesToHex0x, equalBytes, equalBytesConstantTime, parseHex0x, parseUtf8, u32be, utf8 } from '../bytes.ts';
import { PUBLIC_KEY_BYTES, isPublicKey } from '../crypto/curve.ts';
import { tlv } from '../crypto/hash.ts';
import { ADDRESS_BYTES, parsePrivateKey, publicKeyOf, sm2Address } from '../crypto/sm2.ts';
import { hmacSm3 } from '../crypto/sm3.ts';
import { EmrError, accept, assert, reject } from '../errors.ts';
import type { Verdict } from '../errors.ts';
import { readSecretFile, writeSecretFile } from './secret-file.ts';

const VERSION = 1;
const KDF_NAME = 'scrypt';
const CIPHER_NAME = 'sm4-ctr-hmac-sm3';
const SALT_BYTES = 32;
const IV_BYTES = 16;
const TAG_BYTES = 32;

/** A private key of 32 bytes: opening checks that it belongs to the public key. Other kinds hold what they hold. */
export const SM2_KEY_KIND = 'sm2-key';
/** The libp2p key of a node, in libp2p's own form, beside the SM2 key that the chain binds it to. */
export const PEER_KEY_KIND = 'libp2p-key';
const KIND = /^[a-z][a-z0-9-]{0,31}$/;

/** Keys and small JSON; a keystore is no place for documents. */
export const MAX_SECRET_BYTES = 16 * 1024;
/** Hex doubles the secret; the rest is below 2 KB. */
export const MAX_KEYSTORE_BYTES = 2 * MAX_SECRET_BYTES + 4096;

/** 128 MiB and some 0.4 s per guess. */
const SCRYPT_N = 2 ** 17;
const SCRYPT_R = 8;
const SCRYPT_P = 1;
// What a file may ask for: never weaker than what we write, never more than 512 MiB and some seconds.
const SCRYPT_N_MAX = 2 ** 19;
const SCRYPT_P_MAX = 4;

export interface KeystoreIdentity {
  /** `sm2-key`, or the name of another kind of secret: lower-case letters, digits, hyphens; at most 32. */
  readonly kind: string;
  /** 20 bytes: the account that the secret belongs to. */
  readonly address: Uint8Array;
  /** 64 bytes x || y, of this address. */
  readonly publicKey: Uint8Array;
}

export interface Keystore extends KeystoreIdentity {
  readonly n: number;
  readonly r: number;
  readonly p: number;
  readonly salt: Uint8Array;
  readonly iv: Uint8Array;
  readonly ciphertext: Uint8Array;
  readonly tag: Uint8Array;
}

function authenticated(keystore: Omit<Keystore, 'tag'>): Uint8Array {
  const { kind, address, publicKey, n, r, p, salt, iv, ciphertext } = keystore;
  const numbers = [u32be(n), u32be(r), u32be(p)];
  return tlv('keystore', u32be(VERSION), utf8(kind), address, publicKey, ...numbers, salt, iv, ciphertext);
}

type Kdf = Pick<Keystore, 'n' | 'r' | 'p' | 'salt'>;

interface DerivedKeys {
  readonly cipherKey: Uint8Array;
  readonly macKey: Uint8Array;
  erase(): void;
}

async function deriveKeys(passphrase: Uint8Array, kdf: Kdf): Promise<DerivedKeys> {
  const { n: N, r, p, salt } = kdf;
  const dk = await new Promise<Uint8Array>((resolve, refuse) => {
    // OpenSSL counts a little more than 128 * N * r.
    const options = { N, r, p, maxmem: 128 * r * (N + p) + 1024 * 1024 };
    scrypt(passphrase, salt, 48, options, (error, key) => (error === null ? resolve(key) : refuse(error)));
  });
  return { cipherKey: dk.subarray(0, 16), macKey: dk.subarray(16), erase: () => dk.fill(0) };
}

const freshKdf = (): Kdf => ({ n: SCRYPT_N, r: SCRYPT_R, p: SCRYPT_P, salt: randomBytes(SALT_BYTES) });

const isSameKdf = (a: Kdf, b: Kdf): boolean => a.n === b.n && a.r === b.r && a.p === b.p && equalBytes(a.salt, b.salt);

/**
 * Text of a keystore file.
 * @param secret 1..16384 bytes; for `sm2-key` the 32-byte private key of the public key
 * @param passphrase bytes, as `passphrase.ts` yields them
 */
export async function encryptKeystore(
  identity: KeystoreIdentity,
  secret: Uint8Array,
  passphrase: Uint8Array,
): Promise<string> {
  const [text] = await encryptKeystores([{ identity, secret }], passphrase);
  assert(text !== undefined, 'encryptKeystore: no text');
  return text;
}

interface KeystoreContent {
  readonly identity: KeystoreIdentity;
  readonly secret: Uint8Array;
}

/** All with one salt, so that whoever has the passphrase derives once. Each file has an iv of its own. */
async function encryptKeystores(contents: readonly KeystoreContent[], passphrase: Uint8Array): Promise<string[]> {
  for (const { identity, secret } of contents) {
    assert(KIND.test(identity.kind), 'encryptKeystore: bad kind');
    assert(isOwnAddress(identity), 'encryptKeystore: address and public key do not belong together');
    assert(secret.length >= 1 && secret.length <= MAX_SECRET_BYTES, 'encryptKeystore: secret too short or long');
    assert(belongs(identity, secret), 'encryptKeystore: private key of another public key');
  }
  const kdf = freshKdf();
  const keys = await deriveKeys(passphrase, kdf);
  try {
    return contents.map((content) => seal(content, kdf, keys));
  } finally {
    keys.erase();
  }
}

function seal({ identity, secret }: KeystoreContent, kdf: Kdf, keys: DerivedKeys): string {
  const iv = randomBytes(IV_BYTES);
  const ciphertext = createCipheriv('sm4-ctr', keys.cipherKey, iv).update(secret);
  const tag = hmacSm3(keys.macKey, authenticated({ ...identity, ...kdf, iv, ciphertext }));
  const { n, r, p, salt } = kdf;
  const file = {
    version: VERSION,
    kind: identity.kind,
    address: bytesToHex0x(identity.address),
    publicKey: bytesToHex0x(identity.publicKey),
    kdf: { name: KDF_NAME, n, r, p, salt: bytesToHex0x(salt) },
    cipher: { name: CIPHER_NAME, iv: bytesToHex0x(iv) },
    ciphertext: bytesToHex0x(ciphertext),
    tag: bytesToHex0x(tag),
  };
  return `${JSON.stringify(file, null, 2)}\n`;
}

function isOwnAddress({ address, publicKey }: KeystoreIdentity): boolean {
  return isPublicKey(publicKey) && equalBytes(sm2Address(publicKey), address);
}

function belongs(identity: KeystoreIdentity, secret: Uint8Array): boolean {
  if (identity.kind !== SM2_KEY_KIND) return true;
  return parsePrivateKey(secret) !== undefined && equalBytes(publicKeyOf(secret), identity.publicKey);
}

/** The fields of an object that has exactly these keys; else undefined. */
function exactFields(value: unknown, keys: readonly string[]): Record<string, unknown> | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  const present = Object.keys(value);
  if (present.length !== keys.length || !keys.every((key) => present.includes(key))) return undefined;
  return value as Record<string, unknown>;
}

const hexField = (value: unknown, byteLength?: number): Uint8Array | undefined =>
  typeof value === 'string' ? parseHex0x(value, byteLength) : undefined;

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function parseKdf(value: unknown): Kdf | undefined {
  const fields = exactFields(value, ['name', 'n', 'r', 'p', 'salt']);
  if (fields === undefined || fields['name'] !== KDF_NAME || fields['r'] !== SCRYPT_R) return undefined;
  const { n, p } = fields;
  const salt = hexField(fields['salt'], SALT_BYTES);
  if (typeof n !== 'number' || typeof p !== 'number' || salt === undefined) return undefined;
  if (![SCRYPT_N, 2 * SCRYPT_N, SCRYPT_N_MAX].includes(n)) return undefined;
  if (!Number.isInteger(p) || p < 1 || p > SCRYPT_P_MAX) return undefined;
  return { n, r: SCRYPT_R, p, salt };
}

function parseIdentity(fields: Record<string, unknown>): KeystoreIdentity | undefined {
  const { kind } = fields;
  const address = hexField(fields['address'], ADDRESS_BYTES);
  const publicKey = hexField(fields['publicKey'], PUBLIC_KEY_BYTES);
  if (typeof kind !== 'string' || !KIND.test(kind) || address === undefined || publicKey === undefined)
    return undefined;
  const identity = { kind, address, publicKey };
  return isOwnAddress(identity) ? identity : undefined;
}

const FILE_FIELDS = ['version', 'kind', 'address', 'publicKey', 'kdf', 'cipher', 'ciphertext', 'tag'];

/** Reads untrusted text of a keystore. Nothing in it is authentic before it has been decrypted. */
export function parseKeystore(text: string): Verdict<Keystore> {
  const malformed = (what: string): Verdict<never> => reject('KEYSTORE_MALFORMED', `Not a keystore of ours: ${what}.`);
  if (text.length > MAX_KEYSTORE_BYTES) return malformed('too long');
  const fields = exactFields(parseJson(text), FILE_FIELDS);
  if (fields === undefined) return malformed('not JSON with exactly the fields of a keystore');
  if (fields['version'] !== VERSION) return malformed('unknown version');
  const identity = parseIdentity(fields);
  if (identity === undefined) return malformed('kind, address or public key');
  const kdf = parseKdf(fields['kdf']);
  if (kdf === undefined) return malformed('key derivation parameters out of bounds');
  const cipher = exactFields(fields['cipher'], ['name', 'iv']);
  const iv = hexField(cipher?.['iv'], IV_BYTES);
  const ciphertext = hexField(fields['ciphertext']);
  const tag = hexField(fields['tag'], TAG_BYTES);
  if (cipher?.['name'] !== CIPHER_NAME || iv === undefined) return malformed('cipher');
  if (ciphertext === undefined || ciphertext.length === 0 || tag === undefined) return malformed('ciphertext or tag');
  return accept({ ...identity, ...kdf, iv, ciphertext, tag });
}

/** @returns the secret, or KEYSTORE_UNLOCK_FAILED: wrong passphrase or changed file, which cannot be told apart */
export async function decryptKeystore(keystore: Keystore, passphrase: Uint8Array): Promise<Verdict<Uint8Array>> {
  const keys = await deriveKeys(passphrase, keystore);
  try {
    return unseal(keystore, keys);
  } finally {
    keys.erase();
  }
}

function unseal(keystore: Keystore, keys: DerivedKeys): Verdict<Uint8Array> {
  const tag = hmacSm3(keys.macKey, authenticated(keystore));
  if (equalBytesConstantTime(tag, keystore.tag)) {
    const secret = createDecipheriv('sm4-ctr', keys.cipherKey, keystore.iv).update(keystore.ciphertext);
    if (belongs(keystore, secret)) return accept(Uint8Array.from(secret));
  }
  return reject('KEYSTORE_UNLOCK_FAILED', 'The passphrase is wrong, or the keystore was changed.');
}

/**
 * Writes a keystore file, mode 0600, whole and durable or not at all.
 * @throws EmrError SECRET_FILE_EXISTS unless `replace`, SECRET_FILE_NOT_FOUND (folder), SECRET_FILE_IO
 */
export async function writeKeystore(
  path: string,
  identity: KeystoreIdentity,
  secret: Uint8Array,
  passphrase: Uint8Array,
  options: { readonly replace?: boolean } = {},
): Promise<void> {
  const text = await encryptKeystore(identity, secret, passphrase);
  await writeSecretFile(path, utf8(text), options.replace ?? false);
}

/**
 * Writes the keystores of one holder, which `openKeystores` opens for the price of one derivation.
 * @throws EmrError as `writeKeystore`; files before the one that fails are there
 */
export async function writeKeystores(
  files: readonly (KeystoreContent & { readonly path: string })[],
  passphrase: Uint8Array,
): Promise<void> {
  const texts = await encryptKeystores(files, passphrase);
  for (const [index, { path }] of files.entries()) await writeSecretFile(path, utf8(texts[index] as string), false);
}

/**
 * Reads a keystore file without opening it: whose key it claims to be.
 * @throws EmrError KEYSTORE_MALFORMED, SECRET_FILE_NOT_FOUND, SECRET_FILE_PERMISSIONS, SECRET_FILE_INVALID, SECRET_FILE_IO
 */
export async function readKeystore(path: string): Promise<Keystore> {
  const text = parseUtf8(await readSecretFile(path, MAX_KEYSTORE_BYTES));
  const parsed =
    text === undefined ? reject('KEYSTORE_MALFORMED', 'Not a keystore of ours: no text.') : parseKeystore(text);
  if (!parsed.ok) throw new EmrError(parsed.code, `${path}: ${parsed.message}`, { path });
  return parsed.value;
}

/** What a keystore held. The caller erases the secret when done. */
export type OpenedKeystore = KeystoreIdentity & { readonly secret: Uint8Array };

/**
 * Reads and opens a keystore file.
 * @returns the authenticated identity and the secret
 * @throws EmrError as `readKeystore`, and KEYSTORE_UNLOCK_FAILED
 */
export async function openKeystore(path: string, passphrase: Uint8Array): Promise<OpenedKeystore> {
  const [opened] = await openKeystores([path], passphrase);
  assert(opened !== undefined, 'openKeystore: nothing opened');
  return opened;
}

/**
 * Reads and opens keystore files of one passphrase, one derivation after the other: each takes 128 MiB or more while it
 * lasts. A salt that the file before has is not derived again.
 * @returns in the order of `paths`
 * @throws EmrError as `openKeystore`; secrets that were opened until then are erased
 */
export async function openKeystores(paths: readonly string[], passphrase: Uint8Array): Promise<OpenedKeystore[]> {
  const opened: OpenedKeystore[] = [];
  let last: { readonly kdf: Kdf; readonly keys: DerivedKeys } | undefined;
  try {
    for (const path of paths) {
      const keystore = await readKeystore(path);
      if (last === undefined || !isSameKdf(last.kdf, keystore)) {
        last?.keys.erase();
        last = { kdf: keystore, keys: await deriveKeys(passphrase, keystore) };
      }
      const secret = unseal(keystore, last.keys);
      if (!secret.ok) throw new EmrError(secret.code, `${path}: ${secret.message}`, { path });
      const { kind, address, publicKey } = keystore;
      opened.push({ kind, address, publicKey, secret: secret.value });
    }
    return opened;
  } catch (error) {
    for (const { secret } of opened) secret.fill(0);
    throw error;
  } finally {
    last?.keys.erase();
  }
}
