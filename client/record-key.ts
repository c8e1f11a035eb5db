/**
 * Where a new record's key goes: under the key that the custodians share, once they have made one; until then into a wrap
 * for the custodian of the writing hospital. The patient's own wrap is the policy's matter, in both forms.
 */
import { decodePoint } from '../common/crypto/curve.ts';
import { checkCapsule, encodeLabel, sealCapsule } from '../common/crypto/custody/capsule.ts';
import { equalBytes } from '../common/bytes.ts';
import { sm2Encrypt } from '../common/crypto/sm2-encrypt.ts';
import { accept, reject, type Verdict } from '../common/errors.ts';
import { capsuleBytesOf, type SealedCapsule, splitCapsule } from '../common/protocol/custody.ts';
import type { PolicyDocument } from '../common/protocol/policy.ts';
import { wrapPlaintext } from '../common/protocol/record.ts';
import { organisationEntry, stateKey } from '../common/protocol/state-entries.ts';
import type { RecordContent, Sidecar } from '../common/protocol/transaction.ts';
import type { ChainView } from './chain-view.ts';
import { labelOf, type SealingKeys, sealingKeys } from './custody.ts';
import { ClientError } from './errors.ts';
import { randomSecret } from './randomness.ts';

type Wrap = Extract<Sidecar, { kind: 'wraps' }>['wraps'][number];

export interface KeyToKeep {
  /** 32 bytes; erased by the caller. */
  readonly key: Uint8Array;
  readonly recordId: Uint8Array;
  readonly version: number;
  readonly owner: Uint8Array;
  /** The patient's public key, proven. */
  readonly ownerKey: Uint8Array;
  readonly hospital: string;
  /** What the capsule's label says of the content. */
  readonly content: Pick<RecordContent, 'policyRef' | 'dataDigest' | 'keyCheck'>;
}

export interface KeptKey {
  readonly capsule: RecordContent['capsule'];
  readonly sidecar: Sidecar;
}

/**
 * The capsule and the wraps that the policy demands, with the key in nothing else.
 * @throws ClientError CUSTODIAN_KEY_MISSING, and those of proofs and calls
 */
export async function keepKey(view: ChainView, policy: PolicyDocument, kept: KeyToKeep): Promise<KeptKey> {
  const keys = await sealingKeys(view, policy);
  const custodianKey = policy.custodian && keys === null ? await provenCustodianKey(view, kept.hospital) : null;
  const plain = wrapPlaintext(kept.key, kept.recordId, kept.version);
  const wrapFor = (to: Wrap['to'], publicKey: Uint8Array): Wrap => ({
    to,
    ciphertext: sm2Encrypt(publicKey, plain, randomSecret),
  });
  const forPatient = policy.patientWrap ? [wrapFor({ kind: 'patient' }, kept.ownerKey)] : [];
  const forCustodian =
    custodianKey === null ? [] : [wrapFor({ kind: 'custodian', orgId: kept.hospital }, custodianKey)];
  plain.fill(0);
  if (keys !== null) return sealed(view, keys, kept, forPatient);
  return { capsule: { kind: 'direct' }, sidecar: { kind: 'wraps', wraps: [...forPatient, ...forCustodian] } };
}

/** Sealed under the custody key, and under the recovery key where there is one for the record. */
function sealed(view: ChainView, keys: SealingKeys, kept: KeyToKeep, wraps: readonly Wrap[]): KeptKey {
  const label = encodeLabel(labelOf(view.node.chainId, kept, kept.content));
  const under = (key: Uint8Array): ReturnType<typeof splitCapsule> => {
    const X = decodePoint(key);
    if (X !== undefined) return splitCapsule(key, sealCapsule(X, label, kept.key, randomSecret));
    throw new ClientError(
      'PROOF_INVALID',
      'A key that the chain has for sealing is not a key.',
      'Do not write records here, and tell the operators.',
    );
  };
  const { sealed: capsule, c } = under(keys.custody);
  const recovery = keys.recovery === null ? null : under(keys.recovery);
  return {
    capsule: { kind: 'threshold', ...capsule, recovery: recovery && recovery.sealed },
    sidecar: { kind: 'sealed', c, recoveryC: recovery && recovery.c, wraps: [...wraps] },
  };
}

/** Proven: a node that could name a key of its own as the custodian's would read the record. */
async function provenCustodianKey(view: ChainView, hospital: string): Promise<Uint8Array> {
  const { value } = await view.entry(
    stateKey.organisation(hospital),
    organisationEntry,
    `the organisation ${hospital}`,
  );
  if (value.custodianKey !== null) return value.custodianKey;
  throw new ClientError(
    'CUSTODIAN_KEY_MISSING',
    `The policy wants a wrap for the custodian, and ${hospital} runs none.`,
    'Choose a policy without custodian.',
  );
}

/**
 * The other side's check: that the key is kept as the chain demands it now. That what is sealed is the record's key, only
 * those can tell who open it; `keyCheck` is in the label, so that the blame is the writer's then.
 * @param keys `sealingKeys` of the record's policy
 * @returns CAPSULE_WRONG_KIND, CAPSULE_WRONG_KEY, and those of `checkCapsule`
 */
export function checkKept(
  chainId: Uint8Array,
  keys: SealingKeys | null,
  record: { readonly recordId: Uint8Array; readonly version: number; readonly owner: Uint8Array },
  content: RecordContent,
  sidecar: Sidecar,
): Verdict<null> {
  const { capsule } = content;
  if (keys === null) {
    const isDirect = capsule.kind === 'direct' && sidecar.kind === 'wraps';
    return isDirect
      ? accept(null)
      : reject('CAPSULE_WRONG_KIND', 'the key is sealed, and the custodians share none for it');
  }
  if (capsule.kind !== 'threshold' || sidecar.kind !== 'sealed')
    return reject('CAPSULE_WRONG_KIND', 'the key is not sealed under the key that the custodians share');
  const label = encodeLabel(labelOf(chainId, record, content));
  const custody = checkSealed({ capsule, c: sidecar.c }, keys.custody, label, 'the key that the custodians share');
  if (!custody.ok) return custody;
  return checkSealed({ capsule: capsule.recovery, c: sidecar.recoveryC }, keys.recovery, label, 'the recovery key');
}

interface Sealed {
  readonly capsule: SealedCapsule | null;
  readonly c: Uint8Array | null;
}

/** @param key null where there must be no capsule of this kind */
function checkSealed({ capsule, c }: Sealed, key: Uint8Array | null, label: Uint8Array, name: string): Verdict<null> {
  if (capsule === null || c === null || key === null) {
    return capsule === null && c === null && key === null
      ? accept(null)
      : reject('CAPSULE_WRONG_KIND', `the key is sealed under ${name} where it must not be, or not where it must`);
  }
  const X = decodePoint(key);
  if (X === undefined || !equalBytes(capsule.key, key))
    return reject('CAPSULE_WRONG_KEY', `the key is sealed under another key than ${name}`);
  const checked = checkCapsule(capsuleBytesOf(capsule, c), X, label);
  return checked.ok ? accept(null) : checked;
}
