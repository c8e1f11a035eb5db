/**
 * Arithmetic with PUBLIC scalars and points, for verifying proofs: a G + b_1 P_1 + ... + b_m P_m, one chain of doublings for
 * all. Some 100 microseconds for one point, 40 more for each further one. Not for secrets: time depends on the values.
 */

import { bigintToBytes } from '../../bytes.ts';
import { assert } from '../../errors.ts';
import { COMPRESSED_BYTES, CURVE_ORDER, PUBLIC_KEY_BYTES, SCALAR_BYTES } from '../curve.ts';
import { instantiate } from './instance.ts';
import type { Sm2Exports } from './instance.ts';

/** What the module has room for. */
export const SUM_POINTS_MAX = 8;

export interface PointTerm {
  /** 0..n-1 */
  readonly scalar: bigint;
  /** 64 bytes x || y; untrusted. */
  readonly point: Uint8Array;
}

/** 64 bytes x || y; O, which has no encoding; or a term whose point is not on the curve. */
export type PointSum = Uint8Array | 'infinity' | 'not a point';

export interface PublicPoints {
  /**
   * generator * G + the sum of the terms.
   * @param generator 0..n-1
   * @param terms at most 8
   */
  sum(generator: bigint, terms: readonly PointTerm[]): PointSum;
  /** The 64 bytes of a point from its 33 bytes 02 or 03 || x; undefined for anything else. */
  decompress(compressed: Uint8Array): Uint8Array | undefined;
}

const INFINITE = 1;

class WasmPoints implements PublicPoints {
  readonly #wasm: Sm2Exports;

  constructor(wasm: Sm2Exports) {
    this.#wasm = wasm;
  }

  sum(generator: bigint, terms: readonly PointTerm[]): PointSum {
    assert(terms.length <= SUM_POINTS_MAX, 'sum: too many points');
    this.#putScalar(0, generator);
    for (const [index, { scalar, point }] of terms.entries()) {
      if (point.length !== PUBLIC_KEY_BYTES) return 'not a point';
      this.#putScalar(index + 1, scalar);
      this.#bytes.set(point, this.#wasm.POINTS.value + index * PUBLIC_KEY_BYTES);
    }
    const answer = this.#wasm.addPoints(terms.length);
    if (answer === 0) return 'not a point';
    return answer === INFINITE ? 'infinity' : this.#result();
  }

  decompress(compressed: Uint8Array): Uint8Array | undefined {
    const [head] = compressed;
    if (compressed.length !== COMPRESSED_BYTES || (head !== 2 && head !== 3)) return undefined;
    this.#bytes.set(compressed.subarray(1), this.#wasm.POINTS.value);
    return this.#wasm.decompress(head & 1) === 0 ? undefined : this.#result();
  }

  /** The engine may have grown the memory since the last call: a view lasts for one. */
  get #bytes(): Uint8Array {
    return new Uint8Array(this.#wasm.memory.buffer);
  }

  #putScalar(index: number, scalar: bigint): void {
    assert(scalar >= 0n && scalar < CURVE_ORDER, 'sum: not below the group order');
    this.#bytes.set(bigintToBytes(scalar, SCALAR_BYTES), this.#wasm.SCALARS.value + index * SCALAR_BYTES);
  }

  #result(): Uint8Array {
    const at = this.#wasm.RESULT.value;
    return this.#bytes.slice(at, at + PUBLIC_KEY_BYTES);
  }
}

/** @throws where WebAssembly is missing or forbidden */
export function createWasmPoints(wasm: Sm2Exports = instantiate()): PublicPoints {
  return new WasmPoints(wasm);
}
