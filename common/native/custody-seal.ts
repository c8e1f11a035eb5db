/**
 * How the custodian's secrets lie on disk: encrypted and authenticated under a key that follows from its private key, which
 * itself is in a keystore whose passphrase comes from outside the folder.
 *
 *   root = KDF(TLV("custody-seal", chainId, private key), 32)
 *   keys = KDF(TLV("custody-seal/file", root, salt), 64): SM4 key (16), counter (16), MAC key (32)
 *   file = version (1) || epoch (4) || salt (32) || SM4-CTR of the content || tag (32)
 *   tag  = HMAC-SM3(MAC key, TLV("custody-sealed", chainId, kind, sessionId, u32(epoch), salt, ciphertext))
 *
 * Each file has a salt, and so keys, of its own: no counter ever serves twice. The name of a file says what it is for, and
 * the tag covers it: a file that is moved, or comes from another chain or session, does not open.
 */
import { createCipheriv, createDecipheriv, createHmac } from 'node:crypto';
import { concatBytes, equalBytesConstantTime, readU32be, u32be, utf8 } from '../bytes.ts';
import { kdfTlv, tlv } from '../crypto/hash.ts';
import { drawBytes, type RandomBytes } from '../crypto/sm2.ts';
import { accept, reject, type Verdict } from '../errors.ts';
import type { Hash } from '../protocol/primitives.ts';

const FORMAT = 1;
const SALT_BYTES = 32;
const TAG_BYTES = 32;
const HEAD_BYTES = 1 + 4 + SALT_BYTES;
/** What a file has beside its content. */
const SEAL_OVERHEAD_BYTES = HEAD_BYTES + TAG_BYTES;

/** What a sealed content is for. */
export interface SealedFor {
  readonly kind: string;
  readonly sessionId: Hash;
  readonly epoch: number;
}

interface FileKeys {
  readonly cipher: Uint8Array;
  readonly counter: Uint8Array;
  readonly mac: Uint8Array;
}

export class Seal {
  readonly #chainId: Hash;
  readonly #root: Uint8Array;
  readonly #random: RandomBytes;

  /** @param privateKey the custodian's, 32 bytes; not kept */
  constructor(chainId: Hash, privateKey: Uint8Array, random: RandomBytes) {
    this.#chainId = chainId;
    this.#root = kdfTlv(32, 'custody-seal', chainId, privateKey);
    this.#random = random;
  }

  seal(about: SealedFor, content: Uint8Array): Uint8Array {
    const salt = drawBytes(this.#random, SALT_BYTES);
    const keys = this.#keysOf(salt);
    const cipher = createCipheriv('sm4-ctr', keys.cipher, keys.counter);
    const ciphertext = concatBytes(cipher.update(content), cipher.final());
    const tag = this.#tagOf(keys, about, salt, ciphertext);
    return concatBytes(Uint8Array.of(FORMAT), u32be(about.epoch), salt, ciphertext, tag);
  }

  /** @returns epoch and content, or CUSTODY_SEAL_BROKEN */
  open(
    kind: string,
    sessionId: Hash,
    sealed: Uint8Array,
  ): Verdict<{ readonly epoch: number; readonly content: Uint8Array }> {
    const epoch = readU32be(sealed, 1);
    if (sealed.length < SEAL_OVERHEAD_BYTES || sealed[0] !== FORMAT || epoch === undefined) return broken();
    const salt = sealed.subarray(5, HEAD_BYTES);
    const ciphertext = sealed.subarray(HEAD_BYTES, sealed.length - TAG_BYTES);
    const keys = this.#keysOf(salt);
    const tag = this.#tagOf(keys, { kind, sessionId, epoch }, salt, ciphertext);
    if (!equalBytesConstantTime(tag, sealed.subarray(sealed.length - TAG_BYTES))) return broken();
    const decipher = createDecipheriv('sm4-ctr', keys.cipher, keys.counter);
    return accept({ epoch, content: concatBytes(decipher.update(ciphertext), decipher.final()) });
  }

  #keysOf(salt: Uint8Array): FileKeys {
    const derived = kdfTlv(64, 'custody-seal/file', this.#root, salt);
    return { cipher: derived.subarray(0, 16), counter: derived.subarray(16, 32), mac: derived.subarray(32) };
  }

  #tagOf({ mac }: FileKeys, { kind, sessionId, epoch }: SealedFor, salt: Uint8Array, ciphertext: Uint8Array) {
    const covered = tlv('custody-sealed', this.#chainId, utf8(kind), sessionId, u32be(epoch), salt, ciphertext);
    return new Uint8Array(createHmac('sm3', mac).update(covered).digest());
  }
}

const broken = (): Verdict<never> =>
  reject('CUSTODY_SEAL_BROKEN', 'the file was not sealed by this custodian for this chain, or it is damaged');
