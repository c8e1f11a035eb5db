/**
 * The sizes and small codecs that every protocol structure is made of. One place for each length and each bound.
 */
import { type Codec, bytes, text, uint } from '../codec.ts';

/** SM3 digest, 32 bytes. */
export type Hash = Uint8Array;
/** Last 20 bytes of SM3(public key): the id of an account or the address of a validator. */
export type Address = Uint8Array;
/** SM2 public key, 64 bytes x || y. */
export type PublicKey = Uint8Array;
/** SM2 signature, 64 bytes r || s. */
export type Signature = Uint8Array;
/** Block number; the genesis block is 0. */
export type Height = number;
/** PBFT view; restarts at 0 for each height. */
export type View = number;
/** Milliseconds since 1970, UTC. In consensus always block time, never a clock. */
export type TimeMs = number;
/** Organisation id: a short lower-case name such as `hospital-a`. */
export type OrgId = string;

export const HASH_BYTES = 32;

export const hash32: Codec<Hash> = bytes(HASH_BYTES);
export const address: Codec<Address> = bytes(20);
export const publicKey: Codec<PublicKey> = bytes(64);
export const signature: Codec<Signature> = bytes(64);
export const nonce16 = bytes(16);
/** A keyed token (category, department, person): 32 bytes of HMAC-SM3, meaningless without the issuer's key. */
export const token32 = bytes(32);
export const height = uint();
export const timeMs = uint();
export const orgId: Codec<OrgId> = text(32, /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/);
/** A stable machine-readable word: reason codes, purposes. */
export const code = text(48, /^[A-Za-z][A-Za-z0-9_.]*$/);
/** A CID in bytes: CIDv1 with sha2-256 is 36 bytes. */
export const cidBytes = bytes(36);

/** At most this many validators: certificates and timers are sized for it. f = 10. */
export const MAX_VALIDATORS = 31;
/** At most this many full replicas that do not vote: each is a connection at every node. */
export const MAX_OBSERVERS = 100;
/** At most this many bytes for one signed transaction. The largest call, a policy, needs some 8 KiB. */
export const MAX_TX_BYTES = 16 * 1024;
/** At most this many bytes for the erasable part of one transaction: a few key wraps of ~200 bytes. */
export const MAX_SIDECAR_BYTES = 4 * 1024;
/** A block's transactions and sidecars together; `ChainParams.maxBlockBytes` may be lower. */
export const MAX_BLOCK_BYTES = 4 * 1024 * 1024;
export const MAX_BLOCK_TXS = 5_000;
