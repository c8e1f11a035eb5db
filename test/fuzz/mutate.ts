/**
 * Bytes that were valid, changed: any bytes, the items of a CBOR structure, lines and tokens of a text. Every change is
 * drawn from the seed alone.
 */
import { concatBytes, utf8 } from '../../common/bytes.ts';
import type { Prng } from '../sim/prng.ts';

export type Form = 'cbor' | 'bytes' | 'text';

/** @param other a second valid input, of whatever decoder: to splice with */
export function mutate(form: Form, sample: Uint8Array, other: Uint8Array, random: Prng): Uint8Array {
  const kinds = KINDS[form];
  let bytes = sample;
  // Mostly one change, so that the rest is valid and what lies behind it is reached.
  const changes = random.chance(700) ? 1 : random.between(2, 5);
  for (let change = 0; change < changes; change += 1) bytes = random.pick(kinds)(bytes, other, random);
  return bytes;
}

type Mutation = (bytes: Uint8Array, other: Uint8Array, random: Prng) => Uint8Array;

const at = (bytes: Uint8Array, random: Prng): number => random.between(0, Math.max(0, bytes.length - 1));
const replaced = (bytes: Uint8Array, from: number, to: number, by: Uint8Array): Uint8Array =>
  concatBytes(bytes.subarray(0, from), by, bytes.subarray(to));

const flipBit: Mutation = (bytes, _other, random) => {
  const copy = bytes.slice();
  const index = at(bytes, random);
  copy[index] = (copy[index] ?? 0) ^ (1 << random.between(0, 7));
  return copy;
};

const setByte: Mutation = (bytes, _other, random) => {
  const copy = bytes.slice();
  copy[at(bytes, random)] = random.pick([0, 1, 0x17, 0x18, 0x1b, 0x5f, 0x7f, 0x80, 0x9f, 0xbf, 0xf6, 0xfb, 0xff]);
  return copy;
};

const truncate: Mutation = (bytes, _other, random) => bytes.slice(0, at(bytes, random));
const extend: Mutation = (bytes, _other, random) =>
  concatBytes(bytes, new Uint8Array(random.pick([1, 2, 31, 64, 5_000])).fill(random.between(0, 255)));

const remove: Mutation = (bytes, _other, random) => {
  const from = at(bytes, random);
  return replaced(bytes, from, Math.min(bytes.length, from + random.between(1, 40)), new Uint8Array());
};

const repeat: Mutation = (bytes, _other, random) => {
  const from = at(bytes, random);
  const part = bytes.slice(from, from + random.between(1, 60));
  return replaced(bytes, from, from, part);
};

const splice: Mutation = (bytes, other, random) =>
  concatBytes(bytes.subarray(0, at(bytes, random)), other.subarray(at(other, random)));

const noise: Mutation = (_bytes, _other, random) =>
  Uint8Array.from({ length: random.between(0, 300) }, () => random.uint32() & 0xff);

// ---------------------------------------------------------------------------------------------------------- CBOR

/** Where an item begins, where its head ends, and where it ends with all that it holds. */
interface Item {
  readonly from: number;
  readonly headTo: number;
  readonly to: number;
  readonly major: number;
}

/** Every item of a valid encoding; as far as it goes in one that no longer is. */
function itemsOf(bytes: Uint8Array): readonly Item[] {
  const items: Item[] = [];
  const read = (from: number, depth: number): number => {
    const initial = bytes[from];
    if (initial === undefined || depth > 40 || items.length > 4_000) return bytes.length;
    const [major, info] = [initial >> 5, initial & 31];
    const width = info < 24 ? 0 : info <= 27 ? 2 ** (info - 24) : 0;
    let argument = info < 24 ? info : 0;
    for (let i = 0; i < width; i += 1) argument = argument * 256 + (bytes[from + 1 + i] ?? 0);
    const headTo = from + 1 + width;
    const index = items.push({ from, headTo, to: headTo, major }) - 1;
    let to = headTo;
    if (major === 2 || major === 3) to += argument;
    if (major === 4) for (let i = 0; i < argument && to < bytes.length; i += 1) to = read(to, depth + 1);
    items[index] = { from, headTo, to: Math.min(to, bytes.length), major };
    return to;
  };
  read(0, 0);
  return items.length > 0 ? items : [{ from: 0, headTo: 0, to: 0, major: 0 }];
}

const pickItem = (bytes: Uint8Array, random: Prng): Item => random.pick(itemsOf(bytes));

const HEADS: readonly (readonly number[])[] = [
  // Lengths that no input has: 2^64 - 1, 2^53, 2^32 - 1, 2^31.
  [0x5b, 255, 255, 255, 255, 255, 255, 255, 255],
  [0x7b, 255, 255, 255, 255, 255, 255, 255, 255],
  [0x9b, 255, 255, 255, 255, 255, 255, 255, 255],
  [0x9b, 0, 32, 0, 0, 0, 0, 0, 0],
  [0x5a, 255, 255, 255, 255],
  [0x7a, 127, 255, 255, 255],
  [0x9a, 255, 255, 255, 255],
  [0xba, 255, 255, 255, 255],
  // Indefinite lengths, and a break.
  [0x5f],
  [0x7f],
  [0x9f],
  [0xbf],
  [0xff],
  // Reserved heads, tags, floats, undefined.
  [0x1c],
  [0xc2],
  [0xd8, 42],
  [0xf9, 0x7c, 0],
  [0xfb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0],
  [0xfb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0],
  [0xf7],
  [0xf6],
  [0xa0],
  [0x80],
];
/** Numbers at limits, the shortest and longer forms. */
const NUMBERS: readonly (readonly number[])[] = [
  [0x00],
  [0x17],
  [0x18, 0x17],
  [0x18, 0x18],
  [0x18, 0x1e],
  [0x18, 0x1f],
  [0x18, 0x20],
  [0x19, 0, 0],
  [0x19, 255, 255],
  [0x1a, 127, 255, 255, 255],
  [0x1a, 128, 0, 0, 0],
  [0x1a, 255, 255, 255, 255],
  [0x1b, 0, 0, 0, 1, 0, 0, 0, 0],
  [0x1b, 0, 31, 255, 255, 255, 255, 255, 255],
  [0x1b, 0, 32, 0, 0, 0, 0, 0, 0],
  [0x1b, 0, 32, 0, 0, 0, 0, 0, 1],
  [0x1b, 255, 255, 255, 255, 255, 255, 255, 255],
  [0x20],
  [0x3b, 255, 255, 255, 255, 255, 255, 255, 255],
];

const swapHead: Mutation = (bytes, _other, random) => {
  const { from, headTo } = pickItem(bytes, random);
  return replaced(bytes, from, headTo, Uint8Array.from(random.pick(HEADS)));
};

const number: Mutation = (bytes, _other, random) => {
  const numbers = itemsOf(bytes).filter(({ major }) => major === 0);
  const { from, to } = numbers.length > 0 ? random.pick(numbers) : pickItem(bytes, random);
  return replaced(bytes, from, to, Uint8Array.from(random.pick(NUMBERS)));
};

/** The same head in a longer form than it needs. */
const longerHead: Mutation = (bytes, _other, random) => {
  const { from, headTo, major } = pickItem(bytes, random);
  const info = (bytes[from] ?? 0) & 31;
  if (info >= 24) return flipBit(bytes, bytes, random);
  const width = random.pick([1, 2, 4, 8]);
  const longer = new Uint8Array(1 + width);
  longer[0] = (major << 5) | (24 + Math.log2(width));
  longer[width] = info;
  return replaced(bytes, from, headTo, longer);
};

/** One more or one less than the head says. */
const offByOne: Mutation = (bytes, _other, random) => {
  const copy = bytes.slice();
  const { headTo } = pickItem(bytes, random);
  copy[headTo - 1] = (copy[headTo - 1] ?? 0) + random.pick([1, 255]);
  return copy;
};

const dropItem: Mutation = (bytes, _other, random) => {
  const { from, to } = pickItem(bytes, random);
  return replaced(bytes, from, to, new Uint8Array());
};

const doubleItem: Mutation = (bytes, _other, random) => {
  const { from, to } = pickItem(bytes, random);
  return replaced(bytes, to, to, bytes.slice(from, to));
};

const swapItems: Mutation = (bytes, _other, random) => {
  const items = itemsOf(bytes);
  const [a, b] = [random.pick(items), random.pick(items)].sort((x, y) => x.from - y.from) as [Item, Item];
  if (a.to > b.from) return flipBit(bytes, bytes, random);
  return concatBytes(
    bytes.subarray(0, a.from),
    bytes.subarray(b.from, b.to),
    bytes.subarray(a.to, b.from),
    bytes.subarray(a.from, a.to),
    bytes.subarray(b.to),
  );
};

const graft: Mutation = (bytes, other, random) => {
  const [into, from] = [pickItem(bytes, random), pickItem(other, random)];
  return replaced(bytes, into.from, into.to, other.slice(from.from, from.to));
};

/** Arrays in arrays, deep or wide. */
const bomb: Mutation = (bytes, _other, random) => {
  const { from, to } = pickItem(bytes, random);
  const size = random.pick([33, 1_000, 20_000]);
  const deep = new Uint8Array(size).fill(random.pick([0x81, 0x82, 0x9f, 0xc0]));
  const wide = concatBytes(Uint8Array.of(0x99, size >> 8, size & 255), new Uint8Array(size).fill(0x80));
  return replaced(bytes, from, to, random.chance(500) ? deep : wide);
};

// ---------------------------------------------------------------------------------------------------------- text

const TOKENS = [
  '{',
  '}',
  '[',
  ']',
  '"',
  "'",
  ':',
  ',',
  '\n',
  '\t',
  '\0',
  '\\u0000',
  '\\ud800',
  '\ufeff',
  '\u202e',
  'null',
  'true',
  '-0',
  '1e999',
  '9007199254740993',
  '0.1',
  '0x',
  '__proto__',
  'constructor',
  '"__proto__":{"polluted":true},',
  '- ',
  '&a ',
  '*a',
  '<<: *a\n',
  '!!binary ',
  '!!js/function ',
  '? ',
  '%YAML 1.1\n---\n',
  '---\n',
  '...\n',
  '|\n',
  '>\n',
  '#',
  '~',
];

const token: Mutation = (bytes, _other, random) => {
  const from = at(bytes, random);
  const to = random.chance(500) ? from : from + random.between(1, 8);
  return replaced(bytes, from, Math.min(to, bytes.length), utf8(random.pick(TOKENS)));
};

const linesOf = (bytes: Uint8Array): string[] => new TextDecoder().decode(bytes).split('\n');

const dropLine: Mutation = (bytes, _other, random) => {
  const lines = linesOf(bytes);
  lines.splice(random.between(0, lines.length - 1), 1);
  return utf8(lines.join('\n'));
};

/** A key twice, or a list item twice. */
const doubleLine: Mutation = (bytes, _other, random) => {
  const lines = linesOf(bytes);
  const index = random.between(0, lines.length - 1);
  lines.splice(index, 0, lines[index] ?? '');
  return utf8(lines.join('\n'));
};

const indent: Mutation = (bytes, _other, random) => {
  const lines = linesOf(bytes);
  const index = random.between(0, lines.length - 1);
  lines[index] = random.chance(500) ? `  ${lines[index]}` : (lines[index] ?? '').trimStart();
  return utf8(lines.join('\n'));
};

const deepText: Mutation = (bytes, _other, random) => {
  const from = at(bytes, random);
  const depth = random.pick([5, 70, 3_000]);
  const open = random.pick(['[', '{"a":', '- ', '? ', '{a: ']);
  return replaced(bytes, from, from, utf8(open.repeat(depth)));
};

/** Aliases of aliases: a billion laughs. */
const aliases: Mutation = (bytes) => {
  const levels = Array.from({ length: 12 }, (_, level) => {
    const before = level === 0 ? 'lol' : `*l${level - 1}`;
    return `l${level}: &l${level} [${Array.from({ length: 9 }, () => before).join(', ')}]`;
  });
  return concatBytes(utf8(`${levels.join('\n')}\n`), bytes);
};

const longText: Mutation = (bytes, _other, random) => {
  const from = at(bytes, random);
  return replaced(bytes, from, from, utf8(random.pick(['9', 'a', ' ', '\\', 'é']).repeat(random.pick([300, 30_000]))));
};

const PLAIN: readonly Mutation[] = [flipBit, flipBit, setByte, truncate, extend, remove, repeat, splice, noise];
const KINDS: Readonly<Record<Form, readonly Mutation[]>> = {
  bytes: PLAIN,
  cbor: [
    ...PLAIN,
    ...[swapHead, swapHead, number, number, longerHead, offByOne, dropItem, doubleItem, swapItems, graft, bomb],
  ],
  text: [flipBit, truncate, remove, repeat, splice, token, token, token, dropLine, doubleLine, indent, deepText].concat(
    [aliases, longText],
  ),
};
