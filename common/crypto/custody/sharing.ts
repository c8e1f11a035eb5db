/**
 * Sharing a scalar among n holders so that any t of them determine it: polynomials (Shamir), their commitments on the
 * curve (Feldman), and interpolation at zero. Holders have indices 1..n; index 0 would be the secret itself.
 *
 * What must not go in here: who the holders are, or when something is shared.
 */
import { assert } from '../../errors.ts';
import { CURVE_ORDER, type CurvePoint, GENERATOR, INFINITY, invertModOrder, modOrder } from '../curve.ts';
import { publicSum } from '../public-arithmetic.ts';

/** Largest index: a holder is a validator, of which there are at most 31. */
export const MAX_HOLDERS = 31;

/** Commitment to a polynomial: coefficient k times G, for k = 0 .. t - 1. None of them is O. */
export type Commitment = readonly CurvePoint[];

function requireIndex(index: number): void {
  assert(Number.isInteger(index) && index >= 1 && index <= MAX_HOLDERS, 'a holder has an index from 1 on');
}

/** f(index) mod n, where f has these coefficients, the constant one first. */
export function evaluate(coefficients: readonly bigint[], index: number): bigint {
  requireIndex(index);
  return coefficients.reduceRight((sum, coefficient) => (sum * BigInt(index) + coefficient) % CURVE_ORDER, 0n);
}

/** Commits to a secret polynomial. */
export function commit(coefficients: readonly bigint[]): Commitment {
  return coefficients.map((coefficient) => GENERATOR.multiply(coefficient));
}

/** f(index) * G, from the commitment alone. All of it is public. May be O. */
export function commitmentAt(commitment: Commitment, index: number): CurvePoint {
  requireIndex(index);
  return commitment.reduceRight((sum, point) => sum.multiplyUnsafe(BigInt(index)).add(point), INFINITY);
}

/** Whether `value` is what the commitment promises holder `index`. */
export function isShareOf(commitment: Commitment, index: number, value: bigint): boolean {
  // Zero has no product with G; a dealer hits it with probability 2^-256, or on purpose.
  if (value === 0n) return commitmentAt(commitment, index).is0();
  return GENERATOR.multiply(value).equals(commitmentAt(commitment, index));
}

/**
 * Lagrange coefficients at zero of these distinct indices, in their order: f(0) is the sum of coefficient times f(index),
 * for every polynomial of a degree below their number.
 */
export function lagrangeAtZero(indices: readonly number[]): readonly bigint[] {
  indices.forEach(requireIndex);
  assert(new Set(indices).size === indices.length && indices.length > 0, 'each holder counts once');
  return indices.map((i) => {
    let numerator = 1n;
    let denominator = 1n;
    for (const j of indices) {
      if (j === i) continue;
      numerator = (numerator * BigInt(j)) % CURVE_ORDER;
      denominator = modOrder(denominator * BigInt(j - i));
    }
    return (numerator * invertModOrder(denominator)) % CURVE_ORDER;
  });
}

/** The value at zero of shares in the exponent; `points[k]` belongs to `indices[k]`. */
export function interpolateAtZero(indices: readonly number[], points: readonly CurvePoint[]): CurvePoint {
  assert(points.length === indices.length, 'a point for each index');
  const lambda = lagrangeAtZero(indices);
  return publicSum(
    0n,
    points.map((point, k) => ({ scalar: lambda[k] as bigint, point })),
  );
}
