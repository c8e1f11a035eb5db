/**
 * Making a shared key without a dealer whom anyone must trust (Joint-Feldman), and handing shares on to a new set with
 * the same public key (Desmedt and Jajodia). Each dealer shares a polynomial of its own; everything is public but what
 * each receiver decrypts for itself. A receiver of a false sub-share proves that by opening it (as ETHDKG does): the dealer
 * has nothing to answer, and who accuses falsely is seen to.
 *
 * DANGER: a dealing must be checked before anybody decrypts its own part of it. The proof of knowledge of rho is what
 * stops a dealer from sending another one's R again, so that a complaint about garbage would open that one's sub-share.
 */
import { concatBytes, readU16be, u16be } from '../../bytes.ts';
import { accept, assert, reject, type Verdict } from '../../errors.ts';
import {
  COMPRESSED_BYTES,
  type CurvePoint,
  decodeScalar,
  encodePoint,
  encodeScalar,
  GENERATOR,
  pointToRaw,
  SCALAR_BYTES,
} from '../curve.ts';
import { hq, kdf, tlv } from '../hash.ts';
import { decodePublicPoint } from '../public-arithmetic.ts';
import { hedgedScalar, type RandomBytes } from '../sm2.ts';
import {
  checkEqualLogs,
  checkKnowledge,
  proveEqualLogs,
  proveKnowledge,
  PROOF_BYTES,
  recommit,
  respond,
} from './proofs.ts';
import { type Commitment, commit, evaluate, isShareOf, MAX_HOLDERS } from './sharing.ts';

/** What all messages of one key generation or resharing are bound to. */
export interface Session {
  /** 32 bytes: hash over chain, key, kind, epoch, receivers, height. */
  readonly id: Uint8Array;
  /** How many receivers, and how many of them determine the key. */
  readonly n: number;
  readonly t: number;
}

/** The key under which receiver i takes sub-shares in this session; made for it and erased after it. */
export interface EncryptionKey {
  readonly index: number;
  readonly P: CurvePoint;
}

const announceContext = (session: Session, index: number): Uint8Array => tlv('enckey', session.id, u16be(index));

/** Proof (64 bytes) that receiver `index` knows p with P = p G. */
export const proveEncryptionKey = (
  session: Session,
  { index, P }: EncryptionKey,
  p: bigint,
  random: RandomBytes,
): Uint8Array => proveKnowledge('enckey', announceContext(session, index), p, P, random);

export const checkEncryptionKey = (session: Session, { index, P }: EncryptionKey, proof: Uint8Array): boolean =>
  checkKnowledge('enckey', announceContext(session, index), P, proof);

/** What dealer j says to all. */
export interface Dealing {
  readonly dealer: number;
  /** To the dealer's polynomial: t points. */
  readonly commitment: Commitment;
  readonly R: CurvePoint;
  /** One for each receiver in order, 32 bytes each. */
  readonly ciphertexts: readonly Uint8Array[];
}

/** 131 + 33 t + 32 n. */
export const dealingBytes = ({ n, t }: Session): number => 131 + COMPRESSED_BYTES * t + SCALAR_BYTES * n;

const dealContext = (session: Session, { dealer, commitment, R, ciphertexts }: Dealing): Uint8Array =>
  tlv(
    'deal',
    session.id,
    u16be(session.n),
    u16be(session.t),
    u16be(dealer),
    concatBytes(...commitment.map(encodePoint)),
    encodePoint(R),
    concatBytes(...ciphertexts),
  );

const dealChallenge = (context: Uint8Array, A: CurvePoint, B: CurvePoint): bigint =>
  hq('dealpok', context, encodePoint(A), encodePoint(B));

/** What hides the sub-share for a receiver: `shared` is rho P = p R. */
function applyPad(
  session: Session,
  dealer: number,
  R: CurvePoint,
  receiver: EncryptionKey,
  shared: CurvePoint,
  bytes: Uint8Array,
): Uint8Array {
  const { index, P } = receiver;
  const context = tlv('dealpad', session.id, u16be(dealer), u16be(index), encodePoint(R), encodePoint(P));
  const pad = kdf(concatBytes(pointToRaw(shared), context), SCALAR_BYTES);
  return bytes.map((byte, k) => byte ^ (pad[k] as number));
}

/**
 * Shares a secret among the receivers.
 * @param dealer index of this dealer: among the holders of the epoch before when resharing
 * @param secret the dealer's share x_i when resharing; null for a fresh contribution
 * @param receivers all n, in order of their index 1..n
 * @returns the encoded dealing
 */
export function deal(
  session: Session,
  dealer: number,
  secret: bigint | null,
  receivers: readonly EncryptionKey[],
  random: RandomBytes,
): Uint8Array {
  assert(receivers.length === session.n && session.t >= 1 && session.t <= session.n, 'a key for each receiver');
  const draw = (what: string): bigint => hedgedScalar(`nonce/${what}`, random, session.id, u16be(dealer));
  const coefficients = Array.from({ length: session.t }, (_, k) =>
    k === 0 && secret !== null ? secret : draw('deal'),
  );
  const rho = draw('deal-rho');
  const commitment = commit(coefficients);
  const R = GENERATOR.multiply(rho);
  const ciphertexts = receivers.map((receiver, k) => {
    assert(receiver.index === k + 1, 'receivers are in order');
    const subShare = encodeScalar(evaluate(coefficients, receiver.index));
    return applyPad(session, dealer, R, receiver, receiver.P.multiply(rho), subShare);
  });
  const dealing = { dealer, commitment, R, ciphertexts };
  const a0 = coefficients[0] as bigint;
  const [alpha, beta] = [draw('deal-alpha'), draw('deal-beta')];
  const e = dealChallenge(dealContext(session, dealing), GENERATOR.multiply(alpha), GENERATOR.multiply(beta));
  return concatBytes(
    u16be(dealer),
    ...commitment.map(encodePoint),
    encodePoint(R),
    ...ciphertexts,
    ...[e, respond(alpha, e, a0), respond(beta, e, rho)].map(encodeScalar),
  );
}

/** Points of an untrusted run of bytes; undefined where one is none. */
function parsePoints(bytes: Uint8Array): CurvePoint[] | undefined {
  const points: CurvePoint[] = [];
  for (let offset = 0; offset < bytes.length; offset += COMPRESSED_BYTES) {
    const point = decodePublicPoint(bytes.subarray(offset, offset + COMPRESSED_BYTES));
    if (point === undefined) return undefined;
    points.push(point);
  }
  return points;
}

interface ParsedDealing {
  readonly dealing: Dealing;
  /** Challenge and responses for the dealer's constant coefficient and for rho. */
  readonly e: bigint;
  readonly za: bigint;
  readonly zrho: bigint;
}

function parse(session: Session, bytes: Uint8Array): Verdict<ParsedDealing> {
  if (bytes.length !== dealingBytes(session)) return reject('DEALING_MALFORMED', 'the length is wrong');
  const { n, t } = session;
  const dealer = readU16be(bytes, 0) as number;
  if (dealer < 1 || dealer > MAX_HOLDERS) return reject('DEALING_MALFORMED', 'no dealer has this index');
  const ciphertextsAt = 2 + COMPRESSED_BYTES * (t + 1);
  const proofAt = ciphertextsAt + SCALAR_BYTES * n;
  const points = parsePoints(bytes.subarray(2, ciphertextsAt));
  const scalarAt = (k: number): bigint | undefined =>
    decodeScalar(bytes.subarray(proofAt + k * SCALAR_BYTES, proofAt + (k + 1) * SCALAR_BYTES));
  const [e, za, zrho] = [scalarAt(0), scalarAt(1), scalarAt(2)];
  if (points === undefined || e === undefined || za === undefined || zrho === undefined)
    return reject('DEALING_MALFORMED', 'a point or a number is not canonical');
  const ciphertexts = Array.from({ length: n }, (_, k) =>
    bytes.slice(ciphertextsAt + k * SCALAR_BYTES, ciphertextsAt + (k + 1) * SCALAR_BYTES),
  );
  const dealing = { dealer, commitment: points.slice(0, t), R: points[t] as CurvePoint, ciphertexts };
  return accept({ dealing, e, za, zrho });
}

/**
 * A dealing of which `checkDealing` said yes before it was stored; anything else must be checked.
 * @throws InvariantError where the bytes are no dealing
 */
export function storedDealing(session: Session, bytes: Uint8Array): Dealing {
  const parsed = parse(session, bytes);
  assert(parsed.ok, 'a stored dealing was checked');
  return parsed.value.dealing;
}

/**
 * Whether a dealing is what it should be, as far as all can see. Consensus checks it before it is stored.
 * @param promised the public share X_i of the dealer in the epoch before, when resharing; null in a first generation
 * @returns the parsed dealing, or DEALING_MALFORMED, DEALING_PROOF, DEALING_OTHER_SECRET
 */
export function checkDealing(session: Session, bytes: Uint8Array, promised: CurvePoint | null): Verdict<Dealing> {
  const parsed = parse(session, bytes);
  if (!parsed.ok) return parsed;
  const { dealing, e, za, zrho } = parsed.value;
  const c0 = dealing.commitment[0] as CurvePoint;
  if (promised !== null && !c0.equals(promised))
    return reject('DEALING_OTHER_SECRET', "what is shared is not the dealer's own share");
  const A = recommit(za, GENERATOR, e, c0);
  const B = recommit(zrho, GENERATOR, e, dealing.R);
  const isProven = A !== undefined && B !== undefined && dealChallenge(dealContext(session, dealing), A, B) === e;
  return isProven ? accept(dealing) : reject('DEALING_PROOF', 'the dealer does not know what it shares');
}

/** The sub-share that `shared` = p R uncovers, if it is what the commitment promises. */
function uncover(session: Session, dealing: Dealing, receiver: EncryptionKey, shared: CurvePoint): bigint | undefined {
  const { dealer, commitment, R, ciphertexts } = dealing;
  const ciphertext = ciphertexts[receiver.index - 1];
  assert(ciphertext !== undefined, 'the receiver has a part in the dealing');
  const value = decodeScalar(applyPad(session, dealer, R, receiver, shared, ciphertext));
  return value !== undefined && isShareOf(commitment, receiver.index, value) ? value : undefined;
}

/**
 * A receiver's own sub-share of a checked dealing.
 * @returns SUB_SHARE_FALSE where the dealer cheated: time for `complain`
 */
export function openDealing(session: Session, dealing: Dealing, receiver: EncryptionKey, p: bigint): Verdict<bigint> {
  const value = uncover(session, dealing, receiver, dealing.R.multiply(p));
  return value === undefined ? reject('SUB_SHARE_FALSE', 'the dealer sent a false sub-share') : accept(value);
}

/** Accuser (2), dealer (2), K (33), proof (64). */
export const COMPLAINT_BYTES = 4 + COMPRESSED_BYTES + PROOF_BYTES;

const complaintContext = (session: Session, dealer: number, receiver: number): Uint8Array =>
  tlv('complaint', session.id, u16be(dealer), u16be(receiver));

/** Opens the sub-share for all to see, by K = p R and the proof that K is that. For false sub-shares alone. */
export function complain(
  session: Session,
  dealing: Dealing,
  receiver: EncryptionKey,
  p: bigint,
  random: RandomBytes,
): Uint8Array {
  const { dealer, R } = dealing;
  const K = R.multiply(p);
  const context = complaintContext(session, dealer, receiver.index);
  const proof = proveEqualLogs(context, { P: receiver.P, R, K }, p, random);
  return concatBytes(u16be(receiver.index), u16be(dealer), encodePoint(K), proof);
}

/** Who is guilty. */
export type Judgement = 'dealer' | 'accuser';

/** Accuser and dealer of untrusted bytes, for finding the dealing; undefined where they are no complaint. */
export function parseComplaint(
  bytes: Uint8Array,
): { readonly accuser: number; readonly dealer: number; readonly K: CurvePoint } | undefined {
  if (bytes.length !== COMPLAINT_BYTES) return undefined;
  const K = decodePublicPoint(bytes.subarray(4, 4 + COMPRESSED_BYTES));
  const [accuser, dealer] = [readU16be(bytes, 0) as number, readU16be(bytes, 2) as number];
  return K === undefined ? undefined : { accuser, dealer, K };
}

/**
 * Judges a complaint about a checked dealing. The same everywhere: all of it is public.
 * @returns COMPLAINT_MALFORMED, or COMPLAINT_PROOF where it is not the accuser's own key that is opened: such a complaint
 *   is no complaint
 */
export function judge(
  session: Session,
  dealing: Dealing,
  receiver: EncryptionKey,
  bytes: Uint8Array,
): Verdict<Judgement> {
  const complaint = parseComplaint(bytes);
  if (complaint === undefined || complaint.dealer !== dealing.dealer || complaint.accuser !== receiver.index)
    return reject('COMPLAINT_MALFORMED', 'the complaint is about something else');
  const context = complaintContext(session, dealing.dealer, receiver.index);
  const statement = { P: receiver.P, R: dealing.R, K: complaint.K };
  if (!checkEqualLogs(context, statement, bytes.subarray(4 + COMPRESSED_BYTES)))
    return reject('COMPLAINT_PROOF', "what is opened is not the accuser's");
  return accept(uncover(session, dealing, receiver, complaint.K) === undefined ? 'dealer' : 'accuser');
}
