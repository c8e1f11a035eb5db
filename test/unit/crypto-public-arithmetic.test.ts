/** Arithmetic with public values: by WebAssembly, and without, it is that of @noble/curves. */
import t, { type Test } from 'tap';
import { concatBytes, u32be } from '../../common/bytes.ts';
import {
  CURVE_ORDER,
  type CurvePoint,
  encodePoint,
  GENERATOR,
  INFINITY,
  modOrder,
  Point,
} from '../../common/crypto/curve.ts';
import { H } from '../../common/crypto/hash.ts';
import * as arithmetic from '../../common/crypto/public-arithmetic.ts';

type Arithmetic = typeof arithmetic;

const scalarOf = (n: number): bigint =>
  BigInt(`0x${Buffer.from(H('test-scalar', u32be(n))).toString('hex')}`) % CURVE_ORDER;

/** The module once more, in a world without WebAssembly, as under a strict content security policy. */
async function withoutWasm(run: (plain: Arithmetic) => void): Promise<void> {
  const saved = Object.getOwnPropertyDescriptor(globalThis, 'WebAssembly') as PropertyDescriptor;
  const fresh = '../../common/crypto/public-arithmetic.ts?plain';
  const plain = (await import(fresh)) as Arithmetic;
  Object.defineProperty(globalThis, 'WebAssembly', { ...saved, value: undefined });
  try {
    run(plain);
  } finally {
    Object.defineProperty(globalThis, 'WebAssembly', saved);
  }
}

function checkAll(t: Test, { publicSum, decodePublicPoint, negated }: Arithmetic): void {
  for (const count of [0, 1, 2, 7, 8, 9, 21]) {
    const logs = Array.from({ length: count }, (_, k) => scalarOf(100 * count + k));
    const terms = logs.map((log, k) => ({ scalar: scalarOf(5_000 + k), point: GENERATOR.multiply(log) }));
    const total = logs.reduce((sum, log, k) => sum + log * scalarOf(5_000 + k), 7n);
    t.ok(publicSum(7n, terms).equals(GENERATOR.multiply(modOrder(total))), `${count} terms`);
  }
  const P = GENERATOR.multiply(scalarOf(1));
  const term = (scalar: bigint, point: CurvePoint) => ({ scalar, point });
  t.ok(publicSum(0n, []).is0(), 'nothing');
  t.ok(publicSum(5n, [term(negated(5n), GENERATOR)]).is0(), 'what cancels out');
  t.ok(publicSum(0n, [term(3n, INFINITY), term(1n, P), term(0n, P)]).equals(P), 'O and 0 add nothing');
  t.equal(negated(0n), 0n);
  t.ok(decodePublicPoint(encodePoint(P))?.equals(P));
  const encoded = encodePoint(P);
  for (const [what, bytes] of [
    ['another prefix', concatBytes(Uint8Array.of(4), encoded.subarray(1))],
    ['too short', encoded.subarray(1)],
    ['too long', P.toBytes(false)],
    ['x = p', concatBytes(Uint8Array.of(2), Buffer.from(Point.Fp.ORDER.toString(16), 'hex'))],
    ['nothing', new Uint8Array(0)],
  ] as const) {
    t.equal(decodePublicPoint(bytes), undefined, what);
  }
}

t.test('by WebAssembly', (t) => {
  checkAll(t, arithmetic);
  t.end();
});

t.test('where there is none', async (t) => {
  await withoutWasm((plain) => checkAll(t, plain));
});
