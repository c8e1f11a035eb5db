/** Configuration and genesis files: what people write wrong is named by line, with what to write instead. */
import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Ajv } from 'ajv';
import t from 'tap';
import { stringify } from 'yaml';
import { bytesToHex0x, utf8 } from '../../common/bytes.ts';
import { encode } from '../../common/codec.ts';
import { createNobleSigner } from '../../common/crypto/sm2.ts';
import { DEFAULT_CHAIN_PARAMS } from '../../common/protocol/chain-params.ts';
import { type Genesis, genesis, genesisHash } from '../../common/protocol/genesis.ts';
import { sortedValidatorSet } from '../../common/protocol/validator-set.ts';
import { ConfigError } from '../../config/document.ts';
import { formatGenesisFile, genesisSchema, parseGenesisFile } from '../../config/genesis-file.ts';
import { genesisFromCards, type MemberCard, memberCardSchema, parseMemberCard } from '../../config/member-card.ts';
import { nodeConfigSchema, parseNodeConfig } from '../../config/node-config.ts';
import { type MethodDefinition, METHODS } from '../../rpc/methods.ts';
import { object } from '../../rpc/schema.ts';
import { initHospital } from '../../node/init/hospital.ts';
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

t.test('addresses and paths are checked when the file is read, not when the node dials', async (t) => {
  const [id] = PEERS as [string];
  const ofPeers = (address: string) => () => parseNodeConfig('c', `network: {peers: ["${address}"]}`, '/');
  const ofListen = (address: string) => () => parseNodeConfig('c', `network: {listen: ["${address}"]}`, '/');
  for (const host of ['/ip4/192.0.2.7', '/ip6/2001:db8::7', '/dns4/node.hospital-b.example', '/dns/localhost']) {
    t.same(problemsOf(ofPeers(`${host}/tcp/7600/p2p/${id}`)), [], `a member at ${host}`);
    t.same(problemsOf(ofListen(`${host}/tcp/0`)), [], `listening on ${host}`);
  }
  const hosts = [
    '/ip4/192.0.2.300',
    '/ip4/node.example',
    '/ip6/192.0.2.1',
    '/ip6/::g',
    '/dns4/-a',
    '/dns4/a b',
    '/unix/x',
  ];
  for (const host of hosts) {
    t.ok(problemsOf(ofPeers(`${host}/tcp/7600/p2p/${id}`)).length > 0, `no member at ${host}`);
    t.ok(problemsOf(ofListen(`${host}/tcp/7600`)).length > 0, `no listening on ${host}`);
  }
  const cut = id.slice(0, -1);
  for (const tail of ['/tcp/0', '/tcp/65536', '/udp/7600', '/tcp/7600/p2p/']) {
    t.ok(problemsOf(ofPeers(`/ip4/192.0.2.7${tail}/p2p/${id}`)).length > 0, `no member at ${tail}`);
  }
  for (const peerId of [cut, `${cut}0`, `${id}1`, '1'.repeat(40), 'QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPbdG']) {
    t.ok(problemsOf(ofPeers(`/ip4/192.0.2.7/tcp/1/p2p/${peerId}`)).length > 0, `no peer id: ${peerId}`);
  }
  t.ok(problemsOf(ofListen(`/ip4/0.0.0.0/tcp/1/p2p/${id}`)).length > 0, 'whoever listens has one id, which is known');

  const socket = (path: string, dir: string) => () => parseNodeConfig('c', `custodian: {socket: ${path}}`, dir);
  t.same(problemsOf(socket('custodian.sock', `/${'d'.repeat(87)}`)), [], 'a path of 103 bytes');
  t.match(
    problemsOf(socket('custodian.sock', `/${'d'.repeat(88)}`)),
    [{ path: 'custodian.socket', message: /longer than 103 bytes.*shorter absolute path/ }],
    'one more is refused, whatever folder the node is in',
  );
  t.equal(problemsOf(socket('custodian.sock', `/${'\u533b'.repeat(40)}`)).length, 1, 'bytes count, not characters');
  t.same(problemsOf(socket('/run/c.sock', `/${'d'.repeat(200)}`)), [], 'an absolute path is what it is');

  const several = `network: {listen: [/ip4/1.2.3.400/tcp/1], peers: [/ip4/1.2.3.4/tcp/70000/p2p/${id}]}\nrpc: {host: 0.0.0.0, openReads: true}`;
  t.same(
    problemsOf(() => parseNodeConfig('c', several, '/')).map(({ path }) => path),
    ['network.listen.0', 'network.peers.0', 'rpc.openReads'],
    'all at once',
  );
  t.same(
    problemsOf(() => parseNodeConfig('c', 'custodian: {sock: x}', '/')).map(({ message }) => message),
    [
      'the setting "socket" is missing; write null, or socket: and a path below it',
      'there is no such setting; known here: socket',
    ],
    'a choice between null and something tells how to write something',
  );
});

t.test('files of strangers are refused in time, whatever is in them', async (t) => {
  const hostile: [string, string, RegExp][] = [
    ['deep lists', '['.repeat(100_000), /nested far too deeply/],
    ['deep maps', '{a: '.repeat(50_000), /nested far too deeply/],
    ['deep lists in a line', '- '.repeat(3_000), /nested far too deeply/],
    ['deep keys in a line', '? '.repeat(3_000), /nested far too deeply/],
    ['deep indentation', `${' '.repeat(201)}a: 1`, /nested far too deeply/],
    ['a billion laughs', 'a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]', /aliases are not accepted/],
    ['a tag', 'network: !!js/function "return 1"', /Unresolved tag/],
    ['an unknown tag', '!member {orgId: x}', /Unresolved tag/],
    ['two documents', 'a: 1\n---\nb: 2', /multiple documents/],
    ['another YAML', '%YAML 3.0\n---\na: 1', /Unsupported YAML version/],
    ['one key twice', 'orgId: a\norgId: b', /unique/],
    ['a prototype', '__proto__: {orgId: a}', /no such setting/],
    ['a key that is a list', '? [a, b]\n: c', /no such setting/],
    ['no map', '- a', /must be object/],
    ['a megabyte', 'a'.repeat(1024 * 1024 + 1), /larger than 1 MiB/],
  ];
  for (const [name, source, says] of hostile) {
    const problems = problemsOf(() => parseMemberCard('member.yaml', source));
    t.ok(
      problems.some(({ message }) => says.test(message)),
      `${name}: ${problems[0]?.message}`,
    );
    t.ok(problems.length <= 50);
  }
  t.equal(parseNodeConfig('c', '# nothing is set here\n', '/').rpc.port, 8545, 'comments alone set nothing');
});

function cardOf(index: number): MemberCard {
  const letter = 'ab'.charAt(index);
  return {
    orgId: `hospital-${letter}`,
    name: `Hospital ${letter}`,
    address: `/dns4/node.${letter}.example/tcp/7600/p2p/${PEERS[index]}`,
    validator: { publicKey: bytesToHex0x(signer(index).publicKey), peerId: PEERS[index] as string },
    custodianKey: bytesToHex0x(signer(10 + index).publicKey),
    admin: {
      publicKey: bytesToHex0x(signer(20 + index).publicKey),
      personTag: bytesToHex0x(new Uint8Array(32).fill(index + 1)),
    },
  };
}

t.test('member cards, and the genesis that is made of them', async (t) => {
  const cards = [cardOf(0), cardOf(1)] as const;
  const [a, b] = cards;
  for (const card of cards) t.same(parseMemberCard('member.yaml', stringify(card)), card);
  const { custodianKey, ...without } = a;
  t.same(parseMemberCard('member.yaml', stringify(without)), without, 'a hospital without custodian');

  const offCurve = `0x${'11'.repeat(64)}`;
  const wrong: [string, unknown, string, RegExp][] = [
    [
      'a validator key off the curve',
      { ...a, validator: { ...a.validator, publicKey: offCurve } },
      'validator.publicKey',
      /not a point/,
    ],
    ['a custodian key off the curve', { ...a, custodianKey: offCurve }, 'custodianKey', /not a point/],
    [
      'an administrator off the curve',
      { ...a, admin: { ...a.admin, publicKey: offCurve } },
      'admin.publicKey',
      /not a point/,
    ],
    ['one key for two purposes', { ...a, custodianKey: a.validator.publicKey }, '', /one key stands here twice/],
    [
      'a peer id that is none',
      { ...a, validator: { ...a.validator, peerId: 'x'.repeat(52) } },
      'validator.peerId',
      /Ed25519/,
    ],
    ['the address of another peer', { ...a, address: b.address }, 'address', /another peer id/],
    ['an address without port', { ...a, address: a.address.replace('/7600', '/0') }, 'address', /not an address/],
    ['a setting that there is not', { ...a, roles: ['org_admin'] }, 'roles', /no such setting/],
    ['a name that would be another organisation', { ...a, orgId: 'Hospital A' }, 'orgId', /short lower-case name/],
  ];
  for (const [name, card, path, says] of wrong) {
    const problems = problemsOf(() => parseMemberCard('member.yaml', stringify(card)));
    t.ok(
      problems.some((p) => p.path === path && says.test(p.message)),
      `${name}: ${problems[0]?.message}`,
    );
  }

  const network = {
    name: 'test-net',
    timeMs: 1_790_000_000_000,
    params: DEFAULT_CHAIN_PARAMS,
    salt: new Uint8Array(16).fill(9),
  };
  const made = genesisFromCards(cards, network);
  const readBack = parseGenesisFile('genesis.yaml', formatGenesisFile(made));
  t.same(encode(genesis, readBack), encode(genesis, made), 'the file says the same');
  t.same(
    genesisHash(genesisFromCards([b, a], network)).length === 32 && made.validators.map(({ orgId }) => orgId).sort(),
    ['hospital-a', 'hospital-b'],
  );
  t.same(
    made.accounts.map(({ roles }) => roles),
    [
      ['org_admin', 'registrar'],
      ['org_admin', 'registrar'],
    ],
  );
  t.notSame(
    genesisHash(genesisFromCards(cards, { ...network, salt: new Uint8Array(16) })),
    genesisHash(made),
    'another salt is another chain',
  );

  const twice: [string, MemberCard, RegExp][] = [
    ['the same card', a, /hospital-a has the same orgId/],
    ['one organisation', { ...b, orgId: a.orgId }, /same orgId/],
    ['one peer', { ...b, validator: { ...b.validator, peerId: a.validator.peerId } }, /same validator.peerId/],
    [
      'one validator key',
      { ...b, validator: { ...b.validator, publicKey: a.validator.publicKey } },
      /same validator.publicKey/,
    ],
    ["another's custodian", { ...b, custodianKey: a.custodianKey as string }, /same custodianKey/],
    ["a custodian that is another's validator", { ...b, custodianKey: a.validator.publicKey }, /same custodianKey/],
    ['one administrator', { ...b, admin: a.admin }, /same admin.publicKey/],
    ['one person', { ...b, admin: { ...b.admin, personTag: a.admin.personTag } }, /same admin.personTag/],
  ];
  for (const [name, other, says] of twice) {
    const problems = problemsOf(() => genesisFromCards([a, other], network));
    t.ok(
      problems.some(({ message }) => says.test(message)),
      `${name}: ${problems[0]?.message}`,
    );
  }
  t.ok(custodianKey);
});

t.test('a hospital is set up whole or not at all', async (t) => {
  const options = {
    dir: join(t.testdir({}), 'a'),
    orgId: 'hospital-a',
    name: 'Hospital A',
    publicAddress: '/ip4/192.0.2.7/tcp/7600',
    config: { custodian: { socket: '/run/custodian.sock' } },
    admin: { publicKey: signer(20).publicKey, personTag: new Uint8Array(32).fill(1) },
    custodian: true,
    passphrase: utf8('a passphrase for tests'),
  };
  const nothing = async (): Promise<boolean> => (await readdir(dirname(options.dir))).length === 0;
  const bad: [string, Partial<typeof options>][] = [
    ['a name that is none', { orgId: 'Hospital A' }],
    ['an address that is none', { publicAddress: '/ip4/192.0.2.700/tcp/7600' }],
    ['an administrator off the curve', { admin: { ...options.admin, publicKey: new Uint8Array(64).fill(1) } }],
    ['a configuration that is none', { config: { custodian: { socket: '' } } }],
    ['a custodian without socket', { config: {} as typeof options.config }],
    ['a socket without custodian', { custodian: false }],
  ];
  for (const [name, change] of bad) {
    await t.rejects(initHospital({ ...options, ...change }), { code: /^(CONFIG_INVALID|INIT_CUSTODIAN)$/ }, name);
    t.ok(await nothing(), 'nothing was written');
  }
  const card = await initHospital(options);
  t.same(parseMemberCard('member.yaml', await readFile(join(options.dir, 'member.yaml'), 'utf8')), card);
  for (const name of ['keys/validator.json', 'keys/peer.json', 'keys/custodian.json', 'config.yaml']) {
    t.equal((await stat(join(options.dir, name))).mode & 0o077, 0, `${name} is its owner's`);
  }
  const before = await readFile(join(options.dir, 'keys/validator.json'), 'utf8');
  await t.rejects(initHospital(options), { code: 'INIT_EXISTS' });
  for (const name of ['config.yaml', 'member.yaml']) await rm(join(options.dir, name));
  await t.rejects(initHospital(options), { code: 'SECRET_FILE_EXISTS' }, 'a key is never replaced');
  t.equal(await readFile(join(options.dir, 'keys/validator.json'), 'utf8'), before);
});

t.test('docs/configuration.md is what the schemas say', async (t) => {
  const written = await readFile(new URL('../../docs/configuration.md', import.meta.url), 'utf8');
  t.equal(written, await configurationDocument(), 'run node scripts/configuration-docs.ts');
});

t.test('schemas, which no start checks again, are schemas', (t) => {
  const ajv = new Ajv({ strict: true, strictRequired: false });
  for (const [name, schema] of Object.entries({ nodeConfigSchema, genesisSchema, memberCardSchema }))
    t.ok(ajv.validateSchema(schema), `${name}: ${ajv.errorsText()}`);
  for (const [name, { params, result }] of Object.entries<MethodDefinition>(METHODS)) {
    t.ok(ajv.validateSchema(object(params).json), `parameters of ${name}: ${ajv.errorsText()}`);
    t.ok(ajv.validateSchema(result.json), `result of ${name}: ${ajv.errorsText()}`);
  }
  t.end();
});
