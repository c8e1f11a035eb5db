/**
 * Points and scalars that everybody may see, by WebAssembly where there is some: decoding, and sums of products. Twenty
 * times as fast as @noble/curves, with which everything goes on where WebAssembly is missing or forbidden.
 *
 * DANGER: time depends on the values. Secret scalars go through `multiply` of a point (curve.ts).
 */
import { assert } from '../errors.ts';
import { CURVE_ORDER, type CurvePoint, decodePoint, GENERATOR, INFINITY, Point, pointToRaw } from './curve.ts';
import { bytesToBigint } from '../bytes.ts';
import { createWasmPoints, type PublicPoints, SUM_POINTS_MAX } from './sm2-engine/points.ts';

/** Made when something asks for it first; null where it cannot be. */
let wasm: PublicPoints | null | undefined;

function wasmPoints(): PublicPoints | null {
  if (wasm === undefined) {
    try {
      wasm = createWasmPoints();
    } catch {
      wasm = null;
    }
  }
  return wasm;
}

/** 64 bytes of a point on the curve. */
const fromRaw = (raw: Uint8Array): CurvePoint =>
  Point.fromAffine({ x: bytesToBigint(raw.subarray(0, 32)), y: bytesToBigint(raw.subarray(32)) });

/** Untrusted: exactly 33 bytes, prefix 02 or 03, x < p, on the curve; else undefined. */
export function decodePublicPoint(bytes: Uint8Array): CurvePoint | undefined {
  const points = wasmPoints();
  if (points === null) return decodePoint(bytes);
  const raw = points.decompress(bytes);
  return raw && fromRaw(raw);
}

export interface PublicTerm {
  /** 0..n-1 */
  readonly scalar: bigint;
  readonly point: CurvePoint;
}

/** generator * G + the sum of scalar * point. May be O. */
export function publicSum(generator: bigint, terms: readonly PublicTerm[]): CurvePoint {
  const points = wasmPoints();
  if (points === null) return plainSum(generator, terms);
  // O has no coordinates to hand over, and adds nothing.
  const finite = terms.filter(({ point }) => !point.is0());
  let sum = INFINITY;
  for (let first = 0; first < Math.max(1, finite.length); first += SUM_POINTS_MAX) {
    const part = finite
      .slice(first, first + SUM_POINTS_MAX)
      .map(({ scalar, point }) => ({ scalar, point: pointToRaw(point) }));
    const raw = points.sum(first === 0 ? generator : 0n, part);
    assert(raw !== 'not a point', 'a point of the curve is on the curve');
    if (raw !== 'infinity') sum = sum.is0() ? fromRaw(raw) : sum.add(fromRaw(raw));
  }
  return sum;
}

/** By @noble/curves. */
function plainSum(generator: bigint, terms: readonly PublicTerm[]): CurvePoint {
  const product = (point: CurvePoint, scalar: bigint): CurvePoint =>
    scalar === 0n ? INFINITY : point.multiplyUnsafe(scalar);
  return terms.reduce((sum, { scalar, point }) => sum.add(product(point, scalar)), product(GENERATOR, generator));
}

/** -scalar mod n, of a scalar in 0..n-1. */
export const negated = (scalar: bigint): bigint => (scalar === 0n ? 0n : CURVE_ORDER - scalar);
