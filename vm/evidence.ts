/**
 * Evidence that a validator signed two votes that exclude each other. It stands on chain for everybody to see; what
 * follows from it, the members decide by vote: a node that was restored from a backup looks like one that betrays.
 */
import { equalBytes } from '../common/bytes.ts';
import { sm2Address } from '../common/crypto/sm2.ts';
import type { Verdict } from '../common/errors.ts';
import { evidenceEntry, stateKey, statePrefix, tenureEntry } from '../common/protocol/state-entries.ts';
import type { CallOf } from '../common/protocol/transaction.ts';
import { refuse } from './codes.ts';
import { emit, type NodeContext, OK } from './context.ts';
import { MAX_EVIDENCE_PER_VALIDATOR } from './limits.ts';

/** The two signatures are obligations. Here: by a validator of that height, for different blocks, and not known yet. */
export function giveEvidence(ctx: NodeContext, call: CallOf<'node.evidence'>): Verdict {
  const { state } = ctx;
  const { publicKey, vote, height, view, first, second } = call;
  if (equalBytes(first.digest, second.digest)) return refuse('EVIDENCE_NOT_CONFLICTING');
  if (height > ctx.height) return refuse('EVIDENCE_FROM_FUTURE', `${height}`);
  const offender = sm2Address(publicKey);
  const tenure = state.get(tenureEntry, stateKey.tenure(offender));
  const inOffice =
    tenure !== undefined &&
    height >= tenure.fromHeight &&
    (tenure.untilHeight === null || height <= tenure.untilHeight);
  if (!inOffice) return refuse('EVIDENCE_NOT_OF_VALIDATOR', `${height}`);
  const key = stateKey.evidence(offender, height, vote);
  if (state.get(evidenceEntry, key) !== undefined) return refuse('EVIDENCE_KNOWN');
  const known = state.list(evidenceEntry, statePrefix.evidenceOf(offender), MAX_EVIDENCE_PER_VALIDATOR);
  if (known.length >= MAX_EVIDENCE_PER_VALIDATOR) return refuse('TOO_MUCH_EVIDENCE', `${MAX_EVIDENCE_PER_VALIDATOR}`);
  state.put(evidenceEntry, key, {
    orgId: tenure.orgId,
    publicKey,
    vote,
    height,
    view,
    first,
    second,
    reporter: ctx.node.member.address,
    reportedHeight: ctx.height,
    reportedMs: ctx.now,
  });
  emit(ctx, 'node.evidence', { subject: offender, orgId: tenure.orgId, detail: vote });
  return OK;
}
