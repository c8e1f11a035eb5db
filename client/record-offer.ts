/**
 * A record between its writer and its owner. The writer's offer holds everything that the transaction will say, the
 * wraps of the key included, but no key; the owner reads it, opens the own wrap, and signs the consent. The offer is
 * also what an interrupted writing is resumed from.
 */
import { equalBytes } from '../common/bytes.ts';
import { encode } from '../common/codec.ts';
import { sm2Decrypt } from '../common/crypto/sm2-encrypt.ts';
import type { Sm2Engine } from '../common/crypto/sm2.ts';
import { accept, reject, type Verdict } from '../common/errors.ts';
import type { PolicyDocument } from '../common/protocol/policy.ts';
import { MAX_SIDECAR_BYTES, MAX_TX_BYTES } from '../common/protocol/primitives.ts';
import { keyCheckOf, recordIdOf, WRAP_PLAINTEXT_BYTES, wrapPlaintext } from '../common/protocol/record.ts';
import { ownerWriteHash } from '../common/protocol/statements.ts';
import {
  call as callCodec,
  type CallOf,
  decodeSidecar,
  type Sidecar,
  sidecarHash,
} from '../common/protocol/transaction.ts';
import { cidText } from './cid-text.ts';
import { custodyWords, type SealingKeys } from './custody.ts';
import { bytesField, codecField, readDocument, writeDocument } from './documents.ts';
import { ClientError } from './errors.ts';
import { hexOf } from './hex.ts';
import type { UnlockedKey } from './keys.ts';
import { checkKept } from './record-key.ts';
import { size } from './text.ts';

const OFFER_FORMAT = 'emrchain-record-offer';
const CONSENT_FORMAT = 'emrchain-record-consent';
const UNSIGNED = new Uint8Array(64);

export type RecordCall = CallOf<'record.create'> | CallOf<'record.addVersion'>;

export interface RecordOffer {
  readonly chainId: Uint8Array;
  /** Account of the author. */
  readonly writer: Uint8Array;
  /** The owner's signature in it is blank. */
  readonly call: RecordCall;
  /** Canonical bytes that `call.content.sidecarHash` commits to. */
  readonly sidecar: Uint8Array;
}

export interface Consent {
  /** What was signed: `ownerWriteHash`. */
  readonly message: Uint8Array;
  readonly publicKey: Uint8Array;
  readonly signature: Uint8Array;
}

export const unsignedContent = { ownerSignature: UNSIGNED } as const;

/** Id and version of the record that an offer is about. */
export function subjectOf(offer: Pick<RecordOffer, 'writer' | 'call'>): { recordId: Uint8Array; version: number } {
  const { writer, call } = offer;
  return call.kind === 'record.create'
    ? { recordId: recordIdOf(writer, call.owner, call.nonce, call.sectionClass), version: 1 }
    : { recordId: call.recordId, version: call.version };
}

export const consentMessage = ({ chainId, writer, call }: RecordOffer): Uint8Array =>
  ownerWriteHash(chainId, writer, call);

/** What an offer says, for people. */
export function describeOffer(offer: RecordOffer): readonly (readonly [string, string])[] {
  const { recordId, version } = subjectOf(offer);
  const { call } = offer;
  return [
    ['record', hexOf(recordId)],
    ['version', `${version}`],
    ['written by', hexOf(offer.writer)],
    ['hospital', call.hospital],
    ['owner', hexOf(call.owner)],
    ['section', call.sectionClass],
    ['category token', hexOf(call.content.categoryToken)],
    ['policy', hexOf(call.content.policyRef)],
    ['ciphertext', `${cidText(call.content.cid)}, ${size(call.content.sizeBytes)}`],
    ['digest', hexOf(call.content.dataDigest)],
    ['custody', custodyWords(call.content)],
  ];
}

export async function writeOffer(path: string, offer: RecordOffer): Promise<void> {
  await writeDocument(path, OFFER_FORMAT, {
    says: Object.fromEntries(describeOffer(offer)),
    chainId: hexOf(offer.chainId),
    writer: hexOf(offer.writer),
    call: hexOf(encode(callCodec, offer.call)),
    sidecar: hexOf(offer.sidecar),
  });
}

/** @throws ClientError DOCUMENT_MALFORMED, CHAIN_ID_MISMATCH */
export async function readOffer(path: string, chainId: Uint8Array): Promise<RecordOffer> {
  const { content } = await readDocument(path, [OFFER_FORMAT]);
  if (!equalBytes(bytesField(path, content, 'chainId', 32), chainId)) {
    throw new ClientError('CHAIN_ID_MISMATCH', `${path} is for another chain.`, 'Check --rpc URL.');
  }
  const call = codecField(path, content, 'call', callCodec, MAX_TX_BYTES);
  const sidecar = bytesField(path, content, 'sidecar');
  if (call.kind !== 'record.create' && call.kind !== 'record.addVersion') {
    throw new ClientError('DOCUMENT_MALFORMED', `${path} offers no record.`, 'Ask for the file again.');
  }
  if (sidecar.length > MAX_SIDECAR_BYTES || !equalBytes(sidecarHash(sidecar), call.content.sidecarHash)) {
    throw new ClientError(
      'DOCUMENT_MALFORMED',
      `${path}: the wraps are not those of the record.`,
      'Ask for the file again.',
    );
  }
  return { chainId, writer: bytesField(path, content, 'writer', 20), call, sidecar };
}

/** The ciphertext of the patient's wrap, where there is one. */
export function patientWrap(sidecar: Sidecar): Uint8Array | undefined {
  if (sidecar.kind === 'delivery') return undefined;
  return sidecar.wraps.find(({ to }) => to.kind === 'patient')?.ciphertext;
}

/**
 * Opens an untrusted wrap of a record's key and checks that it is this record's.
 * @returns the key, 32 bytes; SM2_CIPHERTEXT_*, WRAP_WRONG_RECORD, WRAP_WRONG_KEY
 */
export function openWrap(
  privateKey: Uint8Array,
  ciphertext: Uint8Array,
  subject: { readonly recordId: Uint8Array; readonly version: number },
  keyCheck: Uint8Array,
): Verdict<Uint8Array> {
  const opened = sm2Decrypt(privateKey, ciphertext);
  if (!opened.ok) return opened;
  const plain = opened.value;
  const key = plain.slice(0, 32);
  const { recordId, version } = subject;
  if (plain.length !== WRAP_PLAINTEXT_BYTES || !equalBytes(wrapPlaintext(key, recordId, version), plain)) {
    return reject('WRAP_WRONG_RECORD', 'the wrap is of another record or version');
  }
  if (!equalBytes(keyCheckOf(recordId, version, key), keyCheck)) {
    return reject('WRAP_WRONG_KEY', "the wrapped key is not the record's");
  }
  return accept(key);
}

/**
 * The owner's own check of an offer, before the signature.
 * @param document of the policy that the offer names, proven
 * @param keys `sealingKeys` of that policy, proven
 * @throws ClientError OFFER_NOT_YOURS, OFFER_BAD_CAPSULE, OFFER_BAD_WRAP
 */
export function checkOffer(
  offer: RecordOffer,
  key: UnlockedKey,
  document: PolicyDocument,
  keys: SealingKeys | null,
): void {
  const { call } = offer;
  if (!equalBytes(call.owner, key.account) || !equalBytes(call.content.ownerPublicKey, key.publicKey)) {
    throw new ClientError(
      'OFFER_NOT_YOURS',
      `The offer is for the account ${hexOf(call.owner)} with another key.`,
      'Use the key that the offer names (--as KEYNAME), or ask the writer for a new offer.',
    );
  }
  const sidecar = decodeSidecar(offer.sidecar);
  const subject = { ...subjectOf(offer), owner: call.owner };
  const kept = sidecar.ok ? checkKept(offer.chainId, keys, subject, call.content, sidecar.value) : sidecar;
  if (!kept.ok) {
    throw new ClientError(
      'OFFER_BAD_CAPSULE',
      `The key of this record would not be kept as it must be: ${kept.message}.`,
      DO_NOT_SIGN,
      { verdict: kept.code },
    );
  }
  if (document.patientWrap) checkOwnWrap(key, sidecar.ok ? patientWrap(sidecar.value) : undefined, offer);
}

const DO_NOT_SIGN = 'Do not sign it. Tell the writer, and ask for a new offer.';

/** @throws ClientError OFFER_BAD_WRAP */
function checkOwnWrap({ privateKey }: UnlockedKey, wrap: Uint8Array | undefined, offer: RecordOffer): void {
  const opened =
    wrap === undefined
      ? reject('WRAP_MISSING', 'there is no wrap for the patient')
      : openWrap(privateKey, wrap, subjectOf(offer), offer.call.content.keyCheck);
  if (!opened.ok) {
    throw new ClientError(
      'OFFER_BAD_WRAP',
      `You would not get the key of this record: ${opened.message}.`,
      DO_NOT_SIGN,
      { verdict: opened.code },
    );
  }
  opened.value.fill(0);
}

/** Signs what `checkOffer` accepted. */
export function consentTo(offer: RecordOffer, key: UnlockedKey): Consent {
  const message = consentMessage(offer);
  return { message, publicKey: key.publicKey, signature: key.signer.sign(message) };
}

export async function writeConsent(path: string, offer: RecordOffer, consent: Consent): Promise<void> {
  await writeDocument(path, CONSENT_FORMAT, {
    says: Object.fromEntries(describeOffer(offer)),
    chainId: hexOf(offer.chainId),
    message: hexOf(consent.message),
    publicKey: hexOf(consent.publicKey),
    signature: hexOf(consent.signature),
  });
}

export async function readConsent(path: string): Promise<Consent> {
  const { content } = await readDocument(path, [CONSENT_FORMAT]);
  return {
    message: bytesField(path, content, 'message', 32),
    publicKey: bytesField(path, content, 'publicKey', 64),
    signature: bytesField(path, content, 'signature', 64),
  };
}

/** The call with the owner's signature. @throws ClientError CONSENT_MISMATCH, BAD_OWNER_SIGNATURE */
export function signedCall(offer: RecordOffer, consent: Consent, engine: Sm2Engine): RecordCall {
  const message = consentMessage(offer);
  if (!equalBytes(message, consent.message) || !equalBytes(consent.publicKey, offer.call.content.ownerPublicKey)) {
    throw new ClientError(
      'CONSENT_MISMATCH',
      'The consent is for another offer.',
      'Let the patient consent to this one.',
    );
  }
  if (!engine.verify(consent.publicKey, message, consent.signature)) {
    throw new ClientError(
      'BAD_OWNER_SIGNATURE',
      "The patient's signature does not verify.",
      'Ask for the consent again.',
    );
  }
  return { ...offer.call, content: { ...offer.call.content, ownerSignature: consent.signature } };
}
