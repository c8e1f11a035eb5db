/**
 * "Attending" is a relation between this patient and that physician, never a role: set by the patient alone, or by an
 * author of one of the patient's records with a second person of the same hospital.
 */
import { equalBytes } from '../common/bytes.ts';
import type { Verdict } from '../common/errors.ts';
import {
  type AccountEntry,
  type AttendingEntry,
  attendingEntry,
  emptyEntry,
  stateKey,
} from '../common/protocol/state-entries.ts';
import type { CallOf } from '../common/protocol/transaction.ts';
import { refuse } from './codes.ts';
import { emit, OK, type TxContext } from './context.ts';
import { requireHospitalColleague } from './countersign.ts';
import { accountOf } from './organisations.ts';
import { holdsRole } from './roles.ts';

/** What a relation takes that the patient did not set. */
function checkAuthor(
  ctx: TxContext,
  call: CallOf<'attending.set'>,
  patient: AccountEntry,
  physician: AccountEntry,
  before: AttendingEntry | undefined,
): Verdict {
  if (ctx.state.get(emptyEntry, stateKey.author(patient.id, ctx.sender.id)) === undefined)
    return refuse('NOT_AN_AUTHOR');
  if (physician.orgId !== patient.orgId) return refuse('NOT_YOUR_ORGANISATION', physician.orgId);
  const party = requireHospitalColleague(ctx, call.countersignature, patient.orgId, [physician]);
  if (!party.ok) return party;
  if (before === undefined) return OK;
  if (before.endedBy !== null && equalBytes(before.endedBy, patient.id)) return refuse('ATTENDING_ENDED_BY_PATIENT');
  // Or else an old countersignature could bring back a relation that was ended.
  return call.relation.expiresAtMs > before.expiresAtMs ? OK : refuse('ATTENDING_NOT_LATER');
}

/**
 * A patient's own word counts at once. It is not the patient's own while the hospital keeps the key, or where the key has
 * just been recovered: then, as where others set the relation, it counts after the cooling period.
 */
function effectiveFrom({ now, params }: TxContext, patient: AccountEntry | null): number {
  if (patient === null || patient.custodial) return now + params.roleCoolingMs;
  return patient.recoveredMs === null ? now : Math.max(now, patient.recoveredMs + params.roleCoolingMs);
}

export function setAttending(ctx: TxContext, call: CallOf<'attending.set'>): Verdict {
  const { relation } = call;
  const patient = accountOf(ctx.state, relation.patient);
  const physician = accountOf(ctx.state, relation.physician);
  if (patient === undefined || physician === undefined) return refuse('ACCOUNT_UNKNOWN');
  if (patient.kind !== 'patient') return refuse('NOT_A_PATIENT');
  if (!holdsRole(ctx.state, physician, ['physician'], ctx.now).ok) return refuse('NOT_A_PHYSICIAN');
  if (relation.expiresAtMs <= ctx.now) return refuse('EXPIRY_PASSED');
  const key = stateKey.attending(patient.id, physician.id);
  const before = ctx.state.get(attendingEntry, key);
  const byPatient = equalBytes(patient.id, ctx.sender.id);
  if (byPatient) {
    if (call.countersignature !== null) return refuse('COUNTERSIGNATURE_NOT_ALLOWED');
  } else {
    const author = checkAuthor(ctx, call, patient, physician, before);
    if (!author.ok) return author;
  }
  // A relation that is prolonged in time goes on.
  const goesOn = before !== undefined && before.endedMs === null && ctx.now < before.expiresAtMs ? before : null;
  const effectiveMs = effectiveFrom(ctx, byPatient ? patient : null);
  ctx.state.put(attendingEntry, key, {
    sinceMs: goesOn?.sinceMs ?? ctx.now,
    effectiveMs: goesOn === null ? effectiveMs : Math.min(goesOn.effectiveMs, effectiveMs),
    expiresAtMs: relation.expiresAtMs,
    setBy: ctx.sender.id,
    endedMs: null,
    endedBy: null,
  });
  emit(ctx, 'attending.set', { subject: patient.id });
  return OK;
}

export function endAttending(ctx: TxContext, call: CallOf<'attending.end'>): Verdict {
  const key = stateKey.attending(call.patient, call.physician);
  const before = ctx.state.get(attendingEntry, key);
  const patient = accountOf(ctx.state, call.patient);
  if (before === undefined || before.endedMs !== null || patient === undefined) return refuse('ATTENDING_UNKNOWN');
  const party = equalBytes(call.patient, ctx.sender.id) || equalBytes(call.physician, ctx.sender.id);
  const hospital =
    patient.orgId === ctx.sender.orgId && holdsRole(ctx.state, ctx.sender, ['medical_affairs'], ctx.now).ok;
  if (!party && !hospital) return refuse('NOT_ALLOWED_TO_END');
  ctx.state.put(attendingEntry, key, { ...before, endedMs: ctx.now, endedBy: ctx.sender.id });
  emit(ctx, 'attending.end', { subject: call.patient });
  return OK;
}
