/**
 * The mix of a chain at work: of ten transactions, six requests with a proof of possession (two signatures each), three
 * approvals, and one record with a capsule under the custody key and its owner's signature.
 */
import { decodePoint } from '../../../common/crypto/curve.ts';
import { encodeLabel, keyCheckOf, sealCapsule } from '../../../common/crypto/custody/capsule.ts';
import { H } from '../../../common/crypto/hash.ts';
import { computeCid } from '../../../common/native/unixfs-cid.ts';
import { systemRandom } from '../../../common/native/sm2-openssl.ts';
import { splitCapsule } from '../../../common/protocol/custody.ts';
import { type PolicyDocument, policyRefOf } from '../../../common/protocol/policy.ts';
import { recordIdOf } from '../../../common/protocol/record.ts';
import { ownerWriteHash } from '../../../common/protocol/statements.ts';
import { encodeSidecar, requestHashOf, type Sidecar, sidecarHash } from '../../../common/protocol/transaction.ts';
import { Prng } from '../../sim/prng.ts';
import { benchKey } from './bench-key.ts';
import type { Planned, Prepared } from './one-signature.ts';
import { zipf } from './schedule.ts';
import { PHYSICIANS, POLICY, type Town, WRAPS } from './town.ts';
import { freshNonce } from './transactions.ts';

const TEN = 'RARRCARRAR';

/** Under this, records are sealed for all custodians together. */
export const SEALED_POLICY: PolicyDocument = { ...POLICY, nonce: new Uint8Array(16).fill(1), custodian: true };

/** The one ciphertext that all these records name: 4 KiB. What copies cost is not measured. */
const CIPHERTEXT = new Uint8Array(4_096).fill(0xa5);

export async function* ciphertext(): AsyncGenerator<Uint8Array> {
  yield CIPHERTEXT.slice();
}

export interface Ciphertext {
  readonly cid: Uint8Array;
  readonly dataDigest: Uint8Array;
  readonly sizeBytes: number;
}

export async function ciphertextNames(): Promise<Ciphertext> {
  const { cid, dataDigest, sizeBytes } = await computeCid(ciphertext());
  return { cid: cid.bytes, dataDigest, sizeBytes };
}

export interface FullCustody {
  readonly chainId: Uint8Array;
  readonly town: Town;
  readonly prepared: Prepared;
  /** 33 bytes. */
  readonly custodyKey: Uint8Array;
  readonly stored: Ciphertext;
}

/** Ends when the approvals that were prepared for are used up. */
export function* fullCustody(of: FullCustody, seed: number): Generator<Planned> {
  const random = new Prng(seed);
  const whose = zipf(of.town.patientCount, 1, random);
  let [approved, fresh] = [0, 0];
  for (let turn = 0; ; turn += 1) {
    switch (TEN[turn % TEN.length]) {
      case 'A':
        if (approved >= of.prepared.pending.length) return;
        yield of.prepared.pending[approved++] as Planned;
        break;
      case 'R':
        fresh += 1;
        yield request(of, whose(), random.between(0, PHYSICIANS - 1), seed * 1_000_000 + fresh);
        break;
      default:
        yield record(of, whose());
    }
  }
}

function request({ chainId, town }: FullCustody, patient: number, physician: number, fresh: number): Planned {
  const key = benchKey('asks', fresh);
  const asked = town.request(patient, physician, 'three', key.publicKey, Date.now());
  const possession = key.sign(requestHashOf(chainId, asked));
  return { by: town.physician(physician), call: { kind: 'access.request', request: asked, possession } };
}

function record({ chainId, town, custodyKey, stored }: FullCustody, patient: number): Planned {
  const { writer, call } = town.record(patient);
  const owner = town.patient(patient);
  const nonce = freshNonce();
  const recordId = recordIdOf(writer.address, owner.address, nonce, call.sectionClass);
  const key = H('bench-record-key', recordId);
  const bound = {
    policyRef: policyRefOf(SEALED_POLICY),
    dataDigest: stored.dataDigest,
    keyCheck: keyCheckOf(recordId, 1, key),
  };
  const label = encodeLabel({ chainId, recordId, version: 1, ownerId: owner.address, ...bound });
  const X = decodePoint(custodyKey);
  if (X === undefined) throw new Error('the custody key is no point');
  const { sealed, c } = splitCapsule(custodyKey, sealCapsule(X, label, key, systemRandom));
  const sidecar: Sidecar = { kind: 'sealed', c, recoveryC: null, wraps: WRAPS };
  const content = {
    ...call.content,
    ...bound,
    cid: stored.cid,
    sizeBytes: stored.sizeBytes,
    capsule: { kind: 'threshold' as const, ...sealed, recovery: null },
    sidecarHash: sidecarHash(encodeSidecar(sidecar)),
  };
  const unsigned = { ...call, nonce, content };
  const ownerSignature = owner.sign(ownerWriteHash(chainId, writer.address, unsigned));
  // The hospital that writes has the ciphertext.
  const node = town.orgs.indexOf(call.hospital);
  return { by: writer, call: { ...unsigned, content: { ...content, ownerSignature } }, sidecar, node };
}
