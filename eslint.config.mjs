// Lint: what the types cannot say. Types and unused code are checked elsewhere (npm run check), layout by prettier, import
// walls by .dependency-cruiser.mjs.

import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

/** Folders whose results every replica must reproduce bit for bit. */
const PURE = ['common/**/*.ts', 'consensus/**/*.ts', 'vm/**/*.ts'];
const NATIVE = ['common/native/**/*.ts'];
const SHIPPED = ['common', 'config', 'consensus', 'vm', 'rpc', 'client', 'node'].map((folder) => `${folder}/**/*.ts`);
/** These run before the pinned Node is there, on whatever Node the machine has. */
const BOOTSTRAP = ['scripts/bootstrap.mjs', 'scripts/toolchain.mjs', 'scripts/emrchain.mjs'];

const globalsOf = (why, names) => names.map((name) => ({ name, message: why }));
const IMPURE_GLOBALS = [
  ...globalsOf('No clock here: time is an input.', ['Date', 'performance', 'Temporal']),
  ...globalsOf('No timers here: a timer is an effect.', [
    'setTimeout',
    'setInterval',
    'setImmediate',
    'queueMicrotask',
    'requestAnimationFrame',
  ]),
  ...globalsOf('No randomness here: it is an input.', ['crypto']),
  ...globalsOf('Pure code does not know what it runs on.', [
    'process',
    'Buffer',
    'global',
    'globalThis',
    'window',
    'self',
    'navigator',
    'require',
    'module',
    '__dirname',
    '__filename',
  ]),
  ...globalsOf('No input or output here.', ['console', 'fetch', 'WebSocket', 'EventSource', 'XMLHttpRequest']),
  ...globalsOf('The locale differs from one machine to the next.', ['Intl']),
  ...globalsOf('When the garbage collector runs is not ours to know.', ['WeakRef', 'FinalizationRegistry']),
  ...globalsOf('No shared memory here.', ['SharedArrayBuffer', 'Atomics']),
  ...globalsOf('No floats here.', ['parseFloat', 'Float16Array', 'Float32Array', 'Float64Array']),
];

/** Of Math only what is exact on integers remains: abs, ceil, clz32, floor, imul, max, min, round, sign, trunc. */
const INEXACT_MATH = (
  'acos acosh asin asinh atan atan2 atanh cbrt cos cosh exp expm1 f16round fround hypot log log10 log1p log2 pow ' +
  'random sin sinh sqrt sumPrecise tan tanh E LN10 LN2 LOG10E LOG2E PI SQRT1_2 SQRT2'
).split(' ');

const NO_ENUM = { selector: 'TSEnumDeclaration', message: 'Use a union of literals: enums are not erasable.' };
const PURE_SYNTAX = [
  NO_ENUM,
  { selector: 'ForInStatement', message: 'for-in walks inherited keys too: use Object.keys or Object.entries.' },
  {
    selector: 'MemberExpression[property.name=/^(toLocale.*|localeCompare|normalize)$/]',
    message: 'Locale and Unicode tables differ from one machine to the next.',
  },
  { selector: 'Literal[raw=/^[0-9_]*[.][0-9]|^[0-9_.]+[eE]-/]', message: 'No floats here: use integers.' },
  {
    selector: 'MemberExpression[object.name="Number"][property.name=/^(parseFloat|EPSILON|MIN_VALUE)$/]',
    message: 'No floats here.',
  },
  { selector: 'ImportExpression', message: 'Everything is loaded before the first step: import statically.' },
  { selector: 'MetaProperty[meta.name="import"]', message: 'Pure code does not know where it lies.' },
];
const SYNCHRONOUS_SYNTAX = [
  { selector: ':function[async=true]', message: 'A step is synchronous: what takes time is an effect.' },
  { selector: 'AwaitExpression', message: 'A step is synchronous: what takes time is an effect.' },
  { selector: 'ForOfStatement[await=true]', message: 'A step is synchronous: what takes time is an effect.' },
  { selector: 'Identifier[name="Promise"]', message: 'A step is synchronous: what takes time is an effect.' },
];

export default defineConfig(
  {
    // AssemblyScript is another language in the same clothes; what is generated is checked byte for byte (npm run check:sm2).
    ignores: [
      'node_modules/',
      '.tap/',
      'dist/',
      'coverage/',
      '.devnet*/',
      'common/crypto/sm2-engine/assembly/',
      'common/crypto/sm3-lanes/assembly/',
      '**/*.generated.ts',
    ],
  },
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  {
    files: ['**/*.ts', '**/*.mjs'],
    rules: {
      'array-callback-return': 'error',
      'default-case-last': 'error',
      eqeqeq: 'error',
      'for-direction': 'error',
      'no-async-promise-executor': 'error',
      'no-caller': 'error',
      'no-cond-assign': 'error',
      'no-constant-binary-expression': 'error',
      'no-constant-condition': ['error', { checkLoops: 'allExceptWhileTrue' }],
      'no-constructor-return': 'error',
      'no-control-regex': 'error',
      'no-debugger': 'error',
      'no-dupe-else-if': 'error',
      'no-duplicate-case': 'error',
      'no-else-return': 'error',
      'no-empty': 'error',
      'no-eval': 'error',
      'no-extend-native': 'error',
      'no-fallthrough': 'error',
      'no-lonely-if': 'error',
      'no-loss-of-precision': 'error',
      'no-new-wrappers': 'error',
      'no-prototype-builtins': 'error',
      'no-restricted-syntax': ['error', NO_ENUM],
      'no-return-assign': 'error',
      'no-self-compare': 'error',
      'no-sparse-arrays': 'error',
      'no-template-curly-in-string': 'error',
      'no-unmodified-loop-condition': 'error',
      'no-unreachable-loop': ['error', { ignore: ['ForOfStatement'] }],
      'no-unsafe-finally': 'error',
      'no-unsafe-optional-chaining': 'error',
      'no-useless-catch': 'error',
      'no-useless-rename': 'error',
      'no-var': 'error',
      'object-shorthand': 'error',
      'prefer-const': 'error',
      radix: 'error',
      'use-isnan': 'error',
      'valid-typeof': 'error',
      yoda: 'error',
    },
  },
  {
    files: ['**/*.ts'],
    plugins: { '@typescript-eslint': tseslint.plugin },
    languageOptions: {
      parser: tseslint.parser,
      parserOptions: { project: './tsconfig.json', tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      '@typescript-eslint/await-thenable': 'error',
      '@typescript-eslint/ban-ts-comment': ['error', { 'ts-expect-error': 'allow-with-description' }],
      '@typescript-eslint/consistent-type-assertions': ['error', { assertionStyle: 'as' }],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-array-delete': 'error',
      '@typescript-eslint/no-base-to-string': 'error',
      '@typescript-eslint/no-duplicate-type-constituents': 'error',
      '@typescript-eslint/no-empty-object-type': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-for-in-array': 'error',
      '@typescript-eslint/no-implied-eval': 'error',
      '@typescript-eslint/no-import-type-side-effects': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/no-namespace': 'error',
      '@typescript-eslint/no-non-null-assertion': 'error',
      '@typescript-eslint/no-require-imports': 'error',
      '@typescript-eslint/no-shadow': ['error', { hoist: 'never' }],
      '@typescript-eslint/no-unnecessary-type-assertion': 'error',
      '@typescript-eslint/no-unsafe-argument': 'error',
      '@typescript-eslint/no-unsafe-assignment': 'error',
      '@typescript-eslint/no-unsafe-call': 'error',
      '@typescript-eslint/no-unsafe-function-type': 'error',
      '@typescript-eslint/no-unsafe-member-access': 'error',
      '@typescript-eslint/no-unsafe-return': 'error',
      '@typescript-eslint/no-unused-expressions': 'error',
      '@typescript-eslint/no-unused-vars': [
        'error',
        { argsIgnorePattern: '^_', varsIgnorePattern: '^_$', ignoreRestSiblings: true },
      ],
      '@typescript-eslint/no-wrapper-object-types': 'error',
      '@typescript-eslint/only-throw-error': 'error',
      '@typescript-eslint/prefer-promise-reject-errors': 'error',
      '@typescript-eslint/require-array-sort-compare': ['error', { ignoreStringArrays: true }],
      '@typescript-eslint/restrict-plus-operands': 'error',
      '@typescript-eslint/return-await': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true, requireDefaultForNonUnion: true },
      ],
      '@typescript-eslint/unbound-method': 'error',
    },
  },
  {
    files: SHIPPED,
    ignores: ['client/cli/**/*.ts'],
    rules: { 'no-console': 'error' },
  },
  {
    files: PURE,
    ignores: NATIVE,
    rules: {
      'no-restricted-globals': ['error', ...IMPURE_GLOBALS],
      'no-restricted-properties': [
        'error',
        ...INEXACT_MATH.map((property) => ({ object: 'Math', property, message: 'Not exact on integers.' })),
      ],
      'no-restricted-syntax': ['error', ...PURE_SYNTAX],
    },
  },
  {
    files: ['consensus/**/*.ts', 'vm/**/*.ts'],
    rules: {
      'no-restricted-syntax': ['error', ...PURE_SYNTAX, ...SYNCHRONOUS_SYNTAX],
    },
  },
  {
    files: ['test/**/*.ts'],
    rules: {
      '@typescript-eslint/no-non-null-assertion': 'off',
      // tap's subtests return promises that the parent awaits by itself.
      '@typescript-eslint/no-floating-promises': 'off',
      // Assertion methods of `t` are bound by tap.
      '@typescript-eslint/unbound-method': 'off',
      '@typescript-eslint/no-shadow': 'off',
      // Answers of a server are JSON: a test that reads a field which is not there fails, which is what it is for.
      '@typescript-eslint/no-unsafe-member-access': 'off',
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-argument': 'off',
      '@typescript-eslint/no-unsafe-return': 'off',
      '@typescript-eslint/no-unsafe-call': 'off',
      '@typescript-eslint/no-explicit-any': 'off',
    },
  },
  {
    files: BOOTSTRAP,
    languageOptions: { ecmaVersion: 2022 },
  },
);
