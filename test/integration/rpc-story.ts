/** What the tests of rpc/ and a look at the explorer read: a few people, records and requests in every state. */
import type { Hash } from '../../common/protocol/primitives.ts';
import type { Role } from '../../common/protocol/policy.ts';
import { recordIdOf } from '../../common/protocol/record.ts';
import { A, all, attending, B, by, C, D, HOUR, MINUTE, owner, some, token } from '../unit/vm-world.ts';
import { ChainWorld } from './rpc-fixture.ts';

const staff = (org: string, ...roles: Role[]) => ({ org, roles });

export interface Story {
  readonly world: ChainWorld;
  readonly policy: Hash;
  readonly boardPolicy: Hash;
  /** Paula's, written by alice of hospital A; carol's patient in hospital C has one of its own. */
  readonly record: Hash;
  readonly otherRecord: Hash;
  readonly foreignRecord: Hash;
  readonly requests: Readonly<Record<'granted' | 'pending' | 'denied' | 'cancelled' | 'revoked' | 'board', Hash>>;
}

/**
 * alice (A) writes for paula; bob (B) asks; hans heads a department of A, hilda one of B; erik (C) and erna (D) sit on
 * ethics boards; rita (C) does research; carol (C) writes for peter; reg is a regulator by the genesis.
 */
export function tellStory(): Story {
  const world = new ChainWorld({
    alice: staff(A, 'physician'),
    hans: staff(A, 'department_head'),
    nora: staff(A, 'nurse'),
    bob: staff(B, 'physician'),
    hilda: staff(B, 'department_head'),
    erik: staff(C, 'ethics_board'),
    edda: staff(B, 'ethics_board'),
    erna: staff(D, 'ethics_board'),
    rita: staff(C, 'researcher'),
    carol: staff(C, 'physician'),
    dora: staff(D, 'auditor'),
    reg: staff(D, 'regulator'),
  });
  world.patient('paula');
  world.patient('petra');
  world.patient('peter', C);
  world.attend('paula', 'alice');

  const heads = some(1, by('department_head', 'writer'), by('department_head', 'requester'));
  const policy = world.policy(all(owner, attending, heads), { purposes: ['TREAT', 'ETREAT'] });
  const board = by('ethics_board');
  const boardPolicy = world.policy(all(owner, some(2, board, board, board)), {
    purposes: ['HRESCH'],
    requesters: [{ role: 'researcher', scope: { kind: 'any' }, department: null }],
  });
  const record = world.record('alice', 'paula', policy);
  const otherRecord = world.record('alice', 'petra', boardPolicy);
  const foreign = world.createCall('peter', policy, { cid: cidOf('peter') }, world.wraps(C));
  world.do('carol', foreign, { sidecar: world.wraps(C) });
  const foreignRecord = recordIdOf(world.who('carol').id, foreign.owner, foreign.nonce, foreign.sectionClass);

  const granted = world.ask('bob', record, { notAfterMs: world.now + 8 * HOUR });
  for (const name of ['paula', 'alice', 'hilda']) must(world.approve(name, granted));
  const revoked = world.ask('bob', record, { purpose: 'ETREAT' });
  for (const name of ['paula', 'alice', 'hans']) must(world.approve(name, revoked));
  world.do('paula', { kind: 'access.revoke', requestHash: revoked, reason: 'NO_LONGER_NEEDED' });
  const denied = world.ask('bob', record);
  must(world.deny('paula', denied));
  const cancelled = world.ask('bob', record);
  world.do('bob', { kind: 'access.cancel', requestHash: cancelled });
  world.pass(MINUTE);
  const boardRequest = world.ask('rita', otherRecord, { purpose: 'HRESCH' });
  must(world.approve('erna', boardRequest));
  must(world.deny('edda', boardRequest));
  const pending = world.ask('bob', record);
  must(world.approve('alice', pending));
  world.pass(MINUTE);
  const requests = { granted, pending, denied, cancelled, revoked, board: boardRequest };
  return { world, policy, boardPolicy, record, otherRecord, foreignRecord, requests };
}

const cidOf = (name: string): Uint8Array => Uint8Array.from([1, 0x70, 0x12, 32, ...token(`cid of ${name}`)]);

function must(code: string | null): void {
  if (code !== null) throw new Error(`the story breaks: ${code}`);
}
