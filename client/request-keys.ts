/**
 * The fresh key of each request: in the home, sealed under a key that only the account's private key gives, until the
 * grant has ended. Then the file goes, and with it the means to read what custodians answered: that is the requester's
 * forward secrecy.
 *
 *   requests/HASH.json = { version, chainId, account, request (canonical), sealed = iv (16) || SM4-CTR || HMAC-SM3 (32) }
 *   dk = KDF(TLV("request-key", private key, request hash), 48)
 */
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { unlink } from 'node:fs/promises';
import { bytesToHex, concatBytes, equalBytes, equalBytesConstantTime } from '../common/bytes.ts';
import { decode, encode } from '../common/codec.ts';
import { kdfTlv, tlv } from '../common/crypto/hash.ts';
import { publicKeyOf } from '../common/crypto/sm2.ts';
import { hmacSm3 } from '../common/crypto/sm3.ts';
import { accessRequest, type AccessRequest, requestHashOf } from '../common/protocol/transaction.ts';
import { ClientError } from './errors.ts';
import { hexOf, parseId } from './hex.ts';
import { type Home, readPrivateJson, writePrivateJson } from './home.ts';
import { randomSecret } from './randomness.ts';

const IV_BYTES = 16;
const KEY_BYTES = 32;
const TAG_BYTES = 32;
const MAX_REQUEST_BYTES = 1024;
/** A grant that ended by another clock may still be served for a moment. */
const KEEP_AFTER_END_MS = 3_600_000;

const FILE = /^[0-9a-f]{64}\.json$/;

export interface StoredRequest {
  readonly hash: Uint8Array;
  readonly chainId: Uint8Array;
  readonly account: Uint8Array;
  readonly request: AccessRequest;
  readonly sealed: Uint8Array;
}

const fileOf = (home: Home, hash: Uint8Array): string => home.file('requests', `${bytesToHex(hash)}.json`);

function sealingKeys(privateKey: Uint8Array, hash: Uint8Array) {
  const dk = kdfTlv(48, 'request-key', privateKey, hash);
  return { cipherKey: dk.subarray(0, 16), macKey: dk.subarray(16) };
}

const sealTag = (macKey: Uint8Array, hash: Uint8Array, iv: Uint8Array, ciphertext: Uint8Array): Uint8Array =>
  hmacSm3(macKey, tlv('request-key-seal', hash, iv, ciphertext));

/** @param accountKey private key of the requester's account */
export async function storeRequestKey(
  home: Home,
  chainId: Uint8Array,
  request: AccessRequest,
  requestKey: Uint8Array,
  accountKey: Uint8Array,
): Promise<void> {
  const hash = requestHashOf(chainId, request);
  const { cipherKey, macKey } = sealingKeys(accountKey, hash);
  const iv = randomSecret(IV_BYTES);
  const ciphertext = new Uint8Array(createCipheriv('sm4-ctr', cipherKey, iv).update(requestKey));
  await home.ensure('requests');
  await writePrivateJson(fileOf(home, hash), {
    version: 1,
    chainId: hexOf(chainId),
    account: hexOf(request.requester),
    request: hexOf(encode(accessRequest, request)),
    sealed: hexOf(concatBytes(iv, ciphertext, sealTag(macKey, hash, iv, ciphertext))),
  });
}

export async function forgetRequestKey(home: Home, hash: Uint8Array): Promise<void> {
  await unlink(fileOf(home, hash)).catch(() => undefined);
}

function parse(value: unknown, hash: Uint8Array): StoredRequest | undefined {
  const fields = value as Record<string, unknown>;
  const bytes = (name: string, length: number): Uint8Array => parseId(String(fields[name]), length, name);
  const text = String(fields['request']);
  const request = decode(accessRequest, parseId(text, Math.max(0, text.length / 2 - 1), 'request'), MAX_REQUEST_BYTES);
  if (!request.ok) return undefined;
  const chainId = bytes('chainId', 32);
  if (!equalBytes(requestHashOf(chainId, request.value), hash)) return undefined;
  const sealed = bytes('sealed', IV_BYTES + KEY_BYTES + TAG_BYTES);
  return { hash, chainId, account: bytes('account', 20), request: request.value, sealed };
}

/** The request whose key is here, or undefined. */
export async function findStoredRequest(home: Home, hash: Uint8Array): Promise<StoredRequest | undefined> {
  const value = await readPrivateJson(fileOf(home, hash));
  if (value === undefined) return undefined;
  const stored = parse(value, hash);
  if (stored === undefined) {
    throw new ClientError(
      'HOME_FILE_DAMAGED',
      `${fileOf(home, hash)} was changed.`,
      'Restore it, or ask for access again.',
    );
  }
  return stored;
}

/** All requests whose keys are here; files that cannot be read are passed over. */
export async function listStoredRequests(home: Home): Promise<readonly StoredRequest[]> {
  const found: StoredRequest[] = [];
  for (const name of await home.list('requests')) {
    if (!FILE.test(name)) continue;
    try {
      const stored = await findStoredRequest(home, parseId(name.slice(0, 64), 32, 'request'));
      if (stored !== undefined) found.push(stored);
    } catch {
      // Told where the request itself is asked for.
    }
  }
  return found;
}

/** Deletes the keys of requests whose time is over. @returns how many */
export async function pruneRequestKeys(home: Home, nowMs: number): Promise<number> {
  const ended = (await listStoredRequests(home)).filter(
    ({ request }) => request.notAfterMs + KEEP_AFTER_END_MS < nowMs,
  );
  for (const { hash } of ended) await forgetRequestKey(home, hash);
  return ended.length;
}

/** @returns the request's private key, 32 bytes @throws ClientError REQUEST_KEY_LOCKED */
export function openRequestKey(stored: StoredRequest, accountKey: Uint8Array): Uint8Array {
  const { hash, sealed, request } = stored;
  const { cipherKey, macKey } = sealingKeys(accountKey, hash);
  const iv = sealed.subarray(0, IV_BYTES);
  const ciphertext = sealed.subarray(IV_BYTES, IV_BYTES + KEY_BYTES);
  if (equalBytesConstantTime(sealTag(macKey, hash, iv, ciphertext), sealed.subarray(IV_BYTES + KEY_BYTES))) {
    const key = new Uint8Array(createDecipheriv('sm4-ctr', cipherKey, iv).update(ciphertext));
    if (equalBytes(publicKeyOf(key), request.requesterKey)) return key;
  }
  throw new ClientError(
    'REQUEST_KEY_LOCKED',
    'The key of the request does not open with this account key.',
    'Use the key that made the request (--as KEYNAME), or ask for access again.',
  );
}
