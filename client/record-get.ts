/**
 * Reading a record: the grant and the record version from the proven state, the key from its holders, the ciphertext
 * from the node, and a file that appears only after everything about it has been verified.
 */
import { createReadStream, existsSync, rmSync } from 'node:fs';
import { link, mkdtemp, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { equalBytes } from '../common/bytes.ts';
import { encode } from '../common/codec.ts';
import { writeSigningHash } from '../common/protocol/record.ts';
import {
  recordEntry,
  type RecordEntry,
  recordVersionEntry,
  type RecordVersionEntry,
  type RequestEntry,
  stateKey,
} from '../common/protocol/state-entries.ts';
import { capsule } from '../common/protocol/transaction.ts';
import { decryptToFile } from '../common/native/sm4-file.ts';
import { syncDirectory } from '../common/native/sync-directory.ts';
import { provenRequest } from './access.ts';
import { downloadBlob } from './blob-download.ts';
import type { Progress } from './blob-http.ts';
import type { ChainView, ProvenEntry } from './chain-view.ts';
import { cidText } from './cid-text.ts';
import { sidecarOf } from './custody.ts';
import { ClientError, remedyOf } from './errors.ts';
import { hexOf } from './hex.ts';
import type { Home } from './home.ts';
import type { UnlockedKey } from './keys.ts';
import { openContent } from './record-content.ts';
import { openWrap, patientWrap } from './record-offer.ts';
import { obtainKey, type Release } from './release.ts';
import { findStoredRequest, listStoredRequests, openRequestKey, type StoredRequest } from './request-keys.ts';

export interface ProvenRecord {
  readonly record: RecordEntry;
  readonly version: RecordVersionEntry;
  readonly at: ProvenEntry<RecordVersionEntry>['at'];
}

/**
 * Record and version as the chain has them, with the owner's signature over them checked.
 * @param version the latest when undefined
 */
export async function provenRecord(view: ChainView, id: Uint8Array, version?: number): Promise<ProvenRecord> {
  const { value: record } = await view.entry(stateKey.record(id), recordEntry, 'the record');
  const number = version ?? record.latestVersion;
  const found = await view.entry(
    stateKey.recordVersion(id, number),
    recordVersionEntry,
    `version ${number} of the record`,
  );
  checkOwnerSignature(view, record, found.value);
  return { record, version: found.value, at: found.at };
}

function checkOwnerSignature(view: ChainView, record: RecordEntry, version: RecordVersionEntry): void {
  const { content } = version;
  const message = writeSigningHash({
    chainId: view.node.chainId,
    recordId: record.id,
    version: version.version,
    policyRef: content.policyRef,
    owner: record.owner,
    dataDigest: content.dataDigest,
    keyCheck: content.keyCheck,
    encodedCapsule: encode(capsule, content.capsule),
    cid: content.cid,
    headerHash: content.headerHash,
    categoryToken: content.categoryToken,
    hospital: version.orgId,
    writer: version.writer,
    section: record.section,
    sizeBytes: content.sizeBytes,
    sidecarHash: content.sidecarHash,
  });
  if (!view.engine.verify(content.ownerPublicKey, message, content.ownerSignature)) {
    throw new ClientError(
      'BAD_OWNER_SIGNATURE',
      "The owner's signature on the record does not verify.",
      'Do not rely on this record, and tell the writing hospital.',
    );
  }
}

/** A grant of this account that is active now, with the key of its request. */
export interface OwnGrant {
  readonly grant: RequestEntry;
  readonly stored: StoredRequest;
}

async function checkedGrant(view: ChainView, stored: StoredRequest, nowMs: number): Promise<OwnGrant> {
  const { value: grant } = await provenRequest(view, stored.hash);
  if (grant.status !== 'granted' || grant.request.notAfterMs <= nowMs) {
    const status = grant.status === 'granted' ? 'ended' : grant.status;
    throw new ClientError(
      status === 'revoked' ? 'GRANT_REVOKED' : status === 'ended' ? 'GRANT_EXPIRED' : 'REQUEST_NOT_GRANTED',
      `The request is ${status}: it gives no access now.`,
      `emrchain access show ${hexOf(stored.hash)} says what became of it; ask again with emrchain access request.`,
      { status },
    );
  }
  return { grant, stored };
}

/** What another grant of the home may make good. */
const PASSED_OVER: ReadonlySet<string> = new Set([
  'GRANT_REVOKED',
  'GRANT_EXPIRED',
  'REQUEST_NOT_GRANTED',
  'REQUEST_UNKNOWN',
  'NOT_FOUND',
]);

/**
 * The grant to read a record by: the named one, or the one of this home that lasts longest.
 * @throws ClientError NO_GRANT, REQUEST_NOT_GRANTED, GRANT_REVOKED, GRANT_EXPIRED, REQUEST_KEY_MISSING, WRONG_RECORD
 */
export async function findGrant(
  view: ChainView,
  home: Home,
  account: Uint8Array,
  recordId: Uint8Array,
  options: { readonly hash?: Uint8Array; readonly version?: number; readonly nowMs: number },
): Promise<OwnGrant> {
  if (options.hash !== undefined) {
    const stored = await findStoredRequest(home, options.hash);
    if (stored === undefined) {
      throw new ClientError(
        'REQUEST_KEY_MISSING',
        'The key of this request is not in the home: it was made elsewhere, or has been deleted since.',
        'Use the home that asked (--home DIR), or ask for access again.',
      );
    }
    if (!equalBytes(stored.request.recordId, recordId)) {
      throw new ClientError('WRONG_RECORD', 'The request is for another record.', 'Check --grant.');
    }
    return checkedGrant(view, stored, options.nowMs);
  }
  const own = (await listStoredRequests(home)).filter(
    ({ request, account: of, chainId }) =>
      equalBytes(request.recordId, recordId) &&
      equalBytes(of, account) &&
      equalBytes(chainId, view.node.chainId) &&
      (options.version === undefined || options.version === request.version),
  );
  let last: ClientError | undefined;
  for (const stored of [...own].sort((a, b) => b.request.notAfterMs - a.request.notAfterMs)) {
    try {
      return await checkedGrant(view, stored, options.nowMs);
    } catch (error) {
      if (!(error instanceof ClientError) || !PASSED_OVER.has(error.code)) throw error;
      last ??= error;
    }
  }
  if (last !== undefined) throw last;
  throw new ClientError(
    'NO_GRANT',
    'This home has asked for no access to the record.',
    `emrchain access request ${hexOf(recordId)} --purpose TREAT --for 24h; the owner reads with --own.`,
  );
}

/** The owner's key of a record, from the wrap that travelled beside it. @throws ClientError NOT_THE_OWNER, WRAP_ERASED, … */
export async function ownKey(view: ChainView, key: UnlockedKey, proven: ProvenRecord): Promise<Uint8Array> {
  const { record, version } = proven;
  if (!equalBytes(record.owner, key.account)) {
    throw new ClientError(
      'NOT_THE_OWNER',
      'The record belongs to somebody else.',
      'Read it by a grant, without --own.',
    );
  }
  if (!equalBytes(version.content.ownerPublicKey, key.publicKey)) {
    throw new ClientError(
      'OWNER_KEY_ROTATED',
      `The record was wrapped to an earlier key of yours, ${hexOf(version.content.ownerPublicKey).slice(0, 18)}….`,
      'Name that key: --wrap-key KEYNAME.',
    );
  }
  const wrap = patientWrap(await sidecarOf(view, version));
  if (wrap === undefined) {
    throw new ClientError(
      'WRAP_MISSING',
      "The record's policy keeps no wrap for the patient.",
      'Ask for access as others do.',
    );
  }
  const opened = openWrap(
    key.privateKey,
    wrap,
    { recordId: record.id, version: version.version },
    version.content.keyCheck,
  );
  if (!opened.ok)
    throw new ClientError(opened.code, `The wrap does not open: ${opened.message}.`, 'Name the right key.');
  return opened.value;
}

/** The record's key by a grant. */
export async function grantedKey(
  view: ChainView,
  key: UnlockedKey,
  own: OwnGrant,
  proven: ProvenRecord,
): Promise<Release> {
  const requestKey = openRequestKey(own.stored, key.privateKey);
  try {
    return await obtainKey(view, own.grant, proven, requestKey);
  } finally {
    requestKey.fill(0);
  }
}

export interface ReadRecord {
  readonly path: string;
  /** As the writer named it. Untrusted. */
  readonly name: string;
  readonly contentType: string;
  readonly sizeBytes: number;
  readonly issuedAtMs: number;
}

/**
 * Fetches, verifies and decrypts a record version into `outPath`.
 * @param replace an existing file gives way
 * @throws ClientError FILE_EXISTS, the verdicts of decryption, HEADER_HASH_MISMATCH, TRANSFER_BROKEN
 */
export async function fetchRecord(
  view: ChainView,
  home: Home,
  proven: ProvenRecord,
  key: Uint8Array,
  outPath: string,
  options: { readonly replace?: boolean; readonly progress?: Progress } = {},
): Promise<ReadRecord> {
  if (options.replace !== true) refuseExisting(outPath);
  const { content } = proven.version;
  const cid = cidText(content.cid);
  const partial = join(await home.ensure('downloads'), `${cid}.part`);
  await downloadBlob(view.rpc, cid, content.sizeBytes, partial, options.progress);
  const target = resolve(outPath);
  const folder = await mkdtemp(join(dirname(target), '.emrchain-'));
  const plain = join(folder, 'content');
  // Decrypted and unfinished: it goes, too, when the process ends in the middle.
  const onExit = (): void => rmSync(folder, { recursive: true, force: true });
  process.once('exit', onExit);
  try {
    const read = await decryptVerified(proven, key, partial, plain);
    await place(plain, target, options.replace === true);
    return { ...read, path: target };
  } finally {
    process.off('exit', onExit);
    await rm(folder, { recursive: true, force: true });
    // Verified and not wanted any more, or not what it should be: the next attempt starts anew.
    await rm(partial, { force: true });
  }
}

async function decryptVerified(
  { record, version }: ProvenRecord,
  key: Uint8Array,
  blob: string,
  plain: string,
): Promise<Omit<ReadRecord, 'path'>> {
  const { content } = version;
  const subject = { recordId: record.id, version: version.version, owner: record.owner, writer: version.writer };
  const decrypted = await decryptToFile(createReadStream(blob, { highWaterMark: 1024 * 1024 }), plain, {
    recordId: record.id,
    version: version.version,
    sectionClass: record.section,
    key,
    blobBytes: content.sizeBytes,
    dataDigest: content.dataDigest,
  });
  if (!decrypted.ok) throw new ClientError(decrypted.code, decrypted.message, remedyOf(decrypted.code));
  const { name, contentType, sizeBytes } = decrypted.value;
  const opened = await openContent(plain, sizeBytes, contentType, subject, content.headerHash);
  if (!opened.ok) {
    throw new ClientError(
      opened.code,
      `The record was decrypted and does not pass: ${opened.message}.`,
      'Do not rely on it, and tell the writing hospital.',
    );
  }
  return { name, contentType, sizeBytes: opened.value.fileBytes, issuedAtMs: opened.value.issuedAtMs };
}

/** Gives the file its name, in one step. A link, unlike a rename, fails when the name is taken. */
async function place(from: string, to: string, replace: boolean): Promise<void> {
  if (replace) await rename(from, to);
  else await linkNew(from, to);
  await syncDirectory(dirname(to));
}

async function linkNew(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') throw fileExists(to);
    // File systems without links: then the look and the rename are two steps.
    if (code !== 'EPERM' && code !== 'ENOTSUP' && code !== 'EOPNOTSUPP') throw error;
    refuseExisting(to);
    await rename(from, to);
  }
}

const fileExists = (path: string): ClientError =>
  new ClientError('FILE_EXISTS', `${basename(path)} exists already.`, 'Choose another name, or give --force.');

/** Asked before a long download, too. @throws ClientError FILE_EXISTS */
export function refuseExisting(path: string): void {
  if (existsSync(path)) throw fileExists(path);
}
