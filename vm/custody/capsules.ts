/**
 * How a record's key may be kept: wrapped to the patient and to the hospital's custodian while no custody epoch is
 * active; once one is, sealed under the key that all custodians share wherever the policy wants a custodian. A capsule that
 * fails its check is never stored, and shares are computed for stored capsules alone: that keeps holders from being an
 * oracle for other capsules (custody protocol, section 12.3).
 *
 * Where the policy allows recovery and there is a recovery key, the record key is sealed under that as well, by the same check.
 */
import { equalBytes } from '../../common/bytes.ts';
import { decodePublicPoint } from '../../common/crypto/public-arithmetic.ts';
import { checkCapsule, encodeLabel } from '../../common/crypto/custody/capsule.ts';
import { assert, type Verdict } from '../../common/errors.ts';
import { capsuleBytesOf, type SealedCapsule, type ThresholdCapsule } from '../../common/protocol/custody.ts';
import type { PolicyDocument } from '../../common/protocol/policy.ts';
import type { Address, Hash, OrgId } from '../../common/protocol/primitives.ts';
import type { RecordContent, Sidecar } from '../../common/protocol/transaction.ts';
import { refuse } from '../codes.ts';
import { OK, type TxContext } from '../context.ts';
import { organisationOf } from '../organisations.ts';
import { checkWraps } from '../sidecars.ts';
import { activeRecoveryKey } from './recovery-key.ts';
import { epochOf } from './session.ts';

export interface Keeping {
  readonly recordId: Hash;
  readonly version: number;
  readonly owner: Address;
  readonly hospital: OrgId;
  readonly content: RecordContent;
  readonly policy: PolicyDocument;
}

export function checkKeeping(ctx: TxContext, keeping: Keeping): Verdict {
  const { content, policy, hospital } = keeping;
  const epoch = epochOf(ctx.state);
  const { capsule } = content;
  if (epoch === undefined || !policy.custodian) {
    if (capsule.kind === 'threshold') return refuse('CAPSULE_NOT_ALLOWED');
    const hasKey = (organisationOf(ctx.state, hospital)?.custodianKey ?? null) !== null;
    if (policy.custodian && !hasKey) return refuse('CUSTODIAN_KEY_MISSING');
    return checkWraps(ctx.sidecar, policy, hospital);
  }
  if (capsule.kind === 'direct') return refuse('CUSTODIAN_WRAP_REFUSED');
  if (!equalBytes(capsule.key, epoch.key)) return refuse('CAPSULE_WRONG_KEY');
  const recovery = checkRecoveryKeeping(ctx, policy, capsule.recovery);
  if (!recovery.ok) return recovery;
  const wraps = checkWraps(ctx.sidecar, policy, hospital);
  if (!wraps.ok) return wraps;
  // Erased, behind a certificate: a quorum has checked what was there.
  return ctx.sidecar?.kind === 'sealed' ? checkSealed(ctx, keeping, capsule, ctx.sidecar) : OK;
}

/** Exactly where it belongs: nobody leaves it out, and nobody adds one for a key that the members have not voted in. */
function checkRecoveryKeeping({ state }: TxContext, policy: PolicyDocument, capsule: SealedCapsule | null): Verdict {
  const active = policy.recovery ? activeRecoveryKey(state) : null;
  if (active === null) return capsule === null ? OK : refuse('RECOVERY_CAPSULE_NOT_ALLOWED');
  if (capsule === null) return refuse('RECOVERY_CAPSULE_MISSING');
  return equalBytes(capsule.key, active) ? OK : refuse('RECOVERY_CAPSULE_WRONG_KEY');
}

type Sealed = Extract<Sidecar, { readonly kind: 'sealed' }>;

/**
 * Transactions whose capsules were checked before: one is looked at when it comes into the pool, when a block is made of it
 * and when that is executed, and what is checked is in the transaction itself and in the sidecar that it commits to.
 */
const PROVEN = new WeakSet<RecordContent>();

function checkSealed({ chainId }: TxContext, keeping: Keeping, capsule: ThresholdCapsule, sidecar: Sealed): Verdict {
  const { content, recordId, version, owner } = keeping;
  if (PROVEN.has(content)) return OK;
  const { policyRef, dataDigest, keyCheck } = content;
  const label = encodeLabel({ chainId, recordId, version, policyRef, ownerId: owner, dataDigest, keyCheck });
  const sealed = [
    { under: capsule, c: sidecar.c, code: 'BAD_CAPSULE' },
    { under: capsule.recovery, c: sidecar.recoveryC, code: 'BAD_RECOVERY_CAPSULE' },
  ] as const;
  for (const { under, c, code } of sealed) {
    if (under === null && c === null) continue;
    if (under === null || c === null) return refuse(code, 'the transaction and its sidecar have not the same ones');
    const X = decodePublicPoint(under.key);
    assert(X !== undefined, 'a key that was made is a point');
    const checked = checkCapsule(capsuleBytesOf(under, c), X, label);
    if (!checked.ok) return refuse(code, checked.message);
  }
  PROVEN.add(content);
  return OK;
}
