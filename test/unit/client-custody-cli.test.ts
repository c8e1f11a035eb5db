/** Commands about kept keys: a record of before the shared key is rekeyed; shares are demanded on the chain, and read. */
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { bytesToHex0x, hexToBytes } from '../../common/bytes.ts';
import { ChainWorld } from '../integration/rpc-fixture.ts';
import { cli, ClientWorld, PASSPHRASE, type Ran } from './client-world.ts';
import { Custodians } from './vm-custodians.ts';
import { A, B, C, D, owner } from './vm-world.ts';

/** People of hospital A and of others with homes of their own, the patient Paula, and a policy that the owner alone decides by. */
async function setting(t: Test, staff: Readonly<Record<string, string>>) {
  const people = Object.entries(staff).map(([name, org]) => [name, { org, roles: ['physician'] as const }]);
  const world = new ChainWorld(Object.fromEntries(people));
  const custodians = new Custodians(world);
  world.patient('paula');
  const policy = bytesToHex0x(world.policy(owner));
  const clients = new ClientWorld(world);
  await clients.start();
  t.teardown(() => clients.stop());
  const folder = clients.folder();
  const at = (...names: string[]): string => join(folder, ...names);
  writeFileSync(at('passphrase'), PASSPHRASE, { mode: 0o600 });
  for (const name of [...Object.keys(staff), 'paula']) await clients.keystore(at(name), name);
  const run = (name: string, ...args: string[]): Promise<Ran> =>
    cli(
      ['--json', '--home', at(name), '--rpc', clients.url, ...args],
      { EMRCHAIN_PASSPHRASE_FILE: at('passphrase') },
      clients.nowMs,
    );
  return { world, custodians, policy, clients, at, run };
}

t.test('from one custodian to all of them, and what happens when they refuse', async (t) => {
  const { world, custodians, policy, clients, at, run } = await setting(t, { alice: A, bob: B });
  const done = async (name: string, ...args: string[]): Promise<Record<string, unknown>> => {
    const { code, err, json } = await run(name, ...args);
    t.equal(code, 0, err);
    return json;
  };
  const consented = async (offer: string): Promise<Record<string, unknown>> => {
    await done('paula', 'record', 'consent', at(offer), '--out', at(`${offer}.consent`));
    return done('alice', 'record', 'submit', at(offer), '--consent', at(`${offer}.consent`));
  };

  writeFileSync(at('scan.pdf'), 'the content');
  const patient = bytesToHex0x(world.who('paula').id);
  const category = `0x${'0c'.repeat(32)}`;
  const add = ['--patient', patient, '--policy', policy, '--category', category, '--offer-out', at('first')];
  t.match(await done('alice', 'record', 'add', at('scan.pdf'), ...add), { custody: 'direct' });
  const recordId = String((await consented('first'))['recordId']);
  t.match(await done('alice', 'record', 'show', recordId), { latest: { custody: 'direct' } });

  custodians.make();
  const rekeyed = await run(
    'alice',
    'record',
    'rekey',
    recordId,
    '--file',
    at('scan.pdf'),
    '--offer-out',
    at('second'),
  );
  t.match(rekeyed.json, { state: 'offered', version: 2, custody: 'threshold' }, rekeyed.err);
  t.match(
    rekeyed.json['changes'],
    [/wrapped to single holders; the new one is sealed by the custodians/],
    'and says why',
  );
  t.match(await consented('second'), { version: 2, custody: 'threshold' });
  t.match(await done('alice', 'record', 'show', recordId), { latestVersion: 2, latest: { custody: 'threshold' } });
  const again = await run('alice', 'record', 'rekey', recordId, '--file', at('scan.pdf'), '--offer-out', at('third'));
  t.match(again.json['changes'], [/Nobody was granted this version, and its key is kept as new ones are/]);

  const asked = await done('bob', 'access', 'request', recordId, '--purpose', 'TREAT', '--for', '1h');
  const request = String(asked['requestHash']);
  await done('paula', 'access', 'approve', request, '--yes');
  clients.node.knobs.release = async function* () {
    yield { kind: 'refused', orgId: C, code: 'RATE_LIMITED', message: 'try again in a second' };
  };
  const get = ['record', 'get', recordId, '--grant', request, '--out', at('got.pdf')];
  const { error } = await run('bob', ...get);
  t.match(error, { code: 'KEY_NOT_RELEASED', message: /0 of the 3 custodians.*hospital-c refused: RATE_LIMITED/ });
  t.match(error.remedy, `emrchain access demand ${request}`, 'and what to do');

  t.match((await run('alice', 'access', 'demand', request, '--yes')).error, { code: 'NOT_THE_REQUESTER' });
  const demanding = done('bob', 'access', 'demand', request, '--yes');
  const hash = hexToBytes(request.slice(2));
  const posts = (async () => {
    // The nodes answer once the demand is in a block.
    while (
      clients.node.world.blocks.every(
        ({ receipts }) => !receipts.some(({ events }) => events.some(({ type }) => type === 'access.demand')),
      )
    ) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    for (const org of [A, C, D]) custodians.do(org, custodians.releaseShare(org, hash));
  })();
  t.match(await demanding, { posted: [A, C, D], missing: [B], needed: 3 });
  await posts;
  t.match(await done('bob', ...get), { keyFrom: 'the custodians of hospital-a, hospital-c, hospital-d', version: 2 });
  t.equal(readFileSync(at('got.pdf'), 'utf8'), 'the content');
});

t.test('all older records of an author, one step on with each run', async (t) => {
  const { world, custodians, policy, at, run } = await setting(t, { alice: A, anna: A });
  const patient = bytesToHex0x(world.who('paula').id);
  const write = async (author: string, number: number): Promise<string> => {
    const [offer, consent] = [at(`${number}.offer`), at(`${number}.consent`)];
    writeFileSync(at(`${number}.txt`), `content ${number}`);
    const add = ['--patient', patient, '--policy', policy, '--category', `0x${'0c'.repeat(32)}`, '--offer-out', offer];
    await run(author, 'record', 'add', at(`${number}.txt`), ...add);
    await run('paula', 'record', 'consent', offer, '--out', consent);
    return String((await run(author, 'record', 'submit', offer, '--consent', consent)).json['recordId']);
  };
  const ids = [await write('alice', 1), await write('alice', 2), await write('alice', 3)] as const;
  const others = await write('anna', 4);
  mkdirSync(at('originals'));
  const older = (): Promise<Ran> =>
    run('alice', 'record', 'rekey-older', '--files', at('originals'), '--offers', at('offers'));
  const consentTo = (id: string): Promise<Ran> => {
    const stem = at('offers', `${id}-2`);
    return run('paula', 'record', 'consent', `${stem}.offer.json`, '--out', `${stem}.consent.json`);
  };
  const states = ({ json }: Ran): Record<string, string> =>
    Object.fromEntries((json['records'] as { recordId: string; state: string }[]).map((r) => [r.recordId, r.state]));

  t.match(await older(), { code: 0, json: { current: 3, left: 0 } }, 'nothing is older while there is no shared key');
  custodians.make();
  const late = await write('alice', 5);
  copyFileSync(at('1.txt'), at('originals', `${ids[0]}.txt`));
  mkdirSync(at('originals', ids[1]));
  copyFileSync(at('2.txt'), at('originals', ids[1], 'letter.txt'));

  const first = await older();
  t.match(first, { code: 1, error: { code: 'REKEY_INCOMPLETE' }, json: { current: 1, left: 3 } });
  t.same(
    states(first),
    { [ids[0]]: 'waits', [ids[1]]: 'waits', [ids[2]]: 'missing' },
    'and nothing of anna or of today',
  );
  t.notOk([others, late].some((id) => id in states(first)));
  t.match((first.json['records'] as object[])[0], { version: 2, reasons: [/wrapped to single holders/] });
  const again = await older();
  t.same(states(again), states(first), 'an offer that waits is not made anew');

  t.match(await consentTo(ids[0]), { code: 0 });
  copyFileSync(at('offers', `${ids[0]}-2.consent.json`), at('offers', `${ids[1]}-2.consent.json`));
  const second = await older();
  t.same(
    states(second),
    { [ids[0]]: 'written', [ids[1]]: 'failed', [ids[2]]: 'missing' },
    'what is wrong with one keeps no other waiting',
  );
  t.match(JSON.stringify(second.json), /CONSENT_MISMATCH/);
  rmSync(at('offers', `${ids[1]}-2.consent.json`));
  await consentTo(ids[1]);
  mkdirSync(at('originals', ids[2]));
  for (const name of ['a.txt', 'b.txt']) copyFileSync(at('3.txt'), at('originals', ids[2], name));
  const third = await older();
  t.same(states(third), { [ids[1]]: 'written', [ids[2]]: 'failed' });
  t.match(JSON.stringify(third.json), /ORIGINAL_AMBIGUOUS/);
  rmSync(at('originals', ids[2], 'b.txt'));
  t.same(states(await older()), { [ids[2]]: 'waits' });
  await consentTo(ids[2]);
  t.match(await older(), { code: 0, json: { left: 0, records: [{ recordId: ids[2], state: 'written' }] } });
  t.match(await older(), { code: 0, json: { current: 4, left: 0, records: [] } }, 'all are kept as new ones are');
  t.match((await run('alice', 'record', 'show', ids[1])).json, { latestVersion: 2, latest: { custody: 'threshold' } });
  t.match((await run('anna', 'record', 'show', others)).json, { latestVersion: 1, latest: { custody: 'direct' } });
});
