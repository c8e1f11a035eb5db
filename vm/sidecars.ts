/**
 * The erasable bytes beside a transaction: that they are there, are the ones committed to, and hold exactly the wraps
 * that the policy allows. A wrap too many would be a key given to somebody whom no rule names.
 */
import { equalBytes } from '../common/bytes.ts';
import type { Verdict } from '../common/errors.ts';
import type { PolicyDocument } from '../common/protocol/policy.ts';
import type { OrgId } from '../common/protocol/primitives.ts';
import { WRAP_PLAINTEXT_BYTES } from '../common/protocol/record.ts';
import { type Call, encodeSidecar, type Sidecar, sidecarHash, sidecarHashOf } from '../common/protocol/transaction.ts';
import { refuse } from './codes.ts';
import { OK } from './context.ts';

/** SM2 public-key encryption adds 97 bytes (GM/T 0003.4). */
const WRAP_BYTES = WRAP_PLAINTEXT_BYTES + 97;

/**
 * @param erasable the block carries its certificate: a sidecar may have been erased since, and absence is accepted.
 *   Nothing that execution writes depends on a sidecar's bytes
 * @returns size of the sidecar in bytes
 */
export function checkSidecar(call: Call, sidecar: Sidecar | null, erasable: boolean): Verdict<number> {
  const expected = sidecarHashOf(call);
  if (expected === null) return sidecar === null ? { ok: true, value: 0 } : refuse('SIDECAR_UNEXPECTED');
  if (sidecar === null) return erasable ? { ok: true, value: 0 } : refuse('SIDECAR_MISSING');
  const bytes = encodeSidecar(sidecar);
  if (!equalBytes(sidecarHash(bytes), expected)) return refuse('SIDECAR_MISMATCH');
  const kind = sidecarKindOf(call);
  return sidecar.kind === kind ? { ok: true, value: bytes.length } : refuse('SIDECAR_WRONG_WRAPS', `not ${kind}`);
}

function sidecarKindOf(call: Call): Sidecar['kind'] {
  if (call.kind !== 'record.create' && call.kind !== 'record.addVersion') return 'delivery';
  return call.content.capsule.kind === 'direct' ? 'wraps' : 'sealed';
}

/**
 * The patient's wrap and then the hospital's custodian's, each exactly where the policy says so, and nothing else. Where
 * the key is sealed for all custodians, none of them has a wrap of its own.
 */
export function checkWraps(sidecar: Sidecar | null, document: PolicyDocument, hospital: OrgId): Verdict {
  // Erased, or already refused.
  if (sidecar === null || sidecar.kind === 'delivery') return OK;
  const expected = [
    ...(document.patientWrap ? ['patient'] : []),
    ...(document.custodian && sidecar.kind === 'wraps' ? [`custodian ${hospital}`] : []),
  ];
  const given = sidecar.wraps.map(({ to }) => (to.kind === 'patient' ? 'patient' : `custodian ${to.orgId}`));
  if (given.length !== expected.length || given.some((to, i) => to !== expected[i])) {
    return refuse('SIDECAR_WRONG_WRAPS', `wraps to ${expected.join(' and ') || 'nobody'} are expected, in this order`);
  }
  if (sidecar.wraps.some(({ ciphertext }) => ciphertext.length !== WRAP_BYTES)) {
    return refuse('SIDECAR_WRONG_WRAPS', `a wrap has ${WRAP_BYTES} bytes`);
  }
  return OK;
}
