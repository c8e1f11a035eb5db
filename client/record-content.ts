/**
 * What lies inside a record's ciphertext beside the file itself, and the header hash that ties both to the chain.
 *
 *   content     = file || trailer
 *   trailer     = TLV("emr-trailer", salt (16), u64 issuedAtMs)                               fixed length
 *   contentRoot = Merkle root of the sections' leaves; a file of opaque bytes is one section:
 *                 leaf = TLV("leaf", u32 index, type, salt, SM3(file))
 *   headerHash  = H("emr-header", recordId, version, contentRoot, owner, writer, issuedAtMs)
 *
 * The trailer stands behind the file so that a gigabyte is read once. Physician and patient both sign the header hash:
 * in the transaction and in the consent. The salt keeps the hash of a guessable file from being tried out.
 */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { concatBytes, equalBytes, readU64be, u32be, u64be, utf8 } from '../common/bytes.ts';
import { tlv } from '../common/crypto/hash.ts';
import { merkleRoot } from '../common/crypto/merkle.ts';
import { accept, reject, type Verdict } from '../common/errors.ts';
import { headerHashOf } from '../common/protocol/record.ts';
import { randomSecret } from './randomness.ts';

const SALT_BYTES = 16;
const TRAILER_DOMAIN = 'emr-trailer';
const encodeTrailer = (salt: Uint8Array, issuedAtMs: number): Uint8Array =>
  tlv(TRAILER_DOMAIN, salt, u64be(issuedAtMs));

export const TRAILER_BYTES = encodeTrailer(new Uint8Array(SALT_BYTES), 0).length;

export interface Trailer {
  readonly salt: Uint8Array;
  readonly issuedAtMs: number;
}

export const newTrailer = (issuedAtMs: number): Trailer => ({ salt: randomSecret(SALT_BYTES), issuedAtMs });

/** Untrusted bytes at the end of a decrypted file. CONTENT_TRAILER_INVALID. */
export function parseTrailer(bytes: Uint8Array): Verdict<Trailer> {
  const saltAt = TRAILER_BYTES - 8 - 4 - SALT_BYTES;
  const issuedAtMs = readU64be(bytes, TRAILER_BYTES - 8);
  const salt = bytes.slice(saltAt, saltAt + SALT_BYTES);
  if (
    bytes.length === TRAILER_BYTES &&
    issuedAtMs !== undefined &&
    equalBytes(encodeTrailer(salt, issuedAtMs), bytes)
  ) {
    return accept({ salt, issuedAtMs });
  }
  return reject('CONTENT_TRAILER_INVALID', 'the decrypted record does not end as it must');
}

export interface HeaderSubject {
  readonly recordId: Uint8Array;
  readonly version: number;
  readonly owner: Uint8Array;
  readonly writer: Uint8Array;
}

/** @param contentDigest SM3 of the file, 32 bytes */
export function contentHeaderHash(
  subject: HeaderSubject,
  trailer: Trailer,
  contentType: string,
  contentDigest: Uint8Array,
): Uint8Array {
  const leaf = tlv('leaf', u32be(0), utf8(contentType), trailer.salt, contentDigest);
  return headerHashOf({ ...subject, contentRoot: merkleRoot([leaf]), issuedAtMs: trailer.issuedAtMs });
}

/** The file and its trailer as one stream, hashed on the way. `digest()` after the end: SM3 of the file alone. */
export function contentStream(
  file: AsyncIterable<Uint8Array>,
  trailer: Trailer,
): { readonly stream: AsyncIterable<Uint8Array>; digest(): Uint8Array } {
  const hash = createHash('sm3');
  async function* run(): AsyncGenerator<Uint8Array> {
    for await (const piece of file) {
      hash.update(piece);
      yield piece;
    }
    yield encodeTrailer(trailer.salt, trailer.issuedAtMs);
  }
  return { stream: run(), digest: () => Uint8Array.from(hash.digest()) };
}

/**
 * Takes the trailer off a decrypted file and checks that the file is what physician and patient signed.
 * @param path a file of `contentBytes` bytes, which is cut to the file itself
 * @param headerHash from the chain
 * @returns when the header was issued; CONTENT_TRAILER_INVALID, HEADER_HASH_MISMATCH
 */
export async function openContent(
  path: string,
  contentBytes: number,
  contentType: string,
  subject: HeaderSubject,
  headerHash: Uint8Array,
): Promise<Verdict<Trailer & { readonly fileBytes: number }>> {
  const fileBytes = contentBytes - TRAILER_BYTES;
  if (fileBytes < 0) return reject('CONTENT_TRAILER_INVALID', 'the decrypted record is too short');
  const file = await open(path, 'r+');
  try {
    const hash = createHash('sm3');
    let tail: Uint8Array = new Uint8Array(0);
    let seen = 0;
    for await (const piece of file.createReadStream({ autoClose: false, start: 0, highWaterMark: 1024 * 1024 })) {
      const bytes = piece as Uint8Array;
      const ofFile = Math.max(0, Math.min(bytes.length, fileBytes - seen));
      hash.update(bytes.subarray(0, ofFile));
      if (ofFile < bytes.length) tail = concatBytes(tail, bytes.subarray(ofFile));
      seen += bytes.length;
    }
    const trailer = parseTrailer(tail);
    if (!trailer.ok) return trailer;
    const expected = contentHeaderHash(subject, trailer.value, contentType, Uint8Array.from(hash.digest()));
    if (!equalBytes(expected, headerHash)) {
      return reject('HEADER_HASH_MISMATCH', 'the content is not what physician and patient signed');
    }
    await file.truncate(fileBytes);
    await file.sync();
    return accept({ ...trailer.value, fileBytes });
  } finally {
    await file.close();
  }
}
