/**
 * How the keys of records are kept, as the chain proves it: the epoch of the key that the custodians share, and what
 * travelled beside the block that wrote a version. A node that could say "there is no such key yet" without proof would
 * have a writer wrap a record's key to one custodian.
 */
import { equalBytes } from '../common/bytes.ts';
import type { CapsuleLabel } from '../common/crypto/custody/capsule.ts';
import { custodyEpochEntry, type CustodyEpochEntry } from '../common/protocol/custody.ts';
import type { PolicyDocument } from '../common/protocol/policy.ts';
import { activeRecoveryKeyEntry } from '../common/protocol/recovery-key.ts';
import {
  accountEntry,
  organisationEntry,
  type RecordVersionEntry,
  stateKey,
} from '../common/protocol/state-entries.ts';
import { encodeSidecar, type RecordContent, type Sidecar, sidecarHash } from '../common/protocol/transaction.ts';
import type { ChainView, ProvenEntry } from './chain-view.ts';
import { ClientError } from './errors.ts';
import { fromHex, hexOf } from './hex.ts';
import { provenPolicy } from './policies.ts';

/**
 * The epoch whose shares open records; null where the custodians have made no key.
 * @throws ClientError PROOF_INVALID, PROOF_MISSING, those of calls
 */
export const activeEpoch = async (view: ChainView): Promise<CustodyEpochEntry | null> =>
  (await activeEpochAt(view))?.value ?? null;

/** The same with the header that proves it. @throws as `activeEpoch` */
export async function activeEpochAt(view: ChainView): Promise<ProvenEntry<CustodyEpochEntry> | null> {
  try {
    return await view.presence(stateKey.custodyEpoch(), custodyEpochEntry, 'the custody key');
  } catch (error) {
    // Absence may not be shown to everybody. But it needs no proof where there cannot be a key.
    if (!(error instanceof ClientError) || error.code !== 'PROOF_SHOWS_OTHERS') throw error;
    if (await hasCustodiansThroughout(view)) throw error;
    return null;
  }
}

/** What a record's key is sealed under: public keys, 33 bytes. */
export interface SealingKeys {
  readonly custody: Uint8Array;
  /** Null where the policy allows no recovery, or there is no recovery key. */
  readonly recovery: Uint8Array | null;
}

/** The keys that records under this policy are sealed under; null where they are not. @throws as `activeEpoch` */
export async function sealingKeys(view: ChainView, policy: PolicyDocument): Promise<SealingKeys | null> {
  const epoch = policy.custodian ? await activeEpoch(view) : null;
  if (epoch === null) return null;
  return { custody: epoch.key, recovery: policy.recovery ? await activeRecoveryKey(view) : null };
}

/**
 * X of the recovery key that new records are sealed under as well; null where the node says that there is none. That needs
 * no proof: the chain refuses a record without it where it is wrong, and the record is sealed for the custodians anyway.
 */
export async function activeRecoveryKey(view: ChainView): Promise<Uint8Array | null> {
  const found = await view.find(stateKey.activeRecoveryKey(), activeRecoveryKeyEntry, 'the recovery key');
  return found?.value.key ?? null;
}

/** A key is made, and handed on, only while each validator's organisation runs a custodian. */
async function hasCustodiansThroughout(view: ChainView): Promise<boolean> {
  for (const { orgId } of view.validators) {
    const { value } = await view.entry(stateKey.organisation(orgId), organisationEntry, `the organisation ${orgId}`);
    if (value.custodianKey === null) return false;
  }
  return true;
}

/** A record as the chain proves it, as far as its keeping goes. */
interface Kept {
  readonly record: { readonly owner: Uint8Array };
  readonly version: Pick<RecordVersionEntry, 'content'>;
}

/**
 * In what a version's key is kept otherwise than that of a new version would be now; empty where it is not.
 * @throws as `sealingKeys`
 */
export async function keptOtherwise(view: ChainView, { record, version }: Kept): Promise<readonly string[]> {
  const { capsule, policyRef, ownerPublicKey } = version.content;
  const policy = await provenPolicy(view, policyRef);
  const keys = await sealingKeys(view, policy.document);
  const owner = await view.entry(stateKey.account(record.owner), accountEntry, "the patient's account");
  const under = capsule.kind === 'threshold' ? capsule.recovery : null;
  const recovery = keys === null ? null : keys.recovery;
  return [
    ...(capsule.kind === 'direct' && keys !== null
      ? ['The key of this version is wrapped to single holders; the new one is sealed by the custodians.']
      : []),
    ...(recovery !== null && under === null ? ['It is sealed under no recovery key, and the new one is.'] : []),
    ...(recovery !== null && under !== null && !equalBytes(under.key, recovery)
      ? ['It is sealed under an earlier recovery key.']
      : []),
    ...(policy.document.patientWrap && !equalBytes(owner.value.publicKey, ownerPublicKey)
      ? ["The patient's copy is for a key that the patient has replaced."]
      : []),
  ];
}

/** How a version's key is kept, for people. */
export function custodyWords({ capsule }: Pick<RecordContent, 'capsule'>): string {
  if (capsule.kind === 'direct') return 'direct';
  return capsule.recovery === null ? 'threshold' : 'threshold, and under the recovery key';
}

/** What a version's capsule is bound to (custody protocol, section 5.2). */
export const labelOf = (
  chainId: Uint8Array,
  record: { readonly recordId: Uint8Array; readonly version: number; readonly owner: Uint8Array },
  content: Pick<RecordContent, 'policyRef' | 'dataDigest' | 'keyCheck'>,
): CapsuleLabel => ({
  chainId,
  recordId: record.recordId,
  version: record.version,
  ownerId: record.owner,
  policyRef: content.policyRef,
  dataDigest: content.dataDigest,
  keyCheck: content.keyCheck,
});

/**
 * What travelled beside the block that wrote a version, whole: its hash is the one that the chain names.
 * @throws ClientError WRAP_ERASED, PROOF_INVALID, and those of calls
 */
export async function sidecarOf(view: ChainView, entry: RecordVersionEntry): Promise<Sidecar> {
  const { recordId, version, content } = entry;
  const answer = await view.rpc.call('emr_getWraps', { recordId: hexOf(recordId), version });
  if (answer.erased) {
    throw new ClientError(
      'WRAP_ERASED',
      "This record's key was erased: nobody can read it any more.",
      'Nothing can be done.',
    );
  }
  const wraps = answer.wraps.map((wrap) => ({
    to: wrap.to === 'patient' ? { kind: 'patient' as const } : { kind: 'custodian' as const, orgId: wrap.orgId ?? '' },
    ciphertext: fromHex(wrap.ciphertext),
  }));
  const sidecar: Sidecar =
    answer.c === null
      ? { kind: 'wraps', wraps }
      : {
          kind: 'sealed',
          c: fromHex(answer.c, 32),
          recoveryC: answer.recoveryC === null ? null : fromHex(answer.recoveryC, 32),
          wraps,
        };
  if (!equalBytes(sidecarHash(encodeSidecar(sidecar)), content.sidecarHash)) {
    throw new ClientError(
      'PROOF_INVALID',
      'The node showed another key of the record than the chain names.',
      'Use another node (--rpc URL).',
    );
  }
  return sidecar;
}
