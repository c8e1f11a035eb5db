/**
 * Transactions: built, signed, given to the node, and followed until a quorum has certified the block with them.
 *
 * Submitting the same bytes again is safe (the replay key is account and nonce), so that a lost answer is met by asking
 * again with the same bytes, never by signing anew.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { encode } from '../common/codec.ts';
import type { Sm2Signer } from '../common/crypto/sm2.ts';
import { MAX_TX_BYTES } from '../common/protocol/primitives.ts';
import type { Event } from '../common/protocol/receipt.ts';
import { txSigningHash } from '../common/protocol/signing.ts';
import { type Call, signedTransaction, transactionBody, txHash } from '../common/protocol/transaction.ts';
import type { ChainView } from './chain-view.ts';
import { ClientError } from './errors.ts';
import { hexOf } from './hex.ts';
import { randomNonce } from './randomness.ts';
import { time } from './text.ts';

/** How long a transaction stays valid unless the chain allows less: long enough for a slow moment, too short to hoard. */
export const DEFAULT_VALIDITY_MS = 5 * 60_000;
/** One wait of `tx_submit`; the client asks again until its own deadline. */
const SUBMIT_WAIT_MS = 15_000;
/** Beside the wait itself, for the way there and back. */
const SUBMIT_SLACK_MS = 10_000;
export const DEFAULT_COMMIT_DEADLINE_MS = 60_000;
const RETRY_PAUSE_MS = 500;

export interface Sender {
  /** Account id, 20 bytes. */
  readonly account: Uint8Array;
  readonly signer: Sm2Signer;
}

export interface SignedBytes {
  readonly raw: Uint8Array;
  readonly hash: Uint8Array;
  readonly validUntilMs: number;
}

/** @throws ClientError TX_TOO_LARGE */
export function signTransaction(
  chainId: Uint8Array,
  sender: Sender,
  call: Call,
  options: { readonly validUntilMs: number; readonly nonce?: Uint8Array },
): SignedBytes {
  const { validUntilMs } = options;
  const nonce = options.nonce ?? randomNonce();
  const body = encode(transactionBody, {
    version: 1,
    chainId,
    account: sender.account,
    nonce,
    validUntilMs,
    call,
  });
  const signature = sender.signer.sign(txSigningHash(chainId, body));
  const publicKey = sender.signer.publicKey;
  if (body.length > MAX_TX_BYTES - 200) {
    throw new ClientError(
      'TX_TOO_LARGE',
      'The transaction is larger than the chain takes.',
      'Make the document smaller.',
    );
  }
  const raw = encode(signedTransaction, { body, publicKey, signature });
  return { raw, hash: txHash(raw), validUntilMs };
}

export interface Committed {
  readonly hash: Uint8Array;
  readonly height: number;
  readonly index: number;
  readonly timestampMs: number;
  readonly events: readonly Event[];
  /** False where the node would not show the proof: then the commit is the node's word. */
  readonly proven: boolean;
}

export interface SubmitOptions {
  readonly sidecar?: Uint8Array | null;
  readonly deadlineMs?: number;
  /** Told when the commit takes longer than usual. */
  readonly onWaiting?: (waitedMs: number) => void;
  readonly nowMs?: () => number;
}

/** Answers of the node after which the same bytes are given again. */
const AGAIN: ReadonlySet<string> = new Set([
  'COMMIT_TIMEOUT',
  'NODE_UNREACHABLE',
  'NODE_TIMEOUT',
  'POOL_FULL',
  'NOT_READY',
  'RATE_LIMITED',
]);

/**
 * Signs `call` as `sender`, submits it and waits until it is committed, with the proof of it checked.
 * @throws ClientError with the chain's rejection code; COMMIT_TIMEOUT when the deadline passes first
 */
export async function execute(
  view: ChainView,
  sender: Sender,
  call: Call,
  options: SubmitOptions = {},
): Promise<Committed> {
  const now = options.nowMs ?? Date.now;
  const validityMs = Math.min(DEFAULT_VALIDITY_MS, Math.floor(view.node.genesis.params.txValidityMs / 2));
  const signed = signTransaction(view.node.chainId, sender, call, { validUntilMs: now() + validityMs });
  return submit(view, signed, options);
}

/** Submits signed bytes and waits. Safe to repeat. Errors as `execute`. */
export async function submit(view: ChainView, signed: SignedBytes, options: SubmitOptions = {}): Promise<Committed> {
  const now = options.nowMs ?? Date.now;
  const startMs = now();
  const endMs = Math.min(startMs + (options.deadlineMs ?? DEFAULT_COMMIT_DEADLINE_MS), signed.validUntilMs);
  const params = {
    raw: hexOf(signed.raw),
    sidecar: options.sidecar ? hexOf(options.sidecar) : null,
    mode: 'committed' as const,
  };
  // Submitting takes no token, and a suspended account, whose tokens are refused, must still be able to veto.
  const rpc = view.rpc.as(() => null);
  let last: unknown;
  for (let attempt = 0; ; attempt += 1) {
    const leftMs = endMs - now();
    if (leftMs <= 0) throw notCommitted(signed, last);
    const timeoutMs = Math.max(100, Math.min(SUBMIT_WAIT_MS, leftMs));
    try {
      const answer = await rpc.call('tx_submit', { ...params, timeoutMs }, { timeoutMs: timeoutMs + SUBMIT_SLACK_MS });
      if (answer.status === 'committed' && answer.height !== null)
        return await proveCommitted(view, signed, answer.height);
    } catch (error) {
      if (!(error instanceof ClientError) || !AGAIN.has(error.code)) throw error;
      // A node that was never reached has nothing of ours: say so at once.
      if (error.code === 'NODE_UNREACHABLE' && attempt === 0) throw error;
      last = error;
    }
    options.onWaiting?.(now() - startMs);
    await delay(Math.min(RETRY_PAUSE_MS, Math.max(0, endMs - now())));
  }
}

function notCommitted(signed: SignedBytes, cause: unknown): ClientError {
  const hash = hexOf(signed.hash);
  const code =
    cause instanceof ClientError && cause.code !== 'COMMIT_TIMEOUT' ? ` The last answer was ${cause.code}.` : '';
  return new ClientError(
    'COMMIT_TIMEOUT',
    `The transaction is not committed yet, and may be until ${time(signed.validUntilMs)}.${code}`,
    `emrchain chain tx ${hash} says whether it was; emrchain node status says why no block comes.`,
    { hash },
    { cause },
  );
}

async function proveCommitted(view: ChainView, signed: SignedBytes, height: number): Promise<Committed> {
  try {
    const { header, receipt, index } = await view.provenReceipt(signed.hash, signed.raw);
    const { events } = receipt;
    return { hash: signed.hash, height: header.height, index, timestampMs: header.timestampMs, events, proven: true };
  } catch (error) {
    if (!(error instanceof ClientError) || !NOT_SHOWN.has(error.code)) throw error;
    return { hash: signed.hash, height, index: 0, timestampMs: 0, events: [], proven: false };
  }
}

/** Without a reader's token of an account in scope, a node does not show a transaction. */
const NOT_SHOWN: ReadonlySet<string> = new Set([
  'TOKEN_REQUIRED',
  'OUT_OF_SCOPE',
  'PRUNED',
  'ACCOUNT_SUSPENDED',
  'KEY_NOT_CURRENT',
]);
