/** Who is there when things are refused: people of two hospitals, two policies, a record under each. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { subjectOf } from '../../client/record-offer.ts';
import type { ApprovalNode, Role } from '../../common/protocol/policy.ts';
import type { Consortium } from './consortium.ts';
import type { Person } from './people.ts';

/** Short enough to pass while a test runs, long enough to be granted and used first. */
export const BRIEF_MS = 2_500;

export interface Cast {
  readonly consortium: Consortium;
  /** Patient of hospital-a. */
  readonly mei: Person;
  /** Physician of hospital-a who attends Mei, and a department head as well. */
  readonly chen: Person;
  /** Another account of the person Chen, with the role of a department head. */
  readonly chenAgain: Person;
  /** Department head of hospital-a. */
  readonly li: Person;
  /** Physician of hospital-b who asks. */
  readonly wang: Person;
  /** Another account of the person Wang, at hospital-a, with the role of a department head. */
  readonly wangAgain: Person;
  /** Nurse of hospital-b. */
  readonly zhao: Person;
  /** Physician of hospital-b whose role ends at `eveUntilMs`. */
  readonly eve: Person;
  readonly eveUntilMs: number;
  /** Owner, attending physician and a department head of the writing hospital. */
  readonly strict: Uint8Array;
  /** A physician and a department head, of whatever hospital; the owner is not asked. */
  readonly withoutOwner: Uint8Array;
  readonly file: string;
  readonly strictRecord: Uint8Array;
  readonly withoutOwnerRecord: Uint8Array;
}

const role = (name: Role, scope: 'any' | 'writer'): ApprovalNode => ({
  kind: 'role',
  role: name,
  scope: { kind: scope },
  department: null,
});
const all = (...of: readonly ApprovalNode[]): ApprovalNode => ({ kind: 'threshold', k: of.length, of });

export async function castOf(consortium: Consortium): Promise<Cast> {
  const [mei, chen, chenAgain, li, wang, wangAgain, zhao, eve, strict, withoutOwner] = await Promise.all([
    consortium.patient('mei', 0),
    consortium.staff('chen', 0, ['physician', 'department_head']),
    consortium.staff('chen-again', 0, ['department_head'], 'chen'),
    consortium.staff('li', 0, ['department_head']),
    consortium.staff('wang', 1, ['physician']),
    consortium.staff('wang-again', 0, ['department_head'], 'wang'),
    consortium.staff('zhao', 1, ['nurse']),
    consortium.staff('eve', 1, []),
    consortium.policy(all({ kind: 'owner' }, { kind: 'attending' }, role('department_head', 'writer'))),
    consortium.policy(all(role('physician', 'any'), role('department_head', 'any'))),
  ]);
  const eveUntilMs = Date.now() + BRIEF_MS;
  const file = join(consortium.devnet.dir, 'report.bin');
  await writeFile(file, randomBytes(3_000));
  const [strictRecord, withoutOwnerRecord] = await Promise.all([
    write(consortium, chen, mei, file, strict),
    write(consortium, chen, mei, file, withoutOwner),
    consortium.attending(mei, chen),
    consortium.grantRole(eve, 'physician', eveUntilMs),
  ]);
  return {
    consortium,
    mei,
    chen,
    chenAgain,
    li,
    wang,
    wangAgain,
    zhao,
    eve,
    eveUntilMs,
    strict,
    withoutOwner,
    file,
    strictRecord,
    withoutOwnerRecord,
  };
}

async function write(consortium: Consortium, writer: Person, patient: Person, file: string, policy: Uint8Array) {
  const { offer, call } = await consortium.offer(writer, patient, file, policy);
  await writer.do(call, offer.sidecar);
  return subjectOf(offer).recordId;
}
