/**
 * What the RPC needs from the node, and nothing more. `node/` implements these interfaces; the RPC knows neither its
 * storage nor its threads nor its network.
 *
 * Rules of the boundary:
 *   - protocol structures cross it decoded (the types of common/protocol), byte strings as `Uint8Array`;
 *   - `null` says "not there"; what is asked below `chain.lowestHeight()` is pruned, which the RPC says itself;
 *   - untrusted input (a transaction, an upload) is answered by a `Verdict`; an operation that failed throws
 *     `EmrError`; listeners must return at once, and a listener that throws is a bug of the RPC;
 *   - nothing here decides who may read what: the RPC does, on every route.
 */
import type { Verdict } from '../common/errors.ts';
import type { Sm2Engine } from '../common/crypto/sm2.ts';
import type { BlockHeader, Certificate } from '../common/protocol/block.ts';
import type { Genesis } from '../common/protocol/genesis.ts';
import type { Handover } from '../common/protocol/light.ts';
import type { Purpose } from '../common/protocol/policy.ts';
import type { Address, Hash, Height, OrgId, TimeMs, View } from '../common/protocol/primitives.ts';
import type { Event, Receipt } from '../common/protocol/receipt.ts';
import type { ValidatorSet } from '../common/protocol/validator-set.ts';
import type { AccessDecision, RequestExplanation } from '../vm/index.ts';

export interface RpcPorts {
  readonly node: NodePort;
  readonly chain: ChainPort;
  readonly state: StatePort;
  readonly access: AccessPort;
  readonly transactions: TransactionPort;
  readonly consensus: ConsensusPort;
  readonly network: NetworkPort;
  readonly blobs: BlobPort;
  readonly custody: CustodyPort;
  readonly metrics: MetricsPort;
  /** Verifies readers' tokens: a few a minute, each result cached. */
  readonly sm2: Sm2Engine;
  readonly log: LogPort;
}

/** A block that the state, or an answer, stands at. */
export interface ChainPosition {
  readonly height: Height;
  readonly hash: Hash;
}

// ---------------------------------------------------------------------------------------------------------- node

export interface NodePort {
  /** Milliseconds since 1970 by this machine's clock. */
  nowMs(): TimeMs;
  info(): NodeInfo;
  status(): NodeStatus;
}

export interface NodeInfo {
  /** Version of the software. */
  readonly version: string;
  readonly orgId: OrgId;
  readonly role: 'validator' | 'observer';
  /** Address of the node's SM2 key, 20 bytes: the `nodeId` that readers' tokens are bound to. */
  readonly nodeId: Address;
  readonly peerId: string;
  /** Multiaddrs that the node listens on, with the peer id. */
  readonly listenAddresses: readonly string[];
  readonly startedMs: TimeMs;
}

export interface NodeStatus {
  /** Whether committed heights are being fetched from others. */
  readonly syncing: boolean;
  /** The highest height that a quorum's signed statuses, or certificates, have shown; at least the own height. */
  readonly highestKnownHeight: Height;
  /**
   * Why no block was committed although one is due, or why this node lacks what the others have; null while nothing is
   * due or blocks flow. `STARTING`: since its start the node has not heard from a quorum how far it is, and does not know
   * what it lacks; it is not ready then, and takes no transactions.
   */
  readonly stalledReason: Alarm | null;
  /** What a person should look at although blocks may come. */
  readonly warnings: readonly Alarm[];
}

/** Something that this node's operator should know. Its code has a section in docs/runbook.md. */
export interface Alarm {
  /** Stable word: `NO_QUORUM`, `AWAIT_LEADER`, `SYNCING`, `DISK_LOW`, … */
  readonly code: string;
  /** What is wrong, with names. */
  readonly message: string;
  /** The first thing to do about it. */
  readonly action: string;
  readonly sinceMs: TimeMs;
  /** What was being decided, and where that stood. */
  readonly height: Height;
  readonly view: View;
  readonly phase: string;
  /** Validators whose messages, votes or presence are missing, or who caused it. */
  readonly missing: readonly {
    readonly orgId: OrgId;
    readonly address: Address;
    readonly connected: boolean;
    /** Null: not since this node's start. */
    readonly lastSeenMs: TimeMs | null;
  }[];
}

/** Structured logging without the library's types. Never a payload, a patient reference or key material. */
export interface LogPort {
  info(fields: Readonly<Record<string, unknown>>, message: string): void;
  warn(fields: Readonly<Record<string, unknown>>, message: string): void;
  error(fields: Readonly<Record<string, unknown>>, message: string): void;
}

// --------------------------------------------------------------------------------------------------------- chain

export interface StoredHeader {
  readonly header: BlockHeader;
  readonly hash: Hash;
}

export interface StoredBlock extends StoredHeader {
  /** Encoded `SignedTransaction`s in execution order. */
  readonly txs: readonly Uint8Array[];
  /** `sidecars[i]` is null where transaction i has none, or it was erased. */
  readonly sidecars: readonly (Uint8Array | null)[];
}

/** A block became durable. Announced in order of height, once each, after its whole batch is on disk. */
export interface CommittedNotice extends ChainPosition {
  readonly timestampMs: TimeMs;
  /** In execution order. */
  readonly txHashes: readonly Hash[];
}

export interface ChainPort {
  genesis(): Genesis;
  /** Genesis hash, 32 bytes. */
  chainId(): Hash;
  /** The last durable block. Block 0 is there from the start. */
  head(): ChainPosition & { readonly timestampMs: TimeMs };
  /** Lowest height whose block is kept; 0 without pruning. */
  lowestHeight(): Height;
  header(height: Height): Promise<StoredHeader | null>;
  /** Block 0 has neither transactions nor certificate nor receipts: an empty block, null, and an empty list. */
  block(height: Height): Promise<StoredBlock | null>;
  certificate(height: Height): Promise<Certificate | null>;
  /** One for each transaction, and a last one for what block time itself caused. */
  receipts(height: Height): Promise<readonly Receipt[] | null>;
  heightOfBlock(hash: Hash): Promise<Height | null>;
  locateTransaction(hash: Hash): Promise<{ readonly height: Height; readonly index: number } | null>;
  /** The set that certifies `height`; also answers head + 1. */
  validatorsAt(height: Height): Promise<ValidatorSet | null>;
  /**
   * Certified headers that hand over to another set, in ascending order, from `fromHeight` on and below the head: those that
   * lead from a set which is trusted to the one that certifies the head. At most `limit`.
   */
  handovers(fromHeight: Height, limit: number): Promise<readonly Handover[]>;
  /** Returns the function that ends the subscription. */
  onCommitted(listener: (notice: CommittedNotice) => void): () => void;
}

// --------------------------------------------------------------------------------------------------------- state

export type StateQuery =
  | { readonly kind: 'get'; readonly key: Uint8Array; readonly prove?: boolean }
  | {
      readonly kind: 'range';
      readonly gte: Uint8Array;
      readonly lt: Uint8Array;
      /** 1 to 1,000 entries. */
      readonly limit: number;
      /** Descending order; never together with `prove`. */
      readonly reverse?: boolean;
      readonly prove?: boolean;
    };

export type StateAnswer =
  | { readonly kind: 'get'; readonly value: Uint8Array | null; readonly proof: Uint8Array | null }
  | {
      readonly kind: 'range';
      readonly entries: readonly { readonly key: Uint8Array; readonly value: Uint8Array }[];
      /** True when the range held more than `limit` entries, or more than fits a proof. */
      readonly more: boolean;
      /** Proves that [gte, provenLt) holds exactly `entries`; null unless asked for. */
      readonly proof: Uint8Array | null;
      /** Upper bound of what was proven: `lt`, or lower where the prover cut the range short. Null unless asked for. */
      readonly provenLt: Uint8Array | null;
    };

/** At most this many queries in one read: the largest caller asks for a request, its record, its policy and approvers. */
export const MAX_STATE_QUERIES = 64;

export interface StatePort {
  /**
   * Answers all queries against the state after one and the same block, the last durable one. Proofs are those of
   * common/protocol/state-proof.ts and lead to the `stateRoot` of the header at `at`.
   */
  read(
    queries: readonly StateQuery[],
  ): Promise<{ readonly at: ChainPosition; readonly answers: readonly StateAnswer[] }>;
}

// -------------------------------------------------------------------------------------------------------- access

/**
 * Judgements of the vm over the state after the last durable block, run where the state is. The time asked for is the
 * later of that block's and this machine's clock, so that an idle chain does not show what has run out as valid.
 */
export interface AccessPort {
  /** `explanation` is null when there is no such request. */
  explainRequest(
    requestHash: Hash,
  ): Promise<{ readonly at: ChainPosition; readonly explanation: RequestExplanation | null }>;
  /** Whether `subject` may read the record for the purpose now. */
  checkAccess(question: {
    readonly subject: Address;
    readonly recordId: Hash;
    readonly purpose: Purpose;
  }): Promise<{ readonly at: ChainPosition; readonly decision: AccessDecision }>;
}

// -------------------------------------------------------------------------------------------------- transactions

export interface PendingTransaction {
  readonly hash: Hash;
  /** Account that signed it. */
  readonly account: Address;
  /** Kind of its call, such as `access.request`. */
  readonly callKind: string;
  readonly sizeBytes: number;
  readonly receivedMs: TimeMs;
}

export interface PoolStatus {
  readonly transactions: number;
  readonly bytes: number;
  readonly maxTransactions: number;
  readonly maxBytes: number;
  /** Since start, by code. */
  readonly rejected: ReadonlyMap<string, number>;
}

export type TransactionStatus =
  | { readonly kind: 'unknown' }
  | { readonly kind: 'pending' }
  | { readonly kind: 'committed'; readonly height: Height; readonly index: number }
  /** It left the pool without being committed; remembered for a while only. */
  | { readonly kind: 'dropped'; readonly code: string; readonly message: string };

export interface DroppedNotice {
  readonly hash: Hash;
  readonly code: string;
  readonly message: string;
}

export interface TransactionPort {
  /**
   * Gives a signed transaction to the pool: decodes strictly, discharges its obligations, simulates it on the head,
   * gossips it. Codes are those of codec, obligations and vm; `POOL_FULL`, `ALREADY_PENDING` and `ALREADY_COMMITTED`
   * are the pool's own.
   * @param sidecar the erasable bytes that the call commits to; null where it commits to none
   */
  submit(signedBytes: Uint8Array, sidecar: Uint8Array | null): Promise<Verdict<{ readonly hash: Hash }>>;
  /** As `submit`, but keeps nothing: the events that it would cause on the head. */
  simulate(
    signedBytes: Uint8Array,
    sidecar: Uint8Array | null,
  ): Promise<{ readonly at: ChainPosition; readonly verdict: Verdict<readonly Event[]> }>;
  status(hash: Hash): Promise<TransactionStatus>;
  /** In the order of arrival, after the transaction `after`; at most `limit` (1 to 100). */
  pending(query: { readonly limit: number; readonly after: Hash | null }): readonly PendingTransaction[];
  poolStatus(): PoolStatus;
  onDropped(listener: (notice: DroppedNotice) => void): () => void;
}

// ----------------------------------------------------------------------------------------------------- consensus

export interface ConsensusState {
  /** The height that is being decided. */
  readonly height: Height;
  readonly view: View;
  /** Address of the leader of (height, view). */
  readonly leader: Address;
  /** `idle`, `awaitPrePrepare`, `awaitPrepares`, `awaitCommits`, `viewChange`, `committing`; `observing` without a vote. */
  readonly phase: string;
}

export interface ValidatorLiveness {
  readonly address: Address;
  readonly connected: boolean;
  /** Last height whose certificate, as stored here, has this validator's signature; null if none is known. */
  readonly lastSignedHeight: Height | null;
  /** When its last signed message of any kind came; null if none has since start. */
  readonly lastSeenMs: TimeMs | null;
  /** Height that its last signed Status claims to have executed; null as above. */
  readonly executedHeight: Height | null;
  /** Canonical bytes of that Status, and the validator's signature over `statusSigningHash`; null as above. */
  readonly signedStatus: { readonly body: Uint8Array; readonly signature: Uint8Array } | null;
}

export interface ConsensusPort {
  state(): ConsensusState;
  /** One for each member of the current set, this node included. */
  validators(): readonly ValidatorLiveness[];
}

// ------------------------------------------------------------------------------------------------------- network

export interface PeerView {
  readonly peerId: string;
  readonly orgId: OrgId;
  readonly role: 'validator' | 'observer';
  readonly address: Address;
  readonly connected: boolean;
  readonly direction: 'inbound' | 'outbound' | null;
  readonly addresses: readonly string[];
  readonly bytesIn: number;
  readonly bytesOut: number;
}

export interface NetworkPort {
  peers(): readonly PeerView[];
}

// --------------------------------------------------------------------------------------------------------- blobs

export interface BlobUpload {
  /** The account that uploads and its organisation: quotas count by organisation. */
  readonly account: Address;
  readonly orgId: OrgId;
  /** What the client declared; null when it did not say. */
  readonly declaredBytes: number | null;
}

export interface StoredBlob {
  /** CIDv1 as text. */
  readonly cid: string;
  readonly sizeBytes: number;
  /** SM3 of the ciphertext. */
  readonly dataDigest: Hash;
}

export interface BlobStat {
  readonly sizeBytes: number;
  /** Whether all of it is on this node; else `read` fetches it from other members. */
  readonly local: boolean;
  /**
   * The committed versions that name it, the oldest first; none while it is staged. Several, when somebody names the
   * ciphertext of another: each opens it to its own readers, and none closes it to those of the others.
   */
  readonly records: readonly { readonly recordId: Hash; readonly version: number }[];
  /** Who uploaded it here; null when it came from another member. */
  readonly uploadedBy: Address | null;
}

export interface ReplicaReceipt {
  readonly orgId: OrgId;
  /** Address of the validator that holds the ciphertext. */
  readonly holder: Address;
  /** Its signature over `replicaReceiptSigningHash`. */
  readonly signature: Uint8Array;
  readonly atMs: TimeMs;
}

export interface BlobPort {
  /**
   * Stores ciphertext from a stream without holding it in memory. `BLOB_TOO_LARGE`, `BLOB_QUOTA`, `BLOB_SIZE_MISMATCH`,
   * `DISK_FULL`, `BLOB_ABORTED` are verdicts; nothing is kept then.
   */
  put(source: AsyncIterable<Uint8Array>, upload: BlobUpload, signal: AbortSignal): Promise<Verdict<StoredBlob>>;
  /** Null when the CID is neither staged here nor named by a committed record. */
  stat(cid: string): Promise<BlobStat | null>;
  /** Bytes from `start` up to and without `end`, in chunks of at most 1 MiB. @throws EmrError BLOB_UNAVAILABLE */
  read(
    cid: string,
    range: { readonly start: number; readonly end: number },
    signal: AbortSignal,
  ): AsyncIterable<Uint8Array>;
  receipts(cid: string): Promise<readonly ReplicaReceipt[]>;
}

// ------------------------------------------------------------------------------------------------------- custody

/** One answer to a demand for key material. Several may come, from several holders, in any order. */
export type ReleaseReply =
  | {
      readonly kind: 'wrap';
      readonly orgId: OrgId;
      /** The record key encrypted to the requester's fresh key. */
      readonly wrapped: Uint8Array;
      /** The custodian's signature over `releaseSigningHash`. */
      readonly signature: Uint8Array;
      readonly custodianKey: Uint8Array;
    }
  | {
      readonly kind: 'share';
      readonly orgId: OrgId;
      /** 164 bytes: a holder's masked share, verified by the node that passes it on. */
      readonly share: Uint8Array;
      /** The custodian's signature over `custodyShareHash`. */
      readonly signature: Uint8Array;
      readonly custodianKey: Uint8Array;
    }
  /** A share that its custodian signed, and that is not its share: it convicts it, and opens nothing. */
  | {
      readonly kind: 'falseShare';
      readonly orgId: OrgId;
      readonly share: Uint8Array;
      readonly signature: Uint8Array;
      readonly custodianKey: Uint8Array;
      readonly code: string;
      readonly message: string;
    }
  | { readonly kind: 'refused'; readonly orgId: OrgId; readonly code: string; readonly message: string };

/** This hospital's custodian as its node sees it. */
export interface CustodianStatus {
  /** `none`: this hospital runs none. `unknown`: nothing was asked of it yet, since there was nothing to ask. */
  readonly state: 'none' | 'unknown' | 'answers' | 'refuses' | 'unreachable';
  /** What its operator has to do, or what it lacks; null where nothing waits for anybody. */
  readonly waitsFor: string | null;
  /** Why it refused or cannot be reached; null otherwise. */
  readonly code: string | null;
  readonly message: string | null;
}

export interface CustodyPort {
  /**
   * Asks every holder of key material for this grant, wherever it runs. Ends when there are enough shares, or when all have
   * answered or cannot.
   */
  release(grantId: Hash, signal: AbortSignal): AsyncIterable<ReleaseReply>;
  status(): CustodianStatus;
}

// ------------------------------------------------------------------------------------------------------- metrics

export interface MetricsPort {
  /** The whole registry in Prometheus text format. */
  text(): Promise<string>;
  /** The RPC reports; the node owns names and registry. */
  rpcCall(call: {
    readonly method: string;
    readonly status: 'ok' | 'error';
    readonly code: number;
    readonly durationMs: number;
  }): void;
  rpcConnections(open: number): void;
}
