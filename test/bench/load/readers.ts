/** People who hold a grant for one record: as many as are wanted, written as the entries that their requests would have left. */
import { compareBytes, concatBytes, u32be } from '../../../common/bytes.ts';
import { encode } from '../../../common/codec.ts';
import { H } from '../../../common/crypto/hash.ts';
import {
  accountEntry,
  decisionEntry,
  emptyEntry,
  grantEntry,
  keyEntry,
  requestByRecordEntry,
  requestEntry,
  roleEntry,
  stateKey,
} from '../../../common/protocol/state-entries.ts';
import type { StateWrite } from '../../../vm/types.ts';
import type { PreparedChain } from './prepared-chain.ts';
import type { BenchKey } from './bench-key.ts';
import type { Town } from './town.ts';

const CHUNK = 10_000;
const HOUR_MS = 3_600_000;

export interface ReadRecord {
  readonly recordId: Uint8Array;
  readonly policyRef: Uint8Array;
  readonly owner: BenchKey;
  readonly orgId: string;
}

/** Hash of the request that a reader's grant came from. */
export const readersGrant = (index: number): Uint8Array => H('bench-readers-request', u32be(index));

function readerWrites(index: number, town: Town, record: ReadRecord, height: number, nowMs: number): StateWrite[] {
  const id = H('bench-reader', u32be(index)).slice(0, 20);
  const publicKey = concatBytes(H('bench-reader-x', u32be(index)), H('bench-reader-y', u32be(index)));
  const personTag = H('bench-reader-tag', u32be(index));
  const orgId = town.orgOf(index);
  const hash = readersGrant(index);
  const notAfterMs = nowMs + 12 * HOUR_MS;
  const { recordId, policyRef, owner, orgId: recordOrg } = record;
  const request = {
    recordId,
    version: 1,
    requester: id,
    requesterKey: publicKey,
    purpose: 'TREAT' as const,
    ruleIndex: 0,
    policyVersion: 1,
    notAfterMs,
    nonce: hash.slice(0, 16),
  };
  const account = {
    id,
    orgId,
    kind: 'staff' as const,
    publicKey,
    keySinceMs: nowMs,
    recoveredMs: null,
    personTag,
    custodial: false,
    status: 'active' as const,
    enrolledMs: nowMs,
    enrolledBy: null,
  };
  const role = {
    account: id,
    role: 'physician' as const,
    orgId,
    department: null,
    grantedMs: nowMs,
    effectiveMs: 0,
    grantedBy: null,
    expiresAtMs: Number.MAX_SAFE_INTEGER,
  };
  const granted = {
    hash,
    request,
    policyRef,
    owner: owner.address,
    recordOrg,
    requesterOrg: orgId,
    requesterTag: personTag,
    status: 'granted' as const,
    createdMs: nowMs,
    pendingUntilMs: notAfterMs,
    statusHeight: height,
    statusMs: nowMs,
    statusBy: owner.address,
    statusReason: null,
    filled: [{ slot: 0, account: owner.address, orgId: recordOrg }],
  };
  const decision = {
    account: owner.address,
    orgId: recordOrg,
    personTag: null,
    approve: true,
    atMs: nowMs,
    height,
    reason: null,
    slot: null,
  };
  return [
    { key: stateKey.account(id), value: encode(accountEntry, account) },
    { key: stateKey.key(id), value: encode(keyEntry, { account: id, use: 'account' }) },
    { key: stateKey.role(id, 'physician', orgId, null), value: encode(roleEntry, role) },
    { key: stateKey.request(hash), value: encode(requestEntry, granted) },
    {
      key: stateKey.requestByRecord(recordId, height, hash),
      value: encode(requestByRecordEntry, { hash, purpose: 'TREAT', requester: id }),
    },
    { key: stateKey.decision(hash, owner.address), value: encode(decisionEntry, decision) },
    {
      key: stateKey.grant(recordId, id, hash),
      value: encode(grantEntry, { purpose: 'TREAT', version: 1, notAfterMs }),
    },
    { key: stateKey.deadline(notAfterMs, 'grant', hash), value: encode(emptyEntry, {}) },
  ];
}

/** Readers number `from` to `until` − 1. */
export async function implantReaders(
  chain: PreparedChain,
  town: Town,
  record: ReadRecord,
  from: number,
  until: number,
): Promise<void> {
  for (let first = from; first < until; first += CHUNK) {
    const height = chain.executor.head.height + 1;
    const count = Math.min(CHUNK, until - first);
    const writes = Array.from({ length: count }, (_, n) =>
      readerWrites(first + n, town, record, height, chain.timestampMs),
    );
    await chain.implant(writes.flat().sort((a, b) => compareBytes(a.key, b.key)));
  }
}
