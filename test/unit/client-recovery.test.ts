/** `emrchain recovery`, typed by officers and a requester: the key is made, a record opened by it, and all that is refused. */
import { cpSync, existsSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { bytesToHex0x } from '../../common/bytes.ts';
import { decodeTrusted, encode } from '../../common/codec.ts';
import { recoveryDemand, type RecoveryDemand, recoveryPart } from '../../common/protocol/recovery-demand.ts';

import { requestAccess, decide, provenRequest } from '../../client/access.ts';
import { keptOtherwise, sealingKeys } from '../../client/custody.ts';
import { Home } from '../../client/home.ts';
import { provenPolicy } from '../../client/policies.ts';
import { provenRecord } from '../../client/record-get.ts';
import { prepareOffer, submitOffer } from '../../client/record-add.ts';
import { checkOffer, consentTo, subjectOf } from '../../client/record-offer.ts';
import { ChainWorld } from '../integration/rpc-fixture.ts';
import { cli, ClientWorld, PASSPHRASE, type Ran } from './client-world.ts';
import { Custodians } from './vm-custodians.ts';
import { people } from './vm-hospitals.ts';
import { DAY, HOUR, owner, token } from './vm-world.ts';

// Each key and each share is sealed by a passphrase, some 0.4 s a time.
t.setTimeout(120_000);

const OFFICERS = ['alice', 'hans', 'bob', 'hilda'] as const;

/** Four hospitals with a custody key, two officers of each of two of them, and a requester who is none of them. */
async function consortium(t: Test) {
  const world = new ChainWorld(people, { governanceDelayMs: 1_000 });
  const custodians = new Custodians(world);
  world.patient('paula');
  custodians.make();
  const policyRef = world.policy(
    owner,
    { requesters: [{ role: 'researcher', scope: { kind: 'any' }, department: null }], maxDurationMs: 3 * DAY },
    { recovery: true },
  );
  const clients = new ClientWorld(world);
  await clients.start();
  t.teardown(() => clients.stop());
  const folder = clients.folder();
  const at = (...names: string[]): string => join(folder, ...names);
  writeFileSync(at('passphrase'), PASSPHRASE, { mode: 0o600 });
  for (const name of [...OFFICERS, 'rita', 'admin@a']) await clients.keystore(at(name), name);
  renameSync(at('admin@a', 'keys', 'admin@a.json'), at('admin@a', 'keys', 'admin.json'));
  /** The clock of whoever types, if it is another than the chain's. */
  const run = (who: string, args: readonly string[], nowMs = clients.nowMs): Promise<Ran> =>
    cli(
      ['--json', '--rpc', clients.url, '--home', at(who), ...args],
      { EMRCHAIN_PASSPHRASE_FILE: at('passphrase') },
      nowMs,
    );
  /** Without a node: every call would fail. */
  const offline = (who: string, args: readonly string[], nowMs = clients.nowMs): Promise<Ran> =>
    cli(
      ['--json', '--rpc', 'http://127.0.0.1:1', '--home', at(who), ...args],
      { EMRCHAIN_PASSPHRASE_FILE: at('passphrase') },
      nowMs,
    );
  const officerText = (name: string): string => `${world.who(name).orgId}:${bytesToHex0x(world.who(name).publicKey)}`;
  const plan = (dir: string, threshold = 3, of: readonly string[] = OFFICERS): Promise<Ran> =>
    run('alice', [
      'recovery',
      'plan',
      at(dir),
      '--threshold',
      `${threshold}`,
      ...of.flatMap((name) => ['--officer', officerText(name)]),
    ]);
  const rounds = async (dir: string): Promise<Ran[]> => {
    const ran: Ran[] = [];
    for (const name of OFFICERS) ran.push(await offline(name, ['recovery', 'announce', at(dir)]));
    for (const name of OFFICERS) ran.push(await offline(name, ['recovery', 'deal', at(dir)]));
    for (const name of OFFICERS)
      ran.push(await offline(name, ['recovery', 'finish', at(dir), '--share', at(name, `${dir}.share`)]));
    return ran;
  };
  const vote = (proposal: Ran): void => {
    const proposalId = Buffer.from(String(proposal.json['id']).slice(2), 'hex');
    for (const org of ['a', 'b', 'c'])
      world.do(`admin@${org}`, { kind: 'gov.vote', proposalId: new Uint8Array(proposalId), approve: true });
    world.pass(1_000);
  };
  const make = async (dir = 'key'): Promise<void> => {
    await plan(dir);
    await rounds(dir);
    vote(await run('admin@a', ['gov', 'propose', 'recovery-key', at(dir)]));
  };

  const [alice, paula, rita] = [
    await clients.client('alice'),
    await clients.client('paula'),
    await clients.client('rita'),
  ];
  const options = { nowMs: clients.nowMs };
  const write = async (bytes: Uint8Array, policy = policyRef): Promise<Uint8Array> => {
    const path = at('scan.bin');
    writeFileSync(path, bytes);
    const writer = { account: alice.key.account, signer: alice.key.signer };
    const target = { kind: 'new' as const, owner: paula.key.account, section: 'imaging' as const };
    const record = {
      path,
      contentType: 'application/dicom',
      policyRef: policy,
      categoryToken: token('imaging'),
      target,
    };
    const offer = await prepareOffer(alice.view, writer, record, options);
    const { document } = await provenPolicy(paula.view, policy);
    checkOffer(offer, paula.key, document, await sealingKeys(paula.view, document));
    await submitOffer(alice.view, writer, offer, consentTo(offer, paula.key), options);
    return subjectOf(offer).recordId;
  };
  /** A grant of rita's, whose request key is in the home that she types in. */
  const grant = async (recordId: Uint8Array, durationMs = 2 * DAY): Promise<string> => {
    const asked = { recordId, purpose: 'TREAT' as const, durationMs };
    const { hash } = await requestAccess(rita.view, new Home(at('rita')), rita.key, asked, options);
    const { value } = await provenRequest(paula.view, hash);
    await decide(paula.view, paula.key, value, { kind: 'approve' }, options);
    return bytesToHex0x(hash);
  };
  const ask = (hash: string, file: string, nowMs = clients.nowMs): Promise<Ran> =>
    run('rita', ['recovery', 'export', hash, '--out', at(file)], nowMs);
  const openPart = (name: string, file: string, out: string, nowMs = clients.nowMs, key = 'key'): Promise<Ran> =>
    offline(name, ['recovery', 'open-part', at(file), '--share', at(name, `${key}.share`), '--out', at(out)], nowMs);
  const get = (recordId: Uint8Array, hash: string, parts: readonly string[], out = 'got.bin'): Promise<Ran> =>
    run('rita', [
      ...['record', 'get', bytesToHex0x(recordId), '--grant', hash, '--out', at(out), '--force'],
      ...parts.flatMap((part) => ['--recovery-part', at(part)]),
    ]);
  clients.node.knobs.release = async function* () {
    for (const orgId of ['hospital-a', 'hospital-b', 'hospital-c', 'hospital-d'])
      yield { kind: 'refused' as const, orgId, code: 'CUSTODY_NO_SHARE', message: 'this custodian has no share' };
  };
  return {
    world,
    custodians,
    clients,
    at,
    run,
    offline,
    plan,
    rounds,
    vote,
    make,
    policyRef,
    write,
    grant,
    ask,
    openPart,
    get,
    alice,
    paula,
    options,
  };
}

const after = (clients: ClientWorld, ms: number) => (): number => clients.nowMs() + ms;

t.test(
  'officers make a key, the members vote for it, and a record is opened by it when custodians cannot',
  async (t) => {
    const { world, at, run, plan, rounds, vote, write, grant, ask, openPart, get } = await consortium(t);
    t.match(await run('rita', ['recovery', 'status']), { code: 0, json: { key: null } });
    t.match(await plan('key'), { code: 0, json: { threshold: 3, officers: { length: 4 } } });
    const ran = await rounds('key');
    t.ok(
      ran.every(({ code }) => code === 0),
      JSON.stringify(ran.find(({ code }) => code !== 0)),
    );
    t.notOk(existsSync(at('alice', 'recovery', '*')), 'nothing of the rounds stays in a home');
    t.equal(statSync(at('alice', 'key.share')).mode & 0o777, 0o600);
    const proposed = await run('admin@a', ['gov', 'propose', 'recovery-key', at('key')]);
    t.match(proposed, { code: 0, json: { kind: 'setRecoveryKey' } });
    vote(proposed);
    const status = await run('rita', ['recovery', 'status']);
    t.match(status, { code: 0, json: { version: 1, threshold: 3 } });
    t.same(
      (status.json['officers'] as { account: string }[]).map(({ account }) => account),
      OFFICERS.map((name) => bytesToHex0x(world.who(name).id)),
    );

    const bytes = randomBytes(5_000);
    const recordId = await write(bytes);
    const hash = await grant(recordId);
    const refused = await get(recordId, hash, []);
    t.equal(refused.error.code, 'KEY_NOT_RELEASED');
    t.match(refused.error.message, /0 of the 3 custodians.*CUSTODY_NO_SHARE/);
    t.match(refused.error.remedy, new RegExp(`emrchain recovery export ${hash}`));

    t.match(await ask(hash, 'demand'), { code: 0, json: { requestHash: hash, threshold: 3, purpose: 'TREAT' } });
    for (const name of ['alice', 'bob', 'hilda']) {
      const opened = await openPart(name, 'demand', `${name}.part`);
      t.match(opened, { code: 0, json: { requestHash: hash, recordId: bytesToHex0x(recordId) } });
    }
    const few = await get(recordId, hash, ['alice.part', 'bob.part']);
    t.equal(few.error.code, 'RECOVERY_TOO_FEW');
    t.match(few.error.message, /2 good parts of the 3/);
    t.equal(
      (await get(recordId, hash, ['alice.part', 'bob.part', 'bob.part'])).error.code,
      'RECOVERY_TOO_FEW',
      'one twice',
    );
    const read = await get(recordId, hash, ['alice.part', 'bob.part', 'hilda.part']);
    t.match(read, { code: 0, json: { warnings: [] } });
    t.ok(readFileSync(at('got.bin')).equals(bytes), 'the file as it was written');

    // A part that is no good is named, and another one helps.
    const part = decodeTrusted(recoveryPart, new Uint8Array(readFileSync(at('bob.part'))), 'part');
    const share = part.share.slice();
    share[163] = (share[163] as number) ^ 1;
    writeFileSync(at('bad.part'), encode(recoveryPart, { ...part, share }));
    t.match(await openPart('hans', 'demand', 'hans.part'), { code: 0 });
    t.match(
      (await get(recordId, hash, ['alice.part', 'bad.part', 'hilda.part'])).code,
      0,
      'its points are right all the same',
    );
    share[40] = (share[40] as number) ^ 1;
    const other = decodeTrusted(recoveryPart, new Uint8Array(readFileSync(at('hans.part'))), 'part');
    writeFileSync(
      at('bad.part'),
      encode(recoveryPart, { ...part, share: Uint8Array.from([...part.share.slice(0, 2), ...other.share.slice(2)]) }),
    );
    const named = await get(recordId, hash, ['alice.part', 'bad.part', 'hilda.part', 'hans.part']);
    t.match(named, { code: 0, json: { warnings: [/part of officer 0x.*is wrong/] } });
  },
);

t.test('what an officer refuses, by the file and the own clock', async (t) => {
  const { alice, world, clients, at, make, write, grant, ask, openPart, get, paula, options, policyRef } =
    await consortium(t);
  const before = await write(randomBytes(100));
  await make();
  const recordId = await write(randomBytes(100));
  const reasons = async (id: Uint8Array) => keptOtherwise(alice.view, await provenRecord(alice.view, id));
  t.match(await reasons(before), [/under no recovery key/], 'what rekeying would change');
  t.same(await reasons(recordId), []);
  const hash = await grant(recordId);
  t.equal((await ask(await grant(before), 'none')).error.code, 'RECOVERY_NOT_SEALED', 'written before there was a key');
  t.match(await ask(hash, 'demand'), { code: 0 });
  t.equal((await openPart('bob', 'demand', 'p', after(clients, 25 * HOUR))).error.code, 'RECOVERY_DEMAND_OLD');
  t.equal((await openPart('bob', 'demand', 'p', after(clients, 49 * HOUR))).error.code, 'RECOVERY_DEMAND_OLD');
  t.equal((await openPart('bob', 'demand', 'p', after(clients, -HOUR))).error.code, 'RECOVERY_CLOCK_BEHIND');
  const short = await grant(recordId, HOUR);
  t.match(await ask(short, 'short'), { code: 0 });
  t.equal(
    (await openPart('bob', 'short', 'p', after(clients, 2 * HOUR))).error.code,
    'GRANT_EXPIRED',
    'by the own clock',
  );

  const demand = decodeTrusted(recoveryDemand, new Uint8Array(readFileSync(at('demand'))), 'demand');
  const changed = async (more: Partial<RecoveryDemand>): Promise<string> => {
    writeFileSync(at('changed'), encode(recoveryDemand, { ...demand, ...more }));
    return (await openPart('bob', 'changed', 'p')).error.code;
  };
  const other = decodeTrusted(recoveryDemand, new Uint8Array(readFileSync(at('short'))), 'demand');
  t.equal(await changed({ grantId: other.grantId }), 'STATE_PROOF_MISMATCH', 'a grant that is not the proven one');
  t.equal(await changed({ request: { ...demand.request, head: 4 } }), 'MALFORMED');
  t.match(await changed({ request: demand.requester }), /STATE_PROOF|GRANT_NOT_FOUND/);
  const [head] = demand.heads;
  const header = head!.header.slice();
  header[60] = (header[60] as number) ^ 1;
  t.not(
    await changed({ heads: [{ ...head!, header }, ...demand.heads.slice(1)] }),
    '',
    'a header that nobody certified',
  );
  const votes = head!.certificate.signatures.slice(0, 1);
  t.not(await changed({ heads: [{ ...head!, certificate: { ...head!.certificate, signatures: votes } }] }), '');
  t.equal(await changed({ genesis: demand.genesis.slice(0, -1) }), 'MALFORMED');
  const flipped = demand.genesis.slice();
  flipped[flipped.length - 1] = (flipped[flipped.length - 1] as number) ^ 1;
  t.match(await changed({ genesis: flipped }), /CHAIN_ID_MISMATCH|MALFORMED|NOT_CANONICAL/);
  writeFileSync(at('rubbish'), randomBytes(100));
  t.equal((await openPart('bob', 'rubbish', 'p')).error.code, 'RECOVERY_FILE_UNREADABLE');
  t.notOk(existsSync(at('p')), 'nothing was written for any of these');
  t.match(await openPart('bob', 'demand', 'bob.part'), { code: 0 });
  t.equal((await get(recordId, short, ['bob.part'])).error.code, 'RECOVERY_PART_OTHER', 'for another grant');
  t.equal((await openPart('bob', 'demand', 'bob.part')).error.code, 'SECRET_FILE_EXISTS');

  const { value } = await provenRequest(paula.view, demand.grantId);
  await decide(paula.view, paula.key, value, { kind: 'revoke', reason: 'withdrawn' }, options);
  t.equal((await ask(hash, 'late')).error.code, 'GRANT_REVOKED');
  t.match(
    await openPart('hilda', 'demand', 'late.part'),
    { code: 0 },
    'the file from before shows nothing of it: that is the price',
  );
  t.equal((await get(recordId, hash, ['bob.part'])).error.code, 'GRANT_REVOKED', 'the client goes by the chain');

  await make('next');
  const newer = await write(randomBytes(100), policyRef);
  t.match(await reasons(recordId), [/earlier recovery key/]);
  const last = await grant(newer);
  t.match(await ask(last, 'last'), { code: 0 });
  t.equal((await openPart('bob', 'last', 'p')).error.code, 'RECOVERY_OTHER_KEY', 'of the key before');
  t.match(await openPart('bob', 'last', 'p', clients.nowMs, 'next'), { code: 0 });
  const older = await grant(recordId);
  t.match(await ask(older, 'older'), { code: 0 });
  t.match(await openPart('bob', 'older', 'older.part'), { code: 0 }, 'records of its time stay with the old key');
  world.do('admin@c', { kind: 'account.suspend', account: world.who('rita').id, reason: 'left' });
  t.match((await openPart('hans', 'older', 'p2')).code, 0);
});

t.test('rounds: in order, by officers, with what each has said', async (t) => {
  const { at, run, offline, plan } = await consortium(t);
  t.equal((await plan('bad', 2)).error.code, 'RECOVERY_KEY_ONE_ORGANISATION');
  t.equal((await plan('bad', 5)).error.code, 'RECOVERY_KEY_SHAPE');
  await plan('key');
  const announce = (name: string) => offline(name, ['recovery', 'announce', at('key')]);
  t.equal((await announce('rita')).error.code, 'RECOVERY_NOT_OFFICER');
  for (const name of OFFICERS.slice(0, 3)) t.match(await announce(name), { code: 0 });
  t.equal((await announce('bob')).error.code, 'SECRET_FILE_EXISTS', 'once');
  const deal = await offline('bob', ['recovery', 'deal', at('key')]);
  t.equal(deal.error.code, 'RECOVERY_FILE_MISSING');
  t.match(deal.error.message, /[Oo]fficer 4/);
  // An officer whose machine stopped between keeping the secret and saying so goes on with it.
  rmSync(at('key', 'announcement-3.json'));
  t.match(await announce('bob'), { code: 0 });
  t.match(await announce('hilda'), { code: 0 });
  for (const name of OFFICERS) t.match(await offline(name, ['recovery', 'deal', at('key')]), { code: 0 });
  cpSync(at('key', 'dealing-1.json'), at('kept'));
  cpSync(at('key', 'dealing-2.json'), at('key', 'dealing-1.json'));
  const finish = (name: string, share = 'key.share') =>
    offline(name, ['recovery', 'finish', at('key'), '--share', at(name, share)]);
  t.match((await finish('bob')).error.code, 'RECOVERY_FILE_MISSING');
  cpSync(at('kept'), at('key', 'dealing-1.json'));
  t.match(await finish('bob'), { code: 0 });
  t.equal((await finish('bob', 'again')).error.code, 'RECOVERY_SECRET_MISSING', 'the secret of the rounds is gone');
  t.equal((await run('admin@a', ['gov', 'propose', 'recovery-key', at('key')])).error.code, 'RECOVERY_FILE_MISSING');
  const no = await run('admin@a', ['gov', 'propose', 'end-recovery-key']);
  t.equal(no.error.code, 'RECOVERY_KEY_NOT_ACTIVE');
});
