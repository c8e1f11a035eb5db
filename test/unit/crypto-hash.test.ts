import { createHash, createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import smCrypto from 'sm-crypto';
import t from 'tap';
import * as bytes from '../../common/bytes.ts';
import { H, SM2_ORDER, hashEach, hq, kdf, kdfTlv, tlv } from '../../common/crypto/hash.ts';
import { blocksOf, createSm3Lanes, MAX_LANES_BYTES, sharedSm3Lanes } from '../../common/crypto/sm3-lanes/lanes.ts';
import { Sm3, hmacSm3, sm3 } from '../../common/crypto/sm3.ts';
import { InvariantError } from '../../common/errors.ts';

const { bytesToHex, concatBytes, hexToBytes, u32be, utf8 } = bytes;

const vectors = JSON.parse(readFileSync(new URL('../vectors/crypto/hash.json', import.meta.url), 'utf8')) as {
  gbar: string;
  hq: { domain: string; field: string; out: string };
  keyCheck: { k: string; label: string; out: string };
  sm3: { message: string; digest: string }[];
  hmac: { key: string; message: string; tag: string }[];
};

/** Bytes that look random and are the same in every run. */
function sample(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (Math.imul(index + 1, 2654435761) + Math.imul(seed, 40503)) >>> 13);
}

t.test('SM3 and HMAC-SM3', async (t) => {
  t.test('standard vectors', async (t) => {
    for (const { message, digest } of vectors.sm3) t.equal(bytesToHex(sm3(hexToBytes(message))), digest);
    for (const { key, message, tag } of vectors.hmac) {
      t.equal(bytesToHex(hmacSm3(hexToBytes(key), hexToBytes(message))), tag);
    }
    t.ok(vectors.hmac.length >= 5);
  });

  t.test('agrees with OpenSSL and sm-crypto at every length around the block', async (t) => {
    let failed = 0;
    for (let length = 0; length <= 300; length++) {
      const data = sample(length, length);
      const digest = bytesToHex(sm3(data));
      if (digest !== createHash('sm3').update(data).digest('hex')) failed++;
      if (length < 140 && digest !== smCrypto.sm3(Array.from(data))) failed++;
      const key = sample(length % 150, 7);
      if (bytesToHex(hmacSm3(key, data)) !== createHmac('sm3', key).update(data).digest('hex')) failed++;
    }
    t.equal(failed, 0);
  });

  t.test('streaming in any pieces gives the same digest', async (t) => {
    const data = sample(1000, 3);
    const whole = bytesToHex(sm3(data));
    for (const step of [1, 3, 63, 64, 65, 128, 999]) {
      const hash = new Sm3();
      for (let at = 0; at < data.length; at += step) hash.update(data.subarray(at, at + step));
      t.equal(bytesToHex(hash.digest()), whole);
    }
    const withNumbers = new Sm3().update(data.subarray(0, 62)).updateU32(0xfffe_0102).update(data).digest();
    t.same(withNumbers, sm3(concatBytes(data.subarray(0, 62), u32be(0xfffe_0102), data)));
    const branch = new Sm3().update(data.subarray(0, 100));
    const copy = new Sm3().update(Uint8Array.of(1)).copyFrom(branch);
    t.same(copy.update(data.subarray(100)).digest(), branch.update(data.subarray(100)).digest());
  });

  t.test('misuse stops', async (t) => {
    const done = new Sm3();
    done.digest();
    t.throws(() => done.update(Uint8Array.of(1)), InvariantError);
    t.throws(() => done.digest(), InvariantError);
    t.throws(() => new Sm3().updateU32(-1), InvariantError);
    t.throws(() => new Sm3().digest(new Uint8Array(31)), InvariantError);
    t.same(done.reset().digest(), sm3(new Uint8Array(0)), 'reset makes it new');
  });
});

t.test('SM3 in lanes', async (t) => {
  const made = createSm3Lanes();
  t.ok(made !== null, 'this machine has them');
  const lanes = made!;

  t.test('any number of messages of any length', async (t) => {
    for (const length of [0, 1, 54, 55, 56, 63, 64, 65, 118, 119, 120, 300, 4_000]) {
      for (const count of [1, 2, 3, 4, 5, 7, 9]) {
        lanes.clear();
        const messages = Array.from({ length: count }, (_, index) => sample(length, index));
        const jobs = messages.flatMap((message) => {
          const at = lanes.take(64 * blocksOf(length));
          lanes.bytes.set(message, at);
          lanes.pad(at, length);
          return [at, lanes.take(32)];
        });
        lanes.hash(jobs, blocksOf(length));
        const digests = messages.map((_, index) => {
          const at = jobs[2 * index + 1]!;
          return bytesToHex(lanes.bytes.subarray(at, at + 32));
        });
        t.same(
          digests,
          messages.map((message) => bytesToHex(sm3(message))),
          `${count} of ${length} bytes`,
        );
      }
    }
  });

  t.test('more than are given to the module at a time, and more memory than it had', async (t) => {
    lanes.clear();
    const jobs = Array.from({ length: 10_000 }, (_, index) => {
      const at = lanes.take(64);
      lanes.bytes.set(u32be(index), at);
      lanes.pad(at, 4);
      return [at, lanes.take(32)];
    }).flat();
    lanes.hash(jobs, 1);
    const wrong = Array.from({ length: 10_000 }, (_, index) => index).filter((index) => {
      const at = jobs[2 * index + 1]!;
      return !bytes.equalBytes(lanes.bytes.subarray(at, at + 32), sm3(u32be(index)));
    });
    t.same(wrong, []);
  });

  t.test('a machine without them is told so', async (t) => {
    const known = Object.getOwnPropertyDescriptor(globalThis, 'WebAssembly')!;
    Object.defineProperty(globalThis, 'WebAssembly', { ...known, value: undefined });
    t.teardown(() => Object.defineProperty(globalThis, 'WebAssembly', known));
    t.equal(createSm3Lanes(), null);
  });

  t.test('memory is bounded', async (t) => {
    lanes.clear();
    t.not(lanes.take(MAX_LANES_BYTES), 0);
    t.equal(lanes.take(1), 0);
    lanes.clear();
    t.not(lanes.take(1), 0);
  });
});

t.test('TLV, H, KDF, Hq', async (t) => {
  t.test('known answers', async (t) => {
    t.equal(hq(vectors.hq.domain, utf8(vectors.hq.field)), BigInt(`0x${vectors.hq.out}`));
    // The x coordinate of the second generator, whose counter 0 succeeds.
    const p = 0xfffffffeffffffffffffffffffffffffffffffff00000000ffffffffffffffffn;
    const x = bytes.bytesToBigint(kdfTlv(48, 'h2c/tdh2-gbar', utf8('sm2p256v1'), u32be(0))) % p;
    t.equal(bytesToHex(bytes.bigintToBytes(x, 32)), vectors.gbar.slice(2));
    // The label is TLV("label", chainId, recordId, u32 version, policyRef, ownerId, dataDigest, keyCheck).
    const label = hexToBytes(vectors.keyCheck.label);
    const fields: Uint8Array[] = [];
    for (let at = 0; at < label.length;) {
      const length = bytes.readU32be(label, at)!;
      fields.push(label.subarray(at + 4, at + 4 + length));
      at += 4 + length;
    }
    t.same(tlv('label', ...fields.slice(1)), label);
    const keyCheck = H('keycheck', fields[2]!, fields[3]!, hexToBytes(vectors.keyCheck.k)).subarray(0, 16);
    t.equal(bytesToHex(keyCheck), vectors.keyCheck.out);
  });

  t.test('many values have the hashes that they have one by one', async (t) => {
    for (const count of [...Array.from({ length: 71 }, (_, index) => index), 300, 700]) {
      for (const domain of [
        'signedtx',
        'd',
        'domain of more than one block of sixty-four bytes, as none of the protocol is',
      ]) {
        const values = Array.from({ length: count }, (_, index) => sample((index * 37) % 500, index));
        const hashes = hashEach(domain, values).map(bytesToHex);
        const expected = values.map((value) => bytesToHex(H(domain, value)));
        if (hashes.join() !== expected.join()) t.same(hashes, expected, `${count} in ${domain}`);
      }
    }
    const kept = hashEach('d', [1, 2, 3, 4, 5].map(u32be));
    sharedSm3Lanes()!.bytes.fill(0xff, sharedSm3Lanes()!.take(4_096));
    t.same(
      kept,
      [1, 2, 3, 4, 5].map((value) => H('d', u32be(value))),
      'hashes outlast the memory of the lanes',
    );
    const large = new Uint8Array(MAX_LANES_BYTES / 4);
    t.same(
      hashEach('d', [large, large, large, large]),
      new Array(4).fill(H('d', large)),
      'more than there is room for',
    );
  });

  t.test('H and Hq hash the encoding that tlv builds', async (t) => {
    const fields = [sample(0, 1), sample(33, 2), sample(1000, 3)];
    t.same(H('d', ...fields), sm3(tlv('d', ...fields)));
    t.same(kdfTlv(100, 'd', ...fields), kdf(tlv('d', ...fields), 100));
    t.equal(hq('d', ...fields), bytes.bytesToBigint(kdf(tlv('d', ...fields), 48)) % SM2_ORDER);
    const z = sample(40, 9);
    t.same(
      kdf(z, 70),
      concatBytes(sm3(concatBytes(z, u32be(1))), sm3(concatBytes(z, u32be(2))), sm3(concatBytes(z, u32be(3)))).subarray(
        0,
        70,
      ),
    );
    t.equal(kdf(z, 0).length, 0);
  });

  t.test('is injective where concatenation is not', async (t) => {
    const a = utf8('a');
    const b = utf8('b');
    const ab = utf8('ab');
    const all = [H('d', ab), H('d', a, b), H('d', ab, new Uint8Array(0)), H('d', new Uint8Array(0), ab), H('da', b)];
    t.equal(new Set(all.map(bytesToHex)).size, all.length);
  });
});

t.test('bytes', async (t) => {
  t.test('hex is strict and has one form', async (t) => {
    const data = sample(256, 5);
    t.same(bytes.parseHex(bytesToHex(data)), data);
    t.same(bytes.parseHex0x(bytes.bytesToHex0x(data), 256), data);
    for (const bad of ['0', 'AB', 'zz', '0x', ' ab', 'ab ', '0xab']) t.equal(bytes.parseHex(bad), undefined, bad);
    for (const bad of ['', 'ab', '0XAB', '0xAB', '0xa', '0x0g']) t.equal(bytes.parseHex0x(bad), undefined, bad);
    t.equal(bytes.parseHex('abcd', 1), undefined);
    t.same(bytes.parseHex0x('0x'), new Uint8Array(0));
    t.throws(() => hexToBytes('XY'), InvariantError);
  });

  t.test('integers', async (t) => {
    t.equal(bytesToHex(bytes.u16be(0xfffe)), 'fffe');
    t.equal(bytesToHex(u32be(0xfffefdfc)), 'fffefdfc');
    t.equal(bytesToHex(bytes.u64be(Number.MAX_SAFE_INTEGER)), '001fffffffffffff');
    for (const value of [0, 1, 0xffff_ffff, 0x1_0000_0000, Number.MAX_SAFE_INTEGER]) {
      t.equal(bytes.readU64be(bytes.u64be(value), 0), value);
    }
    t.equal(bytes.readU64be(hexToBytes('0020000000000000'), 0), undefined, 'beyond the safe integers');
    t.equal(bytes.readU32be(new Uint8Array(5), 2), undefined);
    t.equal(bytes.readU16be(hexToBytes('00ff01'), 1), 0xff01);
    t.throws(() => bytes.u64be(2 ** 53), InvariantError);
    t.throws(() => bytes.u16be(0x10000), InvariantError);
    t.throws(() => u32be(1.5), InvariantError);
    t.equal(bytes.bytesToBigint(hexToBytes('0100')), 256n);
    t.throws(() => bytes.bigintToBytes(256n, 1), InvariantError);
    t.throws(() => bytes.bigintToBytes(-1n, 4), InvariantError);
  });

  t.test('order and equality', async (t) => {
    const sorted = ['', '00', '0000', '01', '7f', '80', 'ff', 'ff00'].map((text) => hexToBytes(text));
    for (let left = 0; left < sorted.length; left++) {
      for (let right = 0; right < sorted.length; right++) {
        t.equal(Math.sign(bytes.compareBytes(sorted[left]!, sorted[right]!)), Math.sign(left - right));
        t.equal(bytes.equalBytes(sorted[left]!, sorted[right]!), left === right);
        t.equal(bytes.equalBytesConstantTime(sorted[left]!, sorted[right]!), left === right);
      }
    }
  });

  t.test('UTF-8 is strict', async (t) => {
    t.equal(bytes.parseUtf8(utf8('病历 é')), '病历 é');
    t.equal(bytes.parseUtf8(hexToBytes('ff')), undefined);
    t.equal(bytes.parseUtf8(hexToBytes('efbbbf61')), '﻿a', 'a byte order mark is kept');
    t.throws(() => utf8('\ud800'), InvariantError);
  });
});
