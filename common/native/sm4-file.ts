/**
 * Files of a record, encrypted before they leave the hospital and decrypted where they may be read: header and padding
 * around the chunk layer, and a plaintext file that gets its name only after everything has been verified.
 * Memory is constant: a few chunks of 1 MiB, whatever the size of the file.
 */

import { randomBytes } from 'node:crypto';
import { open, rename, unlink } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import {
  CHUNK_BYTES,
  blobSize,
  encodeFileHeader,
  frameSize,
  isCanonicalFrame,
  parseFileHeader,
} from '../crypto/sm4-format.ts';
import type { FileMeta } from '../crypto/sm4-format.ts';
import { frameSizeOfBlob } from '../crypto/sm4-format.ts';
import { EmrError, accept, assert, reject } from '../errors.ts';
import type { Verdict } from '../errors.ts';
import { openChunks, sealChunks } from './sm4-chunks.ts';
import type { BlobSummary, ByteSource, OpenParameters, SealParameters } from './sm4-chunks.ts';
import { syncDirectory } from './sync-directory.ts';

export type { BlobSummary, ByteSource } from './sm4-chunks.ts';

export interface EncryptParameters extends SealParameters {
  readonly meta: FileMeta;
}

/** The blob, to be iterated once. */
export interface EncryptedStream extends AsyncIterable<Uint8Array> {
  /** Size of the blob, known before the first byte. */
  readonly blobBytes: number;
  /** Digest and size, once the iteration has ended by itself; an invariant breaks before. */
  summary(): BlobSummary;
}

async function* frame(source: ByteSource, meta: FileMeta, frameBytes: number): AsyncGenerator<Uint8Array> {
  const header = encodeFileHeader(meta);
  yield header;
  let contentBytes = 0;
  for await (const piece of source) {
    contentBytes += piece.length;
    if (contentBytes > meta.sizeBytes) break;
    yield piece;
  }
  if (contentBytes !== meta.sizeBytes) {
    throw new EmrError('FILE_SIZE_CHANGED', 'The file has not the size that was declared for it.', {
      declaredBytes: meta.sizeBytes,
    });
  }
  const zeros = new Uint8Array(Math.min(CHUNK_BYTES, frameBytes));
  let left = frameBytes - header.length - contentBytes;
  for (; left > 0; left -= zeros.length) yield zeros.subarray(0, Math.min(left, zeros.length));
}

/**
 * Encrypts one file. `parameters.key` and `parameters.iv` must be fresh: never encrypt two files under the same pair.
 * @param source exactly `meta.sizeBytes` bytes, in pieces of any size
 * @throws EmrError FILE_META_INVALID, FILE_TOO_LARGE at once; FILE_SIZE_CHANGED from the iteration
 */
export function encryptStream(source: ByteSource, parameters: EncryptParameters): EncryptedStream {
  const frameBytes = frameSize(parameters.meta);
  let summary: BlobSummary | undefined;
  let started = false;
  async function* run(): AsyncGenerator<Uint8Array> {
    summary = yield* sealChunks(frame(source, parameters.meta, frameBytes), frameBytes, parameters);
  }
  return {
    blobBytes: blobSize(frameBytes),
    summary() {
      assert(summary !== undefined, 'encryptStream: the blob has not been read to its end');
      return summary;
    },
    [Symbol.asyncIterator]() {
      assert(!started, 'encryptStream: iterated twice; the source is gone');
      started = true;
      return run();
    },
  };
}

export type DecryptParameters = OpenParameters;

/** Takes decrypted chunks, writes the content, refuses what the format does not allow. */
class ContentWriter {
  readonly #file: FileHandle;
  readonly #frameBytes: number;
  #meta: FileMeta | undefined;
  #contentLeft = 0;

  constructor(file: FileHandle, frameBytes: number) {
    this.#file = file;
    this.#frameBytes = frameBytes;
  }

  async write(chunk: Uint8Array): Promise<Verdict> {
    let start = 0;
    if (this.#meta === undefined) {
      // The header is shorter than the smallest frame, hence within the first chunk.
      const parsed = parseFileHeader(chunk);
      if (!parsed.ok) return parsed;
      const { meta, headerBytes } = parsed.value;
      if (!isCanonicalFrame(this.#frameBytes, headerBytes, meta.sizeBytes)) return badPadding();
      this.#meta = meta;
      this.#contentLeft = meta.sizeBytes;
      start = headerBytes;
    }
    const content = chunk.subarray(start, Math.min(chunk.length, start + this.#contentLeft));
    if (content.length > 0) await writeAll(this.#file, content);
    this.#contentLeft -= content.length;
    return isZero(chunk.subarray(start + content.length)) ? accept(undefined) : badPadding();
  }

  finish(): FileMeta {
    assert(this.#meta !== undefined && this.#contentLeft === 0, 'decrypted frame shorter than its canonical size');
    return this.#meta;
  }
}

const badPadding = (): Verdict<never> =>
  reject('FILE_PADDING_INVALID', 'The decrypted file is not padded as the format demands.');

function isZero(bytes: Uint8Array): boolean {
  let any = 0;
  for (const byte of bytes) any |= byte;
  return any === 0;
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let offset = 0; offset < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, offset, bytes.length - offset);
    offset += bytesWritten;
  }
}

/**
 * Decrypts an untrusted blob into `outPath`, which appears (replacing what was there) only after every tag, the last
 * flag, the padding and the digest have been verified and the bytes are on disk. Mode 0600.
 * @returns what the writer said about the file, or the verdicts of `openChunks`, FILE_HEADER_INVALID,
 *   FILE_PADDING_INVALID; then nothing is left behind
 * @throws EmrError FILE_WRITE_FAILED for the disk; errors of the source as they are
 */
export async function decryptToFile(
  source: ByteSource,
  outPath: string,
  parameters: DecryptParameters,
): Promise<Verdict<FileMeta>> {
  const partial = join(
    dirname(outPath),
    `.${basename(outPath).slice(0, 64)}.${randomBytes(8).toString('hex')}.partial`,
  );
  const file = await onDisk(outPath, () => open(partial, 'wx', 0o600));
  let keep = false;
  try {
    const verdict = await decryptInto(source, file, outPath, parameters);
    if (!verdict.ok) return verdict;
    await onDisk(outPath, () => file.sync());
    await onDisk(outPath, () => file.close());
    await onDisk(outPath, () => rename(partial, outPath));
    keep = true;
    await onDisk(outPath, () => syncDirectory(dirname(outPath)));
    return verdict;
  } finally {
    if (!keep) {
      // Closing twice is harmless; the first failure is the one to report.
      await file.close().catch(() => undefined);
      await unlink(partial).catch(() => undefined);
    }
  }
}

async function decryptInto(
  source: ByteSource,
  file: FileHandle,
  outPath: string,
  parameters: DecryptParameters,
): Promise<Verdict<FileMeta>> {
  const writer = new ContentWriter(file, frameSizeOfBlob(parameters.blobBytes) ?? 0);
  const chunks = openChunks(source, parameters);
  try {
    for (;;) {
      const next = await chunks.next();
      if (next.done === true) return next.value.ok ? accept(writer.finish()) : next.value;
      const written = await onDisk(outPath, () => writer.write(next.value));
      if (!written.ok) return written;
    }
  } finally {
    await chunks.return(accept(undefined));
  }
}

async function onDisk<T>(path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    if (!(cause instanceof Error && 'syscall' in cause)) throw cause;
    throw new EmrError('FILE_WRITE_FAILED', `Cannot write ${path}. Check space and permissions.`, { path }, { cause });
  }
}
