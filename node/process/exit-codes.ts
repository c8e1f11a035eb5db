/**
 * How the node's process ends, and what it says then. docs/operations.md explains the codes to operators and their
 * supervisors; whoever adds one adds it there.
 */
import { EmrError } from '../../common/errors.ts';

export const EXIT = {
  /** Told to stop. */
  stopped: 0,
  /** Could not start, for a reason outside of its files: a port or the data is in use, a daemon is away, a disk failed. */
  cannotStart: 1,
  /** Command line, configuration, genesis, keys or data are not what they must be: starting again will not help. */
  badSetup: 2,
  /** Running, it met what it must not go on with: a broken invariant or a failed disk. Starting again is safe. */
  crashed: 70,
} as const;

/** Reasons that lie in the machine at this moment, and may be gone at the next start. All others are for a person. */
const OF_THE_MOMENT: ReadonlySet<string> = new Set([
  'DATA_LOCKED',
  'STORAGE_FAILED',
  'RPC_LISTEN_FAILED',
  'LISTEN_FAILED',
  'IPFS_FAILED',
  'IPFS_STORAGE_FULL',
  'IPFS_UNAVAILABLE',
  'SECRET_FILE_IO',
  // The service that has the passphrase may be back in a moment.
  'PASSPHRASE_COMMAND_FAILED',
  'PASSPHRASE_COMMAND_TIMEOUT',
]);

export interface Ending {
  readonly exitCode: number;
  readonly code: string;
  /** Says what happened and what to do. */
  readonly message: string;
}

/** For what was thrown before the node ran. */
export function endingOfStart(error: unknown): Ending {
  if (!(error instanceof EmrError)) return { ...endingOfRun(error), exitCode: EXIT.crashed };
  const exitCode = OF_THE_MOMENT.has(error.code) ? EXIT.cannotStart : EXIT.badSetup;
  return { exitCode, code: error.code, message: error.message };
}

/** For what stopped a running node. */
export function endingOfRun(error: unknown): Ending {
  if (error instanceof EmrError) return { exitCode: EXIT.crashed, code: error.code, message: error.message };
  const what = error instanceof Error ? error.message : String(error);
  return {
    exitCode: EXIT.crashed,
    code: 'INVARIANT',
    message: `A fault of this program, or of the memory or disk under it: ${what}. Nothing that was committed is lost: start the node again, and report this with its log.`,
  };
}
