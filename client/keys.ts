/**
 * Keystores of a home: making, listing, unlocking, copying. One file for each name, under a passphrase.
 *
 * A key's account is the address of its public key, unless the account existed before the key (rotation, recovery):
 * then NAME.account.json beside the keystore names it. That file is a convenience, not a secret: the chain judges.
 */
import { readFile } from 'node:fs/promises';
import { bigintToBytes, bytesToHex0x, equalBytes, parseUtf8, utf8 } from '../common/bytes.ts';
import { hq } from '../common/crypto/hash.ts';
import { publicKeyOf, sm2Address, type Sm2Signer } from '../common/crypto/sm2.ts';
import {
  decryptKeystore,
  type Keystore,
  MAX_KEYSTORE_BYTES,
  parseKeystore,
  readKeystore,
  SM2_KEY_KIND,
  writeKeystore,
} from '../common/native/keystore.ts';
import { newPrivateKey, selectSm2Engine } from '../common/native/sm2-select.ts';
import { randomSecret } from './randomness.ts';
import { writeSecretFile } from '../common/native/secret-file.ts';
import { ClientError } from './errors.ts';
import { hexOf, parseId } from './hex.ts';
import { type Home, readPrivateJson, writePrivateJson } from './home.ts';
import { clean } from './text.ts';

/** An organisation's secret keys for tokens: what categories, departments and persons are hidden behind on chain. */
export const ORG_TOKENS_KIND = 'org-tokens';
export const KEY_KINDS = [SM2_KEY_KIND, ORG_TOKENS_KIND] as const;
export type KeyKind = (typeof KEY_KINDS)[number];

const NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/;

/** @throws ClientError KEY_NAME_INVALID */
export function checkKeyName(name: string): string {
  if (!NAME.test(name)) {
    throw new ClientError(
      'KEY_NAME_INVALID',
      `"${clean(name)}" is not a name for a key.`,
      'Use up to 64 letters, digits, - and _.',
    );
  }
  return name;
}

export interface KeyInfo {
  readonly name: string;
  readonly kind: string;
  /** Address of the public key, 20 bytes. */
  readonly address: Uint8Array;
  readonly publicKey: Uint8Array;
  /** The account that the key signs for, 20 bytes. */
  readonly account: Uint8Array;
  readonly path: string;
}

const keyFile = (home: Home, name: string): string => home.file('keys', `${checkKeyName(name)}.json`);
const accountFile = (home: Home, name: string): string => home.file('keys', `${checkKeyName(name)}.account.json`);

async function accountOf(home: Home, name: string, address: Uint8Array): Promise<Uint8Array> {
  const value = (await readPrivateJson(accountFile(home, name))) as { account?: unknown } | undefined;
  return typeof value?.account === 'string' ? parseId(value.account, 20, 'account') : address;
}

/** From now on the key signs for this account. */
export async function setAccount(home: Home, name: string, account: Uint8Array): Promise<void> {
  await writePrivateJson(accountFile(home, name), { account: bytesToHex0x(account) });
}

async function infoOf(home: Home, name: string, keystore: Keystore): Promise<KeyInfo> {
  const { kind, address, publicKey } = keystore;
  return { name, kind, address, publicKey, account: await accountOf(home, name, address), path: keyFile(home, name) };
}

/** @throws ClientError KEY_UNKNOWN, EmrError of keystores */
export async function showKey(home: Home, name: string): Promise<KeyInfo> {
  return infoOf(home, name, await loadKeystore(home, name));
}

async function loadKeystore(home: Home, name: string): Promise<Keystore> {
  try {
    return await readKeystore(keyFile(home, name));
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'SECRET_FILE_NOT_FOUND') throw error;
    throw new ClientError(
      'KEY_UNKNOWN',
      `There is no key "${name}" in ${home.path}.`,
      `emrchain keys list shows the keys of this home; emrchain keys new ${name} makes one.`,
      {},
      { cause: error },
    );
  }
}

/** All keys of the home in order of name; a file that cannot be read is told, not hidden. */
export async function listKeys(home: Home): Promise<{
  readonly keys: readonly KeyInfo[];
  readonly unreadable: readonly { readonly name: string; readonly message: string }[];
}> {
  const keys: KeyInfo[] = [];
  const unreadable: { name: string; message: string }[] = [];
  for (const file of await home.list('keys')) {
    if (!file.endsWith('.json') || file.endsWith('.account.json')) continue;
    const name = file.slice(0, -'.json'.length);
    if (!NAME.test(name)) continue;
    try {
      keys.push(await showKey(home, name));
    } catch (error) {
      unreadable.push({ name, message: error instanceof Error ? error.message : String(error) });
    }
  }
  return { keys, unreadable };
}

/** The only account key of the home, for whoever did not name one. */
export async function onlyAccountKey(home: Home): Promise<string | undefined> {
  const { keys } = await listKeys(home);
  const [first, ...others] = keys.filter(({ kind }) => kind === SM2_KEY_KIND);
  return first !== undefined && others.length === 0 ? first.name : undefined;
}

/** A fresh account key. @param passphrase erased by the caller */
export async function createAccountKey(home: Home, name: string, passphrase: Uint8Array): Promise<KeyInfo> {
  const secret = newPrivateKey();
  try {
    const publicKey = publicKeyOf(secret);
    await home.ensure('keys');
    const identity = { kind: SM2_KEY_KIND, address: sm2Address(publicKey), publicKey };
    await writeKeystore(keyFile(home, name), identity, secret, passphrase);
  } finally {
    secret.fill(0);
  }
  return showKey(home, name);
}

export interface OrgTokens {
  /** 32 bytes each. */
  readonly categoryKey: Uint8Array;
  readonly departmentKey: Uint8Array;
  /** The same for all registrars of the network, so that a person has one tag everywhere. */
  readonly personTagKey: Uint8Array;
}

const TOKEN_KEY_BYTES = 32;

/**
 * Fresh token keys under a passphrase.
 * @param personTagKey the network's, where it exists already; null makes one
 */
export async function createOrgTokens(
  home: Home,
  name: string,
  passphrase: Uint8Array,
  personTagKey: Uint8Array | null,
): Promise<KeyInfo> {
  const tokens: OrgTokens = {
    categoryKey: randomSecret(TOKEN_KEY_BYTES),
    departmentKey: randomSecret(TOKEN_KEY_BYTES),
    personTagKey: personTagKey ?? randomSecret(TOKEN_KEY_BYTES),
  };
  const secret = utf8(
    JSON.stringify(
      Object.fromEntries(Object.entries(tokens).map(([field, key]) => [field, bytesToHex0x(key as Uint8Array)])),
    ),
  );
  // Only a fingerprint: two people see by it that they hold the same keys. Nobody signs with it.
  const scalar = hq('org-tokens-fingerprint', tokens.categoryKey, tokens.departmentKey, tokens.personTagKey);
  const publicKey = publicKeyOf(bigintToBytes(scalar, 32));
  await home.ensure('keys');
  const identity = { kind: ORG_TOKENS_KIND, address: sm2Address(publicKey), publicKey };
  await writeKeystore(keyFile(home, name), identity, secret, passphrase);
  secret.fill(0);
  return showKey(home, name);
}

function parseOrgTokens(secret: Uint8Array): OrgTokens {
  const value = JSON.parse(parseUtf8(secret) ?? '{}') as Record<string, unknown>;
  const key = (field: string): Uint8Array => parseId(String(value[field]), TOKEN_KEY_BYTES, 'token key');
  return {
    categoryKey: key('categoryKey'),
    departmentKey: key('departmentKey'),
    personTagKey: key('personTagKey'),
  };
}

/** A key that is open for the length of one command. */
export interface UnlockedKey extends KeyInfo {
  readonly signer: Sm2Signer;
  /** 32 bytes, for opening what was encrypted to the key. Never stored, never printed. */
  readonly privateKey: Uint8Array;
}

async function unlock(home: Home, name: string, kind: KeyKind, passphrase: Uint8Array) {
  const keystore = await loadKeystore(home, name);
  if (keystore.kind !== kind) {
    throw new ClientError(
      'KEY_WRONG_KIND',
      `"${name}" is a key of kind ${keystore.kind}, and this takes one of kind ${kind}.`,
      'emrchain keys list shows the kinds.',
    );
  }
  const opened = await decryptKeystore(keystore, passphrase);
  if (!opened.ok) {
    throw new ClientError(
      opened.code,
      `The key "${name}" does not open: the passphrase is wrong, or the file was changed.`,
      'Try the passphrase again; without it only another copy of the key helps.',
    );
  }
  return { info: await infoOf(home, name, keystore), secret: opened.value };
}

/** Some 0.4 s: once for each command. @throws ClientError KEY_UNKNOWN, KEY_WRONG_KIND, KEYSTORE_UNLOCK_FAILED */
export async function unlockAccountKey(home: Home, name: string, passphrase: Uint8Array): Promise<UnlockedKey> {
  const { info, secret } = await unlock(home, name, SM2_KEY_KIND, passphrase);
  return { ...info, signer: selectSm2Engine().createSigner(secret), privateKey: secret };
}

export async function unlockOrgTokens(home: Home, name: string, passphrase: Uint8Array): Promise<OrgTokens> {
  const { secret } = await unlock(home, name, ORG_TOKENS_KIND, passphrase);
  try {
    return parseOrgTokens(secret);
  } finally {
    secret.fill(0);
  }
}

/** Copies the encrypted keystore to a file of mode 0600. It opens with the same passphrase. */
export async function exportKey(home: Home, name: string, path: string): Promise<KeyInfo> {
  const info = await showKey(home, name);
  await writeSecretFile(path, await readFile(info.path), false);
  return info;
}

/** Takes an exported keystore into the home, after it has opened with the passphrase. */
export async function importKey(home: Home, name: string, path: string, passphrase: Uint8Array): Promise<KeyInfo> {
  const bytes = await readFile(path);
  const text = bytes.length > MAX_KEYSTORE_BYTES ? undefined : parseUtf8(bytes);
  const parsed = parseKeystore(text ?? '');
  if (!parsed.ok) {
    throw new ClientError(parsed.code, `${path}: ${parsed.message}`, 'Give a file that emrchain keys export wrote.');
  }
  const opened = await decryptKeystore(parsed.value, passphrase);
  if (!opened.ok) throw new ClientError(opened.code, `${path}: ${opened.message}`, 'Give the passphrase of that file.');
  opened.value.fill(0);
  const { keys } = await listKeys(home);
  const same = keys.find((key) => equalBytes(key.address, parsed.value.address));
  if (same !== undefined) {
    throw new ClientError(
      'KEY_ALREADY_HERE',
      `This key is in the home already, as "${same.name}".`,
      `Use it with --as ${same.name}.`,
    );
  }
  await home.ensure('keys');
  await writeSecretFile(keyFile(home, name), bytes, false);
  return showKey(home, name);
}

/**
 * The account that a person means: 0x and 40 digits, or the name of a key of the home.
 * @throws ClientError ACCOUNT_INVALID
 */
export async function resolveAccount(home: Home, text: string): Promise<Uint8Array> {
  if (/^0x[0-9a-fA-F]{40}$/.test(text)) return parseId(text, 20, 'account');
  if (NAME.test(text)) {
    try {
      return (await showKey(home, text)).account;
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'KEY_UNKNOWN') throw error;
    }
  }
  throw new ClientError(
    'ACCOUNT_INVALID',
    `"${clean(text)}" is neither an account id nor a key of this home.`,
    'Write 0x and 40 hex digits, or the name of a key.',
  );
}

/** What a listing shows of a key. */
export const keyView = (key: KeyInfo) => ({
  name: key.name,
  kind: key.kind,
  address: hexOf(key.address),
  account: hexOf(key.account),
  publicKey: hexOf(key.publicKey),
  path: key.path,
});
