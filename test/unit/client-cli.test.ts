/** The commands against a real RPC server: people with homes of their own, files from hand to hand. */
import '../untraced.ts';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { REFERENCE_FILE, REFERENCE_MARK, renderReference } from '../../client/cli/reference.ts';
import { COMMANDS } from '../../client/cli/registry.ts';
import { bytesToHex0x } from '../../common/bytes.ts';
import { ChainWorld } from '../integration/rpc-fixture.ts';
import { A, B, HOUR, owner, tag } from './vm-world.ts';
import { cli, ClientWorld, codeOf, PASSPHRASE, type Ran } from './client-world.ts';
import { readStatement } from '../../client/statements.ts';
import { createWasmEngine } from '../../common/crypto/sm2-engine/engine.ts';

t.test('docs/cli.md has the commands as they are', async (t) => {
  const text = readFileSync(REFERENCE_FILE, 'utf8');
  const made = text.slice(text.indexOf(REFERENCE_MARK) + REFERENCE_MARK.length + 2);
  t.equal(made, await renderReference(), 'run: node client/cli/reference.ts');
  t.same(
    COMMANDS.map(({ name }) => name).filter((name) => !made.includes(`## ${name}\n`)),
    [],
    'all of them',
  );
});

t.test('every command has help that loads its module alone', async (t) => {
  for (const { name } of COMMANDS)
    t.match(await cli([name, '--help']), { code: 0, out: new RegExp(`emrchain ${name}`) });
  const run = spawnSync(
    process.execPath,
    [
      '--input-type=module',
      '-e',
      `
    await import('${join(import.meta.dirname, '../../client/cli/command-line.ts')}');
    const { registerHooks } = await import('node:module');
    const loaded = [];
    registerHooks({ load(url, context, next) { loaded.push(url); return next(url, context); } });
    const { main } = await import('${join(import.meta.dirname, '../../client/cli/command-line.ts')}');
    await main(['keys', 'list', '--home', '/nonexistent'], { environment: {} });
    console.log(JSON.stringify(loaded.filter((url) => /node_modules/.test(url)).map((url) => url.split('node_modules/').pop().split('/')[0])));
  `,
    ],
    { encoding: 'utf8' },
  );
  t.notMatch(run.stdout, /ipfs|multiformats|ajv|yaml/, 'listing keys loads no IPFS library, no validator, no YAML');
});

t.test('people act from hand to hand', async (t) => {
  const world = new ChainWorld({ alice: { org: A, roles: ['physician'] } });
  world.patient('paula');
  world.pass(48 * HOUR);
  const clients = new ClientWorld(world);
  await clients.start();
  t.teardown(() => clients.stop());
  const folder = clients.folder();
  const passphrase = join(folder, 'passphrase');
  writeFileSync(passphrase, PASSPHRASE, { mode: 0o600 });
  const at = (name: string): string => join(folder, name);
  const person =
    (name: string) =>
    (args: readonly string[]): Promise<Ran> =>
      cli(
        ['--json', '--home', at(`home-${name}`), '--rpc', clients.url, ...args],
        { EMRCHAIN_PASSPHRASE_FILE: passphrase },
        clients.nowMs,
      );
  for (const name of ['admin@a', 'admin@b', 'alice', 'paula']) {
    world.people.set(name.replace('@', '-'), world.who(name));
    await clients.keystore(at(`home-${name}`), name.replace('@', '-'));
  }
  const [adminA, adminB, alice, paula, newcomer] = ['admin@a', 'admin@b', 'alice', 'paula', 'newcomer'].map(person) as [
    ReturnType<typeof person>,
    ReturnType<typeof person>,
    ReturnType<typeof person>,
    ReturnType<typeof person>,
    ReturnType<typeof person>,
  ];
  const done = (ran: Ran): Record<string, unknown> => {
    t.equal(ran.code, 0, ran.err);
    return ran.json;
  };
  let account = '';

  await t.test('enrolment: the person, a second organisation, the administrator', async (t) => {
    done(await newcomer(['keys', 'new', 'nina']));
    const ask = ['account', 'request', '--org', A, '--kind', 'staff', '--out', at('ask.json')];
    t.match((await newcomer(ask)).error, { code: 'PERSON_TAG_REQUIRED' });
    done(await newcomer([...ask, '--person-tag', bytesToHex0x(tag('nina'))]));
    t.match((await newcomer([...ask, '--person-tag', bytesToHex0x(tag('nina'))])).error, {
      code: 'SECRET_FILE_EXISTS',
    });
    t.match((await adminA(['account', 'enrol', at('ask.json')])).error, { code: 'COUNTERSIGNATURE_REQUIRED' });
    t.match((await newcomer(['account', 'countersign', at('ask.json'), '--out', at('x.json')])).error, {
      code: 'OWN_STATEMENT',
    });
    t.match(done(await adminB(['account', 'countersign', at('ask.json'), '--out', at('ok.json')])), {
      countersigned: true,
    });
    const enrolled = done(await adminA(['account', 'enrol', at('ok.json')]));
    t.match(enrolled, { organisation: A, kind: 'staff', tx: { proven: true } });
    account = String(enrolled['account']);
    t.match(done(await adminA(['role', 'grant', account, 'physician', '--for', '30d'])), {
      role: 'physician',
      orgId: A,
    });
    t.match(done(await newcomer(['account', 'show'])), {
      id: account,
      status: 'active',
      roles: [{ role: 'physician', current: true }],
    });
    t.match((await adminA(['role', 'grant', account, 'king'])).error, { code: 'ROLE_UNKNOWN' });
  });

  await t.test('a file that was changed on the way', async (t) => {
    const text = readFileSync(at('ok.json'), 'utf8');
    const engine = createWasmEngine();
    const read = async (change: (value: Record<string, unknown>) => void): Promise<string> => {
      const value = JSON.parse(text) as Record<string, unknown>;
      change(value);
      writeFileSync(at('changed.json'), JSON.stringify(value));
      return codeOf(readStatement(at('changed.json'), world.chainId, engine));
    };
    t.equal(await read(() => undefined), 'no error');
    t.equal(await read((v) => void (v['chainId'] = `0x${'00'.repeat(32)}`)), 'CHAIN_ID_MISMATCH');
    t.equal(await read((v) => void (v['possession'] = `0x${'01'.repeat(64)}`)), 'BAD_POSSESSION');
    t.equal(
      await read((v) => void (v['countersignature'] = String(v['countersignature']).replace(/..$/, '00'))),
      'BAD_COUNTERSIGNATURE',
    );
    t.equal(
      await read(
        (v) => void (v['statement'] = String(v['statement']).replace('686f73706974616c2d61', '686f73706974616c2d62')),
      ),
      'BAD_POSSESSION',
      'another hospital',
    );
    t.equal(await read((v) => void (v['statement'] = '0x00')), 'DOCUMENT_MALFORMED');
    t.equal(await read((v) => void (v['version'] = 2)), 'DOCUMENT_MALFORMED');
    t.equal(
      await read((v) => void (v['says'] = 'something else')),
      'no error',
      'only the canonical bytes are believed',
    );
  });

  await t.test('a policy, a record with consent, its history', async (t) => {
    writeFileSync(
      at('policy.yaml'),
      `organisation: ${A}\nrules:\n  - purposes: [TREAT]\n    requesters: [{ role: physician }]\n    for-at-most: 24h\n    approvals: owner\nchanged-by: owner\n`,
    );
    const { id } = done(await adminA(['policy', 'add', at('policy.yaml')]));
    t.match(done(await alice(['policy', 'show', String(id)])), { version: 1, document: { orgId: A } });
    t.match((await alice(['policy', 'show', `0x${'00'.repeat(32)}`])).error, { code: 'POLICY_UNKNOWN' });
    writeFileSync(at('scan.pdf'), 'the content');
    const patient = bytesToHex0x(world.who('paula').id);
    const token = `0x${'0c'.repeat(32)}`;
    const add = ['record', 'add', at('scan.pdf'), '--patient', patient, '--policy', String(id), '--category', token];
    t.match(done(await alice([...add, '--offer-out', at('offer.json')])), { state: 'offered', owner: patient });
    t.match((await alice(['record', 'consent', at('offer.json'), '--out', at('c.json')])).error, {
      code: 'OFFER_NOT_YOURS',
    });
    t.match(done(await paula(['record', 'consent', at('offer.json'), '--out', at('consent.json')])), {
      state: 'consented',
      keyChecked: true,
    });
    const written = done(await alice(['record', 'submit', at('offer.json'), '--consent', at('consent.json')]));
    t.match(written, { state: 'replicated', version: 1, replicas: [{ orgId: world.genesis.validators[1]!.orgId }] });
    const recordId = String(written['recordId']);
    t.match(done(await alice(['record', 'submit', at('offer.json'), '--consent', at('consent.json')])), { tx: null });
    t.match(done(await alice(['record', 'show', recordId])), { proven: true, view: 'full', latestVersion: 1 });
    const listed = await paula(['record', 'list']);
    t.match(JSON.parse(listed.out), [{ id: recordId }]);
    done(await paula(['record', 'get', recordId, '--own', '--out', at('own.pdf')]));
    t.equal(readFileSync(at('own.pdf'), 'utf8'), 'the content');
    t.match((await alice(['record', 'get', recordId, '--out', at('not.pdf')])).error, { code: 'NO_GRANT' });
    t.match(JSON.parse((await paula(['record', 'history', recordId])).out), [{ version: 1 }]);

    const asked = done(await newcomer(['access', 'request', recordId, '--purpose', 'TREAT', '--for', '1h']));
    t.match(asked, { status: 'pending', rule: 0 });
    t.match(done(await paula(['access', 'approve', String(asked['requestHash'])])), { status: 'granted' });
    t.match(done(await newcomer(['access', 'show', String(asked['requestHash'])])), {
      status: 'granted',
      explanation: { status: 'granted' },
    });
    t.match(JSON.parse((await newcomer(['access', 'list', '--active'])).out), [{ keyHere: true, status: 'granted' }]);
    t.match(done(await paula(['access', 'deliver', String(asked['requestHash'])])), { delivered: true });
    clients.node.knobs.release = async function* () {};
    t.match(done(await newcomer(['record', 'get', recordId, '--out', at('by-grant.pdf')])), {
      keyFrom: 'the owner',
      name: 'scan.pdf',
      contentType: 'application/pdf',
    });
    t.equal(readFileSync(at('by-grant.pdf'), 'utf8'), 'the content');
    t.match(done(await paula(['access', 'revoke', String(asked['requestHash'])])), { final: true, status: 'revoked' });
    t.match((await newcomer(['record', 'get', recordId, '--out', at('late.pdf')])).error, { code: 'GRANT_REVOKED' });
    const trail = JSON.parse((await paula(['audit', recordId])).out) as { type: string }[];
    t.same(
      trail.map(({ type }) => type),
      ['record.create', 'access.request', 'access.approve', 'access.granted', 'access.deliver', 'access.revoke'],
    );
  });

  await t.test('a key is rotated, and the account goes on', async (t) => {
    done(await newcomer(['keys', 'new', 'nina2']));
    t.match((await newcomer(['account', 'show'])).error, { code: 'KEY_NOT_NAMED' }, 'two keys: one must be named');
    t.match(done(await newcomer(['--as', 'nina', 'account', 'rotate', 'nina2'])), { account, key: 'nina2' });
    t.match(done(await newcomer(['--as', 'nina2', 'account', 'show'])), { id: account });
    t.match((await newcomer(['--as', 'nina', 'account', 'show'])).error, { code: 'KEY_NOT_CURRENT' });
    t.match(done(await adminA(['account', 'suspend', account, '--reason', 'left'])), { status: 'suspended' });
    t.match((await newcomer(['--as', 'nina2', 'account', 'show'])).error, {
      code: 'ACCOUNT_SUSPENDED',
      remedy: /reinstate/,
    });
    t.match(done(await adminA(['account', 'reinstate', account])), { status: 'active' });
  });

  await t.test('recovery: asked for with a new key, countersigned, opened, vetoed with the old one', async (t) => {
    const lost = bytesToHex0x(world.who('paula').id);
    done(await newcomer(['keys', 'new', 'fresh']));
    done(await newcomer(['--as', 'fresh', 'account', 'request-recovery', lost, '--out', at('recover.json')]));
    t.match((await adminA(['account', 'recover', at('recover.json')])).error, { code: 'COUNTERSIGNATURE_REQUIRED' });
    done(await adminB(['account', 'countersign', at('recover.json'), '--out', at('recover2.json')]));
    done(await adminA(['account', 'recover', at('recover2.json')]));
    t.match((await adminA(['account', 'complete-recovery', lost])).error, { code: 'RECOVERY_NOT_DUE' });
    done(await paula(['account', 'veto-recovery']));
    t.match((await adminA(['account', 'complete-recovery', lost])).error, { code: 'RECOVERY_NOT_PENDING' });
  });

  await t.test('blocks, their verification online and offline, governance, tokens', async (t) => {
    const status = done(await alice(['chain', 'status']));
    t.match(status, { network: 'test', height: world.head.header.height });
    t.match((await alice(['chain', 'pin', '--chain-id', `0x${'00'.repeat(32)}`])).error, { code: 'CHAIN_ID_MISMATCH' });
    t.match(done(await alice(['chain', 'block', '3'])), { verified: true, header: { height: 3 } });
    const held = done(await alice(['chain', 'verify', '--out', at('headers.json')]));
    t.equal(held['blocks'], world.head.header.height);
    const offline = await cli([
      'chain',
      'verify',
      '--json',
      '--bundle',
      at('headers.json'),
      '--chain-id',
      bytesToHex0x(world.chainId),
    ]);
    t.match(offline.json, { blocks: held['blocks'], head: held['head'] });
    const bundle = JSON.parse(readFileSync(at('headers.json'), 'utf8')) as { blocks: { certificate: string }[] };
    bundle.blocks[1]!.certificate = bundle.blocks[2]!.certificate;
    writeFileSync(at('broken.json'), JSON.stringify(bundle));
    t.match((await cli(['chain', 'verify', '--json', '--bundle', at('broken.json')])).error, {
      code: 'CHAIN_INVALID',
      message: /Block 2/,
    });

    const proposed = done(await adminA(['gov', 'propose', 'set-params', 'replicas=2']));
    done(await adminB(['gov', 'vote', String(proposed['id']), '--approve']));
    t.match(done(await adminA(['gov', 'show', String(proposed['id'])])), {
      status: 'open',
      votes: [{ orgId: B, approve: true }],
    });
    t.match((await adminA(['gov', 'propose', 'set-params', 'speed=2'])).error, { code: 'PARAM_UNKNOWN' });
    t.match((await adminA(['gov', 'vote', String(proposed['id'])])).error, { code: 'USAGE' });
    t.match(JSON.parse((await adminA(['org', 'list'])).out), [{ orgId: A }, {}, {}, {}]);
    t.match(done(await alice(['token', '--for', '5m'])), { scheme: 'EMR', origin: clients.url });
    t.match((await alice(['token', '--for', '1h'])).error, { code: 'TOKEN_TOO_LONG' });
  });

  await t.test('for people: aligned lines, what is signed is shown, control characters are harmless', async (t) => {
    const shown = await cli(
      ['--home', at('home-alice'), '--rpc', clients.url, 'org', 'list'],
      { EMRCHAIN_PASSPHRASE_FILE: passphrase },
      clients.nowMs,
    );
    t.match(shown.out, /^ORGANISATION +STATUS +VALIDATOR +CUSTODIAN +NAME\nhospital-a +active +yes +yes +hospital-a\n/);
    const policy = world.policy(owner);
    const record = world.record('alice', 'paula', policy);
    const request = bytesToHex0x(world.ask('alice', record));
    const denied = await cli(
      ['--home', at('home-paula'), '--rpc', clients.url, 'access', 'deny', request, '--reason', 'not_now'],
      { EMRCHAIN_PASSPHRASE_FILE: passphrase },
      clients.nowMs,
    );
    t.match(denied, {
      code: 0,
      out: /^denied; the request is denied\./,
      err: /requester +0x[0-9a-f]{40} of hospital-a[^]*purpose +TREAT[^]*fresh key +0x/,
    });
  });
});
