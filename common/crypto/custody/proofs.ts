/**
 * Proofs about discrete logarithms in (challenge, response) form: the verifier recomputes the commitments, and refuses a
 * commitment that is O. Challenges hash the whole statement: every base, every public value and the context.
 *
 * DANGER: a nonce that serves twice, or that is known, gives the secret away. Nonces come from `hedgedScalar` over fresh
 * randomness, the secret and the statement, so that broken randomness alone does not repeat one.
 */
import { concatBytes } from '../../bytes.ts';
import {
  CURVE_ORDER,
  type CurvePoint,
  decodeScalar,
  encodePoint,
  encodeScalar,
  GENERATOR,
  SCALAR_BYTES,
} from '../curve.ts';
import { hq } from '../hash.ts';
import { negated, publicSum } from '../public-arithmetic.ts';
import { hedgedScalar, type RandomBytes } from '../sm2.ts';

/** Challenge and one response, 32 bytes each. */
export const PROOF_BYTES = 2 * SCALAR_BYTES;

/** a * P - e * Q for public scalars: a commitment as its verifier recomputes it. Undefined where it is O. */
export function recommit(a: bigint, P: CurvePoint, e: bigint, Q: CurvePoint): CurvePoint | undefined {
  const rest = { scalar: negated(e), point: Q };
  const point = P === GENERATOR ? publicSum(a, [rest]) : publicSum(0n, [{ scalar: a, point: P }, rest]);
  return point.is0() ? undefined : point;
}

/** nonce + e * secret mod n. */
export const respond = (nonce: bigint, e: bigint, secret: bigint): bigint => (nonce + e * secret) % CURVE_ORDER;

/** Challenge and response of untrusted bytes; undefined unless they are two canonical scalars. */
export function parseProof(bytes: Uint8Array): { readonly e: bigint; readonly z: bigint } | undefined {
  if (bytes.length !== PROOF_BYTES) return undefined;
  const e = decodeScalar(bytes.subarray(0, SCALAR_BYTES));
  const z = decodeScalar(bytes.subarray(SCALAR_BYTES));
  return e === undefined || z === undefined ? undefined : { e, z };
}

/**
 * Proof of knowledge of `secret` with P = secret * G.
 * @param domain separates the uses, such as `enckey`
 * @param context TLV of everything that the proof is bound to
 * @returns 64 bytes e || z
 */
export function proveKnowledge(
  domain: string,
  context: Uint8Array,
  secret: bigint,
  P: CurvePoint,
  random: RandomBytes,
): Uint8Array {
  const nonce = hedgedScalar(`nonce/${domain}`, random, encodeScalar(secret), context);
  const e = hq(`pok/${domain}`, context, encodePoint(P), encodePoint(GENERATOR.multiply(nonce)));
  return concatBytes(encodeScalar(e), encodeScalar(respond(nonce, e, secret)));
}

export function checkKnowledge(domain: string, context: Uint8Array, P: CurvePoint, proof: Uint8Array): boolean {
  const parsed = parseProof(proof);
  const A = parsed === undefined ? undefined : recommit(parsed.z, GENERATOR, parsed.e, P);
  return A !== undefined && hq(`pok/${domain}`, context, encodePoint(P), encodePoint(A)) === parsed?.e;
}

/** Statement that P = x * G and K = x * R for one x. */
export interface EqualLogs {
  readonly P: CurvePoint;
  readonly R: CurvePoint;
  readonly K: CurvePoint;
}

const equalityChallenge = (context: Uint8Array, { P, R, K }: EqualLogs, A1: CurvePoint, A2: CurvePoint): bigint =>
  hq('dleq', context, ...[P, R, K, A1, A2].map(encodePoint));

/** Proof that log_G P = log_R K. @returns 64 bytes e || z */
export function proveEqualLogs(context: Uint8Array, statement: EqualLogs, x: bigint, random: RandomBytes): Uint8Array {
  const nonce = hedgedScalar('nonce/dleq', random, encodeScalar(x), context);
  const e = equalityChallenge(context, statement, GENERATOR.multiply(nonce), statement.R.multiply(nonce));
  return concatBytes(encodeScalar(e), encodeScalar(respond(nonce, e, x)));
}

export function checkEqualLogs(context: Uint8Array, statement: EqualLogs, proof: Uint8Array): boolean {
  const parsed = parseProof(proof);
  if (parsed === undefined) return false;
  const A1 = recommit(parsed.z, GENERATOR, parsed.e, statement.P);
  const A2 = recommit(parsed.z, statement.R, parsed.e, statement.K);
  return A1 !== undefined && A2 !== undefined && equalityChallenge(context, statement, A1, A2) === parsed.e;
}
