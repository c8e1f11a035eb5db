/**
 * Domain-separated hashes: every hash of the protocol that is not a plain digest of a file goes through here.
 *
 *   TLV(d, f1..fk) = u32(|"EMRT1/"+d|) || "EMRT1/"+d || u32(|f1|) || f1 || ...      (lengths big-endian)
 *   H(d, ...)      = SM3(TLV(d, ...))
 *   KDF(Z, len)    = first len bytes of SM3(Z || u32 1) || SM3(Z || u32 2) || ...   (GB/T 32918.4 section 5.4.3)
 *   Hq(d, ...)     = integer(KDF(TLV(d, ...), 48)) mod n
 *
 * TLV is injective and begins with the domain, so that two uses never hash the same bytes. Hq takes 48 bytes since the
 * group order is about 2^256 - 2^224: reducing 32 bytes would bias nonces by 2^-32.
 */

import { bytesToBigint, utf8, writeU32be } from '../bytes.ts';
import { assert } from '../errors.ts';
import { SM3_BYTES, Sm3 } from './sm3.ts';
import { LaneMessages, sharedSm3Lanes } from './sm3-lanes/lanes.ts';

/** Order of the group of sm2p256v1 (GB/T 32918.5). */
export const SM2_ORDER = 0xfffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d54123n;

const DOMAIN_PREFIX = 'EMRT1/';
const WIDE_BYTES = 48;
const EMPTY = new Uint8Array(0);

// Domains are literals in the source, some dozens of them: the bound only stops a caller who builds them from input.
const DOMAIN_CACHE_LIMIT = 512;
const domainBytes = new Map<string, Uint8Array>();

function encodeDomain(domain: string): Uint8Array {
  const known = domainBytes.get(domain);
  if (known !== undefined) return known;
  const encoded = utf8(DOMAIN_PREFIX + domain);
  if (domainBytes.size < DOMAIN_CACHE_LIMIT) domainBytes.set(domain, encoded);
  return encoded;
}

// Reused by all calls: everything here is synchronous and returns before anyone else can hash.
const absorbing = new Sm3();
const squeezing = new Sm3();

function absorbTlv(domain: string, fields: readonly Uint8Array[]): Sm3 {
  const encoded = encodeDomain(domain);
  absorbing.reset().updateU32(encoded.length).update(encoded);
  for (let index = 0; index < fields.length; index++) {
    const field = fields[index] as Uint8Array;
    absorbing.updateU32(field.length).update(field);
  }
  return absorbing;
}

function squeeze(absorbed: Sm3, lengthBytes: number): Uint8Array {
  assert(Number.isSafeInteger(lengthBytes) && lengthBytes >= 0 && lengthBytes <= 0xffff_ffff, 'kdf: bad length');
  const blocks = Math.ceil(lengthBytes / SM3_BYTES);
  const output = new Uint8Array(blocks * SM3_BYTES);
  for (let counter = 1; counter <= blocks; counter++) {
    squeezing
      .copyFrom(absorbed)
      .updateU32(counter)
      .digest(output, (counter - 1) * SM3_BYTES);
  }
  return output.subarray(0, lengthBytes);
}

/** The injective encoding itself, where its bytes are needed (as a label, or inside another hash). */
export function tlv(domain: string, ...fields: readonly Uint8Array[]): Uint8Array {
  const encoded = encodeDomain(domain);
  let length = 4 + encoded.length;
  for (const field of fields) length += 4 + field.length;
  const output = new Uint8Array(length);
  let offset = 0;
  const put = (field: Uint8Array): void => {
    writeU32be(output, offset, field.length);
    output.set(field, offset + 4);
    offset += 4 + field.length;
  };
  put(encoded);
  for (const field of fields) put(field);
  return output;
}

/** SM3 of TLV(domain, fields), 32 bytes. Never builds the encoding: it is hashed as it is read. */
export function H(domain: string, ...fields: readonly Uint8Array[]): Uint8Array {
  return absorbTlv(domain, fields).digest();
}

/** From so many values on, `hashEach` hashes them in lanes. */
const LANES_FROM_VALUES = 4;

/** `H(domain, value)` of each of the values, in their order, 32 bytes each: many of them together where there are lanes. */
export function hashEach(domain: string, values: readonly Uint8Array[]): Uint8Array[] {
  const inLanes = values.length < LANES_FROM_VALUES ? null : hashInLanes(domain, values);
  return inLanes ?? values.map((value) => H(domain, value));
}

/** @returns null when there are no lanes, or no room in them for all of it */
function hashInLanes(domain: string, values: readonly Uint8Array[]): Uint8Array[] | null {
  const lanes = sharedSm3Lanes();
  if (lanes === null) return null;
  const digestsAt = lanes.take(values.length * SM3_BYTES);
  if (digestsAt === 0) return null;
  // TLV up to the length of the value, which is its last 4 bytes.
  const head = tlv(domain, EMPTY);
  const messages = new LaneMessages(lanes);
  for (let index = 0; index < values.length; index++) {
    const value = values[index] as Uint8Array;
    writeU32be(head, head.length - 4, value.length);
    if (!messages.add(head, value, digestsAt + index * SM3_BYTES)) return null;
  }
  messages.hash();
  return values.map((_, index) => {
    const at = digestsAt + index * SM3_BYTES;
    return lanes.bytes.slice(at, at + SM3_BYTES);
  });
}

/** Key derivation function of GB/T 32918.4 over SM3. `lengthBytes` of output, at most 2^32 - 1. */
export function kdf(Z: Uint8Array, lengthBytes: number): Uint8Array {
  return squeeze(absorbing.reset().update(Z), lengthBytes);
}

/** KDF(TLV(domain, fields), lengthBytes), without building the encoding. */
export function kdfTlv(lengthBytes: number, domain: string, ...fields: readonly Uint8Array[]): Uint8Array {
  return squeeze(absorbTlv(domain, fields), lengthBytes);
}

/** A scalar in 0..n-1, its bias below 2^-128: for challenges, nonces and derived keys. */
export function hq(domain: string, ...fields: readonly Uint8Array[]): bigint {
  return bytesToBigint(squeeze(absorbTlv(domain, fields), WIDE_BYTES)) % SM2_ORDER;
}
