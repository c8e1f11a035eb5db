// Holds the documents to the tree: relative links and their anchors, files named in `code`, npm scripts, and the list of
// decisions in docs/adr/, and the table of limits. What a sentence means is for the reader to judge.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import process from 'node:process';
import { limitProblems } from './check-limits.mjs';
import { ROOT } from './toolchain.mjs';

const SKIPPED = new Set(['node_modules', '.git', '.tap', 'dist', 'coverage']);
const SCRIPTS = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).scripts;
/** `common/codec.ts`, `docs/adr/`: a path from the top, of a kind that must exist. Patterns with * or <> are not paths. */
const PATH_IN_CODE =
  /^(common|config|consensus|vm|rpc|client|node|scripts|test|docs|model)\/[\w./-]*(\/|\.(ts|mjs|md|json|yaml|html|qnt))$/;

function documents(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return SKIPPED.has(entry.name) || entry.name.startsWith('.devnet') ? [] : documents(path);
    return entry.name.endsWith('.md') ? [path] : [];
  });
}

/** The anchors of a document's headings, made as GitHub makes them. */
function anchors(text) {
  const seen = new Map();
  return new Set(
    [...withoutBlocks(text).matchAll(/^#{1,6} +(.+?) *$/gm)].map(([, heading]) => {
      const slug = heading
        .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1')
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
        .replaceAll(/\s/g, '-');
      const count = seen.get(slug) ?? 0;
      seen.set(slug, count + 1);
      return count === 0 ? slug : `${slug}-${count}`;
    }),
  );
}

/** Fenced blocks emptied, line by line, so that line numbers stay. */
function withoutBlocks(text) {
  let fence = '';
  return text
    .split('\n')
    .map((line) => {
      const mark = /^ *(`{3,}|~{3,})/.exec(line)?.[1] ?? '';
      if (fence === '' && mark === '') return line;
      if (fence === '') fence = mark;
      else if (mark.startsWith(fence)) fence = '';
      return '';
    })
    .join('\n');
}

function brokenLink(file, target) {
  if (/^[a-z][a-z0-9+.-]*:/i.test(target)) return undefined;
  const [path, anchor] = target.split('#');
  const full = path === '' ? file : normalize(join(dirname(file), decodeURI(path)));
  if (!existsSync(full)) return `link to ${target}: no such file`;
  if (anchor === undefined || !full.endsWith('.md')) return undefined;
  return anchors(readFileSync(full, 'utf8')).has(anchor) ? undefined : `link to ${target}: no such heading`;
}

function problemsOf(file) {
  const text = readFileSync(file, 'utf8');
  const inLine = (line) => [
    ...[...line.matchAll(/\]\(<?([^)\s>]+)>?(?: "[^"]*")?\)/g)].map(([, target]) => brokenLink(file, target)),
    ...[...line.matchAll(/`([^`]+)`/g)].map(([, code]) =>
      PATH_IN_CODE.test(code) && !existsSync(join(ROOT, code)) ? `\`${code}\`: no such file` : undefined,
    ),
  ];
  const npmScripts = (line) =>
    [...line.matchAll(/npm run ([a-z][\w:-]*)/g)].map(([, name]) =>
      Object.hasOwn(SCRIPTS, name) ? undefined : `npm run ${name}: no such script`,
    );
  const prose = withoutBlocks(text).split('\n').map(inLine);
  const all = text.split('\n').map(npmScripts);
  return prose.flatMap((found, index) =>
    [...found, ...all[index]].filter(Boolean).map((problem) => `${relative(ROOT, file)}:${index + 1} ${problem}`),
  );
}

/** docs/adr: each has a number of its own, and README.md lists it. That what is listed exists, the links say. */
function decisionProblems() {
  const folder = join(ROOT, 'docs', 'adr');
  const index = readFileSync(join(folder, 'README.md'), 'utf8');
  const files = readdirSync(folder).filter((name) => name.endsWith('.md') && name !== 'README.md');
  const numbers = files.map((name) => /^\d{4}(?=-)/.exec(name)?.[0]);
  return files.flatMap((name, at) => [
    ...(numbers[at] !== undefined && numbers.indexOf(numbers[at]) === at
      ? []
      : [`docs/adr/${name}: needs a number of its own`]),
    ...(index.includes(`(${name})`) ? [] : [`docs/adr/README.md: does not list ${name}`]),
  ]);
}

const problems = [...documents(ROOT).flatMap(problemsOf), ...decisionProblems(), ...(await limitProblems())];
for (const problem of problems) process.stderr.write(`${problem}\n`);
process.exitCode = problems.length === 0 ? 0 : 1;
