/** Who is asked for shares, and when. */
import t from 'tap';
import { askInTurn } from '../../node/custody/ask-in-turn.ts';

/** Never: a test that waited for it would time out. */
const NEVER_MS = 60 * 60_000;

interface Asked {
  readonly asked: string[];
  readonly answers: string[];
}

/** Asks a to d for three good answers; `says` is what each of them gives. */
async function run(
  says: (holder: string, until: AbortSignal) => Promise<boolean>,
  spareAfterMs: number,
  stopAfter: number,
): Promise<Asked> {
  const asked: string[] = [];
  const answers: string[] = [];
  const order = { wanted: 3, spareAfterMs, signal: new AbortController().signal };
  const ask = async (holder: string, until: AbortSignal) => {
    asked.push(holder);
    const good = await says(holder, until);
    return until.aborted ? null : { answer: holder, good };
  };
  for await (const answer of askInTurn(['a', 'b', 'c', 'd'], order, ask)) {
    answers.push(answer);
    if (answers.length === stopAfter) break;
  }
  return { asked, answers };
}

/** Ends with its signal, as a request that nobody answers. */
const silence = (until: AbortSignal): Promise<boolean> =>
  new Promise((resolve) => until.addEventListener('abort', () => resolve(false)));

t.test('three good answers leave the fourth holder in peace', async (t) => {
  t.same(await run(() => Promise.resolve(true), NEVER_MS, 3), { asked: ['a', 'b', 'c'], answers: ['a', 'b', 'c'] });
});

t.test('an answer that is no good has the fourth asked at once', async (t) => {
  const { asked, answers } = await run((holder) => Promise.resolve(holder !== 'a'), NEVER_MS, 4);
  t.same(asked, ['a', 'b', 'c', 'd']);
  t.same([...answers].sort(), ['a', 'b', 'c', 'd']);
});

t.test('a holder that says nothing is not waited for', async (t) => {
  let ended = false;
  const says = async (holder: string, until: AbortSignal): Promise<boolean> => {
    if (holder !== 'b') return true;
    ended = !(await silence(until));
    return false;
  };
  t.same(await run(says, 5, 3), { asked: ['a', 'b', 'c', 'd'], answers: ['a', 'c', 'd'] });
  t.ok(ended, 'and its request ends with the others');
});
