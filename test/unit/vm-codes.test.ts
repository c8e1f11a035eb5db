import { readdirSync, readFileSync } from 'node:fs';
import t from 'tap';
import { ANSWERS, REJECTIONS } from '../../vm/index.ts';

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const document = read('docs/access-control.md');

/** First and second cell of the table rows under a heading. */
function rowsUnder(heading: string): [string, string][] {
  const [, after = ''] = document.split(`\n## ${heading}\n`);
  const section = after.split('\n## ')[0] ?? '';
  return [...section.matchAll(/^\| `([^`]+)` +\|([^|]*)\|/gm)].map((row) => [row[1] ?? '', (row[2] ?? '').trim()]);
}

t.test('the document and the code name the same rejections, in the same words', async (t) => {
  t.same(rowsUnder('Rejections'), Object.entries(REJECTIONS));
});

t.test('and the same answers', async (t) => {
  t.same(rowsUnder('Answers'), Object.entries(ANSWERS));
});

t.test('and the same events', async (t) => {
  const folder = new URL('../../vm', import.meta.url);
  const sources = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
  const emitted = sources.flatMap((name) => [
    ...read(`vm/${name}`).matchAll(/'((?:account|role|attending|policy|record|access|gov|node|custody)\.[a-zA-Z]+)'/g),
  ]);
  // Of a template: `gov.${status}`.
  const names = new Set([
    ...emitted.map((match) => match[1]),
    'gov.rejected',
    'gov.expired',
    'gov.effective',
    'gov.failed',
  ]);
  t.same(new Set(rowsUnder('Events').map(([name]) => name)), names);
});

t.test('every rejection is met by a test', async (t) => {
  const tests = readdirSync(new URL('.', import.meta.url)).filter(
    (name) => name.startsWith('vm-') && name.endsWith('.test.ts'),
  );
  const text = tests.map((name) => read(`test/unit/${name}`)).join('\n');
  const unmet = Object.keys(REJECTIONS).filter((code) => !text.includes(`'${code}'`));
  t.same(unmet, []);
});
