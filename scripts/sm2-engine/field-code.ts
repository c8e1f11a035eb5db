/**
 * Writes `assembly/field.generated.ts`: multiplication in the field of sm2p256v1, unrolled, since AssemblyScript neither
 * unrolls loops nor returns several values. What each function computes is a line of FUNCTIONS below; how, is
 * `multiplication`. The representation is described in common/crypto/sm2-engine/README.md:
 *
 *   value = sum of limb[i] * 2^(29 i), i = 0..8, limbs signed; Montgomery form with R = 2^261.
 *
 * Since p = 2^256 - 2^224 - 2^96 + 2^64 - 1 is -1 modulo 2^29, the Montgomery factor of a limb is the limb's own low bits,
 * and adding m * p is four shifts.
 *
 * DANGER: sums of limbs are not carried before they are multiplied. A column of products must stay below 2^63; every
 * operand says how large it may be (in units of 2^28), and `multiplication` refuses to write a function that could overflow.
 */

const LIMBS = 9;
const BITS = 29;
const LIMB_BYTES = 8;

/** Limbs as they leave a multiplication lie in [-2^28, 2^28): size 1. A weak reduction adds a little to limb 7. */
const CARRIED = 1;
const WEAK = 1.1;

/**
 * 9 products of limbs of sizes a and b are at most 9 a b 2^56; below 2^63 if a b <= 14, with 2 * 2^56 to spare for carries
 * and the Montgomery terms.
 */
const LARGEST_COLUMN = 14;

/** One factor of a product. */
interface Operand {
  /** Stem of the names of its nine locals. */
  readonly name: string;
  /** Bound of its limbs, in units of 2^28. */
  readonly size: number;
  readonly limb: (index: number) => string;
}

/** `factor` * left * right, or `factor` * left^2 when `right` is left out. */
interface Term {
  readonly factor: 1 | -1 | -8;
  readonly left: string;
  readonly right?: string;
}

/** `factor` times the element at a pointer, added after the Montgomery reduction. */
interface Addend {
  readonly factor: -1 | -2 | -8;
  readonly pointer: string;
}

interface FieldFunction {
  readonly name: string;
  readonly says: string;
  /** Pointers besides `out`; `mask` is an i64. */
  readonly parameters: readonly string[];
  readonly operands: readonly Operand[];
  readonly terms: readonly Term[];
  readonly addends?: readonly Addend[];
  /** Subtract the multiple of p that brings the value near [-p/2, p/2]. */
  readonly weak?: boolean;
}

const at = (pointer: string, index: number): string => `load<i64>(${pointer}, ${index * LIMB_BYTES})`;
/** Tables hold limbs in 32 bits. Not load<i32>, which takes the type around it. */
const inTable = (pointer: string, index: number): string => `i64.load32_s(${pointer}, ${index * 4})`;

const plain = (name: string, size = CARRIED): Operand => ({ name, size, limb: (i) => at(name, i) });

const FUNCTIONS: readonly FieldFunction[] = [
  {
    name: 'multiply',
    says: 'a * b. Limbs of a up to size 2, of b up to size 5.',
    parameters: ['a', 'b'],
    operands: [plain('a', 2), plain('b', 5)],
    terms: [{ factor: 1, left: 'a', right: 'b' }],
  },
  {
    name: 'square',
    says: 'a^2. Limbs up to size 3.',
    parameters: ['a'],
    operands: [plain('a', 3)],
    terms: [{ factor: 1, left: 'a' }],
  },
  {
    name: 'multiplySubtract',
    says: 'a * b - c, where a is negated if mask is -1 and not if it is 0. Limbs of a up to size 3.',
    parameters: ['a', 'mask', 'b', 'c'],
    operands: [{ name: 'a', size: 3, limb: (i) => `(${at('a', i)} ^ mask) - mask` }, plain('b', WEAK)],
    terms: [{ factor: 1, left: 'a', right: 'b' }],
    addends: [{ factor: -1, pointer: 'c' }],
  },
  {
    name: 'multiplyTable',
    says: 'a * b, where a is an element of a table',
    parameters: ['a', 'b'],
    operands: [{ name: 'a', size: CARRIED, limb: (i) => inTable('a', i) }, plain('b')],
    terms: [{ factor: 1, left: 'a', right: 'b' }],
  },
  {
    name: 'multiplyTableSubtract',
    says: 'a * b - c, where a is an element of a table, negated if mask is -1 and not if it is 0',
    parameters: ['a', 'mask', 'b', 'c'],
    operands: [{ name: 'a', size: CARRIED, limb: (i) => `(${inTable('a', i)} ^ mask) - mask` }, plain('b')],
    terms: [{ factor: 1, left: 'a', right: 'b' }],
    addends: [{ factor: -1, pointer: 'c' }],
  },
  {
    name: 'doubleAlpha',
    says: '3 (x - d) (x + d): the slope of a doubling, times 2 y, as a = -3',
    parameters: ['x', 'd'],
    operands: [
      { name: 'u', size: 3 * (WEAK + CARRIED), limb: (i) => `3 * (${at('x', i)} - ${at('d', i)})` },
      { name: 'v', size: WEAK + CARRIED, limb: (i) => `${at('x', i)} + ${at('d', i)}` },
    ],
    terms: [{ factor: 1, left: 'u', right: 'v' }],
  },
  {
    name: 'doubleX',
    says: 'a^2 - 8 b, weakly reduced',
    parameters: ['a', 'b'],
    operands: [plain('a')],
    terms: [{ factor: 1, left: 'a' }],
    addends: [{ factor: -8, pointer: 'b' }],
    weak: true,
  },
  {
    name: 'doubleY',
    says: 'a (4 b - x) - 8 g^2',
    parameters: ['a', 'b', 'x', 'g'],
    operands: [
      plain('a'),
      { name: 'w', size: 4 * CARRIED + WEAK, limb: (i) => `4 * ${at('b', i)} - ${at('x', i)}` },
      plain('g'),
    ],
    terms: [
      { factor: 1, left: 'a', right: 'w' },
      { factor: -8, left: 'g' },
    ],
  },
  {
    name: 'doubleZ',
    says: '2 y z',
    parameters: ['y', 'z'],
    operands: [{ name: 'y', size: 2 * CARRIED, limb: (i) => `2 * ${at('y', i)}` }, plain('z')],
    terms: [{ factor: 1, left: 'y', right: 'z' }],
  },
  {
    name: 'addX',
    says: 'r^2 - h - 2 v, weakly reduced',
    parameters: ['r', 'h', 'v'],
    operands: [plain('r')],
    terms: [{ factor: 1, left: 'r' }],
    addends: [
      { factor: -1, pointer: 'h' },
      { factor: -2, pointer: 'v' },
    ],
    weak: true,
  },
  {
    name: 'addY',
    says: 'r (v - x) - y h',
    parameters: ['r', 'v', 'x', 'y', 'h'],
    operands: [
      plain('r'),
      { name: 'w', size: CARRIED + WEAK, limb: (i) => `${at('v', i)} - ${at('x', i)}` },
      plain('y'),
      plain('h'),
    ],
    terms: [
      { factor: 1, left: 'r', right: 'w' },
      { factor: -1, left: 'y', right: 'h' },
    ],
  },
];

const scaled = (text: string, factor: number): string => (factor === 1 ? text : `${text} << ${Math.log2(factor)}`);

/**
 * One row of a term: its left limb `row` times the limbs of its right side, added to the nine accumulators that stand for
 * columns `row` to `row` + 8. A square has each pair of limbs once, doubled, from its own column on.
 */
function rowOf({ factor, left, right }: Term, row: number, limbOf: Limbs, sums: readonly string[]): string[] {
  const sign = factor < 0 ? '-=' : '+=';
  const size = Math.abs(factor);
  const l = `${left}${row}`;
  if (right !== undefined) {
    const products = sums.map((sum, j) => `${sum} ${sign} ${l} * ${limbOf(right, j)};`);
    return [`const ${l}: i64 = ${limbOf(left, row)};`, ...products];
  }
  const lines = [`const ${l}: i64 = ${limbOf(left, row)};`, `${sums[row]} ${sign} (${scaled(l, size)}) * ${l};`];
  if (row === LIMBS - 1) return lines;
  lines.push(`const ${l}d: i64 = ${scaled(l, 2 * size)};`);
  for (let j = row + 1; j < LIMBS; j++) lines.push(`${sums[j]} ${sign} ${l}d * ${limbOf(left, j)};`);
  return lines;
}

/** Takes the lowest accumulator away: m * (p + 1) = m (2^64 - 2^96 - 2^224 + 2^256), m its low bits; the rest is carried. */
function montgomeryStep(row: number, sums: readonly string[]): string[] {
  const m = `m${row}`;
  return [
    `const ${m}: i64 = ${sums[0]} & LIMB_MASK;`,
    `${sums[1]} += ${sums[0]} >> ${BITS};`,
    `${sums[2]} += ${m} << 6;`,
    `${sums[3]} -= ${m} << 9;`,
    `${sums[7]} -= ${m} << 21;`,
    `${sums[8]} += ${m} << 24;`,
  ];
}

type Limbs = (operand: string, index: number) => string;

/** Text that is quicker to read from memory again than to keep: there are more limbs than registers. */
const isLoad = (text: string): boolean => /^[\w.<>]+\([\w, ]+\)$/.test(text);

function multiplication({
  name,
  says,
  parameters,
  operands,
  terms,
  addends = [],
  weak = false,
}: FieldFunction): string {
  const operand = (wanted: string): Operand => {
    const found = operands.find((each) => each.name === wanted);
    if (found === undefined) throw new Error(`${name}: no operand ${wanted}`);
    return found;
  };
  const largest = terms.reduce(
    (sum, { factor, left, right }) => sum + Math.abs(factor) * operand(left).size * operand(right ?? left).size,
    0,
  );
  if (largest > LARGEST_COLUMN) throw new Error(`${name}: a column of ${largest} would overflow`);

  const lines: string[] = [];
  const kept = new Set<string>();
  for (const { left, right = left } of terms) {
    if (isLoad(operand(right).limb(0)) || kept.has(right)) continue;
    kept.add(right);
    for (let i = 0; i < LIMBS; i++) lines.push(`const ${right}k${i}: i64 = ${operand(right).limb(i)};`);
  }
  const limbOf: Limbs = (wanted, index) => (kept.has(wanted) ? `${wanted}k${index}` : operand(wanted).limb(index));

  // Nine accumulators, whose names move on by one after every row.
  let sums = Array.from({ length: LIMBS }, (_, index) => `t${index}`);
  lines.push(...sums.map((sum) => `let ${sum}: i64 = 0;`));
  for (let row = 0; row < LIMBS; row++) {
    // A square begins at column 2 row: that is accumulator `row` of this row.
    for (const term of terms) lines.push(...rowOf(term, row, limbOf, sums));
    lines.push(...montgomeryStep(row, sums));
    const [first = '', ...rest] = sums;
    lines.push(`${first} = 0;`);
    sums = [...rest, first];
  }

  lines.push('let carry: i64 = 0;');
  for (let limb = 0; limb < LIMBS; limb++) {
    const added = addends.map(({ factor, pointer }) => `- (${scaled(at(pointer, limb), -factor)})`).join(' ');
    if (limb === LIMBS - 1) {
      lines.push(`carry = carry + ${sums[limb]} ${added};`);
      continue;
    }
    lines.push(`carry = carry + ${sums[limb]} + HALF ${added};`);
    const value = '(carry & LIMB_MASK) - HALF';
    lines.push(weak ? `${sums[limb]} = ${value};` : `store<i64>(out, ${value}, ${limb * LIMB_BYTES});`);
    lines.push(`carry >>= ${BITS};`);
  }
  const top = LIMBS - 1;
  if (weak) {
    const [o0, , o2, o3, , , , o7] = sums;
    lines.push('// The nearest multiple of p, by the top limb: q * (2^256 - 2^224 - 2^96 + 2^64 - 1).');
    lines.push('const q: i64 = (carry + (1 << 23)) >> 24;');
    lines.push(`${o0} += q;`, `${o2} -= q << 6;`, `${o3} += q << 9;`, `${o7} += q << 21;`, 'carry -= q << 24;');
    for (let limb = 0; limb < top; limb++) lines.push(`store<i64>(out, ${sums[limb]}, ${limb * LIMB_BYTES});`);
  }
  lines.push(`store<i64>(out, carry, ${top * LIMB_BYTES});`);
  const typed = ['out', ...parameters].map((each) => `${each}: ${each === 'mask' ? 'i64' : 'usize'}`);
  return [`/** out = ${says} */`, `export function ${name}(${typed.join(', ')}): void {`, ...lines, '}', ''].join('\n');
}

export function fieldCode(): string {
  return [
    '// Generated by scripts/sm2-engine/field-code.ts (npm run build:sm2). Do not edit.',
    '// `out` may be any of the operands: they are read before it is written.',
    '',
    `const LIMB_MASK: i64 = (1 << ${BITS}) - 1;`,
    `const HALF: i64 = 1 << ${BITS - 1};`,
    '',
    ...FUNCTIONS.map(multiplication),
  ].join('\n');
}
