/** docs/rpc.md and the tables of the code say the same, in both directions. */
import { globSync, readFileSync } from 'node:fs';
import t from 'tap';
import { REASONS, RPC_ERRORS } from '../../rpc/errors.ts';
import { type MethodDefinition, METHODS } from '../../rpc/methods.ts';
import { isOptional } from '../../rpc/schema.ts';

const folder = new URL('../../', import.meta.url);
const page = readFileSync(new URL('docs/rpc.md', folder), 'utf8');

/** The rows of a marked table, each as its cells. */
function rows(name: string): string[][] {
  const [, body = ''] = new RegExp(`<!-- ${name} -->\\n([\\s\\S]*)<!-- /${name} -->`).exec(page) ?? [];
  const lines = body.split('\n').filter((line) => line.startsWith('|'));
  return lines.slice(2).map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

t.test('errors', (t) => {
  const inCode = Object.entries(RPC_ERRORS).map(([name, { code, retryable, httpStatus, meaning }]) => [
    name,
    String(code),
    retryable ? 'yes' : 'no',
    String(httpStatus),
    meaning,
  ]);
  t.same(rows('errors'), inCode);
  t.equal(new Set(inCode.map(([, code]) => code)).size, inCode.length, 'each code once');
  t.end();
});

t.test('reasons', (t) => {
  t.same(rows('reasons'), Object.entries(REASONS));
  const code = globSync('rpc/**/*.ts', { cwd: folder })
    .map((name) => readFileSync(new URL(name, folder), 'utf8').replace(/export const REASONS[\s\S]*?as const;/, ''))
    .join('\n');
  for (const reason of Object.keys(REASONS)) t.ok(code.includes(`'${reason}'`), `${reason} is used`);
  for (const [, refusal = ''] of code.matchAll(/\breject\(\s*'([A-Z_]+)'/g))
    t.ok(refusal in REASONS, `${refusal} is explained`);
  t.end();
});

t.test('methods', (t) => {
  const inCode = Object.entries<MethodDefinition>(METHODS).map(([name, { params, access, transport, summary }]) => [
    name,
    Object.entries(params)
      .map(([param, schema]) => (isOptional(schema) ? `[${param}]` : param))
      .join(', ') || '–',
    `${access}${transport === 'websocket' ? ', WebSocket' : ''}`,
    summary,
  ]);
  t.same(rows('methods'), inCode);
  t.end();
});
