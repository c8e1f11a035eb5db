/**
 * What the qualified dealings of a session add up to: the public key X, each holder's public share X_i, and, for a
 * holder, its secret share x_i. The same on every node: all of it but x_i is public.
 */
import { u16be } from '../../bytes.ts';
import { accept, assert, reject, type Verdict } from '../../errors.ts';
import { CURVE_ORDER, type CurvePoint, encodePoint, GENERATOR } from '../curve.ts';
import { tlv } from '../hash.ts';
import { publicSum } from '../public-arithmetic.ts';
import type { RandomBytes } from '../sm2.ts';
import type { Dealing, Session } from './dealing.ts';
import { checkKnowledge, proveKnowledge } from './proofs.ts';
import { type Commitment, commitmentAt, lagrangeAtZero } from './sharing.ts';

export interface SharedKey {
  readonly X: CurvePoint;
  /** X_1 .. X_n. */
  readonly holders: readonly CurvePoint[];
  /** To the polynomial that the dealings add up to: t points, X first. */
  readonly commitment: Commitment;
}

/** How the dealings of a session are weighed: each once, or by their place in the interpolation at zero. */
export type Weights = 'sum' | 'interpolate';

/** The dealers in order, and what each one's dealing counts. */
function weightsOf(dealers: readonly number[], weights: Weights): readonly bigint[] {
  return weights === 'sum' ? dealers.map(() => 1n) : lagrangeAtZero(dealers);
}

function keyOf(session: Session, dealings: readonly Dealing[], weights: Weights): Verdict<SharedKey> {
  const weight = weightsOf(
    dealings.map(({ dealer }) => dealer),
    weights,
  );
  const commitment = Array.from({ length: session.t }, (_, k) =>
    publicSum(
      0n,
      dealings.map((dealing, at) => {
        const point = dealing.commitment[k];
        assert(point !== undefined, 'a checked dealing has t points');
        return { scalar: weight[at] as bigint, point };
      }),
    ),
  );
  const X = commitment[0] as CurvePoint;
  const holders = Array.from({ length: session.n }, (_, k) => commitmentAt(commitment, k + 1));
  if (X.is0() || holders.some((holder) => holder.is0())) return reject('KEY_DEGENERATE', 'a public share is O');
  return accept({ X, holders, commitment });
}

function inOrder(dealings: readonly Dealing[]): void {
  dealings.forEach(({ dealer }, k) => {
    assert(
      k === 0 || dealer > (dealings[k - 1] as Dealing).dealer,
      'dealings are in order of their dealers, each once',
    );
  });
}

/**
 * The key that a first generation makes.
 * @param qualified checked dealings without those of disqualified dealers, in order of the dealers
 * @returns TOO_FEW_DEALERS below t of them, KEY_DEGENERATE
 */
export function generatedKey(session: Session, qualified: readonly Dealing[]): Verdict<SharedKey> {
  inOrder(qualified);
  if (qualified.length < session.t) return reject('TOO_FEW_DEALERS', `${qualified.length} of ${session.t}`);
  return keyOf(session, qualified, 'sum');
}

/**
 * The same key in new hands. The first `oldT` qualified dealers by index count, for everybody: shares of different choices
 * would not fit together.
 * @param oldT how many shares of the epoch before determine the key
 * @param X the key, which stays
 * @returns TOO_FEW_DEALERS, KEY_DEGENERATE, or KEY_CHANGED: then a dealer's share was not the epoch's, which a check of
 *   each dealing against X_i excludes
 */
export function resharedKey(
  session: Session,
  qualified: readonly Dealing[],
  oldT: number,
  X: CurvePoint,
): Verdict<SharedKey> {
  inOrder(qualified);
  if (qualified.length < oldT) return reject('TOO_FEW_DEALERS', `${qualified.length} of ${oldT}`);
  const key = keyOf(session, countedDealings(qualified, oldT), 'interpolate');
  if (!key.ok) return key;
  return key.value.X.equals(X) ? key : reject('KEY_CHANGED', 'the dealings do not share the key of the epoch before');
}

/** Of a resharing's qualified dealings, those that count. */
export const countedDealings = (qualified: readonly Dealing[], oldT: number): readonly Dealing[] =>
  qualified.slice(0, oldT);

/**
 * A holder's share out of its sub-shares, one for each dealing that counts, in the same order.
 * @throws InvariantError where it is not the share of `publicShare`: each sub-share was checked against its commitment
 */
export function secretShare(
  dealers: readonly number[],
  subShares: readonly bigint[],
  weights: Weights,
  publicShare: CurvePoint,
): bigint {
  assert(dealers.length === subShares.length, 'a sub-share for each dealer');
  const weight = weightsOf(dealers, weights);
  const x = subShares.reduce((sum, value, k) => (sum + value * (weight[k] as bigint)) % CURVE_ORDER, 0n);
  assert(x !== 0n && GENERATOR.multiply(x).equals(publicShare), 'the share is the one that its commitment promises');
  return x;
}

const ackContext = (session: Session, index: number, X: CurvePoint): Uint8Array =>
  tlv('shareack', session.id, u16be(index), encodePoint(X));

/** Proof (64 bytes) that holder `index` has its share. */
export const proveShare = (
  session: Session,
  index: number,
  X: CurvePoint,
  publicShare: CurvePoint,
  x: bigint,
  random: RandomBytes,
): Uint8Array => proveKnowledge('shareack', ackContext(session, index, X), x, publicShare, random);

export const checkShareProof = (
  session: Session,
  index: number,
  X: CurvePoint,
  publicShare: CurvePoint,
  proof: Uint8Array,
): boolean => checkKnowledge('shareack', ackContext(session, index, X), publicShare, proof);
