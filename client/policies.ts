/** Policies read from the chain: the reference names the document by hash, so that no node can show another. */
import { equalBytes } from '../common/bytes.ts';
import { policyRefOf } from '../common/protocol/policy.ts';
import {
  type AmendmentEntry,
  amendmentEntry,
  policyEntry,
  type PolicyEntry,
  stateKey,
} from '../common/protocol/state-entries.ts';
import type { ChainView } from './chain-view.ts';
import { ClientError } from './errors.ts';

/** @throws ClientError POLICY_UNKNOWN, PROOF_INVALID */
export async function provenPolicy(view: ChainView, ref: Uint8Array): Promise<PolicyEntry> {
  let found;
  try {
    found = await view.find(stateKey.policy(ref), policyEntry, 'the policy');
  } catch (error) {
    // Absence is not proven to everybody: the node refuses the question instead.
    if (!(error instanceof ClientError) || error.code !== 'OUT_OF_SCOPE') throw error;
  }
  if (found === undefined) {
    throw new ClientError('POLICY_UNKNOWN', 'There is no such policy.', 'emrchain policy list shows them.');
  }
  const { value } = found;
  if (value.version === 1 && !equalBytes(policyRefOf(value.document), ref)) {
    throw new ClientError(
      'PROOF_INVALID',
      'The policy is not the one that its reference names.',
      'Use another node (--rpc URL).',
    );
  }
  return value;
}

/** The policy as it was at one of its versions. Null where this account may not see it. */
export async function policyAtVersion(view: ChainView, ref: Uint8Array, version: number): Promise<PolicyEntry | null> {
  const newest = (await view.find(stateKey.policy(ref), policyEntry, 'the policy'))?.value ?? null;
  if (newest === null || newest.version === version) return newest;
  const replaced = await view.find(stateKey.policyVersion(ref, version), policyEntry, 'the version of the policy');
  return replaced?.value ?? null;
}

export interface ProvenAmendment {
  readonly entry: AmendmentEntry;
  /** The version that it is to replace, or has replaced. */
  readonly before: PolicyEntry;
}

/** What an approval is signed for: both documents come from the proven state. @throws ClientError AMENDMENT_UNKNOWN */
export async function provenAmendment(view: ChainView, id: Uint8Array): Promise<ProvenAmendment> {
  const found = await view.find(stateKey.amendment(id), amendmentEntry, 'the amendment');
  const { amendment } = found?.value ?? {};
  const before = amendment && (await policyAtVersion(view, amendment.policyRef, amendment.version - 1));
  if (found === undefined || !before) {
    throw new ClientError(
      'AMENDMENT_UNKNOWN',
      'There is no such amendment.',
      'emrchain policy show POLICY names those that are open.',
    );
  }
  return { entry: found.value, before };
}
