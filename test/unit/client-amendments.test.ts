/** A policy amended from the command line by people of two hospitals; and its old version, which old requests name. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { policyOfRequest, provenRequest } from '../../client/access.ts';
import { hexOf } from '../../client/hex.ts';
import { differenceLines, policyLines } from '../../client/policy-text.ts';
import { ChainWorld } from '../integration/rpc-fixture.ts';
import { A, B, all, by, HOUR, owner, World } from './vm-world.ts';
import { cli, ClientWorld, PASSPHRASE, type Ran } from './client-world.ts';

const people = {
  alice: { org: A, roles: ['physician' as const] },
  bob: { org: B, roles: ['physician' as const] },
  ada: { org: A, roles: ['medical_affairs' as const] },
  bea: { org: B, roles: ['ethics_board' as const] },
};

const policyFile = (approvals: string, hours: number): string => `organisation: hospital-a
custodian: true
rules:
  - purposes: [TREAT]
    requesters: [{ role: physician }]
    for-at-most: ${hours}h
    approvals: ${approvals}
changed-by:
  all: [{ role: medical_affairs, from: writer }, { role: ethics_board }]
`;

t.test('proposed, shown, approved, in force', async (t) => {
  const world = new ChainWorld(people);
  world.patient('paula');
  world.pass(HOUR);
  const adminRule = all(by('medical_affairs', 'writer'), by('ethics_board'));
  const ref = world.policy(owner, { maxDurationMs: 24 * HOUR }, { adminRule });
  const clients = new ClientWorld(world);
  await clients.start();
  t.teardown(() => clients.stop());
  const pending = world.ask('bob', world.record('alice', 'paula', ref));
  const folder = clients.folder();
  const passphrase = join(folder, 'passphrase');
  writeFileSync(passphrase, PASSPHRASE, { mode: 0o600 });
  const run = (name: string, ...args: readonly string[]): Promise<Ran> => say(name, ['--json'], args);
  const say = (name: string, form: readonly string[], args: readonly string[]): Promise<Ran> =>
    cli(
      [...form, '--home', join(folder, name), '--rpc', clients.url, 'policy', ...args],
      { EMRCHAIN_PASSPHRASE_FILE: passphrase },
      clients.nowMs,
    );
  for (const name of ['ada', 'bea']) await clients.keystore(join(folder, name), name);
  const file = join(folder, 'policy.yaml');

  writeFileSync(file, policyFile('{ any: [owner, { all: [{ role: nurse }, { role: physician }] }] }', 24));
  t.match((await run('ada', 'amend', hexOf(ref), file, '--yes')).error, { code: 'POLICY_WEAKENS_OWNER' });

  writeFileSync(file, policyFile('owner', 12));
  const proposed = await run('ada', 'amend', hexOf(ref), file, '--yes');
  t.match(proposed, { code: 0, json: { policy: hexOf(ref), version: 2, tx: { proven: true } } }, proposed.err);
  const id = String(proposed.json['id']) as `0x${string}`;
  t.match((await run('bea', 'show', hexOf(ref))).json, { version: 1, replaced: [], amendments: [{ id }] });

  const first = await run('ada', 'approve', id, '--yes');
  t.match(first, { code: 0, json: { id, status: 'open' } }, first.err);
  const last = await say('bea', [], ['approve', id, '--yes']);
  t.match(last, { code: 0, out: /status +effective/ }, last.err);
  t.match(last.err, /- rule 0: for TREAT, at most .*\n\+ rule 0: for TREAT, at most 12/, 'shown before it is signed');
  t.match((await run('bea', 'reject', id, '--yes')).error, { code: 'AMENDMENT_CLOSED' });
  t.match((await run('bea', 'show', hexOf(ref))).json, {
    version: 2,
    amendmentId: id,
    replaced: [{ version: 1 }],
    amendments: [],
  });
  t.match((await run('bea', 'amendment', id)).json, { status: 'effective', decisions: [{}, {}] });
  t.match((await run('bea', 'amendment', hexOf(ref))).error, { code: 'AMENDMENT_UNKNOWN' });

  const { view } = await clients.client('bob');
  t.match(await view.rpc.call('emr_getAmendment', { amendmentId: id }), {
    amendment: { policyRef: hexOf(ref), status: 'effective', decisions: [{ approve: true }, { approve: true }] },
  });
  const { value } = await provenRequest(view, pending);
  t.match(await policyOfRequest(view, value), { version: 1, document: { rules: [{ maxDurationMs: 24 * HOUR }] } });
});

t.test('differences as lines', async (t) => {
  const before = new World().document([{ approvals: owner }, { approvals: all(owner, by('nurse')) }]);
  const after = { ...before, rules: before.rules.slice(1) };
  t.same(
    differenceLines(before, before),
    policyLines(before).map((line) => `  ${line}`),
  );
  const lines = differenceLines(before, after);
  const keep = (sign: string): string[] =>
    lines.filter((line) => line.startsWith(sign) || line.startsWith('  ')).map((line) => line.slice(2));
  t.same(keep('-'), policyLines(before), 'without what is new it is the old document');
  t.same(keep('+'), policyLines(after), 'without what is gone it is the new one');
});
