import { LengthPrefixedDecoder } from '@libp2p/utils';
import t from 'tap';
import type { Uint8ArrayList } from 'uint8arraylist';
import { spareExceptions } from '../../node/network/noise-frames.ts';

spareExceptions();

/** As noise has it. */
function lengthOf(data: Uint8Array | Uint8ArrayList): number {
  if (data.byteLength < 2) throw new RangeError('too short');
  return data instanceof Uint8Array ? ((data[0] as number) << 8) | (data[1] as number) : data.getUint16(0);
}

const decoder = (): LengthPrefixedDecoder =>
  new LengthPrefixedDecoder({ lengthDecoder: lengthOf, encodingLength: () => 2, maxBufferSize: 1_000 });

const framed = (lengths: readonly number[]): Uint8Array =>
  Uint8Array.from(lengths.flatMap((length, n) => [0, length, ...new Array<number>(length).fill(n + 1)]));

t.test('frames come out the same, however they were cut', (t) => {
  const lengths = [5, 1, 40, 0, 3, 200, 7];
  const bytes = framed(lengths);
  for (const size of [1, 2, 3, 7, 41, 300]) {
    const cutting = decoder();
    const found: number[][] = [];
    for (let at = 0; at < bytes.length; at += size) {
      for (const frame of cutting.decode(bytes.subarray(at, at + size))) found.push([...frame.subarray()]);
    }
    const expected = lengths
      .map((length, n) => new Array<number>(length).fill(n + 1))
      .filter(({ length }) => length > 0);
    t.same(found, expected, `pieces of ${size} bytes`);
  }
  t.end();
});

t.test('at the end of a piece no exception is made', (t) => {
  let made = 0;
  const cutting = new LengthPrefixedDecoder({
    lengthDecoder: (data) => {
      if (data.byteLength < 2) made += 1;
      return lengthOf(data);
    },
    encodingLength: () => 2,
  });
  for (let piece = 0; piece < 10; piece += 1) t.equal([...cutting.decode(framed([3]))].length, 1);
  t.equal(made, 0);
  t.equal([...cutting.decode(Uint8Array.of(0))].length, 0);
  t.equal(made, 1, 'half a length is for the package to judge');
  t.end();
});

t.test('what is too long is refused as before', (t) => {
  t.throws(() => [...decoder().decode(new Uint8Array(1_001))], /limit exceeded/u);
  t.end();
});
