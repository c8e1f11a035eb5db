/**
 * Writing a record: encrypt and upload, agree with the owner, submit, wait for the replicas. The states are
 *
 *   offered     the node has the ciphertext, the offer has everything else but the owner's signature
 *   committed   the transaction is on the chain
 *   replicated  enough other organisations have signed that they hold the ciphertext
 *
 * and each later state is reached from the offer alone, as often as it takes.
 */
import { open } from 'node:fs/promises';
import { basename } from 'node:path';
import { PassThrough } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { equalBytes } from '../common/bytes.ts';
import { keyCheckOf, recordIdOf, type SectionClass } from '../common/protocol/record.ts';
import {
  accountEntry,
  paramsEntry,
  recordEntry,
  recordVersionEntry,
  stateKey,
} from '../common/protocol/state-entries.ts';
import { replicaReceiptSigningHash } from '../common/protocol/signing.ts';
import { encodeSidecar, sidecarHash } from '../common/protocol/transaction.ts';
import { type EncryptedStream, type EncryptParameters, encryptStream } from '../common/native/sm4-file.ts';
import { type BlobSummary, computeCid } from '../common/native/unixfs-cid.ts';
import type { Progress } from './blob-http.ts';
import { uploadBlob } from './blob-upload.ts';
import type { ChainView } from './chain-view.ts';
import { ClientError } from './errors.ts';
import { fromHex, hexOf } from './hex.ts';
import { provenPolicy } from './policies.ts';
import { randomNonce, randomSecret } from './randomness.ts';
import { keepKey } from './record-key.ts';
import { contentHeaderHash, contentStream, newTrailer, type Trailer, TRAILER_BYTES } from './record-content.ts';
import {
  type Consent,
  type RecordCall,
  type RecordOffer,
  signedCall,
  subjectOf,
  unsignedContent,
} from './record-offer.ts';
import { type Committed, execute, type Sender, type SubmitOptions } from './transactions.ts';
import { cidText } from './cid-text.ts';

/** Encryptions of one file: a node that loses uploads again and again is left. */
const MAX_UPLOAD_ATTEMPTS = 3;
const POLL_MS = 300;
const REPLICATION_DEADLINE_MS = 60_000;
/** What replicas take together, slowly: the default deadline of a large record grows with it. */
const REPLICATION_BYTES_PER_MS = 2_000;

export interface NewRecord {
  readonly path: string;
  readonly contentType: string;
  /** The name inside the ciphertext; the file's own when absent. */
  readonly name?: string;
  readonly policyRef: Uint8Array;
  readonly categoryToken: Uint8Array;
  /** A new record of this patient, or a new version of a record. */
  readonly target:
    | { readonly kind: 'new'; readonly owner: Uint8Array; readonly section: SectionClass }
    | { readonly kind: 'version'; readonly recordId: Uint8Array };
}

interface Target {
  readonly recordId: Uint8Array;
  readonly version: number;
  readonly owner: Uint8Array;
  readonly section: SectionClass;
  readonly nonce: Uint8Array | null;
}

async function targetOf(view: ChainView, writer: Uint8Array, target: NewRecord['target']): Promise<Target> {
  if (target.kind === 'new') {
    const nonce = randomNonce();
    const { owner, section } = target;
    return { recordId: recordIdOf(writer, owner, nonce, section), version: 1, owner, section, nonce };
  }
  const { value } = await view.entry(stateKey.record(target.recordId), recordEntry, 'the record');
  const { owner, section, latestVersion } = value;
  return { recordId: target.recordId, version: latestVersion + 1, owner, section, nonce: null };
}

/** Both copies of a stream: one is given on piece by piece as the other takes it, so that neither runs ahead. */
function teed(source: AsyncIterable<Uint8Array>): {
  readonly first: AsyncIterable<Uint8Array>;
  readonly second: PassThrough;
} {
  const second = new PassThrough({ highWaterMark: 2 * 1024 * 1024 });
  // Whoever reads the copy reports its failures; without a listener they would end the process.
  second.on('error', () => undefined);
  async function* first(): AsyncGenerator<Uint8Array> {
    try {
      for await (const piece of source) {
        if (!second.write(piece)) {
          await new Promise<void>((resolve) => {
            second.once('drain', resolve);
            second.once('close', resolve);
          });
        }
        yield piece;
      }
      second.end();
    } catch (error) {
      second.destroy(error instanceof Error ? error : new Error(String(error)));
      throw error;
    } finally {
      if (!second.writableEnded) second.destroy();
    }
  }
  return { first: first(), second };
}

/** Uploads the ciphertext and computes, from the same bytes, what the node must answer. */
async function uploadVerified(view: ChainView, encrypted: EncryptedStream, progress?: Progress): Promise<BlobSummary> {
  const { first, second } = teed(encrypted);
  const computing = computeCid(second);
  computing.catch(() => undefined);
  const answer = await uploadBlob(view.rpc, first, encrypted.blobBytes, progress);
  const computed = await computing;
  if (
    answer.cid !== computed.cid.toString() ||
    answer.sizeBytes !== computed.sizeBytes ||
    answer.dataDigest !== hexOf(computed.dataDigest)
  ) {
    throw new ClientError(
      'UPLOAD_MISMATCH',
      'The node stored something else than was sent.',
      'Use another node (--rpc URL), and tell the operator of this one.',
    );
  }
  return computed;
}

/**
 * Encrypts the file and uploads it; anew, as another ciphertext, when the node has lost what it had.
 * @returns what is stored, and the digest of the content
 */
async function storeEncrypted(
  view: ChainView,
  { path, name = basename(path), contentType }: NewRecord,
  trailer: Trailer,
  sealing: Omit<EncryptParameters, 'iv' | 'meta'>,
  progress?: Progress,
): Promise<{ readonly blob: BlobSummary; readonly contentDigest: Uint8Array }> {
  for (let attempt = 1; ; attempt += 1) {
    const file = await open(path, 'r');
    try {
      const { size } = await file.stat();
      const content = contentStream(file.createReadStream({ highWaterMark: 1024 * 1024, autoClose: false }), trailer);
      const meta = { name, contentType, sizeBytes: size + TRAILER_BYTES };
      // Fresh for every attempt: the file may have changed since the last one.
      const encrypted = encryptStream(content.stream, { ...sealing, iv: randomSecret(12), meta });
      const blob = await uploadVerified(view, encrypted, progress);
      return { blob, contentDigest: content.digest() };
    } catch (error) {
      const isLost = error instanceof ClientError && error.code === 'UPLOAD_UNKNOWN';
      if (!isLost || attempt === MAX_UPLOAD_ATTEMPTS) throw error;
    } finally {
      await file.close();
    }
  }
}

/**
 * Encrypts and uploads a file and makes the offer of it. The key exists in memory only, and where `keepKey` puts it.
 * @throws ClientError OWNER_NOT_PATIENT_HERE, POLICY_UNKNOWN, UPLOAD_MISMATCH, CUSTODIAN_KEY_MISSING, and those of calls
 */
export async function prepareOffer(
  view: ChainView,
  writer: Sender,
  record: NewRecord,
  options: { readonly progress?: Progress; readonly nowMs?: () => number } = {},
): Promise<RecordOffer> {
  const target = await targetOf(view, writer.account, record.target);
  const { recordId, version, owner, section } = target;
  const own = await view.entry(stateKey.account(writer.account), accountEntry, 'your account');
  const hospital = own.value.orgId;
  const patient = await view.entry(stateKey.account(owner), accountEntry, "the patient's account");
  if (patient.value.kind !== 'patient' || patient.value.orgId !== hospital) {
    throw new ClientError(
      'OWNER_NOT_PATIENT_HERE',
      `The account ${hexOf(owner)} is not a patient of ${hospital}.`,
      "Name the patient's account at this hospital.",
    );
  }
  const policy = await provenPolicy(view, record.policyRef);

  const key = randomSecret(32);
  const trailer = newTrailer((options.nowMs ?? Date.now)());
  const sealing = { recordId, version, sectionClass: section, key };
  const { blob, contentDigest } = await storeEncrypted(view, record, trailer, sealing, options.progress);

  const ownerPublicKey = patient.value.publicKey;
  const { dataDigest } = blob;
  const bound = { policyRef: record.policyRef, dataDigest, keyCheck: keyCheckOf(recordId, version, key).slice() };
  const subject = { recordId, version, owner };
  const keeping = { ...subject, key, ownerKey: ownerPublicKey, hospital, content: bound };
  const kept = await keepKey(view, policy.document, keeping);
  const sidecar = encodeSidecar(kept.sidecar);
  const content = {
    ...bound,
    cid: blob.cid.bytes,
    sizeBytes: blob.sizeBytes,
    categoryToken: record.categoryToken,
    headerHash: contentHeaderHash({ ...subject, writer: writer.account }, trailer, record.contentType, contentDigest),
    capsule: kept.capsule,
    sidecarHash: sidecarHash(sidecar),
    ownerPublicKey,
    ...unsignedContent,
  };
  key.fill(0);
  const common = { owner, hospital, sectionClass: section, content };
  const call: RecordCall =
    target.nonce === null
      ? { kind: 'record.addVersion', recordId, version, ...common }
      : { kind: 'record.create', nonce: target.nonce, ...common };
  return { chainId: view.node.chainId, writer: writer.account, call, sidecar };
}

export interface SubmittedRecord {
  readonly recordId: Uint8Array;
  readonly version: number;
  /** Null where an earlier run had submitted it. */
  readonly committed: Committed | null;
}

/** Puts an offer with its consent on the chain, unless it is there already. */
export async function submitOffer(
  view: ChainView,
  writer: Sender,
  offer: RecordOffer,
  consent: Consent,
  options: SubmitOptions = {},
): Promise<SubmittedRecord> {
  if (!equalBytes(writer.account, offer.writer)) {
    throw new ClientError('OFFER_NOT_YOURS', 'The offer was made by another account.', 'Use its key: --as KEYNAME.');
  }
  const subject = subjectOf(offer);
  const call = signedCall(offer, consent, view.engine);
  if (await alreadyThere(view, offer)) return { ...subject, committed: null };
  const committed = await execute(view, writer, call, { ...options, sidecar: offer.sidecar });
  return { ...subject, committed };
}

async function alreadyThere(view: ChainView, offer: RecordOffer): Promise<boolean> {
  const { recordId, version } = subjectOf(offer);
  try {
    const found = await view.find(stateKey.recordVersion(recordId, version), recordVersionEntry, 'the record');
    return found !== undefined && equalBytes(found.value.content.dataDigest, offer.call.content.dataDigest);
  } catch (error) {
    // What is not there is nobody's matter: the node refuses the question, or has no block yet.
    if (error instanceof ClientError && ['OUT_OF_SCOPE', 'NOT_FOUND', 'CHAIN_AT_GENESIS'].includes(error.code))
      return false;
    throw error;
  }
}

export interface Replica {
  readonly orgId: string;
  readonly holder: string;
}

/** Receipts of other organisations that verify against the validators: one for each organisation. */
export async function verifiedReplicas(
  view: ChainView,
  blob: { readonly cid: Uint8Array; readonly dataDigest: Uint8Array; readonly hospital: string },
): Promise<readonly Replica[]> {
  const { receipts } = await view.rpc.call('blob_getReceipts', { cid: cidText(blob.cid) });
  const replicas = new Map<string, Replica>();
  for (const { holder, signature } of receipts) {
    const address = fromHex(holder, 20);
    const validator = view.validators.find((member) => equalBytes(member.address, address));
    if (validator === undefined || validator.orgId === blob.hospital) continue;
    const message = replicaReceiptSigningHash(view.node.chainId, blob.cid, blob.dataDigest, address);
    if (!view.engine.verify(validator.publicKey, message, fromHex(signature, 64))) continue;
    replicas.set(validator.orgId, { orgId: validator.orgId, holder });
  }
  return [...replicas.values()];
}

/** Other organisations that must hold each ciphertext, by the parameters now in force. */
export async function replicasNeeded(view: ChainView): Promise<number> {
  return (await view.entry(stateKey.params(), paramsEntry, 'the parameters')).value.replicas;
}

/**
 * Waits until enough other organisations hold the ciphertext.
 * @throws ClientError REPLICATION_PENDING: the record is on the chain, the copies are not there yet
 */
export async function awaitReplicas(
  view: ChainView,
  offer: RecordOffer,
  options: {
    readonly deadlineMs?: number;
    readonly onProgress?: (held: number, needed: number) => void;
  } = {},
): Promise<{ readonly replicas: readonly Replica[]; readonly needed: number }> {
  const { cid, dataDigest, sizeBytes } = offer.call.content;
  const needed = await replicasNeeded(view);
  const end =
    Date.now() + (options.deadlineMs ?? REPLICATION_DEADLINE_MS + Math.ceil(sizeBytes / REPLICATION_BYTES_PER_MS));
  for (;;) {
    const replicas =
      needed === 0 ? [] : await verifiedReplicas(view, { cid, dataDigest, hospital: offer.call.hospital });
    options.onProgress?.(replicas.length, needed);
    if (replicas.length >= needed) return { replicas, needed };
    if (Date.now() >= end) {
      const record = hexOf(subjectOf(offer).recordId);
      throw new ClientError(
        'REPLICATION_PENDING',
        `The record ${record} is on the chain; ${replicas.length} of ${needed} other organisations hold its ciphertext so far.`,
        'Keep the writing node running, and run emrchain record submit with the same offer again, or emrchain record show.',
        { record, held: replicas.length, needed },
      );
    }
    await delay(POLL_MS);
  }
}
