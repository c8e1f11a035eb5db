/** Policies read from the chain: the reference names the document by hash, so that no node can show another. */
import { equalBytes } from '../common/bytes.ts';
import { policyRefOf } from '../common/protocol/policy.ts';
import { policyEntry, type PolicyEntry, stateKey } from '../common/protocol/state-entries.ts';
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
