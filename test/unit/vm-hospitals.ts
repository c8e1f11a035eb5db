/** Who asks and decides in the tests of access, and a record to ask for. */
import { decodeTrusted } from '../../common/codec.ts';
import type { Role } from '../../common/protocol/policy.ts';
import { requestEntry, stateKey } from '../../common/protocol/state-entries.ts';
import { A, B, C, D, World } from './vm-world.ts';

export const staff = (org: string, ...roles: Role[]) => ({ org, roles });
/** Staff of four hospitals who ask and decide. */
export const people = {
  alice: staff(A, 'physician'),
  hans: staff(A, 'department_head'),
  mona: staff(A, 'medical_affairs'),
  bob: staff(B, 'physician'),
  hilda: staff(B, 'department_head'),
  erik: staff(C, 'ethics_board'),
  erna: staff(D, 'ethics_board'),
  edda: staff(A, 'ethics_board'),
  rita: staff(C, 'researcher'),
};

/** A record of paula's, written by alice under these approvals. */
export function setUp(
  approvals: Parameters<World['policy']>[0],
  more: ConstructorParameters<typeof World>[0] = {},
  rule = {},
  params = {},
) {
  const world = new World({ ...people, ...more }, params);
  world.patient('paula');
  const record = world.record('alice', 'paula', world.policy(approvals, rule));
  const status = (hash: Uint8Array) =>
    decodeTrusted(requestEntry, world.state.get(stateKey.request(hash))!, 'request').status;
  return { world, record, status };
}
