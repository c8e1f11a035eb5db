/**
 * The encrypted file of one (record, version, section class): its bytes, without the ciphers. Pure arithmetic and
 * encodings, shared by every implementation; `common/native/sm4-file.ts` is the streaming one.
 *
 *   blob      = iv (12) || ct_0 || tag_0 (32) || ct_1 || tag_1 || ... || ct_last || tag_last
 *   dk        = KDF(TLV("etm", k, iv), 48); SM4 key = dk[0..16), MAC key = dk[16..48)
 *   ct_i      = SM4-CTR of 1 MiB of the frame (the last: 1 byte to 1 MiB; an empty frame is one empty last chunk)
 *   counter   = iv || u32 block, from 0 at the first byte of the frame; chunk i starts at block i * 65536
 *   tag_i     = HMAC-SM3(MAC key, TLV("chunk", recordId, u32 version, class, iv, u32 i, u8 last, ct_i))
 *   frame     = TLV("file", name, contentType, u64 sizeBytes) || content || zeros up to padme(header + content)
 *   keyCheck  = H("keycheck", recordId, u32 version, k)[0..16)
 *
 * The counter NEVER restarts under one (k, iv): that would be a two-time pad; so a frame has at most 2^32 blocks,
 * 64 GiB. k and iv are fresh for every file. The name and the type are inside the ciphertext only, and the size of the
 * blob tells the size of the content to within 12 % (Padme, Nikitin et al., PoPETs 2019), small files not at all.
 */

import { concatBytes, parseUtf8, readU32be, readU64be, u32be, u64be, utf8 } from '../bytes.ts';
import { EmrError, accept, assert, reject } from '../errors.ts';
import type { Verdict } from '../errors.ts';
import { H, kdfTlv, tlv } from './hash.ts';

export const FILE_KEY_BYTES = 32;
export const FILE_IV_BYTES = 12;
export const FILE_TAG_BYTES = 32;
export const KEY_CHECK_BYTES = 16;
/** Plaintext bytes of every chunk but the last. */
export const CHUNK_BYTES = 1024 * 1024;
/** 2^32 counter blocks of 16 bytes. */
export const MAX_FRAME_BYTES = 2 ** 36;
/** Smallest frame: whatever is shorter looks alike. */
export const MIN_FRAME_BYTES = 4096;

// Longer names fit no file system; 127 bytes are RFC 4288's bound on each half of a media type.
export const MAX_NAME_BYTES = 255;
export const MAX_CONTENT_TYPE_BYTES = 255;

/** What the chunks of one file are bound to. */
export interface FileBinding {
  readonly recordId: Uint8Array;
  /** Version of the record, unsigned 32 bits. */
  readonly version: number;
  /** Sensitivity class of the section: whoever gets k reads everything under k. */
  readonly sectionClass: string;
}

/** What travels inside the ciphertext, before the content. */
export interface FileMeta {
  /** A bare file name: no directories. May be empty. */
  readonly name: string;
  /** Media type, or empty. */
  readonly contentType: string;
  /** Bytes of content. */
  readonly sizeBytes: number;
}

export interface FileKeys {
  /** 16 bytes. */
  readonly cipherKey: Uint8Array;
  /** 32 bytes. */
  readonly macKey: Uint8Array;
}

/** @param key k, 32 bytes; @param iv 12 bytes */
export function deriveFileKeys(key: Uint8Array, iv: Uint8Array): FileKeys {
  assert(key.length === FILE_KEY_BYTES && iv.length === FILE_IV_BYTES, 'deriveFileKeys: wrong lengths');
  const dk = kdfTlv(48, 'etm', key, iv);
  return { cipherKey: dk.slice(0, 16), macKey: dk.slice(16) };
}

/** 16 bytes of public check on k: tells a wrong key from a damaged file. */
export function keyCheck(recordId: Uint8Array, version: number, key: Uint8Array): Uint8Array {
  return H('keycheck', recordId, u32be(version), key).slice(0, KEY_CHECK_BYTES);
}

/** First counter block: iv || u32 0. */
export function initialCounter(iv: Uint8Array): Uint8Array {
  return concatBytes(iv, u32be(0));
}

/** All that the tag of a chunk covers, up to the ciphertext itself, which follows. */
export function chunkTagHead(
  binding: FileBinding,
  iv: Uint8Array,
  index: number,
  last: boolean,
  ciphertextBytes: number,
): Uint8Array {
  const flag = Uint8Array.of(last ? 1 : 0);
  const sectionClass = utf8(binding.sectionClass);
  const fields = [binding.recordId, u32be(binding.version), sectionClass, iv, u32be(index), flag];
  return concatBytes(tlv('chunk', ...fields), u32be(ciphertextBytes));
}

/** Number of chunks of a frame: an empty frame has one. */
export function chunkCount(frameBytes: number): number {
  return Math.max(1, Math.ceil(frameBytes / CHUNK_BYTES));
}

/** Size of the blob that holds a frame of this size. */
export function blobSize(frameBytes: number): number {
  return FILE_IV_BYTES + frameBytes + FILE_TAG_BYTES * chunkCount(frameBytes);
}

/** Size of the frame in a blob of this (untrusted) size, or undefined when no frame gives such a blob. */
export function frameSizeOfBlob(blobBytes: number): number | undefined {
  if (!Number.isSafeInteger(blobBytes) || blobBytes < FILE_IV_BYTES + FILE_TAG_BYTES) return undefined;
  const chunks = Math.ceil((blobBytes - FILE_IV_BYTES) / (CHUNK_BYTES + FILE_TAG_BYTES));
  const frameBytes = blobBytes - FILE_IV_BYTES - FILE_TAG_BYTES * chunks;
  if (frameBytes < 0 || frameBytes > MAX_FRAME_BYTES || blobSize(frameBytes) !== blobBytes) return undefined;
  return frameBytes;
}

/**
 * Padme: the next size whose binary form ends in enough zeros that only O(log log size) bits of it are told. At most
 * 12 % more; at least 4 KiB here.
 */
export function padme(sizeBytes: number): number {
  assert(Number.isSafeInteger(sizeBytes) && sizeBytes >= 0 && sizeBytes <= MAX_FRAME_BYTES, 'padme: out of range');
  if (sizeBytes <= MIN_FRAME_BYTES) return MIN_FRAME_BYTES;
  let exponent = 0;
  for (let rest = sizeBytes; rest >= 2; rest = Math.floor(rest / 2)) exponent++;
  const kept = 32 - Math.clz32(exponent);
  const unit = 2 ** (exponent - kept);
  return Math.ceil(sizeBytes / unit) * unit;
}

/** Size of the whole frame of a file: header, content, padding. @throws EmrError FILE_TOO_LARGE, FILE_META_INVALID */
export function frameSize(meta: FileMeta): number {
  const { sizeBytes } = meta;
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) {
    throw new EmrError('FILE_META_INVALID', 'The size of a file is a whole number of bytes.');
  }
  const used = encodeFileHeader(meta).length + sizeBytes;
  if (used > MAX_FRAME_BYTES || padme(used) > MAX_FRAME_BYTES) {
    throw new EmrError('FILE_TOO_LARGE', 'A file has at most 64 GiB, padding included.', { sizeBytes });
  }
  return padme(used);
}

const CONTENT_TYPE = /^[!#$&^_.+A-Za-z0-9-]{1,127}\/[!#$&^_.+A-Za-z0-9-]{1,127}$/;
// Separators, and what a terminal or a file system may act upon: C0 and C1 controls, bidirectional overrides.
// eslint-disable-next-line no-control-regex
const FORBIDDEN_IN_NAME = /[/\\\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/;

/** What is wrong with the meta data, or undefined. The name comes from whoever wrote the record: never trust it. */
function metaFault(name: string, contentType: string): string | undefined {
  if (!name.isWellFormed() || utf8(name).length > MAX_NAME_BYTES) return 'the name is too long or not Unicode';
  if (name === '.' || name === '..' || FORBIDDEN_IN_NAME.test(name)) return 'the name is not a bare file name';
  if (contentType !== '' && !CONTENT_TYPE.test(contentType)) return 'the content type is not type/subtype';
  return undefined;
}

const HEADER_DOMAIN = 'file';

/** Head of the frame. @throws EmrError FILE_META_INVALID */
export function encodeFileHeader(meta: FileMeta): Uint8Array {
  const fault = metaFault(meta.name, meta.contentType);
  if (fault !== undefined) throw new EmrError('FILE_META_INVALID', `This file cannot be described: ${fault}.`);
  return tlv(HEADER_DOMAIN, utf8(meta.name), utf8(meta.contentType), u64be(meta.sizeBytes));
}

const HEADER_PREFIX = tlv(HEADER_DOMAIN);

/** Room for every header: the first bytes of a frame to read before `parseFileHeader`. Less than a frame's minimum. */
export const MAX_HEADER_BYTES = HEADER_PREFIX.length + 4 + MAX_NAME_BYTES + 4 + MAX_CONTENT_TYPE_BYTES + 4 + 8;

/**
 * Reads the header at the start of a decrypted frame.
 * @param start the first MAX_HEADER_BYTES of the frame or more
 * @returns meta data and the header's length, or FILE_HEADER_INVALID
 */
export function parseFileHeader(start: Uint8Array): Verdict<{ meta: FileMeta; headerBytes: number }> {
  const invalid = (): Verdict<never> => reject('FILE_HEADER_INVALID', 'The decrypted file does not begin as it must.');
  for (let at = 0; at < HEADER_PREFIX.length; at++) if (start[at] !== HEADER_PREFIX[at]) return invalid();
  const fields: Uint8Array[] = [];
  let offset = HEADER_PREFIX.length;
  for (const limit of [MAX_NAME_BYTES, MAX_CONTENT_TYPE_BYTES, 8]) {
    const length = readU32be(start, offset);
    if (length === undefined || length > limit || offset + 4 + length > start.length) return invalid();
    fields.push(start.subarray(offset + 4, offset + 4 + length));
    offset += 4 + length;
  }
  const [nameBytes, typeBytes, sizeField] = fields as [Uint8Array, Uint8Array, Uint8Array];
  const name = parseUtf8(nameBytes);
  const contentType = parseUtf8(typeBytes);
  const sizeBytes = sizeField.length === 8 ? readU64be(sizeField, 0) : undefined;
  if (name === undefined || contentType === undefined || sizeBytes === undefined) return invalid();
  if (metaFault(name, contentType) !== undefined) return invalid();
  return accept({ meta: { name, contentType, sizeBytes }, headerBytes: offset });
}

/** True when a frame of this size is the one that a header and content of these sizes must have. */
export function isCanonicalFrame(frameBytes: number, headerBytes: number, sizeBytes: number): boolean {
  const used = headerBytes + sizeBytes;
  return used <= MAX_FRAME_BYTES && padme(used) === frameBytes;
}
