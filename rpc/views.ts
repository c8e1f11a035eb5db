/** The JSON forms that methods answer with, from what the ledger holds. Scope was decided by the caller. */
import { CID } from 'multiformats/cid';
import type { BlockHeader, Certificate } from '../common/protocol/block.ts';
import type { Receipt } from '../common/protocol/receipt.ts';
import type {
  AccountEntry,
  DecisionEntry,
  OrganisationEntry,
  AmendmentEntry,
  PolicyEntry,
  ProposalEntry,
  RecordEntry,
  RecordVersionEntry,
  RequestEntry,
  RoleEntry,
  VoteEntry,
} from '../common/protocol/state-entries.ts';
import { decisionOf, type ValidatorSet } from '../common/protocol/validator-set.ts';
import type { BlockView } from './blocks.ts';
import { toHex, toJson } from './json.ts';
import type { Alarm } from './ports.ts';
import type { Scope } from './scope.ts';

export const headerView = (header: BlockHeader) => toJson(header);

export const validatorsView = (set: ValidatorSet) =>
  set.map(({ address, orgId, publicKey, peerId }, index) => ({
    index,
    address: toHex(address),
    orgId,
    publicKey: toHex(publicKey),
    peerId,
  }));

export const alarmView = ({ missing, ...alarm }: Alarm) => ({
  ...alarm,
  missing: missing.map((member) => ({ ...member, address: toHex(member.address) })),
});
export type AlarmView = ReturnType<typeof alarmView>;

export const certificateView = (proof: Certificate, set: ValidatorSet) => ({
  height: proof.height,
  view: proof.view,
  blockHash: toHex(proof.blockHash),
  signatures: proof.signatures.flatMap(({ validator, signature }) => {
    const member = set[validator];
    return member === undefined
      ? []
      : [{ validator, address: toHex(member.address), orgId: member.orgId, signature: toHex(signature) }];
  }),
});

export async function txSummary(block: BlockView, index: number, scope: Scope) {
  const tx = block.decoded[index];
  if (tx === undefined) throw new RangeError('no such transaction in this block');
  const visible = await scope.transaction(tx.body.account, block.receipts[index]);
  return {
    hash: toHex(tx.hash),
    height: block.header.height,
    index,
    timestampMs: block.header.timestampMs,
    sizeBytes: tx.bytes.length,
    account: visible ? toHex(tx.body.account) : null,
    callKind: visible ? tx.body.call.kind : null,
  };
}

export async function receiptView(receipt: Receipt, scope: Scope) {
  const events = await scope.events(receipt.events);
  return {
    index: receipt.index,
    txHash: receipt.txHash && toHex(receipt.txHash),
    events: events.map((event) => toJson(event)),
  };
}

export const recordVersionView = ({ content, ...entry }: RecordVersionEntry) => ({
  recordId: toHex(entry.recordId),
  version: entry.version,
  writer: toHex(entry.writer),
  orgId: entry.orgId,
  height: entry.height,
  createdMs: entry.createdMs,
  policyRef: toHex(content.policyRef),
  cid: CID.decode(content.cid).toString(),
  dataDigest: toHex(content.dataDigest),
  sizeBytes: content.sizeBytes,
  categoryToken: toHex(content.categoryToken),
  headerHash: toHex(content.headerHash),
  keyCheck: toHex(content.keyCheck),
  custody: content.capsule.kind,
  sidecarHash: toHex(content.sidecarHash),
  ownerPublicKey: toHex(content.ownerPublicKey),
  ownerSignature: toHex(content.ownerSignature),
});

/** `request`: what it takes to ask for access, and nothing about the patient. */
export function recordView(entry: RecordEntry, latest: RecordVersionEntry, view: 'full' | 'request') {
  const full = view === 'full';
  return {
    id: toHex(entry.id),
    view,
    orgId: entry.orgId,
    latestVersion: entry.latestVersion,
    policyRef: toHex(latest.content.policyRef),
    owner: full ? toHex(entry.owner) : null,
    writer: full ? toHex(entry.writer) : null,
    section: full ? entry.section : null,
    createdMs: full ? entry.createdMs : null,
    latest: full ? recordVersionView(latest) : null,
  };
}

export const policyView = (entry: PolicyEntry) => ({
  ref: toHex(entry.ref),
  version: entry.version,
  document: toJson(entry.document),
  createdBy: toHex(entry.createdBy),
  createdMs: entry.createdMs,
  sinceMs: entry.sinceMs,
  amendmentId: entry.amendmentId && toHex(entry.amendmentId),
});

export const amendmentView = (entry: AmendmentEntry) => ({
  id: toHex(entry.id),
  policyRef: toHex(entry.amendment.policyRef),
  version: entry.amendment.version,
  document: toJson(entry.amendment.document),
  proposer: toHex(entry.proposer),
  proposerOrg: entry.proposerOrg,
  status: entry.status,
  createdMs: entry.createdMs,
  closesMs: entry.closesMs,
  statusMs: entry.statusMs,
  statusHeight: entry.statusHeight,
  statusBy: entry.statusBy && toHex(entry.statusBy),
  decisions: entry.decisions.map(decisionView),
});

export const accountView = (entry: AccountEntry, scope: Scope) => ({
  ...toJson(entry),
  personTag: toJson(scope.personTag(entry)),
});

export const roleView = (entry: RoleEntry, blockTimeMs: number) => ({
  ...toJson(entry),
  current: blockTimeMs < entry.expiresAtMs,
});

export const requestView = (entry: RequestEntry) => ({
  hash: toHex(entry.hash),
  recordId: toHex(entry.request.recordId),
  version: entry.request.version,
  requester: toHex(entry.request.requester),
  requesterOrg: entry.requesterOrg,
  owner: toHex(entry.owner),
  recordOrg: entry.recordOrg,
  purpose: entry.request.purpose,
  policyRef: toHex(entry.policyRef),
  policyVersion: entry.request.policyVersion,
  ruleIndex: entry.request.ruleIndex,
  notAfterMs: entry.request.notAfterMs,
  status: entry.status,
  createdMs: entry.createdMs,
  pendingUntilMs: entry.pendingUntilMs,
  statusHeight: entry.statusHeight,
  statusMs: entry.statusMs,
  statusBy: entry.statusBy && toHex(entry.statusBy),
  statusReason: entry.statusReason,
});

/** Without the person tag: whose it is, is the organisation's matter. */
export const decisionView = ({ account, orgId, approve, atMs, height, reason, slot }: DecisionEntry) => ({
  account: toHex(account),
  orgId,
  approve,
  atMs,
  height,
  reason,
  slot,
});

export const organisationView = (entry: OrganisationEntry) => toJson(entry);

/** Validators after a proposal has taken effect, as far as can be said now. */
function sizeAfter({ proposal }: ProposalEntry, set: ValidatorSet): number {
  const isMember = 'orgId' in proposal && set.some(({ orgId }) => orgId === proposal.orgId);
  if (proposal.kind === 'addValidator') return set.length + (isMember ? 0 : 1);
  return set.length - (proposal.kind === 'removeValidator' && isMember ? 1 : 0);
}

const UNDECIDED: ReadonlySet<string> = new Set(['open', 'accepted', 'awaitingReady']);

/** @param set that certifies the next height */
export const proposalView = (entry: ProposalEntry, set: ValidatorSet) => ({
  ...toJson(entry),
  decides: UNDECIDED.has(entry.status)
    ? { now: decisionOf(set.length), after: decisionOf(sizeAfter(entry, set)) }
    : null,
});

export const voteView = ({ orgId, account, approve, atMs }: VoteEntry) => ({
  orgId,
  account: toHex(account),
  approve,
  atMs,
});
