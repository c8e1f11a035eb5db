/**
 * The chunk layer of an encrypted file: a frame of known size in, a blob out, and back. Streaming; holds one chunk at a
 * time, whatever the size of the file. The format is in `common/crypto/sm4-format.ts`; names and padding are
 * `sm4-file.ts`.
 *
 * DANGER: `openChunks` yields authenticated plaintext before it has seen the end. Whoever consumes it must not act on
 * what it got, nor give it a lasting name, until the verdict is there.
 */

import { createCipheriv, createDecipheriv, createHash, createHmac } from 'node:crypto';
import { equalBytesConstantTime } from '../bytes.ts';
import {
  CHUNK_BYTES,
  FILE_IV_BYTES,
  FILE_KEY_BYTES,
  FILE_TAG_BYTES,
  blobSize,
  chunkCount,
  chunkTagHead,
  deriveFileKeys,
  frameSizeOfBlob,
  initialCounter,
} from '../crypto/sm4-format.ts';
import type { FileBinding } from '../crypto/sm4-format.ts';
import { EmrError, accept, assert, reject } from '../errors.ts';
import type { Verdict } from '../errors.ts';

export type ByteSource = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/** Cuts a stream of pieces of any size into pieces of the sizes that are asked for. */
export class ExactReader {
  readonly #source: AsyncIterator<Uint8Array> | Iterator<Uint8Array>;
  #rest: Uint8Array = new Uint8Array(0);
  #ended = false;

  constructor(source: ByteSource) {
    this.#source = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  }

  /** Fills `target` from its start. @returns bytes read: fewer than `target.length` only at the end of the source */
  async read(target: Uint8Array): Promise<number> {
    let filled = 0;
    while (filled < target.length) {
      if (this.#rest.length === 0 && !(await this.#pull())) break;
      const taken = Math.min(this.#rest.length, target.length - filled);
      target.set(this.#rest.subarray(0, taken), filled);
      this.#rest = this.#rest.subarray(taken);
      filled += taken;
    }
    return filled;
  }

  async #pull(): Promise<boolean> {
    if (this.#ended) return false;
    const next = await this.#source.next();
    if (next.done === true) {
      this.#ended = true;
      return false;
    }
    this.#rest = next.value;
    return true;
  }

  /** True when nothing follows. Reads at most to the next piece that is not empty. */
  async atEnd(): Promise<boolean> {
    while (this.#rest.length === 0) if (!(await this.#pull())) return true;
    return false;
  }

  /** Tells the source that no more is wanted, so that it can let go of files and sockets. */
  async close(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    await this.#source.return?.();
  }
}

function chunkTag(macKey: Uint8Array, head: Uint8Array, ciphertext: Uint8Array): Uint8Array {
  return createHmac('sm3', macKey).update(head).update(ciphertext).digest();
}

export interface SealParameters extends FileBinding {
  /** k, 32 bytes, used for this one file. */
  readonly key: Uint8Array;
  /** 12 bytes, fresh. */
  readonly iv: Uint8Array;
}

/** What the chain keeps of a blob. */
export interface BlobSummary {
  /** SM3 of the blob, 32 bytes. */
  readonly dataDigest: Uint8Array;
  readonly blobBytes: number;
}

/**
 * Encrypts a frame of exactly `frameBytes` bytes.
 * @returns an iterator over the blob's pieces whose return value is the summary
 * @throws EmrError FILE_SIZE_CHANGED when the source holds more or less
 */
export async function* sealChunks(
  source: ByteSource,
  frameBytes: number,
  parameters: SealParameters,
): AsyncGenerator<Uint8Array, BlobSummary, undefined> {
  const { key, iv } = parameters;
  assert(key.length === FILE_KEY_BYTES && iv.length === FILE_IV_BYTES, 'sealChunks: wrong lengths of key or iv');
  assert(frameSizeOfBlob(blobSize(frameBytes)) === frameBytes, 'sealChunks: no such frame');
  const { cipherKey, macKey } = deriveFileKeys(key, iv);
  // One cipher for all chunks: its counter runs on, which is what the format demands.
  const cipher = createCipheriv('sm4-ctr', cipherKey, initialCounter(iv));
  const digest = createHash('sm3').update(iv);
  const reader = new ExactReader(source);
  const buffer = new Uint8Array(Math.min(CHUNK_BYTES, frameBytes));
  const chunks = chunkCount(frameBytes);
  try {
    yield iv.slice();
    for (let index = 0; index < chunks; index++) {
      const plaintext = buffer.subarray(0, Math.min(CHUNK_BYTES, frameBytes - index * CHUNK_BYTES));
      if ((await reader.read(plaintext)) < plaintext.length) throw sizeChanged(frameBytes);
      const ciphertext = cipher.update(plaintext);
      const head = chunkTagHead(parameters, iv, index, index === chunks - 1, ciphertext.length);
      const tag = chunkTag(macKey, head, ciphertext);
      digest.update(ciphertext).update(tag);
      yield ciphertext;
      yield tag;
    }
    if (!(await reader.atEnd())) throw sizeChanged(frameBytes);
    return { dataDigest: Uint8Array.from(digest.digest()), blobBytes: blobSize(frameBytes) };
  } finally {
    cipherKey.fill(0);
    macKey.fill(0);
    buffer.fill(0);
    await reader.close();
  }
}

function sizeChanged(declaredBytes: number): EmrError {
  return new EmrError('FILE_SIZE_CHANGED', 'The file has not the size that was declared for it.', { declaredBytes });
}

export interface OpenParameters extends FileBinding {
  /** k, 32 bytes. */
  readonly key: Uint8Array;
  /** Size of the blob, from the chain. The source is read no further than one piece beyond it. */
  readonly blobBytes: number;
  /** SM3 of the blob, 32 bytes, from the chain. */
  readonly dataDigest: Uint8Array;
}

/**
 * Decrypts an untrusted blob. Every chunk is authenticated before it is yielded; the buffers are reused, so consume each
 * before asking for the next.
 * @returns (at the end) accepted, or CIPHERTEXT_SIZE_INVALID, CIPHERTEXT_TRUNCATED, CIPHERTEXT_EXTENDED,
 *   CIPHERTEXT_TAMPERED, CIPHERTEXT_DIGEST_MISMATCH. Errors of the source are thrown on as they are.
 */
export async function* openChunks(
  source: ByteSource,
  parameters: OpenParameters,
): AsyncGenerator<Uint8Array, Verdict, undefined> {
  const { key, blobBytes } = parameters;
  assert(key.length === FILE_KEY_BYTES, 'openChunks: wrong length of key');
  const reader = new ExactReader(source);
  try {
    const frameBytes = frameSizeOfBlob(blobBytes);
    if (frameBytes === undefined) return reject('CIPHERTEXT_SIZE_INVALID', 'No encrypted file has this size.');
    const iv = new Uint8Array(FILE_IV_BYTES);
    if ((await reader.read(iv)) < iv.length) return truncated();
    const { cipherKey, macKey } = deriveFileKeys(key, iv);
    const decipher = createDecipheriv('sm4-ctr', cipherKey, initialCounter(iv));
    cipherKey.fill(0);
    const digest = createHash('sm3').update(iv);
    const buffer = new Uint8Array(Math.min(CHUNK_BYTES, frameBytes) + FILE_TAG_BYTES);
    const chunks = chunkCount(frameBytes);
    for (let index = 0; index < chunks; index++) {
      const size = Math.min(CHUNK_BYTES, frameBytes - index * CHUNK_BYTES);
      const piece = buffer.subarray(0, size + FILE_TAG_BYTES);
      if ((await reader.read(piece)) < piece.length) return truncated();
      digest.update(piece);
      const ciphertext = piece.subarray(0, size);
      const tag = piece.subarray(size);
      const head = chunkTagHead(parameters, iv, index, index === chunks - 1, size);
      if (!equalBytesConstantTime(chunkTag(macKey, head, ciphertext), tag)) {
        const flipped = chunkTagHead(parameters, iv, index, index !== chunks - 1, size);
        return equalBytesConstantTime(chunkTag(macKey, flipped, ciphertext), tag)
          ? wrongEnd(index === chunks - 1)
          : tampered();
      }
      yield decipher.update(ciphertext);
    }
    if (!(await reader.atEnd())) return extended();
    if (!equalBytesConstantTime(digest.digest(), parameters.dataDigest)) {
      return reject('CIPHERTEXT_DIGEST_MISMATCH', 'The encrypted file is not the one whose digest is on the chain.');
    }
    return accept(undefined);
  } finally {
    await reader.close();
  }
}

const tampered = (): Verdict<never> =>
  reject('CIPHERTEXT_TAMPERED', 'The encrypted file was changed, or the key is not its key.');
const truncated = (): Verdict<never> => reject('CIPHERTEXT_TRUNCATED', 'The encrypted file ends too early.');
const extended = (): Verdict<never> => reject('CIPHERTEXT_EXTENDED', 'The encrypted file goes on after its end.');
/** The chunk is genuine but says "last" where more should follow, or the reverse. */
const wrongEnd = (atEnd: boolean): Verdict<never> => (atEnd ? truncated() : extended());
