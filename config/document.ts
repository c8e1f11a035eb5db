/**
 * Reads a YAML document that a person wrote, checks it against a schema, and says what is wrong by line and remedy.
 * What must not go in here: knowledge of any particular document.
 */
import { Ajv, type ErrorObject } from 'ajv';
import { isNode, LineCounter, parseDocument, type Document } from 'yaml';
import { EmrError } from '../common/errors.ts';

/** One thing to mend. `line` and `column` count from 1. */
export interface Problem {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  /** Dotted path of the setting, such as `rpc.port`. */
  readonly path: string;
  /** What is wrong, and what to write instead. */
  readonly message: string;
}

/** A document of people is small; a larger one is a mistake or an attack. */
const MAX_DOCUMENT_CHARACTERS = 1024 * 1024;
/** Levels of a document: the deepest of ours has five. The parser recurses, and its stack is not to be tried out. */
const MAX_FLOW_DEPTH = 64;
/** Columns before the first word of a line, markers of lists included: each level takes one or more. */
const MAX_INDENT_COLUMNS = 200;
/** YAML aliases can multiply a document; ours have no use for them. */
const MAX_ALIASES = 0;

/** A JSON schema object; `remedy` is our own keyword: a sentence that tells what to write. */
export interface Schema {
  readonly [keyword: string]: unknown;
}

const ajv = new Ajv({
  allErrors: true,
  useDefaults: true,
  strict: true,
  strictRequired: false,
  verbose: true,
  // Schemas are the program's own, and a test holds them to their meta-schema: a start need not do it again.
  meta: false,
  validateSchema: false,
});
ajv.addKeyword({ keyword: 'remedy', schemaType: 'string' });
// For documentation: bounds that are checked elsewhere, with a message of their own.
ajv.addKeyword({ keyword: 'least', schemaType: 'number' });
const compiled = new WeakMap<Schema, ReturnType<typeof ajv.compile>>();
/** Of a document that is none at all, the first problems say enough. */
const MAX_PROBLEMS = 50;
const MAX_SYNTAX_PROBLEMS = 5;

/** Thrown when a document cannot be used; `problems` has every finding at once. */
export class ConfigError extends EmrError {
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[]) {
    super('CONFIG_INVALID', problems.map(formatProblem).join('\n'), { problems: problems.length });
    this.problems = problems;
  }
}

export function formatProblem(p: Problem): string {
  return `${p.file}:${p.line}:${p.column}: ${p.path === '' ? '' : `${p.path}: `}${p.message}`;
}

/** A checked document and a way to point at the line of any of its settings. */
export interface Checked<T> {
  readonly value: T;
  problem(path: readonly (string | number)[], message: string): Problem;
}

/**
 * Parses and validates. Defaults of the schema are filled in.
 * @param file name for messages
 * @throws ConfigError with every problem found
 */
export function checkDocument<T>(file: string, source: string, schema: Schema): Checked<T> {
  if (source.length > MAX_DOCUMENT_CHARACTERS) {
    throw new ConfigError([{ file, line: 1, column: 1, path: '', message: 'the file is larger than 1 MiB' }]);
  }
  if (isTooDeep(source)) {
    const message = 'nested far too deeply; this is no file of ours';
    throw new ConfigError([{ file, line: 1, column: 1, path: '', message }]);
  }
  const lines = new LineCounter();
  const document = parseDocument(source, {
    lineCounter: lines,
    strict: true,
    uniqueKeys: true,
    prettyErrors: false,
    logLevel: 'error',
  });
  const at = (path: readonly (string | number)[], message: string): Problem => {
    const { line, column } = locate(document, lines, path);
    return { file, line, column, path: path.join('.'), message };
  };
  // Warnings are tags and directives that mean nothing here, and so not what their author thinks.
  const broken = [...document.errors, ...document.warnings];
  if (broken.length > 0) {
    throw new ConfigError(
      broken.slice(0, MAX_SYNTAX_PROBLEMS).map((e) => {
        const { line, col } = lines.linePos(e.pos[0]);
        return {
          file,
          line: Math.max(1, line),
          column: Math.max(1, col),
          path: '',
          message: `not valid YAML: ${e.message}`,
        };
      }),
    );
  }
  let value: unknown;
  try {
    // A file without anything but comments is one in which nothing is set.
    value = (document.toJS({ maxAliasCount: MAX_ALIASES }) as unknown) ?? {};
  } catch {
    throw new ConfigError([at([], 'YAML aliases are not accepted; write the value out')]);
  }
  let validate = compiled.get(schema);
  if (validate === undefined) {
    validate = ajv.compile(schema);
    compiled.set(schema, validate);
  }
  if (!validate(value)) {
    const errors = (validate.errors ?? []).filter(saysWhatToMend);
    throw new ConfigError(errors.slice(0, MAX_PROBLEMS).map((e) => at(errorPath(e), errorMessage(e))));
  }
  return { value: value as T, problem: at };
}

/** Seen from the text alone, before the parser is. Brackets in quotes count as well: nobody has so many. */
function isTooDeep(source: string): boolean {
  let depth = 0;
  for (const [bracket] of source.matchAll(/[[\]{}]/g)) {
    depth = bracket === '[' || bracket === '{' ? depth + 1 : Math.max(0, depth - 1);
    if (depth > MAX_FLOW_DEPTH) return true;
  }
  return source
    .split('\n')
    .some((line) => (/^(?:[ \t]|[-?:](?=\s|$))*/.exec(line)?.[0].length ?? 0) > MAX_INDENT_COLUMNS);
}

/** Of a choice between null and something, the complaint that it is not null, and that nothing fits, help nobody. */
function saysWhatToMend({ keyword, params }: ErrorObject): boolean {
  return keyword !== 'anyOf' && !(keyword === 'type' && (params as { type: string }).type === 'null');
}

function errorPath(error: ErrorObject): (string | number)[] {
  const path: (string | number)[] = error.instancePath
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
    .map((part) => (/^\d+$/.test(part) ? Number(part) : part));
  if (error.keyword === 'additionalProperties') {
    path.push((error.params as { additionalProperty: string }).additionalProperty);
  }
  return path;
}

function errorMessage(error: ErrorObject): string {
  const remedy = (error.parentSchema as { remedy?: string } | undefined)?.remedy;
  const hint = remedy === undefined ? '' : `; ${remedy}`;
  switch (error.keyword) {
    case 'additionalProperties': {
      const known = Object.keys((error.parentSchema as { properties?: object } | undefined)?.properties ?? {});
      return `there is no such setting; known here: ${known.join(', ')}`;
    }
    case 'required':
      return `the setting "${(error.params as { missingProperty: string }).missingProperty}" is missing${hint}`;
    case 'enum':
      return `must be one of ${(error.params as { allowedValues: unknown[] }).allowedValues.join(', ')}${hint}`;
    default:
      return `${error.message ?? 'is not acceptable'}${hint}`;
  }
}

/** Line of the deepest node on `path` that is written in the document. */
function locate(
  document: Document,
  lines: LineCounter,
  path: readonly (string | number)[],
): { line: number; column: number } {
  for (let depth = path.length; depth >= 0; depth -= 1) {
    const node = depth === 0 ? document.contents : document.getIn(path.slice(0, depth), true);
    if (isNode(node) && node.range) {
      const { line, col } = lines.linePos(node.range[0]);
      return { line: Math.max(1, line), column: Math.max(1, col) };
    }
  }
  return { line: 1, column: 1 };
}
