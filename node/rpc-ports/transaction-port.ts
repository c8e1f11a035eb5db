/** Transactions of clients on their way into the pool, and what became of them. */
import { reject, type Verdict } from '../../common/errors.ts';
import type { Hash, OrgId } from '../../common/protocol/primitives.ts';
import { type Call, type CallOf, decodeTransaction } from '../../common/protocol/transaction.ts';
import type { PendingTransaction, TransactionPort, TransactionStatus } from '../../rpc/ports.ts';
import type { Executor } from '../execution/executor.ts';
import type { Mempool } from '../mempool/mempool.ts';
import type { PoolEntry } from '../mempool/pool.ts';
import type { ChainStore } from '../storage/chain-store.ts';
import { hashKey } from '../verification/hash-key.ts';
import { named, type NamedTransaction } from '../verification/transaction-checker.ts';
import { locateVisible } from './chain-port.ts';

export interface TransactionPortParts {
  readonly mempool: Mempool;
  readonly executor: Pick<Executor, 'head'>;
  readonly store: Pick<ChainStore, 'locateTx'>;
  /** What this node knows of the ciphertext that a record names, and the chain cannot. */
  readonly blobs: { admits(call: Call, hospital: OrgId | null): Promise<Verdict> };
  /** Whether this node is at the height that the others are at: before that, what it says of a transaction is stale. */
  isCurrent(): boolean;
}

export function createTransactionPort(parts: TransactionPortParts): TransactionPort {
  const { mempool, store, executor, blobs } = parts;

  /** The notice of a block comes a moment before the pool lets go of what is in it. */
  function statusOf(hash: Hash): TransactionStatus {
    const place = locateVisible(store, executor, hash);
    return place === null ? mempool.status(hash) : { kind: 'committed', ...place };
  }

  async function submit(tx: NamedTransaction): Promise<Verdict<{ readonly hash: Hash }>> {
    if (!parts.isCurrent()) {
      return reject('NOT_READY', 'this node is not at the height of the others yet; try again in a few seconds');
    }
    const decoded = decodeTransaction(tx.bytes, tx.hash);
    // The pool says what is wrong with the bytes, and counts it.
    const once = decoded.ok ? { ...tx, decoded: decoded.value } : tx;
    if (decoded.ok && namesCiphertext(decoded.value.body.call)) {
      const admitted = await ciphertextIsHere(once, decoded.value.body.call);
      if (!admitted.ok) return admitted;
    }
    const verdict = await mempool.submit(once);
    const isOnItsWay =
      !verdict.ok && verdict.code === 'ALREADY_COMMITTED' && locateVisible(store, executor, tx.hash) === null;
    return isOnItsWay ? reject('ALREADY_PENDING', 'the block that has this transaction is being stored') : verdict;
  }

  /**
   * A new record must name ciphertext that this node holds. Asked after signature, roles and all else hold: it can mean
   * reading a whole file, which nobody may cause who could not write the record.
   */
  async function ciphertextIsHere(
    tx: NamedTransaction,
    call: CallOf<'record.create' | 'record.addVersion'>,
  ): Promise<Verdict> {
    const { kind } = statusOf(tx.hash);
    if (kind === 'pending' || kind === 'committed') return NOTHING_TO_SAY;
    const simulated = await mempool.simulate(tx);
    // The pool says why, and counts it.
    if (!simulated.ok) return NOTHING_TO_SAY;
    return blobs.admits(call, call.hospital);
  }

  return {
    submit: (bytes, sidecar) => submit(named({ bytes, sidecar })),
    async simulate(bytes, sidecar) {
      const verdict = await mempool.simulate({ bytes, sidecar });
      // Only microtasks lie between what it ran on and here: at worst this is the block behind it.
      const { height, hash } = executor.head;
      return { at: { height, hash }, verdict };
    },
    // Async, so that a failure of the disk is a rejection.
    status: async (hash) => Promise.resolve(statusOf(hash)),
    pending: ({ limit, after }) => pageOf(mempool.entries(), limit, after),
    poolStatus: () => ({
      transactions: mempool.size,
      bytes: mempool.bytes,
      maxTransactions: mempool.limits.maxTransactions,
      maxBytes: mempool.limits.maxBytes,
      rejected: mempool.rejections,
    }),
    onDropped: (listener) => mempool.onDropped(listener),
  };
}

const NOTHING_TO_SAY: Verdict = { ok: true, value: undefined };

function namesCiphertext(call: Call): call is CallOf<'record.create' | 'record.addVersion'> {
  return call.kind === 'record.create' || call.kind === 'record.addVersion';
}

/** The pool is in the order in which blocks take from it; a page is in that of arrival. */
function pageOf(pool: Iterable<PoolEntry>, limit: number, after: Hash | null): readonly PendingTransaction[] {
  const entries = [...pool].sort((a, b) => a.receivedMs - b.receivedMs);
  // One that has left meanwhile leads back to the beginning: what comes twice is harmless, what is left out is not.
  const afterKey = after === null ? null : hashKey(after);
  const from = afterKey === null ? 0 : entries.findIndex(({ key }) => key === afterKey) + 1;
  return entries.slice(from, from + limit).map(({ checked: { tx }, sizeBytes, receivedMs }) => ({
    hash: tx.hash,
    account: tx.body.account,
    callKind: tx.body.call.kind,
    sizeBytes,
    receivedMs,
  }));
}
