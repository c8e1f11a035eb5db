/**
 * The codec against everything that is sent, signed or stored: what is encoded is read back, and of all bytes only
 * canonical ones are accepted, whatever was done to them, in bounded time. @ipld/dag-cbor is the judge of what is canonical.
 */
import * as dagCbor from '@ipld/dag-cbor';
import { CID } from 'multiformats/cid';
import t from 'tap';
import { concatBytes, equalBytes } from '../../common/bytes.ts';
import { CborReader, type Words } from '../../common/cbor-reader.ts';
import {
  bool,
  boundedBytes,
  bytes,
  type Codec,
  decode,
  decodeTrusted,
  encode,
  lazy,
  list,
  nullable,
} from '../../common/codec.ts';
import { oneOf, struct, text, uint, union } from '../../common/codec.ts';
import { InvariantError } from '../../common/errors.ts';
import { block, blockHeader, certificate, MAX_ENCODED_BLOCK_BYTES } from '../../common/protocol/block.ts';
import { genesis } from '../../common/protocol/genesis.ts';
import { handover, lightProof } from '../../common/protocol/light.ts';
import { policyDocument } from '../../common/protocol/policy.ts';
import { receipt } from '../../common/protocol/receipt.ts';
import {
  custodianAnswer,
  custodianDemand,
  MAX_CUSTODIAN_DEMAND_BYTES,
  releaseAnswer,
  releaseCall,
} from '../../common/protocol/release.ts';
import { rpcToken } from '../../common/protocol/rpc-token.ts';
import * as entries from '../../common/protocol/state-entries.ts';
import { decodeTransaction, sidecar, signedTransaction, transactionBody } from '../../common/protocol/transaction.ts';
import { validatorSet } from '../../common/protocol/validator-set.ts';
import { decodeMessage, encodeMessage, equivocation, preparedCertificate } from '../../consensus/messages.ts';
import { safetyRecord } from '../../consensus/safety-record.ts';
import { certifiedBlock } from '../../node/host/wire.ts';
import { blobCall, receiptFrame } from '../../node/replication/blob-protocol.ts';

const MAX_BYTES = 8 * 1024 * 1024;
/** Far above what refusing takes on a slow machine, far below what decoding first would take. */
const REFUSED_WITHIN_MS = 100;

/** mulberry32: the same numbers in every run. */
function prng(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let z = Math.imul(state ^ (state >>> 15), 1 | state);
    z = (z + Math.imul(z ^ (z >>> 7), 61 | z)) ^ z;
    return Math.floor((((z ^ (z >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

const TEXTS = [
  'hospital-a',
  'a',
  'REASON_CODE',
  'access.granted',
  '12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA',
  'https://node.example:8545',
  '/dns4/node.example/tcp/7600/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA',
  '东方医院',
];
const EDGES = [0, 1, 23, 24, 255, 256, 65_535, 65_536, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER];

/** In place of bytes to read: makes up what the codec asks for, so that every structure has random values of its own. */
class RandomInput extends CborReader {
  readonly #random: (below: number) => number;
  #depth = 0;

  constructor(random: (below: number) => number) {
    super(new Uint8Array(0));
    this.#random = random;
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#random(from.length)] as T;
  }

  override uint(expected: string): number {
    const max = Number(/0 to (\d+)$/.exec(expected)?.[1]);
    return this.#pick(EDGES.filter((edge) => edge <= max).concat(max));
  }

  override bytes(min: number, max: number): Uint8Array {
    const length = min + this.#random(Math.min(max - min, 300) + 1);
    return Uint8Array.from({ length }, () => this.#random(256));
  }

  override text(_maxBytes: number, expected: string): string {
    const like = / like \/(.*)\/$/.exec(expected)?.[1];
    const max = Number(/1 to (\d+) characters/.exec(expected)?.[1]);
    const pattern = new RegExp(like ?? '');
    return this.#pick(TEXTS.filter((candidate) => candidate.length <= max && pattern.test(candidate)));
  }

  override word({ texts }: Words): number {
    // A recursive structure must come to an end.
    return texts.indexOf(this.#pick(texts.filter((word) => this.#depth < 3 || word !== 'threshold')));
  }

  override array(min: number, max: number): number {
    return min + this.#random(Math.min(max - min, 3) + 1);
  }

  override bool(): boolean {
    return this.#random(2) === 1;
  }

  override takeNull(): boolean {
    return this.#random(3) === 0;
  }

  override nested<T>(read: () => T): T {
    this.#depth += 1;
    const value = read();
    this.#depth -= 1;
    return value;
  }
}

const isCodec = (value: unknown): value is Codec<unknown> =>
  typeof value === 'object' && value !== null && 'read' in value && 'write' in value;

const STRUCTURES: Readonly<Record<string, Codec<unknown>>> = {
  transactionBody,
  signedTransaction,
  sidecar,
  policyDocument,
  genesis,
  blockHeader,
  block,
  certificate,
  certifiedBlock,
  validatorSet,
  receipt,
  handover,
  lightProof,
  custodianDemand,
  custodianAnswer,
  releaseAnswer,
  releaseCall,
  rpcToken,
  preparedCertificate,
  equivocation,
  safetyRecord,
  blobCall,
  receiptFrame,
  ...Object.fromEntries(Object.entries(entries).filter((entry) => isCodec(entry[1]))),
};

/** What the library that defines the format says: these bytes are the one encoding of what they mean. */
function isDagCbor(encoded: Uint8Array): boolean {
  try {
    return equalBytes(dagCbor.encode(dagCbor.decode(encoded)), encoded);
  } catch {
    return false;
  }
}

/** One of the things that go wrong with bytes, or that somebody does to them. */
function mutate(encoded: Uint8Array, random: (below: number) => number): Uint8Array {
  const at = random(encoded.length);
  const to = at + random(Math.min(encoded.length - at, 40) + 1);
  const [before, inside, after] = [encoded.subarray(0, at), encoded.subarray(at, to), encoded.subarray(to)];
  switch (random(7)) {
    case 0: {
      const copy = encoded.slice();
      copy[at] = (copy[at] as number) ^ (1 << random(8));
      return copy;
    }
    case 1:
      return before.slice();
    case 2:
      return concatBytes(before, after);
    case 3:
      return concatBytes(before, inside, inside, after);
    case 4:
      return concatBytes(before, Uint8Array.of(random(256)), after);
    case 5: {
      // A head of a random kind with a random length of argument.
      const argument = Uint8Array.from({ length: [1, 2, 4, 8][random(4)] as number }, () => random(256));
      return concatBytes(before, Uint8Array.of((random(8) << 5) | (24 + random(8))), argument, after);
    }
    default:
      return concatBytes(encoded, inside);
  }
}

t.test('every structure comes back as it was, in bytes that the library agrees with', async (t) => {
  t.ok(Object.keys(STRUCTURES).length > 40, 'all structures are found');
  for (const [name, codec] of Object.entries(STRUCTURES)) {
    const random = prng(name.length * 7919);
    let wrong = 0;
    for (let round = 0; round < 60; round += 1) {
      const value = codec.read(new RandomInput(random));
      const encoded = encode(codec, value);
      const decoded = decode(codec, encoded, MAX_BYTES);
      const same = decoded.ok && equalBytes(encode(codec, decoded.value), encoded);
      if (!same || !isDagCbor(encoded)) wrong += 1;
      if (round < 3) t.same(decoded, { ok: true, value }, name);
    }
    t.equal(wrong, 0, name);
  }
});

t.test('what is written is what the library writes', async (t) => {
  const texts = [
    'a',
    'ä',
    'ab\u0080',
    '东方医院',
    '😀',
    'x'.repeat(23),
    'x'.repeat(24),
    'x'.repeat(256),
    '院'.repeat(30_000),
  ];
  const lengths = [0, 1, 23, 24, 255, 256, 4_090, 65_535, 65_536, 300_000];
  const numbers = list(uint(), 1_000);
  t.same(encode(numbers, EDGES), dagCbor.encode(EDGES));
  for (const each of texts) t.same(encode(text(30_000), each), dagCbor.encode(each));
  for (const length of lengths) {
    const value = new Uint8Array(length).fill(7);
    t.same(encode(boundedBytes(0, 300_000), value), dagCbor.encode(value));
    const items = new Array<boolean>(length).fill(true);
    t.same(encode(list(bool, 300_000), items), dagCbor.encode(items));
  }
  t.throws(() => encode(list(uint(9), 2), [1, 10]), InvariantError);
  t.same(encode(numbers, [5]), dagCbor.encode([5]), 'nothing of what failed before is in it');
});

t.test('whatever is done to the bytes: a verdict, and never two encodings of one value', async (t) => {
  for (const [name, codec] of Object.entries(STRUCTURES)) {
    const random = prng(name.length * 104_729);
    const wrong: string[] = [];
    for (let round = 0; round < 400; round += 1) {
      const encoded = encode(codec, codec.read(new RandomInput(random)));
      let changed = encoded;
      for (let times = 1 + random(3); times > 0; times -= 1) changed = mutate(changed, random);
      const decoded = decode(codec, changed, MAX_BYTES);
      const canonical = isDagCbor(changed);
      if (decoded.ok && !equalBytes(encode(codec, decoded.value), changed)) wrong.push('accepted a second encoding');
      if (decoded.ok && !canonical) wrong.push('accepted what the library refuses');
      if (!decoded.ok && decoded.code === 'NOT_CANONICAL' && canonical) wrong.push('called canonical bytes otherwise');
    }
    t.same(wrong, [], name);
  }
});

t.test('transactions and consensus messages, to the last layer', async (t) => {
  const random = prng(1);
  const input = new RandomInput(random);
  const header = encode(blockHeader, blockHeader.read(input));
  const signature = new Uint8Array(64).fill(1);
  const vote = { height: 5, view: 2, digest: new Uint8Array(32).fill(2) };
  const prepared = preparedCertificate.read(input);
  const incarnation = new Uint8Array(16);
  const promises = [
    { kind: 'vote' as const, vote: 'commit' as const, ...vote, signature },
    { kind: 'viewChange' as const, height: 5, view: 3, prepared, signature },
  ];
  const messages = [
    { kind: 'prepare' as const, ...vote },
    { kind: 'commit' as const, ...vote },
    { kind: 'viewChange' as const, height: 5, view: 3, prepared },
    { kind: 'newView' as const, height: 5, view: 3, viewChanges: [{ validator: 1, prepared, signature }] },
    { kind: 'status' as const, height: 5, hash: vote.digest, view: 0, incarnation, asking: true },
    { kind: 'echo' as const, height: 5, view: 0, to: 1, incarnation, promises, status: null },
  ].map((body) => encodeMessage({ validator: 3, signature, body }));
  // As `encodeMessage` writes a proposal; its own type wants the block opened.
  messages.push(
    dagCbor.encode([3, signature, ['prePrepare', [5, 2, [header, [Uint8Array.of(1)], [null]]]]]),
    dagCbor.encode([3, signature, ['prePrepare', [5, 2, [header, [], []]]]]),
  );
  for (const message of messages) {
    t.equal(decodeMessage(message).ok, true);
    for (let round = 0; round < 300; round += 1) {
      const changed = mutate(message, random);
      const decoded = decodeMessage(changed);
      if (decoded.ok && !equalBytes(encodeMessage(decoded.value), changed)) t.fail('a message with two encodings');
    }
  }
  let accepted = 0;
  for (let round = 0; round < 300; round += 1) {
    const body = encode(transactionBody, transactionBody.read(input));
    const tx = encode(signedTransaction, { body, publicKey: signature, signature });
    if (decodeTransaction(tx).ok) accepted += 1;
    decodeTransaction(mutate(tx, random));
    const mutated = mutate(body, random);
    if (mutated.length === 0) continue;
    const changed = encode(signedTransaction, { body: mutated, publicKey: signature, signature });
    const decoded = decodeTransaction(changed);
    if (decoded.ok && !equalBytes(encode(transactionBody, decoded.value.body), decoded.value.signed.body)) t.fail();
  }
  t.equal(accepted, 300);
});

t.test('one value has one encoding: each way to write another is refused', async (t) => {
  const number = uint();
  const pair = struct({ a: uint(), b: bytes(2) });
  const word = oneOf(['yes', 'no']);
  const shape = union({ circle: struct({ radius: uint(100) }), square: struct({}) });
  const name = text(8);
  const of = (...hex: number[]): Uint8Array => Uint8Array.from(hex);
  const utf8 = (s: string): number[] => [...new TextEncoder().encode(s)];
  const cases: [string, Codec<unknown>, Uint8Array, 'MALFORMED' | 'NOT_CANONICAL'][] = [
    ['23 in two bytes', number, of(0x18, 23), 'NOT_CANONICAL'],
    ['255 in three', number, of(0x19, 0, 255), 'NOT_CANONICAL'],
    ['65535 in five', number, of(0x1a, 0, 0, 255, 255), 'NOT_CANONICAL'],
    ['2^32 - 1 in nine', number, of(0x1b, 0, 0, 0, 0, 255, 255, 255, 255), 'NOT_CANONICAL'],
    ['2^53', number, of(0x1b, 0, 0x20, 0, 0, 0, 0, 0, 0), 'MALFORMED'],
    ['2^64 - 1, a big integer', number, of(0x1b, 255, 255, 255, 255, 255, 255, 255, 255), 'MALFORMED'],
    ['a tagged big integer', number, of(0xc2, 0x41, 1), 'MALFORMED'],
    ['-1', number, of(0x20), 'MALFORMED'],
    ['the float 1.0', number, of(0xfb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0), 'MALFORMED'],
    ['the half float 1.0', number, of(0xf9, 0x3c, 0), 'MALFORMED'],
    ['the float -0.0', number, of(0xfb, 0x80, 0, 0, 0, 0, 0, 0, 0), 'MALFORMED'],
    ['not a number', number, of(0xfb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0), 'MALFORMED'],
    ['undefined', number, of(0xf7), 'MALFORMED'],
    ['nothing', number, of(), 'MALFORMED'],
    ['a reserved head', number, of(0x1c), 'MALFORMED'],
    ['a head that is cut short', number, of(0x1a, 0, 1), 'MALFORMED'],
    ['one byte more', number, of(1, 0), 'MALFORMED'],
    ['a tag before the value', number, of(0xc1, 1), 'MALFORMED'],
    ['an array of indefinite length', pair, of(0x9f, 1, 0x42, 1, 2, 0xff), 'NOT_CANONICAL'],
    ['a byte string in pieces', pair, of(0x82, 1, 0x5f, 0x42, 1, 2, 0xff), 'NOT_CANONICAL'],
    ['one field less', pair, of(0x81, 1), 'MALFORMED'],
    ['one field more', pair, of(0x83, 1, 0x42, 1, 2, 1), 'MALFORMED'],
    ['a map', pair, of(0xa2, 0x61, 0x61, 1, 0x61, 0x62, 0x42, 1, 2), 'MALFORMED'],
    ['a map with one key twice', pair, of(0xa2, 0x61, 0x61, 1, 0x61, 0x61, 1), 'MALFORMED'],
    ['text for bytes', pair, of(0x82, 1, 0x62, 0x61, 0x61), 'MALFORMED'],
    ['a list for bytes', pair, of(0x82, 1, 0x82, 1, 2), 'MALFORMED'],
    ['an unknown word', word, of(0x63, ...utf8('may')), 'MALFORMED'],
    ['a word with a zero', word, of(0x64, ...utf8('yes'), 0), 'MALFORMED'],
    ['an unknown variant', shape, of(0x82, 0x63, ...utf8('cup'), 0x80), 'MALFORMED'],
    ['a variant named like a property of objects', shape, dagCbor.encode(['constructor', []]), 'MALFORMED'],
    ['__proto__', shape, dagCbor.encode(['__proto__', []]), 'MALFORMED'],
    ['a boolean as 1', bool, of(1), 'MALFORMED'],
    ['a simple value', bool, of(0xf8, 21), 'MALFORMED'],
    ['null where none may be', name, of(0xf6), 'MALFORMED'],
    ['empty text', name, of(0x60), 'MALFORMED'],
    ['nine characters', name, of(0x69, ...utf8('123456789')), 'MALFORMED'],
    ['a lone byte of UTF-8', name, of(0x61, 0x80), 'MALFORMED'],
    ['an overlong slash', name, of(0x62, 0xc0, 0xaf), 'MALFORMED'],
    ['a surrogate in UTF-8', name, of(0x63, 0xed, 0xa0, 0x80), 'MALFORMED'],
    ['a link', name, dagCbor.encode(CID.parse('bafkqaaa')), 'MALFORMED'],
    ['two nulls', nullable(number), of(0xf6, 0xf6), 'MALFORMED'],
  ];
  for (const [what, codec, encoded, code] of cases) {
    const decoded = decode(codec, encoded, 1024);
    t.equal(decoded.ok ? 'accepted' : decoded.code, code, what);
  }
  t.same(
    decode(name, of(0x63, 0xef, 0xbb, 0xbf), 9),
    { ok: true, value: '\ufeff' },
    'a byte order mark is a character',
  );
  t.match(decode(pair, of(0x82, 1, 0x41, 1), 9), { message: 'b: expected 2 bytes' }, 'says where');
  t.match(decode(list(pair, 2), of(0x81, 0x82, 0x20, 0x42, 1, 1), 9), { message: /^0\.a: / });
  t.match(decode(pair, new Uint8Array(10), 9), { code: 'TOO_LARGE' });
  const buffer = Buffer.from(encode(pair, { a: 1, b: of(1, 2) }));
  const decoded = decode(pair, buffer, 99);
  buffer.fill(0);
  t.same(decoded, { ok: true, value: { a: 1, b: of(1, 2) } }, 'what was read shares no memory with its source');
});

t.test('claims cost nothing: huge lengths, deep nesting, millions of items', async (t) => {
  const length = (n: number): number[] => [(n >>> 24) & 255, (n >>> 16) & 255, (n >>> 8) & 255, n & 255];
  const filled = (head: readonly number[], fill: number): Uint8Array => {
    const hostile = new Uint8Array(4 * 1024 * 1024).fill(fill);
    hostile.set(head);
    return hostile;
  };
  const items = length(4 * 1024 * 1024 - 5);
  const hostile: [string, Uint8Array][] = [
    ['an array of 2^53 items', Uint8Array.of(0x9b, 0, 0x1f, ...new Uint8Array(6).fill(255))],
    ['an array of 2^32 items', Uint8Array.of(0x9a, 255, 255, 255, 255)],
    ['bytes of 2^32', Uint8Array.of(0x5a, 255, 255, 255, 255, 1, 2, 3)],
    ['a text of 2^53 bytes', Uint8Array.of(0x7b, 0, 0x1f, ...new Uint8Array(6).fill(255))],
    ['a map of 2^32 keys', Uint8Array.of(0xba, 255, 255, 255, 255)],
    ['four million empty arrays', filled([0x9a, ...items], 0x80)],
    ['four million empty maps', filled([0x9a, ...items], 0xa0)],
    ['four million numbers', filled([0x9a, ...items], 1)],
    ['four million levels', filled([], 0x81)],
    ['four million levels of maps', filled([], 0xa1)],
    ['four million tags', filled([], 0xc6)],
    ['four million levels of indefinite length', filled([], 0x9f)],
  ];
  for (const [what, encoded] of hostile) {
    const refuse = (name: string, run: () => { readonly ok: boolean }): void => {
      const start = performance.now();
      const { ok } = run();
      const tookMs = performance.now() - start;
      if (ok || tookMs > REFUSED_WITHIN_MS) t.fail(`${name}, ${what}: ${ok ? 'accepted' : `took ${tookMs} ms`}`);
    };
    for (const [name, codec] of Object.entries(STRUCTURES)) refuse(name, () => decode(codec, encoded, MAX_BYTES));
    refuse('message', () => decodeMessage(encoded.subarray(0, MAX_ENCODED_BLOCK_BYTES)));
    refuse('transaction', () => decodeTransaction(encoded.subarray(0, 16_000)));
  }
  t.match(decode(custodianDemand, new Uint8Array(MAX_CUSTODIAN_DEMAND_BYTES + 1), MAX_CUSTODIAN_DEMAND_BYTES), {
    code: 'TOO_LARGE',
  });

  // The one recursive structure: how deep it may be is a number, not what the stack holds at the moment.
  interface Tree {
    readonly of: readonly Tree[];
  }
  const tree: Codec<Tree> = lazy(() => struct({ of: list(tree, 1) }));
  const nested = (levels: number): Uint8Array =>
    concatBytes(...Array.from({ length: levels - 1 }, () => Uint8Array.of(0x81, 0x81)), Uint8Array.of(0x81, 0x80));
  t.equal(decode(tree, nested(32), 999).ok, true);
  t.match(decode(tree, nested(33), 999), { code: 'MALFORMED', message: /nested more than 32 levels/ });
  t.match(decode(tree, nested(100_000), MAX_BYTES), { code: 'MALFORMED', message: /nested more than 32 levels/ });
});

t.test('our own mistakes are not encoded, and what we stored must be what we read', async (t) => {
  const pair = struct({ a: uint(9), b: nullable(bytes(2)) });
  const wrong: unknown[] = [
    { a: 10, b: null },
    { a: -1, b: null },
    { a: 1.5, b: null },
    { a: Number.NaN, b: null },
    { a: 1n, b: null },
    { a: 1, b: new Uint8Array(3) },
    { a: 1, b: 'xx' },
  ];
  for (const value of wrong) t.throws(() => encode(pair, value as { a: number; b: null }), InvariantError);
  t.same(encode(pair, { a: -0, b: null }), encode(pair, { a: 0, b: null }), 'there is one zero');
  t.throws(() => encode(text(3), 'four'), InvariantError);
  t.throws(() => encode(text(3), ''), InvariantError);
  t.throws(() => encode(text(3), '\ud800'), InvariantError);
  t.throws(() => encode(oneOf(['a']), 'b' as 'a'), InvariantError);
  t.throws(() => encode(list(bool, 1), [true, true]), InvariantError);
  t.throws(() => encode(union({ a: struct({}) }), { kind: 'b' } as unknown as { kind: 'a' }), InvariantError);
  t.throws(() => decodeTrusted(pair, Uint8Array.of(0x80), 'pair'), InvariantError);
});
