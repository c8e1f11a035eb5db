/**
 * What a vote may change the chain parameters to. The genesis is not judged here: its founders agreed on all of it, and
 * a value that stays as it is needs no new judgement.
 */
import type { Verdict } from '../common/errors.ts';
import type { ChainParams } from '../common/protocol/chain-params.ts';
import { refuse } from './codes.ts';
import { OK } from './context.ts';

/** The least that a changed parameter may be. Below these the chain stalls, or a protection is gone. */
const LEAST: Readonly<Record<keyof ChainParams, number>> = {
  // One transaction of 16 KiB with its sidecar, several times over.
  maxBlockBytes: 64 * 1024,
  maxBlockTxs: 10,
  // Clocks that NTP keeps differ by less.
  maxClockDriftMs: 100,
  // Three rounds between distant sites.
  viewTimeoutMs: 50,
  viewTimeoutCapMs: 50,
  heartbeatMs: 1_000,
  leaderDemotionBlocks: 0,
  // A transaction must survive signing, gossip and a view change.
  txValidityMs: 10_000,
  requestTtlMs: 60_000,
  maxGrantMs: 1_000,
  roleCoolingMs: 0,
  recoveryDelayMs: 0,
  governanceDelayMs: 0,
  governanceTtlMs: 60_000,
  // A few blocks, for a candidate that is there.
  readyTtlMs: 10_000,
  replicas: 0,
  orgStorageBytes: 0,
  maxOpenRequests: 1,
};

/** Delays that protect people from those who vote: cut by half at a time, so that each cut waits out what is left. */
const PROTECTIVE: readonly (keyof ChainParams)[] = ['roleCoolingMs', 'recoveryDelayMs', 'governanceDelayMs'];

export function checkParamsChange(current: ChainParams, next: ChainParams): Verdict {
  for (const name of Object.keys(LEAST) as (keyof ChainParams)[]) {
    if (next[name] !== current[name] && next[name] < LEAST[name]) {
      return refuse('PARAMS_OUT_OF_BOUNDS', `${name} is at least ${LEAST[name]}`);
    }
  }
  if (next.viewTimeoutCapMs < next.viewTimeoutMs)
    return refuse('PARAMS_OUT_OF_BOUNDS', 'viewTimeoutCapMs is at least viewTimeoutMs');
  for (const name of PROTECTIVE) {
    if (2 * next[name] < current[name]) return refuse('PARAMS_CHANGE_TOO_LARGE', name);
  }
  return OK;
}
