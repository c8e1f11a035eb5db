/** The entries of a state in which a record was written and somebody was granted access to it: what a custodian judges. */
import { type Codec, encode } from '../../common/codec.ts';
import { DEFAULT_CHAIN_PARAMS } from '../../common/protocol/chain-params.ts';
import {
  accountEntry,
  type AccountEntry,
  organisationEntry,
  type OrganisationEntry,
  paramsEntry,
  recordVersionEntry,
  type RecordVersionEntry,
  requestEntry,
  type RequestEntry,
  stateKey,
} from '../../common/protocol/state-entries.ts';
import { requestHashOf } from '../../common/protocol/transaction.ts';

const filled = (length: number, value: number) => new Uint8Array(length).fill(value);
const REQUESTER = filled(20, 7);
export const RECORD_ID = filled(32, 1);

export interface GrantedRecord {
  readonly chainId: Uint8Array;
  readonly nowMs: number;
  readonly status: RequestEntry['status'];
  readonly notAfterMs: number;
  readonly accountStatus: AccountEntry['status'];
  readonly orgStatus: OrganisationEntry['status'];
  readonly recordOrg: string;
  readonly requesterKey: Uint8Array;
  readonly content: Pick<RecordVersionEntry['content'], 'capsule' | 'keyCheck' | 'sidecarHash'>;
}

export function grantedRecord(of: GrantedRecord) {
  const request: RequestEntry['request'] = {
    recordId: RECORD_ID,
    version: 1,
    requester: REQUESTER,
    requesterKey: of.requesterKey,
    purpose: 'TREAT',
    ruleIndex: 0,
    policyVersion: 1,
    notAfterMs: of.notAfterMs,
    nonce: filled(16, 2),
  };
  const grantId = requestHashOf(of.chainId, request);
  const entries: [Uint8Array, Uint8Array][] = [];
  const put = <T>(key: Uint8Array, codec: Codec<T>, value: T) => void entries.push([key, encode(codec, value)]);
  put(stateKey.params(), paramsEntry, DEFAULT_CHAIN_PARAMS);
  put(stateKey.request(grantId), requestEntry, {
    hash: grantId,
    request,
    policyRef: filled(32, 4),
    owner: filled(20, 9),
    recordOrg: of.recordOrg,
    requesterOrg: 'hospital-b',
    requesterTag: filled(32, 1),
    status: of.status,
    createdMs: 1,
    pendingUntilMs: of.nowMs,
    statusHeight: 5,
    statusMs: 5,
    statusBy: null,
    statusReason: null,
    filled: [],
  });
  put(stateKey.recordVersion(RECORD_ID, 1), recordVersionEntry, {
    recordId: RECORD_ID,
    version: 1,
    writer: filled(20, 8),
    orgId: of.recordOrg,
    content: {
      policyRef: filled(32, 4),
      cid: filled(36, 5),
      dataDigest: filled(32, 6),
      sizeBytes: 4140,
      categoryToken: filled(32, 7),
      headerHash: filled(32, 8),
      ...of.content,
      ownerPublicKey: filled(64, 9),
      ownerSignature: filled(64, 9),
    },
    height: 3,
    createdMs: 1,
  });
  put(stateKey.account(REQUESTER), accountEntry, {
    id: REQUESTER,
    orgId: 'hospital-b',
    kind: 'staff',
    publicKey: filled(64, 1),
    keySinceMs: 1,
    recoveredMs: null,
    personTag: filled(32, 1),
    custodial: false,
    status: of.accountStatus,
    enrolledMs: 1,
    enrolledBy: null,
  });
  put(stateKey.organisation('hospital-b'), organisationEntry, {
    orgId: 'hospital-b',
    name: 'Hospital B',
    status: of.orgStatus,
    custodianKey: null,
    sinceMs: 1,
  });
  /** The proofs that every demand for this grant has. */
  const prove = (proof: (key: Uint8Array) => Uint8Array) => ({
    request: proof(stateKey.request(grantId)),
    recordVersion: proof(stateKey.recordVersion(RECORD_ID, 1)),
    requester: proof(stateKey.account(REQUESTER)),
    requesterOrg: proof(stateKey.organisation('hospital-b')),
    params: proof(stateKey.params()),
  });
  return { grantId, entries, prove };
}
