/**
 * The SM2 engine in WebAssembly, as the rest of the project sees it: a key, a message and a signature in, a verdict out.
 * PUBLIC data only: it is not constant-time, and must never see a private key or a nonce.
 */

import { assert } from '../../errors.ts';
import { PUBLIC_KEY_BYTES } from '../curve.ts';
import { SIGNATURE_BYTES, verifyEach } from '../sm2.ts';
import type { Sm2Engine } from '../sm2.ts';
import { instantiate } from './instance.ts';
import type { Sm2Exports } from './instance.ts';
import { KnownKeys } from './known-keys.ts';

const PAGE_BYTES = 65_536;

/** Tables of keys that repeat: 4,640 bytes each, so some 7,000 keys. Memory is taken as they come. */
const TABLES_BYTES_MAX = 32 * 1024 * 1024;

class WasmEngine implements Sm2Engine {
  readonly name = 'wasm';
  readonly #wasm: Sm2Exports;
  readonly #keys: KnownKeys;
  readonly #keyAt: number;
  readonly #signatureAt: number;
  readonly #messageAt: number;
  readonly #pieceBytes: number;
  readonly #knownAt: number;
  readonly #knownBytes: number;
  /** All of the memory; a new view whenever it has grown. */
  #bytes: Uint8Array;
  /** The key as 32 characters: the quickest name that a map can look up. */
  #keyUnits: Uint16Array;

  constructor(wasm: Sm2Exports, tablesBytesMax: number) {
    this.#wasm = wasm;
    this.#keyAt = wasm.KEY.value;
    this.#signatureAt = wasm.SIGNATURE.value;
    this.#messageAt = wasm.MESSAGE.value;
    this.#pieceBytes = wasm.MESSAGE_BYTES.value;
    this.#knownBytes = wasm.KNOWN_BYTES.value;
    this.#knownAt = Math.ceil(wasm.heapBase() / 64) * 64;
    this.#keys = new KnownKeys(Math.floor(tablesBytesMax / this.#knownBytes));
    this.#bytes = new Uint8Array(wasm.memory.buffer);
    this.#keyUnits = new Uint16Array(wasm.memory.buffer, this.#keyAt, PUBLIC_KEY_BYTES / 2);
  }

  verify(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
    if (publicKey.length !== PUBLIC_KEY_BYTES || signature.length !== SIGNATURE_BYTES) return false;
    this.#bytes.set(publicKey, this.#keyAt);
    this.#bytes.set(signature, this.#signatureAt);
    const name = String.fromCharCode.apply(null, this.#keyUnits as unknown as number[]);
    const known = this.#known(name);
    if (known !== undefined) {
      this.#wasm.beginKnown(known);
      this.#absorb(message);
      return this.#wasm.verifyKnown(known) !== 0;
    }
    if (this.#wasm.begin() === 0) return false;
    this.#absorb(message);
    const valid = this.#wasm.verify() !== 0;
    if (valid) this.#keys.note(name);
    return valid;
  }

  verifyBatch(items: Parameters<Sm2Engine['verifyBatch']>[0]): boolean[] {
    return verifyEach((publicKey, message, signature) => this.verify(publicKey, message, signature), items);
  }

  /** Address of the tables of the key that was written to the module; built now if it came before. */
  #known(name: string): number | undefined {
    const slot = this.#keys.find(name);
    if (slot !== undefined) return this.#addressOf(slot);
    if (!this.#keys.hasSeen(name)) return undefined;
    const known = this.#addressOf(this.#keys.take(name));
    this.#reserve(known + this.#knownBytes);
    assert(this.#wasm.begin() !== 0, 'a key that verified a signature is no key');
    this.#wasm.makeKnown(known);
    return known;
  }

  #addressOf(slot: number): number {
    return this.#knownAt + slot * this.#knownBytes;
  }

  #reserve(end: number): void {
    const { memory } = this.#wasm;
    const missing = end - memory.buffer.byteLength;
    if (missing <= 0) return;
    memory.grow(Math.ceil(missing / PAGE_BYTES));
    this.#bytes = new Uint8Array(memory.buffer);
    this.#keyUnits = new Uint16Array(memory.buffer, this.#keyAt, PUBLIC_KEY_BYTES / 2);
  }

  #absorb(message: Uint8Array): void {
    const whole = message.length;
    for (let from = 0; from < whole; from += this.#pieceBytes) {
      const piece = whole <= this.#pieceBytes ? message : message.subarray(from, from + this.#pieceBytes);
      this.#bytes.set(piece, this.#messageAt);
      this.#wasm.absorbMessage(piece.length);
    }
    this.#wasm.finishMessage();
  }
}

/**
 * @param tablesBytesMax bound on the tables of keys that repeat
 * @throws where WebAssembly is missing or forbidden
 */
export function createWasmEngine(tablesBytesMax: number = TABLES_BYTES_MAX): Sm2Engine {
  return new WasmEngine(instantiate(), tablesBytesMax);
}
