/**
 * Valid values of any codec, without a line for each: the codec itself asks for what it wants to read, and a reader
 * that makes things up answers. So a new field, structure or codec is fuzzed from its first day.
 */
import type { CborReader, Words } from '../../common/cbor-reader.ts';
import { type Codec, encode } from '../../common/codec.ts';
import type { Prng } from '../sim/prng.ts';

/** Texts that patterns of the protocol ask for: organisations, codes, peer ids, CIDs, names. */
const TEXTS = [
  'hospital-a',
  'a',
  'hospital-b',
  'ACCEPTED',
  'POOL_FULL',
  'access.request',
  '12D3KooWQYV9dGMFoRzNStwpXztXaBUjtPqi6aU76ZgUriHhKust',
  'http://127.0.0.1:8545',
  '/dns4/b.example/tcp/7600/p2p/12D3KooWQYV9dGMFoRzNStwpXztXaBUjtPqi6aU76ZgUriHhKust',
  'Krankenhaus Süd',
  '医院',
  'x'.repeat(32),
  'x'.repeat(100),
];
/** A recursive structure ends somewhere: deeper than this, the attempt is given up. */
const MAX_DEPTH = 4;
/** Attempts for one value: most succeed at once; a text without a match, or too deep a tree, is tried again. */
const MAX_ATTEMPTS = 200;
const LIMITS = [0, 1, 23, 24, 255, 256, 65_535, 65_536, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1];

class GivenUp extends Error {}

/** Answers each question of a codec with something that it accepts. */
class Inventor {
  readonly #random: Prng;
  #depth = 0;

  constructor(random: Prng) {
    this.#random = random;
  }

  uint(expected: string): number {
    const most = Number(/(\d+)$/.exec(expected)?.[1] ?? Number.MAX_SAFE_INTEGER);
    const fitting = [most, ...LIMITS].filter((limit) => limit <= most);
    return this.#random.chance(500) ? this.#random.pick(fitting) : this.#random.between(0, Math.min(most, 9));
  }

  bytes(min: number, max: number): Uint8Array {
    const length = this.#random.chance(50) ? Math.min(max, 4_096) : this.#random.between(min, Math.min(max, min + 40));
    const fill = this.#random.uint32();
    return Uint8Array.from({ length: Math.max(min, length) }, (_, at) => (fill >>> ((at % 4) * 8)) + at);
  }

  text(maxBytes: number, expected: string): string {
    const most = Number(/to (\d+) characters/.exec(expected)?.[1] ?? maxBytes);
    const pattern = new RegExp(/ like \/(.*)\/[a-z]*$/.exec(expected)?.[1] ?? '');
    const fitting = TEXTS.filter((text) => text.length <= most && pattern.test(text));
    if (fitting.length === 0) throw new Error(`give generate.ts a text that fits: ${expected}`);
    return this.#random.pick(fitting);
  }

  word({ texts }: Words): number {
    return this.#random.between(0, texts.length - 1);
  }

  array(min: number, max: number): number {
    return this.#random.between(min, Math.min(max, min + 2));
  }

  bool(): boolean {
    return this.#random.chance(500);
  }

  takeNull(): boolean {
    return this.#random.chance(300);
  }

  nested<T>(read: () => T): T {
    if (this.#depth >= MAX_DEPTH) throw new GivenUp();
    this.#depth += 1;
    const value = read();
    this.#depth -= 1;
    return value;
  }
}

/** A value that the codec accepts; null where chance finds none. */
export function invent<T>(codec: Codec<T>, random: Prng): T | null {
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt += 1) {
    try {
      return codec.read(new Inventor(random) as unknown as CborReader);
    } catch (error) {
      if (error instanceof GivenUp || (error as Error).constructor.name === 'Malformed') continue;
      throw error;
    }
  }
  return null;
}

/** As `invent`, encoded. */
export function inventBytes<T>(codec: Codec<T>, random: Prng): Uint8Array {
  const value = invent(codec, random);
  if (value === null) throw new Error('no value of this codec was found');
  return encode(codec, value);
}
