/**
 * Every parameter that affects consensus or execution. They live in the state, are changed by governance only, and
 * have no counterpart in local configuration: two nodes cannot disagree about them.
 */
import { struct, type TypeOf, uint } from '../codec.ts';
import { MAX_BLOCK_BYTES, MAX_BLOCK_TXS } from './primitives.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

export const chainParams = struct({
  /** Bytes of transactions and sidecars in one block. */
  maxBlockBytes: uint(MAX_BLOCK_BYTES),
  maxBlockTxs: uint(MAX_BLOCK_TXS),
  /** A fresh proposal's timestamp may differ from the voter's clock by this much. */
  maxClockDriftMs: uint(10 * MINUTE_MS),
  /** First view timer of a height; doubles with each view up to the cap. */
  viewTimeoutMs: uint(10 * MINUTE_MS),
  viewTimeoutCapMs: uint(10 * MINUTE_MS),
  /** While any grant is active, a block is due at least this often. */
  heartbeatMs: uint(HOUR_MS),
  /** How many blocks a validator that was skipped as leader is demoted for. */
  leaderDemotionBlocks: uint(100_000),
  /** A transaction may be valid for at most this long. */
  txValidityMs: uint(DAY_MS),
  /** A pending access request ends after this long without a decision. */
  requestTtlMs: uint(30 * DAY_MS),
  /** The longest access that a grant may give, whatever a policy says. */
  maxGrantMs: uint(366 * DAY_MS),
  /** A role fills an approval slot only this long after it was granted. */
  roleCoolingMs: uint(30 * DAY_MS),
  /** Between opening and completing the recovery of an account whose key was lost. */
  recoveryDelayMs: uint(30 * DAY_MS),
  /** Between an accepted governance vote and its effect. */
  governanceDelayMs: uint(30 * DAY_MS),
  /** An open proposal ends after this long. */
  governanceTtlMs: uint(90 * DAY_MS),
  /** An accepted validator that has not shown within this time that it is in step stays an observer. */
  readyTtlMs: uint(30 * DAY_MS),
  /** Organisations beside the writer's that must hold each ciphertext. */
  replicas: uint(8),
  /** Bytes of ciphertext that one organisation may have stored by the others. */
  orgStorageBytes: uint(),
  /** Pending access requests that one account may have open at a time. */
  maxOpenRequests: uint(10_000),
});

export type ChainParams = TypeOf<typeof chainParams>;

export const DEFAULT_CHAIN_PARAMS: ChainParams = {
  maxBlockBytes: 1024 * 1024,
  maxBlockTxs: 2_000,
  maxClockDriftMs: 10_000,
  viewTimeoutMs: 1_000,
  viewTimeoutCapMs: 16_000,
  heartbeatMs: 30_000,
  leaderDemotionBlocks: 1_000,
  txValidityMs: 10 * MINUTE_MS,
  requestTtlMs: 7 * DAY_MS,
  maxGrantMs: 31 * DAY_MS,
  roleCoolingMs: DAY_MS,
  recoveryDelayMs: 72 * HOUR_MS,
  governanceDelayMs: DAY_MS,
  governanceTtlMs: 14 * DAY_MS,
  readyTtlMs: HOUR_MS,
  replicas: 1,
  orgStorageBytes: 1024 ** 4,
  maxOpenRequests: 100,
};
