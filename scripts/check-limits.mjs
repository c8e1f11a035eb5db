// Holds docs/limits.md to the code: each constant that a table names exists in the file beside it, with that value, and
// each constant of the code that is named MAX_…, …_MAX or …_LIMIT stands in a table. Reasons are for the reader to judge.
// check-docs.mjs runs it.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import ts from 'typescript';
import { ROOT } from './toolchain.mjs';

const DOCUMENT = 'docs/limits.md';
const FOLDERS = ['common', 'config', 'consensus', 'vm', 'rpc', 'client', 'node'];
const BOUND = /^(?:export )?const (MAX_[A-Z0-9_]+|[A-Z0-9_]+_(?:MAX|LIMIT))\b/gm;
const PARAMS_FILE = 'common/protocol/chain-params.ts';
const LEAST_FILE = 'vm/params.ts';
const UNITS = {
  '': 1,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
  TiB: 1024 ** 4,
  ms: 1,
  s: 1_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** "1,024", "16 KiB", "5 s", "2^36", "2^53 − 1": bytes, milliseconds or a count; undefined for anything else. */
function quantity(text) {
  const power = /^2\^(\d+)( − 1)?$/.exec(text);
  if (power !== null) return 2 ** Number(power[1]) - (power[2] === undefined ? 0 : 1);
  const found = /^(\d{1,3}(?:,\d{3})*(?:\.\d+)?) ?([A-Za-z]*)$/.exec(text);
  if (found === null || !Object.hasOwn(UNITS, found[2])) return undefined;
  return Number(found[1].replaceAll(',', '')) * UNITS[found[2]];
}

const parsed = new Map();
function sourceOf(file) {
  const known = parsed.get(file);
  if (known !== undefined) return known;
  const source = ts.createSourceFile(file, readFileSync(join(ROOT, file), 'utf8'), ts.ScriptTarget.Latest);
  parsed.set(file, source);
  return source;
}

/** The expression of a constant at the top of a file, and the file it stands in: imports are followed. */
function definition(file, name) {
  for (const statement of sourceOf(file).statements) {
    if (ts.isVariableStatement(statement)) {
      const found = statement.declarationList.declarations.find(({ name: { text } }) => text === name);
      if (found?.initializer !== undefined) return { file, expression: found.initializer };
    }
    const bindings = ts.isImportDeclaration(statement) ? statement.importClause?.namedBindings : undefined;
    if (bindings === undefined || !ts.isNamedImports(bindings)) continue;
    const found = bindings.elements.find((element) => element.name.text === name);
    if (found === undefined || !statement.moduleSpecifier.text.startsWith('.')) continue;
    const from = normalize(join(dirname(file), statement.moduleSpecifier.text));
    return definition(from, (found.propertyName ?? found.name).text);
  }
  return undefined;
}

const OPERATIONS = {
  [ts.SyntaxKind.PlusToken]: (a, b) => a + b,
  [ts.SyntaxKind.MinusToken]: (a, b) => a - b,
  [ts.SyntaxKind.AsteriskToken]: (a, b) => a * b,
  [ts.SyntaxKind.SlashToken]: (a, b) => a / b,
  [ts.SyntaxKind.AsteriskAsteriskToken]: (a, b) => a ** b,
};

/** The number that an expression stands for; NaN for what is not made of numbers, constants and arithmetic. */
function evaluate({ file, expression }) {
  const of = (part) => evaluate({ file, expression: part });
  if (ts.isNumericLiteral(expression)) return Number(expression.text);
  if (ts.isParenthesizedExpression(expression)) return of(expression.expression);
  if (ts.isBinaryExpression(expression)) {
    const operation = OPERATIONS[expression.operatorToken.kind];
    return operation === undefined ? Number.NaN : operation(of(expression.left), of(expression.right));
  }
  if (ts.isPropertyAccessExpression(expression) && expression.name.text === 'MAX_SAFE_INTEGER')
    return Number.MAX_SAFE_INTEGER;
  if (!ts.isIdentifier(expression)) return Number.NaN;
  const found = definition(file, expression.text);
  return found === undefined ? Number.NaN : evaluate(found);
}

/** The value of `NAME` or `NAME.field`; undefined if there is none, NaN if it takes more than arithmetic to tell. */
async function valueOf(file, path) {
  const [name, field] = path.split('.');
  const found = definition(file, name);
  if (found === undefined) return undefined;
  const property =
    field === undefined || !ts.isObjectLiteralExpression(found.expression)
      ? undefined
      : found.expression.properties.find((each) => ts.isPropertyAssignment(each) && each.name.text === field);
  if (field !== undefined && property === undefined) return undefined;
  const value = evaluate(property === undefined ? found : { file: found.file, expression: property.initializer });
  if (!Number.isNaN(value) || field !== undefined) return value;
  // Made by calls: a module can say it itself, if it exports the constant.
  const exported = (await import(pathToFileURL(join(ROOT, file)).href))[name];
  return typeof exported === 'number' ? exported : Number.NaN;
}

/** The cells of all table rows with the header above them, and the line they stand on. */
function tableRows(text) {
  let header;
  return text.split('\n').flatMap((line, at) => {
    if (!line.startsWith('|')) {
      header = undefined;
      return [];
    }
    const cells = line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim());
    if (header === undefined) {
      header = cells;
      return [];
    }
    return /^[-: ]+$/.test(cells[0]) ? [] : [{ header, cells, line: at + 1 }];
  });
}

const inCode = (cell) => /^`([^`]+)`$/.exec(cell)?.[1];

async function compare(file, path, cell) {
  const stated = quantity(cell);
  if (stated === undefined) return `${path}: "${cell}" is no quantity`;
  if (!existsSync(join(ROOT, file))) return `${path}: ${file} does not exist`;
  const value = await valueOf(file, path);
  if (value === undefined) return `${path}: not in ${file}`;
  return value === stated ? undefined : `${path}: ${cell} here, ${value} in ${file}`;
}

/** `name: uint(most)` of the chain parameters' schema; uint() goes up to 2^53 - 1. */
function mostOf(name) {
  const fields = definition(PARAMS_FILE, 'chainParams').expression.arguments[0].properties;
  const field = fields.find((each) => each.name.text === name);
  if (field === undefined) return undefined;
  const most = field.initializer.arguments[0];
  return most === undefined ? Number.MAX_SAFE_INTEGER : evaluate({ file: PARAMS_FILE, expression: most });
}

async function parameterProblems([name, byDefault, least, most]) {
  const path = inCode(name);
  const stated = quantity(most);
  return [
    await compare(PARAMS_FILE, `DEFAULT_CHAIN_PARAMS.${path}`, byDefault),
    await compare(LEAST_FILE, `LEAST.${path}`, least),
    stated !== undefined && stated === mostOf(path) ? undefined : `${path}: the most is ${mostOf(path)}`,
  ];
}

function sources(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return sources(path);
    return entry.name.endsWith('.ts') ? [path] : [];
  });
}

/** Problems of docs/limits.md, one line each. */
export async function limitProblems() {
  const rows = tableRows(readFileSync(join(ROOT, DOCUMENT), 'utf8'));
  const listed = new Set();
  const problems = [];
  for (const { header, cells, line } of rows) {
    const found = [];
    if (header[0] === 'parameter') {
      listed.add(`${PARAMS_FILE} ${inCode(cells[0])}`);
      found.push(...(await parameterProblems(cells)));
    } else if (header[0] === 'name') {
      const [name, file] = [inCode(cells[0]), inCode(cells[header.indexOf('file')])];
      if (name === undefined || file === undefined) found.push('a row needs `NAME` and `file`');
      else {
        listed.add(`${file} ${name}`);
        found.push(await compare(file, name, cells[1]));
      }
    }
    problems.push(...found.filter(Boolean).map((problem) => `${DOCUMENT}:${line} ${problem}`));
  }
  for (const path of FOLDERS.flatMap((folder) => sources(join(ROOT, folder)))) {
    const file = relative(ROOT, path);
    for (const [, name] of readFileSync(path, 'utf8').matchAll(BOUND)) {
      if (!listed.has(`${file} ${name}`)) problems.push(`${DOCUMENT}: does not list ${name} of ${file}`);
    }
  }
  for (const each of definition(PARAMS_FILE, 'chainParams').expression.arguments[0].properties) {
    if (!listed.has(`${PARAMS_FILE} ${each.name.text}`)) problems.push(`${DOCUMENT}: does not list ${each.name.text}`);
  }
  return problems;
}
