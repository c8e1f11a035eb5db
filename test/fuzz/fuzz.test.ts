/** Every decoder is fuzzed, a bounded number of inputs with a fixed seed; `npm run fuzz` runs as many as one likes. */
import t from 'tap';
import { encode, list, struct, uint } from '../../common/codec.ts';
import { EmrError } from '../../common/errors.ts';
import { Prng } from '../sim/prng.ts';
import { campaign } from './campaign.ts';
import { codecTarget, codecTargets, sources } from './codec-targets.ts';
import { fuzz, type Outcome, type Target } from './engine.ts';
import { functionTargets } from './targets.ts';

t.setTimeout(180_000);

const INPUTS = 20_000;
const SEED = 20_240_601;

/** Exported functions with the name of a decoder, and codecs that no file exports, that need no target of their own. */
const EXEMPT: Readonly<Record<string, string>> = {
  decodeTrusted: 'the decoder of the codecs for what this node wrote; reached through everything stored',
  parseUtf8: 'the decoder of every text of a codec',
  parseId: "a person's argument at the command line",
  parseLimit: "a person's argument at the command line",
};

const DECODER = /^export (?:const|function|async function) ((?:decode|parse|unwrap)[A-Z]\w*)/gm;
/** What bytes are decoded with: an exported codec is found by itself, any other needs a target. */
const DECODED_WITH = /[^\w.]decode(?:Trusted)?\((\w+),/g;
/** Whether a file defines the codec without exporting it. */
const isHidden = (text: string, name: string): boolean => new RegExp(`^const ${name}\\b`, 'm').test(text);

t.test('no decoder is left out', async (t) => {
  const covered = new Set(functionTargets.flatMap(({ covers }) => covers));
  const found = new Set(['decodeTrusted']);
  for (const { path, text } of sources()) {
    if (path === 'common/codec.ts') continue;
    const hidden = [...text.matchAll(DECODED_WITH)].filter(([, name = '']) => isHidden(text, name));
    for (const [, name = ''] of [...text.matchAll(DECODER), ...hidden]) {
      found.add(name);
      if (!covered.has(name) && EXEMPT[name] === undefined)
        t.fail(`${name} of ${path} has neither a target in test/fuzz nor a reason why not`);
    }
  }
  for (const name of [...covered, ...Object.keys(EXEMPT)]) t.ok(found.has(name), `${name} exists`);
  const names = (await codecTargets()).map(({ name }) => name);
  for (const one of ['common/protocol/block.ts certificate', 'consensus/safety-record.ts safetyRecord'])
    t.ok(names.includes(one), `${one} is found by itself`);
});

t.test('the engine finds what it is made to find', async (t) => {
  const random = new Prng(1);
  const numbers = list(uint(), 100);
  const good = codecTarget('good', numbers);
  const others = [encode(numbers, [1, 2, 3]), encode(struct({ a: uint() }), { a: 1 })];
  const found = async (decode: (bytes: Uint8Array) => Outcome, inputs = 400): Promise<string> => {
    const target: Target = { ...good, name: `bad ${random.uint32()}`, decode };
    return (await fuzz(target, inputs, 7, others)).findings[0]?.problem ?? 'nothing';
  };
  const kept: Uint8Array[] = [];
  t.equal(await found((bytes) => good.decode(bytes, random) as Outcome), 'nothing');
  t.match(await found(() => ({ ok: true, again: new Uint8Array(3) })), /not what it encodes/);
  t.match(await found(() => ({ ok: false, code: 'MALFORMED' })), /refused a valid input/);
  t.match(await found(() => new Array(-1) as never), /threw RangeError/);
  t.match(
    await found((bytes) => {
      bytes[0] = 7;
      return { ok: false, code: 'MALFORMED' };
    }),
    /changed its input|refused/,
  );
  t.match(
    await found(() => {
      throw new EmrError('not a code', 'x');
    }),
    /a code like/,
  );
  t.match(
    await found(() => {
      kept.push(Buffer.alloc(100 * 1024 * 1024));
      return { ok: true, again: null };
    }, 1),
    /took \d+ bytes/,
  );
  kept.length = 0;
  t.match(
    await found(() => {
      const endUs = process.cpuUsage().user + 120_000;
      while (process.cpuUsage().user < endUs);
      return { ok: true, again: null };
    }, 1),
    /took \d+ ms/,
  );
});

t.test('a seed repeats a run', async (t) => {
  const run = async (seed: number) => {
    const seen: string[] = [];
    const target = codecTarget('numbers', list(uint(), 100));
    const watched: Target = {
      ...target,
      decode(bytes, random) {
        seen.push(Buffer.from(bytes).toString('hex'));
        return target.decode(bytes, random);
      },
    };
    await fuzz(watched, 50, seed, [Uint8Array.of(0x80)]);
    return seen;
  };
  t.same(await run(5), await run(5));
  t.notSame(await run(5), await run(6));
});

t.test(`${INPUTS} inputs, valid and damaged`, async (t) => {
  const targets = [...functionTargets, ...(await codecTargets())];
  const reports = await campaign(targets, { inputs: INPUTS, seed: SEED });
  for (const { target, seed, index, problem, input } of reports.flatMap(({ findings }) => findings))
    t.fail(`${target}, seed ${seed}, input ${index}: ${problem}\n${input}`);
  t.ok(reports.reduce((sum, { inputs }) => sum + inputs, 0) >= INPUTS);
  t.same(
    reports.filter(({ accepted }) => accepted === 0).map(({ target }) => target),
    [],
    'every target accepts something: its samples are real',
  );
});
