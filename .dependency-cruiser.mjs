// The import walls: which folder may import which (ARCHITECTURE.md has the same table in words). `npm run check:imports`.
// A wall that is in the way is a design question, not a configuration one: write an ADR before opening one here.

/** folder -> folders of ours that it may import; `types`: only with `import type`. A folder may always import itself. */
const WALLS = {
  common: { values: [], types: [] },
  config: { values: ['common'], types: [] },
  consensus: { values: ['common'], types: [] },
  vm: { values: ['common'], types: [] },
  rpc: { values: ['common'], types: ['config', 'vm'] },
  client: { values: ['common', 'config', 'rpc/methods'], types: ['rpc'] },
  node: { values: ['common', 'config', 'consensus', 'vm', 'rpc'], types: [] },
  scripts: { values: ['common', 'config', 'consensus', 'vm', 'rpc', 'client', 'node'], types: [] },
};

/** What the folders that run anywhere, a browser included, may take from npm. sm-crypto: one engine and the oracle. */
const COMMON_PACKAGES = ['@noble/curves', '@ipld/dag-cbor', 'multiformats', 'sm-crypto'];

const OURS = ['common', 'config', 'consensus', 'vm', 'rpc', 'client', 'node', 'scripts', 'test'];
const anyOf = (names) => `^(${names.join('|')})/`;

function wall([folder, { values, types }]) {
  const reachable = [folder, ...values, ...types];
  const forbidden = {
    name: `wall-${folder}`,
    severity: 'error',
    comment: `${folder}/ imports of ours only: ${[folder, ...values].join(', ')}${types.length > 0 ? `; as types: ${types.join(', ')}` : ''}`,
    from: { path: `^${folder}/` },
    to: { path: anyOf(OURS), pathNot: reachable.map((name) => `^${name}[/.]`) },
  };
  if (types.length === 0) return [forbidden];
  const asValues = {
    name: `wall-${folder}-types`,
    severity: 'error',
    comment: `${folder}/ imports ${types.join(', ')} with "import type" only`,
    from: { path: `^${folder}/` },
    to: { path: anyOf(types), pathNot: values.map((name) => `^${name}[/.]`), dependencyTypesNot: ['type-only'] },
  };
  return [forbidden, asValues];
}

/** @type {import('dependency-cruiser').IConfiguration} */
export default {
  forbidden: [
    ...Object.entries(WALLS).flatMap(wall),
    {
      name: 'node-builtins',
      severity: 'error',
      comment:
        'Only node/, client/, config/, common/native/, scripts/, test/ and the server in rpc/ know that they run on Node; rpc/methods does not.',
      from: { path: anyOf(OURS), pathNot: '^(node|client|config|common/native|scripts|test)/|^rpc/(?!methods)' },
      to: { dependencyTypes: ['core'] },
    },
    {
      name: 'native-is-for-node',
      severity: 'error',
      comment: 'common/native/ needs Node; the pure folders and rpc/ must not reach it.',
      from: { path: anyOf(OURS), pathNot: '^(node|client|config|common/native|scripts|test)/' },
      to: { path: '^common/native/' },
    },
    {
      name: 'pure-without-packages',
      severity: 'error',
      comment: 'consensus/ and vm/ use no package of npm: what replicas compute depends on our code alone.',
      from: { path: '^(consensus|vm)/' },
      to: { dependencyTypes: ['npm', 'npm-dev', 'npm-optional', 'npm-peer', 'npm-no-pkg', 'npm-unknown'] },
    },
    {
      name: 'common-packages',
      severity: 'error',
      comment: `common/ (except common/native/) takes from npm only: ${COMMON_PACKAGES.join(', ')}`,
      from: { path: '^common/', pathNot: '^common/native/' },
      to: {
        path: 'node_modules/',
        pathNot: COMMON_PACKAGES.map((name) => `node_modules/(@types/)?${name}/`),
      },
    },
    {
      name: 'no-dev-packages',
      severity: 'error',
      comment: 'What runs in a hospital must not need a devDependency.',
      from: { path: '^(common|config|consensus|vm|rpc|client|node)/' },
      to: { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['type-only'], pathNot: 'node_modules/@types/' },
    },
    {
      name: 'no-undeclared-packages',
      severity: 'error',
      comment: 'Every imported package stands in package.json.',
      from: { path: anyOf(OURS) },
      to: { dependencyTypes: ['npm-no-pkg', 'npm-unknown'] },
    },
    {
      name: 'no-unresolved',
      severity: 'error',
      comment: 'The imported file or package does not exist.',
      from: { path: anyOf(OURS) },
      to: { couldNotResolve: true },
    },
    {
      name: 'no-tests-in-code',
      severity: 'error',
      comment: 'Nothing that ships imports a test or its tools.',
      from: { path: anyOf(OURS), pathNot: '^test/' },
      to: { path: '^test/' },
    },
    {
      name: 'no-cycles',
      severity: 'error',
      comment: 'Modules that import each other in a circle cannot be understood, or loaded, one at a time.',
      from: { path: anyOf(OURS) },
      to: { circular: true },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    // AssemblyScript: it imports only itself, and resolves names by its own rules.
    exclude: { path: '^common/crypto/(sm2-engine|sm3-lanes)/assembly/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default', 'types'],
      mainFields: ['module', 'main', 'types', 'typings'],
    },
    builtInModules: { add: [] },
  },
};
