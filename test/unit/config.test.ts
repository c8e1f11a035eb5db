/** Configuration and genesis files: what people write wrong is named by line, with what to write instead. */
import { readFile } from 'node:fs/promises';
import t from 'tap';
import { encode } from '../../common/codec.ts';
import { createNobleSigner } from '../../common/crypto/sm2.ts';
import { DEFAULT_CHAIN_PARAMS } from '../../common/protocol/chain-params.ts';
import { type Genesis, genesis, genesisHash } from '../../common/protocol/genesis.ts';
import { sortedValidatorSet } from '../../common/protocol/validator-set.ts';
import { ConfigError } from '../../config/document.ts';
import { formatGenesisFile, parseGenesisFile } from '../../config/genesis-file.ts';
import { parseNodeConfig } from '../../config/node-config.ts';
import { configurationDocument } from '../../scripts/configuration-docs.ts';

const PEERS = [
  '12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA',
  '12D3KooWQYV9dGMFoRzNStwpXztXaBUjtPqi6aU76ZgUriHhKust',
];

function signer(index: number) {
  const key = new Uint8Array(32).fill(index + 1);
  return createNobleSigner(key, (n) => new Uint8Array(n).fill(7));
}

function sample(): Genesis {
  const member = (i: number) => {
    const { publicKey, address } = signer(i);
    return { orgId: `hospital-${'ab'[i]}`, publicKey, address, peerId: PEERS[i] as string };
  };
  return {
    version: 1,
    network: 'test-net',
    timeMs: 1_790_000_000_000,
    params: DEFAULT_CHAIN_PARAMS,
    organisations: [
      { orgId: 'hospital-a', name: 'Hospital A', custodianKey: signer(10).publicKey },
      { orgId: 'hospital-b', name: 'Hospital B', custodianKey: null },
    ],
    validators: sortedValidatorSet([member(0), member(1)]),
    observers: [],
    accounts: [0, 1].map((i) => ({
      publicKey: signer(20 + i).publicKey,
      orgId: `hospital-${'ab'[i]}`,
      personTag: new Uint8Array(32).fill(i),
      roles: ['org_admin' as const],
    })),
    salt: new Uint8Array(16).fill(9),
  };
}

function problemsOf(run: () => unknown): readonly { line: number; path: string; message: string }[] {
  try {
    run();
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

t.test('genesis file', async (t) => {
  const value = sample();
  const written = formatGenesisFile(value);
  t.same(
    encode(genesis, parseGenesisFile('genesis.yaml', written)),
    encode(genesis, value),
    'reads back what it wrote',
  );

  const changed = parseGenesisFile('genesis.yaml', written.replace('maxBlockTxs: 2000', 'maxBlockTxs: 2001'));
  t.notSame(genesisHash(changed), genesisHash(value), 'any change is another chain');

  const lineOf = (text: string, part: string) => text.slice(0, text.indexOf(part)).split('\n').length;
  const cases: [name: string, edit: (s: string) => string, path: string, says: RegExp][] = [
    [
      'unknown setting',
      (s) => s.replace('network: test-net', 'network: test-net\nquorum: 1'),
      'quorum',
      /no such setting/,
    ],
    ['bad hex', (s) => s.replace(/salt: "0x../, 'salt: "0xZZ'), 'salt', /0x and 32 lower-case hex digits/],
    [
      'unknown organisation',
      (s) => s.replace(/(validators:\n {2}- orgId: )hospital-\w/, '$1hospital-z'),
      'validators.0.orgId',
      /add it under organisations/,
    ],
    [
      'a parameter out of its bounds',
      (s) => s.replace('viewTimeoutMs: 1000', 'viewTimeoutMs: 1'),
      'params.viewTimeoutMs',
      /at least 50/,
    ],
    [
      'a parameter far too large',
      (s) => s.replace('maxBlockTxs: 2000', 'maxBlockTxs: 99999999'),
      'params.maxBlockTxs',
      /larger/,
    ],
  ];
  for (const [name, edit, path, says] of cases) {
    const source = edit(written);
    t.not(source, written, `${name}: the case edits something`);
    const problems = problemsOf(() => parseGenesisFile('genesis.yaml', source));
    const found = problems.find((p) => p.path === path);
    t.match(found?.message ?? '', says, name);
    const key = path.split('.').at(-1) as string;
    if (!path.startsWith('validators')) t.equal(found?.line, lineOf(source, `${key}:`), `${name}: names its line`);
  }
  const offCurve = written.replace(
    /(publicKey: "0x)..(.{126})/,
    (_, before: string, after: string) => `${before}00${after}`,
  );
  t.match(problemsOf(() => parseGenesisFile('g', offCurve))[0]?.message ?? '', /not a point/, 'a key off the curve');
  const noAdmin = written.replace('roles:\n      - org_admin', 'roles: []');
  t.match(problemsOf(() => parseGenesisFile('g', noAdmin))[0]?.message ?? '', /nobody could vote/, 'nobody to vote');
  const twice = written.replaceAll(PEERS[0] as string, PEERS[1] as string);
  t.match(problemsOf(() => parseGenesisFile('g', twice))[0]?.message ?? '', /same peer id/, 'one peer id twice');
  t.match(problemsOf(() => parseGenesisFile('g', 'a: [1, 2'))[0]?.message ?? '', /not valid YAML/, 'broken YAML');
  t.match(problemsOf(() => parseGenesisFile('g', 'a: &x 1\nb: *x'))[0]?.message ?? '', /aliases/, 'aliases');
});

t.test('node configuration', async (t) => {
  const empty = parseNodeConfig('config.yaml', '', '/srv/node');
  t.equal(empty.rpc.host, '127.0.0.1', 'binds to loopback by default');
  t.same(empty.network.listen, ['/ip4/127.0.0.1/tcp/7600']);
  t.equal(empty.rpc.openReads, false);
  t.equal(empty.keys.validator, '/srv/node/keys/validator.json', 'relative paths are those of the folder');
  t.equal(empty.ipfs.kind, 'embedded');

  const problems = problemsOf(() =>
    parseNodeConfig('config.yaml', 'rpc:\n  port: 70000\n  hots: x\nlog:\n  level: loud\n', '/'),
  );
  t.same(
    problems.map((p) => `${p.path} ${p.line}`).sort((a, b) => (a < b ? -1 : 1)),
    ['log.level 5', 'rpc.hots 3', 'rpc.port 2'],
    'all at once, each with its line',
  );
  t.match(
    problemsOf(() => parseNodeConfig('c', 'rpc: {host: 0.0.0.0, openReads: true}', '/'))[0]?.message ?? '',
    /use tokens/,
  );
  t.match(
    problemsOf(() => parseNodeConfig('c', 'network: {peers: [/ip4/10.0.0.1/tcp/7600]}', '/'))[0]?.message ?? '',
    /p2p/,
    'a peer needs its id',
  );
  t.match(
    problemsOf(() => parseNodeConfig('c', 'consensus: {quorum: 1}', '/'))[0]?.message ?? '',
    /no such setting/,
    'no consensus parameter is local',
  );
});

t.test('docs/configuration.md is what the schemas say', async (t) => {
  const written = await readFile(new URL('../../docs/configuration.md', import.meta.url), 'utf8');
  t.equal(written, await configurationDocument(), 'run node scripts/configuration-docs.ts');
});
