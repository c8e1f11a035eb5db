/**
 * Release of a record's key to one requester: each holder answers with a share of x * U that is masked for the requester's
 * fresh key Q, and any t of them give W = x * U to whoever knows log Q, and to nobody else.
 *
 *   R_i = s_i G    V_i = x_i U + s_i Q    with a proof that both are made of the holder's x_i and one s_i
 *
 * The mask s_i is fresh for each (grant, U, Q, epoch): without it, one reader's knowledge of x * U would open other records
 * that were released to the same key. It is derived, not drawn, so that a holder gives the same answer twice.
 *
 * The custody key and the recovery key of the consortium use the same formulas, each in a domain of its own: a share of one
 * never counts as a share of the other, whatever the holders' indices are.
 *
 * DANGER: U, Q, X_i and the epoch come from the holder's own executed state, never from the caller; U only from a
 * capsule whose proof was checked (capsule.ts).
 */
import { concatBytes, readU16be, u16be, u32be } from '../../bytes.ts';
import { accept, assert, reject, type Verdict } from '../../errors.ts';
import {
  COMPRESSED_BYTES,
  type CurvePoint,
  decodeScalar,
  encodePoint,
  encodeScalar,
  GENERATOR,
  SCALAR_BYTES,
} from '../curve.ts';
import { hq, tlv } from '../hash.ts';
import { decodePublicPoint, negated, publicSum } from '../public-arithmetic.ts';
import { drawBytes, type RandomBytes } from '../sm2.ts';
import { recommit, respond } from './proofs.ts';
import { interpolateAtZero } from './sharing.ts';

/** Index (2), R (33), V (33), e, z1, z2 (32 each). */
export const RELEASE_SHARE_BYTES = 164;

/** Whose shares they are: the custodians', or the officers' who hold the recovery key. */
export type KeyUse = 'custody' | 'recovery';

const DOMAINS: Readonly<Record<KeyUse, string>> = { custody: 'reenc', recovery: 'recovery-reenc' };

/** What a share is for; all of it is in the proof. */
export interface ReleaseContext {
  readonly use: KeyUse;
  /** 32 bytes. */
  readonly chainId: Uint8Array;
  /** Of the custody key; of the recovery key its version. */
  readonly epoch: number;
  /** Hash of the granted request, 32 bytes. */
  readonly grantId: Uint8Array;
  /** The capsule's U. */
  readonly U: CurvePoint;
  /** The requester's fresh key. */
  readonly Q: CurvePoint;
}

/** A holder's place in the epoch, and its public share X_i = x_i G. */
export interface Holder {
  readonly index: number;
  readonly X: CurvePoint;
}

export interface ReleaseShare {
  readonly index: number;
  readonly R: CurvePoint;
  readonly V: CurvePoint;
}

const contextBytes = ({ use, chainId, epoch, grantId, U, Q }: ReleaseContext, { index, X }: Holder): Uint8Array =>
  tlv(DOMAINS[use], chainId, u32be(epoch), grantId, u16be(index), encodePoint(X), encodePoint(U), encodePoint(Q));

const challenge = (context: Uint8Array, points: readonly CurvePoint[]): bigint =>
  hq('reencproof', context, ...points.map(encodePoint));

/**
 * @param x the holder's secret share; `holder.X` must be x * G
 * @returns 164 bytes; equal R and V for equal contexts, whatever the randomness
 */
export function createReleaseShare(
  context: ReleaseContext,
  holder: Holder,
  x: bigint,
  random: RandomBytes,
): Uint8Array {
  const { U, Q } = context;
  const ctx = contextBytes(context, holder);
  const secret = encodeScalar(x);
  const hedge = drawBytes(random, SCALAR_BYTES);
  const s = hq('prf/s', secret, ctx, new Uint8Array(0));
  const a = hq('prf/a', secret, ctx, hedge);
  const b = hq('prf/b', secret, ctx, hedge);
  const R = GENERATOR.multiply(s);
  const V = U.multiply(x).add(Q.multiply(s));
  assert(!V.is0(), 'a masked share is O with probability 2^-256');
  const A3 = U.multiply(a).add(Q.multiply(b));
  const e = challenge(ctx, [R, V, GENERATOR.multiply(a), GENERATOR.multiply(b), A3]);
  return concatBytes(
    u16be(holder.index),
    encodePoint(R),
    encodePoint(V),
    encodeScalar(e),
    encodeScalar(respond(a, e, x)),
    encodeScalar(respond(b, e, s)),
  );
}

/** Index and points of untrusted bytes, without the proof: for trying a few shares before checking each. */
export function parseReleaseShare(bytes: Uint8Array): Verdict<ReleaseShare> {
  const index = readU16be(bytes, 0);
  if (bytes.length !== RELEASE_SHARE_BYTES || index === undefined)
    return reject('SHARE_MALFORMED', `a share has ${RELEASE_SHARE_BYTES} bytes`);
  const R = decodePublicPoint(bytes.subarray(2, 2 + COMPRESSED_BYTES));
  const V = decodePublicPoint(bytes.subarray(2 + COMPRESSED_BYTES, 2 + 2 * COMPRESSED_BYTES));
  if (R === undefined || V === undefined) return reject('SHARE_MALFORMED', 'a point of the share is not canonical');
  return accept({ index, R, V });
}

/**
 * Anyone can check a share: it is the holder's, for this grant, epoch, capsule and key.
 * @returns the share, or SHARE_MALFORMED, SHARE_WRONG_HOLDER, SHARE_PROOF
 */
export function checkReleaseShare(bytes: Uint8Array, context: ReleaseContext, holder: Holder): Verdict<ReleaseShare> {
  const parsed = parseReleaseShare(bytes);
  if (!parsed.ok) return parsed;
  const { index, R, V } = parsed.value;
  if (index !== holder.index) return reject('SHARE_WRONG_HOLDER', 'the share is of another holder');
  const offset = 2 + 2 * COMPRESSED_BYTES;
  const scalarAt = (k: number): bigint | undefined =>
    decodeScalar(bytes.subarray(offset + k * SCALAR_BYTES, offset + (k + 1) * SCALAR_BYTES));
  const [e, z1, z2] = [scalarAt(0), scalarAt(1), scalarAt(2)];
  if (e === undefined || z1 === undefined || z2 === undefined)
    return reject('SHARE_MALFORMED', 'a number of the share is not canonical');
  const A1 = recommit(z1, GENERATOR, e, holder.X);
  const A2 = recommit(z2, GENERATOR, e, R);
  const A3 = publicSum(0n, [
    { scalar: z1, point: context.U },
    { scalar: z2, point: context.Q },
    { scalar: negated(e), point: V },
  ]);
  if (A1 === undefined || A2 === undefined || A3.is0()) return reject('SHARE_PROOF', 'the proof is degenerate');
  return challenge(contextBytes(context, holder), [R, V, A1, A2, A3]) === e
    ? parsed
    : reject('SHARE_PROOF', 'the share is not of this holder, grant, epoch, capsule and key');
}

/** An ElGamal ciphertext of W under Q. */
export interface CombinedShares {
  readonly R: CurvePoint;
  readonly V: CurvePoint;
}

/** Combines the shares of exactly t distinct holders of one epoch. Anyone can. */
export function combineShares(shares: readonly ReleaseShare[]): CombinedShares {
  const indices = shares.map(({ index }) => index);
  return {
    R: interpolateAtZero(
      indices,
      shares.map((share) => share.R),
    ),
    V: interpolateAtZero(
      indices,
      shares.map((share) => share.V),
    ),
  };
}

/** W = V - q R, with the requester's secret q. O where the shares were false. */
export function unmask({ R, V }: CombinedShares, q: bigint): CurvePoint {
  return R.is0() ? V : V.subtract(R.multiply(q));
}
