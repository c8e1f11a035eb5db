/**
 * Everything that anybody signs, in one place: each message is the 32-byte `H(domain, chainId, …)`, so that no
 * signature can be taken for one of another kind, chain, height or view. `chainId` is the genesis hash, 32 bytes.
 */
import { u32be, u64be, utf8 } from '../bytes.ts';
import { H } from '../crypto/hash.ts';
import type { Address, Hash, Height, OrgId, View } from './primitives.ts';

/** Over the canonical transaction body. Signed by the sender's account key. */
export const txSigningHash = (chainId: Hash, body: Uint8Array): Hash => H('tx', chainId, body);

export const VOTE_KINDS = ['preprepare', 'prepare', 'commit'] as const;
export type VoteKind = (typeof VOTE_KINDS)[number];

/** Over a PBFT vote. Signed by a validator key. */
export const voteSigningHash = (chainId: Hash, kind: VoteKind, height: Height, view: View, digest: Hash): Hash =>
  H(`vote/${kind}`, chainId, u64be(height), u64be(view), digest);

/** Over the canonical body of a view-change, new-view, status or echo message. Signed by a validator key. */
export const consensusSigningHash = (
  chainId: Hash,
  kind: 'viewchange' | 'newview' | 'status' | 'echo',
  body: Uint8Array,
): Hash => H(`consensus/${kind}`, chainId, body);

/** Proof of possession of a key that is enrolled, rotated in, or recovered to. Signed by that new key. */
export const possessionSigningHash = (
  chainId: Hash,
  purpose: 'enrol' | 'rotate' | 'recover',
  statement: Uint8Array,
): Hash => H(`possession/${purpose}`, chainId, statement);

/** Over the card of a node, and whom it replaces: made by the SM2 key that the card names. */
export const nodeCardSigningHash = (chainId: Hash, purpose: 'admit' | 'rotate', statement: Uint8Array): Hash =>
  H(`node-card/${purpose}`, chainId, statement);

/** What a second party signs when it confirms the statement of another party's call. */
export const countersignSigningHash = (
  chainId: Hash,
  purpose: 'enrol' | 'recover' | 'attending',
  statement: Uint8Array,
): Hash => H(`countersign/${purpose}`, chainId, statement);

/** A replica's receipt that it holds a whole ciphertext durably. Signed by its validator key. */
export const replicaReceiptSigningHash = (chainId: Hash, cid: Uint8Array, dataDigest: Hash, holder: Address): Hash =>
  H('replica', chainId, cid, dataDigest, holder);

/** A reply of a key custodian: released key material for one grant. Signed by the custodian key. */
export const releaseSigningHash = (chainId: Hash, grantId: Hash, orgId: OrgId, wrapped: Uint8Array): Hash =>
  H('release', chainId, grantId, utf8(orgId), wrapped);

/** A reader's token for the RPC of one node; composed by the client from values that it knows itself. */
export const rpcAuthSigningHash = (token: {
  readonly network: string;
  readonly chainId: Hash;
  /** The validator or observer address of the node that is talked to. */
  readonly nodeId: Address;
  /** `scheme://host:port` as the client dialled it. */
  readonly origin: string;
  readonly nonce: Uint8Array;
  readonly notAfterMs: number;
}): Hash =>
  H(
    'rpc-auth',
    utf8(token.network),
    token.chainId,
    token.nodeId,
    utf8(token.origin),
    token.nonce,
    u64be(token.notAfterMs),
  );

/** Binds a record's label to everything that the key release depends on (custody protocol, section 5.2). */
export const recordLabelFields = (r: {
  readonly chainId: Hash;
  readonly recordId: Hash;
  readonly version: number;
  readonly policyRef: Hash;
  readonly owner: Address;
  readonly dataDigest: Hash;
  readonly keyCheck: Uint8Array;
}): readonly Uint8Array[] => [r.chainId, r.recordId, u32be(r.version), r.policyRef, r.owner, r.dataDigest, r.keyCheck];
