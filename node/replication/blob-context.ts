/** What the parts of the blob service stand on, and how they tell a fault of ours from the failures of others. */
import type { Sm2Engine, Sm2Signer } from '../../common/crypto/sm2.ts';
import { EmrError } from '../../common/errors.ts';
import type { Hash, OrgId } from '../../common/protocol/primitives.ts';
import type { ChainPort, StatePort } from '../../rpc/ports.ts';
import type { BlobIndex, BlobStore } from '../ipfs/blob-store.ts';
import type { Network } from '../network/types.ts';
import type { BlobRecords } from './blob-records.ts';
import type { PeerSlots } from './peer-slots.ts';

export interface BlobServiceOptions {
  readonly chainId: Hash;
  readonly orgId: OrgId;
  readonly signer: Sm2Signer;
  readonly engine: Sm2Engine;
  readonly store: BlobStore;
  readonly index: BlobIndex;
  readonly network: Network;
  readonly chain: ChainPort;
  readonly state: StatePort;
  readonly limits: { readonly maxFileBytes: number; readonly maxStagedBytes: number; readonly stagedMs: number };
  /** Whether the disk has room for so many bytes more. */
  readonly hasRoom: (bytes: number) => Promise<boolean>;
  readonly nowMs: () => number;
  readonly log: (level: 'info' | 'warn' | 'error', fields: Readonly<Record<string, unknown>>, message: string) => void;
  /** A fault of ours: the node stops. */
  readonly onFault: (error: Error) => void;
}

export interface BlobContext extends BlobServiceOptions {
  readonly records: BlobRecords;
  readonly slots: PeerSlots;
  /** Aborts when the service stops. */
  readonly stopped: AbortSignal;
}

/**
 * A bug, the database, or the disk below the file store: to go on would hide it. Everything else that fails (a peer, a
 * daemon that is being restarted, a full disk, a damaged block) is tried again or refused.
 */
export function isFault(error: unknown): boolean {
  if (!(error instanceof EmrError)) return true;
  if (error.code.startsWith('STORAGE_') || error.code.startsWith('DATA_')) return true;
  // Of our own files the reason is the system's: EIO, EROFS, EACCES. What a Kubo daemon refuses has a status.
  return error.code === 'IPFS_FAILED' && /^E[A-Z0-9]+$/.test(String(error.detail['reason']));
}

/** Bytes that should be here are not, or not as they were: fetching the blob again mends it. */
export const isDamage = (error: unknown): boolean =>
  error instanceof EmrError && ['BLOB_NOT_FOUND', 'BLOB_INCOMPLETE', 'BLOCK_CORRUPT'].includes(error.code);

/** Runs what nobody waits for. Faults are told, except while stopping, when everything that is open fails. */
export function runAside({ stopped, onFault, log }: BlobContext, work: Promise<unknown>): Promise<void> {
  return work.then(
    () => undefined,
    (error: unknown) => {
      if (stopped.aborted) return;
      if (isFault(error)) onFault(error instanceof Error ? error : new Error(String(error)));
      else log('warn', { code: (error as EmrError).code }, 'replication goes on later');
    },
  );
}
