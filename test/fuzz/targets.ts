/**
 * All that is fuzzed: every exported codec by itself, and the functions that decode what comes from outside or from
 * disk. A new decoder is an entry in the list of its kind; fuzz.test.ts fails while one is missing.
 */
import { codecTargets } from './codec-targets.ts';
import { consensusTargets } from './consensus-targets.ts';
import { cryptoTargets } from './crypto-targets.ts';
import type { Target } from './engine.ts';
import type { FunctionTarget } from './parts.ts';
import { snapshotTargets } from './snapshot-targets.ts';
import { stateTargets } from './state-targets.ts';
import { textTargets } from './text-targets.ts';
import { custodyTargets } from './custody-targets.ts';
import { recoveryTargets } from './recovery-targets.ts';
import { transactionTargets } from './transaction-targets.ts';

export const functionTargets: readonly FunctionTarget[] = [
  ...consensusTargets,
  ...transactionTargets,
  ...custodyTargets,
  ...recoveryTargets,
  ...cryptoTargets,
  ...snapshotTargets,
  ...stateTargets,
  ...textTargets,
];

export async function allTargets(): Promise<readonly Target[]> {
  return [...functionTargets, ...(await codecTargets())];
}
