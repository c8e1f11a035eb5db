/**
 * A custodian's share in the hands of three officers of its hospital: any two of them bring it back to their custodian,
 * one alone has nothing, and none ever sees another's part (docs/custody-protocol.md, section 13).
 *
 *   f(z)   = x + r z                  r fresh; S = r G
 *   about  = format, chain, session, epoch, organisation, index i, X, X_i, S, custodian's key, officer's key, place j
 *   bound  = f(j) || H("custody-part", enc(about))
 *   part   = about, Wrap(officer, bound), Sign(custodian, H("custody-backup", enc(about), wrap))       to officer j = 1..3
 *   handed = part, Wrap(custodian, bound)                                                              back from officer j
 *
 * `f(j) G = X_i + j S` shows which officer hands back something else. What the custodian signed, it finds unchanged; what
 * was encrypted names what it belongs to, so that no wrap can be moved into another part.
 */
import { bytesToBigint, concatBytes, equalBytes } from '../bytes.ts';
import { bytes, decode, encode, oneOf, struct, type TypeOf, uint } from '../codec.ts';
import {
  type CurvePoint,
  decodePoint,
  decodeScalar,
  encodePoint,
  encodeScalar,
  GENERATOR,
  CURVE_ORDER,
  SCALAR_BYTES,
} from '../crypto/curve.ts';
import { evaluate, isShareOf, lagrangeAtZero } from '../crypto/custody/sharing.ts';
import { H } from '../crypto/hash.ts';
import { SM2_ENCRYPTION_OVERHEAD_BYTES, sm2Decrypt, sm2Encrypt } from '../crypto/sm2-encrypt.ts';
import { generatePrivateKey, type RandomBytes, type Sm2Engine, type Sm2Signer } from '../crypto/sm2.ts';
import { accept, assert, reject, type Verdict } from '../errors.ts';
import { point } from './custody.ts';
import {
  type Hash,
  HASH_BYTES,
  hash32,
  MAX_VALIDATORS,
  orgId,
  type PublicKey,
  publicKey,
  signature,
} from './primitives.ts';

/** Parts of a backup, each to an officer of its own. */
export const BACKUP_PARTS = 3;
/** How many of them bring the share back. */
export const BACKUP_THRESHOLD = 2;
/** A part has 661 bytes at the most, one that was handed back 825. */
export const MAX_BACKUP_PART_BYTES = 1024;

const BOUND_BYTES = SCALAR_BYTES + HASH_BYTES;
const wrapped = bytes(BOUND_BYTES + SM2_ENCRYPTION_OVERHEAD_BYTES);

const shareFields = {
  chainId: hash32,
  sessionId: hash32,
  epoch: uint(2 ** 32 - 1),
  orgId,
  index: uint(MAX_VALIDATORS),
  /** X, the key that the custodians share. */
  key: point,
  /** X_i. */
  share: point,
} as const;
const partAbout = struct({
  format: oneOf(['emr-custody-part-1']),
  ...shareFields,
  /** S. */
  slope: point,
  custodianKey: publicKey,
  officer: publicKey,
  /** j. */
  place: uint(BACKUP_PARTS),
});
type PartAbout = TypeOf<typeof partAbout>;
/** The share that is kept, as everybody may know it. */
export type BackedShare = Pick<PartAbout, keyof typeof shareFields>;

const backupPart = struct({ about: partAbout, wrap: wrapped, signature });
export type BackupPart = TypeOf<typeof backupPart>;

const handedPart = struct({ part: backupPart, wrap: wrapped });
export type HandedPart = TypeOf<typeof handedPart>;

const aboutHash = (about: PartAbout): Hash => H('custody-part', encode(partAbout, about));
const signedHash = (about: PartAbout, wrap: Uint8Array): Hash => H('custody-backup', encode(partAbout, about), wrap);

/**
 * @param x the share that belongs to `kept.share`, 32 bytes; not kept
 * @param officers three different keys, none of them the custodian's
 * @returns a file for each officer, in their order
 */
export function backUp(
  kept: BackedShare,
  x: Uint8Array,
  officers: readonly PublicKey[],
  custodian: Sm2Signer,
  random: RandomBytes,
): readonly Uint8Array[] {
  const keys = [custodian.publicKey, ...officers];
  assert(officers.length === BACKUP_PARTS, 'a part for each of three officers');
  assert(new Set(keys.map((key) => bytesToBigint(key))).size === keys.length, 'each part is encrypted to another key');
  const slope = bytesToBigint(generatePrivateKey(random));
  const secret = bytesToBigint(x);
  const common = {
    format: 'emr-custody-part-1',
    ...kept,
    slope: encodePoint(GENERATOR.multiply(slope)),
    custodianKey: custodian.publicKey,
  } as const;
  return officers.map((officer, at) => {
    const place = at + 1;
    const about = { ...common, officer, place };
    const bound = concatBytes(encodeScalar(evaluate([secret, slope], place)), aboutHash(about));
    try {
      const wrap = sm2Encrypt(officer, bound, random);
      return encode(backupPart, { about, wrap, signature: custodian.sign(signedHash(about, wrap)) });
    } finally {
      bound.fill(0);
    }
  });
}

/** Untrusted. @returns CUSTODY_PART_INVALID */
export function readPart(file: Uint8Array, engine: Sm2Engine): Verdict<BackupPart> {
  const part = decode(backupPart, file, MAX_BACKUP_PART_BYTES);
  if (!part.ok) return invalid('the file is no part of a backup as an officer keeps it');
  return checked(part.value, engine);
}

/** Untrusted. @returns CUSTODY_PART_INVALID */
export function readHanded(file: Uint8Array, engine: Sm2Engine): Verdict<HandedPart> {
  const handed = decode(handedPart, file, MAX_BACKUP_PART_BYTES);
  if (!handed.ok) return invalid('the file is no part that an officer has opened for the custodian');
  const part = checked(handed.value.part, engine);
  return part.ok ? handed : part;
}

function checked(part: BackupPart, engine: Sm2Engine): Verdict<BackupPart> {
  const { about, wrap } = part;
  if (about.place < 1 || about.index < 1 || commitmentOf(about) === undefined) return invalid('it names no share');
  const isSigned = engine.verify(about.custodianKey, signedHash(about, wrap), part.signature);
  return isSigned ? accept(part) : invalid('the file was changed since its custodian made it');
}

/** (X_i, S), which f is committed to. */
function commitmentOf({ share, slope }: PartAbout): readonly CurvePoint[] | undefined {
  const [X, S] = [decodePoint(share), decodePoint(slope)];
  return X === undefined || S === undefined ? undefined : [X, S];
}

/**
 * What an officer does: the own part, encrypted again to the custodian that made it, and to nobody else.
 * @param privateKey the officer's, 32 bytes
 * @returns the file for the custodian, CUSTODY_PART_OTHER_OFFICER, CUSTODY_PART_INVALID
 */
export function handBack(
  part: BackupPart,
  officer: { readonly publicKey: PublicKey; readonly privateKey: Uint8Array },
  random: RandomBytes,
): Verdict<Uint8Array> {
  if (!equalBytes(part.about.officer, officer.publicKey)) {
    return reject('CUSTODY_PART_OTHER_OFFICER', "this part is for another officer's key");
  }
  const bound = openBound(part.about, officer.privateKey, part.wrap);
  if (!bound.ok) return bound;
  try {
    return accept(encode(handedPart, { part, wrap: sm2Encrypt(part.about.custodianKey, bound.value, random) }));
  } finally {
    bound.value.fill(0);
  }
}

/** f(j) || H(about), found right. */
function openBound(about: PartAbout, privateKey: Uint8Array, wrap: Uint8Array): Verdict<Uint8Array> {
  const opened = sm2Decrypt(privateKey, wrap);
  if (!opened.ok) return invalid('it does not open with this key');
  const bound = opened.value;
  const value = bound.length === BOUND_BYTES ? decodeScalar(bound.subarray(0, SCALAR_BYTES)) : undefined;
  const commitment = commitmentOf(about);
  const isRight =
    value !== undefined &&
    commitment !== undefined &&
    equalBytes(bound.subarray(SCALAR_BYTES), aboutHash(about)) &&
    isShareOf(commitment, about.place, value);
  if (isRight) return accept(bound);
  bound.fill(0);
  return invalid('what is in it is not what its custodian put there');
}

/**
 * What the custodian does with two parts of one backup, read by `readHanded`.
 * @param privateKey the custodian's, 32 bytes
 * @returns x, 32 bytes, which the caller erases; CUSTODY_PARTS_DIFFER, CUSTODY_PART_OTHER_CUSTODIAN, CUSTODY_PART_FALSE
 */
export function bringBack(
  parts: readonly HandedPart[],
  custodian: { readonly publicKey: PublicKey; readonly privateKey: Uint8Array },
): Verdict<Uint8Array> {
  const abouts = parts.map(({ part }) => part.about);
  const [first] = abouts;
  const places = abouts.map(({ place }) => place);
  if (first === undefined || places.length !== BACKUP_THRESHOLD || new Set(places).size !== BACKUP_THRESHOLD) {
    return reject('CUSTODY_PARTS_DIFFER', 'a share comes back from the parts of two officers');
  }
  if (abouts.some((about) => !isSameBackup(about, first))) {
    return reject('CUSTODY_PARTS_DIFFER', 'the parts are of two different backups, and do not fit together');
  }
  if (!equalBytes(first.custodianKey, custodian.publicKey)) {
    return reject('CUSTODY_PART_OTHER_CUSTODIAN', `the parts are of another custodian key, of ${first.orgId}`);
  }
  const lambda = lagrangeAtZero(places);
  let x = 0n;
  for (const [at, { part, wrap }] of parts.entries()) {
    const bound = openBound(part.about, custodian.privateKey, wrap);
    if (!bound.ok) {
      return reject('CUSTODY_PART_FALSE', `officer ${part.about.place} handed back another part than was given`);
    }
    x = (x + bytesToBigint(bound.value.subarray(0, SCALAR_BYTES)) * (lambda[at] as bigint)) % CURVE_ORDER;
    bound.value.fill(0);
  }
  assert(x !== 0n && equalBytes(encodePoint(GENERATOR.multiply(x)), first.share), 'two right parts are the share');
  return accept(encodeScalar(x));
}

/** The same but for whose part it is. S is fresh for each backup. */
function isSameBackup(about: PartAbout, first: PartAbout): boolean {
  const { officer, place } = first;
  return equalBytes(encode(partAbout, { ...about, officer, place }), encode(partAbout, first));
}

const invalid = (what: string): Verdict<never> => reject('CUSTODY_PART_INVALID', what);
