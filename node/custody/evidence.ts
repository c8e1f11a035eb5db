/** What a node shows to its custodian: entries of its own state with their proofs, all under one certified header. */
import { equalBytes } from '../../common/bytes.ts';
import { InvariantError } from '../../common/errors.ts';
import { encodeHeader } from '../../common/protocol/block.ts';
import type { CertifiedHeader, LightProof } from '../../common/protocol/light.ts';
import type { Hash } from '../../common/protocol/primitives.ts';
import type { CustodianDemand } from '../../common/protocol/release.ts';
import { custodySessionEntry } from '../../common/protocol/custody.ts';
import { type RecordVersionEntry, stateKey } from '../../common/protocol/state-entries.ts';
import { decodeTransaction, sidecarHashOf } from '../../common/protocol/transaction.ts';
import type { ChainPort, StateAnswer, StatePort } from '../../rpc/ports.ts';
import { type Grant, type Refused, valueOf } from './grants.ts';

export interface EvidencePorts {
  readonly chain: ChainPort;
  readonly state: StatePort;
}

/** A block may come between two reads of the custody session; several in a row are many. */
const MAX_READS = 8;

/** Block 0 has no certificate: a custodian that has seen no other block knows it by the genesis document. */
const NO_CERTIFICATE = { height: 0, view: 0, signatures: [] } as const;

/** What proves a grant. The handovers that lead to the head are for whoever sends it. */
export async function grantDemand(
  ports: EvidencePorts,
  grantId: Hash,
  { record, requester }: Grant,
): Promise<CustodianDemand | Refused> {
  const isShared = record.content.capsule.kind === 'threshold';
  const keys = [
    stateKey.request(grantId),
    stateKey.recordVersion(record.recordId, record.version),
    stateKey.account(requester.id),
    stateKey.organisation(requester.orgId),
    stateKey.params(),
  ];
  const proven = await provenEntries(ports, isShared ? [...keys, stateKey.custodyEpoch()] : keys);
  if ('code' in proven) return proven;
  const { head, proofs } = proven;
  const [request, recordVersion, account, requesterOrg, params, epoch] = proofs as [
    Proof,
    Proof,
    Proof,
    Proof,
    Proof,
    Proof,
  ];
  const common = { grantId, head, request, recordVersion, requester: account, requesterOrg, params };
  if (isShared) return { kind: 'share', ...common, epoch };
  const sidecar = await sidecarOf(ports.chain, record);
  if (sidecar === null) return { code: 'WRAP_ERASED', message: "the record's key wraps were erased" };
  return { kind: 'release', ...common, sidecar };
}

/** What proves the custody session and the epoch, or that there is none. */
export async function sessionDemand(ports: EvidencePorts): Promise<CustodianDemand | Refused> {
  for (let reads = 1; reads <= MAX_READS; reads += 1) {
    const { at, answers } = await ports.state.read([{ kind: 'get', key: stateKey.custodySession() }]);
    const session = valueOf(custodySessionEntry, answers[0], 'custody session');
    const dealt = session?.dealt ?? [];
    const proven = await provenEntries(ports, [
      stateKey.custodySession(),
      stateKey.custodyEpoch(),
      ...dealt.map((dealer) => stateKey.custodyDealing((session as NonNullable<typeof session>).id, dealer)),
    ]);
    if ('code' in proven) return proven;
    // Which dealings there are was read of this very state, unless a block came between.
    if (!equalBytes(proven.hash, at.hash)) continue;
    const [sessionProof, epoch, ...dealings] = proven.proofs as [Proof, Proof, ...Proof[]];
    return {
      kind: 'session',
      head: proven.head,
      session: sessionProof,
      epoch,
      dealings: dealt.map((dealer, k) => ({ dealer, proof: dealings[k] as Proof })),
    };
  }
  return { code: 'CUSTODIAN_STALE_STATE', message: 'blocks come faster than the custody session can be read' };
}

type Proof = Uint8Array;

interface Proven {
  readonly head: LightProof;
  readonly hash: Hash;
  /** In the order of the keys. */
  readonly proofs: readonly Proof[];
}

async function provenEntries({ state, chain }: EvidencePorts, keys: readonly Uint8Array[]): Promise<Proven | Refused> {
  const { at, answers } = await state.read(keys.map((key) => ({ kind: 'get', key, prove: true })));
  const head = await certifiedAt(chain, at.height);
  if (head === null) return { code: 'CUSTODIAN_STALE_STATE', message: 'no certified block yet' };
  return { head: { handovers: [], head }, hash: at.hash, proofs: answers.map(proofOf) };
}

/** @returns null where the block has no certificate here */
export async function certifiedAt(chain: ChainPort, height: number): Promise<CertifiedHeader | null> {
  const [header, stored] = await Promise.all([chain.header(height), chain.certificate(height)]);
  if (header === null) return null;
  const certificate = stored ?? (height === 0 ? { ...NO_CERTIFICATE, blockHash: header.hash } : null);
  return certificate === null ? null : { header: encodeHeader(header.header), certificate };
}

function proofOf(answer: StateAnswer): Proof {
  if (answer.kind !== 'get' || answer.proof === null) throw new InvariantError('a state proof is missing');
  return answer.proof;
}

/** The block that wrote the version holds the wraps beside it. */
async function sidecarOf(chain: ChainPort, record: RecordVersionEntry): Promise<Uint8Array | null> {
  const block = await chain.block(record.height);
  if (block === null) return null;
  for (const [index, bytes] of block.txs.entries()) {
    const tx = decodeTransaction(bytes);
    if (!tx.ok) throw new InvariantError('a stored transaction does not decode');
    const hash = sidecarHashOf(tx.value.body.call);
    if (hash !== null && equalBytes(hash, record.content.sidecarHash)) return block.sidecars[index] ?? null;
  }
  throw new InvariantError('the block of a record version does not hold its transaction');
}
