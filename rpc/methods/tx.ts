/** tx_*: submitting and finding transactions. */
import * as s from '../schema.ts';
import {
  address,
  at,
  call,
  event,
  hash,
  height,
  page,
  paging,
  merklePath,
  method,
  rawSidecar,
  rawTransaction,
  receipt,
  timeMs,
  txSummary,
} from './shapes.ts';

/** Longest wait of `committed`, in milliseconds: below what proxies usually allow. */
export const MAX_COMMIT_WAIT_MS = 60_000;
export const DEFAULT_COMMIT_WAIT_MS = 15_000;

const txStatus = s.words(['pending', 'committed']);

export const txMethods = {
  tx_submit: method({
    summary:
      'Takes a signed transaction. `accepted` answers once the pool has it, `committed` once a block with it is durable here. ' +
      'Submitting the same bytes again is safe and answers the same.',
    access: 'public',
    params: {
      raw: rawTransaction,
      sidecar: s.optional(s.nullable(rawSidecar)),
      mode: s.optional(s.words(['accepted', 'committed'])),
      timeoutMs: s.optional(s.integer(100, MAX_COMMIT_WAIT_MS)),
    },
    result: s.object({
      hash,
      status: s.words(['accepted', 'committed']),
      height: s.nullable(height),
      index: s.nullable(s.integer()),
      /** Null unless committed. */
      receipt: s.nullable(receipt),
    }),
  }),
  tx_simulate: method({
    summary: 'What a signed transaction would do on the last block; nothing is kept or sent on.',
    access: 'public',
    params: { raw: rawTransaction, sidecar: s.optional(s.nullable(rawSidecar)) },
    result: s.object({
      accepted: s.bool,
      code: s.nullable(s.text(64)),
      message: s.nullable(s.text(1024)),
      events: s.list(event),
      ...at,
    }),
  }),
  tx_get: method({
    summary: 'A transaction, decoded as far as it is in scope.',
    access: 'public',
    params: { hash },
    result: s.object({
      hash,
      status: txStatus,
      height: s.nullable(height),
      index: s.nullable(s.integer()),
      blockHash: s.nullable(hash),
      timestampMs: s.nullable(timeMs),
      sizeBytes: s.nullable(s.integer()),
      /** False: out of scope, and everything below is null. */
      visible: s.bool,
      account: s.nullable(address),
      publicKey: s.nullable(s.hex(64)),
      signature: s.nullable(s.hex(64)),
      validUntilMs: s.nullable(timeMs),
      call: s.nullable(call),
      raw: s.nullable(rawTransaction),
      sidecar: s.nullable(rawSidecar),
      ...at,
    }),
  }),
  tx_getReceipt: method({
    summary: 'What a committed transaction did.',
    access: 'member',
    params: { hash },
    result: s.object({ hash, height, blockHash: hash, receipt, ...at }),
  }),
  tx_getProof: method({
    summary: 'Bytes that prove offline, from the validator set on, that a transaction was executed and what it did.',
    access: 'member',
    params: { hash },
    result: s.object({
      hash,
      height,
      raw: rawTransaction,
      headerBytes: s.hexUpTo(512),
      certificateBytes: s.hexUpTo(8192),
      /** Of the transaction under the header's `txRoot`. */
      txProof: merklePath,
      receiptBytes: s.hexUpTo(1024 * 1024),
      /** Of the receipt under the header's `receiptsRoot`. */
      receiptProof: merklePath,
      ...at,
    }),
  }),
  tx_list: method({
    summary: 'Committed transactions, the newest first. Filters only see what is in scope.',
    access: 'public',
    params: { account: s.optional(address), callKind: s.optional(s.text(48)), ...paging },
    result: page(txSummary),
  }),
  tx_pending: method({
    summary: 'Transactions that wait for a block, in the order of arrival.',
    access: 'member',
    params: paging,
    result: page(
      s.object({
        hash,
        sizeBytes: s.integer(),
        receivedMs: timeMs,
        account: s.nullable(address),
        callKind: s.nullable(s.text(48)),
      }),
    ),
  }),
  tx_poolStatus: method({
    summary: 'How full the pool is, and why transactions were refused since start.',
    access: 'member',
    params: {},
    result: s.object({
      transactions: s.integer(),
      bytes: s.integer(),
      maxTransactions: s.integer(),
      maxBytes: s.integer(),
      rejected: s.record(s.integer()),
    }),
  }),
};
