/**
 * Keys of people who exist in a benchmark only: made from a number, and fast to sign with, so that a hundred thousand
 * transactions are signed in seconds.
 *
 * DANGER: time depends on the secrets, and nonces come from a counter. Never for a key that protects anything.
 */
import { bigintToBytes, bytesToBigint, concatBytes, u32be } from '../../../common/bytes.ts';
import { CURVE_ORDER, encodeScalar, invertModOrder, modOrder, pointToRaw } from '../../../common/crypto/curve.ts';
import { hq, H } from '../../../common/crypto/hash.ts';
import { publicSum } from '../../../common/crypto/public-arithmetic.ts';
import { sm2Address, sm2Digest, type Sm2Signer } from '../../../common/crypto/sm2.ts';

const timesG = (scalar: bigint): Uint8Array => pointToRaw(publicSum(scalar, []));

let signatures = 0;

export interface BenchKey extends Sm2Signer {
  readonly privateKey: Uint8Array;
}

/** @param name what the key is for; @param index which one of them */
export function benchKey(name: string, index: number): BenchKey {
  const d = hq('bench-key', new TextEncoder().encode(name), u32be(index));
  const publicKey = timesG(d);
  let inverse: bigint | undefined;
  return {
    privateKey: encodeScalar(d),
    publicKey,
    address: sm2Address(publicKey),
    /** GB/T 32918.2 section 6.1, with k from a counter. */
    sign(message) {
      inverse ??= invertModOrder(d + 1n);
      signatures += 1;
      const e = bytesToBigint(sm2Digest(publicKey, message));
      const k = bytesToBigint(H('bench-nonce', publicKey, message, u32be(signatures))) % CURVE_ORDER;
      const r = modOrder(e + bytesToBigint(timesG(k).subarray(0, 32)));
      const s = modOrder(inverse * (k - r * d));
      return concatBytes(bigintToBytes(r, 32), bigintToBytes(s, 32));
    },
  };
}
